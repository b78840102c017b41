"""The commands `cost`, `compare` and `bench`: from a name to a network, what it is fed, and what it costs."""

import argparse
import json
import os
import pkgutil
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from minideeplab.blocks.decoder import Decoder
from minideeplab.cli.arguments import Commands, add_command, whole
from minideeplab.cli.models import MODELS
from minideeplab.cost import Report, compare, profile, tf_multiply_adds
from minideeplab.cost.table import Table
from minideeplab.inference import keep_freed_memory
from minideeplab.learn.network_file import build, is_deeplab

# The options of the models: keyword of a builder -> what the command line calls it, the most it may be, and its help.
OPTIONS = {
    "classes":       ("--classes", 10**6, "of networks (default: 1000, DeepLab 21)"),
    "output_stride": ("--output-stride", 10**6, "of networks (default: 16, xception and classifiers 32)"),
    "inputs":  ("--in", 10**6, "channels of blocks (default: 192, aspp 2048, decoder 256), and of your own network (3)"),
    "outputs": ("--out", 10**6, "channels of blocks (default: 192, aspp and decoder 256)"),
    "kernel":  ("--kernel", 10**4, "size of the window (default: 3)"),
    "rate":    ("--rate", 10**4, "of atrous (default: 2) and separable (1); aspp takes N, 2N and 3N (6)"),
    "towers":  ("--towers", 1024, "of inception (default: 3)"),
    "dense":   ("--dense", None, "standard instead of separable convolutions in DeepLab's head, in aspp, in decoder"),
}
MODEL_HELP = """

MODEL is one of
{names}
or your own network, module.path:callable (called without arguments) or module.path:network. This imports and runs your code."""
JSON_HELP = """--json gives for each model: model, size (a side, or [height, width]), params, macs, shares (of MACs, by kind),
receptive_field (pixels, "all" or "unknown"), peak_bytes (activations alive at once); for DeepLab also tf_multiply_adds, as the
authors counted; {more}.

"""
PATIENCE = 60  # seconds that one run of a benchmark may take


class Subject(NamedTuple):
    """A model that was asked for, what it is fed, and what it costs. The network is on the meta device, unless a user's."""

    name: str
    net: nn.Module
    size: tuple[int, int]
    shapes: list[tuple[int, ...]]
    report: Report

    def facts(self) -> dict[str, Any]:
        """What JSON says about it."""
        (height, width), report = self.size, self.report
        facts: dict[str, Any] = {
            "model": self.name,
            "size": height if height == width else [height, width],
            "params": report.params,
            "macs": report.macs,
            "shares": {kind: float(report.share(kind)) for kind in dict.fromkeys(row.kind for row in report.rows if row.macs)},
            "receptive_field": report.receptive_field,
            "peak_bytes": report.peak_bytes,
        }
        return facts | ({"tf_multiply_adds": tf_multiply_adds(self.net, self.size).total} if is_deeplab(self.net) else {})


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the models that stand on the command line."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}


