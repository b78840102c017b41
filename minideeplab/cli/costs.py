"""The commands `cost`, `compare` and `bench`, over a table of models that the caller brings."""

import argparse
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from re import fullmatch
from typing import Any

from minideeplab.cli.models import FLAGS, Model, build, given, subjects, users_code
from minideeplab.cost import compare
from minideeplab.cost.table import Table

MODEL_HELP = """MODEL is one of
{names}
or your own network, module.path:callable (called without arguments) or module.path:network. This imports and runs your code."""
JSON_HELP = """--json gives for each model: model, size (a side, or [height, width]), params, macs, shares (of MACs, by kind),
receptive_field (pixels, or "all"), peak_bytes (activations alive at once); for DeepLab also tf_multiply_adds, as the authors
counted; {more}."""
PATIENCE = 60  # seconds that one run of a benchmark may take


def run_cost(models: Mapping[str, Model], args: argparse.Namespace) -> int:
    """One model: the layers of its modules added up, and the totals."""
    [subject] = subjects(models, [args.model], args)
    facts, report = subject.facts(), subject.report
    if args.json:
        print(json.dumps(facts | {"layers": [row._asdict() for row in report.rows]}))
        return 0
    print_table((report.grouped(args.depth) if args.depth else report).table(), args)
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in facts["shares"].items()) or "none"
    print(f"\nShares of the MACs: {shares}. Activations alive at once: at most {report.peak_bytes / 1e6:,.1f} MB.")
    if "tf_multiply_adds" in facts:
        print(f"Multiply-adds as the authors of DeepLabV3+ counted them: {facts['tf_multiply_adds'] / 1e9:.2f} billion.")
    return 0


def run_compare(models: Mapping[str, Model], args: argparse.Namespace) -> int:
    """Several models on the same size, with ratios to the first."""
    found = subjects(models, args.models, args)
    facts = [subject.facts() for subject in found]
    if args.json:
        print(json.dumps(facts))
        return 0
    table = compare({subject.name: subject.report for subject in found})
    if any("tf_multiply_adds" in fact for fact in facts):
        counted = [f"{fact['tf_multiply_adds'] / 1e9:.2f}" if "tf_multiply_adds" in fact else "" for fact in facts]
        rows = [[*row, cell] for row, cell in zip(table.rows, counted, strict=True)]
        caption = f"{table.caption} multiply-adds: as the authors of DeepLabV3+ counted them, in billions."
        table = Table([*table.header, "multiply-adds"], rows, caption)
    print_table(table, args)
    return 0


def run_bench(models: Mapping[str, Model], args: argparse.Namespace) -> int:
    """Time by kind of layer, against the roofline of this machine."""
    from minideeplab.cost.timing import Spread, measure, roofline

    [subject] = subjects(models, [args.model], args)
    weights = sum(tensor.nbytes for tensor in [*subject.net.parameters(), *subject.net.buffers()])
    needed, present = 2 * weights + 3 * subject.report.peak_bytes, memory()  # a copy is timed; frames keep maps alive
    if needed > present:
        there = f"it may take {needed / 1e9:,.1f} GB, this machine has {present / 1e9:,.1f}"
        raise ValueError(f"no room for {subject.name} at this size: {there}; choose a smaller --size")
    machine = roofline(threads=args.threads)
    _, least, _ = machine.seconds([(subject.report.macs, 0)]).quartiles
    if least > PATIENCE:
        raise ValueError(f"one run of {subject.name} would take more than {least:,.0f} s here: choose a smaller --size")
    with users_code(subject.name):
        net = subject.net if ":" in subject.name else build(models, subject.name, given(args), "cpu")
        measured = measure(net, *subject.shapes, runs=args.runs, threads=args.threads, machine=machine)
    if not args.json:
        print_table(measured.table(), args)
        return 0

    def plain(value: Any) -> Any:
        return {"quartiles": value.quartiles, "unit": value.unit, "runs": value.runs} if isinstance(value, Spread) else value

    kinds = [{key: plain(value) for key, value in row._asdict().items()} for row in measured.rows]
    peak = {"flops": plain(machine.flops), "bandwidth": plain(machine.bandwidth), "threads": machine.threads}
    print(json.dumps(subject.facts() | {"time": plain(measured.whole), "roofline": peak, "kinds": kinds}))
    return 0


