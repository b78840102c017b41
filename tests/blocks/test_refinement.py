"""RefineNet's block adds up: an identity in every unit, a chain of pools whose links are summed, maps of two strides fused."""

import pytest
import torch
import torch.nn.functional as F
from strategies import integers, scrambled, with_integers
from torch import nn
from torch.testing import assert_close

from minideeplab import ChainedResidualPooling, RefineNetBlock, ResidualConvUnit, upsample


def silent(module: nn.Module) -> nn.Module:
    """The same with weights of zero: what is left came by a shortcut."""
    for weight in module.parameters():
        nn.init.zeros_(weight)
    return module


def test_a_unit_is_relu_conv_relu_conv_and_an_identity_that_nothing_rectifies():
    unit, x = with_integers(ResidualConvUnit(3)), integers(2, 3, 6, 5)
    inner = F.conv2d(x.relu(), unit.conv_1.weight, unit.conv_1.bias, padding=1).relu()
    y = unit(x)
    assert torch.equal(y, x + F.conv2d(inner, unit.conv_2.weight, unit.conv_2.bias, padding=1))
    assert torch.equal(silent(unit)(x), x)
    assert (x < 0).any()  # not the identity of what was rectified: ReLU before the shortcut would be seen
    assert not torch.equal(y, x.relu() + F.conv2d(inner, unit.conv_2.weight, unit.conv_2.bias, padding=1))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_refinenets_chained_pooling_is_the_sum_of_its_chain(blocks):
    pooling, x = with_integers(ChainedResidualPooling(2, blocks=blocks)), integers(2, 2, 13, 11)
    links, beside = [x.relu()], [x.relu()]
    for convolve in pooling.convolve:
        links.append(convolve(F.max_pool2d(links[-1], 5, 1, 2)))
        beside.append(convolve(F.max_pool2d(beside[0], 5, 1, 2)))
    y = pooling(x)
    assert torch.equal(y, sum(links))
    assert torch.equal(y, sum(beside)) == (blocks == 1)  # not pools side by side: each reads the last
    assert len(pooling.convolve) == blocks
    assert torch.equal(silent(pooling)(x), x.relu())


@pytest.mark.parametrize(("blocks", "reach"), [(1, 3), (2, 6), (3, 9)])
def test_every_link_of_the_chain_sees_three_pixels_further(blocks, reach):
    """Two for the pool of 5, one for the 3 x 3: a point in the middle of nothing is felt so far and no further."""
    pooling, x = ChainedResidualPooling(1, blocks=blocks), torch.zeros(1, 1, 25, 25)
    for weight in pooling.parameters():
        nn.init.ones_(weight) if weight.dim() > 1 else nn.init.zeros_(weight)
    x[..., 12, 12] = 1
    rows = pooling(x)[0, 0].sum(1).nonzero().flatten().tolist()
    assert rows == list(range(12 - reach, 12 + reach + 1))


def test_two_is_the_papers_default():
    assert len(ChainedResidualPooling(2).convolve) == 2


def test_maps_are_fused_by_a_sum_in_the_narrowest_width_at_the_finest_size():
    block = scrambled(RefineNetBlock([2, 3]))
    fine, coarse = torch.randn(2, 2, 9, 7).double(), torch.randn(2, 3, 5, 4).double()
    first, second = (fuse(adapt(x)) for fuse, adapt, x in zip(block.fuse, block.adapt, (fine, coarse), strict=True))
    assert first.shape == (2, 2, 9, 7)
    assert second.shape == (2, 2, 5, 4)
    assert_close(block(fine, coarse), block.unit(block.pool(first + upsample(second, (9, 7)))))
    assert [len(adapt) for adapt in block.adapt] == [2, 2]
    assert (block(fine, coarse) - block.unit(block.pool(first))).abs().max() > 0.1  # the coarse path counts


def test_one_path_is_passed_through_without_fusion():
    block, x = scrambled(RefineNetBlock([4])), torch.randn(1, 4, 6, 6).double()
    assert_close(block(x), block.unit(block.pool(block.adapt[0](x))))
    assert not list(block.fuse.parameters())
    assert list(RefineNetBlock([4, 4]).fuse.parameters())


def test_parameters_are_those_of_the_figure():
    """Two units a path and one behind: 2 convolutions each; a fusing one a path; two in the chain; all with a bias."""

    def conv(before, after):
        return 9 * before * after + after

    for widths in ([4, 8], [4, 4], [6, 2, 4]):
        least = min(widths)
        expected = sum(4 * conv(c, c) + conv(c, least) for c in widths) + (2 + 2) * conv(least, least)
        assert sum(weight.numel() for weight in RefineNetBlock(widths).parameters()) == expected
