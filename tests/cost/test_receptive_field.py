"""Receptive fields: what `profile` derives is what impulses and gradients measure on the network itself."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from minideeplab import (
    AlignedBlock,
    Decoder,
    Inception8,
    Inception17,
    Inception35,
    PyramidPooling,
    ReductionTo8,
    ReductionTo17,
    SameMaxPool2d,
    SeparableConv2d,
    UnpoolingDecoder,
    XceptionBlock,
    pool_and_remember,
    resnet101,
    xception65,
    xception71,
)
from minideeplab.cost import profile
from minideeplab.cost.receptive_field import Field, bins, linear, nearest, nearest_exact, transposed, window
from minideeplab.geometry import Step, receptive_field

SIZE = 97  # = 3 x 32 + 1: an odd map with room for a field of half its size and both kinds of upsampling


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Branches(nn.Module):
    """Branches added up; with `aligned` the later maps are first brought to the size of the first, corners on corners."""

    def __init__(self, *branches, aligned=False):
        super().__init__()
        self.branches, self.aligned = nn.ModuleList(branches), aligned

    def forward(self, x):
        first, *others = (branch(x) for branch in self.branches)
        if self.aligned:
            others = [F.interpolate(y, size=first.shape[2:], mode="bilinear", align_corners=True) for y in others]
        return sum(others, start=first)


def conv(kernel, **options):
    return nn.Conv2d(1, 1, kernel, bias=False, **options)


def resize(size, mode):
    options = {"mode": "nearest"} if mode == "nearest" else {"mode": "bilinear", "align_corners": mode == "corners"}
    return Apply(lambda x: F.interpolate(x, size=size, **options))


@torch.no_grad()
def with_ones(net: nn.Module) -> nn.Module:
    """All weights one and all biases zero, in double precision: whatever a pixel says is heard, and nothing cancels."""
    for name, parameter in net.named_parameters():
        parameter.fill_(0 if name.endswith("bias") else 1)
    return net.double().eval()


@torch.no_grad()
def measured(net: nn.Module, *, channels: int = 1, size: int = SIZE, other: int = SIZE, axis: int = 2) -> int:
    """The widest span of input rows that one output row reads, among those that do not touch the border.

    One lit row at a time on a black image: the maximum of a pool lets every one of them pass, where a gradient would
    follow one only. What bilinear weights leave of a zero in floating point is not counted. `axis=3` measures columns.
    """
    x = torch.zeros(size, channels, size, other, dtype=torch.float64)
    x.diagonal(dim1=0, dim2=2).fill_(1)
    y = with_ones(net)(x if axis == 2 else x.transpose(2, 3)).amax((1, 5 - axis))  # (input rows, output rows)
    spans = []
    for row in (y > 1e-9).T:
        seen = row.nonzero().flatten().tolist()
        if seen and seen[0] > 0 and seen[-1] < size - 1:
            spans.append(seen[-1] - seen[0] + 1)
    return max(spans, default=0)


NETS = {
    "two 3 x 3": nn.Sequential(conv(3), conv(3)),
    "stride before": nn.Sequential(conv(3, stride=2, padding=1), conv(3, padding=1)),
    "dilation": nn.Sequential(conv(3, dilation=2, padding=2), conv(3, dilation=5, padding=5)),
    "even kernels": nn.Sequential(conv(2), conv(4, stride=2), conv(2)),
    "pools": nn.Sequential(nn.MaxPool2d(3, 2, 1), conv(3), nn.AvgPool2d(2), nn.MaxPool2d(3, 1, 1, 2)),
    "pools padded as TensorFlow pads": nn.Sequential(conv(4), SameMaxPool2d(), SameMaxPool2d(stride=1, dilation=2)),
    "separable": nn.Sequential(SeparableConv2d(1, 2, stride=2), SeparableConv2d(2, 1, dilation=3)),
    "residual": nn.Sequential(Branches(nn.Identity(), conv(5, padding=2)), Branches(nn.Identity(), conv(3, padding=1))),
    "rates side by side": Branches(conv(1), conv(3, dilation=6, padding=6), conv(3, dilation=9, padding=9)),
    "a branch to either side": Branches(Apply(lambda x: F.pad(x, (4, 0, 4, 0))), Apply(lambda x: F.pad(x, (0, 4, 0, 4)))),
    "slices": nn.Sequential(conv(3, padding=1), Apply(lambda x: x[:, :, ::3, ::3]), conv(3)),
    "a slice that starts late": Branches(Apply(lambda x: x[:, :, 7:, 7:]), Apply(lambda x: x[:, :, :-7, :-7])),
    "transposed": nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(1, 1, 3, 2, 1, bias=False), conv(3)),
    "transposed by 4": nn.Sequential(conv(3, stride=4), nn.ConvTranspose2d(1, 1, 4, 4, bias=False), conv(3, padding=1)),
    "transposed and dilated": nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(1, 1, 3, dilation=2, bias=False), conv(3)),
    "nested corners": nn.Sequential(conv(3, stride=4, padding=1), resize(SIZE, "corners")),
    "nested corners, then a convolution": nn.Sequential(conv(1, stride=4), resize(SIZE, "corners"), conv(3)),
    "corners that do not nest": nn.Sequential(conv(3, stride=4, padding=1), resize(60, "corners"), conv(3, padding=1)),
    "upsampled twice": nn.Sequential(conv(3, stride=8), resize(25, "corners"), conv(3), resize(SIZE, "corners"), conv(3)),
    "half pixels": nn.Sequential(conv(3, stride=4, padding=1), resize(100, "half"), conv(3, padding=1)),
    "nearest": nn.Sequential(conv(3, stride=4, padding=1), resize(100, "nearest"), conv(3, padding=1)),
    "stride on a finer grid": nn.Sequential(conv(1, stride=2), resize(SIZE, "corners"), conv(3, stride=2, padding=1), conv(3)),
    "low and high": Branches(conv(3, stride=4, padding=1), nn.Sequential(conv(3, stride=16, padding=1), conv(3)), aligned=True),
    "bins": nn.Sequential(conv(3), nn.AdaptiveAvgPool2d(7)),
    "max bins": nn.AdaptiveMaxPool2d(10),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_field_of_a_network_is_what_impulses_measure(name):
    report = profile(NETS[name], (1, 1, SIZE, SIZE))
    assert report.receptive_field == measured(NETS[name]) > 1


BLOCKS = {
    "Inception35": (Inception35(8, 1), 8),
    "ReductionTo17": (ReductionTo17(8), 8),
    "Inception17": (Inception17(8, 1), 8),
    "ReductionTo8": (ReductionTo8(8), 8),
    "Inception8": (Inception8(8), 8),
    "XceptionBlock": (XceptionBlock(2, [2, 2], stride=2), 2),
    "XceptionBlock, stride traded": (XceptionBlock(2, [2, 2], stride=Step(2, traded=True, dilation=2)), 2),
    "AlignedBlock": (AlignedBlock(2, [2, 2, 2], stride=2), 2),
    "Bottleneck, twice": (resnet101(width=1e-9).stages[0][:2], 1),
    "PyramidPooling": (PyramidPooling(2, bins=(9, 16)), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_field_of_a_block_is_what_impulses_measure(name):
    block, channels = BLOCKS[name]
    report = profile(block, (1, channels, 33, 3))
    assert report.receptive_field == measured(block, channels=channels, size=33, other=3) > 1


@pytest.mark.parametrize(("backbone", "stride"), [(xception65, 16), (xception65, 8), (xception71, 32), (resnet101, 16)])
def test_field_of_a_backbone_is_what_the_gradient_of_one_pixel_measures(backbone, stride):
    """One channel in every layer: the graph of the network, and nothing else, decides what is seen."""
    net = backbone(output_stride=stride, width=1e-9)
    net.root = nn.Sequential(*(layer for layer in net.root if not isinstance(layer, SameMaxPool2d)))
    field = profile(net, (1, 3, 4801, 1)).rows[-1].receptive_field
    x = torch.ones(1, 3, 4801, 1, dtype=torch.float64, requires_grad=True)
    high = with_ones(net)(x).high
    high[0, 0, high.shape[2] // 2].sum().backward()
    assert field == x.grad[0, 0].count_nonzero() > 500


@st.composite
def stacks(draw):
    """Two to five layers of one channel that keep, shrink, enlarge or branch."""
    odd = st.sampled_from([1, 3, 5])

    def layer():
        kind = draw(st.sampled_from(["conv", "conv", "pool", "mean", "residual", "resize", "transposed", "slice"]))
        k, s, d = draw(odd), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        if kind == "conv":
            kernel, p = (k, draw(odd)), draw(st.integers(0, 2))
            return nn.Conv2d(1, 1, kernel, s, p, d, bias=False)
        if kind == "pool":
            return nn.MaxPool2d(3, s, draw(st.integers(0, 1)), d, ceil_mode=draw(st.booleans()))
        if kind == "mean":
            return nn.AvgPool2d(3, s, draw(st.integers(0, 1)))
        if kind == "residual":
            return Branches(nn.Identity(), conv(k, padding=d * (k // 2), dilation=d))
        if kind == "resize":
            return resize((draw(st.sampled_from([17, 31, 33, 40])), 40), draw(st.sampled_from(["corners", "half", "nearest"])))
        if kind == "transposed":
            return nn.ConvTranspose2d(1, 1, s + draw(st.integers(0, 2)), s, bias=False)
        return Apply(lambda x: x[:, :, d::s, ::s])

    return nn.Sequential(*(layer() for _ in range(draw(st.integers(2, 5)))))


@settings(max_examples=100)
@given(stacks())
def test_field_of_random_stacks_is_what_impulses_measure(net):
    try:
        report = profile(net, (1, 1, 65, 65))
    except ValueError:  # the map has become smaller than a kernel
        assume(False)
    spans = [measured(net, size=65, other=65, axis=axis) for axis in (2, 3)]
    assume(min(spans) > 0 and report.receptive_field < 65 / 3)
    assert report.receptive_field == max(spans)


def test_the_longer_side_of_a_kernel_counts():
    assert profile(conv((1, 7)), (1, 1, 9, 9)).receptive_field == profile(conv((7, 1)), (1, 1, 9, 9)).receptive_field == 7


layers = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=6)


@given(layers)
def test_the_formula_of_a_plain_stack_is_the_field_of_its_only_path(rows):
    field = Field()
    for kernel, stride, dilation in rows:
        field = field.through(window(kernel, stride=stride, dilation=dilation, padding=kernel // 2))
    assert field.size() == receptive_field(rows)


@given(before=st.integers(1, 40), after=st.integers(1, 80), data=st.data())
def test_grids_read_the_pixels_that_their_definitions_name(before, after, data):
    i = data.draw(st.integers(0, after - 1))
    corner, center = (
        Fraction(i * (before - 1), max(after - 1, 1)),
        Fraction(2 * i + 1, 2) * Fraction(before, after) - Fraction(1, 2),
    )

    def reach(grid):
        return next(iter(Field().through(grid).paths)).reach(i)

    assert reach(linear(before, after, corners=True)) == (floor(corner), ceil(corner))
    assert reach(linear(before, after, corners=False)) == (floor(center), ceil(center))
    assert reach(nearest(before, after)) == (i * before // after,) * 2
    middle = Fraction(2 * i + 1, 2) * Fraction(before, after)
    assert reach(nearest_exact(before, after)) == (floor(middle),) * 2
    assert reach(bins(before, after)) == (i * before // after, ceil(Fraction((i + 1) * before, after)) - 1)


@given(kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 3), padding=st.integers(0, 3))
def test_a_transposed_convolution_has_a_grid_if_every_pixel_is_reached_by_taps_side_by_side(kernel, stride, dilation, padding):
    grid = transposed(kernel, stride=stride, dilation=dilation, padding=padding)
    taps = [tap * dilation for tap in range(kernel)]
    for i in range(20, 20 + stride):
        read = sorted((i + padding - tap) // stride for tap in taps if (i + padding - tap) % stride == 0)
        if grid:
            assert next(iter(Field().through(grid).paths)).reach(i) == (read[0], read[-1])
            assert stride == 1 or read == list(range(read[0], read[-1] + 1))
    assert grid or stride > 1


def test_only_a_mean_over_everything_sees_all():
    head = nn.Sequential(conv(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 5))
    rows = profile(head, (1, 1, 9, 9)).rows
    assert [row.receptive_field for row in rows] == [3, "all", "all"]


class SegNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.back = UnpoolingDecoder([1, 1])

    def forward(self, x):
        pooled = pool_and_remember(x)
        return self.back(pooled.map, [pooled])


def test_an_unpooled_pixel_depends_on_all_that_its_window_held():
    """A larger neighbor takes the place of a maximum and leaves a zero: 3 x 3 taps reach 4 pixels through 2 x 2 windows."""
    assert profile(SegNet(), (1, 1, 16, 16)).receptive_field == 4


def test_each_input_counts_its_own_pixels():
    """The decoder's high map is coarser than its low one: a span of the one cannot be laid beside a span of the other."""
    report = profile(Decoder(2, 2, channels=2, low_channels=1, refine=1), (1, 2, 129, 129), (1, 2, 33, 33))
    assert report.receptive_field == 3


