""".tflite files that are damaged, of another network, or made to hurt: one clean line each, and little work."""

import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weight_files import refused, within_limits
from weights.tflite_files import FLOAT32, INT8, Claim, Layer, Raw, Scalar, authors_shapes, flatbuffer, network, write_tflite

from minideeplab import weights
from minideeplab.weights.quantized import pack
from minideeplab.weights.tflite_file import QuantizedLayer, Table, read_tflite

MEMORY = 200 * 2**20
NAN, INF = float("nan"), float("inf")


def layer(name: str = "aspp0", outputs: int = 2, **options: Any) -> Layer:
    values = np.arange(outputs * 3, dtype=np.uint8).reshape(outputs, 1, 1, 3)
    return Layer(name, values, np.arange(outputs, dtype=np.int32), **options)


def small() -> list[Layer]:
    """Five layers of the authors' network: dense, depthwise, and the last."""
    names = ("MobilenetV2/Conv", "MobilenetV2/expanded_conv/depthwise", "aspp0", "concat_projection", "logits/semantic")
    layers = [layer(name) for name in names]
    layers[1] = Layer(names[1], np.arange(18, dtype=np.uint8).reshape(1, 3, 3, 2), np.array([5, -5], np.int32))
    return layers


def same(found: dict[str, QuantizedLayer], layers: list[Layer]) -> bool:
    return found.keys() == {layer.name for layer in layers} and all(
        np.array_equal(found[layer.name].values, layer.values) and np.array_equal(found[layer.name].bias, layer.bias)
        for layer in layers
    )


def test_the_small_file_is_read(tmp_path: Path) -> None:
    assert same(read_tflite(write_tflite(tmp_path / "w", small())), small())
    assert len(weights.from_tflite(tmp_path / "w")) == 5 * 4 + 2


# Layers that are not the authors'

