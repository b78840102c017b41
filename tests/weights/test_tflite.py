"""The authors' 8-bit network, read from a .tflite: the numbers of its convolutions, and those of no other reading."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weights.tflite_files import Layer, authors_shapes, flatbuffer, network, random_layers, write_tflite

from minideeplab import DeepLabV3, weights
from minideeplab.networks.mobilenet_v2 import mobilenet_v2
from minideeplab.networks.pretrained import SHIPPED
from minideeplab.weights.quantized import pack
from minideeplab.weights.tflite_file import Table, convolutions, read_tflite

WIDTH, CLASSES, CHANNELS = 1 / 16, 3, 8
# Stride and dilation of the 17 blocks, as the operators of the authors' file have them.
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
DILATIONS = (1,) * 14 + (2, 2, 2)
Arrays = Mapping[str, tuple[np.ndarray, np.ndarray]]  # a weight in the file's axes, and a bias


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return random_layers(WIDTH, CLASSES, CHANNELS)


def deeplab(width: float = WIDTH, classes: int = CLASSES, channels: int = CHANNELS) -> DeepLabV3:
    return DeepLabV3(mobilenet_v2(width=width), classes, channels=channels, rates=()).eval()


# The numbers of the network


def dequantized(layers: list[Layer]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        layer.name: (np.float64(layer.scale[0]) * (layer.values - np.float64(layer.zero[0])), layer.bias * layer.bias_scale[0])
        for layer in layers
    }


def convolved(x: Tensor, weight: np.ndarray, bias: np.ndarray, stride: int = 1, dilation: int = 1) -> Tensor:
    """One operator of the file: SAME padding, (C_out, k, k, C_in) dense or (1, k, k, C) depthwise."""
    depthwise = weight.shape[0] == 1 and weight.shape[1] == 3
    kernel = torch.from_numpy(weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)).copy())
    reach = dilation * (weight.shape[1] - 1) + 1
    missing = [max((ceil(size / stride) - 1) * stride + reach - size, 0) for size in (x.shape[3], x.shape[2])]
    x = F.pad(x, [side for total in missing for side in (total // 2, total - total // 2)])
    groups = x.shape[1] if depthwise else 1
    return F.conv2d(x, kernel, torch.from_numpy(bias), stride=stride, dilation=dilation, groups=groups)


@torch.no_grad()
def answer(arrays: Arrays, x: Tensor) -> Tensor:
    """The network operator by operator, in double precision, without any of the library's code."""
    x = F.relu6(convolved(x, *arrays["MobilenetV2/Conv"], stride=2))
    for number, (stride, dilation) in enumerate(zip(STRIDES, DILATIONS, strict=True)):
        scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        y = F.relu6(convolved(x, *arrays[f"{scope}/expand"])) if number else x
        y = F.relu6(convolved(y, *arrays[f"{scope}/depthwise"], stride=stride, dilation=dilation))
        y = convolved(y, *arrays[f"{scope}/project"])
        x = x + y if number in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15) else y
    pooled = convolved(x.mean((2, 3), keepdim=True), *arrays["image_pooling"]).relu().expand(-1, -1, *x.shape[2:])
    x = torch.cat([pooled, convolved(x, *arrays["aspp0"]).relu()], dim=1)
    return convolved(convolved(x, *arrays["concat_projection"]).relu(), *arrays["logits/semantic"])


