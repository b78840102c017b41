"""A depthwise separable convolution is a dense one of rank one per input channel; a dense one is a sum of separable ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import channels, integers, odd_kernels, rates, scrambled, with_integers
from torch import nn
from torch.testing import assert_close

from minideeplab import SeparableConv2d, SeparableConvBN, dense_kernel, separable_share, separable_terms

strides = st.integers(1, 2)


@given(c_in=channels, c_out=channels, kernel_size=odd_kernels, stride=strides, rate=rates)
def test_separable_conv_is_a_dense_conv_with_a_rank_one_kernel(c_in, c_out, kernel_size, stride, rate):
    layer = with_integers(SeparableConv2d(c_in, c_out, kernel_size, stride=stride, dilation=rate))
    x, padding = integers(2, c_in, 6, 7), rate * (kernel_size // 2)
    kernel = dense_kernel(layer)
    assert torch.equal(F.conv2d(x, kernel, stride=stride, padding=padding, dilation=rate), layer(x))
    assert (torch.linalg.matrix_rank(kernel.transpose(0, 1).flatten(2)) <= 1).all()


def test_a_kernel_of_rank_two_is_no_separable_convolution():
    """Two outputs that look at one channel in two ways: no single filter serves both."""
    kernel = torch.zeros(2, 1, 3, 3)
    kernel[0, 0, 0, 0] = kernel[1, 0, 2, 2] = 1
    assert torch.equal(separable_share(kernel), torch.tensor([0.5, 1.0]))


def test_depthwise_sees_space_and_pointwise_sees_channels():
    layer, x = with_integers(SeparableConv2d(4, 3)), torch.zeros(1, 4, 7, 7)
    layer.depthwise.weight.data.fill_(1)
    layer.pointwise.weight.data.fill_(1)
    x[0, 1, 3, 3] = 1
    seen = layer.depthwise(x) != 0
    assert seen.sum() == seen[0, 1, 2:5, 2:5].sum() == 9  # its own channel, all its neighbors
    mixed = layer.pointwise(x) != 0
    assert mixed.sum() == mixed[0, :, 3, 3].sum() == 3  # all channels, its own place


def test_stride_and_rate_belong_to_the_depthwise_half():
    layer = SeparableConv2d(4, 8, stride=2, dilation=3)
    assert (layer.depthwise.stride, layer.depthwise.dilation, layer.depthwise.groups) == ((2, 2), (3, 3), 4)
    assert (layer.pointwise.stride, layer.pointwise.dilation, layer.pointwise.groups) == ((1, 1), (1, 1), 1)
    assert layer.state_dict().keys() == SeparableConv2d(4, 8).state_dict().keys()


def test_all_filters_hold_as_much_as_one_thick_kernel_of_many():
    """128 filters of 3 x 3 hold 1,152 numbers, as one kernel of 3 x 3 x 128 does; but a dense layer needs C_out of those."""
    layer, dense = SeparableConv2d(128, 128), nn.Conv2d(128, 128, 3, bias=False)
    assert layer.depthwise.weight.numel() == dense.weight[0].numel() == 1152
    assert dense.weight.numel() == 128 * 1152
    assert layer.depthwise.weight.numel() + layer.pointwise.weight.numel() == 1152 + 128 * 128


@given(c_in=channels, c_out=st.integers(1, 12), kernel_size=odd_kernels)
def test_dense_conv_is_a_sum_of_at_most_nine_separable_ones(c_in, c_out, kernel_size):
    kernel, x = torch.randn(c_out, c_in, kernel_size, kernel_size).double(), torch.randn(1, c_in, 6, 6).double()
    filters, mixtures = separable_terms(kernel)
    assert len(filters) == min(kernel_size**2, c_out)
    total = sum(terms(x, filters, mixtures))
    assert_close(total, F.conv2d(x, kernel))


def terms(x, filters, mixtures):
    """What each separable term says: its filters channel by channel, then its mixture."""
    for looks, mixes in zip(filters, mixtures, strict=True):
        yield F.conv2d(F.conv2d(x, looks[:, None], groups=x.shape[1]), mixes[:, :, None, None])


def test_eight_are_not_enough():
    kernel, x = torch.randn(16, 4, 3, 3).double(), torch.randn(1, 4, 6, 6).double()
    filters, mixtures = separable_terms(kernel)
    eight = sum(list(terms(x, filters, mixtures))[:8])
    missing = (F.conv2d(x, kernel) - eight).norm() / F.conv2d(x, kernel).norm()
    assert 0.01 < missing < 0.5
    assert (torch.linalg.matrix_rank(kernel.transpose(0, 1).flatten(2)) == 9).all()


def test_no_eight_terms_come_closer_than_the_first():
    """The share that eight terms carry is the best there is: singular values, by Eckart and Young."""
    kernel = torch.randn(16, 1, 3, 3).double()
    filters, mixtures = separable_terms(kernel)
    error = kernel[:, 0].flatten(1) - sum(m * f.flatten() for m, f in zip(mixtures[:8], filters[:8], strict=True))
    assert_close(1 - error.square().sum() / kernel.square().sum(), separable_share(kernel)[7])
    other = kernel[:, 0].flatten(1).clone()
    other[:, 8] = 0  # eight terms that leave one tap alone
    assert (kernel[:, 0].flatten(1) - other).norm() > error.norm()


@given(c_in=channels, c_out=channels, kernel_size=odd_kernels)
def test_a_separable_kernel_has_all_of_its_weight_in_the_first_term(c_in, c_out, kernel_size):
    layer = SeparableConv2d(c_in, c_out, kernel_size).double()
    share = separable_share(dense_kernel(layer))
    assert_close(share, torch.ones_like(share))
    assert len(share) == min(kernel_size**2, c_out)


@pytest.mark.parametrize(("c_out", "percent"), [(8, 37), (64, 19), (256, 15)])
def test_the_random_baseline_depends_on_the_shape(c_out, percent):
    """A share says something only beside that of random kernels of the same shape."""
    share = separable_share(torch.randn(c_out, 256, 3, 3))
    assert round(100 * share[0].item()) == percent
    assert (share.diff() > 0).all()
    assert_close(share[-1], torch.tensor(1.0))


def test_spatially_separable_is_something_else():
    """3 x 1 after 1 x 3 makes a filter of rank one; a depthwise filter may have any, and its kernel still has rank one."""
    layer = SeparableConv2d(1, 2)
    layer.depthwise.weight.data = torch.eye(3)[None, None]  # a diagonal stroke
    assert torch.linalg.matrix_rank(layer.depthwise.weight[0, 0]) == 3
    assert separable_share(dense_kernel(layer))[0].item() == pytest.approx(1)
    spatial = F.conv2d(torch.tensor([1.0, 2, 3]).view(1, 1, 1, 3), torch.tensor([1.0, 0, -1]).view(1, 1, 3, 1), padding=(2, 0))
    assert torch.linalg.matrix_rank(spatial[0, 0]) == 1


def test_separable_conv_bn_normalizes_both_halves_and_rectifies_both_or_neither():
    layer, x = scrambled(SeparableConvBN(3, 4)), torch.randn(1, 3, 6, 6).double()
    rectified = SeparableConvBN(3, 4, relu=True).double().eval()
    rectified.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), layer.pointwise_bn(layer.pointwise(layer.depthwise_bn(layer.depthwise(x)))))
    inner = F.relu(layer.depthwise_bn(layer.depthwise(x)))
    assert torch.equal(rectified(x), F.relu(layer.pointwise_bn(layer.pointwise(inner))))
    assert (layer(x) < 0).any()
    assert not torch.equal(F.relu(layer(x)), rectified(x))  # the ReLU between the halves counts as well


def test_eps_reaches_both_batch_norms():
    assert (SeparableConvBN(2, 2).depthwise_bn.eps, SeparableConvBN(2, 2).pointwise_bn.eps) == (1e-3, 1e-3)
    layer = SeparableConvBN(2, 2, eps=1e-5)
    assert (layer.depthwise_bn.eps, layer.pointwise_bn.eps) == (1e-5, 1e-5)
