"""Formula = machine: what the closed forms say is what `profile` measures and what torch's flop counter counts, halved."""

import operator
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import channels, odd_kernels, rates, sides
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minideeplab import ExtremeInception, Inception35, SegmentedInception, SeparableConv2d
from minideeplab.cost import formulas, profile
from minideeplab.cost.formulas import Cost


def machine(module: nn.Module, channels: int, height: int, width: int) -> Cost:
    """By `profile`, and by the flop counter, which must agree."""
    report = profile(module, (1, channels, height, width))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.to("meta")(torch.empty(1, channels, height, width, device="meta"))
    assert 2 * report.macs == counter.get_total_flops()
    return Cost(report.params, report.macs)


@given(groups=st.integers(1, 4), a=channels, b=channels, kernel=odd_kernels, rate=rates, height=sides, width=sides)
def test_convolution(groups, a, b, kernel, rate, height, width):
    module = nn.Conv2d(groups * a, groups * b, kernel, dilation=rate, groups=groups, padding=rate * (kernel // 2), bias=False)
    formula = formulas.convolution(groups * a, groups * b, kernel, height, width, groups=groups)
    assert formula == machine(module, groups * a, height, width)


@settings(max_examples=50)
@given(c=channels, d=channels, kernel=odd_kernels, height=sides, width=sides)
def test_depthwise_pointwise_and_separable(c, d, kernel, height, width):
    layer = SeparableConv2d(c, d, kernel)
    assert formulas.separable(c, d, kernel, height, width) == machine(layer, c, height, width)
    assert formulas.depthwise(c, kernel, height, width) == machine(SeparableConv2d(c, d, kernel).depthwise, c, height, width)
    assert formulas.pointwise(c, d, height, width) == machine(SeparableConv2d(c, d, kernel).pointwise, c, height, width)


@settings(max_examples=50)
@given(c=channels, d=channels, kernel=odd_kernels, height=sides, width=sides)
def test_spatially_separable(c, d, kernel, height, width):
    half = kernel // 2
    rows = nn.Conv2d(c, d, (1, kernel), padding=(0, half), bias=False)
    columns = nn.Conv2d(d, d, (kernel, 1), padding=(half, 0), bias=False)
    assert formulas.spatially_separable(c, d, kernel, height, width) == machine(nn.Sequential(rows, columns), c, height, width)


def test_inception_tower():
    tower = Inception35(192, 32).towers[1]
    cost = machine(tower, 192, 35, 35)
    batch_norm = 2 * (48 + 64)
    assert formulas.inception_tower(192, 48, 64, 5, 35, 35) == Cost(cost.params - batch_norm, cost.macs)


@given(c=channels, d=channels, kernel=odd_kernels)
def test_a_separable_conv_costs_1_over_c_out_plus_1_over_k_squared_of_a_dense_one(c, d, kernel):
    separable, dense = formulas.separable(c, d, kernel, 7, 5), formulas.convolution(c, d, kernel, 7, 5)
    assert (
        Fraction(separable.macs, dense.macs)
        == Fraction(separable.params, dense.params)
        == Fraction(1, d) + Fraction(1, kernel**2)
    )


@given(c=channels, d=channels, kernel=odd_kernels, stride=st.integers(1, 3), height=sides, width=sides)
def test_height_and_width_are_those_of_the_map_that_is_made(c, d, kernel, stride, height, width):
    module = nn.Conv2d(c, d, kernel, stride=stride, padding=kernel // 2, bias=False)
    made = -(-height // stride), -(-width // stride)
    assert formulas.convolution(c, d, kernel, *made) == machine(module, c, height, width)


@pytest.mark.parametrize("segments", [1, 2, 3, 6])
def test_the_stops_of_the_dial(segments):
    looks = formulas.convolution(6, 6, 3, 9, 9, groups=segments)
    assert formulas.pointwise(4, 6, 9, 9) + looks == machine(SegmentedInception(4, 6, segments=segments), 4, 9, 9)
    assert (segments == 6) == (looks == formulas.depthwise(6, 3, 9, 9))
    assert machine(ExtremeInception(4, 6), 4, 9, 9) == formulas.pointwise(4, 6, 9, 9) + formulas.depthwise(6, 3, 9, 9)


def test_costs_add_up_and_add_to_nothing_else():
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6) == sum([Cost(1, 2), Cost(3, 4)])
    params, macs = Cost(1, 2)
    assert (params, macs, repr(Cost(1, 2))) == (1, 2, "Cost(params=1, macs=2)")
    assert Cost(1, 2) != (1, 2)
    with pytest.raises(TypeError):
        operator.add(Cost(1, 2), 1)
    with pytest.raises(TypeError):
        operator.add(Cost(1, 2), (3, 4))


def test_groups_must_divide():
    with pytest.raises(ValueError, match="4 does not divide 8 and 6"):
        formulas.convolution(8, 6, 3, 5, 5, groups=4)
