"""What a file from elsewhere may claim: bounds that are asked before anything is allocated, and errors of one clean line.

A file of five megabytes can claim an array of a terabyte, name a device, or carry escape sequences for a terminal in the name
of a layer. What reads files here asks first, and says no with the file's name and a `ValueError`.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST_NETWORK = 768 * 2**20  # bytes: DeepLabV3 on ResNet-101 as float32, its momentum and its moving averages are 708 MB
LARGEST_TEXT = 8 * 2**20  # bytes of a header or a configuration; a network of 1,500 arrays needs 0.2 MB
MOST_ARRAYS = 20_000  # names in a file; ResNet-101 with momentum and averages has 1,700


def plain(text: object, most: int = 150) -> str:
    """Foreign text fit for one line of an error message: shortened, without control characters.

    >>> plain("conv\\x1b[31m\\nweight")
    'conv?[31m?weight'
    """
    head = str(text)[: most + 1]
    clean = "".join(letter if letter.isprintable() else "?" for letter in head)
    return clean if len(head) <= most else f"{clean[:most]} ..."


def check_regular(path: Path) -> None:
    """Raise unless `path` is a regular file (or a link to one): opening a pipe would wait, a device never ends."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ValueError(f"{path} is {kind}, no regular file")


def check_bytes(claimed: int, what: str) -> None:
    """Raise if arrays of so many bytes are more than any network of this library needs."""
    if not 0 <= claimed <= LARGEST_NETWORK:
        raise ValueError(f"{plain(what)} claims {claimed:,} bytes: no network here needs more than {LARGEST_NETWORK:,}")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a damaged file makes its reader raise becomes one ValueError that names it. A missing file stays one."""
    check_regular(path)
    try:
        yield
    except Exception as error:  # zipfile, json, numpy and h5py raise a dozen kinds, from RecursionError to zlib.error
        reason = f"{type(error).__name__} {error}" if isinstance(error, LookupError | RecursionError) else str(error)
        raise ValueError(f"{path} is no complete {kind}: {plain(reason or type(error).__name__, 400)}") from error
