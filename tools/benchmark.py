"""Ours, the bound and the peers, on this machine, one thread: docs/benchmarks.md, or a refusal while the machine is busy.

    .venv-peers/bin/python tools/benchmark.py                          some fifteen minutes; leave the machine alone meanwhile
    .venv-peers/bin/python tools/benchmark.py --litert FILE.tflite     also the authors' 8-bit file beside the shipped network
    .venv-peers/bin/python tools/benchmark.py --rounds 3 --dry-run     prints the page and writes nothing

The bound is the multiply-accumulates of a network at the rate of a 2048 x 2048 product, measured in the same rounds. All ways
run in turns, in a changing order; a ratio is that of two runs of one round. On a processor with AVX-512 everything is measured
twice, the second time with libraries told to use AVX2.
FILE: deeplabv3_mnv2_pascal_quant.tflite of github.com/google-coral/test_data at 104342d. Nothing limits LiteRT's instructions.
"""

import argparse
import copy
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from minideeplab import DeepLabV3Plus, Xception, image, pretrained, xception65
from minideeplab.cost import profile
from minideeplab.inference import keep_freed_memory, optimize_for_inference

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "torchinfo", "ai-edge-litert")
LIMITED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # and inductor's vectors, see `compiled`
SIDE = 2048  # of the product that shows what the processor multiplies at most
BUSY = 0.15  # cores that others may use while we measure

Run = Callable[[], object]
Seconds = dict[str, list[float]]


def seconds(run: Run) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def forward(net: Callable[[Tensor], Any], x: Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return net(x)

    return run


def in_turns(ways: dict[str, Run], rounds: int) -> Seconds:
    """What a run leaves behind in the allocator and the caches meets another one every time."""
    names, times = list(ways), {name: list[float]() for name in ways}
    for run in ways.values():
        run(), run()  # weights are packed, sizes seen
    for turn in range(rounds):
        for name in names if turn % 2 else names[::-1]:
            times[name].append(seconds(ways[name]))
    return times


def compiled(net: nn.Module, x: Tensor) -> Run:
    """As its users would make it fast: compiled, and frozen, so that batch norms are folded. C++ for the vectors asked for."""
    config = importlib.import_module("torch._inductor.config")
    config.freezing, config.compile_threads = True, 1
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        config.cpp.simdlen = 256
    run = forward(torch.compile(copy.deepcopy(net).eval().requires_grad_(False)), x)
    run()
    return run


def of_peers(net: nn.Module, x: Tensor) -> dict[str, Run]:
    ways = {
        "peer": forward(net, x),
        "peer, channels last": forward(
            copy.deepcopy(net).to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        ),
    }
    try:
        return ways | {"peer, compiled": compiled(net, x)}
    except RuntimeError as error:  # no compiler
        print(f"left out: {error}", file=sys.stderr)
        return ways


def litert(file: Path, pixels: Tensor) -> Run:
    runtime = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(file), num_threads=1)
    runtime.allocate_tensors()
    source, target = (details[0]["index"] for details in (runtime.get_input_details(), runtime.get_output_details()))

    def run() -> object:
        runtime.set_tensor(source, pixels[None].numpy())
        runtime.invoke()
        return runtime.get_tensor(target)

    return run