def add_commands(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", models: Mapping[str, Model]
) -> None:  # fmt: skip
    """`cost`, `compare` and `bench`, each with its examples."""
    names = textwrap.fill(" ".join(models), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)

    def command(name: str, run: Any, summary: str, examples: str, more: str) -> argparse.ArgumentParser:
        lines = "\n".join(f"  python -m minideeplab {name} {example}" for example in examples.splitlines())
        parser = subparsers.add_parser(
            name, help=summary, description=f"{summary}.\n\n{MODEL_HELP.format(names=names)}",
            epilog=f"{JSON_HELP.format(more=more)}\n\nexamples:\n{lines}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        parser.set_defaults(run=partial(run, models))
        return parser

    cost = command(
        "cost", run_cost, "Say what one model costs, without running it",
        "deeplabv3plus-xception65 --size 513 --output-stride 8\nseparable --in 728 --out 728 --size 19 --json\n"
        "my_package.networks:Net --size 224",
        "and layers: name, kind, shape, params, macs, receptive_field",
    )  # fmt: skip
    side_by_side = command(
        "compare", run_compare, "Put several models side by side, with ratios to the first",
        "inception_v3 xception --size 299 --markdown\nconv separable inception extreme --in 96 --out 96 --size 33\n"
        "deeplabv3plus-resnet101 deeplabv3plus-xception65 --dense",
        "one list holds them all",
    )  # fmt: skip
    bench = command(
        "bench", run_bench, "Time a model by kind of layer, against the roofline of this machine",
        "xception --size 299 --threads 1\ndeeplabv3plus-xception65 --size 513 --runs 5",
        "time, roofline (flops, bandwidth, threads) and kinds (kind, calls, macs, moved, seconds, share, least).\n"
        "What is measured is an object of quartiles, unit and runs",
    )  # fmt: skip
    cost.add_argument("model", metavar="MODEL")
    side_by_side.add_argument("models", metavar="MODEL", nargs="+")
    bench.add_argument("model", metavar="MODEL")
    depth = "how many names of modules to keep when layers are added up; 0 shows every layer (default: %(default)s)"
    cost.add_argument("--depth", type=int, default=2, choices=range(10), metavar="N", help=depth)
    bench.add_argument("--runs", type=whole(1000, least=3), default=9, metavar="N", help="at least 3 (default: %(default)s)")
    bench.add_argument("--threads", type=whole(1024), metavar="N", help="that torch may use (default: torch's own number)")
    for parser in (cost, side_by_side, bench):
        add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the three commands share; the defaults are those of the builders."""
    parser.add_argument("--size", type=sides, metavar="N", help="513, or 1025x2049 (default: what the first model is made for)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a table that pastes into a paper or an issue")
    form.add_argument("--json", action="store_true", help="one line for programs")
    options = parser.add_argument_group("options of the models")
    for keyword, most, text in (
        ("classes", 10**6, "of networks (default: 1000, DeepLab 21)"),
        ("output_stride", 10**6, "of networks (default: 16, xception 32)"),
        ("inputs", 10**6, "channels of blocks (default: 192, aspp 2048, decoder 256), and of your own network (3)"),
        ("outputs", 10**6, "channels of blocks (default: 192, aspp and decoder 256)"),
        ("kernel", 10**4, "size of the window (default: 3)"),
        ("rate", 10**4, "of atrous (default: 2) and separable (1); aspp takes N, 2N and 3N (6)"),
        ("towers", 1024, "of inception (default: 3)"),
    ):
        options.add_argument(FLAGS[keyword], type=whole(most), metavar="N", dest=keyword, help=text)
    dense = "standard instead of separable convolutions in DeepLab's head, in aspp, in decoder"
    options.add_argument("--dense", action="store_true", default=None, help=dense)


def memory() -> float:
    """Bytes of this machine, if it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def print_table(table: Table, args: argparse.Namespace) -> None:
    """As Markdown or as aligned text."""
    print(table.markdown() if args.markdown else table.text())


def one_line(message: object) -> str:
    """An error message in one line."""
    text = " ".join(str(message).split())
    return text if len(text) <= 600 else f"{text[:600]} ..."


def whole(most: int, *, least: int = 1) -> Callable[[str], int]:
    """Reads an integer from `least` to `most`."""

    def read(text: str) -> int:
        if not fullmatch(r"[+-]?\d{1,40}", text):
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:40]!r}")
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most:,}, got {int(text):,}")
        return int(text)

    return read


def sides(text: str) -> tuple[int, int]:
    """513, or height x width as 1025x2049."""
    read, parts = whole(100_000), text.split("x")
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"expected 513, or height x width as 1025x2049, got {text[:40]!r}")
    return read(parts[0]), read(parts[-1])
