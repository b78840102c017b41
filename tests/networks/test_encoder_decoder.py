"""Up through the map of every stride: U-Net carries whole maps, SegNet places, RefineNet sums; each as its figure draws it."""

from itertools import pairwise
from math import ceil

import pytest
import torch
import torch.nn.functional as F
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import (
    Pyramid,
    RefineNetHead,
    SegNetHead,
    UNetHead,
    UNetStep,
    UnpoolingDecoder,
    mobilenet_v2,
    resnet101,
    upsample,
    xception41,
)
from minideeplab.blocks.unpooling import Pooled

THIN = 1 / 32
FINEST = {UNetHead: 2, SegNetHead: 2, RefineNetHead: 4}
BACKBONE = resnet101(output_stride=32, width=THIN)


def pyramid(backbone=BACKBONE, height=65, width=65) -> Pyramid:
    maps = {
        stride: torch.randn(2, channels, ceil(height / stride), ceil(width / stride)).double()
        for stride, channels in backbone.channels.items()
    }
    return Pyramid.of(maps[4], maps)


def params(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("head", FINEST)
@pytest.mark.parametrize("make", [xception41, resnet101, mobilenet_v2])
@pytest.mark.parametrize("output_stride", [32, 16, 8, 4])
def test_whatever_the_strides_a_head_comes_back_up_to_its_papers_finest(head, make, output_stride):
    backbone = make(output_stride=output_stride, width=THIN)
    net = scrambled(head(backbone, channels=6))
    for height, width in ((65, 65), (64, 64), (97, 65), (1, 2)):
        with torch.no_grad():
            y = net(pyramid(backbone, height, width))
        assert y.shape == (2, 6, ceil(height / FINEST[head]), ceil(width / FINEST[head]))


@pytest.mark.parametrize("head", FINEST)
def test_every_map_down_to_the_finest_is_read_and_no_other(head):
    net, maps = scrambled(head(BACKBONE, channels=4)), pyramid().maps
    for x in maps.values():
        x.requires_grad_()
    net(Pyramid.of(maps[4], maps)).square().sum().backward()
    read = {stride for stride, x in maps.items() if x.grad is not None and x.grad.any()}
    assert read == ({32} if head is SegNetHead else {stride for stride in maps if stride >= FINEST[head]})


# ---- U-Net


def test_a_step_concatenates_the_encoders_map_with_what_was_upsampled_and_convolves_twice():
    step = scrambled(UNetStep(5, 3, 4))
    x, beside = torch.randn(2, 5, 4, 3).double(), torch.randn(2, 3, 8, 6).double()
    joined = torch.cat([beside, step.up(x)], dim=1)
    assert joined.shape == (2, 3 + 4, 8, 6)
    assert_close(step(x, beside), F.relu(step.mix_2(F.relu(step.mix_1(joined)))))
    swapped = torch.cat([step.up(x), beside], dim=1)
    assert (step(x, beside) - F.relu(step.mix_2(F.relu(step.mix_1(swapped))))).abs().max() > 0.1


def test_where_a_size_is_odd_the_upsampled_map_loses_its_last_row():
    step, x = scrambled(UNetStep(2, 2, 2)), torch.randn(1, 2, 3, 3).double()
    even = step.up(x)
    assert even.shape == (1, 2, 6, 6)
    beside = torch.randn(1, 2, 5, 6).double()
    expected = torch.cat([beside, even[:, :, :5]], dim=1)
    assert_close(step(x, beside), F.relu(step.mix_2(F.relu(step.mix_1(expected)))))
    shifted = torch.cat([beside, even[:, :, 1:]], dim=1)
    assert (step(x, beside) - F.relu(step.mix_2(F.relu(step.mix_1(shifted))))).abs().max() > 0.1


def test_u_nets_up_convolution_is_2_x_2_and_halves_the_channels():
    ups = [step.up for step in UNetHead(BACKBONE, channels=8).steps]
    assert {(up.kernel_size, up.stride) for up in ups} == {((2, 2), (2, 2))}
    assert [up.out_channels for up in ups] == [64, 32, 16, 8]
    assert all(up.in_channels == 2 * up.out_channels for up in ups[1:])  # the first one takes what the encoder has
    assert ups[0].in_channels == BACKBONE.high_channels


def test_u_net_has_no_batch_norm_and_its_signal_does_not_fade():
    """Variance 2 / inputs keeps it; torch's own start, variance 1 / (3 inputs), would lose 5 sixths in every layer."""
    torch.manual_seed(0)
    head = UNetHead(BACKBONE, channels=32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in head.modules())
    for step in head.steps:
        for conv in (step.mix_1, step.mix_2):
            assert conv.weight.detach().var() * 9 * conv.in_channels == pytest.approx(2, rel=0.2)
            fresh = nn.Conv2d(conv.in_channels, conv.out_channels, 3)
            assert fresh.weight.detach().var() * 9 * conv.in_channels == pytest.approx(1 / 3, rel=0.2)


def test_u_nets_parameters_are_those_of_its_figure():
    channels, before, expected = 8, BACKBONE.high_channels, 0
    for step, stride in zip((3, 2, 1, 0), (16, 8, 4, 2), strict=True):
        width, beside = channels * 2**step, BACKBONE.channels[stride]
        expected += 4 * before * width + width + 9 * (width + beside + width) * width + 2 * width
        before = width
    assert params(UNetHead(BACKBONE, channels=channels)) == expected


# ---- SegNet


def test_unpooling_puts_values_where_the_maxima_stood():
    """The convolutions taken out, one place of a 2 x 2 window gets the value, and it is the place of the encoder's maximum."""
    backbone = mobilenet_v2(output_stride=4, width=THIN)
    (high, low), heard = (backbone.channels[s] for s in (4, 2)), []
    head, maps = scrambled(SegNetHead(backbone, channels=3)), pyramid(backbone, 16, 12).maps
    assert (high, low) == (head.convolve[0].in_channels, head.convolve[1].in_channels)
    head.convolve[0].register_forward_hook(lambda _, __, y: heard.append(y))
    head.convolve[1].register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    head(Pyramid.of(maps[4], maps))
    values, unpooled = heard
    before = maps[2]
    assert unpooled.shape == before.shape
    for y in range(4):
        for x in range(3):
            window = (..., slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
            is_maximum = before[window] == before[window].amax((2, 3), keepdim=True)
            assert torch.equal(unpooled[window], is_maximum * values[..., y, x][..., None, None])
    with pytest.raises(AssertionError):
        assert_close(unpooled, upsample(values, before.shape[2:]))  # not spread out over the window


def test_only_places_help_segnet_not_what_stood_there():
    head, before = scrambled(SegNetHead(BACKBONE, channels=4)), pyramid()
    louder = {s: x if s == 32 else 3 * x + 1 for s, x in before.maps.items()}  # the same order, so the same maxima
    moved = {s: x if s == 32 else x.flip(-1) for s, x in before.maps.items()}
    answer = head(before)
    assert torch.equal(head(Pyramid.of(before.low, louder)), answer)
    assert not torch.equal(head(Pyramid.of(before.low, moved)), answer)


def test_on_maps_of_even_size_it_is_the_unpooling_decoder_of_the_course():
    head, x = scrambled(SegNetHead(BACKBONE, channels=4)), pyramid(height=64, width=96)
    decoder = UnpoolingDecoder([conv.in_channels for conv in head.convolve[1:]] + [4]).double().eval()
    decoder.convolve.load_state_dict(head.convolve[1:].state_dict())
    pooled = [Pooled(*F.max_pool2d(x.maps[s], 2, return_indices=True), x.maps[s].shape[2:]) for s in head.strides]
    assert_close(head(x), decoder(head.convolve[0](x.high), pooled))


def test_segnets_widths_are_its_encoders():
    head = SegNetHead(BACKBONE, channels=5)
    at = BACKBONE.channels
    assert [conv.in_channels for conv in head.convolve] == [at[32], at[16], at[8], at[4], at[2]]
    widths = [at[32], at[16], at[8], at[4], at[2], 5]
    assert params(head) == sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    assert {conv.bn.eps for conv in head.convolve} == {1e-5}


# ---- RefineNet


def test_refinenet_has_no_batch_norm():
    assert not any(isinstance(module, nn.BatchNorm2d) for module in RefineNetHead(BACKBONE, channels=4).modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in SegNetHead(BACKBONE, channels=4).modules())


def test_refinenet_takes_in_a_map_of_the_encoder_a_block_and_refines_twice_at_the_end():
    head, x = scrambled(RefineNetHead(BACKBONE, channels=4)), pyramid()
    y = head.blocks[0](head.reduce[0](x.maps[32]))
    for number, stride in enumerate((16, 8, 4), 1):
        y = head.blocks[number](head.reduce[number](x.maps[stride]), y)
    assert_close(head(x), head.units[1](head.units[0](y)))
    assert (head(x) - y).abs().max() > 0.1  # the last two units do something


def test_the_coarsest_path_is_twice_as_wide_and_fusion_goes_to_the_narrower():
    head = RefineNetHead(BACKBONE, channels=4)
    assert [conv.out_channels for conv in head.reduce] == [8, 4, 4, 4]
    assert [[adapt[0].conv_1.in_channels for adapt in block.adapt] for block in head.blocks] == [[8], [4, 8], [4, 4], [4, 4]]
    assert [block.unit.conv_1.in_channels for block in head.blocks] == [8, 4, 4, 4]


def test_refinenets_parameters_are_those_of_its_figure():
    def conv(before, after):
        return 9 * before * after + after

    def block(*widths):
        least, fused = min(widths), len(widths) > 1
        return sum(4 * conv(c, c) + fused * conv(c, least) for c in widths) + 4 * conv(least, least)

    c, at = 6, BACKBONE.channels
    reduce = conv(at[32], 2 * c) + sum(conv(at[stride], c) for stride in (16, 8, 4))
    expected = reduce + block(2 * c) + block(c, 2 * c) + 2 * block(c, c) + 4 * conv(c, c)
    assert params(RefineNetHead(BACKBONE, channels=c)) == expected