def labels(net: Callable[[Tensor], Tensor], pixels: Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return net(image.from_pixels(pixels)).argmax(1)

    return run


def deeplab() -> tuple[nn.Module, Tensor, nn.Module | None]:
    smp = found("segmentation_models_pytorch")
    peer = smp and smp.DeepLabV3Plus("tu-xception65", encoder_weights=None, classes=21).eval()
    return DeepLabV3Plus(xception65(), 21).eval(), torch.randn(1, 3, 512 if smp else 513, 512 if smp else 513), peer


def xception() -> tuple[nn.Module, Tensor, nn.Module | None]:
    timm = found("timm")
    return Xception().eval(), torch.randn(8, 3, 299, 299), timm and timm.create_model("legacy_xception").eval()


def shipped() -> tuple[nn.Module, Tensor, None]:
    return pretrained(), torch.randint(0, 256, (513, 513, 3), dtype=torch.uint8), None


SUBJECTS = {"DeepLabV3+ X-65, 1 x 512": deeplab, "Xception, 8 x 299": xception, "`pretrained()`, bytes to labels, 513": shipped}


def found(module: str) -> Any:
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def measured(name: str, rounds: int, file: Path | None) -> dict[str, Any]:
    """One network on one instruction set, in this process: all ways first, then ours once more with freed memory kept."""
    net, x, peer = SUBJECTS[name]()
    matrix, way = torch.rand(SIDE, SIDE), forward if x.is_floating_point() else labels
    ours = {"eager": way(net, x), "fast": way(optimize_for_inference(net), x), "product": lambda: matrix @ matrix}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported() and isa() == "AVX512":
        ours["bfloat16"] = way(optimize_for_inference(net, dtype=torch.bfloat16), x)
    if file and way is labels:
        ours["LiteRT"] = litert(file, x)
    first = seconds(ours["fast"]) / statistics.median([seconds(ours["fast"]) for _ in range(4)][1:])
    answer = {"first": first, "macs": profile(net, (len(x), 3, *x.shape[2:]) if way is forward else (1, 3, 513, 513)).macs}
    answer["default"] = in_turns(ours | (of_peers(peer, x) if peer else {}), rounds)
    return answer | ({"kept": in_turns(ours, rounds)} if keep_freed_memory() else {})


def training(rounds: int) -> list[float]:
    """A step with freed memory kept, of one without."""
    run = training_step(DeepLabV3Plus(xception65(), 21), 4, 128)
    steps = in_turns({"step": run}, rounds)["step"]
    return [kept / step for kept, step in zip(in_turns({"step": run}, rounds)["step"], steps)] if keep_freed_memory() else []


def training_step(net: nn.Module, batch: int, side: int) -> Run:
    x, truth = torch.randn(batch, 3, side, side), torch.randint(0, 21, (batch, side, side))
    optimizer = torch.optim.SGD(net.train().parameters(), lr=0.007, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), truth).backward()
        optimizer.step()

    return run


# ---- in fresh processes: imports, cost reports, resident memory

PEAK = """
from pathlib import Path
from time import perf_counter
import torch; torch.set_num_threads(1)
{before}
def memory(which):  # of this process, in MiB; writing 5 forgets the peak so far (Linux)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024
Path("/proc/self/clear_refs").write_text("5")
before, start = memory("VmRSS"), perf_counter()
{task}
print(perf_counter() - start, memory("VmHWM") - before, memory("VmHWM"))
"""
NETWORK = "from minideeplab import DeepLabV3Plus, xception65; net = DeepLabV3Plus(xception65(), 21).eval()"
FAST = "\nfrom minideeplab.inference import optimize_for_inference; net = optimize_for_inference(net)"
CALLS = "x = torch.rand(1, 3, 513, 513)\nwith torch.inference_mode():\n    for _ in range(3): net(x)"
COUNT = "from minideeplab.cost import profile; profile(net, (1, 3, {0}, {1}))"
TORCHINFO = "import torchinfo; torchinfo.summary(net, (1, 3, 513, 513), verbose=0)"


def fresh(task: str, before: str = NETWORK) -> tuple[float, float, float]:
    """In a process of its own: seconds, mebibytes that it grew by, and its largest size."""
    script = PEAK.format(before=before, task=task)
    printed = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    time, grown, largest = map(float, printed)
    return time, grown, largest