LAYERS: dict[str, tuple[list[Layer], str]] = {
    "a weight of 32 bits": ([layer(kind=FLOAT32)], "is of type 0 of the schema, expected 3"),
    "a weight of signed bytes, as newer files have": ([layer(kind=INT8)], "is of type 9 of the schema, expected 3"),
    "a bias of bytes": ([layer(bias_kind=INT8)], "BatchNorm_Fold/bias is of type 9 of the schema, expected 2"),
    "a scale for every channel": ([layer(scale=[0.5, 0.25], zero=[0, 0])], "has 2 scales and 2 zeros, expected one"),
    "a scale for every channel of the bias": ([layer(bias_scale=[0.5] * 2, bias_zero=[0] * 2)], "has 2 scales and 2 zeros"),
    "two zeros": ([layer(zero=[1, 2])], "has 1 scales and 2 zeros"),
    "no scale": ([layer(scale=[])], "has 0 scales and 1 zeros"),
    "no zero": ([layer(zero=[])], "has 1 scales and 0 zeros"),
    **{f"a scale of {wrong}": ([layer(scale=[wrong])], "expected one positive scale") for wrong in (0, -0.5, NAN, INF, -INF)},
    **{f"a bias scale of {wrong}": ([layer(bias_scale=[wrong])], "expected one positive") for wrong in (0, -0.5, NAN, INF)},
    **{f"a zero of {wrong}": ([layer(zero=[wrong])], f"zero {wrong}, bias") for wrong in (-1, 256, 2**63 - 1, -(2**63))},
    "a bias whose zero is not 0": ([layer(bias_zero=[1])], r"bias \(2,\), zero 1"),
    "a scale that leads beyond float32": ([layer(scale=[3e38])], r"lead beyond float32: 3\.0"),
    "a bias that leads beyond float32": ([replace(layer(), bias=np.array([-9, 1]).astype("i4"), bias_scale=[1e38])], "float32"),
    "a shape larger than its bytes": ([layer(shape=(3, 1, 1, 3))], r"claims the shape \[3, 1, 1, 3\] and has 6 numbers"),
    "a shape smaller than its bytes": ([layer(shape=(1, 1, 1, 3))], r"claims the shape \[1, 1, 1, 3\] and has 6 numbers"),
    "a shape of 2^120": ([layer(shape=(2**30,) * 4)], r"claims the shape \[1073741824, "),
    "a negative shape": ([layer(shape=(-2, -1, 1, 3))], r"claims the shape \[-2, -1, 1, 3\]"),
    "a shape with a 0": ([replace(layer(shape=(0, 1, 1, 3)), values=np.empty(0, "u1"))], r"claims the shape \[0, 1, 1, 3\]"),
    "a shape of nothing": ([layer(shape=())], r"claims the shape \[\]"),
    "a shape of two axes": ([layer(shape=(2, 3))], r"no convolution of 8-bit weights and a bias: weights \(2, 3\)"),
    "a shape of nine axes": ([layer(shape=(2, 3) + (1,) * 7)], r"claims the shape \[2, 3, 1, 1"),
    "a bias of four axes": ([replace(layer(), bias=np.zeros((2, 1, 1, 1), np.int32))], r"bias \(2, 1, 1, 1\)"),
    "a bias that is too short": ([replace(layer(), bias=np.zeros(1, np.int32))], "aspp0 has 2 channels and a bias of 1"),
    "a bias that is too long": ([replace(layer(), bias=np.zeros(3, np.int32))], "aspp0 has 2 channels and a bias of 3"),
    "a bias of six bytes": ([replace(layer(), bias=np.zeros(6, np.uint8))], "is no complete .tflite: "),
    "an input that is no tensor": ([layer(inputs=(0, 1, 99))], "IndexError"),
    "a buffer that is none": ([layer(fields={2: Scalar("<I", 99)})], "has no scale, or no numbers"),
    "a buffer without numbers": ([layer(fields={2: Scalar("<I", 0)})], "and has 0 numbers"),
    "no quantization": ([layer(fields={4: Scalar("<b", 0)})], "is no complete .tflite"),
    "a name that is no UTF-8": ([layer(weight_name=b"\xff\xfe/weights_quant/")], "'utf-8' codec can't decode"),
    "a name with control characters": ([layer("aspp0\x1b]0;title\x07\n")], r"title\?\? is no layer|\?\]0 is no layer|title"),
    "a name of escapes": ([layer("\x1b[31m\n\u202easpp0")], r"\?\[31m\?\?aspp0 is no layer of the authors'"),
    "a name of a megabyte": ([layer("a" * 2**20)], "a name claims 2,097,"),
    "the same layer twice": ([layer(), layer()], "two convolutions are called aspp0"),
    "the same layer under two names": (
        [layer("MobilenetV2/expanded_conv_0/project"), layer("MobilenetV2/expanded_conv/project")],
        "expanded_conv/project is no layer .* or one that comes twice",
    ),
    "no layer": ([], "no convolution in it has 8-bit weights under the authors' names"),
    "layers whose weights say no layer": ([layer(weight_name="aspp0/Conv2D_Fold")], "no convolution in it has 8-bit weights"),
    "a MobileNetV1": ([layer("FeatureExtractor/MobilenetV1/MobilenetV1/Conv2d_0")], "MobilenetV1/Conv2d_0 is no layer"),
    "an SSD": ([layer("BoxPredictor_0/BoxEncodingPredictor")], "BoxEncodingPredictor is no layer of the authors' DeepLabV3"),
    "an SSD on MobileNetV2": ([layer("FeatureExtractor/MobilenetV2/Conv")], "FeatureExtractor/MobilenetV2/Conv is no layer"),
    "a MobileNetV2 that classifies": ([layer("MobilenetV2/Conv_1")], "MobilenetV2/Conv_1 is no layer"),
    "an 18th block": ([layer("MobilenetV2/expanded_conv_17/expand")], "expanded_conv_17/expand is no layer"),
    "a block of a million": ([layer("MobilenetV2/expanded_conv_1000000/expand")], "expanded_conv_1000000/expand is no layer"),
    "a ResNet, whose batch norms have another eps": ([layer("resnet_v1_101/conv1_1")], "resnet_v1_101/conv1_1 is no layer"),
    "a decoder": ([layer("decoder/feature_projection0")], "decoder/feature_projection0 is no layer"),
    "an Xception": ([layer("xception_65/entry_flow/conv1_1")], "xception_65/entry_flow/conv1_1 is no layer"),
}  # fmt: skip


@pytest.mark.parametrize("claim", LAYERS)
def test_what_is_no_network_of_the_authors_is_refused_in_one_line(tmp_path: Path, claim: str) -> None:
    layers, reason = LAYERS[claim]
    refused(weights.from_tflite, write_tflite(tmp_path / "w.tflite", layers), reason, memory=MEMORY)


