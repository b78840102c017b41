"""A file is replaced whole or not at all: signals at several moments, full disks, and targets that are no regular file."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minideeplab import weights
from minideeplab.weights import replacement
from minideeplab.weights.replacement import check_target, replace_whole

NEW = b"new" * 20_000
# A process that replaces a file slowly and says how far it is. The module alone is run: it needs no torch.
WRITER = """
import runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have asked to ignore them
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
replace_whole = runpy.run_path(sys.argv[1])["replace_whole"]
with replace_whole(sys.argv[2], overwrite=True) as whole:
    print("begun", flush=True)
    with whole.open("wb") as file:
        for piece in range(20):
            file.write(b"new" * 1000)
            file.flush()
            print(piece, flush=True)
            time.sleep(0.005)
print("done", flush=True)
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    return path


def interrupted(path: Path, number: int, moment: str) -> int:
    """The writer on `path`, sent a signal when it says `moment`; how it ended."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, replacement.__file__, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == moment:
                process.send_signal(number)
                break
        process.stdout.read()
        return process.wait()


@pytest.mark.parametrize("moment", ["begun", "7", "19"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_process_leaves_the_old_file_or_the_new_one_and_no_litter(old: Path, name: str, moment: str) -> None:
    code = interrupted(old, getattr(signal, name), moment)
    if moment == "19":  # the end may have come first
        assert old.read_bytes() in (b"old", NEW)
    else:
        assert code != 0
        assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("moment", ["begun", "7", "19", "done"])
def test_a_killed_process_leaves_the_old_file_or_the_new_one_and_the_next_one_removes_its_litter(
    old: Path, moment: str
) -> None:
    assert interrupted(old, signal.SIGKILL, moment) in (0, -signal.SIGKILL)
    assert old.read_bytes() in ((b"old",) if moment in ("begun", "7") else (b"old", NEW))
    litter = [path for path in old.parent.iterdir() if path != old]
    if moment in ("7", "done"):
        assert len(litter) == (moment == "7")
    with replace_whole(old, overwrite=True) as whole:
        whole.write_bytes(b"next")
        assert set(old.parent.iterdir()) == {old, whole}
    assert list(old.parent.iterdir()) == [old]
    assert old.read_bytes() == b"next"


def test_only_litter_is_removed(old: Path) -> None:
    """Not the unfinished file of a running process, of another target, or this process's own; but any that is a day old."""
    gone = interrupted_pid()
    name = f".weights.bin.minideeplab-{{}}-{'0' * 8}.bin"
    running, dead = old.parent / name.format(os.getppid()), old.parent / name.format(gone)
    other, mine = old.parent / f".other{name[1:].format(gone)}", old.parent / ".weights.bin.minideeplab-notes.bin"
    again = old.parent / name.format(os.getpid())  # of a process whose number was given again: to this one
    for path in (running, dead, again, other, mine):
        path.write_bytes(b"")
    with replace_whole(old, overwrite=True) as first:
        first.write_bytes(b"first")
        with replace_whole(old, overwrite=True) as second:
            second.write_bytes(b"second")
            assert set(old.parent.iterdir()) == {old, running, other, mine, first, second}
    assert old.read_bytes() == b"first"  # what ended last
    os.utime(running, (time.time() - 2 * replacement.DAY,) * 2)
    with replace_whole(old, overwrite=True) as whole:
        whole.write_bytes(b"")
    assert set(old.parent.iterdir()) == {old, other, mine}


def interrupted_pid() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt(), SystemExit(3), ValueError("x")])
def test_whatever_the_body_raises_the_old_file_stays_and_nothing_else(old: Path, error: BaseException) -> None:
    def write() -> None:
        with replace_whole(old, overwrite=True) as whole:
            whole.write_bytes(b"half a fi")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [(path, path.read_bytes()) for path in old.parent.iterdir()] == [(old, b"old")]