def in_fresh_processes(rounds: int) -> list[str]:
    ratios, sizes, grown, imports, resident = (list[float]() for _ in range(5))
    for _ in range(rounds):
        at_513, more, _ = fresh(COUNT.format(513, 513))
        if found("torchinfo"):
            ratios.append(at_513 / fresh(TORCHINFO)[0])
        sizes.append(fresh(COUNT.format(4097, 8193))[0] / at_513)
        grown.append(more)
        imports.append(fresh("import minideeplab", "")[0])
        resident.append(fresh(CALLS, NETWORK + FAST)[2] / fresh(CALLS)[2])
    report = "cost report of DeepLabV3+ X-65"
    return [
        target("resident memory of a fast DeepLabV3+ at 513, of the eager network's", resident, 1.3),
        *([target(f"{report} at 513, of torchinfo's default", ratios, 0.10)] if ratios else []),
        target(f"{report} at 4097 x 8193, of that at 513", sizes, 1.1),
        target(f"{report} at 513, growth of memory, MiB", grown, 30),
        target("`import minideeplab` beyond `import torch`, s", imports, 0.2),
    ]


# ---- the page


def isa() -> str:
    return torch.backends.cpu.get_cpu_capability()


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}, once"
    first, second, third = statistics.quantiles(values, n=4, method="inclusive")
    return f"{second:.2f} ({first:.2f} to {third:.2f})"


def target(what: str, values: list[float], most: float | None) -> str:
    verdict = "" if most is None else "met" if statistics.median(values) <= most else "**missed**"
    return f"| {what} | {spread(values)} | {'report' if most is None else f'{most:g}'} | {verdict} |"


def over(times: Seconds, way: str, other: str, factor: float = 1.0) -> list[float]:
    return [a / (factor * b) for a, b in zip(times[way], times[other], strict=True)]