def test_branches_of_unlike_strides_are_followed_over_the_whole_map():
    """Pixels drift apart by unequal steps: one period of the rounding does not show the widest span."""
    net = Branches(conv(3, stride=4, padding=1), conv(3, stride=16, padding=1), aligned=True)
    assert profile(net, (1, 1, 62, 62)).receptive_field == measured(net, size=62, other=62) == 27


# ---- right or unknown: never a small number


def span(net: nn.Module, size: int, channels: int = 2, dims: int = 2) -> int:
    """The widest span of input pixels along any axis that changes one element of the result, by trying each pixel.

    Random weights and inputs in double precision; every axis that is not the one tried has `size` pixels too.
    """
    net = net.double().eval()
    x = torch.randn(1, channels, *[size] * dims, dtype=torch.float64)
    with torch.no_grad():
        before = net(x).flatten()
        widest = 0
        for axis in range(2, 2 + dims):
            changed = []
            for pixel in range(size):
                nudge = torch.zeros_like(x)
                nudge.select(axis, pixel).normal_(0, 10)  # large, so that a maximum moves wherever it was
                changed.append((net(x + nudge).flatten() - before).abs() > 1e-12)
            for seen in torch.stack(changed, 1)[torch.stack(changed).any(0)]:
                places = seen.nonzero().flatten()
                widest = max(widest, int(places[-1] - places[0]) + 1)
    return widest


