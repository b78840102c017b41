"""Zip archives (`.npz`, `.keras`) read with their claims checked: number and size of members, names, encryption."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minideeplab.weights.file_limits import LARGEST_NETWORK, LARGEST_TEXT, MOST_ARRAYS, check_bytes, plain, reading

CHUNK = 2**20
END = b"PK\x05\x06"  # begins the last record, which says how long the list of members is
LARGE_END = b"PK\x06\x07"  # precedes it where that record's numbers do not suffice, that is beyond 4 GiB


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, after every member's claims were checked."""
    with path.open("rb") as file:
        check_list_of_members(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            if len(names) != len(members) or len(members) > MOST_ARRAYS:
                raise ValueError(f"it has {len(members)} members of {len(names)} different names")
            for member in members:
                if member.flag_bits & 1:
                    raise ValueError(f"{plain(member.filename)} is encrypted")
            check_bytes(sum(member.file_size for member in members), "the archive")
            yield archive


def check_list_of_members(file: Any) -> None:
    """Raise if the list of members, which zipfile reads whole, is longer than any that a network needs."""
    length = file.seek(0, 2)
    file.seek(max(0, length - 2**16 - 22))
    tail = file.read()
    end = tail.rfind(END)
    if end < 0 or end + 22 > len(tail):
        raise ValueError("it is no whole zip archive")
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if listed > LARGEST_TEXT or tail[max(0, end - 20) :].startswith(LARGE_END):
        raise ValueError(f"its list of members has {listed:,} bytes or more than that format can say: larger than any network")


def content(archive: zipfile.ZipFile, name: str, most: int = LARGEST_NETWORK) -> bytearray:
    """A whole member: as many bytes as it claims, no more whatever it unpacks to, and no fewer."""
    claimed = archive.getinfo(name).file_size
    if claimed > most:
        raise ValueError(f"{plain(name)} claims {claimed:,} bytes, expected at most {most:,}")
    with archive.open(name) as member:
        return exactly(member, claimed, name)


def exactly(member: Any, count: int, name: str) -> bytearray:
    """The last `count` bytes of a member, read piece by piece; `read()` alone would unpack all that is there first."""
    data, position = bytearray(count), 0
    while piece := member.read(CHUNK):
        data[position : position + len(piece)] = piece
        position += len(piece)
    if position != count:
        raise ValueError(f"{plain(name)} does not have the {count:,} bytes it claims")
    return data


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """numpy's `.npz` of plain numbers, {name: array}. Nothing is unpickled, and no array is larger than its member."""
    arrays: dict[str, NDArray[Any]] = {}
    with reading(path, ".npz of plain arrays"), opened(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                raise ValueError(f"{plain(info.filename)} is no array")
            with archive.open(info) as member:
                if np.lib.format.read_magic(member) != (1, 0):
                    raise ValueError(f"{plain(info.filename)} is no plain array")
                shape, columns_first, dtype = np.lib.format.read_array_header_1_0(member)
                if dtype.kind not in "fiubc":
                    raise ValueError(f"{plain(info.filename)} holds {plain(dtype)}, no numbers")
                claimed = prod(shape) * dtype.itemsize
                check_bytes(claimed, info.filename)
                if min(shape, default=1) < 0 or member.tell() + claimed != info.file_size:
                    raise ValueError(f"{plain(info.filename)} claims the shape {plain(shape)} in {info.file_size:,} bytes")
                flat = np.frombuffer(exactly(member, claimed, info.filename), dtype)
            arrays[info.filename.removesuffix(".npy")] = flat.reshape(shape, order="F" if columns_first else "C")
        if not arrays:
            raise ValueError("there is no array in it")
    return arrays
