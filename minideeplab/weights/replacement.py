"""Files that are replaced whole or not at all: a temporary file beside the old one, then one `os.replace`."""

import os
import re
import secrets
import signal
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LITTER = re.compile(r"\.(?P<name>.+)\.minideeplab-(?P<process>\d+)-[0-9a-f]{8}(\.[^.]*)?")  # what an unfinished file is called
LONGEST = 40  # letters of a name that are kept in it: a name has 255 bytes, a letter up to four
DAY = 24 * 60 * 60.0
unfinished: set[str] = set()  # of this process


def check_target(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """Raise unless a file can be written at `path`: for a command to ask before its work starts.

    FileExistsError if it exists and may not be overwritten; ValueError if it is a folder, a device, a pipe, a socket, a link
    (it would be replaced, not what it points to) or one of `inputs`; another OSError if the folder is missing or closed.
    """
    path = Path(path)
    for source in inputs:
        with suppress(OSError):  # one of them does not exist
            if os.path.samefile(path, source):
                raise ValueError(f"{path} is what is read: name another file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            raise ValueError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, no regular file: name another to write")
        if not overwrite:
            raise FileExistsError(f"{path} exists already: choose another name, or pass overwrite=True")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: no permission to write in {path.parent}")


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
    whole = path.with_name(f".{path.name[:LONGEST]}.minideeplab-{os.getpid()}-{secrets.token_hex(4)}{path.suffix[:12]}")
    unfinished.add(whole.name)
    with termination_raises():
        try:
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
        if match and match["name"] == path.name[:LONGEST] and entry.name not in unfinished:
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