def picture() -> Tensor:
    return torch.rand(2, 3, 50, 65, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("shuffle", [None, 1, 2])
def test_the_file_gives_the_numbers_of_convolutions_with_the_dequantized_weights(
    tmp_path: Path, layers: list[Layer], shuffle: int | None
) -> None:
    net, x = deeplab(), picture()
    weights.load(net, weights.from_tflite(write_tflite(tmp_path / "w.tflite", layers, shuffle=shuffle)))
    expected = answer(dequantized(layers), x)
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(net.double().coarse_logits(x), expected, rtol=0, atol=1e-5 * float(expected.std()))


def zero_forgotten(layer: Layer) -> Layer:
    return replace(layer, zero=[0])


def zero_at_the_middle(layer: Layer) -> Layer:
    return replace(layer, zero=[128])


def signed_bytes(layer: Layer) -> Layer:
    return replace(layer, values=layer.values.view(np.int8))


def columns_before_rows(layer: Layer) -> Layer:
    return replace(layer, values=layer.values.transpose(0, 2, 1, 3))


def inputs_before_rows(layer: Layer) -> Layer:
    return replace(layer, values=layer.values.transpose(0, 3, 1, 2).reshape(layer.values.shape))


def bias_of_the_weights_scale(layer: Layer) -> Layer:
    return replace(layer, bias_scale=layer.scale)


def bias_forgotten(layer: Layer) -> Layer:
    return replace(layer, bias=0 * layer.bias)


VALUES = [zero_forgotten, zero_at_the_middle, signed_bytes, columns_before_rows, inputs_before_rows]


@pytest.mark.parametrize("mistake", [*VALUES, bias_of_the_weights_scale, bias_forgotten])
def test_another_reading_of_the_bytes_is_another_network(layers: list[Layer], mistake: Callable[[Layer], Layer]) -> None:
    x = picture()
    right, wrong = answer(dequantized(layers), x), answer(dequantized([mistake(layer) for layer in layers]), x)
    assert (wrong - right).abs().mean() > 0.1 * right.std()


def test_a_weight_is_its_scale_times_the_distance_from_its_zero(tmp_path: Path) -> None:
    """3 x 3 of one channel, by hand: 0.5 * (q - 100), the bias 0.25 * (-3) and 0.25 * 7."""
    values = np.arange(81, 99, dtype=np.uint8).reshape(2, 3, 3, 1)
    state = weights.from_tflite(
        write_tflite(tmp_path / "w", [Layer("MobilenetV2/Conv", values, np.array([-3, 7], np.int32), [0.5], [100], [0.25])])
    )
    expected = 0.5 * (torch.arange(81, 99).reshape(2, 1, 3, 3) - 100)
    assert torch.equal(state["backbone.root.conv.weight"], expected.float())
    assert state["backbone.root.bn.bias"].tolist() == [-0.75, 1.75]
    depthwise = Layer("MobilenetV2/expanded_conv/depthwise", values.reshape(1, 3, 3, 2), np.zeros(2, np.int32))
    state = weights.from_tflite(write_tflite(tmp_path / "v", [depthwise]))
    expected = 0.5 * (torch.arange(81, 99).reshape(3, 3, 2) - 100)
    assert torch.equal(state["backbone.rows.0.0.depthwise.weight"][:, 0], expected.permute(2, 0, 1).float())


def test_a_bias_is_rounded_once(tmp_path: Path) -> None:
    """A product in float32 alone would round the integer, too: 2^24 + 1 has no float32."""
    scale, bias = np.float32(1.1e-3), np.array([2**24 + 1, -(2**31), 2**31 - 1], np.int32)
    layer = Layer("logits/semantic", np.zeros((3, 1, 1, 1), np.uint8), bias, bias_scale=[scale])
    state = weights.from_tflite(write_tflite(tmp_path / "w", [layer]))
    assert state["classify.bias"].tolist() == [float(np.float32(int(value) * float(scale))) for value in bias]
    twice = bias.astype(np.float32) * scale
    assert twice[0] != state["classify.bias"][0]


# Which bias, which name


def test_the_operators_third_input_decides_which_bias_and_no_name_does(tmp_path: Path, layers: list[Layer]) -> None:
    """Every bias carries the name of the next layer's, and stands anywhere."""
    mixed = [replace(layer, bias_name=other.bias_name) for layer, other in zip(layers, layers[1:] + layers[:1], strict=True)]
    plain, named = (write_tflite(tmp_path / f"{i}", some, shuffle=i) for i, some in ((1, layers), (2, mixed)))
    first, second = read_tflite(plain), read_tflite(named)
    assert first.keys() == second.keys() == {layer.name for layer in layers}
    for layer in layers:
        for found in (first[layer.name], second[layer.name]):
            assert np.array_equal(found.values, layer.values)
            assert np.array_equal(found.bias, layer.bias)
            assert (found.scale, found.zero, found.bias_scale) == (layer.scale[0], layer.zero[0], layer.bias_scale[0])
    by_name = {layer.bias_name: layer.bias for layer in mixed}
    assert not any(np.array_equal(by_name[layer.bias_name], layer.bias) for layer in layers)  # the name would lead elsewhere


def test_another_operators_bias_is_another_network(layers: list[Layer]) -> None:
    x, arrays = picture(), dequantized(layers)
    names = [name for name in arrays if name.endswith("project")]
    same = [(a, b) for a, b in pairwise(names) if arrays[a][1].shape == arrays[b][1].shape]
    right = answer(arrays, x)
    for a, b in same:
        wrong = answer(arrays | {a: (arrays[a][0], arrays[b][1]), b: (arrays[b][0], arrays[a][1])}, x)
        assert (wrong - right).abs().max() > 1e-3 * right.std(), (a, b)
    assert len(same) == 11


def names_found(layers: list[Layer]) -> list[str]:
    data = flatbuffer(network(layers))
    return [name for name, _, _ in convolutions(Table(data, int.from_bytes(data[:4], "little")).tables(2)[0])]


def test_a_layer_is_called_what_its_weight_is_called_alone() -> None:
    def layer(weight: str, bias: str = "aspp1/weights_quant/x") -> Layer:
        return Layer("aspp2", np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int32), weight_name=weight, bias_name=bias)

    known = {
        "aspp0/weights_quant/FakeQuantWithMinMaxVars": ["aspp0"],
        "aspp1/Conv2D_Fold;aspp0/weights_quant/x;aspp3/BatchNorm_Fold/bias": ["aspp0"],
        "a/b/c/weights_quant/;;": ["a/b/c"],
        "aspp0/weights_quantized/x": [],
        "aspp0/Conv2D_Fold": [],
        "/weights_quant/x;weights_quant/y": [],
    }
    assert {name: names_found([replace(layer("-"), weight_name=name)]) for name in known} == known


