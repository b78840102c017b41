"""A convolution is its definition, and the layers built on it pad and normalize as their originals do."""

from math import ceil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import channels, integers, odd_kernels, rates, scrambled, sides
from torch import nn
from torch.testing import assert_close

from minideeplab import ConvBN, ConvBNReLU, SameConv2d, SameMaxPool2d, conv2d_loops, upsample
from minideeplab.geometry import effective_kernel, same_padding_before

kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))
options = st.fixed_dictionaries({"stride": st.integers(1, 2), "padding": st.integers(0, 2), "dilation": st.integers(1, 2)})


@given(sides=st.tuples(st.integers(1, 6), st.integers(1, 6)), kernel=kernels, options=options, c_in=st.integers(1, 3))
def test_loops_are_the_functional_are_the_module(sides, kernel, options, c_in):
    for side, k in zip(sides, kernel, strict=True):
        assume(side + 2 * options["padding"] >= effective_kernel(k, options["dilation"]))
    x, weight = integers(2, c_in, *sides), integers(2, c_in, *kernel)
    y = conv2d_loops(x, weight, **options)
    assert torch.equal(y, F.conv2d(x, weight, **options))
    module = nn.Conv2d(c_in, 2, kernel, bias=False, **options)
    module.load_state_dict({"weight": weight})
    assert torch.equal(y, module(x))


def test_a_flipped_kernel_is_another_function():
    """Mathematicians' convolution flips; deep learning does not."""
    x, weight = integers(1, 2, 5, 5), integers(3, 2, 3, 3)
    assert not torch.equal(conv2d_loops(x, weight), conv2d_loops(x, weight.flip(2, 3)))


@given(o=st.integers(0, 1), c=st.integers(0, 2), u=st.integers(0, 2), v=st.integers(0, 2))
def test_every_number_of_a_kernel_has_a_place_and_a_channel(o, c, u, v):
    """A kernel that holds one 1 copies one channel, moved by one place, to one output."""
    x, weight = integers(1, 3, 6, 7), torch.zeros(2, 3, 3, 3)
    weight[o, c, u, v] = 1
    y = conv2d_loops(x, weight)
    assert torch.equal(y[:, o], x[:, c, u : u + 4, v : v + 5])
    assert not y[:, 1 - o].any()


@given(
    c_in=channels,
    c_out=channels,
    kernel=st.one_of(odd_kernels, st.tuples(odd_kernels, odd_kernels)),
    stride=st.integers(1, 3),
    rate=rates,
    height=sides,
    width=sides,
)
def test_conv_bn_leaves_a_pixel_for_every_stride_begun(c_in, c_out, kernel, stride, rate, height, width):
    layer = ConvBN(c_in, c_out, kernel, stride=stride, dilation=rate).eval()
    assert layer(torch.randn(2, c_in, height, width)).shape == (2, c_out, ceil(height / stride), ceil(width / stride))


def test_conv_bn_without_padding_is_smaller_by_what_its_kernel_spans():
    assert ConvBN(1, 1, 3, dilation=2, valid=True)(torch.randn(2, 1, 9, 8)).shape == (2, 1, 5, 4)
    with pytest.raises(RuntimeError, match=r"\(9 x 4\)\. Kernel size: \(5 x 5\)"):  # torch says it well enough
        ConvBN(1, 1, 3, dilation=2, valid=True)(torch.randn(2, 1, 9, 4))


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
def test_conv_bn_is_a_convolution_scaled_and_shifted(eps):
    layer, x = scrambled(ConvBN(3, 4, 3, eps=eps)), torch.randn(1, 3, 5, 5).double()
    bn = layer.bn
    scale = bn.weight / (bn.running_var + eps).sqrt()
    shift = bn.bias - bn.running_mean * scale
    convolved = F.conv2d(x, layer.conv.weight, padding=1)
    assert_close(layer(x), convolved * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))
    assert ConvBN(3, 4).bn.eps == 1e-3
    assert layer.conv.bias is None


def test_conv_bn_relu_is_the_same_rectified():
    layer, x = scrambled(ConvBNReLU(3, 4, 3)), torch.randn(1, 3, 5, 5).double()
    plain = ConvBN(3, 4, 3).double().eval()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), F.relu(plain(x)))
    assert (plain(x) < 0).any()


