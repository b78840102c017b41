"""A run that is killed at any moment and resumed ends as one that was not: the same weights and the same log, bit by bit."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from learn.tiny import Plain, Uneven, settings, tiny
from safetensors.torch import save_file

from minideeplab import weights
from minideeplab.learn.data import Shapes
from minideeplab.learn.train import train

DONE = ("weights.safetensors", "log.csv")
KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    import safetensors.torch, torch
    from learn.tiny import Uneven, settings, tiny
    from minideeplab.learn import train as module
    from minideeplab.weights import replacement
    torch.set_num_threads(1)

    def go(out):
        module.train(tiny(drop=0.3), Uneven(), **settings(steps=6), out=out, save_every=0, resume=True)

    def die(*_): os.kill(os.getpid(), signal.SIGKILL)

    def at(number, place, name, last=die):
        old, left = getattr(place, name), [number]
        def new(*given, **named):
            left[0] -= 1
            return last(old, *given, **named) if left[0] == 0 else old(*given, **named)
        setattr(place, name, new)

    def half_a_file(old, path, whole):
        old(path, whole[: len(whole) // 2])
        die()

    def half_a_row(old, *given):
        print(old(*given)[:5], end="", file=open(out / "log.csv", "a"), flush=True)
        die()

    def after(old, *given): old(*given), die()

    moments = {
        "before the first step": lambda: at(1, module, "learn"),
        "between forward and the weights": lambda: at(3, torch.optim.SGD, "step"),
        "with half a row in the log": lambda: at(3, module, "row", half_a_row),
        "with half a checkpoint": lambda: at(4, Path, "write_bytes", half_a_file),
        "before it takes its place": lambda: at(4, os, "replace"),
        "when it just has": lambda: at(4, os, "replace", after),
        "with half the final weights": lambda: at(7, Path, "write_bytes", half_a_file),
        "one time after another": lambda: at(3, module, "learn"),
    }
    module.train(tiny(), Uneven(), **settings(steps=1))  # what torch imports at the first step is then there in every fork
    folder = Path(sys.argv[1])
    for name, prepare in moments.items():
        out, deaths = folder / name, 0
        while True:
            process = os.fork()
            if not process:
                if deaths == 0 or name == "one time after another": prepare()
                go(out)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status == 0: break
            assert status == -signal.SIGKILL, (name, status)
            deaths += 1
            if deaths == 1:
                path = out / "checkpoint.safetensors"
                left = len(safetensors.torch.load_file(path)["losses"]) if path.exists() else 0
        print(f"{name}: {deaths}: {left}")
    out = folder / "from outside"
    for k in range(41):  # the last is left in peace, however slow the machine is
        process = os.fork()
        if not process:
            go(out)
            os._exit(0)
        if k < 40:
            time.sleep(0.05 + 0.013 * k)
            os.kill(process, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0: break
    print(f"from outside: {k}: 0")
"""


def finished(out: Path) -> tuple[bytes, ...]:
    return tuple((out / name).read_bytes() for name in DONE)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny(drop=0.3), Uneven(), **settings(steps=6), out=out)
    return out


def test_a_run_that_is_killed_at_any_moment_ends_with_the_weights_of_one_that_was_not(uninterrupted, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(": ") for line in done.stdout.splitlines()]
    deaths, left = {name: int(count) for name, count, _ in lines}, {name: int(steps) for name, _, steps in lines}
    assert len(deaths) == 9
    assert all(deaths.values()), deaths  # each moment was met, and the last was killed at least once from outside
    assert deaths["one time after another"] > 1
    assert left["before the first step"] == 0
    assert left["with half a checkpoint"] == left["when it just has"] == 3  # the last whole one stays until the next is whole
    assert left["before it takes its place"] == left["between forward and the weights"] == 2
    for name in deaths:
        assert finished(tmp_path / name) == finished(uninterrupted), name
        assert {path.name for path in (tmp_path / name).iterdir()} == {*DONE, "checkpoint.safetensors"}  # no litter


class Interrupts(Uneven):
    """Sends this process a signal when it is asked for its `moment`th sample."""

    def __init__(self, number: int, moment: int, times: int = 1) -> None:
        super().__init__()
        self.number, self.left, self.times = number, moment, times

    def __getitem__(self, index):
        self.left -= 1
        for _ in range(self.times if self.left == 0 else 0):
            signal.raise_signal(self.number)  # to this thread; with `os.kill` another may take it, and two become one
        return super().__getitem__(index)


