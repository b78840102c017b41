"""What reaches a terminal and what a terminal does: no result is lost, no character obeyed, no traceback printed."""

import io
import json
import os
import subprocess
import sys
import textwrap
import types

import pytest

from minideeplab.__main__ import main
from minideeplab.cli import costs
from minideeplab.cli.arguments import note


class Stream(io.StringIO):
    """Standard output that fails when it is written out."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(), 1), (OSError(28, "No space left on device"), 2)])
def test_an_output_that_takes_no_more_is_no_traceback(error, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Stream(error))
    assert main(["cost", "conv"]) == status
    assert capsys.readouterr().err.count("\n") == status - 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "minideeplab: interrupted\n"),
        (RuntimeError("not enough\n memory"), 1, "minideeplab: error: not enough memory\n"),
        (MemoryError(), 1, "minideeplab: error: MemoryError\n"),
        (ValueError("a\x1b[31m\nb" + "x" * 5000), 2, f"minideeplab: error: a?[31m b{'x' * 592} ...\n"),
    ],
)
def test_whatever_happens_is_one_line_and_a_status(error, status, line, monkeypatch, capsys):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(costs, "profile", fails)
    assert main(["cost", "conv"]) == status
    assert capsys.readouterr() == ("", line)


def test_foreign_names_reach_no_terminal_as_commands(capsys, monkeypatch):
    made = "import torch\nnet = torch.nn.Sequential()\nnet.add_module('a\\x1b[31m\\xe9', torch.nn.Conv2d(3, 3, 1))"
    module = types.ModuleType("users_own")
    exec(made, vars(module))
    monkeypatch.setitem(sys.modules, "users_own", module)
    for form in ([], ["--markdown"], ["--json"]):
        assert main(["cost", "users_own:net", "--size", "9", *form]) == 0
        assert "\x1b" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["cost", "conv", "--size", "\x1b[31m"])
    assert "\x1b" not in capsys.readouterr().err


def test_a_note_is_one_clean_line_on_standard_error_or_nowhere(capsys, monkeypatch):
    note("written: a\x1b[31m\n.png")
    assert capsys.readouterr() == ("", "written: a?[31m?.png\n")
    monkeypatch.setattr(sys, "stderr", None)
    note("lost")
    assert capsys.readouterr().out == ""


def test_json_has_no_number_that_is_none(capsys):
    with pytest.raises(ValueError, match="JSON"):
        costs.print_json({"seconds": float("nan")})
    assert main(["cost", "aspp", "--size", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["receptive_field"] == "all"


def test_real_processes_lose_no_result(tmp_path):
    """One process imports torch, its children are forks of it: each with the streams that a shell would give them."""
    script = """
        import os, signal, sys, types, torch
        from minideeplab.cli.parser import main

        def child(prepare, line):
            process = os.fork()
            if not process:
                prepare()
                try: status = main(line.split())
                except SystemExit as end: status = end.code
                try: sys.stdout and sys.stdout.flush()
                except OSError: status = 99
                os._exit(status)
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

        def closed(): os.close(1); sys.stdout = None
        def pipe():
            read, write = os.pipe(); os.close(read); os.dup2(write, 1)
        def ascii():
            sys.stdout.reconfigure(encoding="ascii")
            module = types.ModuleType("own"); module.net = torch.nn.Sequential()
            module.net.add_module("h\\u00f6he", torch.nn.Conv2d(3, 3, 1)); sys.modules["own"] = module
        def interrupt(): signal.signal(signal.SIGALRM, signal.default_int_handler); signal.setitimer(signal.ITIMER_REAL, 0.05)

        print(child(closed, "cost conv"), child(pipe, "cost conv"), child(pipe, "--help") < 2,
              child(ascii, "cost own:net --size 9"), child(interrupt, "cost deeplabv3plus-xception71"), file=sys.stderr)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stderr.splitlines() == [
        "minideeplab: error: standard output is closed", "minideeplab: interrupted", "2 1 True 0 130"
    ]  # fmt: skip
    assert "h\\xf6he" in done.stdout
