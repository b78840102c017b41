"""State dicts: compared with a network before they are loaded, and kept as safetensors, whole or not at all."""

import importlib
import os
import re
import secrets
import signal
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn


class State(dict[str, Tensor]):
    """A state dict that says what it is: `ignored` lists arrays of the source that no network needs, `about` describes it."""

    def __init__(
        self, arrays: Mapping[str, Tensor], *, ignored: Iterable[str] = (), about: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(arrays)
        self.ignored, self.about = sorted(ignored), dict(about or {})


def misfits(net: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """One line for every array of `state` that does not fit `net`, and for every one it lacks; empty if all is well.

    Batch norm's `num_batches_tracked`, which only training without momentum reads and other frameworks do not know, may
    be missing.
    """
    own, kind, wrong = net.state_dict(), type(net).__name__, []
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    wrong += [f"missing  {name} {tuple(own[name].shape)}" for name in missing]
    wrong += [f"extra    {name} {tuple(value.shape)}" for name, value in state.items() if name not in own]
    for name in own.keys() & state.keys():
        ours, theirs = own[name], state[name]
        if ours.shape != theirs.shape:
            wrong.append(f"shape    {name} is {tuple(theirs.shape)}, {kind} needs {tuple(ours.shape)}")
        elif ours.is_floating_point() != theirs.is_floating_point():
            wrong.append(f"kind     {name} is {theirs.dtype}, {kind} needs {ours.dtype}")
        elif not theirs.isfinite().all():
            wrong.append(f"numbers  {name} holds NaN or infinity")
    return sorted(wrong)


def load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare every name, shape and number first; then load, or raise one ValueError that lists all that is wrong.

    A failed load leaves `net` untouched (`load_state_dict` alone does not).
    """
    if wrong := misfits(net, state):
        raise ValueError("\n  ".join([f"{len(wrong)} arrays do not fit {type(net).__name__}, nothing was loaded:", *wrong]))
    net.load_state_dict(net.state_dict() | dict(state))


LITTER = re.compile(r"\.(?P<name>.+)\.minideeplab-(?P<process>\d+)-[0-9a-f]{8}(\.[^.]*)?")  # what an unfinished file is called
DAY = 24 * 60 * 60.0
unfinished: set[str] = set()  # of this process


def check_target(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """Raise unless a file can be written at `path`: for a command to ask before its work starts.

    FileExistsError if it exists and may not be overwritten; ValueError if it is a folder, a device, a pipe, a socket, a link
    (it would be replaced, not what it points to) or one of `inputs`; another OSError if the folder is missing or closed.
    """
    path = Path(path)
    for source in inputs:
        with suppress(FileNotFoundError):
            if os.path.samefile(path, source):
                raise ValueError(f"{path} is what is read: name another file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: no permission to write in {path.parent}")
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            raise ValueError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, no regular file: name another to write")
        if not overwrite:
            raise FileExistsError(f"{path} exists already: choose another name, or pass overwrite=True")


@contextmanager
def replace_whole(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, for the body to write; at the end it takes the place of `path`.

    So `path` holds the old file or the whole new one, whatever happens. If the body raises (a full disk, Ctrl-C, SIGTERM)
    the temporary file is removed. SIGKILL leaves it; the next call for the same `path` removes it.
    The target is checked before the body runs (`check_target`) and once more at the end.
    """
    path, inputs = Path(path), tuple(inputs)
    check_target(path, overwrite=overwrite, inputs=inputs)
    remove_litter(path)
    whole = path.with_name(f".{path.name[:60]}.minideeplab-{os.getpid()}-{secrets.token_hex(4)}{path.suffix[:20]}")
    unfinished.add(whole.name)
    try:
        with termination_raises():
            yield whole
            check_target(path, overwrite=overwrite, inputs=inputs)
            with whole.open("rb+") as file:
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                whole.chmod(stat.S_IMODE(path.stat().st_mode))
            os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)
        unfinished.discard(whole.name)


def remove_litter(path: Path) -> None:
    """Remove what a killed process left when it was writing `path`: its process is gone, or a day has passed."""
    for entry in path.parent.iterdir():
        match = LITTER.fullmatch(entry.name)
        if match and match["name"] == path.name[:60] and entry.name not in unfinished:
            with suppress(OSError):
                if not is_running(int(match["process"])) or time.time() - entry.lstat().st_mtime > DAY:
                    entry.unlink()


def is_running(process: int) -> bool:
    """Whether another process has this number."""
    if process == os.getpid():
        return False  # a number that was given again: the files of this process are known
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


@contextmanager
def termination_raises() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit, as SIGINT raises KeyboardInterrupt, unless somebody already handles them."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        for number in ours:
            signal.signal(number, leave)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def save(
    state: Mapping[str, Tensor], path: str | Path, *, about: Mapping[str, str] | None = None, overwrite: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all; `about` is its header. An existing file stays, unless `overwrite`."""
    safetensors, torch_format = needs("safetensors"), needs("safetensors.torch")
    with replace_whole(path, overwrite=overwrite) as whole:
        try:
            arrays = {name: value.contiguous() for name, value in state.items()}
            torch_format.save_file(arrays, whole, metadata=dict(about or {}))
        except safetensors.SafetensorError as error:  # it does not say which file
            raise OSError(f"{path} could not be written: {error}") from error


def read(path: str | Path) -> State:
    """A state dict from a safetensors file, ours or anyone's; `.about` is its header."""
    safetensors = needs("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return State({name: file.get_tensor(name) for name in file.keys()}, about=file.metadata())
    except FileNotFoundError:
        raise
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no complete safetensors file: {error}") from error


def needs(module: str) -> Any:
    """An optional dependency, or the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'minideeplab[weights]'") from error
