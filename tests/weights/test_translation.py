"""`weights`: the originals' numbers come out, the wrong ones do not, and what does not fit says so."""

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.recipe import noise, seeded, seeded_torch
from torch import Tensor, nn

import minideeplab.blocks.decoder
from minideeplab import (
    ASPP,
    AlignedBlock,
    Classifier,
    DeepLabV3,
    DeepLabV3Plus,
    InceptionV3,
    SameMaxPool2d,
    Xception,
    resnet101,
    weights,
    xception41,
    xception65,
    xception71,
)

GOLDEN = Path(__file__).parent.parent / "golden"
BACKBONES = {"xception_41": xception41, "xception_65": xception65, "xception_71": xception71, "resnet_v1_101": resnet101}


def shapes_of(names: Any, shapes: Any) -> dict[str, tuple[int, ...]]:
    """Shapes are stored padded with zeros to four axes."""
    return {str(name): tuple(int(size) for size in shape if size) for name, shape in zip(names, shapes, strict=True)}


def image_of(pixels: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes -> (N, 3, H, W) in [-1, 1], as inside the authors' network."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * (2 / 255) - 1


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2) if array.ndim == 4 else torch.from_numpy(array)


# The authors' own run: DeepLabV3+, Xception-65, full width


@pytest.fixture(scope="module")
def authors() -> Any:
    return np.load(GOLDEN / "tf_deeplabv3plus_xception_65.npz")


@pytest.fixture(scope="module")
def checkpoint(authors: Any) -> dict[str, np.ndarray]:
    made = {name: seeded(name, shape) for name, shape in shapes_of(authors["names"], authors["shapes"]).items()}
    stored = {name.removeprefix("stats/"): authors[name] for name in authors.files if name.startswith("stats/")}
    return made | stored


@pytest.fixture(scope="module")
def deeplab(checkpoint: dict[str, np.ndarray]) -> DeepLabV3Plus:
    net = DeepLabV3Plus(xception65(output_stride=16), 21).eval()
    weights.load(net, weights.from_tensorflow(checkpoint))
    return net


@torch.no_grad()
def logits_error(net: DeepLabV3Plus, authors: Any, case: str, scale: Callable[[Tensor], Tensor] = lambda x: x) -> float:
    """Largest error of the logits, in standard deviations of the authors' logits."""
    theirs = nchw(authors[f"{case}/logits"])
    return float((net.coarse_logits(scale(image_of(authors[f"{case}/input"]))) - theirs).abs().max() / theirs.std())


@pytest.mark.parametrize("case", ["os16_96x160", "os16_129x193"])
@torch.no_grad()
def test_the_authors_weights_give_the_authors_numbers(deeplab: DeepLabV3Plus, authors: Any, case: str) -> None:
    x = image_of(authors[f"{case}/input"])
    low, high = deeplab.backbone(x)
    unit = "ep/xception_65/entry_flow/block2/unit_1/xception_module/separable_conv2_pointwise"
    for ours, name in (
        (low, unit),
        (deeplab.aspp(high), "op/concat_projection/Relu"),
        (deeplab.coarse_logits(x), "logits"),
    ):
        theirs = nchw(authors[f"{case}/{name}"])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=min(1e-3, 1e-4 * float(theirs.std())), msg=name)
    different = int((deeplab(x).argmax(1).numpy() != authors[f"{case}/argmax"]).sum())
    assert different <= 2


