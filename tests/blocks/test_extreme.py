"""Figures 2, 3 and 4 of Chollet 2017 are one function at three stops of a dial, and the stops between them are counted.

All tensors hold whole numbers, so equal means equal.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import channels, dials, integers, odd_kernels, with_integers

from minideeplab import (
    ExtremeInception,
    SegmentedInception,
    SeparableConv2d,
    SimplifiedInception,
    extreme_from_segmented,
    regroup,
    segmented_from_towers,
    towers_from_segmented,
)

WIDTH = 12
STOPS = [1, 2, 3, 4, 6, 12]


@given(dial=dials(), c_in=channels, kernel_size=odd_kernels)
def test_figure_2_is_figure_3(dial, c_in, kernel_size):
    segments, width = dial
    towers = with_integers(SimplifiedInception(c_in, width, towers=segments, kernel_size=kernel_size))
    x = integers(2, c_in, 5, 4)
    assert torch.equal(segmented_from_towers(towers)(x), towers(x))


@given(dial=dials(), c_in=channels, kernel_size=odd_kernels)
def test_figure_3_is_figure_2(dial, c_in, kernel_size):
    segments, width = dial
    segmented = with_integers(SegmentedInception(c_in, width, segments=segments, kernel_size=kernel_size))
    x, towers = integers(2, c_in, 5, 4), towers_from_segmented(segmented)
    assert torch.equal(towers(x), segmented(x))
    assert len(towers.mixes) == segments
    assert sum(p.numel() for p in towers.parameters()) == sum(p.numel() for p in segmented.parameters())


def test_a_transplant_in_another_order_is_another_function():
    towers, x = with_integers(SimplifiedInception(5, 6)), integers(1, 5, 6, 6)
    segmented = segmented_from_towers(towers)
    segmented.look.weight.data = segmented.look.weight.roll(2, dims=0)
    assert not torch.equal(segmented(x), towers(x))


def test_a_transplant_is_a_copy():
    """Training one side must not move the other."""
    towers, x = with_integers(SimplifiedInception(5, 6)), integers(1, 5, 6, 6)
    segmented, before = segmented_from_towers(towers), towers(x)
    again = towers_from_segmented(segmented)
    for parameter in segmented.parameters():
        parameter.data.zero_()
    assert torch.equal(towers(x), before)
    assert torch.equal(again(x), before)


@given(width=channels, c_in=channels, kernel_size=odd_kernels)
def test_figure_4_is_the_last_stop_of_figure_3(width, c_in, kernel_size):
    segmented = with_integers(SegmentedInception(c_in, width, segments=width, kernel_size=kernel_size))
    x = integers(2, c_in, 5, 4)
    assert torch.equal(extreme_from_segmented(segmented)(x), segmented(x))


def test_before_the_last_stop_there_is_no_figure_4():
    with pytest.raises(ValueError, match="one segment per channel: 3 segments for 6 channels"):
        extreme_from_segmented(SegmentedInception(4, 6, segments=3))


def test_at_the_first_stop_it_is_a_plain_convolution_behind_a_1_x_1():
    segmented, x = with_integers(SegmentedInception(4, 6, segments=1)), integers(1, 4, 5, 5)
    assert torch.equal(segmented(x), F.conv2d(F.conv2d(x, segmented.mix.weight), segmented.look.weight, padding=1))


@given(st.sampled_from([(groups, fewer) for groups in STOPS for fewer in STOPS if groups % fewer == 0]), odd_kernels)
def test_fewer_groups_can_say_the_same(stops, kernel_size):
    """Down to one: a dense kernel with zero blocks for what the groups keep apart."""
    groups, fewer = stops
    weight, x = integers(WIDTH, WIDTH // groups, kernel_size, kernel_size), integers(2, WIDTH, 6, 6)
    wider = regroup(weight, groups, fewer=fewer)
    assert wider.shape[:2] == (WIDTH, WIDTH // fewer)
    assert torch.equal(F.conv2d(x, wider, groups=fewer), F.conv2d(x, weight, groups=groups))
    assert torch.equal(wider[wider != 0], weight[weight != 0])  # nothing added, nothing lost, nothing in another order


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_groups_need_not_keep_the_width(groups, inputs, outputs):
    weight, x = integers(groups * outputs, inputs, 3, 3), integers(1, groups * inputs, 5, 5)
    assert torch.equal(F.conv2d(x, regroup(weight, groups)), F.conv2d(x, weight, groups=groups))


def test_each_stop_removes_weights():
    """1,296 of them at one segment, 108 at twelve: 12 x 12 x 9 divided by the segments."""
    counts = [SegmentedInception(8, WIDTH, segments=stop).look.weight.numel() for stop in STOPS]
    assert counts == [1296, 648, 432, 324, 216, 108]
    with pytest.raises(ValueError, match=r"5 does not divide 12, use one of 1, 2, 3, 4, 6, 12"):
        SegmentedInception(8, WIDTH, segments=5)


@pytest.mark.parametrize(("groups", "more"), [(1, 2), (1, 3), (2, 4), (3, 6), (6, 12)])
def test_more_groups_cannot_say_the_same(groups, more):
    """Whatever the weights: an output never hears an input of another group, and this one does."""
    weight = torch.zeros(WIDTH, WIDTH // groups, 1, 1)
    weight[0, -1] = 1  # the first output listens to the last input of its group
    x = torch.zeros(1, WIDTH, 1, 1)
    x[0, WIDTH // groups - 1] = 1
    assert F.conv2d(x, weight, groups=groups)[0, 0] == 1
    anything = integers(WIDTH, WIDTH // more, 1, 1, least=1)
    assert F.conv2d(x, anything, groups=more)[0, 0] == 0


def test_looks_first_and_mixes_first_share_their_filters_differently():
    """Dense kernels of both: a filter for each input channel, or one for each output channel."""
    looks, mixes = with_integers(SeparableConv2d(3, 4)), with_integers(ExtremeInception(3, 4))
    x = integers(1, 3, 6, 6)
    by_input = looks.pointwise.weight * looks.depthwise.weight.transpose(0, 1)  # (4, 3, 1, 1) * (1, 3, 3, 3)
    by_output = mixes.pointwise.weight * mixes.depthwise.weight  # (4, 3, 1, 1) * (4, 1, 3, 3)
    assert torch.equal(looks(x), F.conv2d(x, by_input, padding=1))
    assert torch.equal(mixes(x), F.conv2d(x, by_output, padding=1))
    assert not torch.equal(looks(x), F.conv2d(x, looks.pointwise.weight * looks.depthwise.weight[:1], padding=1))


def stack(x, halves, slots):
    """Depthwise, slot a, pointwise, slot b, again and again; a slot rectifies or lets pass."""
    for i, half in enumerate(halves):
        x = half(x)
        x = F.relu(x) if "ab"[i % 2] in slots else x
    return x


def separable_halves(count):
    layers = [with_integers(SeparableConv2d(4, 4)) for _ in range(count)]
    return [half for layer in layers for half in (layer.depthwise, layer.pointwise)]


def test_without_a_relu_the_order_in_a_stack_is_a_matter_of_where_one_cuts():
    """dw pw dw pw: two separable convolutions, or a depthwise one, an extreme Inception, and a 1 x 1."""
    halves, x = separable_halves(2), integers(1, 4, 6, 6, least=-1, most=1)
    extreme = ExtremeInception(4, 4)
    extreme.load_state_dict({"pointwise.weight": halves[1].weight, "depthwise.weight": halves[2].weight})
    assert torch.equal(halves[3](extreme(halves[0](x))), stack(x, halves, ""))


def test_with_a_relu_in_slot_a_or_slot_b_stacks_are_different_functions():
    """Chollet leaves a empty and fills b, Chen's paper fills both, the released backbone neither."""
    halves, x = separable_halves(2), integers(1, 4, 6, 6, least=-1, most=1)
    results = [stack(x, halves, slots) for slots in ("", "a", "b", "ab")]
    assert not any(torch.equal(results[i], results[j]) for i in range(4) for j in range(i))
    for half in halves:  # where nothing is negative a ReLU does nothing: it is the ReLU that tells them apart
        half.weight.data.abs_()
    results = [stack(x.abs(), halves, slots) for slots in ("", "a", "b", "ab")]
    assert all(torch.equal(result, results[0]) for result in results)