def layer(function):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), Apply(function))


def conv2(kernel):
    return nn.Conv2d(2, 2, kernel)


class ChannelsLast(nn.Sequential):
    """Layers that want channels in the last dimension, and a convolution before them."""

    def forward(self, x):
        return super().forward(F.pad(x, (1, 0)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def nhwc(module):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), ChannelsLast(module))


EXACT = {  # what is known
    "softmax over channels": layer(lambda x: x.softmax(1)),
    "layer norm of channels last": nhwc(nn.LayerNorm(4)),
    "linear layer of channels last": nhwc(nn.Linear(4, 3)),
    "linear layer of channels last, then a convolution": nn.Sequential(nhwc(nn.Linear(4, 4)), nn.Conv2d(4, 1, 3)),
    "tokens and back": layer(lambda x: F.conv2d(x.flatten(2).relu().view_as(x), torch.ones(1, 4, 3, 3).to(x))),
    "transposed axes": layer(lambda x: F.conv2d(x.transpose(2, 3), torch.ones(1, 4, 5, 1).to(x))),
    "pixel shuffle": nn.Sequential(layer(lambda x: F.pixel_shuffle(x, 2)), nn.Conv2d(1, 1, 3)),
    "pixel unshuffle": nn.Sequential(layer(lambda x: F.pixel_unshuffle(x, 2)), nn.Conv2d(16, 1, 2)),
    "normalized channels": layer(lambda x: F.normalize(x, dim=1)),
    "chunks": layer(lambda x: torch.cat([part.sigmoid() for part in x.chunk(2, 1)][::-1], 1)),
    "stack": nn.Sequential(layer(lambda x: torch.stack([x, -x], 2).amax(2)), Apply(lambda x: torch.stack([x, x], -1).sum(-1))),
    "squeeze and excitation": layer(lambda x: x.select(1, 0).unsqueeze(1) * x),
    "local response": nn.Sequential(layer(lambda x: x.clamp(0, 6) * F.hardsigmoid(x)), nn.Conv2d(4, 1, 2)),
    "area": layer(lambda x: F.interpolate(x, size=(5, 7), mode="area")),
    "nearest, exact": nn.Sequential(layer(lambda x: F.interpolate(x, size=7, mode="nearest-exact")), nn.Conv2d(4, 1, 2)),
    "nearest by a whole factor": nn.Sequential(layer(lambda x: F.interpolate(x, scale_factor=2)), nn.Conv2d(4, 1, 4)),
    "padded with mirrors": layer(lambda x: F.pad(x, (1, 0, 1, 0), mode="reflect")[:, :, 1:, 1:]),
    "a batch norm in place": layer(lambda x: F.leaky_relu_(x).mul_(2)),
    "channels repeated, rolled, turned and picked": layer(
        lambda x: x.repeat(1, 2, 1, 1).roll(1, 1).flip(1).index_select(1, torch.tensor([3, 0], device=x.device))
    ),
    "channels sorted and summed up": layer(lambda x: x.sort(1)[0].cumsum(1).cumprod(-3) + x.topk(2, 1)[0].sum(1, True)),
    "channels taken apart": layer(lambda x: torch.cat([F.glu(x, 1), *x.split([1, 3], 1), torch.stack(x.unbind(1)[:2], 1)], 1)),
    "a channel and a row from the end": nn.Sequential(
        conv2(1), Apply(lambda x: x.select(1, -1)[:, None] + x.select(2, -6).unsqueeze(2))
    ),
    "rows from the end": nn.Sequential(conv2(3), Apply(lambda x: x[:, :, -8:, :-2] + F.pad(x, (0, -2, -2, 0))), conv2(1)),
    "a mean over channels": nn.Sequential(layer(lambda x: x.mean(1)), Apply(lambda x: x.unsqueeze(1)), nn.Conv2d(1, 2, 3)),
    "a repeated row": layer(lambda x: x[:, :, 5:6].expand(-1, -1, 12, -1) * 2.0),
    "a repeated row beside its image": nn.Sequential(nn.Conv2d(2, 4, 1), Apply(lambda x: x + x[:, :, :1])),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_what_is_known_is_what_a_nudge_of_every_pixel_changes(name):
    found = profile(EXACT[name], (1, 2, 12, 12)).receptive_field
    assert found == span(EXACT[name], 12)


WHOLE = {
    "group norm": layer(lambda x: F.group_norm(x, 2)),
    "instance norm": layer(F.instance_norm),
    "layer norm of the map": layer(lambda x: F.layer_norm(x, x.shape[1:])),
    "batch norm that keeps no statistics": layer(lambda x: F.batch_norm(x, None, None, training=True)),
    "softmax over rows": layer(lambda x: x.softmax(2)),
    "log softmax over columns": layer(lambda x: x.log_softmax(-1)),
    "softmax over all pixels": layer(lambda x: x.flatten(2).softmax(-1)),
    "cumulative sum": layer(lambda x: x.cumsum(3)),
    "variance": layer(lambda x: x - x.var((2, 3), keepdim=True)),
    "maximum of a bin": layer(lambda x: F.adaptive_max_pool2d(x, 1)),
    "flattened": layer(lambda x: F.linear(x.flatten(1), torch.ones(3, 4 * 12 * 12).to(x))),
    "attention": layer(lambda x: F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3)),
    "linear layer over columns": layer(lambda x: F.linear(x, torch.ones(3, 12).to(x))),
    "squeezed and excited": layer(lambda x: x * F.linear(x.mean((2, 3)), torch.ones(4, 4).to(x))[:, :, None, None].sigmoid()),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_sees_the_whole_map_says_all(name):
    assert profile(WHOLE[name], (1, 2, 12, 12)).receptive_field == "all"
    assert span(WHOLE[name], 12) >= 10  # a maximum may never lie at the border


UNKNOWN = {
    "roll": layer(lambda x: x + x.roll(1, 2)),
    "roll of everything": layer(lambda x: x.roll(3)),
    "flip": layer(lambda x: x + x.flip(3)),
    "turned by a quarter": layer(lambda x: x + x.rot90(1, (2, 3))),
    "added to its own transpose": layer(lambda x: x + x.transpose(2, 3)),
    "added to its own flattened transpose": layer(lambda x: x.flatten(2) + x.transpose(2, 3).flatten(2)),
    "halves of a row": layer(lambda x: x.flatten(1)[:, :100] + x.flatten(1)[:, 100:200]),
    "split rows": layer(lambda x: sum(x.split(6, 2))),
    "split into blocks": layer(lambda x: x.view(1, 4, 2, 6, 12).sum(2)),
    "concatenated rows": layer(lambda x: F.conv2d(torch.cat([x, x], 2), torch.ones(1, 4, 3, 3).to(x))),
    "repeated rows": layer(lambda x: x.repeat(1, 1, 2, 1)[:, :, 5:17]),
    "strided": layer(lambda x: x.contiguous().as_strided((1, 4, 6, 6), (576, 144, 24, 1), 7)),
    "gathered": layer(lambda x: x.gather(2, torch.zeros(1, 4, 3, 12, dtype=torch.long, device=x.device))),
    "indexed": layer(lambda x: x[:, :, torch.tensor([5, 1, 7], device=x.device)]),
    "picked": layer(lambda x: x.index_select(3, torch.tensor([5, 1], device=x.device)) + x[..., :2]),
    "grid sample": layer(lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)),
    "unfold": layer(lambda x: F.unfold(x, 3)),
    "fold": layer(lambda x: F.fold(x.flatten(2)[..., :81].repeat(1, 4, 1)[:, :8], (10, 10), 2)),
    "windows": layer(lambda x: x.unfold(2, 3, 1).amax(-1)),
    "bicubic": layer(lambda x: F.interpolate(x, size=17, mode="bicubic")),
    "antialiased": layer(lambda x: F.interpolate(x, size=5, mode="bilinear", antialias=True)),
    "antialiased bicubic": layer(lambda x: F.interpolate(x, size=5, mode="bicubic", antialias=True)),
    "nearest by an odd factor": layer(lambda x: F.interpolate(x, scale_factor=1.45)),
    "circular padding": layer(lambda x: F.pad(x, (1, 1, 1, 1), mode="circular")),
    "written into a part": layer(lambda x: torch.zeros_like(x).index_put((torch.tensor(0, device=x.device),), x[0])),
    "written through a view": layer(lambda x: _written(x)),
    "transposed with holes": nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(1, 1, 1, 2, bias=False), conv(3)),
    "transposed, with holes between taps": nn.Sequential(conv(3), nn.ConvTranspose2d(1, 1, 3, 2, dilation=2, bias=False)),
    "a kernel made of the image": layer(lambda x: F.conv2d(x, x[:, :, :3, :3])),
}  # fmt: skip