@pytest.mark.parametrize("inputs", [[0, 1], [0, 1, -1], [0, 1, 2, 2], []])
def test_an_operator_without_a_bias_is_no_convolution_of_this_network(inputs: list[int]) -> None:
    layer = Layer("aspp0", np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int32))
    assert names_found([layer]) == ["aspp0"]
    assert names_found([replace(layer, inputs=inputs)]) == []


# Sizes


@pytest.mark.parametrize(("width", "numbers"), [(1.0, 2_097_013), (0.5, 688_357)])
def test_the_authors_two_widths_have_as_many_numbers_as_their_files(width: float, numbers: int) -> None:
    shapes = dict(authors_shapes(width, 21, 256))
    assert len(shapes) == 55
    biases = sum(shape[3] if name.endswith("depthwise") else shape[0] for name, shape in shapes.items())
    assert sum(int(np.prod(shape)) for shape in shapes.values()) + biases == numbers
    own = deeplab(width, 21, 256).state_dict()
    assert (
        sum(own[name].numel() for name in own if name.endswith(("weight", "bias")) and not name.endswith("bn.weight"))
        == numbers
    )


def test_the_half_wide_sister_loads_and_her_12_channels_are_not_rounded_to_16(tmp_path: Path) -> None:
    state = weights.from_tflite(write_tflite(tmp_path / "dm05.tflite", random_layers(0.5, 21, 16)))
    assert state["backbone.rows.1.0.project.conv.weight"].shape == (12, 48, 1, 1)
    weights.load(deeplab(0.5, 21, 16), state)
    with pytest.raises(ValueError, match=r"rows\.1\.0\.project\.conv\.weight is \(12, 48, 1, 1\), DeepLabV3 needs \(16, 48, 1"):
        weights.load(deeplab_rounded(), state)


def deeplab_rounded() -> DeepLabV3:
    """The half-wide network with its one width that is no multiple of 8 rounded as torchvision's would be."""
    net = deeplab(0.5, 21, 16)
    net.backbone.rows[1][0].project.conv = nn.Conv2d(48, 16, 1, bias=False)
    return net


@pytest.mark.parametrize("missing", [0, 1, 30, 54])
def test_a_file_that_lacks_a_layer_is_not_loaded(tmp_path: Path, layers: list[Layer], missing: int) -> None:
    state = weights.from_tflite(write_tflite(tmp_path / "w", layers[:missing] + layers[missing + 1 :]))
    with pytest.raises(ValueError, match=r"arrays do not fit DeepLabV3, nothing was loaded:\n  missing "):
        weights.load(deeplab(), state)


# Batch norm


