"""8-bit weights under this library's names, and back into convolutions and batch norms.

Packed, a convolution is four arrays: its bytes, one scale and one zero for all of them (weight = scale * (bytes - zero)), and
the bias. The batch norm behind it was folded into these numbers when they were quantized; unpacked, it stands again where our
network has one, and changes nothing.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from minideeplab.weights import layer_names as names
from minideeplab.weights.file_limits import plain
from minideeplab.weights.storage import State
from minideeplab.weights.tflite_file import QuantizedLayer

SCOPES = ("MobilenetV2/", "image_pooling", "aspp", "concat_projection", "logits/")  # those of one network: eps is known
DENSE, DEPTHWISE = (0, 3, 1, 2), (3, 0, 1, 2)  # the axes of TensorFlow Lite's kernels in our order


def conv_and_bn(layer: str) -> tuple[str, str]:
    """What the two halves of a layer are called in our state dicts; the last layer has no batch norm."""
    if layer.endswith(("depthwise", "pointwise")):
        return layer, f"{layer}_bn"
    return ("classify", "") if layer == "classify" else (f"{layer}.conv", f"{layer}.bn")


def pack(layers: Mapping[str, QuantizedLayer]) -> State:
    """{TensorFlow's layer: its numbers} -> a state of bytes, scales, zeros and biases under our names.

    Every scale and zero stays as it was; a bias is its integers times their scale, rounded once to float32. ValueError for
    the layers of another network, and for numbers that do not fit each other or float32.
    """
    packed: dict[str, Tensor] = {}
    for theirs, layer in layers.items():
        ours = names.rename(theirs, names.TENSORFLOW) if theirs.startswith(SCOPES) else None
        if ours is None or f"{ours}.bytes" in packed:
            raise ValueError(f"{plain(theirs)} is no layer of the authors' DeepLabV3 on MobileNetV2, or one that comes twice")
        axes = DEPTHWISE if ours.endswith("depthwise") else DENSE
        values, bias = layer.values.transpose(axes), layer.bias * np.float64(layer.bias_scale)
        if len(values) != len(bias):
            raise ValueError(f"{plain(theirs)} has {len(values)} channels and a bias of {len(bias)}")
        if max(255 * np.float64(layer.scale), np.abs(bias).max()) > np.finfo(np.float32).max:
            raise ValueError(f"{plain(theirs)} has scales that lead beyond float32: {layer.scale}, {layer.bias_scale}")
        packed[f"{ours}.bytes"] = torch.from_numpy(np.array(values, order="C"))
        packed[f"{ours}.scale"] = torch.tensor(layer.scale)
        packed[f"{ours}.zero"] = torch.tensor(layer.zero, dtype=torch.uint8)
        packed[f"{ours}.bias"] = torch.from_numpy(bias.astype(np.float32))
    if not packed:
        raise ValueError("no convolution in it has 8-bit weights under the authors' names")
    return State(packed)


def unpack(packed: Mapping[str, Tensor]) -> State:
    """The state dict of the network: float32 weights, and batch norms that only add the bias.

    Gamma 1, mean 0 and variance 1 - eps make the factor 1 / sqrt(variance + eps) one, exactly so in float32; beta is the bias.
    """
    state: dict[str, Tensor] = {}
    for layer in sorted(name.removesuffix(".bytes") for name in packed if name.endswith(".bytes")):
        conv, bn = conv_and_bn(layer)
        values, scale, zero, bias = (packed[f"{layer}.{part}"] for part in ("bytes", "scale", "zero", "bias"))
        state[f"{conv}.weight"] = scale * (values.float() - zero)
        if not bn:
            state[f"{conv}.bias"] = bias.clone()
            continue
        eps = 1e-3 if layer.startswith("backbone.") else 1e-5  # those of `MobileNetV2` and of `ASPP`
        ones = torch.ones_like(bias)
        state |= {f"{bn}.weight": ones, f"{bn}.bias": bias.clone()}
        state |= {f"{bn}.running_mean": 0 * ones, f"{bn}.running_var": ones - eps}
    return State(state)
