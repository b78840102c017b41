"""The Inception V3 modules: towers side by side, each a split of channels and space, 1 x 1 first."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from strategies import integers, scrambled, sides
from torch import nn
from torch.testing import assert_close

from minideeplab import Inception8, Inception17, Inception35, ReductionTo8, ReductionTo17
from minideeplab.blocks.inception import MeanPool2d
from minideeplab.cost import profile

MODULES = {  # the channels of each tower, in the order of the concatenation
    "Inception35": (lambda: Inception35(6, 32), 6, [64, 64, 96, 32]),
    "ReductionTo17": (lambda: ReductionTo17(6), 6, [384, 96, 6]),
    "Inception17": (lambda: Inception17(6, 8), 6, [192, 192, 192, 192]),
    "ReductionTo8": (lambda: ReductionTo8(6), 6, [320, 192, 6]),
    "Inception8": (lambda: Inception8(6), 6, [320, 768, 768, 192]),
}


@pytest.mark.parametrize("name", MODULES)
def test_towers_stand_side_by_side_in_the_order_of_the_figure(name):
    make, channels, widths = MODULES[name]
    module, x = scrambled(make()), torch.randn(1, channels, 9, 9).double()
    y = module(x)
    assert y.shape[1] == sum(widths)
    for tower, part in zip(module.towers, y.split(widths, dim=1), strict=True):
        assert torch.equal(part, tower(x))


@pytest.mark.parametrize("name", MODULES)
def test_silencing_a_tower_silences_its_channels_only(name):
    make, channels, widths = MODULES[name]
    module, x = scrambled(make()), torch.randn(1, channels, 9, 9).double()
    before = module(x).split(widths, dim=1)
    module.towers[1].register_forward_hook(lambda _, __, y: 0 * y)
    after = module(x).split(widths, dim=1)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [i != 1 for i in range(len(widths))]


@pytest.mark.parametrize("name", ["ReductionTo17", "ReductionTo8"])
@settings(max_examples=25)
@given(height=sides, width=sides)
def test_reductions_take_windows_of_3_at_stride_2_without_padding(name, height, width):
    make, channels, widths = MODULES[name]
    module = make().eval().to("meta")
    x = torch.empty(1, channels, height + 2, width + 2, device="meta")
    assert module(x).shape == (1, sum(widths), (height - 1) // 2 + 1, (width - 1) // 2 + 1)


@given(height=sides, width=sides)
def test_mean_pool_does_not_count_padding(height, width):
    x, ones = integers(2, 3, height, width), torch.ones(1, 1, height, width)
    box = torch.ones(1, 1, 3, 3)
    sums = F.conv2d(x.flatten(0, 1)[:, None], box, padding=1).view_as(x)
    assert_close(MeanPool2d()(x), sums / F.conv2d(ones, box, padding=1))


def test_counting_padding_would_darken_the_border():
    x = torch.ones(1, 1, 4, 4)
    counted = F.avg_pool2d(x, 3, 1, 1)
    assert torch.equal(MeanPool2d()(x), x)
    assert torch.equal(counted == 1, F.pad(torch.ones(1, 1, 2, 2), (1, 1, 1, 1)) == 1)


def test_a_3_x_3_of_a_tower_still_mixes_the_channels_of_its_tower():
    """The split is approximate: a change in one channel after the 1 x 1 is heard in every channel after the window."""
    window = scrambled(Inception35(6, 32)).towers[2][1].conv
    x = torch.zeros(1, 64, 5, 5).double()
    x[0, 7, 2, 2] = 1
    assert window(x).abs().amax((0, 2, 3)).count_nonzero() == 96


def test_rows_and_columns_of_a_window_make_a_window_with_fewer_weights():
    """1 x 7 after 7 x 1: every output reads 7 x 7 pixels through 2 x 7 taps a channel pair."""
    tower = Inception17(6, 8).towers[1]
    kernels = [m.kernel_size for m in tower.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(1, 1), (1, 7), (7, 1)]
    assert profile(tower, (1, 6, 17, 17)).receptive_field == 7
    assert [m.kernel_size for m in Inception17(6, 8).towers[2].modules() if isinstance(m, nn.Conv2d)][1:] == [
        (7, 1),
        (1, 7),
    ] * 2
    assert [t.conv.kernel_size for t in Inception8(6).towers[1][1].towers] == [(1, 3), (3, 1)]


def test_the_release_keeps_one_5_x_5_in_the_35_grid():
    assert Inception35(6, 32).towers[1][1].conv.kernel_size == (5, 5)