def wrong_eps(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    for module in net.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            patch.setattr(module, "eps", 1e-5)


def corners_apart(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    def upsample(x: Tensor, size: Any) -> Tensor:
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)

    patch.setattr(minideeplab.blocks.decoder, "upsample", upsample)


def rectified_low(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    reduce = net.decoder.reduce.forward
    patch.setattr(net.decoder.reduce, "forward", lambda low: reduce(low.relu()))


def rate_in_exit_flow(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    for row in net.backbone.exit_flow[1:]:
        patch.setattr(row.depthwise, "dilation", (1, 1))
        patch.setattr(row.depthwise, "padding", (1, 1))


def rectified_shortcut(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    finish = AlignedBlock.finish
    patch.setattr(AlignedBlock, "finish", lambda block, inner, x: finish(block, inner, x.relu()))


@pytest.mark.parametrize(
    ("mistake", "cost"),
    [(wrong_eps, 0.3), (corners_apart, 0.29), (rectified_low, 0.16), (rate_in_exit_flow, 1.8), (rectified_shortcut, 2.4)],
)
def test_one_wrong_choice_costs_as_much_as_is_said(
    deeplab: DeepLabV3Plus, authors: Any, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., None], cost: float
) -> None:
    mistake(deeplab, monkeypatch)
    assert logits_error(deeplab, authors, "os16_129x193") == pytest.approx(cost, rel=0.05)


def test_the_preprocessing_of_other_networks_destroys_the_answer(deeplab: DeepLabV3Plus, authors: Any) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    error = logits_error(deeplab, authors, "os16_129x193", lambda x: ((x + 1) / 2 - mean) / std)
    assert error == pytest.approx(14.7, rel=0.05)


# The authors' other networks, an eighth as wide


@pytest.fixture(scope="module")
def variants() -> Any:
    return np.load(GOLDEN / "tf_variants.npz")


def variant(name: str, *, output_stride: int | None = None, multi_grid: tuple[int, ...] | None = None) -> nn.Module:
    """The network that a case of tf_variants.npz names, such as `xception_71 os8 plus separable 1,1,1`."""
    scope, stride, head, split, grid = name.split()
    options: dict[str, Any] = {"output_stride": output_stride or int(stride.removeprefix("os")), "width": 0.125}
    if scope == "resnet_v1_101":
        options["multi_grid"] = multi_grid or tuple(int(rate) for rate in grid.split(","))
    backbone = BACKBONES[scope](**options)
    if head == "classifier":
        return Classifier(backbone, 1001).eval()
    if head == "v3":
        return DeepLabV3(backbone, 5, channels=32, separable=split == "separable").eval()
    return DeepLabV3Plus(backbone, 5, channels=32, low_channels=6, separable=split == "separable").eval()


def variant_state(variants: Any, name: str) -> weights.State:
    shapes = shapes_of(variants[f"{name}/names"], variants[f"{name}/shapes"])
    return weights.from_tensorflow({name: seeded(name, shape, gain=1.0) for name, shape in shapes.items()})


@torch.no_grad()
def variant_error(net: nn.Module, variants: Any, name: str, size: tuple[int, int]) -> float:
    x = image_of(noise((1, *size, 3)))
    ours, theirs = (
        net.coarse_logits(x) if hasattr(net, "coarse_logits") else net(x),
        nchw(variants[f"{name}/{size[0]}x{size[1]}"]),
    )
    return float((ours - theirs).abs().max() / theirs.std())


VARIANTS = [
    "xception_41 os16 plus dense 1,1,1",
    "xception_71 os16 plus separable 1,1,1",
    "xception_71 os8 plus separable 1,1,1",
    "xception_65 os8 plus separable 1,1,1",
    "xception_65 os32 plus separable 1,1,1",
    "xception_65 os16 v3 dense 1,1,1",
    "resnet_v1_101 os16 plus dense 1,2,4",
    "resnet_v1_101 os8 v3 dense 1,2,4",
    "xception_41 os32 classifier dense 1,1,1",
    "resnet_v1_101 os32 classifier dense 1,1,1",
]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_the_authors_gives_tensorflows_numbers(variants: Any, name: str) -> None:
    net = variant(name)
    weights.load(net, variant_state(variants, name))
    for size in ((64, 98), (65, 97)):
        assert variant_error(net, variants, name, size) < 1e-4


def test_variants_and_cases_are_the_same_list(variants: Any) -> None:
    assert {key.rpartition("/")[0] for key in variants.files if key.endswith("/names")} == set(VARIANTS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("xception_71 os8 plus separable 1,1,1", {"output_stride": 16}),
        ("resnet_v1_101 os16 plus dense 1,2,4", {"multi_grid": (1, 1, 1)}),
        ("resnet_v1_101 os32 classifier dense 1,1,1", {"output_stride": 16}),
    ],
)
def test_the_same_weights_at_other_rates_answer_something_else(variants: Any, name: str, options: dict[str, Any]) -> None:
    net = variant(name, **options)
    weights.load(net, variant_state(variants, name))  # the arrays are the same: only the rates tell
    assert variant_error(net, variants, name, (64, 98)) > 0.01


def test_the_imagenet_classifier_of_xception65_has_the_published_count() -> None:
    net = Classifier(xception65(output_stride=32).to("meta"), num_classes=1000)
    assert sum(value.numel() for value in net.parameters()) == 39_916_312


def test_classifier_drops_half_of_the_features_in_training_only() -> None:
    net, x = Classifier(xception41(output_stride=32, width=0.05), num_classes=7), torch.rand(2, 3, 33, 33)
    net.backbone.eval()
    assert not torch.equal(net(x), net(x))
    net.eval()
    torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)
    assert net(x).shape == (2, 7)


# What a checkpoint holds besides weights, and what is no checkpoint of ours


def small_checkpoint() -> dict[str, np.ndarray]:
    scope = "xception_65/middle_flow/block1/unit_3/xception_module/separable_conv2"
    return {
        f"{scope}_depthwise/depthwise_weights": np.arange(18, dtype=np.float32).reshape(3, 3, 2, 1),
        f"{scope}_pointwise/weights": np.arange(6, dtype=np.float64).reshape(1, 1, 2, 3),
        f"{scope}_depthwise/BatchNorm/moving_variance": np.ones(2, np.float32),
        f"{scope}_pointwise/BatchNorm/gamma": np.ones(3, np.float32),
        "logits/semantic/biases": np.ones(21, np.float32),
    }


def test_tensorflow_arrays_are_renamed_and_transposed() -> None:
    state = weights.from_tensorflow(small_checkpoint())
    place = "backbone.middle_flow.2.separable_2"
    assert set(state) == {
        f"{place}.depthwise.weight",
        f"{place}.depthwise_bn.running_var",
        f"{place}.pointwise.weight",
        f"{place}.pointwise_bn.weight",
        "classify.bias",
    }
    depthwise, pointwise = state[f"{place}.depthwise.weight"], state[f"{place}.pointwise.weight"]
    assert depthwise.shape == (2, 1, 3, 3)
    assert depthwise[1, 0].flatten().tolist() == list(range(1, 18, 2))
    assert pointwise[:, :, 0, 0].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_step_counter_momentum_and_averages_are_left_out_and_said_so() -> None:
    arrays = small_checkpoint()
    extra = {
        "global_step": np.int64(30000),
        "logits/semantic/biases/Momentum": np.zeros(21, np.float32),
        "logits/semantic/biases/ExponentialMovingAverage": np.zeros(21, np.float32),
    }
    state = weights.from_tensorflow(arrays | extra)
    assert state.keys() == weights.from_tensorflow(arrays).keys()
    assert state.ignored == sorted(extra)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MobilenetV2/Conv/weights", "MobileNet is not in this library"),
        ("resnet_v1_101/conv1/weights", "7 x 7 root"),
        ("xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1/depthwise_weights", "regularize_depthwise"),
        ("logits/semantic/something", "1 names are not those of a network"),
        ("xception_65/exit_flow/block2/unit_1/xception_module/shortcut/weights", "1 names are not those of a network"),
    ],
)
def test_another_network_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights.from_tensorflow(small_checkpoint() | {name: np.zeros((1, 1, 1, 1), np.float32)})