def _written(x):
    target = torch.zeros_like(x)
    target[:, :, 3:].copy_(x[:, :, :-3])
    return target + x


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_moves_pixels_in_a_way_that_is_not_listed_is_unknown(name):
    channels = 1 if name.startswith("transposed") else 2
    head = nn.Sequential(UNKNOWN[name], Apply(lambda x: x.relu() + 1))
    report = profile(head, (1, channels, 12, 12))
    assert report.receptive_field == report.rows[-1].receptive_field == "unknown"
    assert span(head, 12, channels) >= 1


def test_one_and_three_axes_count_as_two_do():
    flat = nn.Sequential(nn.Conv1d(2, 3, 5), nn.MaxPool1d(2), nn.ReLU(), nn.Conv1d(3, 1, 3, dilation=2), nn.AvgPool1d(2))
    deep = nn.Sequential(nn.Conv3d(2, 3, (5, 1, 3)), nn.MaxPool3d(2), nn.Conv3d(3, 1, (2, 1, 1)), nn.AvgPool3d((1, 2, 2)))
    grown = nn.Sequential(nn.Conv3d(2, 1, 3, 2, 1), nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv3d(1, 1, 3))
    for net, size, dims in ((flat, 40, 1), (deep, 12, 3), (grown, 12, 3)):
        assert profile(net, (1, 2, *[size] * dims)).receptive_field == span(net, size, dims=dims) > 3


