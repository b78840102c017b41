"""Sizes, padding and output strides, against the convolutions that they describe."""

from math import ceil, prod

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import odd_kernels, rates, sides

from minideeplab.geometry import (
    Step,
    StrideWalk,
    default_rates,
    effective_kernel,
    output_size,
    receptive_field,
    same_padding,
    same_padding_before,
    trade_strides,
)

strides = st.integers(1, 3)


@given(size=sides, kernel=st.integers(1, 5), stride=strides, dilation=rates, padding=st.integers(0, 4))
def test_output_size_is_that_of_the_convolution(size, kernel, stride, dilation, padding):
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    if effective_kernel(kernel, dilation) > size + 2 * padding:
        with pytest.raises(ValueError, match=rf"spans {effective_kernel(kernel, dilation)} .* into {size + 2 * padding} "):
            output_size(size, kernel, stride=stride, dilation=dilation, padding=padding)
        with pytest.raises(RuntimeError):
            F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation)
    else:
        y = F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation)
        assert y.shape[2] == output_size(size, kernel, stride=stride, dilation=dilation, padding=padding)


@given(size=sides, kernel=odd_kernels, stride=strides, dilation=rates)
def test_same_padding_leaves_a_pixel_for_every_stride_begun(size, kernel, stride, dilation):
    padding = same_padding(kernel, dilation)
    assert output_size(size, kernel, stride=stride, dilation=dilation, padding=padding) == ceil(size / stride)


@given(size=sides, kernel=odd_kernels, dilation=rates)
def test_padding_that_forgets_the_dilation_shrinks_the_map(size, kernel, dilation):
    assume(kernel > 1 and dilation > 1 and size + 2 * same_padding(kernel) >= effective_kernel(kernel, dilation))
    assert output_size(size, kernel, dilation=dilation, padding=same_padding(kernel)) < size


@given(size=sides, kernel=st.integers(1, 5), stride=strides, dilation=rates)
def test_same_of_tensorflow_pads_what_is_missing_the_larger_half_behind(size, kernel, stride, dilation):
    before = same_padding_before(size, kernel, stride, dilation)
    total = next(n for n in range(99) if (size + n - effective_kernel(kernel, dilation)) // stride + 1 >= ceil(size / stride))
    assert before == total // 2


@given(size=st.integers(3, 99))
def test_same_is_symmetric_on_odd_maps_only(size):
    assert (same_padding_before(size, 3, stride=2) == same_padding(3)) == (size % 2 == 1)


@given(st.lists(st.tuples(st.integers(1, 5), strides, rates), max_size=4))
def test_receptive_field_is_what_an_output_pixel_reads(layers):
    """Backwards, tap by tap: the pixels below a set of pixels."""
    reads = {0}
    for kernel, stride, dilation in reversed(layers):
        reads = {stride * pixel + dilation * tap for pixel in reads for tap in range(kernel)}
    assert receptive_field(layers) == max(reads) - min(reads) + 1


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=8), st.data())
def test_traded_strides_reach_the_output_stride_and_lose_nothing(figure, data):
    stops = [prod(figure[:i]) for i in range(len(figure) + 1)]
    output_stride = data.draw(st.sampled_from(stops))
    steps = trade_strides(figure, output_stride)
    assert prod(step.stride for step in steps) == output_stride
    current, kept = 1, 1
    for stride, step in zip(figure, steps, strict=True):
        assert step.dilation * kept == (current if kept == output_stride else kept)  # a row runs at the rate of what it reads
        assert step.stride in (1, stride)
        current, kept = current * stride, kept * step.stride


def test_without_trading_the_figure_is_left_alone():
    figure = [2, 1, 2, 2]
    assert trade_strides(figure, 8) == [Step(2), Step(1), Step(2), Step(2)]
    assert trade_strides(figure, 4) == [Step(2), Step(1), Step(2), Step(2, True)]
    assert trade_strides(figure, 2) == [Step(2), Step(1), Step(2, True), Step(2, True, 2)]


@given(st.integers(1, 9), st.booleans(), st.integers(1, 9))
def test_a_step_runs_at_its_figures_stride_or_at_one(figure, traded, dilation):
    """There is no second number for the stride: a pair that contradicts itself cannot be built."""
    assert Step._fields == ("figure", "traded", "dilation")
    assert Step(figure, traded, dilation).stride == (1 if traded else figure)
    assert Step.of(Step(figure, traded, dilation)) == Step(figure, traded, dilation)
    assert Step.of(figure) == Step(figure, False, 1)


@pytest.mark.parametrize("output_stride", [3, 5, 16])
def test_a_stride_between_the_stops_is_refused_with_the_stops(output_stride):
    with pytest.raises(ValueError, match=rf"output stride {output_stride} cannot be reached.* through 1, 2, 4(, 8|, \.\.\.)?"):
        trade_strides([2, 1, 2, 2], output_stride)


def test_a_walk_that_has_not_arrived_says_so_only_behind_the_last_row():
    at = StrideWalk(8, start=2)
    assert at(2).stride == 2
    with pytest.raises(ValueError, match=r"8 cannot be reached: this network passes through 2, 4$"):
        at.reached()
    assert at(2).stride == 2
    assert at.reached() == 8


@pytest.mark.parametrize("output_stride", [1, 2, 4, 8, 16, 32])
def test_default_rates_reach_equally_far_in_pixels_of_the_image(output_stride):
    assert [rate * output_stride for rate in default_rates(output_stride)] == [96, 192, 288]


def test_rates_that_are_no_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="at output stride 64: pass rates yourself"):
        default_rates(64)


def test_a_walk_begins_at_the_stride_of_what_comes_before_it():
    assert trade_strides([2, 2], 8, start=2) == [Step(2), Step(2)]
    assert trade_strides([2, 2], 4, start=2) == [Step(2), Step(2, True)]


def test_a_walk_past_its_stride_is_refused_at_that_row_and_leaves_the_stops_open():
    at = StrideWalk(6, start=2)
    assert at(2) == Step(2)
    with pytest.raises(ValueError, match=r"output stride 6 cannot be reached: this network passes through 2, 4, 8, \.\.\.$"):
        at(2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: StrideWalk(0), "output_stride must be at least 1, got 0"),
        (lambda: StrideWalk(4, start=0), "start must be at least 1, got 0"),
        (lambda: StrideWalk(4)(0), "stride must be at least 1, got 0"),
        (lambda: Step.of(0), "stride must be at least 1, got 0"),
        (lambda: Step.of(Step(0)), r"stride\.figure must be at least 1, got 0"),
        (lambda: Step.of(Step(2, True, 0)), r"stride\.dilation must be at least 1, got 0"),
        (lambda: Step.of(Step(2, "no")), "stride.traded must be of type bool, got str 'no'"),
    ],
)
def test_a_walk_and_its_steps_are_made_of_counts(call, says):
    with pytest.raises((ValueError, TypeError), match=f"^{says}"):
        call()
