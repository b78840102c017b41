"""MobileNetV2 as the authors segment with it: thin ends without ReLU, ReLU6 between, lost strides, TensorFlow's padding."""

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

from minideeplab import DeepLabV3, DeepLabV3Plus, InvertedResidual, MobileNetV2, mobilenet_v2
from minideeplab.cost import profile

THIN = 1 / 16
TABLE_2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
SHORTCUTS = [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


def blocks(net):
    """0 to 16; TensorFlow calls them expanded_conv, expanded_conv_1, ..."""
    return [block for row in net.rows for block in row]


def test_every_line_makes_the_size_in_its_margin():
    lines, made = figures.listings(MobileNetV2), figures.made(mobilenet_v2(), 513)
    assert made["root"] == lines.pop("root")[0].size
    promised = figures.promised(mobilenet_v2(), lines)
    assert promised == {f"rows.{number}": made[f"rows.{number}"] for number in range(7)}
    assert min(figures.margins(MobileNetV2).items())[1] == made["picture"]
    assert len(figures.margins(MobileNetV2)) == 1 + 1 + 7


def test_its_rows_are_those_of_table_2():
    """(t, c, n, s) of Sandler 2018, table 2, at output stride 32, where no stride is lost."""
    net, rows = mobilenet_v2(output_stride=32), []
    assert (net.root.conv.out_channels, net.root.conv.stride) == (32, (2, 2))
    for row in net.rows:
        (first, *others), (_, c, _, _) = row, TABLE_2[len(rows)]
        wide = {block.depthwise.in_channels // (block.expand.in_channels if block.expand else 32) for block in row}
        assert {block.project.conv.out_channels for block in row} == {c}
        assert {block.stride for block in others} <= {1}
        rows.append((*wide, c, len(row), first.stride))
    assert rows == TABLE_2


@pytest.mark.parametrize(("width", "params", "macs"), [(1, 2_113_557, 2_740_709_056), (0.5, 697_013, 867_496_704)])
def test_counts_are_those_of_the_authors_networks(width, params, macs):
    """ "2.75 B" and "0.88 B" multiply-adds in the authors' list of models, the smaller one as "dm05"."""
    report = profile(DeepLabV3(mobilenet_v2(width=width), 21, rates=()), (1, 3, 513, 513))
    assert (report.params, report.macs) == (params, macs)


def test_the_backbone_alone_is_counted_as_its_docstring_says():
    assert profile(mobilenet_v2(), (1, 3, 65, 65)).params == 1_811_712
    assert "1,811,712" in mobilenet_v2.__doc__


def test_the_shortcuts_are_where_stride_and_channels_stay_and_nowhere_else():
    for output_stride in (32, 16, 8, 4):
        net = scrambled(mobilenet_v2(output_stride=output_stride, width=THIN))
        assert [number for number, block in enumerate(blocks(net)) if block.has_shortcut] == SHORTCUTS
        for number, block in enumerate(blocks(net)):
            for parameter in block.project.bn.parameters():
                parameter.data.zero_()
            x = torch.randn(1, (block.expand or block.depthwise).in_channels, 5, 5).double()
            assert torch.equal(block(x), x) if number in SHORTCUTS else not block(x).any()


def test_a_lost_stride_brings_no_shortcut():
    """Where all layers have one channel, only the strides of the figure decide, the lost ones included."""
    seen = [[block.has_shortcut for block in blocks(mobilenet_v2(output_stride=s, width=1e-9))] for s in (32, 16, 8, 4)]
    assert seen == [[number not in (1, 3, 6, 13) for number in range(17)]] * 4


def test_keys_and_shapes_are_the_same_at_every_output_stride():
    nets = [mobilenet_v2(output_stride=s, width=THIN) for s in (32, 16, 8, 4)]
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in nets]
    assert all(other == shapes[0] for other in shapes)


DILATIONS = {  # of the depthwise convolutions, and the blocks that stride
    32: ([1] * 17, [1, 3, 6, 13]),
    16: ([1] * 14 + [2] * 3, [1, 3, 6]),
    8: ([1] * 7 + [2] * 7 + [4] * 3, [1, 3]),
    4: ([1] * 4 + [2] * 3 + [4] * 7 + [8] * 3, [1]),
}


@pytest.mark.parametrize("output_stride", DILATIONS)
def test_a_block_that_lost_its_stride_runs_at_the_old_rate_and_those_behind_are_dilated(output_stride):
    layers = [block.depthwise for block in blocks(mobilenet_v2(output_stride=output_stride, width=THIN))]
    dilations, striding = DILATIONS[output_stride]
    assert [layer.dilation for layer in layers] == [(rate, rate) for rate in dilations]
    assert [number for number, layer in enumerate(layers) if layer.stride == (2, 2)] == striding
    assert all(layer.stride in [(1, 1), (2, 2)] and layer.groups == layer.in_channels for layer in layers)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("side", [(65, 97), (64, 96), (65, 96)])
def test_dense_network_subsampled_is_the_strided_network(side, output_stride):
    """On sides of 32 k + 1 point i of the strided map is point step * i of the dense one; on sides of 32 k SAME pads behind
    only, and it is point step * i + step - 1."""
    strided = scrambled(mobilenet_v2(output_stride=32, width=THIN))
    dense = mobilenet_v2(output_stride=output_stride, width=THIN)
    dense.load_state_dict(strided.state_dict())
    x, step = torch.randn(1, 3, *side).double(), 32 // output_stride
    rows, columns = (slice(0 if n % 2 else step - 1, None, step) for n in side)
    with torch.no_grad():
        (low, high), (same, finer) = strided(x), dense.double().eval()(x)
        assert high.std() > 0.1
        assert torch.equal(same, low)
        assert_close(finer[:, :, rows, columns], high)
        if side != (65, 97):
            assert (finer[:, :, ::step, ::step] - high).abs().max() > 0.01
        for block in blocks(dense):
            if block.stride == 1:
                block.depthwise.dilation = block.depthwise.padding = (1, 1)
        assert (dense(x).high[:, :, rows, columns] - high).abs().max() > 0.01  # rates are needed, not only strides


@settings(max_examples=30)
@given(st.sampled_from([32, 16, 8, 4]), st.integers(1, 80), st.integers(1, 80))
def test_a_map_of_stride_s_has_a_pixel_for_every_s_pixels_begun(output_stride, height, width):
    net = mobilenet_v2(output_stride=output_stride, width=1e-9).eval()
    with torch.no_grad():
        low, high = net(torch.ones(2, 3, height, width))
    assert low.shape == (2, 1, ceil(height / 4), ceil(width / 4))
    assert high.shape == (2, 1, ceil(height / output_stride), ceil(width / output_stride))


def test_width_halves_every_layer_and_12_stays_12():
    full, half = (dict(mobilenet_v2(width=width).named_parameters()) for width in (1, 0.5))
    assert full.keys() == half.keys()
    for name, weight in full.items():
        assert list(half[name].shape) == [n if n in (1, 3) and axis else n // 2 for axis, n in enumerate(weight.shape)], name
    assert mobilenet_v2(width=0.5).low_channels == 12  # slim's divisible_by=8 would make it 16


def test_low_has_24_channels_and_is_the_second_row():
    assert (mobilenet_v2().low_channels, mobilenet_v2().high_channels) == (24, 320)
    net, heard = scrambled(mobilenet_v2(width=THIN)), []
    net.rows[1].register_forward_hook(lambda _, __, y: heard.append(y))
    assert torch.equal(net(torch.randn(1, 3, 40, 40).double()).low, heard[0])
    assert (heard[0] < 0).any()  # a rectified map would have no negative value


@pytest.mark.parametrize(("c", "expansion"), [(5, 6), (4, 6), (4, 1)])
def test_a_block_is_clipped_at_6_inside_and_linear_at_its_ends(c, expansion):
    block, x = scrambled(InvertedResidual(4, c, expansion=expansion)), 30 * torch.randn(2, 4, 9, 8).double()

    def by_hand(inner, last=lambda y: y):
        y = inner(block.expand(x)) if expansion > 1 else x
        y = last(block.project(inner(block.depthwise_bn(F.conv2d(y, block.depthwise.weight, padding=1, groups=4 * expansion)))))
        return y + x if c == 4 else y

    def clip(y):
        return y.clamp(0, 6)

    y = block(x)
    assert_close(y, by_hand(clip))
    assert (block.expand is None) == (expansion == 1)
    for wrong in (by_hand(F.relu), by_hand(clip, last=clip), by_hand(clip, last=F.relu)):
        assert (wrong - y).abs().max() > 0.1


def test_the_stem_is_clipped_at_6():
    net, x = scrambled(mobilenet_v2(width=THIN)), 30 * torch.randn(1, 3, 9, 9).double()
    y = net.root(x)
    assert_close(y, net.root.bn(net.root.conv(x)).clamp(0, 6))
    assert (y == 6).any()


def test_on_even_maps_it_pads_behind_only():
    net, symmetric = (scrambled(mobilenet_v2(width=THIN)) for _ in range(2))
    symmetric.load_state_dict(net.state_dict())
    for layer in (symmetric.root.conv, *(block.depthwise for block in blocks(symmetric))):
        if layer.stride == (2, 2):
            layer.__class__, layer.padding = nn.Conv2d, (1, 1)
    with torch.no_grad():
        for side, agree in (((65, 97), True), ((65, 96), False), ((64, 97), False)):
            x = torch.randn(1, 3, *side).double()
            assert ((net(x).high - symmetric(x).high).abs().max() < 1e-9) == agree


def test_batch_norms_eps_is_that_of_the_release():
    net = DeepLabV3(mobilenet_v2(width=THIN), 3, rates=(), channels=4)
    assert {m.eps for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert {m.eps for m in net.aspp.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_it_carries_both_heads():
    x = torch.randn(2, 3, 50, 65).double()
    v3 = scrambled(DeepLabV3(mobilenet_v2(width=THIN), 3, rates=(), channels=4))
    plus = scrambled(DeepLabV3Plus(mobilenet_v2(width=THIN), 3, channels=4, low_channels=2))
    assert len(v3.aspp.branches) == 2  # image pooling and the 1 x 1
    assert plus.aspp.rates == (6, 12, 18)
    for net, coarse in ((v3, (4, 5)), (plus, (13, 17))):
        assert net.coarse_logits(x).shape == (2, 3, *coarse)
        assert net(x).shape == (2, 3, 50, 65)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output_stride": 2}, "at least 4.*got 2"),
        ({"output_stride": 12}, "12 cannot be reached: this network passes through 2, 4, 8, 16, ..."),
        ({"output_stride": 64}, "64 cannot be reached: this network passes through 2, 4, 8, 16, 32"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
    ],
)
def test_what_it_cannot_be_is_refused_with_the_number(options, says):
    with pytest.raises(ValueError, match=says):
        mobilenet_v2(**options)
