"""Numbers that no network can hold, and names that no network has: refused by name, whoever wrote them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from weight_files import GOLDEN, keras_layers, small_checkpoint, within_limits, write_h5

from minideeplab import weights

VARIANCE = "xception_65/middle_flow/block1/unit_3/xception_module/separable_conv2_depthwise/BatchNorm/moving_variance"
BIAS = "logits/semantic/biases"
HUGE = torch.tensor([1e300, 1], dtype=torch.float64)
COMPLEX = torch.ones(2, dtype=torch.complex64)

NUMBERS: dict[str, tuple[str, np.ndarray, str]] = {
    "NaN": (BIAS, np.array([1, np.nan], np.float32), "biases holds NaN, infinity or numbers beyond float32"),
    "infinity": (BIAS, np.array([1, np.inf], np.float32), "biases holds NaN, infinity or numbers beyond float32"),
    "minus infinity": (BIAS, np.array([1, -np.inf], np.float16), "biases holds NaN, infinity or numbers beyond float32"),
    "1e300": (BIAS, np.array([1, 1e300]), "biases holds NaN, infinity or numbers beyond float32"),
    "-1e300": (BIAS, np.array([1, -1e300]), "biases holds NaN, infinity or numbers beyond float32"),
    "a negative variance": (VARIANCE, np.array([1, -1e-9], np.float32), "moving_variance holds negative variances"),
    "complex numbers": (BIAS, np.ones(2, np.complex64), "biases should hold floating-point numbers, it is complex64"),
    "integers": (BIAS, np.ones(2, np.int32), "biases should hold floating-point numbers, it is int32"),
    "truth values": (BIAS, np.ones(2, np.bool_), "biases should hold floating-point numbers, it is bool"),
    "objects": (BIAS, np.array([None, 1]), "biases should hold floating-point numbers, it is object"),
    "texts": (BIAS, np.array(["1"]), "biases should hold floating-point numbers, it is <U1"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_tensorflows_arrays_are_refused_by_name(kind: str) -> None:
    name, array, reason = NUMBERS[kind]
    with pytest.raises(ValueError, match=reason):
        weights.from_tensorflow(small_checkpoint() | {name: array})


def test_a_variance_of_zero_and_the_largest_float_are_in_order() -> None:
    most = np.finfo(np.float32).max
    state = weights.from_tensorflow({VARIANCE: np.zeros(2), BIAS: np.array([most, -most], np.float64)})
    assert state["classify.bias"].tolist() == [most, -most]


@pytest.mark.parametrize(("leaf", "value"), [("moving_variance", -1.0), ("gamma", float("nan")), ("beta", 1e300)])
def test_kerass_arrays_are_refused_by_name_and_file(tmp_path: Path, leaf: str, value: float) -> None:
    with np.load(GOLDEN / "keras_xception.npz") as golden:
        layers = keras_layers(golden, tiny=True)
    key = next(key for key in layers["block5_sepconv1_bn"] if key.endswith(leaf))
    layers["block5_sepconv1_bn"][key] = np.array([value])
    write_h5(tmp_path / "w.h5", layers)
    with pytest.raises(ValueError, match=r"w\.h5: block5_sepconv1_bn holds"):
        weights.from_keras(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bn1.weight", torch.tensor([1.0, float("nan")]), "bn1.weight holds NaN or infinity"),
        ("bn1.bias", torch.tensor([float("inf")], dtype=torch.float16), "bn1.bias holds NaN or infinity"),
        ("bn1.running_var", torch.tensor([1.0, -1.0], dtype=torch.bfloat16), "bn1.running_var holds negative variances"),
    ],
)
def test_pytorchs_arrays_are_refused_by_name(name: str, value: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights.from_timm({name: value})


def norm(dtype: torch.dtype = torch.float32) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(2, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "value", "dtype", "wrong"),
    [
        ("weight", HUGE, torch.float32, "numbers  weight holds numbers beyond torch.float32"),
        ("weight", torch.tensor([1e6, 1.0]), torch.float16, "numbers  weight holds numbers beyond torch.float16"),
        ("weight", torch.tensor([1.0, float("inf")]), torch.float64, "numbers  weight holds NaN or infinity"),
        ("running_var", torch.tensor([1.0, -1e-9]), torch.float32, "numbers  running_var holds negative variances"),
        ("bias", COMPLEX, torch.float32, "kind     bias is torch.complex64, BatchNorm2d needs torch.float32"),
        ("bias", COMPLEX.bool(), torch.float32, "kind     bias is torch.bool, BatchNorm2d needs torch.float32"),
        ("num_batches_tracked", COMPLEX[0], torch.float32,
         "kind     num_batches_tracked is torch.complex64, BatchNorm2d needs torch.int64"),
    ],
)  # fmt: skip
def test_load_refuses_them_too(name: str, value: Tensor, dtype: torch.dtype, wrong: str) -> None:
    net = norm(dtype)
    state = net.state_dict() | {name: value}
    assert weights.misfits(net, state) == [wrong]
    with pytest.raises(ValueError, match="1 arrays do not fit BatchNorm2d, nothing was loaded"):
        weights.load(net, state)
    assert net.weight.tolist() == [1, 1]


@pytest.mark.parametrize("ours", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("theirs", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_precision_loads_into_any_that_holds_it(ours: torch.dtype, theirs: torch.dtype) -> None:
    net, state = norm(ours), {name: value + 0.5 for name, value in norm(theirs).state_dict().items() if value.dim()}
    state["running_var"] = torch.zeros(2, dtype=theirs)  # none at all is in order: batch norm adds epsilon
    weights.load(net, state)
    assert net.weight.dtype == ours
    assert net.weight.tolist() == [1.5, 1.5]


# Names

MANY = "99999999999"


@pytest.mark.parametrize(
    ("translate", "name"),
    [
        (weights.from_timm, f"blocks.{MANY}.stack.conv1.conv_dw.weight"),
        (weights.from_timm, f"blocks.{'9' * 5000}.stack.conv1.conv_dw.weight"),
        (weights.from_timm, "blocks.22x.stack.conv1.conv_dw.weight"),
        (weights.from_timm, "blocks.-1.stack.conv1.conv_dw.weight"),
        (weights.from_timm, "blocks.\u0662\u0662.stack.conv1.conv_dw.weight"),
        (weights.from_timm, "blocks.13.stack.conv1.conv_dw.weight"),
        (weights.from_timm, f"block{MANY}.rep.1.conv1.weight"),
        (weights.from_timm, f"block{'9' * 5000}.skip.weight"),
        (weights.from_torchvision, f"convs.{MANY}.0.weight"),
        (weights.from_torchvision, "convs.x.0.weight"),
        (weights.from_torchvision, "convs.\u00b2.0.weight"),
        (weights.from_tensorflow, f"resnet_v1_101/block1/unit_{MANY}/bottleneck_v1/conv1/weights"),
        (
            weights.from_tensorflow,
            VARIANCE.replace("unit_3", f"unit_{'9' * 5000}"),
        ),
    ],
)
def test_numbers_beyond_any_network_are_refused_before_a_list_of_names_is_built(
    translate: Callable[[Any], weights.State], name: str
) -> None:
    aspp = {"convs.0.0.weight": torch.ones(1, 1, 1, 1)} if name.startswith("convs") else {}
    array: Any = np.ones((1, 1, 1, 1), np.float32) if translate is weights.from_tensorflow else torch.ones(1, 1, 1, 1)
    with within_limits(memory=2**26), pytest.raises(ValueError, match="names are not those of a network") as caught:
        translate({**aspp, name: array})
    assert len(str(caught.value)) < 300


def test_foreign_names_in_errors_are_short_and_without_control_characters() -> None:
    for translate in (weights.from_timm, weights.from_torchvision):
        for name in ("\x1b[31mred\x1b[0m\n\u202e", "x" * 10_000, "segmentation_head.\x1b[2J" + "y" * 10_000):
            with pytest.raises(ValueError, match="network") as caught:
                translate({name: torch.zeros(1)})
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 500
    with pytest.raises(ValueError, match=r"extra    \?\[2Jx \(1,\)") as caught:
        weights.load(nn.Conv2d(1, 1, 1), {"\x1b[2Jx": torch.zeros(1)} | nn.Conv2d(1, 1, 1).state_dict())
    assert all(line.isprintable() for line in str(caught.value).splitlines())


def test_two_names_of_one_layer_are_refused() -> None:
    aspp = {"convs.0.0.weight": torch.ones(1, 1, 1, 1), "convs.1.0.weight": torch.ones(1, 1, 1, 1)}
    weights.from_torchvision(aspp)
    twins = {"block1.skip.weight": torch.ones(1), "block01.skip.weight": torch.ones(1)}
    with pytest.raises(ValueError, match="several names stand for the same layer"):
        weights.from_timm(twins)


def test_a_last_layer_of_any_shape_is_compared_and_crashes_nothing() -> None:
    for shape in ((), (3,), (3, 4, 5)):
        state = weights.from_timm({"blocks.12.stack.conv1.conv_dw.weight": torch.ones(1), "head.fc.weight": torch.ones(shape)})
        assert state["classify.weight"].dim() == len(shape) + 2
        aspp = {"convs.0.0.weight": torch.ones(1), "project.0.weight": torch.ones(shape)}
        assert weights.from_torchvision(aspp)["project.conv.weight"].shape == shape
