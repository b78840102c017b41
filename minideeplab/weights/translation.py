"""Other people's arrays -> our state dict, by renaming and transposition alone (tables: `layer_names`)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minideeplab.weights import keras_file
from minideeplab.weights import layer_names as names
from minideeplab.weights.file_limits import plain
from minideeplab.weights.quantized import conv_and_bn, pack, unpack
from minideeplab.weights.storage import State, wrong_numbers
from minideeplab.weights.tflite_file import read_tflite

Arrays = Mapping[str, NDArray[Any]]

# {their last word: (ours, their axes in our order)}; TensorFlow keeps kernels as (k_h, k_w, C_in, C_out) or (k_h, k_w, C, 1).
DENSE, DEPTHWISE = (3, 2, 0, 1), (2, 3, 0, 1)
TENSORFLOW_ARRAYS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "weights": ("weight", DENSE), "depthwise_weights": ("weight", DEPTHWISE), "biases": ("bias", (0,)),
    "gamma": ("weight", (0,)), "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)), "moving_variance": ("running_var", (0,)),
}
# Keras numbers the arrays of a layer; how many there are, and of which rank, says which layer it is.
BATCH_NORM = (("weight", (0,)), ("bias", (0,)), ("running_mean", (0,)), ("running_var", (0,)))
KERAS_ARRAYS: Mapping[tuple[int, ...], Sequence[tuple[str, tuple[int, ...]]]] = {
    (4,): (("weight", DENSE),),
    (4, 4): (("depthwise.weight", DEPTHWISE), ("pointwise.weight", DENSE)),
    (2, 1): (("weight", (1, 0)), ("bias", (0,))),
    (1, 1, 1, 1): BATCH_NORM,
    (1, 1, 1): BATCH_NORM[1:],
}


def tensor(name: str, leaf: str, array: NDArray[Any], axes: Sequence[int]) -> Tensor:
    """A copy as float32 with its axes in our order; `name` is theirs, for errors, `leaf` says whether it is a variance."""
    array = np.asarray(array)
    if array.ndim != len(axes):
        raise ValueError(f"{plain(name)} should have {len(axes)} axes, its shape is {array.shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{plain(name)} should hold floating-point numbers, it is {plain(array.dtype)}")
    if array.size and not np.abs(array).max() <= np.finfo(np.float32).max:
        raise ValueError(f"{plain(name)} holds NaN, infinity or numbers beyond float32")
    values = torch.from_numpy(np.array(array.transpose(axes), dtype=np.float32, order="C"))
    if problem := wrong_numbers(leaf, values, values.dtype):
        raise ValueError(f"{plain(name)} {problem}")
    return values


def check_known(known: Mapping[str, Tensor], unknown: Sequence[str], source: str) -> None:
    """Raise if names were left over, with the reason where they belong to another network, or if no name was known."""
    for name in unknown:
        for pattern, reason in names.ANOTHER_NETWORK.items():
            if re.fullmatch(pattern, name):
                raise ValueError(f"{reason} (seen by {plain(name)!r})")
    if unknown:
        shown = ", ".join(plain(name, 80) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(f"{len(unknown)} names are not those of a network this library has ({source}): {shown}")
    if not known:
        raise ValueError(f"no array of a network is in it ({source})")


def from_tensorflow(arrays: Arrays) -> State:
    """The authors' checkpoint, {TensorFlow variable name: array} -> state dict.

    xception_41, 65, 71, resnet_v1_50 or 101 beta as `DeepLabV3`, `DeepLabV3Plus` (separable or dense) or ImageNet `Classifier`;
    MobilenetV2 as `DeepLabV3`. The step counter, momentum and moving-average shadows are left out and listed in `.ignored`.
    """
    state, ignored, unknown = {}, [], []
    for name, array in arrays.items():
        match = re.fullmatch(r"(.+?)(/BatchNorm)?/(\w+)", name)
        if re.fullmatch(r"global_step|.*/(Momentum|ExponentialMovingAverage)", name):
            ignored.append(name)
        elif match and match[3] in TENSORFLOW_ARRAYS and (layer := names.rename(match[1], names.TENSORFLOW)):
            (conv, bn), (leaf, axes) = conv_and_bn(layer), TENSORFLOW_ARRAYS[match[3]]
            state[f"{bn if match[2] else conv}.{leaf}"] = tensor(name, leaf, array, axes)
        else:
            unknown.append(name)
    check_known(state, unknown, "the authors' TensorFlow checkpoints")
    if len(state) + len(ignored) < len(arrays):
        raise ValueError("two networks in one checkpoint: several arrays stand for the same layer, keep those of one network")
    return State(state, ignored=ignored)


def from_tflite(path: str | Path) -> State:
    """The authors' 8-bit DeepLabV3 on MobileNetV2, a `.tflite` -> state dict of `DeepLabV3(mobilenet_v2(), 21, rates=())`.

    Weights are dequantized exactly; what was folded into them becomes a batch norm that adds the bias. The half-wide network
    ("dm05") is `mobilenet_v2(width=0.5)`. Maps are not rounded to bytes here as they are there: labels differ by rounding.
    """
    layers = read_tflite(path)  # its errors name the file
    try:
        return unpack(pack(layers))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_keras(path: str | Path) -> State:
    """Keras's Xception or InceptionV3 from `.h5`, `.weights.h5` or `.keras`, alone or inside a larger model.

    A model without Keras's own top has no `classify`: keep the network's by `load(net, net.state_dict() | state)`.
    Layers around the network are listed in `.ignored`. InceptionV3 has no batch-norm gamma in Keras: it is 1.
    """
    layers = keras_file.read(path)
    xception = "block1_conv1" in layers
    state: dict[str, Tensor] = {}
    ignored = []
    for name, arrays in keras_file.count_unnamed(layers).items():
        rules = names.KERAS_XCEPTION if xception else names.KERAS_INCEPTION_V3
        layer, kinds = names.rename(name, rules), KERAS_ARRAYS.get(tuple(array.ndim for array in arrays))
        if layer is None or kinds is None:
            ignored.append(name)
            continue
        for (leaf, axes), array in zip(kinds, arrays):
            state[f"{layer}.{leaf}"] = tensor(f"{path}: {name}", leaf, array, axes)
        if kinds == BATCH_NORM[1:]:
            state[f"{layer}.weight"] = torch.ones(len(arrays[0]))
    convolutions, expected = sum(value.dim() == 4 for value in state.values()), 74 if xception else 94
    if convolutions != expected:
        network = "Xception" if xception else "InceptionV3"
        raise ValueError(f"{path} holds {convolutions} kernels under Keras's names; its {network} has {expected}")
    return State(state, ignored=ignored)


def renamed(state: Mapping[str, Tensor], rules: names.Rules, source: str, ignore: str = "(?!)") -> State:
    """PyTorch to PyTorch: only names change."""
    ours, ignored, unknown = {}, [], []
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if re.fullmatch(ignore, name):
            ignored.append(name)
        elif place := names.rename(layer, rules):
            if problem := wrong_numbers(name, value, value.dtype):
                raise ValueError(f"{plain(name)} {problem}")
            ours[f"{place}.{leaf}"] = value.detach().clone()
        else:
            unknown.append(name)
    check_known(ours, unknown, source)
    if len(ours) + len(ignored) < len(state):
        raise ValueError(f"several names stand for the same layer ({source}): keep those of one network")
    return State(ours, ignored=ignored)


def from_timm(state: Mapping[str, Tensor]) -> State:
    """timm's `state_dict()` of legacy_xception, xception41, 65, 71 (for `Classifier`) or inception_v3.

    timm runs legacy_xception with eps 1e-5 and a symmetric max pool; the weights it carries were trained, and run here,
    with Keras's 1e-3 and TensorFlow's pool.
    """
    if any(name.startswith("Conv2d_1a") for name in state):
        return from_torchvision(state)
    if any(name.startswith("blocks.") for name in state):
        blocks = 1 + largest(r"blocks\.([0-9]+)\..*", state)
        ours = renamed(state, names.timm_aligned_xception(blocks), "timm's xception41, 65, 71")
        if (head := ours.get("classify.weight")) is not None:
            ours["classify.weight"] = head[..., None, None]  # a linear layer there, a 1 x 1 convolution here
        return ours
    return renamed(state, names.TIMM_LEGACY_XCEPTION, "timm's legacy_xception")


def largest(pattern: str, state: Mapping[str, Tensor]) -> int:
    """The largest number that `pattern` finds in a name; a number of more than three digits is that of no network."""
    found = [match[1] for name in state if (match := re.fullmatch(pattern, name))]
    return max((int(number[:4]) for number in found), default=0)


def from_torchvision(state: Mapping[str, Tensor]) -> State:
    """torchvision's `state_dict()` of inception_v3 (the auxiliary head is left out) or of an `ASPP`.

    torchvision's average pool counts the padding, ours (as Keras and slim) does not: outputs differ at the borders.
    """
    if "convs.0.0.weight" not in state:
        return renamed(state, names.TORCH_INCEPTION_V3, "torchvision's inception_v3 and ASPP", ignore=r"AuxLogits\..*")
    branches = 1 + largest(r"convs\.([0-9]+)\..*", state)
    ours = renamed(state, names.torchvision_aspp(branches), "torchvision's ASPP")
    if (weight := ours.get("project.conv.weight")) is not None and weight.dim() == 4:  # image pooling: last there, first here
        ours["project.conv.weight"] = weight.roll(weight.shape[1] // branches, dims=1)
    return ours
