"""Xception is figure 5 of Chollet 2017, line by line, and keeps its weights and its numbers when strides become rates."""

import figures
import pytest
import torch
from strategies import integers, scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import SeparableConv2d, Xception, XceptionBlock
from minideeplab.blocks.convolution import SameMaxPool2d
from minideeplab.cost import profile
from minideeplab.geometry import Step

ODD = 71  # 32 k + 7: every map that is strided has an odd side, 71 -> 35 (33) -> 17 -> 9 -> 5 -> 3


@pytest.fixture(scope="module")
def net():
    return scrambled(Xception())


def at_stride(output_stride, net):
    other = Xception(output_stride=output_stride)
    other.load_state_dict(net.state_dict())
    return other.double().eval()


def test_every_line_makes_the_size_in_its_margin():
    net, lines = Xception(), figures.listings(Xception)
    promised, made = figures.promised(net, lines), figures.made(net, 299)
    assert [len(listing) for listing in lines.values()] == [5, 1, 7]
    assert len(promised) == 5 + 8 + 7
    assert len(figures.margins(Xception)) == 5 + 1 + 5 + 1  # lines, two of them with two modules, and the picture
    assert promised == {name: made[name] for name in promised}
    assert min(figures.margins(Xception).items())[1] == made["picture"]


def test_it_counts_what_the_paper_and_keras_count(net):
    report = profile(net, (1, 3, 299, 299))
    assert (report.params, report.macs) == (22_855_952, 8_357_403_496)
    statistics = sum(buffer.numel() for buffer in net.buffers() if buffer.dim())
    assert (statistics, report.params + statistics) == (54_528, 22_910_480)  # Keras calls running statistics parameters
    assert profile(Xception(10), (1, 3, 299, 299)).params == 22_855_952 - 990 * 2049


def test_36_convolutions_in_14_modules(net):
    """Chollet counts a separable convolution once, and no shortcut."""
    shortcuts = {id(m) for block in net.modules() if isinstance(block, XceptionBlock) for m in block.shortcut.modules()}
    halves = {id(half) for m in net.modules() if isinstance(m, SeparableConv2d) for half in m.modules() if half is not m}
    separable = [m for m in net.modules() if isinstance(m, SeparableConv2d)]
    plain = [m for m in net.modules() if isinstance(m, nn.Conv2d) and id(m) not in shortcuts | halves]
    assert (len(separable), len(plain)) == (34, 2)
    blocks = [m for m in net.modules() if isinstance(m, XceptionBlock)]
    assert len(blocks) + 2 == 14  # the stem and the last two separable convolutions are a module each
    assert [isinstance(block.shortcut, nn.Identity) for block in blocks] == [False] * 3 + [True] * 8 + [False]


def test_almost_all_parameters_are_pointwise(net):
    weights = {"depthwise": 0, "pointwise": 0}
    for name, parameter in net.named_parameters():
        for half in weights:
            weights[half] += parameter.numel() if f".{half}." in name else 0
    shares = {half: round(100 * count / 22_855_952, 1) for half, count in weights.items()}
    assert shares == {"depthwise": 0.9, "pointwise": 85.5}


def test_batch_norms_eps_is_that_of_keras(net):
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dense_network_subsampled_is_the_strided_network(net, output_stride):
    x, step = torch.randn(1, 3, ODD, ODD + 32).double(), 32 // output_stride
    with torch.no_grad():
        strided, dense = net.features(x), at_stride(output_stride, net).features(x)
    assert strided.std() > 0.1
    assert dense.shape[2:] == tuple((n - 1) * step + 1 for n in strided.shape[2:])
    assert_close(dense[:, :, ::step, ::step], strided)


def test_on_even_maps_and_without_dilation_it_is_not(net):
    even, odd = torch.randn(1, 3, ODD + 16, ODD + 16).double(), torch.randn(1, 3, ODD, ODD).double()
    dense, undilated = at_stride(16, net), at_stride(16, net)
    for m in undilated.modules():
        if isinstance(m, nn.Conv2d | SameMaxPool2d) and m.dilation == (2, 2):
            m.dilation, m.padding = (1, 1), (1, 1)
    with torch.no_grad():
        assert (dense.features(even)[:, :, ::2, ::2] - net.features(even)).abs().max() > 0.1
        assert (undilated.features(odd)[:, :, ::2, ::2] - net.features(odd)).abs().max() > 0.1


def test_keys_and_shapes_are_the_same_at_every_output_stride():
    shapes = [{k: v.shape for k, v in Xception(output_stride=stride).state_dict().items()} for stride in (32, 16, 8, 4, 2)]
    assert all(other == shapes[0] for other in shapes)


def test_the_shortcut_reads_the_input_before_the_relu():
    """An in-place ReLU at the head of the residual would hand max(x, 0) to the shortcut: on a negative map that is 0."""
    block, x = XceptionBlock(2, [2], stride=1).eval(), -1 - torch.rand(1, 2, 5, 5)
    assert_close(block(x.clone()), x)  # relu(x) = 0, and nothing here has a bias before batch norm: only the shortcut speaks


def test_the_first_block_does_not_rectify_its_input(net):
    kinds = [[type(m).__name__ for m in block.residual][:2] for block in (net.entry_flow[2], net.entry_flow[3])]
    assert kinds == [["SeparableConv2d", "BatchNorm2d"], ["ReLU", "SeparableConv2d"]]
    assert [type(m).__name__ for m in net.entry_flow[2].residual[2:4]] == ["ReLU", "SeparableConv2d"]


def test_nothing_stands_between_depthwise_and_pointwise():
    layer, x = SeparableConv2d(2, 2), integers(1, 2, 6, 6)
    assert (layer.depthwise(x) < 0).any()
    assert torch.equal(layer(x), layer.pointwise(layer.depthwise(x)))


def test_the_residual_is_pooled_only_where_the_figure_strides():
    assert isinstance(XceptionBlock(2, [2], stride=2).residual[-1], SameMaxPool2d)
    traded = XceptionBlock(2, [2], stride=Step(2, True, 2))
    assert isinstance(traded.residual[-1], SameMaxPool2d)
    assert not any(isinstance(m, SameMaxPool2d) for m in XceptionBlock(2, [3]).modules())
    assert traded(torch.randn(2, 2, 9, 9)).shape == (2, 2, 9, 9)


def test_the_figure_and_not_the_step_decides_which_layers_exist():
    """Where a stride is traded, a shortcut between equal channels stays the convolution that it was."""
    figure, traded = XceptionBlock(2, [2], stride=2), XceptionBlock(2, [2], stride=Step(2, True, 2))
    assert figure.state_dict().keys() == traded.state_dict().keys()
    assert isinstance(XceptionBlock(2, [2]).shortcut, nn.Identity)


def test_7_pixels_are_enough_and_6_are_not(net):
    with torch.no_grad():
        assert net(torch.randn(1, 3, 7, 7).double()).shape == (1, 1000)
    with pytest.raises(ValueError, match=r"at least 7 x 7, got \(1, 3, 6, 7\)"):
        net(torch.randn(1, 3, 6, 7))


def test_half_of_what_reaches_the_classifier_is_dropped_in_training(net):
    assert net.dropout.p == 0.5
