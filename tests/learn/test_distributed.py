"""Under torchrun two processes compute what one computes with the whole batch, however void is spread between them."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F
from learn.tiny import Uneven, settings, tiny

from minideeplab import weights
from minideeplab.learn import train as module
from minideeplab.learn.data import VOID
from minideeplab.learn.train import train

SCRIPT = """
    import sys, torch
    from pathlib import Path
    from learn.tiny import Uneven, settings, tiny
    from minideeplab.learn.train import train

    torch.set_num_threads(1)
    losses = train(tiny(), Uneven(), **settings(steps=4, rate=0.1), out=Path(sys.argv[1]), freeze_norm=True, scales=(1.0, 1.0))
    print(len(losses))
"""


def alone(out):
    return train(tiny(), Uneven(), **settings(steps=4, rate=0.1), out=out, freeze_norm=True, scales=(1.0, 1.0))


def together(out, *, script=SCRIPT, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    path = out.with_suffix(".py")
    path.write_text(textwrap.dedent(script))
    return subprocess.run([*command, path, out], capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    alone(out)
    return out


def far(one, other):
    """The largest difference between two runs' weights."""
    a, b = (weights.read(out / "weights.safetensors") for out in (one, other))
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point())


def test_two_processes_train_what_one_does_with_the_same_global_batch(one, tmp_path):
    done = together(tmp_path / "run")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "".join(done.stdout.split()) == "44"  # each prints a line, and two lines may run into one
    assert far(one, tmp_path / "run") < 1e-6
    logs = [[line.split(",") for line in (out / "log.csv").read_text().splitlines()] for out in (one, tmp_path / "run")]
    assert [len(log) for log in logs] == [5, 5]  # one process writes
    for ours, theirs in zip(logs[0][1:], logs[1][1:], strict=True):
        assert [float(cell) for cell in ours] == pytest.approx([float(cell) for cell in theirs], rel=1e-5)


def test_void_is_uneven_here_and_a_mean_of_means_would_be_noticed(one, tmp_path, monkeypatch):
    counts = [int(Uneven()[index].labels.ne(VOID).sum()) for index in range(8)]
    assert max(counts) > 8 * min(counts)

    def mean_of_means(logits, labels, counted=None):
        halves = zip(logits.tensor_split([2]), labels.tensor_split([2]), strict=True)
        return sum(F.cross_entropy(x, y, ignore_index=VOID) for x, y in halves) / 2

    monkeypatch.setattr(module, "loss", mean_of_means)
    alone(tmp_path / "run")
    assert far(one, tmp_path / "run") > 1e-3


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    done = together(tmp_path / "run", script=SCRIPT.replace("steps=4", "steps=4, batch=5"))
    assert done.returncode
    assert "2 processes cannot share a batch of 5 evenly: make it a multiple of 2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_torchrun_there_is_one_process(monkeypatch):
    from minideeplab.learn.processes import device, processes, ranks

    assert ranks() == 1
    with processes(torch.device("cpu")) as found:
        assert found == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert ranks() == 3
    assert device().type == ("cuda" if torch.cuda.is_available() else "cpu")