Interrupts.__name__ = "Uneven"  # a checkpoint knows its data by class, count and names


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("moment", [6, 24])
def test_a_run_that_is_asked_to_stop_ends_its_step_and_can_be_resumed(number, error, moment, uninterrupted, tmp_path):
    handler = signal.getsignal(number)
    with pytest.raises(error) as caught:
        train(tiny(drop=0.3), Interrupts(number, moment), **settings(steps=6), out=tmp_path)
    assert number == signal.SIGINT or caught.value.code == 143
    assert signal.getsignal(number) == handler
    assert len(weights.read(tmp_path / "checkpoint.safetensors")["losses"]) == -(-moment // 4)  # four samples a step
    assert not (tmp_path / "weights.safetensors").exists()
    train(tiny(drop=0.3), Uneven(), **settings(steps=6), out=tmp_path, resume=True)
    assert finished(tmp_path) == finished(uninterrupted)


@pytest.fixture
def listening():
    """SIGINT as a terminal's process has it: a shell starts what it puts into the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_a_second_interrupt_does_not_wait_for_the_step(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), Interrupts(signal.SIGINT, 6, times=2), **settings(steps=6), out=tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_checkpoint_would_lack_would_be_noticed(uninterrupted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny(drop=0.3), Interrupts(signal.SIGINT, 9), **settings(steps=6), out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    whole = weights.read(path)
    for lost in ("momentum/", "net/backbone.root.0.bn.running_mean"):
        state = {name: torch.zeros_like(x) if name.startswith(lost) else x for name, x in whole.items()}
        weights.save(state, path, about=whole.about, overwrite=True)
        train(tiny(drop=0.3), Uneven(), **settings(steps=6), out=tmp_path, resume=True)
        assert finished(tmp_path) != finished(uninterrupted), lost


def test_a_finished_run_that_is_resumed_stays_as_it_is(uninterrupted):
    before = finished(uninterrupted)
    losses = train(tiny(drop=0.3), Uneven(), **settings(steps=6), out=uninterrupted, resume=True)
    assert len(losses) == 6
    assert finished(uninterrupted) == before
    assert len(before[1].splitlines()) == 7


def test_a_run_is_not_written_over_unasked(uninterrupted):
    with pytest.raises(FileExistsError, match="whole holds a run already: resume it, or name another folder"):
        train(tiny(), Uneven(), **settings(steps=6), out=uninterrupted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 8}, r"batch was 4, is 8"),
        ({"steps": 7, "rate": 0.5}, r"rate was 0\.01, is 0\.5, steps was 6, is 7"),
        ({"frozen": ["backbone"]}, r"frozen was \[\], is \['backbone'\]"),
        ({"scales": (1.0, 1.0)}, r"scales was \[0\.5, 2\.0\], is \[1\.0, 1\.0\]"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_with_the_numbers_that_differ(options, message, uninterrupted):
    before = finished(uninterrupted)
    with pytest.raises(ValueError, match=f"belongs to a run of other settings: {message}. Use those, or another folder"):
        train(tiny(), Uneven(), **settings(steps=6) | options, out=uninterrupted, resume=True)
    assert finished(uninterrupted) == before


def test_a_checkpoint_of_other_data_or_of_another_network_is_refused(uninterrupted):
    with pytest.raises(ValueError, match=r"data was \['Uneven', 8, .*, is \['Uneven', 9, "):
        train(tiny(), Uneven(9), **settings(steps=6), out=uninterrupted, resume=True)
    with pytest.raises(ValueError, match=r"a momentum of classify\.bias"):
        train(tiny(5), Uneven(), **settings(steps=6), out=uninterrupted, resume=True)


def test_data_of_one_size_are_told_apart_by_seed_size_and_names(tmp_path):
    def go(data, **more):
        return train(Plain(4), data, **settings(steps=1), out=tmp_path / "run", **more)

    go(Shapes(8, size=17))
    go(Shapes(8, size=17), resume=True)
    named = Shapes(8, size=17)
    named.names = [f"{k}.jpg" for k in range(8)]
    for other in (Shapes(8, size=17, seed=1), Shapes(8, size=19), named):
        with pytest.raises(ValueError, match="belongs to a run of other settings: data was"):
            go(other, resume=True)


@torch.no_grad()
def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_is_unpickled(uninterrupted, tmp_path):
    path, net = tmp_path / "checkpoint.safetensors", tiny()

    def refused(message):
        with pytest.raises(ValueError, match=message):
            train(net, Uneven(), **settings(steps=6), out=tmp_path, resume=True)
        assert all(map(torch.equal, net.state_dict().values(), tiny().state_dict().values()))

    torch.save({"settings": {}}, path)
    refused(r"checkpoint\.safetensors is no complete safetensors file")
    path.write_bytes((uninterrupted / "checkpoint.safetensors").read_bytes()[:-1])
    refused(r"checkpoint\.safetensors is no complete safetensors file")
    weights.save(net.state_dict(), path, overwrite=True)
    refused("is no checkpoint of a training: its header has no settings")
    whole = weights.read(uninterrupted / "checkpoint.safetensors")
    for broken, message in {
        "[": "its header has no settings", "[]": "its header has no settings", "{}": "was None, is 4",
    }.items():  # fmt: skip
        save_file(dict(whole), path, metadata={"settings": broken})
        refused(message)
    for name, value, message in [
        ("losses", torch.zeros(7), "no checkpoint of a training of 6 steps"),
        ("losses", torch.zeros(2, 2), "no checkpoint of a training of 6 steps"),
        ("momentum/gone", torch.zeros(1), "a momentum of gone"),
        ("net/classify.bias", torch.zeros(9), "do not fit DeepLabV3Plus"),
        ("net/classify.bias", torch.full((4,), torch.nan), "holds NaN"),
    ]:
        weights.save(whole | {name: value}, path, about=whole.about, overwrite=True)
        refused(message)
    assert json.loads(whole.about["settings"])["batch"] == 4