def subjects(names: Sequence[str], args: argparse.Namespace) -> list[Subject]:
    """Build and profile them. An option that applies to none of them is an error: silence would be a wrong answer."""
    options = given(args)
    for name in names:
        if name not in MODELS and ":" not in name:
            near = get_close_matches(name.lower(), MODELS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown model {name[:100]!r}: {hint}Known are module.path:callable and {', '.join(MODELS)}")
    for option in options:
        if not any(option in own_options(name, options) for name in names):
            raise ValueError(f"{OPTIONS[option][0]} does not apply to {' or '.join(names)}")
    size = args.size or (MODELS[names[0]].size if names[0] in MODELS else 513,) * 2
    found = []
    for name in dict.fromkeys(names):
        own = own_options(name, options)
        with users_code(name):
            net = build(MODELS, name, **own) if name in MODELS else users_network(name)
            shapes = inputs_of(net, size, own)
            found.append(Subject(name, net, size, shapes, profile(net, *shapes)))
    return found


def own_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that apply to a model; to a user's own only the channels of its input."""
    return {key: options[key] for key in options if key in (MODELS[name].options if name in MODELS else ("inputs",))}


def users_network(name: str) -> nn.Module:
    """Built as the user builds it."""
    sys.path.insert(0, os.getcwd())  # `python -m` has it, the installed command has not
    thing = pkgutil.resolve_name(name)
    net = thing if isinstance(thing, nn.Module) else thing()
    if not isinstance(net, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(net).__name__}")
    return net


def inputs_of(net: nn.Module, size: tuple[int, int], options: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes that a network is fed: an image, a map of its own channels, or for the decoder a fine and a coarse map."""
    height, width = size
    if isinstance(net, Decoder):
        return [(1, net.in_low, height, width), (1, net.in_high, -(-height // 4), -(-width // 4))]
    return [(1, options.get("inputs", getattr(net, "in_channels", 3)), height, width)]


@contextmanager
def users_code(name: str) -> Iterator[None]:
    """What a user's code prints goes to standard error; what it raises becomes a line that says what and where."""
    if ":" not in name:
        yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        cause = error.__cause__ or error
        elsewhere = {Path(__file__).parents[1], Path(torch.__file__).parent, Path(str(pkgutil.__file__)).parent}
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)]
        own = [f" ({path.name}, line {line})" for path, line in frames if path.is_file() and elsewhere.isdisjoint(path.parents)]
        raise ValueError(f"{name} failed: {type(cause).__name__}: {cause}{own[-1] if own else ''}") from error


def run_cost(args: argparse.Namespace) -> int:
    """One model: the layers of its modules added up, and the totals."""
    [subject] = subjects([args.model], args)
    facts, report = subject.facts(), subject.report
    if args.json:
        print_json(facts | {"layers": [row._asdict() for row in report.rows]})
        return 0
    print_table((report.grouped(args.depth) if args.depth else report).table(), args)
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in facts["shares"].items()) or "none"
    print(f"\nShares of the MACs: {shares}. Activations alive at once: at most {report.peak_bytes / 1e6:,.1f} MB.")
    if "tf_multiply_adds" in facts:
        print(f"Multiply-adds as the authors of DeepLabV3+ counted them: {facts['tf_multiply_adds'] / 1e9:.2f} billion.")
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """Several models on the same size, with ratios to the first."""
    found = subjects(args.models, args)
    facts = [subject.facts() for subject in found]
    if args.json:
        print_json(facts)
        return 0
    table = compare({subject.name: subject.report for subject in found})
    if any("tf_multiply_adds" in fact for fact in facts):
        counted = [f"{fact['tf_multiply_adds'] / 1e9:.2f}" if "tf_multiply_adds" in fact else "" for fact in facts]
        rows = [[*row, cell] for row, cell in zip(table.rows, counted, strict=True)]
        caption = f"{table.caption} multiply-adds: as the authors of DeepLabV3+ counted them, in billions."
        table = Table([*table.header, "multiply-adds"], rows, caption)
    print_table(table, args)
    return 0


def run_bench(args: argparse.Namespace) -> int:
    """Time by kind of layer, against the roofline of this machine."""
    from minideeplab.cost.timing import Spread, measure, roofline

    [subject] = subjects([args.model], args)
    weights = sum(tensor.nbytes for tensor in [*subject.net.parameters(), *subject.net.buffers()])
    check_room(subject.name, 2 * weights + 3 * subject.report.peak_bytes)  # a copy is timed; frames keep maps alive
    machine = roofline(threads=args.threads)
    _, least, _ = machine.seconds([(subject.report.macs, 0)]).quartiles
    if least > PATIENCE:
        raise ValueError(f"one run of {subject.name} would take more than {least:,.0f} s here: choose a smaller --size")
    with users_code(subject.name):
        own = own_options(subject.name, given(args))
        net = subject.net if ":" in subject.name else build(MODELS, subject.name, "cpu", **own)
        again = partial(measure, net, *subject.shapes, runs=args.runs, threads=args.threads, machine=machine)
        measured, kept = again(), again().whole if keep_freed_memory() else None
    if not args.json:
        table = measured.table()
        caption = f"{table.caption} The whole network with freed memory kept: {kept}." if kept else table.caption
        print_table(Table(table.header, table.rows, caption), args)
        return 0

    def plain(value: Any) -> Any:
        return {"quartiles": value.quartiles, "unit": value.unit, "runs": value.runs} if isinstance(value, Spread) else value

    kinds = [{key: plain(value) for key, value in row._asdict().items()} for row in measured.rows]
    peak = {"flops": plain(machine.flops), "bandwidth": plain(machine.bandwidth), "threads": machine.threads}
    print_json(subject.facts() | {"time": plain(measured.whole), "time_kept": plain(kept), "roofline": peak, "kinds": kinds})
    return 0


