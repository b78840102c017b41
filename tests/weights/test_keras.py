"""Keras's files, in every layout, give Keras's numbers; other files say what they are not."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.recipe import noise
from torch import nn
from weight_files import (
    GOLDEN,
    Trap,
    image_of,
    keras_layers,
    nchw,
    write_h5,
    write_keras,
    write_weights_h5,
)

from minideeplab import InceptionV3, SameMaxPool2d, Xception, weights


@pytest.fixture(scope="module", params=["keras_xception", "keras_inception_v3"])
def keras(request: pytest.FixtureRequest) -> Any:
    return np.load(GOLDEN / f"{request.param}.npz")


@pytest.fixture(scope="module")
def keras_net(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    path = tmp_path_factory.mktemp("keras") / "weights.h5"
    write_h5(path, keras_layers(keras))
    net = (Xception() if "block1_conv1" in str(keras["layers"]) else InceptionV3()).eval()
    weights.load(net, weights.from_keras(path))
    path.unlink()
    return net


@torch.no_grad()
def keras_error(net: nn.Module, keras: Any, case: str) -> float:
    height, width = (int(size) for size in case.split("x"))
    theirs = torch.from_numpy(keras[f"{case}/logits"])
    return float((net(image_of(noise((1, height, width, 3)))) - theirs).abs().max() / theirs.std())


def cases_of(keras: Any) -> list[str]:
    return [key.removesuffix("/logits") for key in keras.files if key.endswith("/logits")]


def test_kerass_weights_give_kerass_numbers_on_odd_and_even_maps(keras_net: nn.Module, keras: Any) -> None:
    for case in cases_of(keras):
        assert keras_error(keras_net, keras, case) < 1e-5


@pytest.mark.parametrize("keras", ["keras_xception"], indirect=True)
@torch.no_grad()
def test_kerass_last_map_is_ours(keras_net: nn.Module, keras: Any) -> None:
    maps = keras_net.features(image_of(noise((1, 299, 299, 3))))
    torch.testing.assert_close(maps[:, ::64], nchw(keras["299x299/features"]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("keras", ["keras_xception"], indirect=True)
def test_a_symmetric_max_pool_is_kerass_on_odd_maps_and_another_on_even_ones(
    keras_net: nn.Module, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 263 pixels every pooled map is odd; at 299 one is even (74), at 150 x 197 several: it must be TensorFlow's SAME."""
    monkeypatch.setattr(SameMaxPool2d, "forward", lambda pool, x: F.max_pool2d(x, 3, 2, padding=1))
    assert keras_error(keras_net, keras, "263x263") < 1e-5
    assert keras_error(keras_net, keras, "299x299") > 0.02
    assert keras_error(keras_net, keras, "150x197") > 0.05


@pytest.mark.parametrize("keras", ["keras_inception_v3"], indirect=True)
def test_counting_the_padding_of_average_pools_is_not_keras(
    keras_net: nn.Module, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in keras_net.modules():
        if isinstance(module, nn.AvgPool2d):
            monkeypatch.setattr(module, "count_include_pad", True)
    for case in cases_of(keras):
        assert keras_error(keras_net, keras, case) > 0.02


def test_all_layouts_of_kerass_files_say_the_same(keras: Any, tmp_path: Path) -> None:
    layers = keras_layers(keras, tiny=True)
    write_h5(tmp_path / "flat.h5", layers)
    write_h5(tmp_path / "nested.h5", layers, top="the_network")
    write_weights_h5(tmp_path / "new.weights.h5", layers, dict(json.loads(str(keras["groups"]))))
    write_keras(tmp_path / "whole.keras", layers, keras)
    flat = weights.from_keras(tmp_path / "flat.h5")
    assert len({float(value.sum()) for value in flat.values()}) > 200  # different numbers, so that a mix-up would show
    for name in ("nested.h5", "new.weights.h5", "whole.keras"):
        other = weights.from_keras(tmp_path / name)
        assert other.keys() == flat.keys()
        assert all(torch.equal(other[key], flat[key]) for key in flat)


def test_names_of_layers_may_start_from_any_number(keras: Any, tmp_path: Path) -> None:
    layers = keras_layers(keras, tiny=True)
    write_h5(tmp_path / "first.h5", layers)
    later = {}
    for name, arrays in layers.items():
        kind, _, number = name.partition("_") if name.startswith("conv2d") else (name, "", "")
        later[f"conv2d_{int(number or 0) + 94}" if kind == "conv2d" else name] = arrays
    assert later.keys() != layers.keys()
    write_h5(tmp_path / "later.h5", later)
    first, second = weights.from_keras(tmp_path / "first.h5"), weights.from_keras(tmp_path / "later.h5")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_users_own_top_is_ignored_and_said_so(keras: Any, tmp_path: Path) -> None:
    layers = keras_layers(keras, tiny=True)
    del layers["predictions"]
    layers["dense"] = {"kernel": np.zeros((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    write_h5(tmp_path / "own.h5", layers)
    state = weights.from_keras(tmp_path / "own.h5")
    assert state.ignored == ["dense"]
    assert not any(name.startswith("classify") for name in state)


def test_keras_files_without_layer_names_or_of_something_else_are_refused(keras: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    layers = keras_layers(keras, tiny=True)
    write_weights_h5(tmp_path / "early.weights.h5", layers, dict(json.loads(str(keras["groups"]))), named=False)
    with pytest.raises(ValueError, match=r"no layer names.*save the whole model as \.keras"):
        weights.from_keras(tmp_path / "early.weights.h5")
    write_h5(tmp_path / "other.h5", {"dense": {"kernel": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)}})
    with pytest.raises(ValueError, match=r"holds 0 kernels under Keras's names; its InceptionV3 has 94"):
        weights.from_keras(tmp_path / "other.h5")
    write_keras(tmp_path / "whole.keras", layers, keras)
    whole = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle.h5").write_bytes(pickle.dumps(Trap()))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    for name in ("half.keras", "pickle.h5"):
        with pytest.raises(ValueError, match="is no complete Keras file"):
            weights.from_keras(tmp_path / name)
    with pytest.raises(ValueError, match="holds 0 kernels"):
        weights.from_keras(tmp_path / "empty.h5")
    with pytest.raises(FileNotFoundError):
        weights.from_keras(tmp_path / "absent.h5")
