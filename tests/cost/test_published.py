"""What others print about the same networks, met to the last printed digit or with the reason why not."""

from collections import Counter
from functools import cache

import pytest
import torch
from torch import nn

from minideeplab import (
    DeepLabV3,
    DeepLabV3Plus,
    Inception17,
    Inception35,
    InceptionV3,
    ReductionTo17,
    Xception,
    mobilenet_v2,
    resnet101,
    xception41,
    xception65,
    xception71,
)
from minideeplab.cost import profile, published, tf_multiply_adds
from minideeplab.cost.formulas import convolution, inception_tower, spatially_separable
from minideeplab.cost.published import (
    DEEPLABV3PLUS_TABLE_3,
    DEEPLABV3PLUS_TABLE_5,
    DEEPLABV3PLUS_TABLE_7A,
    MAC_COUNTS,
    MODEL_ZOO,
    PARAMETER_COUNTS,
    XCEPTION_TABLE_3,
)

NETWORKS = {
    "Xception": Xception,
    "InceptionV3": InceptionV3,
    "xception41": lambda: xception41(output_stride=32),
    "xception65": lambda: xception65(output_stride=32),
    "xception71": lambda: xception71(output_stride=32),
    "DeepLabV3 resnet101": lambda: DeepLabV3(resnet101(), 21, separable=False),
    "DeepLabV3 mobilenet_v2": lambda: DeepLabV3(mobilenet_v2(), 21, separable=False),
    "DeepLabV3 mobilenet_v2, no rates": lambda: DeepLabV3(mobilenet_v2(), 21, rates=()),
    "DeepLabV3Plus xception65": lambda: DeepLabV3Plus(xception65(), 21),
    "DeepLabV3Plus xception71, 19 classes": lambda: DeepLabV3Plus(xception71(), 19),
}


@cache
def network(name: str) -> nn.Module:
    with torch.device("meta"):
        return NETWORKS[name]()


