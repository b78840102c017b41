"""HDF5 files that point elsewhere, at themselves, or at more than they hold: one clean line, and no other file is opened."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weight_files import GOLDEN, keras_layers, refused, within_limits, write_h5, write_weights_h5

from minideeplab import weights

h5py: Any = pytest.importorskip("h5py")

LAYER, ARRAY = "block14_sepconv2_bn", "block14_sepconv2_bn/0-gamma"


@pytest.fixture(scope="module")
def layers() -> dict[str, dict[str, np.ndarray]]:
    with np.load(GOLDEN / "keras_xception.npz") as golden:
        return keras_layers(golden, tiny=True)


@pytest.fixture
def path(tmp_path: Path, layers: dict[str, dict[str, np.ndarray]]) -> Path:
    """An honest file; each test puts something else in the place of one array."""
    write_h5(tmp_path / "w.h5", layers)
    return tmp_path / "w.h5"


def test_the_honest_file_is_read(path: Path) -> None:
    with within_limits():
        assert len(weights.from_keras(path)) == 236


def exists_elsewhere(folder: Path) -> Path:
    """Another file with numbers in it, which nobody may read."""
    secret = folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full(1, 7, np.float32)
    return secret


def external_link(group: Any, name: str, folder: Path) -> None:
    group[name] = h5py.ExternalLink(str(exists_elsewhere(folder)), "/x")


def soft_link(group: Any, name: str, folder: Path) -> None:
    group["aside"] = np.ones(1, np.float32)
    group[name] = h5py.SoftLink(f"{group.name}/aside")


def soft_loop(group: Any, name: str, folder: Path) -> None:
    group[name] = h5py.SoftLink(f"{group.name}/{name}")


def external_storage(group: Any, name: str, folder: Path) -> None:
    secret = exists_elsewhere(folder)
    group.create_dataset(name, (1,), np.float32, external=[(str(secret), 0, 4)])


def virtual(group: Any, name: str, folder: Path) -> None:
    layout = h5py.VirtualLayout((1,), np.float32)
    layout[0] = h5py.VirtualSource(str(exists_elsewhere(folder)), "x", (1,))[0]
    group.create_virtual_dataset(name, layout)


def never_written(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, (2**26,), np.float32)


def of_a_terabyte(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, (2**38,), np.float32)


def of_an_endless_shape(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, (2**62, 2**2), np.int8, chunks=(1, 1))


def compressed(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, data=np.zeros(2**24, np.float32), compression="gzip", chunks=(2**24,))


def in_chunks(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, data=np.ones(4, np.float32), chunks=(4,))  # what is stored may unpack to anything


def in_a_giant_chunk(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, (1,), np.float32, maxshape=(None,), chunks=(2**29,))


def of_texts(group: Any, name: str, folder: Path) -> None:
    group.create_dataset(name, data=["a"], dtype=h5py.string_dtype())


def of_complex_numbers(group: Any, name: str, folder: Path) -> None:
    group[name] = np.ones(1, np.complex64)


def of_integers(group: Any, name: str, folder: Path) -> None:
    group[name] = np.ones(1, np.int64)


def a_group(group: Any, name: str, folder: Path) -> None:
    group.create_group(name)


def nothing(group: Any, name: str, folder: Path) -> None:
    pass


def a_type(group: Any, name: str, folder: Path) -> None:
    group[name] = np.dtype("f4")


def without_values(group: Any, name: str, folder: Path) -> None:
    group[name] = h5py.Empty("f4")


INSTEAD: dict[Callable[[Any, str, Path], None], str] = {
    external_link: "0-gamma is a link to elsewhere",
    soft_link: "0-gamma is a link to elsewhere",
    soft_loop: "0-gamma is a link to elsewhere",
    external_storage: "0-gamma are in another file",
    virtual: "0-gamma are in another file",
    never_written: "0-gamma is in chunks, compressed or not written",
    of_a_terabyte: "0-gamma or what precedes it claims 1,099,511",
    of_an_endless_shape: "0-gamma or what precedes it claims|is no complete Keras file",
    compressed: "0-gamma is in chunks, compressed or not written: Keras stores 67,108,864 bytes plainly",
    in_chunks: "0-gamma is in chunks, compressed or not written",
    in_a_giant_chunk: "0-gamma is in chunks, compressed or not written",
    of_texts: "0-gamma is no array of real numbers",
    of_complex_numbers: "0-gamma is no array of real numbers",
    of_integers: f"{LAYER} should hold floating-point numbers, it is int64",
    a_group: "0-gamma is no array of real numbers",
    nothing: "0-gamma is missing",
    a_type: "0-gamma is no array of real numbers",
    without_values: "is no complete Keras file",
}


@pytest.mark.parametrize("instead", INSTEAD, ids=lambda function: function.__name__)
def test_an_array_is_read_only_where_it_lies_plainly_in_the_file(path: Path, instead: Callable[[Any, str, Path], None]) -> None:
    with h5py.File(path, "r+") as file:
        group = file[f"{LAYER}/{LAYER}"]
        del group["0-gamma"]
        instead(group, "0-gamma", path.parent)
    refused(weights.from_keras, path, INSTEAD[instead])


def test_other_files_are_not_even_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = path.parent / "secret.h5"
    os.mkfifo(secret)  # whoever opens it waits for ever
    with h5py.File(path, "r+") as file:
        del file[LAYER]
        file[LAYER] = h5py.ExternalLink(str(secret), "/x")
    refused(weights.from_keras, path, f"{LAYER} is a link to elsewhere")


def test_the_groups_of_a_layer_may_not_be_links_either(path: Path, layers: dict[str, dict[str, np.ndarray]]) -> None:
    with h5py.File(path, "r+") as file:
        file.move(LAYER, "aside")
        file[LAYER] = h5py.SoftLink("/aside")
    refused(weights.from_keras, path, f"{LAYER} is a link to elsewhere")
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.SoftLink("/model_weights")
    refused(weights.from_keras, path, "model_weights is a link to elsewhere")


def test_links_in_the_new_layout_are_refused_or_not_followed(tmp_path: Path, layers: dict[str, dict[str, np.ndarray]]) -> None:
    path, groups = tmp_path / "w.weights.h5", {name: name for name in layers}
    write_weights_h5(path, layers, groups)
    with h5py.File(path, "r+") as file:
        variables = file[f"layers/{LAYER}/vars"]
        del variables["0"]
        external_link(variables, "0", tmp_path)
    refused(weights.from_keras, path, "0 is a link to elsewhere")
    with h5py.File(path, "r+") as file:
        del file[f"layers/{LAYER}"]
        file[f"layers/{LAYER}"] = h5py.SoftLink("/layers")  # a circle: the layer is as if it were not there
    assert len(weights.from_keras(path)) == 232


def test_a_group_that_contains_itself_is_read_once(tmp_path: Path, layers: dict[str, dict[str, np.ndarray]]) -> None:
    path = tmp_path / "w.weights.h5"
    write_weights_h5(path, layers, {name: name for name in layers})
    with h5py.File(path, "r+") as file:
        file["layers/again"] = file["layers"]  # a hard link
    assert len(weights.from_keras(path)) == 236


def names_attribute(path: Path, place: str, attribute: str, value: Any) -> None:
    with h5py.File(path, "r+", libver="latest") as file:
        file[place].attrs[attribute] = value


def test_a_name_without_its_layer_is_refused(path: Path) -> None:
    names_attribute(path, LAYER, "weight_names", ["kernel\x1b[2J"])
    refused(weights.from_keras, path, rf"the array kernel\?\[2J of {LAYER} does not say its layer")


def test_names_that_lead_nowhere_or_out_of_their_layer_are_refused(path: Path) -> None:
    for name in ("x/../../../y", "//", "/", "x/" * 5000, "no/such", f"{LAYER}/0-gamma/more"):
        names_attribute(path, LAYER, "weight_names", [name])
        refused(weights.from_keras, path, "is no complete Keras file")


def test_names_that_are_no_texts_or_too_many_are_refused(path: Path) -> None:
    names_attribute(path, "/", "layer_names", [1, 2])
    refused(weights.from_keras, path, "1 is missing")
    names_attribute(path, "/", "layer_names", np.zeros((200, 200), "S1"))
    refused(weights.from_keras, path, "layer_names claims 40,000 names")


def test_all_arrays_together_may_not_be_larger_than_a_network(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        group = file.create_group("more/more")
        group["x"] = np.zeros(2**22, np.float32)
        file["more"].attrs["weight_names"] = ["more/x"] * 60
        file.attrs["layer_names"] = ["more"]
    refused(weights.from_keras, path, r"x or what precedes it claims 8\d\d,\d\d\d,\d\d\d bytes: no network here needs more")


def test_counters_beyond_any_network_are_no_layers(tmp_path: Path) -> None:
    with np.load(GOLDEN / "keras_inception_v3.npz") as golden:
        layers = keras_layers(golden, tiny=True)
    for name in (f"conv2d_{'9' * 10}", f"conv2d_{'9' * 5000}", "conv2d_\u0663"):
        write_h5(tmp_path / "w.h5", layers | {name: {"kernel": np.zeros((1,) * 4, np.float32)}})
        assert name in weights.from_keras(tmp_path / "w.h5").ignored
    write_h5(tmp_path / "w.h5", layers | {"conv2d_999999999": {"kernel": np.zeros((1,) * 4, np.float32)}})
    assert weights.from_keras(tmp_path / "w.h5").ignored == ["conv2d #94"]
