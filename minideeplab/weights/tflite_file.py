"""TensorFlow Lite's files of quantized convolutions, read without TensorFlow: {layer name: its bytes, scales and bias}.

A `.tflite` is a flatbuffer: tables that point to each other by offsets. Here only the way to the weights is walked, and
every number is read inside the file or not at all (`struct` and numpy refuse what reaches beyond its end); nothing is built
from a length that was not compared with the file's own first.
"""

import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minideeplab.weights.file_limits import check_bytes, plain, reading

UINT8, INT32 = 3, 2  # TensorType of the schema
# Places of the fields that are read, in the schema's tables (tensorflow/lite/schema/schema.fbs, version 3).
MODEL_SUBGRAPHS, MODEL_BUFFERS, SUBGRAPH_TENSORS, SUBGRAPH_OPERATORS, OPERATOR_INPUTS, BUFFER_DATA = 2, 4, 0, 3, 1, 0
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTIZATION, SCALE, ZERO = 0, 1, 2, 3, 4, 2, 3
LAYER = re.compile(r"(?:^|;)([^;]+)/weights_quant/")  # in a weight's name, one of several that are joined by semicolons
LONGEST_NAME, MOST_AXES, MOST_ENTRIES = 4096, 8, 2000  # the authors' file: 259 bytes, 4 axes, 188 tensors, 72 operators


class QuantizedLayer(NamedTuple):
    """A convolution with 8-bit weights: weight = scale * (values - zero), bias = bias_scale * bias. Axes are the file's."""

    values: NDArray[np.uint8]  # (C_out, k_h, k_w, C_in), depthwise (1, k_h, k_w, C)
    scale: np.float32
    zero: int
    bias: NDArray[np.int32]  # (C_out,)
    bias_scale: np.float32


class Table:
    """A table of a flatbuffer: its fields are found through a list of offsets, the vtable, and may be missing."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place
        self.vtable = place - self.number("<i", place)
        if self.vtable < 0:
            raise ValueError(f"a table at byte {place} has its list of fields before the file")
        self.fields = self.number("<H", self.vtable) // 2 - 2

    def number(self, form: str, place: int) -> int:
        """One integer at a byte of the file; struct.error beyond its end."""
        value: int = struct.unpack_from(form, self.data, place)[0]
        return value

    def field(self, index: int) -> int:
        """The byte where a field stands; 0 if it is missing."""
        offset = self.number("<H", self.vtable + 4 + 2 * index) if index < self.fields else 0
        return self.place + offset if offset else 0

    def integer(self, index: int, form: str) -> int:
        """A number that is stored in the table itself; 0 if it is missing."""
        place = self.field(index)
        return self.number(form, place) if place else 0

    def pointed(self, index: int) -> int:
        """The byte to which a field points; 0 if it is missing."""
        place = self.field(index)
        return place + self.number("<I", place) if place else 0

    def table(self, index: int) -> "Table | None":
        """The table to which a field points."""
        place = self.pointed(index)
        return Table(self.data, place) if place else None

    def vector(self, index: int, dtype: str) -> NDArray[Any]:
        """The numbers to which a field points; none if it is missing. numpy refuses more than the file has."""
        place = self.pointed(index)
        return np.frombuffer(self.data, dtype, self.number("<I", place), place + 4) if place else np.empty(0, dtype)

    def tables(self, index: int) -> "list[Table]":
        """The list of tables to which a field points."""
        offsets = self.vector(index, "<u4")
        if len(offsets) > MOST_ENTRIES:
            raise ValueError(f"a list claims {len(offsets):,} entries")
        first = self.pointed(index) + 4
        return [Table(self.data, first + 4 * i + int(offset)) for i, offset in enumerate(offsets)]


def read_tflite(path: str | Path) -> dict[str, QuantizedLayer]:
    """Every convolution whose weight says its layer: `MobilenetV2/Conv` in `MobilenetV2/Conv/weights_quant/...`.

    The name is the *weight's*, the bias is what the same operator reads beside it. ValueError for a file that is no whole
    `.tflite`, and for weights that are not 8-bit with one scale for all, as the authors' are.
    """
    with reading(Path(path), ".tflite"):
        check_bytes(4 * Path(path).stat().st_size, "it, read as float32,")
        data = Path(path).read_bytes()
        if data[4:8] != b"TFL3":
            raise ValueError("it does not begin as one")
        model = Table(data, int.from_bytes(data[:4], "little"))
        graphs, buffers = model.tables(MODEL_SUBGRAPHS), model.tables(MODEL_BUFFERS)
        if len(graphs) != 1:
            raise ValueError(f"it has {len(graphs)} graphs, expected 1")
        layers: dict[str, QuantizedLayer] = {}
        for name, weight, bias in convolutions(graphs[0]):
            if name in layers:
                raise ValueError(f"two convolutions are called {plain(name)}")
            (values, scale, zero), (shift, bias_scale, bias_zero) = stored(weight, buffers, UINT8), stored(bias, buffers, INT32)
            if values.ndim != 4 or shift.ndim != 1 or bias_zero or not 0 <= zero <= 255:
                claim = f"weights {values.shape}, zero {zero}, bias {shift.shape}, zero {bias_zero}"
                raise ValueError(f"{plain(name)} is no convolution of 8-bit weights and a bias: {claim}")
            layers[name] = QuantizedLayer(values, scale, zero, shift, bias_scale)
        if (claimed := sum(layer.values.nbytes + layer.bias.nbytes for layer in layers.values())) > len(data):
            raise ValueError(f"its convolutions claim {claimed:,} bytes, it has {len(data):,}: they share their numbers")
    return layers


def convolutions(graph: Table) -> Iterator[tuple[str, Table, Table]]:
    """(Layer, weight, bias) of every operator of three inputs, none of them left out (-1), the second a layer's weight."""
    tensors = graph.tables(SUBGRAPH_TENSORS)
    for operator in graph.tables(SUBGRAPH_OPERATORS):
        inputs = operator.vector(OPERATOR_INPUTS, "<i4")
        if len(inputs) == 3 and inputs.min() >= 0:
            _, weight, bias = (tensors[i] for i in inputs)
            if match := LAYER.search(name_of(weight)):
                yield match[1], weight, bias