def test_a_bias_is_as_long_as_its_channels_whichever_axis_they_are() -> None:
    """(1, 3, 3, 3): three channels if depthwise, one if dense."""
    values, three = np.zeros((1, 3, 3, 3), np.uint8), np.zeros(3, np.int32)
    stored = QuantizedLayer(values, np.float32(1), 0, three, np.float32(1))
    assert pack({"MobilenetV2/expanded_conv/depthwise": stored})
    assert pack({"MobilenetV2/Conv": stored._replace(bias=three[:1])})
    for name, bias in (("MobilenetV2/expanded_conv/depthwise", three[:1]), ("MobilenetV2/Conv", three), ("aspp0", three[:0])):
        with pytest.raises(ValueError, match=rf"{name} has \d channels and a bias of {len(bias)}"):
            pack({name: stored._replace(bias=bias)})


def test_the_largest_numbers_that_float32_has_are_read(tmp_path: Path) -> None:
    most = float(np.finfo(np.float32).max)
    wide = replace(layer(), scale=[most / 256], zero=[255], bias=np.array([-256, 255], np.int32), bias_scale=[most / 256])
    state = weights.from_tflite(write_tflite(tmp_path / "w", [wide]))
    assert all(value.isfinite().all() for value in state.values())
    assert state["aspp.branches.1.bn.bias"][0] == pytest.approx(-most)


# Other tables


def model(**fields: Any) -> dict[int, Any]:
    """The small network's table with one field of the model, the graph, the first tensor, operator or buffer exchanged."""
    made = network(small())
    graph = made[2][0]
    tables = {"model": made, "graph": graph, "weight": graph[0][1], "operator": graph[3][0], "buffer": made[4][1]}
    for name, change in fields.items():
        tables[name].update(change)
    return made


