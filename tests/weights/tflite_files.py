"""Small `.tflite` files for tests, written by hand: any flatbuffer, the tables of a quantized network, and the authors' layers.

A flatbuffer's table is here a dict {place of the field: value}: a dict is a table, a list of dicts a list of tables, an array
or bytes a list of numbers, and `Scalar`, `Raw` and `Claim` what stands or lies in the file as it is. What two fields share is
written once.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

UINT8, INT32, FLOAT32, INT8 = 3, 2, 0, 9  # TensorType of the schema
ROWS = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))  # Sandler 2018, table 2: t, c, n


class Scalar(NamedTuple):
    """A number in the table itself."""

    form: str
    value: int


class Raw(NamedTuple):
    """An offset that is written as it is, wherever it leads."""

    offset: int


class Claim(NamedTuple):
    """A list that says it has so many entries, whatever follows."""

    length: int
    numbers: bytes = b""


def flatbuffer(root: Mapping[int, Any], identifier: bytes = b"TFL3") -> bytes:
    """The bytes of a flatbuffer, level by level: offsets lead forward, also to what two fields of one level share."""
    data, places, waiting = bytearray(4) + identifier, dict[int, int](), [(0, root)]
    for pointer, value in waiting:  # which grows
        if id(value) not in places:
            places[id(value)], later = written(data, value)
            waiting += later
        struct.pack_into("<I", data, pointer, places[id(value)] - pointer)
    return bytes(data)


def written(data: bytearray, value: Any) -> tuple[int, list[tuple[int, Any]]]:
    """Append a value: where it begins, and the offsets that are to be filled in, (where, to what)."""
    data += bytes(-len(data) % 8)
    if isinstance(value, dict):
        return table(data, value)
    place = len(data) + 4  # the numbers behind the length lie at a multiple of 8
    if isinstance(value, list):
        data += bytes(4) + struct.pack("<I", len(value)) + bytes(4 * len(value))
        return place, [(place + 4 + 4 * i, entry) for i, entry in enumerate(value)]
    length, numbers = value if isinstance(value, Claim) else (len(value), bytes(value))
    data += bytes(4) + struct.pack("<I", length) + numbers
    return place, []


def table(data: bytearray, fields: dict[int, Any]) -> tuple[int, list[tuple[int, Any]]]:
    inline, offsets, later = bytearray(), dict[int, int](), list[tuple[int, Any]]()
    for index, value in fields.items():
        raw = struct.pack("<I", value.offset) if isinstance(value, Raw) else bytes(4)
        number = struct.pack(*value) if isinstance(value, Scalar) else raw
        inline += bytes(-len(inline) % len(number))
        offsets[index] = 4 + len(inline)
        if not isinstance(value, Scalar | Raw):
            later.append((len(inline), value))
        inline += number
    count = max(fields, default=-1) + 1
    vtable = struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + len(inline), *(offsets.get(i, 0) for i in range(count)))
    vtable += bytes(-len(vtable) % 8)
    data += vtable + struct.pack("<i", len(vtable)) + inline
    place = len(data) - len(inline)
    return place - 4, [(place + at, value) for at, value in later]


@dataclass
class Layer:
    """A convolution as it will be written; every number may be a wrong one."""

    name: str
    values: np.ndarray
    bias: np.ndarray
    scale: Sequence[float] = (0.5,)
    zero: Sequence[int] = (100,)
    bias_scale: Sequence[float] = (0.25,)
    bias_zero: Sequence[int] = (0,)
    shape: Sequence[int] | None = None
    kind: int = UINT8
    bias_kind: int = INT32
    weight_name: str | bytes = ""
    bias_name: str = ""
    inputs: Sequence[int] | None = None  # of its operator
    fields: dict[int, Any] = field(default_factory=dict)  # of its weight's tensor, instead of what they would be

    def __post_init__(self) -> None:
        self.weight_name = self.weight_name or f"{self.name}/Conv2D_Fold;{self.name}/weights_quant/FakeQuantWithMinMaxVars"
        self.bias_name = self.bias_name or f"{self.name}/BatchNorm_Fold/bias"


def tensor(name: str | bytes, shape: Sequence[int], kind: int, buffer: int) -> dict[int, Any]:
    text = name if isinstance(name, bytes) else name.encode()
    return {0: np.array(shape, "<i4"), 1: Scalar("<b", kind), 2: Scalar("<I", buffer), 3: text}


def quantization(scale: Sequence[float], zero: Sequence[int]) -> dict[int, Any]:
    return {2: np.array(scale, "<f4"), 3: np.array(zero, "<i8")}


def network(layers: Sequence[Layer], *, shuffle: int | None = None) -> dict[int, Any]:
    """The model's table: one graph in which every layer reads the last one's map; `shuffle` seeds another order of all lists.

    Maps are named as in the authors' file: after several layers, also others. What stands last in the file is read.
    """
    tensors, buffers, operators = [tensor("input", (1, 9, 9, 3), UINT8, 0)], [b""], []
    for number, layer in enumerate(layers):
        shape = layer.values.shape if layer.shape is None else layer.shape
        weight = tensor(layer.weight_name, shape, layer.kind, 2 * number + 1) | {4: quantization(layer.scale, layer.zero)}
        bias = tensor(layer.bias_name, layer.bias.shape, layer.bias_kind, 2 * number + 2)
        bias |= {4: quantization(layer.bias_scale, layer.bias_zero)}
        name = f"{layer.name}/Relu6;{layers[number - 1].name}/Conv2D_Fold;{layer.name}/BatchNorm_Fold/bias"
        tensors += [weight | layer.fields, bias, tensor(name, (1, 9, 9, 8), UINT8, 0)]
        buffers += [layer.values.tobytes(), layer.bias.tobytes()]
        inputs = [3 * number, 3 * number + 1, 3 * number + 2] if layer.inputs is None else layer.inputs
        operators.append({1: np.array(inputs, "<i4"), 2: np.array([3 * number + 3], "<i4")})
    if shuffle is not None:
        mixed = np.random.default_rng(shuffle)
        operators = [operators[i] for i in mixed.permutation(len(operators))]
        order, homes = mixed.permutation(len(tensors)), mixed.permutation(len(buffers))
        tensors, buffers = [tensors[i] for i in order], [buffers[i] for i in homes]
        tensors = [entry | {2: Scalar("<I", int(np.argsort(homes)[entry[2].value]))} for entry in tensors]
        operators = [{field: np.argsort(order)[places].astype("<i4") for field, places in entry.items()} for entry in operators]
    return {0: Scalar("<I", 3), 2: [{0: tensors, 3: operators}], 4: [{0: numbers} for numbers in buffers]}


def write_tflite(path: Path, layers: Sequence[Layer], *, shuffle: int | None = None) -> Path:
    path.write_bytes(flatbuffer(network(layers, shuffle=shuffle)))
    return path


# The authors' network


def authors_shapes(width: float, num_classes: int, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and the kernels of the authors' 55 layers in TensorFlow Lite's axes: (C_out, k, k, C_in), or (1, k, k, C)."""

    def c(full: int) -> int:
        return max(1, round(full * width))

    yield "MobilenetV2/Conv", (c(32), 3, 3, 3)
    number, inputs = 0, c(32)
    for expansion, full, repeats in ROWS:
        for _ in range(repeats):
            scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
            if expansion > 1:
                yield f"{scope}/expand", (expansion * inputs, 1, 1, inputs)
            yield f"{scope}/depthwise", (1, 3, 3, expansion * inputs)
            yield f"{scope}/project", (c(full), 1, 1, expansion * inputs)
            number, inputs = number + 1, c(full)
    yield "image_pooling", (channels, 1, 1, inputs)
    yield "aspp0", (channels, 1, 1, inputs)
    yield "concat_projection", (channels, 1, 1, 2 * channels)
    yield "logits/semantic", (num_classes, 1, 1, channels)


def random_layers(width: float, num_classes: int, channels: int) -> list[Layer]:
    """The authors' layers with random bytes, so scaled that maps keep their size on the way through."""
    made, layers = np.random.default_rng(0), []
    for name, shape in authors_shapes(width, num_classes, channels):
        depthwise = shape[0] == 1 and name.endswith("depthwise")
        outputs = shape[3] if depthwise else shape[0]
        scale = np.float32(1.5 / (74 * (9 if depthwise else np.prod(shape[1:])) ** 0.5))  # bytes deviate by 74
        values = made.integers(0, 256, shape, np.uint8)
        bias = made.integers(-(2**12), 2**12, outputs, np.int32)
        zero, bias_scale = int(made.integers(100, 157)), np.float32(made.uniform(1e-4, 2e-4))
        layers.append(Layer(name, values, bias, [scale], [zero], [bias_scale]))
    return layers
