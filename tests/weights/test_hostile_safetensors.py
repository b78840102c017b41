"""Safetensors files that claim what they do not hold: one clean line each, before anything of that size is allocated."""

import json
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from weight_files import refused, within_limits

from minideeplab import Xception, weights
from minideeplab.weights.storage import describe

READERS: list[Callable[[Any], object]] = [weights.read, describe]


def entry(begin: int = 0, end: int = 8, shape: Any = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def write(path: Path, header: Any, data: bytes = bytes(8), *, length: int | None = None) -> Path:
    """A safetensors file by hand: the length of its header, the header, and the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_by_hand_is_as_safetensors_reads_it(tmp_path: Path) -> None:
    header = {"__metadata__": {"a": "b"}, "x": entry(), "y": entry(8, 16, (1, 1), "F64"), "z": entry(16, 24, (), "I64")}
    path = write(tmp_path / "w", header, bytes(24))
    claimed, state = describe(path), weights.read(path)
    assert claimed.about == state.about == {"a": "b"}
    assert {name: (value.shape, value.dtype) for name, value in claimed.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    assert all(value.is_meta for value in claimed.values())
    assert [tuple(value.shape) for value in state.values()] == [(2,), (1, 1), ()]


HEADERS: dict[str, tuple[Any, str]] = {
    "offsets that are negative": ({"x": entry(-8, 0)}, r"x claims the shape \[2\] at \[-8, 0\]"),
    "offsets that run backwards": ({"x": entry(8, 0)}, "claims the shape"),
    "offsets beyond the end": ({"x": entry(0, 16, (4,))}, "arrays end at byte"),
    "arrays that overlap": ({"x": entry(), "y": entry(4, 12)}, "begins at byte 4, where another ends at 8"),
    "arrays with a gap between them": ({"x": entry(0, 4, (1,)), "y": entry(6, 8, (1,), "F16")}, "begins at byte 6"),
    "bytes that no array claims": ({"x": entry(0, 4, (1,))}, "arrays end at byte"),
    "a shape larger than its bytes": ({"x": entry(shape=(2**28,))}, "x claims the shape .* bytes, and has 8"),
    "a shape of four exbibytes": ({"x": entry(shape=(2**60,))}, "x claims the shape"),
    "a shape of a million axes": ({"x": entry(shape=[2] + [1] * 1_000_000)}, "x claims the shape"),
    "a shape of no bytes and endless axes": ({"x": entry(0, 0, (2**62, 0)), "y": entry()}, "x claims the shape"),
    "a negative shape": ({"x": entry(shape=(-1, -2))}, "x claims the shape"),
    "a shape that is no list of numbers": ({"x": entry(shape=("2",))}, "x claims the shape"),
    "a type that torch does not have": ({"x": entry(dtype="F3\x1b[31m")}, r"x is of type F3\?\[31m, expected"),
    "a type that is no text": ({"x": entry() | {"dtype": []}}, "is no complete safetensors file"),
    "an entry without a shape": ({"x": {"dtype": "F32"}}, "is no complete safetensors file"),
    "a header that is a list": ([entry()], "is no complete safetensors file"),
    "a header that is no JSON": (b"{" * 8, "is no complete safetensors file"),
    "a header that is no text": (b"\xff" * 8, "is no complete safetensors file"),
    "metadata that is no text": ({"__metadata__": {"a": [1]}, "x": entry()}, "other than texts"),
    "a name that comes twice": (b'{"x": %b, "x": %b}' % ((json.dumps(entry()).encode(),) * 2), "a name comes twice"),
    "brackets a hundred thousand deep": (b"[" * 100_000, "RecursionError"),
    "a number of a million digits": (b'{"x": %b}' % (b"1" * 1_000_000), "is no complete safetensors file"),
    "more arrays than any network": ({str(k): entry(0, 0, (0,)) for k in range(30_000)} | {"x": entry()}, "more than 20,000"),
    "a name with control characters": ({"x\x1b]0;title\x07\n": entry(shape=(3,))}, r"x\?\]0;title\?\? claims"),
    "a name of a megabyte": ({"x" * 2**20: entry(shape=(3,))}, r"x \.\.\. claims"),
}


@pytest.mark.parametrize("claim", HEADERS)
def test_no_header_is_believed(tmp_path: Path, claim: str) -> None:
    header, reason = HEADERS[claim]
    path = write(tmp_path / "w.safetensors", header)
    for reader in READERS:
        refused(reader, path, reason)


@pytest.mark.parametrize("length", [2**62, 2**64 - 1, 2**63, 1000, 101 * 10**6])
def test_a_header_larger_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "w.safetensors", {"x": entry()}, length=length)
    for reader in READERS:
        refused(reader, path, f"its header claims {length:,} bytes, the file has")


def test_a_header_of_more_than_eight_megabytes_is_refused_though_the_file_has_it(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"x": entry()}, length=9 * 2**20)
    os.truncate(path, 2**24)
    for reader in READERS:
        refused(reader, path, "its header claims 9,437,184 bytes")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "w", {"x": entry()}).read_bytes()
    path = tmp_path / "half.safetensors"
    for length in (0, 7, 8, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        for reader in READERS:
            refused(reader, path, "is no complete safetensors file")


def test_a_hole_of_a_terabyte_is_no_network(tmp_path: Path) -> None:
    size = 2**40
    path = write(tmp_path / "w.safetensors", {"x": entry(0, size, (size // 4,))}, b"")
    os.truncate(path, path.stat().st_size + size)  # takes no space on the disk
    for reader in READERS:
        refused(reader, path, "bytes: no network here needs more|claims the shape")
    path.write_bytes(b"")
    shapes = {f"x{k}": entry(k * 2**28, (k + 1) * 2**28, (2**26,)) for k in range(4)}
    write(path, shapes, b"")
    os.truncate(path, path.stat().st_size + 2**30)  # each of them is small enough, all together are not
    for reader in READERS:
        refused(reader, path, r"claims 1,073,7\d\d,\d\d\d bytes: no network here needs more than 805,306,368")


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    with within_limits(), pytest.raises(ValueError, match="bytes: no network here needs more"):
        weights.save({"x": torch.empty(2**28, device="meta")}, tmp_path / "w")
    with pytest.raises(ValueError, match="w: x is on the meta device and has no numbers"):
        weights.save({"x": torch.empty(2, device="meta")}, tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, reason in (
        ("pipe", "is a pipe, no regular"),
        ("link", "is a pipe, no regular"),
        (".", "is a folder, no regular"),
    ):
        for reader in (*READERS, weights.from_keras):
            refused(reader, tmp_path / name, reason)
    (tmp_path / "pipe.npz").symlink_to(tmp_path / "pipe")
    refused(weights.read_tensorflow, tmp_path / "pipe.npz", "is a pipe, no regular")
    for reader in READERS:
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / "absent")


def test_a_device_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "device"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    for reader in READERS:
        refused(reader, path, "is a device or a socket, no regular file")


# A network is built on the meta device, compared with a description, and only then filled


def test_a_description_is_compared_with_a_network_before_anything_is_read(tmp_path: Path) -> None:
    size = 700 * 2**20  # more than may be claimed for the wrong layer, and nothing is allocated
    with torch.device("meta"):
        net = Xception(num_classes=3)
    path = write(tmp_path / "w", {"classify.weight": entry(0, size, (size // 8192, 2048))}, b"")
    os.truncate(path, path.stat().st_size + size)
    with within_limits():
        wrong = weights.misfits(net, describe(path))
    assert len(wrong) == len([name for name in net.state_dict() if not name.endswith("num_batches_tracked")])
    assert "shape    classify.weight is (89600, 2048), Xception needs (3, 2048)" in wrong
    assert "missing  classify.bias (3,)" in wrong


def test_a_description_of_the_right_file_fits(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    weights.save(net.state_dict(), tmp_path / "w")
    with torch.device("meta"):
        twin = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    assert weights.misfits(twin, describe(tmp_path / "w")) == []
    assert weights.misfits(twin, weights.read(tmp_path / "w")) == []


def test_nothing_is_loaded_from_or_into_the_meta_device(tmp_path: Path) -> None:
    net = nn.Conv2d(1, 2, 1)
    before, state = {name: value.clone() for name, value in net.state_dict().items()}, net.state_dict()
    for source, target in ((nn.Conv2d(1, 2, 1, device="meta").state_dict(), net), (state, nn.Conv2d(1, 2, 1, device="meta"))):
        with pytest.raises(ValueError, match="nothing was loaded: the meta device has no numbers, build Conv2d on another"):
            weights.load(target, source)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_reader_that_takes_its_time_or_memory_would_be_noticed():
    with pytest.raises(AssertionError), within_limits(seconds=0.05):
        sum(range(10_000_000))
    with pytest.raises((RuntimeError, MemoryError)), within_limits(memory=2**26):
        torch.empty(2**28)