def tables(name: str, answer: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Rows of targets, and rows of every way against the bound, for one network on one instruction set."""
    most = dict(zip(SUBJECTS, ((1.15, 1.10, 0.88), (1.20, 1.08, 0.95), (None, None, None))))[name]
    targets, rows = [], []
    for number, (memory, note) in enumerate((("default", ""), ("kept", ", freed memory kept"))):
        if memory not in answer:
            continue
        times, bound = answer[memory], answer["macs"] / SIDE**3  # of one product's time
        rows += [
            f"| {name}{note} | {way} | {1000 * statistics.median(times[way]):,.0f} | "
            f"{spread(over(times, way, 'product', bound))} |"
            for way in times
            if way != "product"
        ]
        targets.append(target(f"{name}: fast / bound{note}", over(times, "fast", "product", bound), most[number]))
        if "peer, compiled" in times:
            targets.append(target(f"{name}: fast / peer, compiled", over(times, "fast", "peer, compiled"), most[2]))
        if "bfloat16" in times and memory == "default":
            targets.append(target(f"{name}: bfloat16 / fast", over(times, "bfloat16", "fast"), 0.60))
        if "LiteRT" in times:
            targets += [
                target(f"{name}: {way} / LiteRT, 8 bit{note}", over(times, way, "LiteRT"), 1.0 if memory == "kept" else None)
                for way in ("fast", "bfloat16")
                if way in times
            ]
    return [*targets, target(f"{name}: first call / a later one", [answer["first"]], 4)], rows


def section(how: str, answers: dict[str, Any]) -> str:
    """One instruction set."""
    products = [
        value
        for name in SUBJECTS
        for times in (answers[name]["default"], answers[name].get("kept", {}))
        for value in times.get("product", [])
    ]
    made = [tables(name, answers[name]) for name in SUBJECTS]
    targets = [row for rows, _ in made for row in rows]
    if answers["training"]:
        targets.append(target("a training step of DeepLabV3+, 4 x 128: freed memory kept / default", answers["training"], None))
    every = [row for _, rows in made for row in rows]
    return "\n".join(
        [
            f"## {how}",
            "",
            f"The product runs at {spread([SIDE**3 / value / 1e9 for value in products])} GMAC/s.",
            "",
            "| target | median (quartiles) | at most | |",
            "|---|--:|--:|---|",
            *targets,
            "",
            "| network | way | ms | of the bound |",
            "|---|---|--:|--:|",
            *every,
            "",
        ]
    )


def versions() -> str:
    known = []
    for name in PACKAGES:
        try:
            known.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            known.append(f"{name} absent")
    return ", ".join(known)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def page(sections: list[str], fresh_rows: list[str], rounds: int) -> str:
    libc = " ".join(platform.libc_ver()) or "a C library that does not say its name"
    rows = "\n".join(fresh_rows)
    return f"""# Benchmarks

Written by `tools/benchmark.py`, which anyone can run (`make parity` builds its environment). {datetime.date.today()},
{processor()}, {os.cpu_count()} cores of which one thread is used, allocator of {libc},
Python {platform.python_version()}, {versions()}.

Medians and quartiles of {rounds} rounds, all ways in turns. Below 1 is faster than what stands behind the slash. The
bound is the network's multiply-accumulates at the rate of a {SIDE} x {SIDE} product in the same round. "Peer" is
DeepLabV3+ of segmentation-models-pytorch, and timm's Xception; "compiled" is `torch.compile` with frozen weights.
"Eager" is the network as it is, "fast" `optimize_for_inference`, "freed memory kept" `keep_freed_memory`; "bytes to
labels" begins with pixels and ends with the argmax. "At most" is the target set beforehand, "report" where there is
none. The bound is float32's in every row, and a yardstick: convolutions can run faster than a product. Each row has
the bound of its own rounds: compare ratios, not milliseconds.

{chr(10).join(sections)}
## In fresh processes

| target | median (quartiles) | at most | |
|---|--:|--:|---|
{rows}
"""


def others(before: tuple[float, float, float]) -> float:
    """Cores that everybody else has used since then, the hypervisor's other guests included (Linux; elsewhere unknown: 0)."""
    now = clocks()
    wall, busy, own = (b - a for a, b in zip(before, now, strict=True))
    return max(0.0, busy - own) / wall


def clocks() -> tuple[float, float, float]:
    """Seconds: the wall's, all that the processors were busy, what this process and its children used."""
    stat, own = Path("/proc/stat"), 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        own += usage.ru_utime + usage.ru_stime
    if not stat.exists():
        return perf_counter(), own, own
    user, nice, system, _, _, irq, soft, stolen, *_ = map(int, stat.read_text().splitlines()[0].split()[1:])
    return perf_counter(), (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK"), own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each way is run (default: 7)")
    parser.add_argument("--litert", type=Path, metavar="FILE", help="the authors' .tflite; needs ai-edge-litert")
    parser.add_argument("--dry-run", action="store_true", help="print the page and write nothing")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        rounds = options.rounds
        print(json.dumps(training(rounds) if options.part == "training" else measured(options.part, rounds, options.litert)))
        return 0
    before, sections = clocks(), []
    for environment, how in (({}, isa()), (LIMITED, "AVX2, simulated: libraries on the same processor told to use no more")):
        if environment and isa() == "AVX2":
            continue  # what is simulated elsewhere has just been measured
        answers = {}
        for part in (*SUBJECTS, "training"):
            command = [sys.executable, __file__, f"--part={part}", f"--rounds={options.rounds}"]
            command += [f"--litert={options.litert}"] if options.litert else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
            answers[part] = json.loads(done.stdout.splitlines()[-1])
            print(f"{how}: {part} done", file=sys.stderr, flush=True)
        sections.append(section(how, answers))
    text = page(sections, in_fresh_processes(3), options.rounds)
    if options.dry_run:
        print(text)
    if (used := others(before)) > BUSY:
        print(f"nothing written: others used {used:.2f} cores of this machine meanwhile, at most {BUSY} may", file=sys.stderr)
        return 1
    if not options.dry_run:
        written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        _, found_notes, notes = written.partition("\n## ")  # what people wrote below the tables stays
        PAGE.write_text(text + found_notes + notes, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