def zeros_of_same(side: int, kernel: int, stride: int, dilation: int) -> list[int]:
    """Before and behind, as TensorFlow defines SAME: what ceil(side / stride) windows need, the odd one behind."""
    total = max((ceil(side / stride) - 1) * stride + effective_kernel(kernel, dilation) - side, 0)
    return [total // 2, total - total // 2]


@given(
    kernel=odd_kernels,
    stride=st.integers(1, 3),
    dilation=rates,
    groups=st.sampled_from([1, 2, 4]),
    height=sides,
    width=sides,
)
def test_same_conv_pads_as_tensorflow_with_zeros(kernel, stride, dilation, groups, height, width):
    layer, x = SameConv2d(4, 8, kernel, stride=stride, dilation=dilation, groups=groups), integers(2, 4, height, width)
    layer.weight.data = integers(*layer.weight.shape)
    pads = [zero for side in (width, height) for zero in zeros_of_same(side, kernel, stride, dilation)]
    expected = F.conv2d(F.pad(x, pads), layer.weight, None, stride, 0, dilation, groups)
    assert expected.shape == (2, 8, ceil(height / stride), ceil(width / stride))
    assert torch.equal(layer(x), expected)


@given(stride=st.integers(1, 2), dilation=st.integers(1, 2), height=st.integers(5, 12), width=st.integers(5, 12))
def test_same_conv_differs_from_conv_bn_on_even_maps_at_stride_2_and_nowhere_else(stride, dilation, height, width):
    same, symmetric = (kind(1, 1, 3, stride=stride, dilation=dilation) for kind in (SameConv2d, ConvBN))
    x = torch.rand(1, 1, height, width) + 1  # a weight of ones adds up what a window sees: a zero more or less is seen
    nn.init.ones_(same.weight)
    symmetric.conv.load_state_dict(same.state_dict())
    agree = stride == 1 or height % 2 == width % 2 == 1
    assert torch.allclose(same(x), symmetric.conv(x)) == agree


def test_same_conv_has_the_weights_of_a_convolution_without_bias():
    layer = SameConv2d(4, 8, 5, stride=2, dilation=3, groups=2)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {"weight": (8, 2, 5, 5)}
    assert (layer.stride, layer.dilation, layer.groups) == ((2, 2), (3, 3), 2)
    assert SameConv2d(1, 1).kernel_size == (3, 3)


def test_same_conv_takes_one_map_without_a_batch():
    layer, x = SameConv2d(2, 3, stride=2), torch.randn(2, 6, 5)
    assert_close(layer(x), layer(x[None])[0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SameConv2d(4, 4, 4), "odd kernel_size, got 4"),
        (lambda: SameConv2d(4, 8, groups=3), "groups must divide in_channels: 3 does not divide 4"),
        (lambda: SameConv2d(4, 6, groups=4), "groups must divide out_channels: 4 does not divide 6"),
        (lambda: SameConv2d(4, 4, stride=0), "stride must be at least 1, got 0"),
    ],
)
def test_same_conv_refuses_what_it_cannot_pad_or_divide(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@given(stride=st.integers(1, 3), dilation=rates, height=sides, width=sides)
def test_same_max_pool_pads_as_tensorflow_with_minus_infinity(stride, dilation, height, width):
    x = -1 - torch.rand(1, 2, height, width)  # a zero in the padding would win
    pads = []
    for side in (width, height):
        before = same_padding_before(side, 3, stride, dilation)
        total = max((ceil(side / stride) - 1) * stride + 2 * dilation + 1 - side, 0)
        pads += [before, total - before]
    expected = F.max_pool2d(F.pad(x, pads, value=-torch.inf), 3, stride, 0, dilation)
    assert expected.shape[2:] == (ceil(height / stride), ceil(width / stride))
    assert torch.equal(SameMaxPool2d(stride=stride, dilation=dilation)(x), expected)


@given(st.integers(3, 12), st.integers(3, 12))
def test_symmetric_padding_agrees_with_same_on_odd_maps_only(height, width):
    x = torch.arange(height * width).float().view(1, 1, height, width)  # the largest of a window is its last
    same, symmetric = SameMaxPool2d()(x), F.max_pool2d(x, 3, 2, 1)
    assert torch.equal(same, symmetric) == (height % 2 == width % 2 == 1)


@given(st.integers(2, 5), st.integers(2, 5), st.integers(1, 4))
def test_upsampling_keeps_the_coarse_values_where_grids_nest(height, width, times):
    x = torch.randn(1, 2, height, width).double()
    size = ((height - 1) * times + 1, (width - 1) * times + 1)
    assert_close(upsample(x, size)[:, :, ::times, ::times], x)


def test_with_centers_on_centers_it_would_not():
    x = torch.randn(1, 2, 4, 4).double()
    centers = F.interpolate(x, size=(13, 13), mode="bilinear", align_corners=False)
    assert not torch.allclose(centers[:, :, ::4, ::4], x)


def test_upsampling_is_linear_between_the_points():
    rows, columns = torch.arange(3.0).double(), torch.arange(4.0).double()
    plane = (2 * rows[:, None] - columns)[None, None]
    fine = 2 * torch.linspace(0, 2, 7, dtype=torch.float64)[:, None] - torch.linspace(0, 3, 13, dtype=torch.float64)
    assert_close(upsample(plane, (7, 13)), fine[None, None])
