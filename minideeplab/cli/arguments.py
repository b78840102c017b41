"""What the families of commands share: how a command is declared, what its options read, what may reach a terminal."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from re import fullmatch
from typing import Any

from minideeplab.weights.file_limits import plain
from minideeplab.weights.replacement import check_target

Commands = Any  # what argparse's add_subparsers returns: it has no public name


def add_command(
    commands: Commands, run: Callable[[argparse.Namespace], int], summary: str, examples: str, about: str = "", end: str = "",
) -> argparse.ArgumentParser:
    """The parser of a command, with its examples in the help; `run_cost` is run by `cost`."""
    name = run.__name__.removeprefix("run_")
    lines = "\n".join(f"  python -m minideeplab {name} {example}" for example in examples.splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary}.{about}", epilog=f"{end}examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def whole(most: int, *, least: int = 1) -> Callable[[str], int]:
    """Reads an integer from `least` to `most`."""

    def read(text: str) -> int:
        if not fullmatch(r"[+-]?\d{1,40}", text):
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:40]!r}")
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most:,}, got {int(text):,}")
        return int(text)

    return read


def check_output(target: Path, force: bool, *inputs: Path) -> None:
    """Before the work: a file can be written there, and is none of the inputs."""
    try:
        check_target(target, overwrite=force, inputs=inputs)
    except FileExistsError as error:
        raise ValueError(f"{target} exists already: name another with -o, or add --force") from error


def one_line(message: object) -> str:
    """An error message in one line, without characters that a terminal would obey."""
    return plain(" ".join(str(message).split()), 600)


def note(message: str) -> None:
    """A line on standard error, if there is one: `print` would write to standard output instead."""
    if sys.stderr is not None:
        print(plain(message, 700), file=sys.stderr)
