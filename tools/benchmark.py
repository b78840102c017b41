"""Ours beside the peers, on this machine, one thread: ratios in one run, written to docs/benchmarks.md.

    .venv-peers/bin/python tools/benchmark.py            some eight minutes; leave the machine alone meanwhile
    .venv-peers/bin/python tools/benchmark.py --rounds 3 --dry-run

Every ratio is that of two runs next to each other, ours and theirs, over and over: what else the machine does slows both.
Printed are the median ratio and its quartiles. A peer that is not installed is left out. Times are nowhere a test.
"""

import argparse
import copy
import datetime
import importlib
import importlib.metadata
import importlib.util
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn

from minideeplab import DeepLabV3Plus, Xception, xception65
from minideeplab.inference import optimize_for_inference

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "torchinfo")


class Pair(NamedTuple):
    """Two things to run in turns, and the target of their ratio."""

    what: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    target: float


class Result(NamedTuple):
    what: str
    quartiles: tuple[float, float, float]
    target: float
    unit: str = ""

    def row(self) -> str:
        first, median, third = (f"{value:.2f}" for value in self.quartiles)
        verdict = "met" if self.quartiles[1] <= self.target else "**missed**"
        return f"| {self.what} | {median}{self.unit} | {first} to {third} | {self.target:g}{self.unit} | {verdict} |"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    first, second, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, second, third


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def measure(pair: Pair, rounds: int) -> Result:
    """Who comes first changes from round to round: what a run leaves behind in the allocator and the caches meets both."""
    pair.ours(), pair.theirs()  # warm-up: packs weights, fills caches
    ratios = []
    for turn in range(rounds):
        if turn % 2:
            ours = seconds(pair.ours)
            ratios.append(ours / seconds(pair.theirs))
        else:
            theirs = seconds(pair.theirs)
            ratios.append(seconds(pair.ours) / theirs)
    return Result(pair.what, quartiles(ratios), pair.target)


def forward(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return net(x)

    return run


def training_step(net: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    net = copy.deepcopy(net).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.007, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    return run


def in_three_ways(name: str, ours: nn.Module, theirs: nn.Module, x: torch.Tensor, targets: Sequence[float]) -> Iterator[Pair]:
    """Made one after the other: what lies in memory from the last pair would slow the next."""
    yield Pair(f"{name}, as it is", forward(ours, x), forward(theirs, x), targets[0])
    yield Pair(f"{name}, optimized", forward(optimize_for_inference(ours), x), forward(theirs, x), targets[1])
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        half = forward(optimize_for_inference(ours, dtype=torch.bfloat16), x)
        yield Pair(f"{name}, bfloat16", half, forward(theirs, x), targets[2])


def with_segmentation_models() -> Iterator[Pair]:
    smp = importlib.import_module("segmentation_models_pytorch")
    ours = DeepLabV3Plus(xception65(output_stride=16), 21).eval()
    theirs = smp.DeepLabV3Plus("tu-xception65", encoder_weights=None, classes=21).eval()
    name = "DeepLabV3+ Xception-65 against smp's, 1 x 3 x 512 x 512"
    yield from in_three_ways(name, ours, theirs, torch.randn(1, 3, 512, 512), (1.05, 0.72, 0.40))
    x, labels = torch.randn(4, 3, 128, 128), torch.randint(0, 21, (4, 128, 128))
    name = "DeepLabV3+ Xception-65 against smp's, a training step, 4 x 3 x 128 x 128"
    yield Pair(name, training_step(ours, x, labels), training_step(theirs, x, labels), 1.05)


def with_timm() -> Iterator[Pair]:
    theirs = importlib.import_module("timm").create_model("legacy_xception").eval()
    name = "Xception against timm's, 8 x 3 x 299 x 299"
    yield from in_three_ways(name, Xception().eval(), theirs, torch.randn(8, 3, 299, 299), (1.00, 0.57, 0.30))


COUNT = "from minideeplab.cost import profile; profile(net, (1, 3, {0}, {1}))"
TORCHINFO = "import torchinfo; torchinfo.summary(net, (1, 3, 513, 513), verbose=0)"
NETWORK = """
import torch; torch.set_num_threads(1)
from minideeplab import DeepLabV3Plus, xception65
net = DeepLabV3Plus(xception65(), 21)
"""
MEASURED = """
from pathlib import Path
from time import perf_counter
{network}
def memory(which):  # of this process, in MiB; writing 5 forgets the peak so far (Linux)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024
Path("/proc/self/clear_refs").write_text("5")
before, start = memory("VmRSS"), perf_counter()
{task}
print(perf_counter() - start, memory("VmHWM") - before)
"""


def fresh(task: str, network: str = NETWORK) -> tuple[float, float]:
    """Seconds and mebibytes that a task takes in a process of its own, imports of the task included."""
    script = MEASURED.format(network=network, task=task)
    printed = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(printed[0]), float(printed[1])


def cost_report(rounds: int) -> list[Result]:
    ratios, sizes, memory, imports = [], [], [], []
    for _ in range(rounds):
        at_513, grown = fresh(COUNT.format(513, 513))
        if importlib.util.find_spec("torchinfo"):
            ratios.append(at_513 / fresh(TORCHINFO)[0])
        sizes.append(fresh(COUNT.format(4097, 8193))[0] / at_513)
        memory.append(grown)
        imports.append(fresh("import minideeplab", "import torch")[0])
    name = "cost report of DeepLabV3+ Xception-65"
    return [
        *([Result(f"{name} at 513, against torchinfo's default", quartiles(ratios), 0.10)] if ratios else []),
        Result(f"{name} at 513, growth of memory", quartiles(memory), 30, " MiB"),
        Result(f"{name} at 4097 x 8193, against 513", quartiles(sizes), 1.1),
        Result("`import minideeplab` beyond `import torch`", quartiles(imports), 0.2, " s"),
    ]


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def page(results: list[Result], rounds: int) -> str:
    rows = "\n".join(result.row() for result in results)
    return f"""# Benchmarks

Ratios of our time to theirs, ours and theirs in turns, {rounds} rounds, one thread; below 1 is faster. Written by
`tools/benchmark.py`, which anyone can run (`make parity` builds its environment). {datetime.date.today()}, {processor()},
Python {platform.python_version()}, {versions()}.

| what | median | quartiles | at most | |
|---|--:|--:|--:|---|
{rows}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="how often each pair is run (default: 10)")
    parser.add_argument("--dry-run", action="store_true", help="print the page and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = []
    for pairs in (with_segmentation_models, with_timm):
        try:
            for pair in pairs():
                results.append(measure(pair, options.rounds))
                print(results[-1].row(), flush=True)
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    for result in cost_report(max(options.rounds // 2, 3)):
        results.append(result)
        print(result.row(), flush=True)
    if not options.dry_run:
        written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        _, found_notes, notes = written.partition("\n## ")  # what people wrote below the table stays
        PAGE.write_text(page(results, options.rounds) + found_notes + notes, encoding="utf-8")


if __name__ == "__main__":
    main()
