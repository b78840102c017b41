"""`load` takes everything or nothing, `save` and `read` keep it, and `describe` reads the header alone."""

import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from weight_files import Trap

from minideeplab import ASPP, weights


@pytest.fixture
def net() -> ASPP:
    torch.manual_seed(0)
    return ASPP(4, 2, rates=(1, 2))


def other(net: nn.Module) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in net.state_dict().items()}


def test_load_takes_every_number(net: ASPP) -> None:
    state = other(net)
    weights.load(net, state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_load_does_not_need_the_count_of_batches(net: ASPP) -> None:
    state = {name: value for name, value in other(net).items() if not name.endswith("num_batches_tracked")}
    weights.load(net, state)
    assert torch.equal(net.state_dict()["project.conv.weight"], state["project.conv.weight"])
    assert net.project.bn.num_batches_tracked == 0


def test_load_lists_everything_that_is_wrong_and_leaves_the_network_alone(net: ASPP) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = other(net)
    del state["branches.1.conv.weight"]
    state["decoder.reduce.conv.weight"] = torch.zeros(48, 256, 1, 1)
    state["project.conv.weight"] = torch.zeros(2, 6, 1, 1)
    state["project.bn.weight"] = torch.zeros(2, dtype=torch.int64)
    state["project.bn.bias"] = torch.tensor([1.0, float("nan")])
    with pytest.raises(ValueError, match="5 arrays do not fit ASPP, nothing was loaded") as caught:
        weights.load(net, state)
    assert str(caught.value).splitlines()[1:] == [
        "  extra    decoder.reduce.conv.weight (48, 256, 1, 1)",
        "  kind     project.bn.weight is torch.int64, ASPP needs torch.float32",
        "  missing  branches.1.conv.weight (2, 4, 1, 1)",
        "  numbers  project.bn.bias holds NaN or infinity",
        "  shape    project.conv.weight is (2, 6, 1, 1), ASPP needs (2, 8, 1, 1)",
    ]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_load_state_dict_alone_would_not_leave_the_network_alone(net: ASPP) -> None:
    before, state = net.state_dict()["branches.1.conv.weight"].clone(), other(net)
    state["project.conv.weight"] = torch.zeros(2, 6, 1, 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict(state)
    assert not torch.equal(net.state_dict()["branches.1.conv.weight"], before)


def test_safetensors_keep_a_state_and_what_is_said_about_it(net: ASPP, tmp_path: Path) -> None:
    weights.save(net.state_dict(), tmp_path / "w.safetensors", about={"labels": "cat\ndog"})
    state = weights.read(tmp_path / "w.safetensors")
    assert state.about == {"labels": "cat\ndog"}
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_an_existing_file_is_kept_unless_overwriting_is_meant(net: ASPP, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="exists already"):
        weights.save(net.state_dict(), path)
    assert path.read_bytes() == b"precious"
    weights.save(net.state_dict(), path, overwrite=True)
    assert len(weights.read(path)) == len(net.state_dict())


def test_a_failed_save_leaves_nothing_behind(net: ASPP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        path.write_text("half a fi")
        raise OSError("no space left on device")

    (tmp_path / "old.safetensors").write_bytes(b"precious")
    monkeypatch.setattr(Path, "write_bytes", fail)
    for name in ("new.safetensors", "old.safetensors"):
        with pytest.raises(OSError, match="no space left"):
            weights.save(net.state_dict(), tmp_path / name, overwrite=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.safetensors", b"precious")]


@pytest.mark.parametrize(
    ("state", "about", "why"),
    [
        ({"a": torch.zeros(1, dtype=torch.float8_e5m2)}, {}, "a is of type F8_E5M2, expected one of F64"),
        ({"a": torch.zeros([1] * 9)}, {}, r"a claims the shape \[1, 1, 1, 1, 1, 1, 1, 1, 1\]"),
        ({"a": torch.zeros(1)}, {"labels": "x" * 9_000_000}, "its header claims 9,000,0"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(state: dict[str, Tensor], about: dict[str, str], why: str, tmp_path: Path):
    (tmp_path / "old.safetensors").write_bytes(b"precious")
    with pytest.raises(ValueError, match=rf"old.safetensors is not written, since it could not be read: {why}"):
        weights.save(state, tmp_path / "old.safetensors", about=about, overwrite=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.safetensors", b"precious")]


KILLED_WHILE_WRITING = """
import os, resource, signal, sys, torch
from pathlib import Path
import safetensors.torch
from minideeplab import weights
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))  # larger files are not written: a signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which kills
state, path = {"a": torch.zeros(2**16)}, Path(sys.argv[2])
weights.save(state, path) if sys.argv[1] == "ours" else safetensors.torch.save_file(state, path)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit that kills")
def test_a_save_that_is_killed_leaves_one_file_and_the_next_save_removes_it(tmp_path: Path) -> None:
    left = {}
    for who in ("ours", "theirs"):
        folder = tmp_path / who
        folder.mkdir()
        done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, who, str(folder / "w.safetensors")], check=False)
        assert done.returncode == -signal.SIGXFSZ
        left[who] = [path.name for path in folder.iterdir()]
        weights.save({"a": torch.zeros(2)}, folder / "w.safetensors", overwrite=True)
        left[who, "again"] = sorted(path.name for path in folder.iterdir())
    assert len(left["ours"]) == 1
    assert left["ours", "again"] == ["w.safetensors"]
    assert not (len(left["theirs"]) == 1 and "minideeplab" in left["theirs"][0])  # safetensors' own file has a name of its own


def test_damaged_or_foreign_files_are_refused_and_never_unpickled(net: ASPP, tmp_path: Path) -> None:
    weights.save(net.state_dict(), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "empty").write_bytes(b"")
    for name in ("half", "pickle", "empty"):
        with pytest.raises(ValueError, match=f"{name} is no complete safetensors file"):
            weights.read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "absent")


def test_the_one_optional_package_says_how_it_is_installed_and_the_rest_works_without(
    net: ASPP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'minideeplab[weights]'")):
        weights.from_keras(tmp_path / "w.h5")
    weights.save(net.state_dict(), tmp_path / "w")
    assert len(weights.read(tmp_path / "w")) == len(net.state_dict())