@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_leaves_what_was_there_and_is_one_line(tmp_path: Path, exists: bool) -> None:
    resource: Any = pytest.importorskip("resource")
    path = tmp_path / "w.safetensors"
    if exists:
        path.write_bytes(b"old")
    before, limit = list(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"w\.safetensors could not be written: .*File too large"):
            weights.save({"a": torch.zeros(1000)}, path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == before
    assert not exists or path.read_bytes() == b"old"


def test_the_temporary_file_lies_beside_the_target_and_has_its_suffix_whatever_the_name(tmp_path: Path) -> None:
    for name in ("photo.png", "weights", "x" * 250 + ".h5", "\u00fc" * 120 + ".h5", ".hidden", "a b.tar.gz"):
        with replace_whole(tmp_path / name) as whole:
            assert whole.parent == tmp_path
            assert whole.name.endswith(Path(name).suffix)
            assert not whole.exists()
            whole.write_bytes(b"new")
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"new")]
        (tmp_path / name).unlink()


def test_the_new_file_is_on_the_disk_before_it_takes_the_old_one_s_place(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (done.append(name), real(*given))[1])
    with replace_whole(old, overwrite=True) as whole:
        whole.write_text("new")
    assert done == ["fsync", "replace"]


def test_the_permissions_of_the_old_file_are_those_of_the_new_one(old: Path) -> None:
    old.chmod(0o640)
    with replace_whole(old, overwrite=True) as whole:
        whole.write_bytes(b"new")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_what_came_to_be_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "w"

    def write(meanwhile: Callable[[], object], *, overwrite: bool) -> None:
        with replace_whole(path, overwrite=overwrite) as whole:
            whole.write_bytes(b"new")
            meanwhile()

    with pytest.raises(FileExistsError):
        write(lambda: path.write_bytes(b"somebody's"), overwrite=False)
    assert path.read_bytes() == b"somebody's"
    path.unlink()
    with pytest.raises(ValueError, match="a folder"):
        write(path.mkdir, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


def odd_targets(folder: Path) -> dict[str, Path]:
    """Everything that a path may name other than a regular file or nothing."""
    (folder / "precious").write_bytes(b"old")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "precious")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    kinds = {"folder": "a folder", "link": "a link", "dangling": "a link", "loop": "a link", "pipe": "a pipe"}
    return {f"{kind}, no regular file": folder / name for name, kind in kinds.items()}


def test_folders_links_pipes_and_devices_are_refused_before_the_body_runs(tmp_path: Path) -> None:
    for reason, path in odd_targets(tmp_path).items():
        before = path.lstat()
        for overwrite in (False, True):
            with pytest.raises(ValueError, match=reason), replace_whole(path, overwrite=overwrite):
                pytest.fail("the body ran")
        assert path.lstat() == before
    with pytest.raises(ValueError, match="a folder"):
        check_target(".", overwrite=True)
    assert (tmp_path / "precious").read_bytes() == b"old"


def test_a_socket_and_a_device_are_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(ValueError, match="a socket, no regular file"):
            check_target("socket", overwrite=True)
    try:
        os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    with pytest.raises(ValueError, match="a device, no regular file"):
        check_target("device", overwrite=True)
    assert stat.S_ISCHR(Path("device").lstat().st_mode)


def test_an_existing_file_a_missing_folder_and_the_input_itself_are_refused_before_the_work(old: Path) -> None:
    with pytest.raises(FileExistsError, match=r"weights\.bin exists already: choose another name"):
        check_target(old)
    check_target(old, overwrite=True)
    for missing in (old.parent / "no" / "w", old / "w"):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            check_target(missing, overwrite=True)
    twin = old.parent / "twin"
    twin.hardlink_to(old)
    for source in (old, str(old), old.parent / "." / "weights.bin", twin):
        with pytest.raises(ValueError, match=r"weights\.bin is what is read: name another"):
            check_target(old, overwrite=True, inputs=["absent", source])
    assert old.read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no permission to write in"):
        check_target(tmp_path / "w")
    tmp_path.chmod(0o700)


def test_a_folder_is_asked_for_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError, match="no permission to write in"):
        check_target(tmp_path / "w")