@pytest.mark.parametrize(
    ("scope", "conv", "bn", "eps"),
    [
        ("MobilenetV2/Conv", "backbone.root.conv", "backbone.root.bn", 1e-3),
        ("MobilenetV2/expanded_conv_2/expand", "backbone.rows.1.1.expand.conv", "backbone.rows.1.1.expand.bn", 1e-3),
        ("aspp0", "aspp.branches.1.conv", "aspp.branches.1.bn", 1e-5),
    ],
)
def test_only_a_variance_of_one_less_eps_makes_the_factor_exactly_one(
    tmp_path: Path, scope: str, conv: str, bn: str, eps: float
) -> None:
    values, bias = np.arange(20, dtype=np.uint8).reshape(4, 1, 1, 5), np.array([-500, 0, 3, 900], np.int32)
    state = weights.from_tflite(write_tflite(tmp_path / "w", [Layer(scope, values, bias)]))
    assert state.keys() == {f"{conv}.weight", *(f"{bn}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var"))}
    variance, ones = state[f"{bn}.running_var"], torch.ones(4)
    assert variance.dtype == torch.float32
    assert torch.equal(variance + eps, ones)
    assert torch.equal(torch.rsqrt(variance + eps), ones)
    for wrong in (ones, ones - {1e-3: 1e-5, 1e-5: 1e-3}[eps], variance * (1 + 3e-7), variance * (1 - 3e-7)):
        assert not (torch.rsqrt(wrong + eps) == 1).any()
    assert torch.equal(state[f"{bn}.weight"], ones)
    assert torch.equal(state[f"{bn}.running_mean"], torch.zeros(4))
    assert torch.equal(state[f"{bn}.bias"], 0.25 * torch.tensor([-500, 0, 3, 900]))


@torch.no_grad()
def distance(net: DeepLabV3, state: weights.State, variance: float | None = None) -> list[float]:
    """How far batch norm is from adding the bias, relative to the two that are added: the largest error of every layer."""
    weights.load(net, state)
    errors = []
    modules = dict(net.named_modules())
    for name, bn in modules.items():
        if isinstance(bn, nn.BatchNorm2d):
            conv = modules[name[:-3] if name.endswith("_bn") else f"{name[:-2]}conv"]
            y = torch.randn(2, conv.out_channels, 7, 7)
            if variance is not None:
                bn.running_var.fill_(variance)
            bias = bn.bias[:, None, None]
            errors.append(float(((bn(y) - (y + bias)).abs() / (y.abs() + bias.abs())).max()))
    return errors


def test_convolution_and_batch_norm_are_the_convolution_with_bias(tmp_path: Path, layers: list[Layer]) -> None:
    state, net = weights.from_tflite(write_tflite(tmp_path / "w", layers)), deeplab()
    right = distance(net, state)
    assert len(right) == 54  # all but the last, which has a bias of its own
    assert max(right) <= 1.2e-7
    assert min(distance(net, state, 1.0)) > 1e-6
    assert min(distance(net, state, 1 - 1e-3)[-3:]) > 1e-4  # the head's eps is 1e-5
    assert min(distance(net, state, 1 - 1e-5)[:-3]) > 1e-4  # and the backbone's 1e-3


# The authors' own file


@pytest.fixture(scope="module")
def authors_file() -> Path:
    path = os.environ.get("MINIDEEPLAB_TFLITE")
    if not path:
        pytest.skip("MINIDEEPLAB_TFLITE does not name the authors' deeplabv3_mnv2_pascal_quant.tflite")
    return Path(path)


def test_the_authors_file_has_55_convolutions_of_the_shapes_that_are_written_here(authors_file: Path) -> None:
    found = {name: layer.values.shape for name, layer in read_tflite(authors_file).items()}
    assert found == dict(authors_shapes(1.0, 21, 256))
    assert len(found) == 55


def test_every_array_that_the_package_ships_is_the_authors_byte_for_byte(authors_file: Path, tmp_path: Path) -> None:
    packed, shipped = pack(read_tflite(authors_file)), weights.read(SHIPPED)
    assert packed.keys() == shipped.keys()
    for name, values in packed.items():
        assert (values.dtype, values.shape) == (shipped[name].dtype, shipped[name].shape), name
        assert values.numpy().tobytes() == shipped[name].numpy().tobytes(), name
    weights.save(packed, tmp_path / "again", about=shipped.about)
    again, ours = (path.read_bytes() for path in (tmp_path / "again", SHIPPED))
    numbers = sum(values.nbytes for values in packed.values())
    assert again[-numbers:] == ours[-numbers:]
    assert len(again) == len(ours)  # what stands before the numbers may come in another order


def test_the_page_beside_the_shipped_weights_says_their_size_and_sum_and_the_licence_is_there() -> None:
    page, data = SHIPPED.with_suffix(".md").read_text(encoding="utf-8"), SHIPPED.read_bytes()
    assert f"{len(data):,} bytes" in page
    assert hashlib.sha256(data).hexdigest() in page
    assert "Apache License" in SHIPPED.with_suffix(".LICENSE.txt").read_text(encoding="utf-8")
    assert all(word in page for word in ("google-coral/test_data", "104342d", "what was changed"))