def params(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def statistics(net: nn.Module) -> int:
    return sum(buffer.numel() for name, buffer in net.named_buffers() if "running" in name)


def gammas(net: nn.Module) -> int:
    return sum(module.num_features for module in net.modules() if isinstance(module, nn.BatchNorm2d))


def named(row) -> str:
    return f"{row.source}: {row.model}"


@pytest.mark.parametrize("row", PARAMETER_COUNTS, ids=named)
def test_our_count_and_the_named_differences_are_the_published_count(row):
    counted = params(network(row.model)) + sum(amount for amount, _ in row.differences)
    assert round(counted / row.unit) * row.unit == row.params
    assert all(amount and reason for amount, reason in row.differences)


@pytest.mark.parametrize("row", [row for row in PARAMETER_COUNTS if row.differences], ids=named)
def test_no_difference_is_there_for_nothing(row):
    assert round(params(network(row.model)) / row.unit) * row.unit != row.params


def test_the_differences_are_counted_on_the_networks():
    def claimed(source: str, model: str) -> dict[str, int]:
        (row,) = [row for row in PARAMETER_COUNTS if (row.source, row.model) == (source, model)]
        return {reason: amount for amount, reason in row.differences}

    running, without_gamma, classifier = (
        "running means and variances",
        "batch norm without gamma",
        "a classifier of 1000 classes",
    )
    assert claimed("Keras, total", "Xception") == {running: statistics(network("Xception"))}
    inception = network("InceptionV3")
    assert claimed("Keras, total", "InceptionV3") == {without_gamma: -gammas(inception), running: statistics(inception)}
    assert claimed("Keras, trainable", "InceptionV3") == {without_gamma: -gammas(inception)}
    assert claimed("timm", "xception65") == {classifier: 2048 * 1000 + 1000}
    assert claimed("Qualcomm's card", "DeepLabV3Plus xception65") == {running: statistics(network("DeepLabV3Plus xception65"))}
    (aux,) = claimed("torchvision", "InceptionV3").values()
    assert aux == (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + (768 * 1000 + 1000)  # 1 x 1, 5 x 5, linear
    root, refine, aux = claimed("torchvision", "DeepLabV3 resnet101").values()
    plain, beta = 64 * 3 * 49 + 2 * 64, 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    assert root == plain - beta - 64 * (64 + 256)  # and the first unit's 1 x 1 and shortcut read 64 channels less
    assert refine == 256 * 256 * 9 + 2 * 256
    assert aux == 1024 * 256 * 9 + 2 * 256 + (256 * 21 + 21)


def test_table_3_of_xception_measured_an_inception_v3_that_no_paper_describes():
    """Chollet's first Keras port: https://github.com/fchollet/deep-learning-models/blob/134615aa/inception_v3.py."""
    with torch.device("meta"):
        net = InceptionV3()
        modules_35 = [Inception35(192, pooled=32), Inception35(256, pooled=32), Inception35(256, pooled=32)]
        modules_17 = [ReductionTo17(256), Inception17(736, 128), Inception17(768, 160), Inception17(768, 160)]
        last_17 = Inception17(768, 192)
        last_17.towers[2][0] = Inception17(768, 160).towers[2][0]  # 768 -> 160
        last_17.towers[2][1].conv = nn.Conv2d(160, 192, (7, 1), bias=False)  # 160 -> 192
    port = nn.ModuleList([net.stem, *modules_35, *modules_17, last_17, net.modules_8])
    biases = sum(module.out_channels for module in port.modules() if isinstance(module, nn.Conv2d))
    assert params(port) + biases + params(net.classify) == XCEPTION_TABLE_3[0].params == 23_626_728


def test_the_same_size_within_3_5_percent_holds_for_that_port_only():
    port, xception = (row.params for row in XCEPTION_TABLE_3)
    assert port / xception < 1.035 < params(network("InceptionV3")) / xception


def test_factorized_windows_save_what_szegedy_says():
    """Szegedy 2016, sections 3.1 and 3.2, at an equal number of channels."""
    five, three = (convolution(64, 64, kernel, 35, 35).macs for kernel in (5, 3))
    assert round(100 * (1 - 2 * three / five)) == 28
    assert round(100 * (1 - spatially_separable(64, 64, 3, 35, 35).macs / three)) == 33
    assert round(100 * (1 - 2 * convolution(64, 64, 2, 35, 35).macs / three)) == 11


def test_a_1_x_1_first_leaves_28_percent_of_the_5_x_5_in_the_first_inception_module():
    tower, alone = inception_tower(192, 48, 64, 5, 35, 35), convolution(192, 64, 5, 35, 35)
    assert (tower.params, alone.params) == (86_016, 307_200)
    assert round(100 * tower.macs / alone.macs) == 28
    assert inception_tower(192, 192, 64, 5, 35, 35).macs > alone.macs  # a 1 x 1 that does not reduce only adds


@pytest.mark.parametrize("row", MAC_COUNTS, ids=named)
def test_macs_and_what_else_was_counted_are_the_published_billions(row):
    report = profile(network(row.model), (1, 3, 299, 299))
    classifier = 2048 * 1000 if row.model in ("xception41", "xception65", "xception71") else 0
    normalized = sum(torch.Size(layer.shape).numel() for layer in report.rows if layer.kind == "batch norm")
    digits = len(str(row.billions).partition(".")[2])
    assert round((report.macs + classifier + row.batch_norm * normalized) / 1e9, max(digits, 2)) == row.billions
    assert not row.batch_norm or round((report.macs + classifier) / 1e9, 2) != row.billions


def test_table_rows_are_distinct_and_plausible():
    tables = {name: table for name, table in vars(published).items() if "TABLE" in name}
    assert len(tables) == 17
    for table in tables.values():
        assert max(Counter(table).values()) == 1
        assert len({type(row) for row in table}) == 1
        assert all(0 < row.miou < 100 for row in table if hasattr(row, "miou"))


def test_tables_3_and_5_agree_with_what_is_said_of_them_elsewhere():
    table_3 = {row.name: row for row in DEEPLABV3PLUS_TABLE_3}
    table_5 = {row.name: row for row in DEEPLABV3PLUS_TABLE_5}
    assert (len(table_3), len(table_5)) == (14, 24)
    for row in published.DEEPLABV3_TABLE_6[:4]:  # the block without decoder repeats DeepLabV3's table
        name = row.what.replace("output stride", "OS").replace(", multi-scale", " MS").replace(", flip", " flip")
        assert table_3[name].miou == row.miou
    for row in (
        row for row in MODEL_ZOO if row.classes == 21 and row.checkpoint.startswith("xception")
    ):  # the released VOC checkpoints are two rows of table 5
        name = f"OS {row.eval_os} decoder SC{' MS flip' if row.flip else ''} COCO"
        assert (table_5[name].miou, table_5[name].multiply_adds) == (row.miou, row.multiply_adds)
    assert DEEPLABV3PLUS_TABLE_7A[1].miou == MODEL_ZOO[2].miou
    assert table_3["OS 8 decoder"].multiply_adds == table_3["trained at 32, OS 8 decoder"].multiply_adds


def test_separable_costs_accuracy_and_saves_a_third_and_more():
    """The paper: 33 % to 41 % fewer multiply-adds at similar mIoU; the article: the same or better."""
    rows = {row.name: row for row in DEEPLABV3PLUS_TABLE_5}
    separable = [row for row in DEEPLABV3PLUS_TABLE_5 if row.separable and not row.coco]
    pairs = [(rows[row._replace(separable=False).name], row) for row in separable]
    assert [round(dense.miou - row.miou, 2) for dense, row in pairs] == [0.14, 0.23, 0.20, 0.24]
    assert [round(100 * (1 - row.multiply_adds / dense.multiply_adds)) for dense, row in pairs] == [40, 41, 33, 35]


def test_table_7_of_mobilenet_v2_says_what_the_model_zoo_and_deeplab_v3_say():
    rows = {(row.backbone, row.aspp, row.multi_scale): row for row in published.MOBILENETV2_TABLE_7}
    one, many = (row for row in MODEL_ZOO if row.checkpoint == "mobilenetv2_coco_voc_trainaug")
    for row, zoo in ((rows["MobileNetV2", False, False], one), (rows["MobileNetV2", False, True], many)):
        assert row.miou == zoo.miou
        assert row.multiply_adds == pytest.approx(zoo.multiply_adds, rel=1e-3)
    resnet = {row.name: row.multiply_adds for row in DEEPLABV3PLUS_TABLE_3}
    assert rows["ResNet-101", True, False].multiply_adds == pytest.approx(resnet["OS 16"], abs=0.03)
    assert rows["ResNet-101", True, True].multiply_adds == pytest.approx(resnet["OS 8 MS flip"], abs=0.02)


def test_our_macs_round_to_2_74_billion_where_2_75_are_printed_and_the_profiler_counted_the_rest():
    net = network("DeepLabV3 mobilenet_v2, no rates")
    assert profile(net, (1, 3, 513, 513)).macs == 2_740_709_056
    assert round(tf_multiply_adds(net, 513).total / 1e9, 2) == 2.75
    assert round(tf_multiply_adds(net, 512).total / 1e9, 2) == 2.61  # the caption's 512 is not what was counted
