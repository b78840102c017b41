"""ResNet-101 beta as DeepLab's authors released it: three convolutions at the root, strides last, multi-grid, any size."""

import re
from math import ceil

import figures
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import ResNet, resnet101
from minideeplab.cost import profile

THIN = 1 / 32


def looks(net):
    """The 3 x 3 convolutions of the units, stage by stage."""
    return [[unit.look.conv for unit in stage] for stage in net.stages]


def test_every_line_makes_the_size_in_its_margin():
    lines = figures.listings(ResNet)
    promised, made = figures.promised(resnet101(), lines), figures.made(resnet101(), 513)
    assert [len(listing) for listing in lines.values()] == [4, 4]
    assert len(figures.margins(ResNet)) == 4 + 4 + 1
    last = {
        name: f"{name}.{len(stage) - 1}" for name, stage in resnet101().named_modules() if re.fullmatch(r"stages\.\d", name)
    }
    assert promised == {name: made[last.get(name, name)] for name in promised}  # a stage is as large as its last unit
    assert min(figures.margins(ResNet).items())[1] == made["picture"]


def test_it_counts_what_he_counted_but_for_the_root():
    """torchvision's resnet101 has 42,500,160 without classifier; the 7 x 7 root is exchanged, and a wider input follows."""
    root = 3 * 64 * 9 + 64 * 64 * 9 + 64 * 128 * 9 + 2 * (64 + 64 + 128)
    wider = (128 - 64) * (64 + 256)  # the first unit reads 128 channels with its 1 x 1 and its shortcut
    assert profile(resnet101(), (1, 3, 65, 65)).params == 42_500_160 - (3 * 64 * 49 + 2 * 64) + root + wider


def test_keys_and_shapes_are_the_same_at_every_output_stride():
    shapes = [{k: v.shape for k, v in resnet101(output_stride=s, width=THIN).state_dict().items()} for s in (32, 16, 8, 4)]
    assert all(other == shapes[0] for other in shapes)


def test_the_stride_sits_in_the_last_unit_of_a_stage_on_the_3_x_3():
    strides = [[conv.stride[0] for conv in stage] for stage in looks(resnet101(output_stride=32, width=THIN))]
    assert strides == [[1, 1, 2], [1, 1, 1, 2], [1] * 22 + [2], [1, 1, 1]]


@pytest.mark.parametrize(("output_stride", "rates"), [(32, [1, 1, 1]), (16, [1, 1, 2]), (8, [1, 2, 4])])
def test_a_stage_behind_a_lost_stride_is_dilated_and_multi_grid_multiplies_the_last(output_stride, rates):
    net = resnet101(output_stride=output_stride, multi_grid=(1, 2, 4), width=THIN)
    dilations = [[conv.dilation[0] for conv in stage] for stage in looks(net)]
    assert [stage[0] for stage in dilations[1:]] == rates
    assert dilations[3] == [rates[2], 2 * rates[2], 4 * rates[2]]
    assert all(len(set(stage)) == 1 for stage in dilations[:3])


@pytest.mark.parametrize("side", [(64, 98), (65, 97)])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dense_network_subsampled_is_the_strided_network(side, output_stride):
    strided, dense = scrambled(resnet101(output_stride=32, width=THIN)), resnet101(output_stride=output_stride, width=THIN)
    dense.load_state_dict(strided.state_dict())
    x, step = torch.randn(1, 3, *side).double(), 32 // output_stride
    with torch.no_grad():
        (low, high), (same, finer) = strided(x), dense.double().eval()(x)
        assert high.std() > 0.1
        assert_close(same, low)
        assert_close(finer[:, :, ::step, ::step], high)
        for stage in looks(dense):
            for conv in stage:
                conv.dilation, conv.padding = (1, 1), (1, 1)
        assert (dense(x).high[:, :, ::step, ::step] - high).abs().max() > 0.01  # rates are needed, not only strides


@settings(max_examples=30)
@given(st.sampled_from([32, 16, 8]), st.integers(1, 80), st.integers(1, 80))
def test_a_map_of_stride_s_has_a_pixel_for_every_s_pixels_begun(output_stride, height, width):
    net = ResNet([3, 1, 1, 1], output_stride=output_stride, multi_grid=[1], width=1e-9).eval()
    with torch.no_grad():
        low, high = net(torch.ones(2, 3, height, width))
    assert low.shape == (2, 4, ceil(height / 4), ceil(width / 4))
    assert high.shape == (2, 4, ceil(height / output_stride), ceil(width / output_stride))


def test_width_scales_every_layer():
    full, half = (dict(resnet101(width=width).named_parameters()) for width in (1, 0.5))
    assert full.keys() == half.keys()
    for name, weight in full.items():
        assert list(half[name].shape) == [n if n in (1, 3) and axis else n // 2 for axis, n in enumerate(weight.shape)], name


def test_low_is_the_second_unit_before_any_relu():
    net, heard = scrambled(resnet101(width=THIN)), []
    net.stages[0][1].expand.register_forward_hook(lambda _, __, y: heard.append(y))
    low = net(torch.randn(1, 3, 40, 40).double()).low
    assert torch.equal(low, heard[0])
    assert (low < 0).any()  # a rectified map would have no negative value


def test_a_unit_rectifies_the_sum_and_skips_pixels_where_channels_agree():
    first, _, last = scrambled(resnet101(width=THIN)).stages[0]
    x = torch.randn(1, 8, 7, 7).double()
    assert last.shortcut is None
    assert_close(last(x), F.relu(last.expand(last.look(last.reduce(x))) + x[:, :, ::2, ::2]))
    x = torch.randn(1, 4, 7, 7).double()
    assert_close(first(x), F.relu(first.expand(first.look(first.reduce(x))) + first.shortcut(x)))
    summed, residual = first(x, tap=True)
    assert torch.equal(summed, first(x))
    assert torch.equal(residual, first.expand(first.look(first.reduce(x))))
    assert [[unit.shortcut is not None for unit in stage] for stage in resnet101(width=THIN).stages] == [
        [True] + [False] * (count - 1) for count in (3, 4, 23, 3)
    ]


def test_batch_norms_eps_is_that_of_the_release():
    assert {m.eps for m in resnet101(width=THIN).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize("units", [[3, 1, 1, 1], [3, 1, 2, 1], [3, 2, 1, 1], [3, 4, 6, 3]])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_maps_of_the_pyramid_have_the_channels_that_the_backbone_names(units, output_stride):
    """A stage of one unit strides in its first: the map before it is still as wide as the stage before."""
    net = ResNet(units, multi_grid=(1,) * units[3], output_stride=output_stride, width=1 / 16).eval()
    with torch.no_grad():
        maps = net.pyramid(torch.rand(1, 3, 65, 65)).maps
    assert {stride: x.shape[1] for stride, x in maps.items()} == net.channels