def test_two_networks_in_one_checkpoint_are_refused() -> None:
    scopes = ("xception_41", "xception_65")
    arrays = {f"{scope}/entry_flow/conv1_1/weights": np.zeros((3, 3, 3, 32), np.float32) for scope in scopes}
    with pytest.raises(ValueError, match="two networks in one checkpoint"):
        weights.from_tensorflow(arrays)


def test_arrays_of_a_wrong_rank_or_kind_are_refused_with_their_name() -> None:
    with pytest.raises(ValueError, match=r"logits/semantic/weights should have 4 axes, its shape is \(256, 21\)"):
        weights.from_tensorflow({"logits/semantic/weights": np.zeros((256, 21), np.float32)})
    with pytest.raises(ValueError, match="logits/semantic/biases should hold floating-point numbers, it is int64"):
        weights.from_tensorflow({"logits/semantic/biases": np.zeros(21, np.int64)})


def test_npz_is_read_with_numpy_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **small_checkpoint())
    arrays = weights.read_tensorflow(tmp_path / "w.npz")
    assert arrays.keys() == small_checkpoint().keys()
    np.testing.assert_array_equal(arrays["logits/semantic/biases"], np.ones(21))


def test_a_damaged_or_foreign_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **small_checkpoint())
    whole = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.npz").write_bytes(b"not an archive at all")
    np.savez(tmp_path / "objects.npz", **{"global_step": np.array([Trap()], dtype=object)})
    for name in ("half", "foreign", "objects"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is no complete \.npz of plain arrays"):
            weights.read_tensorflow(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="absent"):
        weights.read_tensorflow(tmp_path / "absent.npz")


class Trap:
    """Unpickling it would be an assertion error: nothing here may."""

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    raise AssertionError("something was unpickled")


def test_a_checkpoint_without_tensorflow_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.ckpt-9.index").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for path in ("model.ckpt-9", "model.ckpt-9.index"):
        with pytest.raises(ImportError, match=r"pip install tensorflow; or(?s:.)*numpy\.savez"):
            weights.read_tensorflow(tmp_path / path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*absent: it would have absent\.index"):
        weights.read_tensorflow(tmp_path / "absent")


# Keras


def write_h5(path: Path, layers: dict[str, dict[str, np.ndarray]], top: str | None = None) -> None:
    """Keras's `.h5` of weights; with `top`, all layers inside one nested model of that name."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [top] if top else list(layers)
        for name, arrays in layers.items():
            group = file.require_group(top or name)
            names = [f"{name}/{leaf}" for leaf in arrays]
            group.attrs["weight_names"] = [*group.attrs.get("weight_names", []), *names]
            for full, array in zip(names, arrays.values(), strict=True):
                group[full] = array


def write_weights_h5(
    target: Any, layers: dict[str, dict[str, np.ndarray]], groups: dict[str, str], *, named: bool = True
) -> None:
    """Keras 3's `.weights.h5`: layers/<group>/vars/<i>; an early Keras 3 did not write the layers' names."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(target, "w") as file:
        for group, name in groups.items():
            variables = file.create_group(f"layers/{group}/vars")
            if named:
                variables.attrs["name"] = name
            for i, array in enumerate(layers[name].values()):
                variables[str(i)] = array


def write_keras(path: Path, layers: dict[str, dict[str, np.ndarray]], golden: Any) -> None:
    write_weights_h5(path.with_suffix(".tmp"), layers, dict(json.loads(str(golden["groups"]))), named=False)
    listing = [{"class_name": kind, "config": {"name": name}} for kind, name in json.loads(str(golden["layers"]))]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": listing}}))
        archive.write(path.with_suffix(".tmp"), "model.weights.h5")


def keras_layers(golden: Any, *, tiny: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """{layer: {array: numbers}} of a Keras network, full or with every axis cut down to 1."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, shape in shapes_of(golden["names"], golden["shapes"]).items():
        layer, i, leaf = name.split("/")
        fewer = (1,) * len(shape) if tiny else shape
        layers.setdefault(layer, {})[f"{i}-{leaf}"] = seeded(name, fewer, gain=1.0)
    return layers


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


# timm and torchvision: their recorded answers; tests/peers asks the packages themselves


@pytest.fixture(scope="module")
def peers() -> Any:
    return np.load(GOLDEN / "peers.npz")


def peer_state(peers: Any, key: str) -> dict[str, Tensor]:
    # num_batches_tracked is a scalar: its shape is stored as zeros only
    shapes = shapes_of(peers[f"{key}/names"], peers[f"{key}/shapes"])
    return {name: torch.from_numpy(np.asarray(seeded_torch(name, shape))) for name, shape in shapes.items()}


@torch.no_grad()
def peer_error(net: nn.Module, peers: Any, case: str) -> float:
    height, width = (int(size) for size in case.rpartition("/")[2].split("x"))
    theirs = torch.from_numpy(peers[case])
    return float((net(image_of(noise((1, height, width, 3)))) - theirs).abs().max() / theirs.std())


def test_timms_legacy_xception_is_ours_but_for_its_epsilon_and_its_pool(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Xception().eval()
    weights.load(net, weights.from_timm(peer_state(peers, "legacy_xception")))
    assert peer_error(net, peers, "legacy_xception/263x263") > 1e-3  # eps 1e-3, Keras's, where timm has 1e-5
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    assert peer_error(net, peers, "legacy_xception/263x263") < 1e-5
    assert peer_error(net, peers, "legacy_xception/299x299") > 0.02  # on an even map its symmetric pool is another
    monkeypatch.setattr(SameMaxPool2d, "forward", lambda pool, x: F.max_pool2d(x, 3, 2, padding=1))
    assert peer_error(net, peers, "legacy_xception/299x299") < 1e-5


def test_timms_xception41_is_the_authors(peers: Any) -> None:
    net = Classifier(xception41(output_stride=32)).eval()
    weights.load(net, weights.from_timm(peer_state(peers, "xception41")))
    assert peer_error(net, peers, "xception41/64x98") < 1e-5
    assert peer_error(Classifier(net.backbone).eval(), peers, "xception41/64x98") > 0.1  # another head


@pytest.mark.parametrize(("key", "build"), [("xception65", xception65), ("xception71", xception71)])
def test_timms_names_map_one_to_one(peers: Any, key: str, build: Callable[..., nn.Module]) -> None:
    shapes = shapes_of(peers[f"{key}/names"], peers[f"{key}/shapes"])
    ours = weights.from_timm({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    with torch.device("meta"):
        own = Classifier(build(output_stride=32)).state_dict()
    assert len(ours) == len(shapes)
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in own.items()}


def test_torchvisions_inception_v3_is_ours_but_for_the_padding_it_counts(peers: Any) -> None:
    net = InceptionV3().eval()
    state = weights.from_torchvision(peer_state(peers, "inception_v3"))
    assert state.ignored
    assert all(name.startswith("AuxLogits.") for name in state.ignored)
    weights.load(net, state)
    assert peer_error(net, peers, "inception_v3/139x180") > 0.01
    for module in net.modules():
        if isinstance(module, nn.AvgPool2d):
            module.count_include_pad = True
    assert peer_error(net, peers, "inception_v3/139x180") < 1e-5


@torch.no_grad()
def test_torchvisions_aspp_is_ours_once_the_projection_is_permuted(peers: Any) -> None:
    net, maps = (
        ASPP(32, 16, rates=(1, 2, 3), separable=False).eval(),
        torch.from_numpy(seeded_torch("maps.weight", (1, 32, 9, 12))),
    )
    state, theirs = weights.from_torchvision(peer_state(peers, "aspp")), torch.from_numpy(peers["aspp/9x12"])
    weights.load(net, state)
    torch.testing.assert_close(net(maps), theirs, rtol=0, atol=1e-5)
    state["project.conv.weight"] = state["project.conv.weight"].roll(-16, dims=1)  # their order: image pooling last
    weights.load(net, state)
    assert (net(maps) - theirs).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segmentation_head.0.weight", "segmentation-models-pytorch's DeepLabV3Plus is another network"),
        ("backbone.conv1.weight", r"7 x 7 root.*pass the arrays that begin with classifier\.0\."),
        ("blocks.0.stack.conv2.norm.weight", "xception41p and xception65p"),
        ("layer1.0.conv1.weight", "1 names are not those of a network"),
        ("Mixed_9z.branch1x1.conv.weight", "1 names are not those of a network"),
    ],
)
def test_other_pytorch_networks_are_refused_with_the_reason(name: str, reason: str) -> None:
    for translate in (weights.from_timm, weights.from_torchvision):
        with pytest.raises(ValueError, match=reason):
            translate({name: torch.zeros(1)})


# load, save, read


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
    safetensors = pytest.importorskip("safetensors.torch")

    def fail(state: Any, path: Path, metadata: Any) -> Iterator[None]:
        path.write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors, "save_file", fail)
    (tmp_path / "old.safetensors").write_bytes(b"precious")
    for name in ("new.safetensors", "old.safetensors"):
        with pytest.raises(OSError, match="no space left"):
            weights.save(net.state_dict(), tmp_path / name, overwrite=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.safetensors", b"precious")]


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


def test_missing_optional_packages_say_what_to_install(net: ASPP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("safetensors", "safetensors.torch", "h5py"):
        monkeypatch.setitem(sys.modules, module, None)
    for action in (
        lambda: weights.read(tmp_path / "w"),
        lambda: weights.save(net.state_dict(), tmp_path / "w"),
        lambda: weights.from_keras(tmp_path / "w"),
    ):
        with pytest.raises(ImportError, match=re.escape("pip install 'minideeplab[weights]'")):
            action()
