"""Atrous spatial pyramid pooling: five views of one map, in the authors' order."""

import pytest
import torch
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import ASPP, ConvBNReLU, ImagePooling, SeparableConvBN
from minideeplab.cost import profile


@pytest.mark.parametrize(("separable", "params"), [(False, 15_535_104), (True, 3_019_776)])
def test_counts_are_those_of_the_authors_code(separable, params):
    assert profile(ASPP(2048, 256, separable=separable), (1, 2048, 33, 33)).params == params


@pytest.mark.parametrize("separable", [False, True])
def test_views_are_concatenated_image_first_then_1_x_1_then_the_rates(separable):
    aspp, x, heard = scrambled(ASPP(3, 4, rates=(2, 3, 5), separable=separable)), torch.randn(2, 3, 9, 8).double(), []
    aspp.project.register_forward_pre_hook(lambda _, views: heard.append(views[0]))
    y = aspp(x)
    kind = SeparableConvBN if separable else ConvBNReLU
    assert [type(branch) for branch in aspp.branches] == [ImagePooling, ConvBNReLU, kind, kind, kind]
    for branch, view in zip(aspp.branches, heard[0].split(4, dim=1), strict=True):
        assert torch.equal(view, branch(x))
    looks = [branch.depthwise if separable else branch.conv for branch in aspp.branches[2:]]
    assert [(look.dilation, look.kernel_size) for look in looks] == [((2, 2), (3, 3)), ((3, 3), (3, 3)), ((5, 5), (3, 3))]
    assert aspp.branches[1].conv.kernel_size == (1, 1)
    assert torch.equal(y, aspp.project(heard[0]))  # dropout is silent in evaluation
    assert y.shape == (2, 4, 9, 8)


def test_branches_are_as_many_as_rates_and_two():
    aspp = ASPP(3, 4, rates=[1]).eval()
    assert len(aspp.branches) == 3
    assert aspp.project.conv.in_channels == 12
    assert aspp(torch.randn(1, 3, 5, 5)).shape == (1, 4, 5, 5)


def test_image_pooling_says_the_mean_everywhere():
    pooling, x = scrambled(ImagePooling(3, 4)), torch.randn(2, 3, 6, 5).double()
    y = pooling(x)
    assert_close(y, pooling.project(x.mean((2, 3), keepdim=True)).expand(2, 4, 6, 5))
    shuffled = x.flatten(2)[:, :, torch.randperm(30)].view_as(x)
    assert_close(pooling(shuffled), y)  # where things are does not matter,
    assert (pooling(x.roll(1, dims=0)) - y).abs().max() > 1e-3  # what they are does


def test_image_pooling_needs_two_images_in_training():
    for block in (ImagePooling(3, 4), ASPP(3, 4, rates=(1, 2))):
        with pytest.raises(ValueError, match=r"batch of at least 2 in training, got 1.*\.eval\(\)"):
            block(torch.randn(1, 3, 5, 5))
        assert block(torch.randn(2, 3, 5, 5)).shape == (2, 4, 5, 5)
        assert block.eval()(torch.randn(1, 3, 5, 5)).shape == (1, 4, 5, 5)


def test_dropout_drops_one_value_in_ten_in_training_only():
    aspp = ASPP(3, 64, rates=(1, 2))
    assert aspp.dropout.p == 0.1
    x = torch.randn(2, 3, 9, 9)
    assert not torch.equal(aspp(x), aspp(x))
    assert torch.equal(aspp.eval()(x), aspp(x))


def test_batch_norms_eps_is_that_of_the_release():
    for separable in (False, True):
        assert {m.eps for m in ASPP(3, 4, separable=separable).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_a_rate_beyond_the_map_is_a_1_x_1():
    aspp, x = scrambled(ASPP(3, 4, rates=(9, 12), separable=False)), torch.randn(1, 3, 9, 9).double()
    branch, centre = aspp.branches[2], scrambled(ConvBNReLU(3, 4, 1, eps=1e-5))
    centre.load_state_dict(branch.state_dict() | {"conv.weight": branch.conv.weight[:, :, 1:2, 1:2]})
    assert_close(branch(x), centre(x))
    wider = torch.randn(1, 3, 10, 10).double()
    assert (branch(wider) - centre(wider)).abs().max() > 1e-3


def test_without_rates_the_whole_image_and_the_1_x_1_are_left():
    aspp, x = scrambled(ASPP(3, 4, rates=())), torch.randn(2, 3, 5, 6).double()
    assert [type(branch) for branch in aspp.branches] == [ImagePooling, ConvBNReLU]
    assert torch.equal(aspp(x), aspp.project(torch.cat([branch(x) for branch in aspp.branches], dim=1)))


def test_atrous_separable_branches_rectify_after_both_halves():
    assert [branch.relu for branch in ASPP(3, 4).branches[2:]] == [True] * 3


def test_unless_named_the_rates_are_those_of_output_stride_16_in_the_papers_order():
    assert ASPP(2, 2).rates == (6, 12, 18)
    assert [branch.depthwise.dilation[0] for branch in ASPP(2, 2).branches[2:]] == [6, 12, 18]