def test_an_unbatched_map_is_no_small_number():
    assert profile(conv(3), (1, 9, 9)).receptive_field == "unknown"


@dataclass
class Result:
    logits: torch.Tensor
    more: object


class Opaque:
    def __init__(self, logits):
        self.logits = logits


def test_a_result_of_many_tensors_sees_what_the_one_does_that_sees_most():
    def many(x):
        return {"low": x, "high": [(F.avg_pool2d(x, 3), None)], "rest": Result(F.max_pool2d(x, 5, 1), {"size": 3})}

    assert profile(Apply(many), (1, 1, 9, 9)).receptive_field == 5
    assert profile(Apply(lambda x: [x, x.mean()]), (1, 1, 9, 9)).receptive_field == "all"


@pytest.mark.parametrize("wrap", [Opaque, lambda x: Result(x, Opaque(x)), lambda x: [x, {"a": Opaque(x)}], lambda x: None])
def test_a_result_that_hides_its_tensors_is_unknown(wrap):
    assert profile(nn.Sequential(conv(3), Apply(wrap)), (1, 1, 9, 9)).receptive_field == "unknown"


def test_what_does_not_depend_on_the_image_sees_nothing_of_it():
    assert profile(Apply(lambda x: torch.ones_like(x) * 2), (1, 1, 9, 9)).receptive_field == 0
    assert profile(Apply(lambda x: x + torch.ones_like(x)), (1, 1, 9, 9)).receptive_field == 1
