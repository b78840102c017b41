"""The contract between a backbone and a head: two maps with names, and on request the last map of every stride."""

from itertools import chain
from math import ceil

import pytest
import torch
from strategies import scrambled
from torch import nn

from minideeplab import (
    AlignedBlock,
    AlignedXception,
    Features,
    MobileNetV2,
    Pyramid,
    ResNet,
    mobilenet_v2,
    resnet101,
    xception41,
    xception65,
    xception71,
)

BACKBONES = [xception41, xception65, xception71, resnet101, mobilenet_v2]
THIN = 1 / 64


@pytest.fixture(
    params=[(make, stride) for make in BACKBONES for stride in (32, 16, 8, 4)],
    ids=lambda p: f"{p[0].__name__}-{p[1]}",
    scope="module",
)
def backbone(request):
    make, output_stride = request.param
    return scrambled(make(output_stride=output_stride, width=THIN))


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 40, 39, generator=torch.Generator().manual_seed(1)).double()


def test_a_pyramid_is_the_features_and_more(backbone, image):
    features, pyramid = backbone(image), backbone.pyramid(image)
    assert type(features) is Features
    assert isinstance(pyramid, Features)
    assert isinstance(pyramid, Pyramid)
    low, high = pyramid
    assert torch.equal(low, features.low)
    assert torch.equal(high, features.high)
    assert pyramid.maps[backbone.output_stride] is high
    assert backbone.output_stride == 4 or pyramid.maps[4] is low


def test_every_stride_up_to_the_output_stride_has_a_map_of_the_channels_that_are_said(backbone, image):
    maps = backbone.pyramid(image).maps
    assert list(maps) == [stride for stride in (2, 4, 8, 16, 32) if stride <= backbone.output_stride]
    assert {stride: tuple(x.shape) for stride, x in maps.items()} == {
        stride: (2, channels, ceil(40 / stride), ceil(39 / stride)) for stride, channels in backbone.channels.items()
    }
    assert backbone.channels[backbone.output_stride] == backbone.high_channels
    assert backbone.output_stride == 4 or backbone.channels[4] == backbone.low_channels


@pytest.mark.parametrize("rows", [[(64, 2), (256, 2), (728, 2)], [(96, 1), (192, 2), (256, 2), (300, 2), (728, 1)]])
def test_an_entry_flow_of_ones_own_says_the_channels_of_its_own_maps(rows):
    net = AlignedXception(rows, 1, width=1 / 16).eval()
    maps = net.pyramid(torch.randn(1, 3, 33, 33)).maps
    assert net.channels == {stride: x.shape[1] for stride, x in maps.items()}
    assert net.channels[2] == next(depth for depth, stride in rows if stride == 2) // 16


def rows(net: nn.Module) -> list[str]:
    """The names of all rows of a backbone's listings."""
    parts = ["root", "entry_flow", "middle_flow", "exit_flow"]
    if isinstance(net, ResNet):
        parts = ["root", *(f"stages.{i}" for i in range(4))]
    if isinstance(net, MobileNetV2):
        parts = ["root", "rows"]
    return list(
        chain.from_iterable([f"{part}.{name}" for name, _ in net.get_submodule(part).named_children()] for part in parts)
    )


def tapped(net: nn.Module) -> nn.Module:
    """The row that makes `low`."""
    if isinstance(net, MobileNetV2):
        return net.rows[1]
    return net.entry_flow[net.tap] if isinstance(net, AlignedXception) else net.stages[0][1]


@pytest.mark.parametrize("make", BACKBONES)
@pytest.mark.parametrize("ask", ["forward", "pyramid"])
def test_hooks_fire_once_on_every_row_the_tapped_one_included(make, ask, image):
    net, heard = scrambled(make(width=THIN)), []
    for name in rows(net):
        net.get_submodule(name).register_forward_hook(lambda _, __, ___, name=name: heard.append(name))
    getattr(net, ask)(image)
    assert heard == rows(net)


@pytest.mark.parametrize("make", BACKBONES)
def test_a_hook_that_changes_the_tapped_row_is_obeyed(make, image):
    net = scrambled(make(width=THIN))
    before = net(image)
    tapped(net).register_forward_hook(lambda _, __, y: 2 * y if isinstance(y, torch.Tensor) else tuple(2 * x for x in y))
    after = net(image)
    assert torch.equal(after.low, 2 * before.low)
    assert not torch.equal(after.high, before.high)


@pytest.mark.parametrize("make", BACKBONES)
def test_the_maps_between_are_the_last_ones_before_each_stride(make, image):
    net, heard = scrambled(make(output_stride=32, width=THIN)), []
    if isinstance(net, AlignedXception):
        blocks = [m for m in net.modules() if isinstance(m, AlignedBlock) and m.separable_3.depthwise.stride == (2, 2)]
        for block in blocks:
            block.separable_2.register_forward_hook(lambda _, __, y: heard.append(y))
    elif isinstance(net, MobileNetV2):
        for row in [row for row in net.rows if row[0].stride > 1]:
            row.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    else:
        for row in [net.root[-1], *(unit for stage in net.stages for unit in stage if unit.stride > 1)]:
            row.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    maps = net.pyramid(image).maps
    assert len(heard) == 4
    for stride, said in zip((2, 4, 8, 16), heard, strict=True):
        low = stride == 4 and isinstance(net, ResNet)  # DeepLab's tap is the second unit, the third one strides
        assert torch.equal(maps[stride], said) != low, stride


def test_a_pyramid_sorts_its_maps_and_its_high_is_the_coarsest():
    maps = {stride: torch.full((1, 1, 1, 1), float(stride)) for stride in (8, 2, 16, 4)}
    pyramid = Pyramid.of(maps[4], maps)
    assert list(pyramid.maps) == [2, 4, 8, 16]
    assert (pyramid.low, pyramid.high) == (maps[4], maps[16])
