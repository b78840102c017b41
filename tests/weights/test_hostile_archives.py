"""`.npz` and `.keras` archives that unpack to more than they should, or to something else: one clean line each."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weight_files import GOLDEN, Trap, keras_layers, refused, small_checkpoint, within_limits, write_keras, write_weights_h5

from minideeplab import DeepLabV3, resnet101, weights
from minideeplab.weights import archive, file_limits


def npy(array: np.ndarray, *, version: tuple[int, int] = (1, 0), **claims: Any) -> bytes:
    """An array as numpy writes it; `claims` take the place of what its header says."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | claims
    stream = io.BytesIO()
    if version == (1, 0):
        np.lib.format.write_array_header_1_0(stream, header)
    else:
        np.lib.format.write_array_header_2_0(stream, header)
    return stream.getvalue() + array.tobytes()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def with_claimed_sizes(path: Path, size: int) -> Path:
    """The archive, whose members claim to unpack to `size` bytes, in both places where they say so."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        position = data.find(mark)
        while position >= 0:
            data[position + offset : position + offset + 4] = struct.pack("<I", size)
            position = data.find(mark, position + 4)
    path.write_bytes(data)
    return path


def bomb(path: Path, name: str) -> Path:
    """A quarter of a megabyte that unpacks to a quarter of a gigabyte of zeros."""
    array = npy(np.zeros(0, np.float32), shape=((100_000 - 128) // 4,)) if name.endswith(".npy") else b""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open(name, "w") as out:
            out.write(array)
            for _ in range(16):
                out.write(bytes(2**24))
        file.writestr("config.json", "{}".ljust(100_000))  # this one will not lie
    assert path.stat().st_size < 2**21
    return path


BOMBS = [("w.npz", "x.npy", weights.read_tensorflow), ("w.keras", "model.weights.h5", weights.from_keras)]


@pytest.mark.parametrize(("name", "member", "reader"), BOMBS)
def test_an_archive_that_claims_more_than_a_network_needs_is_refused_before_it_is_unpacked(
    tmp_path: Path, name: str, member: str, reader: Callable[[Any], object]
) -> None:
    path = with_claimed_sizes(zipped(tmp_path / name, {member: npy(np.zeros(2, np.float32))}), 2**32 - 2)
    refused(reader, path, "the archive claims 4,294,967,294 bytes: no network here needs more", memory=2**24)


@pytest.mark.parametrize(("name", "member", "reader"), BOMBS)
def test_a_bomb_that_lies_about_its_size_is_not_unpacked_further_than_it_claims(
    tmp_path: Path, name: str, member: str, reader: Callable[[Any], object]
) -> None:
    path = with_claimed_sizes(bomb(tmp_path / name, member), 100_000)
    refused(reader, path, "Bad CRC-32", memory=2**26)  # not "MemoryError"


def test_a_member_that_claims_more_or_less_than_it_has_is_refused(tmp_path: Path) -> None:
    for size in (10, 100, 135, 137, 100_000, 2**29):
        path = zipped(tmp_path / "w.npz", {"x.npy": npy(np.zeros(2, np.float32))})
        refused(weights.read_tensorflow, with_claimed_sizes(path, size), "is no complete .npz of plain arrays")


ARRAYS: dict[str, tuple[bytes, str]] = {
    "of a terabyte": (npy(np.zeros(2, np.float32), shape=(2**38,)), "x.npy claims 1,099,511,627,776 bytes"),
    "of more than its member": (npy(np.zeros(2, np.float32), shape=(2**20,)), r"x.npy claims the shape \(1048576,\)"),
    "of less than its member": (npy(np.zeros(2, np.float32), shape=(1,)), r"x.npy claims the shape \(1,\)"),
    "of a negative shape": (npy(np.zeros(2, np.float32), shape=(-1, -2)), r"x.npy claims the shape \(-1, -2\)"),
    "of objects": (npy(np.zeros(1, np.float64), descr="|O"), "x.npy holds object, no numbers"),
    "of texts": (npy(np.zeros(1, np.float64), descr="<U2"), "x.npy holds <U2, no numbers"),
    "of records": (npy(np.zeros(1, np.float64), descr=[("a", "<f4"), ("b", "<f4")]), "no numbers"),
    "of dates": (npy(np.zeros(1, np.float64), descr="<M8[s]"), "no numbers"),
    "of records within records": (npy(np.zeros(1), descr=[("a", [("b", "<f8")])]), "no numbers"),
    "of another version": (npy(np.zeros(2, np.float32), version=(2, 0)), "x.npy is no plain array"),
    "that is a pickle": (pickle.dumps(Trap()), "is no complete .npz"),
    "whose header is code": (npy(np.zeros(2)).replace(b"False", b"exit("), "is no complete .npz"),
    "of nothing": (b"", "is no complete .npz"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_no_array_is_believed(tmp_path: Path, kind: str) -> None:
    content, reason = ARRAYS[kind]
    refused(weights.read_tensorflow, zipped(tmp_path / "w.npz", {"x.npy": content}), reason)


def test_arrays_by_hand_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    columns = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))
    arrays = {"a": np.float16(3), "b": columns, "c/d": np.zeros((0, 2), np.float32), "e": np.arange(3, dtype=">f4")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "w.npz", **arrays)
        read = weights.read_tensorflow(tmp_path / "w.npz")
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == np.asarray(array).dtype


def test_members_that_are_encrypted_or_come_twice_or_are_no_arrays_are_refused(tmp_path: Path) -> None:
    plain = zipped(tmp_path / "w.npz", {"x.npy": npy(np.zeros(2, np.float32))}).read_bytes()
    data = bytearray(plain)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + offset] |= 1  # the flag of an encrypted member
    (tmp_path / "locked.npz").write_bytes(data)
    (tmp_path / "locked.keras").write_bytes(data)
    refused(weights.read_tensorflow, tmp_path / "locked.npz", "x.npy is encrypted")
    refused(weights.from_keras, tmp_path / "locked.keras", "x.npy is encrypted")
    zipped(tmp_path / "twice.npz", {"x.npy": npy(np.zeros(2)), "y.npy": npy(np.zeros(2))})
    (tmp_path / "twice.npz").write_bytes((tmp_path / "twice.npz").read_bytes().replace(b"y.npy", b"x.npy"))
    refused(weights.read_tensorflow, tmp_path / "twice.npz", "2 members of 1 different names")
    refused(weights.read_tensorflow, zipped(tmp_path / "other.npz", {"x\x1b[2J.txt": b"x"}), r"x\?\[2J.txt is no array")


def test_an_archive_without_a_network_is_not_translated(tmp_path: Path) -> None:
    refused(weights.read_tensorflow, zipped(tmp_path / "empty.npz", {}), "there is no array in it")
    for arrays in ({}, {"global_step": np.int64(1)}, {"logits/semantic/biases/Momentum": np.zeros(21, np.float32)}):
        with pytest.raises(ValueError, match="no array of a network is in it"):
            weights.from_tensorflow(arrays)
    with pytest.raises(ValueError, match="no array of a network is in it"):
        weights.from_timm({})
    with pytest.raises(ValueError, match="no array of a network is in it"):
        weights.from_torchvision({"AuxLogits.fc.bias": next(iter(weights.from_tensorflow(small_checkpoint()).values()))})


def test_an_endless_list_of_members_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "w.npz", {f"{k}.npy": npy(np.zeros(1)) for k in range(50)})
    monkeypatch.setattr(archive, "LARGEST_TEXT", 1000)
    monkeypatch.setattr(zipfile, "ZipFile", pytest.fail)
    refused(weights.read_tensorflow, path, r"its list of members has \d,\d\d\d bytes .* larger than any network")


def test_a_last_record_that_hides_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "w.npz", {"x.npy": npy(np.zeros(1))})
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 16 : end + 20] = b"PK\x05\x06"  # in its field "where the list begins"
    path.write_bytes(data)
    monkeypatch.setattr(zipfile, "ZipFile", pytest.fail)
    refused(weights.read_tensorflow, path, "it is no whole zip archive")


def test_more_members_than_any_network_has_arrays_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "w.npz", {f"{k}.npy": npy(np.zeros(1)) for k in range(50)})
    monkeypatch.setattr(archive, "MOST_ARRAYS", 49)
    refused(weights.read_tensorflow, path, "it has 50 members")


def test_an_archive_beyond_four_gigabytes_is_refused_by_its_last_record(tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.npz", {"x.npy": npy(np.zeros(2, np.float32))})
    data = path.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    path.write_bytes(data[:end] + b"PK\x06\x07" + bytes(16) + data[end:])
    refused(weights.read_tensorflow, path, "larger than any network")


CONFIGS: dict[str, tuple[bytes, str]] = {
    "brackets a hundred thousand deep": (b"[" * 100_000, "RecursionError"),
    "nine megabytes": (b" " * 9 * 2**20, "config.json claims 9,437,184 bytes, expected at most 8,388,608"),
    "a list": (b"[]", "is no complete Keras file"),
    "no layers": (b'{"config": {}}', "KeyError 'layers'"),
    "layers that are numbers": (b'{"config": {"layers": [1, 2]}}', "is no complete Keras file"),
    "a layer without a class": (b'{"config": {"layers": [{"config": {}}]}}', "KeyError 'class_name'"),
    "a class that is no text": (b'{"config": {"layers": [{"class_name": 3, "config": {}}]}}', "is no complete Keras file"),
    "a layer of another file": (
        b'{"config": {"layers": [{"class_name": "../../x", "config": {"name": "x"}}]}}',
        "0 kernels under Keras's names",
    ),
}


@pytest.fixture(scope="module")
def keras() -> Any:
    return np.load(GOLDEN / "keras_xception.npz")


def test_the_configuration_of_an_honest_file_is_read(keras: Any, tmp_path: Path) -> None:
    write_keras(tmp_path / "w.keras", keras_layers(keras, tiny=True), keras)
    with within_limits():
        assert len(weights.from_keras(tmp_path / "w.keras")) == 236


def test_a_model_shorter_than_it_claims_is_not_filled_up_with_zeros(keras: Any, tmp_path: Path) -> None:
    write_keras(tmp_path / "w.keras", keras_layers(keras, tiny=True), keras)
    with zipfile.ZipFile(tmp_path / "w.keras") as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    path = zipped(tmp_path / "alone.keras", {"model.weights.h5": members["model.weights.h5"]})
    with_claimed_sizes(path, len(members["model.weights.h5"]) + 8)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", members["config.json"])
    refused(weights.from_keras, path, r"model\.weights\.h5 does not have the [\d,]+ bytes it claims")


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_configuration_is_believed(keras: Any, tmp_path: Path, kind: str) -> None:
    content, reason = CONFIGS[kind]
    write_weights_h5(tmp_path / "w.h5", keras_layers(keras, tiny=True), dict(json.loads(str(keras["groups"]))), named=False)
    path = zipped(tmp_path / "w.keras", {"config.json": content, "model.weights.h5": (tmp_path / "w.h5").read_bytes()})
    refused(weights.from_keras, path, reason)


def test_models_nested_a_thousand_deep_are_refused(keras: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file
        for _ in range(900):
            group = group.create_group("layers/functional")
    model = b'{"class_name": "Functional", "config": {"layers": [' * 900 + b"]}}" * 900
    path = zipped(tmp_path / "w.keras", {"config.json": model, "model.weights.h5": stream.getvalue()})
    refused(weights.from_keras, path, r"w\.keras is no complete Keras file.*RecursionError")


def test_the_bounds_leave_room_for_the_largest_network_of_the_library() -> None:
    net = DeepLabV3(resnet101(output_stride=16).to("meta"), 21, separable=False).to("meta")
    size = sum(value.nbytes for value in net.state_dict().values())
    assert 3 * size < file_limits.LARGEST_NETWORK < 4 * size  # with momentum and moving averages
    assert 3 * len(net.state_dict()) < file_limits.MOST_ARRAYS
