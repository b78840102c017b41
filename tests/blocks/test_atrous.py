"""Atrous convolution: the taps move, the weights stay; and a stride can be traded for it."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import channels, integers, odd_kernels, sides
from torch import nn

from minideeplab import SeparableConv2d, conv2d_on_sub_grids, kernel_with_holes, mean_taps_inside, pixels_touched, regroup
from minideeplab.geometry import same_padding

rates = st.integers(1, 5)


@given(c_in=channels, c_out=channels, kernel_size=st.integers(1, 4), rate=rates)
def test_atrous_conv_is_a_dense_conv_with_holes_in_its_kernel(c_in, c_out, kernel_size, rate):
    x, weight = integers(2, c_in, 17, 16), integers(c_out, c_in, kernel_size, kernel_size)
    holes = kernel_with_holes(weight, rate)
    assert torch.equal(F.conv2d(x, weight, dilation=rate), F.conv2d(x, holes))
    assert holes.count_nonzero() == weight.count_nonzero()  # not one weight more


@given(c_in=channels, c_out=channels, k_h=odd_kernels, k_w=odd_kernels, rate=rates, height=sides, width=sides)
def test_atrous_conv_is_an_ordinary_conv_on_every_sub_grid(c_in, c_out, k_h, k_w, rate, height, width):
    x, weight = integers(2, c_in, height, width), integers(c_out, c_in, k_h, k_w)
    padded = F.conv2d(x, weight, padding=(same_padding(k_h, rate), same_padding(k_w, rate)), dilation=rate)
    assert torch.equal(conv2d_on_sub_grids(x, weight, rate), padded)


def test_another_rate_is_another_function():
    x, weight = integers(1, 2, 9, 9), integers(2, 2, 3, 3)
    results = [conv2d_on_sub_grids(x, weight, rate) for rate in (1, 2, 3)]
    assert not any(torch.equal(a, b) for a, b in pairwise(results))
    assert not torch.equal(F.conv2d(x, kernel_with_holes(weight, 2)), F.conv2d(x, kernel_with_holes(weight, 2).flip(3)))


def test_no_rate_changes_the_number_of_weights():
    assert {nn.Conv2d(4, 6, 3, dilation=rate).weight.numel() for rate in (1, 6, 36)} == {216}


@given(side=sides, beyond=st.integers(0, 3))
def test_at_a_rate_beyond_the_map_nine_taps_are_one(side, beyond):
    x, weight, rate = integers(1, 2, side, side), integers(3, 2, 3, 3), side + beyond
    degenerate = F.conv2d(x, weight, padding=rate, dilation=rate)
    assert torch.equal(degenerate, F.conv2d(x, weight[:, :, 1:2, 1:2]))


def test_at_the_last_rate_within_the_map_corners_still_hear_corners():
    x, weight = torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3)
    taps = F.conv2d(x, weight, padding=4, dilation=4)[0, 0]
    assert taps.tolist() == [[4, 2, 2, 2, 4], [2, 1, 1, 1, 2], [2, 1, 1, 1, 2], [2, 1, 1, 1, 2], [4, 2, 2, 2, 4]]


@given(size=st.integers(1, 20), rate=st.integers(1, 24), kernel_size=odd_kernels)
def test_taps_inside_are_what_a_kernel_of_ones_counts_on_a_map_of_ones(size, rate, kernel_size):
    ones = torch.ones(1, 1, size, size)
    counted = F.conv2d(ones, torch.ones(1, 1, kernel_size, kernel_size), padding=same_padding(kernel_size, rate), dilation=rate)
    assert mean_taps_inside(size, rate, kernel_size) * size**2 == counted.sum().int().item()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), odd_kernels)
def test_ways_are_what_stacked_kernels_of_ones_count(stack, kernel_size):
    ways = torch.ones(1, 1, 1, 1)
    for rate in stack:
        reach = rate * (kernel_size - 1)
        ones = torch.ones(1, 1, kernel_size, kernel_size)
        ways = F.conv2d(F.pad(ways, (reach,) * 4), ones, dilation=rate)
    assert torch.equal(pixels_touched(stack, kernel_size), ways[0, 0].long())


def test_equal_rates_leave_pixels_unread_and_mixed_ones_do_not():
    """Gridding: three rates of 2 read every other pixel of 13 x 13, rates 1, 2, 5 all of 17 x 17."""
    assert [(pixels_touched(stack) > 0).float().mean().item() == 1 for stack in ((2, 2, 2), (1, 2, 5))] == [False, True]
    assert torch.equal(pixels_touched((2, 2, 2)) > 0, kernel_with_holes(torch.ones(1, 1, 7, 7), 2)[0, 0] > 0)


@given(height=sides, width=sides, c=channels)
def test_a_stride_traded_for_dilation_keeps_every_weight_and_every_surviving_value(height, width, c):
    """Two layers, the first strided; dense, with the second at rate 2, every other pixel is the strided result."""
    first, second, x = integers(c, 2, 3, 3), integers(3, c, 3, 3), integers(1, 2, height, width)
    strided = F.conv2d(F.relu(F.conv2d(x, first, stride=2, padding=1)), second, padding=1)
    dense = F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=2, dilation=2)
    assert torch.equal(dense[:, :, ::2, ::2], strided)


def test_without_dilation_the_second_layer_reads_the_wrong_neighbors():
    first, second, x = integers(2, 2, 3, 3), integers(3, 2, 3, 3), integers(1, 2, 9, 9)
    strided = F.conv2d(F.conv2d(x, first, stride=2, padding=1), second, padding=1)
    dense = F.conv2d(F.conv2d(x, first, padding=1), second, padding=1)
    assert not torch.equal(dense[:, :, ::2, ::2], strided)


@pytest.mark.parametrize("rate", [2, 6])
def test_atrous_separable_conv_dilates_the_depthwise_half_only(rate):
    near, far = SeparableConv2d(4, 6), SeparableConv2d(4, 6, dilation=rate)
    far.load_state_dict(near.state_dict())
    x = torch.randn(1, 4, 15, 15)
    looks = conv2d_on_sub_grids(x, regroup(near.depthwise.weight, 4), rate)
    torch.testing.assert_close(far(x), near.pointwise(looks))