def name_of(tensor: Table) -> str:
    """What a tensor is called."""
    letters = tensor.vector(TENSOR_NAME, "u1")
    if len(letters) > LONGEST_NAME:
        raise ValueError(f"a name claims {len(letters):,} bytes")
    return bytes(letters).decode()


def stored(tensor: Table, buffers: list[Table], kind: int) -> tuple[NDArray[Any], np.float32, int]:
    """The numbers of a tensor in its shape, their one scale, and the number that stands for zero."""
    name, shape = plain(name_of(tensor)), tensor.vector(TENSOR_SHAPE, "<i4")[: MOST_AXES + 1].tolist()
    if (found := tensor.integer(TENSOR_TYPE, "b")) != kind:
        raise ValueError(f"{name} is of type {found} of the schema, expected {kind} (3: 8 bits without a sign, 2: 32 with one)")
    quantization, number = tensor.table(TENSOR_QUANTIZATION), tensor.integer(TENSOR_BUFFER, "<I")
    if quantization is None or number >= len(buffers):
        raise ValueError(f"{name} has no scale, or no numbers")
    scales, zeros = quantization.vector(SCALE, "<f4"), quantization.vector(ZERO, "<i8")
    if len(scales) != 1 or len(zeros) != 1 or not 0 < scales[0] < np.inf:
        raise ValueError(f"{name} has {len(scales)} scales and {len(zeros)} zeros, expected one positive scale and one zero")
    values = buffers[number].vector(BUFFER_DATA, "u1").view("u1" if kind == UINT8 else "<i4")
    if len(shape) > MOST_AXES or min(shape, default=0) < 1 or prod(shape) != len(values):
        raise ValueError(f"{name} claims the shape {plain(shape)} and has {len(values):,} numbers")
    return values.reshape(shape), scales[0], int(zeros[0])