def add_commands(commands: Commands) -> None:
    """`cost`, `compare` and `bench`."""
    names = textwrap.fill(" ".join(MODELS), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    about = MODEL_HELP.format(names=names)
    cost = add_command(
        commands, run_cost, "Say what one model costs, without running it",
        "deeplabv3plus-xception65 --size 513 --output-stride 8\nseparable --in 728 --out 728 --size 19 --json\n"
        "my_package.networks:Net --size 224", about=about,
        end=JSON_HELP.format(more="and layers: name, kind, shape, params, macs, receptive_field"),
    )
    side_by_side = add_command(
        commands, run_compare, "Put several models side by side, with ratios to the first",
        "inception_v3 xception --size 299 --markdown\nconv separable inception extreme --in 96 --out 96 --size 33\n"
        "deeplabv3plus-resnet101 deeplabv3plus-xception65 --dense", about=about,
        end=JSON_HELP.format(more="one list holds them all"),
    )
    bench = add_command(
        commands, run_bench, "Time a model by kind of layer, against the roofline of this machine",
        "xception --size 299 --threads 1\ndeeplabv3plus-xception65 --size 513 --runs 5", about=about,
        end=JSON_HELP.format(more="time, time_kept (freed memory kept; glibc only), roofline (flops, bandwidth, threads)\n"
                                  "and kinds (kind, calls, macs, moved, seconds, share, least). What is measured is an object\n"
                                  "of quartiles, unit and runs"),
    )
    cost.add_argument("model", metavar="MODEL")
    side_by_side.add_argument("models", metavar="MODEL", nargs="+")
    bench.add_argument("model", metavar="MODEL")
    depth = "how many names of modules to keep when layers are added up; 0 shows every layer (default: %(default)s)"
    cost.add_argument("--depth", type=int, default=2, choices=range(10), metavar="N", help=depth)
    bench.add_argument("--runs", type=whole(1000, least=3), default=9, metavar="N", help="at least 3 (default: %(default)s)")
    bench.add_argument("--threads", type=whole(1024), metavar="N", help="that torch may use (default: torch's own number)")
    for parser in (cost, side_by_side, bench):
        text = "513, or 1025x2049 (default: what the first model is made for)"
        parser.add_argument("--size", type=sides, metavar="N", help=text)
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--markdown", action="store_true", help="a table that pastes into a paper or an issue")
        form.add_argument("--json", action="store_true", help="one line for programs")
        group = parser.add_argument_group("options of the models")
        for keyword, (flag, most, text) in OPTIONS.items():
            if most is None:
                group.add_argument(flag, action="store_true", default=None, dest=keyword, help=text)
            else:
                group.add_argument(flag, type=whole(most), metavar="N", dest=keyword, help=text)


def check_room(name: str, needed: float) -> None:
    """Raise if a computation of so many bytes is more than this machine has."""
    if needed > memory():
        there = f"it may take {needed / 1e9:,.1f} GB, this machine has {memory() / 1e9:,.1f}"
        raise ValueError(f"no room for {name} at this size: {there}; choose a smaller --size")


def memory() -> float:
    """Bytes of this machine, if it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def print_table(table: Table, args: argparse.Namespace) -> None:
    """As Markdown or as aligned text."""
    print(table.markdown() if args.markdown else table.text())


def print_json(facts: Any) -> None:
    """One line that every reader of JSON takes: a number that is none would be an error."""
    print(json.dumps(facts, allow_nan=False))


def sides(text: str) -> tuple[int, int]:
    """513, or height x width as 1025x2049."""
    read, parts = whole(100_000), text.split("x")
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"expected 513, or height x width as 1025x2049, got {text[:40]!r}")
    return read(parts[0]), read(parts[-1])
