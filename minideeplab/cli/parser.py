"""The command line from outside: one parser, and how whatever happens becomes one line and an exit status."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from minideeplab.cli import costs, experiments, files, photos, training
from minideeplab.cli.arguments import note, one_line

ABOUT = """What a block or a network costs, how long it takes, what it says about a photo, and how it learns.

Results go to standard output, messages to standard error. Exit status: 0 done, 1 the run failed, 2 the input was bad,
130 interrupted."""
EXAMPLES = """examples:
  python -m minideeplab cost deeplabv3plus-xception65 --size 513
  python -m minideeplab compare inception_v3 xception --size 299 --markdown
  python -m minideeplab COMMAND --help"""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    try:
        release = version("minideeplab")
    except PackageNotFoundError:
        release = "(not installed)"
    style = argparse.RawDescriptionHelpFormatter
    top: argparse.ArgumentParser = Parser(prog="minideeplab", description=ABOUT, epilog=EXAMPLES, formatter_class=style)
    top.add_argument("--version", action="version", version=f"minideeplab {release}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in (costs, files, photos, training, experiments):
        family.add_commands(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Parsing ends the process where argparse does: `--help`, wrong options."""
    if sys.stdout is None:  # `>&-`: before the work, whose result would have nowhere to go
        note("minideeplab: error: standard output is closed")
        return 2
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # none, or a stream that knows no encoding
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            args = parser().parse_args(argv)
            status: int = args.run(args)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        leave_output()
        return 1
    except KeyboardInterrupt:
        note("minideeplab: interrupted")
        return 130
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError) as error:
        note(f"minideeplab: error: {one_line(error) or type(error).__name__}")
        leave_output()
        return 1 if isinstance(error, RuntimeError | MemoryError) else 2
    return status


def leave_output() -> None:
    """What standard output does not take now, it will not take when Python ends and tries once more."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