MANY = {4: {2: np.zeros(1, "<f4")}}
TABLES: dict[str, tuple[dict[int, Any], str]] = {
    "no graph": (model(model={2: []}), "it has 0 graphs, expected 1"),
    "no list of graphs": ({0: Scalar("<I", 3)}, "it has 0 graphs, expected 1"),
    "two graphs": (model(model={2: model()[2] * 2}), "it has 2 graphs, expected 1"),
    "an empty model": ({}, "it has 0 graphs"),
    "a graph without operators": (model(graph={3: []}), "no convolution in it"),
    "a graph without tensors": (model(graph={0: []}), "IndexError"),
    "a hundred thousand graphs": (model(model={2: model()[2] * 100_000}), "a list claims 100,000 entries"),
    "a hundred thousand operators": (model(graph={3: [{}] * 100_000}), "a list claims 100,000 entries"),
    "a hundred thousand tensors": (model(graph={0: [MANY] * 100_000}), "a list claims 100,000 entries"),
    "a hundred thousand buffers": (model(model={4: [{}] * 100_000}), "a list claims 100,000 entries"),
    **{
        f"{what} of 2^{power} entries": (model(**{name: {field: Claim(2**power - (power == 32), bytes(64))}}), reason)
        for power in (20, 31, 32)
        for what, name, field, reason in (
            ("a list of graphs", "model", 2, "is no complete .tflite: (a list claims|buffer is smaller)"),
            ("a list of tensors", "graph", 0, "is no complete .tflite: (a list claims|buffer is smaller)"),
            ("a list of inputs", "operator", 1, "is no complete .tflite: buffer is smaller than requested size"),
            ("a buffer", "buffer", 0, "is no complete .tflite: buffer is smaller than requested size"),
            ("a name", "weight", 3, "is no complete .tflite: (a name claims|buffer is smaller)"),
            ("a shape", "weight", 0, "is no complete .tflite: buffer is smaller than requested size"),
        )
    },
    **{
        f"{name} at an offset of {offset}": (model(**{table: {field: Raw(offset)}}), "is no complete .tflite: ")
        for offset in (2**31 - 1, 2**31, 2**32 - 1, 2**20)
        for name, table, field in (
            ("the graphs", "model", 2), ("the operators", "graph", 3), ("the inputs", "operator", 1), ("the name", "weight", 3),
            ("the shape", "weight", 0), ("the quantization", "weight", 4), ("the numbers", "buffer", 0),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("claim", TABLES)
def test_no_table_is_believed(tmp_path: Path, claim: str) -> None:
    made, reason = TABLES[claim]
    path = tmp_path / "w.tflite"
    path.write_bytes(flatbuffer(made))
    refused(weights.from_tflite, path, reason, memory=MEMORY)


def chained(*tables: tuple[int, bytes]) -> bytes:
    """The head of a file, then bytes at places."""
    data = bytearray(b"\x10\0\0\0TFL3" + bytes(120))
    for place, numbers in tables:
        data[place : place + len(numbers)] = numbers
    return bytes(data)


CIRCLES = {
    "a table that is its own list of fields": chained((16, struct.pack("<iHHHH", 0, 64, 4, 4, 4))),
    "a list of fields before the file": chained((16, struct.pack("<i", 17))),
    "a list of fields two gigabytes before the file": chained((16, struct.pack("<i", 2**31 - 1))),
    "a list of fields behind the file": chained((16, struct.pack("<i", -(2**31)))),
    "a list of fields that ends behind the file": chained((16, struct.pack("<iHH", -4, 65535, 4))),
    "a list of fields of no length": chained((16, struct.pack("<iHH", -4, 0, 0))),
    "a field that leads to itself": chained((16, struct.pack("<iHHHHH", -4, 14, 8, 4, 4, 4))),
    "graphs that are the model": chained((16, struct.pack("<iHHHHHxxIII", -4, 10, 8, 0, 0, 18, 4, 1, 0))),
    "a root behind the file": b"\xff\xff\xff\x7fTFL3" + bytes(64),
    "a root at the last byte": b"\x47\0\0\0TFL3" + bytes(64),
    "a root at the head": bytes(4) + b"TFL3" + bytes(64),
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_tables_that_lead_nowhere_or_to_themselves_are_refused(tmp_path: Path, circle: str) -> None:
    path = tmp_path / "w.tflite"
    path.write_bytes(CIRCLES[circle])
    refused(weights.from_tflite, path, "is no complete .tflite: |no convolution in it", memory=MEMORY)


def test_a_list_of_fields_before_the_file_is_not_looked_for_at_its_end(tmp_path: Path) -> None:
    """struct counts from the end where a place is negative: there the fields of a model could stand."""
    path, whole = write_tflite(tmp_path / "w.tflite", small()), bytearray((tmp_path / "w.tflite").read_bytes())
    root = int.from_bytes(whole[:4], "little")
    fields = whole[root - struct.unpack_from("<i", whole, root)[0] : root]
    struct.pack_into("<i", whole, root, root + len(fields))  # which leads to -len(fields)
    path.write_bytes(whole + fields)
    refused(weights.from_tflite, path, f"a table at byte {root} has its list of fields before the file", memory=MEMORY)


def test_offsets_lead_forward_only(tmp_path: Path) -> None:
    """With a sign, a weight's quantization could be the model itself: tables in a circle."""
    path = write_tflite(tmp_path / "w.tflite", small())
    whole = bytearray(path.read_bytes())
    root = int.from_bytes(whole[:4], "little")
    place = Table(bytes(whole), root).tables(2)[0].tables(0)[1].field(4)
    struct.pack_into("<i", whole, place, root - place)
    path.write_bytes(whole)
    refused(weights.from_tflite, path, "is no complete .tflite: unpack_from requires a buffer of at least 42949", memory=MEMORY)


# Work that multiplies


def test_a_shape_of_eight_million_axes_is_not_listed(tmp_path: Path) -> None:
    """As a list of Python's numbers it would take 288 megabytes."""
    path = write_tflite(tmp_path / "w.tflite", [layer(fields={0: np.full(8_000_000, 257, "<i4")})])
    refused(weights.from_tflite, path, r"claims the shape \[257, 257, .* and has 6 numbers", memory=MEMORY)


def test_names_are_not_read_again_and_again(tmp_path: Path) -> None:
    """2,000 operators whose weight has a name of eight megabytes: 16 gigabytes to read."""
    made = model(weight={3: b"a" * 2**23})
    made[2][0][3] = made[2][0][3][:1] * 2_000
    path = tmp_path / "w.tflite"
    path.write_bytes(flatbuffer(made))
    refused(weights.from_tflite, path, "a name claims 8,388,608 bytes", memory=MEMORY)


def test_a_long_name_is_searched_once(tmp_path: Path) -> None:
    """A search that began anew at every letter would need 8 million steps for each of 2,000 operators."""
    made = model(weight={3: b"a" * 4096})
    made[2][0][3] = made[2][0][3][:1] * 2_000
    path = tmp_path / "w.tflite"
    path.write_bytes(flatbuffer(made))
    refused(weights.from_tflite, path, "no convolution in it has 8-bit weights", memory=MEMORY)


def test_layers_that_share_their_bytes_are_not_copied_a_hundred_times(tmp_path: Path) -> None:
    """Every layer of the network reads the same eight megabytes: as float32, 1.7 gigabytes."""
    names = [name for name, _ in authors_shapes(1, 21, 256)]
    first = Layer(names[0], np.zeros((1, 1, 1, 2**23), np.uint8), np.zeros(1, np.int32))
    shared = {0: np.array([1, 1, 1, 2**23], "<i4"), 2: Scalar("<I", 1)}
    others = [layer(name, 1, fields=shared) for name in names if not name.endswith("depthwise")]
    path = write_tflite(tmp_path / "w.tflite", [first, *others[1:]])
    refused(weights.from_tflite, path, r"its convolutions claim 318,7\d\d,\d\d\d bytes, it has 8,4\d\d,\d\d\d", memory=MEMORY)


def test_a_file_larger_than_any_network_is_not_read(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "w.tflite", small())
    os.truncate(path, 2**28)  # takes no space on the disk
    refused(weights.from_tflite, path, "as float32, claims 1,073,741,824 bytes: no network here needs more", memory=MEMORY)


# Damage


def test_what_is_no_tflite_says_so(tmp_path: Path) -> None:
    path = tmp_path / "w.tflite"
    for data in (
        b"",
        b"T",
        b"\x1c\0\0\0",
        b"once upon a time",
        bytes(64),
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"\x1c\0\0\0TFL2" * 9,
    ):
        path.write_bytes(data)
        refused(weights.from_tflite, path, "is no complete .tflite: it does not begin as one", memory=MEMORY)
    path.write_bytes(b"\x1c\0\0\0TFL3")
    refused(weights.from_tflite, path, "is no complete .tflite: unpack_from requires a buffer", memory=MEMORY)


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, reason in (
        ("pipe", "is a pipe, no regular"),
        ("link", "is a pipe, no regular"),
        (".", "is a folder, no regular"),
    ):
        refused(weights.from_tflite, tmp_path / name, reason)
    with pytest.raises(FileNotFoundError, match=r"absent\.tflite"):
        weights.from_tflite(tmp_path / "absent.tflite")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path, r = write_tflite(tmp_path / "w.tflite", small()), random.Random(0)
    whole = path.read_bytes()
    assert same(read_tflite(path), small())
    lengths = [len(whole) * i // 20 for i in range(20)] + [r.randrange(len(whole)) for _ in range(60)] + [len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        refused(weights.from_tflite, path, "is no complete .tflite: ", memory=MEMORY)


def every_word(whole: bytes) -> Iterator[bytes]:
    """Each word of four bytes exchanged for the numbers at which offsets, lengths and signs turn over."""
    for place in range(0, len(whole) - 3, 4):
        for number in (0, 1, 0x80000000, 0xFFFFFFFF):
            yield whole[:place] + struct.pack("<I", number) + whole[place + 4 :]


def flipped(whole: bytes) -> Iterator[bytes]:
    """One to thirty bits turned over, anywhere."""
    r = random.Random(0)
    for count in [1] * 200 + [3] * 100 + [30] * 100:
        data = bytearray(whole)
        for _ in range(count):
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        yield bytes(data)


def spliced(whole: bytes) -> Iterator[bytes]:
    """A stretch copied over another, or taken out."""
    r = random.Random(0)
    for _ in range(200):
        begin, end, to = r.randrange(len(whole)), r.randrange(len(whole)), r.randrange(len(whole))
        yield whole[:to] + whole[begin:end] + whole[to + max(0, end - begin) * r.randrange(2) :]


@pytest.mark.parametrize("damage", [every_word, flipped, spliced])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, damage: Callable[[bytes], Iterator[bytes]]) -> None:
    layers = small() if damage is not every_word else small()[4:]
    path = write_tflite(tmp_path / "w.tflite", layers)
    lines, read = list[str](), list[weights.State]()
    damaged = list(damage(path.read_bytes()))
    with within_limits(8, MEMORY):  # seconds and memory of all of them together
        for data in damaged:
            path.write_bytes(data)
            try:
                read.append(weights.from_tflite(path))
            except ValueError as error:
                lines.append(str(error))
    for line in lines:
        assert str(path) in line
        assert line.isprintable()
        assert len(line) < len(str(path)) + 500
    for state in read:
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in state.values())
    assert len(lines) > 20
    assert len(read) > 20  # what is not read may be anything
