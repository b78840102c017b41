"""Modified aligned Xception is the released backbone of DeepLabV3+: its rows, taps, ReLUs, and its walk to an output stride."""

from math import ceil

import figures
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import AlignedBlock, AlignedXception, SeparableConvBN, xception41, xception65, xception71
from minideeplab.cost import profile
from minideeplab.geometry import Step

BACKBONES = [xception41, xception65, xception71]
THIN = 1 / 64


def test_every_line_makes_the_size_in_its_margin():
    lines = figures.listings(AlignedXception) | figures.listings(xception65)
    promised, made = figures.promised(xception65(), lines), figures.made(xception65(), 513)
    assert [len(listing) for listing in lines.values()] == [2, 1, 4, 3]
    assert len(promised) == 2 + 3 + 16 + 4
    assert promised == {name: made[name] for name in promised}
    assert min(figures.margins(AlignedXception).items())[1] == made["picture"]
    assert min(figures.margins(xception65).items())[1] == made["root.1"]


def test_counts_are_those_of_the_authors_networks():
    reports = [profile(backbone(), (1, 3, 513, 513)) for backbone in BACKBONES]
    assert reports[1].params == 37_867_312
    head = 2048 * 1000 + 1000
    assert reports[0].params + head == 26_969_560
    extra = [3 * (9 * c + 2 * c + c * c + 2 * c) + c * c + 2 * c for c in (256, 728)]  # three separable, and the shortcut
    assert reports[2].params - reports[1].params == sum(extra)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_keys_and_shapes_are_the_same_at_every_output_stride(backbone):
    """Also of the 71 layers at 8, where a known implementation loses the projection of a stride that became a rate."""
    shapes = [{k: v.shape for k, v in backbone(output_stride=s, width=THIN).state_dict().items()} for s in (32, 16, 8)]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(
    ("output_stride", "rows"),
    [
        (32, [(2, 1), (1, 1), (2, 1), (1, 1)]),
        (16, [(2, 1), (1, 1), (1, 1), (1, 2)]),
        (8, [(1, 1), (1, 2), (1, 2), (1, 4)]),
    ],
)
def test_strides_and_rates_are_those_of_the_authors_walk(output_stride, rows):
    """Entry block 3, middle flow, exit blocks 1 and 2: the row that loses its stride still runs at the old rate."""
    net = xception65(output_stride=output_stride, width=THIN)

    def step(rows):
        convs = [m.depthwise for m in rows if isinstance(m, SeparableConvBN)]
        return convs[-1].stride[0], convs[0].dilation[0]

    blocks = [net.entry_flow[2].children(), net.middle_flow[7].children(), net.exit_flow[0].children(), net.exit_flow[1:]]
    assert [step(list(block)) for block in blocks] == rows
    assert net.output_stride == output_stride


@pytest.mark.parametrize(("backbone", "side"), [(xception41, (64, 96)), (xception65, (65, 97)), (xception71, (50, 71))])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dense_network_subsampled_is_the_strided_network(backbone, side, output_stride):
    """At every size, even or odd: symmetric padding puts a window's middle on pixels 0, s, 2 s, ... of any map."""
    strided, dense = scrambled(backbone(output_stride=32, width=THIN)), backbone(output_stride=output_stride, width=THIN)
    dense.load_state_dict(strided.state_dict())
    x, step = torch.randn(2, 3, *side).double(), 32 // output_stride
    with torch.no_grad():
        (low, high), (same, finer) = strided(x), dense.double().eval()(x)
        assert high.std() > 0.1
        assert_close(same, low)
        assert_close(finer[:, :, ::step, ::step], high)
        for m in dense.modules():
            if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
                m.dilation, m.padding = (1, 1), (1, 1)
        assert (dense(x).high[:, :, ::step, ::step] - high).abs().max() > 0.01  # rates are needed, not only strides


@settings(max_examples=40)
@given(st.sampled_from(BACKBONES), st.sampled_from([32, 16, 8]), st.integers(1, 80), st.integers(1, 80))
def test_a_map_of_stride_s_has_a_pixel_for_every_s_pixels_begun(backbone, output_stride, height, width):
    net = backbone(output_stride=output_stride, width=1e-9).eval()
    with torch.no_grad():
        low, high = net(torch.ones(2, 3, height, width))
    assert low.shape == (2, net.low_channels, ceil(height / 4), ceil(width / 4))
    assert high.shape == (2, net.high_channels, ceil(height / output_stride), ceil(width / output_stride))


def test_width_scales_every_layer():
    full, half = (dict(xception65(width=width).named_parameters()) for width in (1, 0.5))
    assert full.keys() == half.keys()
    for name, weight in full.items():
        expected = [n if n in (1, 3) and axis else n // 2 for axis, n in enumerate(weight.shape)]
        assert list(half[name].shape) == expected, name
    assert xception65(width=0.5).low_channels == 128
    assert xception65(width=0.5).high_channels == 1024


@pytest.mark.parametrize(("backbone", "block"), [(xception41, 1), (xception65, 1), (xception71, 2)])
def test_low_is_what_the_second_separable_convolution_says_before_any_relu(backbone, block):
    net, x, heard = scrambled(backbone(width=THIN)), torch.randn(1, 3, 40, 40).double(), []
    net.entry_flow[block].separable_2.register_forward_hook(lambda _, __, y: heard.append(y))
    low = net(x).low
    assert torch.equal(low, heard[0])
    assert (low < 0).any()  # a rectified map would have no negative value


def test_only_the_last_module_rectifies_between_its_halves():
    """The released code; the paper's figure 4 rectifies everywhere."""
    net = xception65(width=THIN)
    relu = {name: m.relu for name, m in net.named_modules() if isinstance(m, SeparableConvBN)}
    assert len(relu) == 3 * (3 + 16 + 1) + 3
    assert {name for name in relu if relu[name]} == {"exit_flow.1", "exit_flow.2", "exit_flow.3"}


def test_the_shortcut_reads_the_input_before_the_relu_and_the_sum_is_not_rectified():
    """An in-place ReLU at the head of the residual would hand max(x, 0) to the shortcut: on a negative map that is 0."""
    block, x = AlignedBlock(2, [2, 2, 2]).eval(), -1 - torch.rand(1, 2, 5, 5)
    assert_close(block(x.clone()), x)
    block = scrambled(AlignedBlock(2, [3, 3, 4], stride=2))
    x = torch.randn(1, 2, 7, 7).double()
    inner = block.separable_2(F.relu(block.separable_1(F.relu(x))))
    assert_close(block(x), block.separable_3(F.relu(inner)) + block.shortcut(x))
    assert (block(x) < 0).any()


def test_the_figure_and_not_the_step_decides_which_layers_exist():
    figure, traded = AlignedBlock(4, [4, 4, 4], stride=2), AlignedBlock(4, [4, 4, 4], stride=Step(2, True))
    assert figure.state_dict().keys() == traded.state_dict().keys()
    assert isinstance(AlignedBlock(4, [4, 4, 4]).shortcut, nn.Identity)
    assert traded(torch.randn(1, 4, 8, 8)).shape == (1, 4, 8, 8)


def test_batch_norms_eps_is_that_of_the_release():
    assert {m.eps for m in xception65(width=THIN).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
