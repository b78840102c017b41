"""Networks nobody would draw: the library's blocks and plain layers in random order, with random options, on random maps.

A `random_network` is a function of its seed alone; every fifth is a whole network, thin, with random options. Below, what
tests of the fast path ask of such networks.
"""

from collections.abc import Callable
from random import Random

import torch
from strategies import scrambled
from torch import Tensor, nn

import minideeplab as m
from minideeplab.blocks.inception import MeanPool2d, Towers
from minideeplab.geometry import Step

Block = tuple[nn.Module, int]  # and how many channels it makes


def width(r: Random) -> int:
    return r.choice([4, 6, 8, 12])


def step(r: Random) -> int | Step:
    return r.choice([1, 1, 2, Step(2, traded=True), Step(1, dilation=r.choice([2, 4]))])


def sampled(r: Random) -> dict[str, int]:
    """A stride or a rate: a window that strides with holes is in no figure."""
    return r.choice([{}, {"stride": 2}, {"dilation": r.choice([2, 3, 6, 13])}])


def conv_bn(r: Random, c: int) -> Block:
    kind, out, kernel = r.choice([m.ConvBN, m.ConvBNReLU]), width(r), r.choice([1, 3, 5, (1, 7), (3, 1)])
    return kind(c, out, kernel, **sampled(r), valid=kernel == (3, 1), eps=r.choice([1e-3, 1e-5])), out


def same(r: Random, c: int) -> Block:
    """Padded by TensorFlow's rule, which depends on the size of the map, and mostly followed by what can be absorbed."""
    out, kernel, groups = 2 * c, r.choice([1, 3, 5]), r.choice([g for g in (1, 2, c) if c % g == 0])
    conv = m.SameConv2d(c, out, kernel, groups=groups, stride=r.choice([1, 2, 2, 3]), dilation=r.choice([1, 1, 2, 6]))
    return nn.Sequential(conv, *r.choice([[], [nn.BatchNorm2d(out, eps=1e-3)], [nn.BatchNorm2d(out), nn.ReLU6()]])), out


def separable(r: Random, c: int) -> Block:
    out, kernel = width(r), r.choice([3, 5])
    if r.random() < 0.5:
        return m.SeparableConv2d(c, out, kernel, **sampled(r)), out
    return m.SeparableConvBN(c, out, kernel, **sampled(r), relu=r.random() < 0.5), out


def residual(r: Random, c: int) -> Block:
    out = r.choice([c, width(r)])
    kind = r.choice(["xception", "aligned", "bottleneck", "inverted"])
    if kind == "xception":
        widths = [width(r) for _ in range(r.randrange(3))] + [out]
        return m.XceptionBlock(c, widths, stride=step(r), starts_with_relu=r.random() < 0.5), out
    if kind == "aligned":
        return m.AlignedBlock(c, [width(r), width(r), out], stride=step(r)), out
    if kind == "inverted":
        return m.InvertedResidual(c, out, expansion=r.choice([1, 2, 6]), stride=step(r)), out
    quarter = c // 4 if c % 4 == 0 and r.random() < 0.5 else r.choice([1, 2, 3])
    return m.Bottleneck(c, quarter, stride=step(r)), 4 * quarter


def segmented(r: Random, c: int) -> Block:
    parts = r.choice([1, 2, 3])
    made: list[nn.Module] = [
        m.SimplifiedInception(c, 6, towers=parts, kernel_size=r.choice([1, 3])),
        m.SegmentedInception(c, 6, segments=parts, kernel_size=r.choice([3, 5])),
        m.ExtremeInception(c, 6, kernel_size=r.choice([3, 5])),
    ]
    return r.choice(made), 6


def pyramid(r: Random, c: int) -> Block:
    if r.random() < 0.5:
        rates, out = r.sample([1, 2, 3, 6, 12, 18, 36], r.choice([1, 2, 3])), width(r)
        return m.ASPP(c, out, rates=rates, separable=r.random() < 0.5), out
    bins = r.sample([1, 2, 3, 6], r.choice([1, 2, min(c, 3)]))
    return m.PyramidPooling(c, bins=bins), c + len(bins) * (c // len(bins))


def pool(r: Random, c: int) -> Block:
    stride = r.choice([1, 2])
    ours = m.SameMaxPool2d(stride=stride, dilation=1 if stride == 2 else r.choice([1, 2]))
    return r.choice([ours, MeanPool2d(), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(7)]), c


def inception(r: Random, c: int) -> Block:
    pooled, reduced = width(r), width(r)
    return r.choice([(m.Inception35(c, pooled), 224 + pooled), (m.Inception17(c, reduced), 768)])


def towers(r: Random, c: int) -> Block:
    """Side by side, each keeping the size; one layer may stand in two of them."""
    relu, ends = nn.ReLU(inplace=r.random() < 0.5), [width(r) for _ in range(r.choice([2, 3]))]
    parts = [nn.Sequential(m.ConvBN(c, end, r.choice([1, 3])), r.choice([relu, nn.ReLU6(), nn.Identity()])) for end in ends]
    if r.random() < 0.5:
        return Towers(c, *parts, nn.Identity()), sum(ends) + c
    return Towers(c, *parts, parts[0]), sum(ends) + ends[0]


def plain(r: Random, c: int) -> Block:
    out, groups = 2 * c, r.choice([g for g in (1, 2, c) if c % g == 0])
    options = {"groups": groups, "bias": r.random() < 0.5, "padding_mode": r.choice(["zeros", "zeros", "reflect"])}
    conv = nn.Conv2d(c, out, r.choice([1, 2, 3]), r.choice([1, 2]), r.choice([0, 1, (1, 0)]), **options)
    behind = [nn.BatchNorm2d(out, affine=r.random() < 0.8), nn.ReLU(), nn.ReLU6(), nn.Dropout(), nn.Identity()]
    return nn.Sequential(conv, *r.sample(behind, r.randrange(4))), out


def plain_alone(r: Random, c: int) -> Block:
    return r.choice([nn.BatchNorm2d(c), nn.ReLU(), nn.ReLU6(), nn.Upsample(scale_factor=2), nn.Dropout()]), c


BLOCKS: list[Callable[[Random, int], Block]] = [
    conv_bn, same, separable, residual, segmented, pyramid, pool, inception, towers, plain, plain_alone,
]  # fmt: skip


def chain(r: Random) -> tuple[nn.Module, Tensor]:
    c, sides = r.choice([2, 3, 4]), (r.randint(9, 24), r.randint(9, 24))
    x, layers = torch.randn(r.choice([1, 2]), c, *sides), []
    for _ in range(r.randint(2, 7)):
        layer, c = r.choice(BLOCKS)(r, c)
        layers.append(layer)
    if r.random() < 0.2:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 5)]
    return nn.Sequential(*layers), x


def whole(r: Random) -> tuple[nn.Module, Tensor]:
    make = r.choice([m.xception41, m.xception65, m.xception71, m.resnet101, m.mobilenet_v2])
    options = {"multi_grid": r.choice([(1, 2, 4), (1, 1, 1)])} if make is m.resnet101 else {}
    backbone = make(output_stride=r.choice([8, 16, 32]), width=1 / r.choice([32, 64]), **options)
    heads = {"separable": r.random() < 0.5, "channels": width(r), "rates": r.choice([None, (), (1,), (2, 7)])}
    decoder = {"low_channels": r.choice([1, 3]), "refine": r.choice([1, 2, 3])}
    net = r.choice([
        lambda: backbone,
        lambda: m.Classifier(backbone, 5),
        lambda: m.DeepLabV3(backbone, 5, **heads),
        lambda: m.DeepLabV3Plus(backbone, 5, **heads, **decoder),
        lambda: m.DeepLabV3Plus(backbone, 5, **heads, **decoder),
    ])()  # fmt: skip
    return net, torch.rand(r.choice([1, 2]), 3, r.randint(30, 50), r.randint(30, 50)) * 2 - 1


def random_network(r: Random) -> tuple[nn.Module, Tensor]:
    """A network and what it is run on; a function of `r` alone."""
    torch.manual_seed(r.randrange(2**31))
    return whole(r) if r.random() < 0.2 else chain(r)


def floats(net: nn.Module) -> nn.Module:
    """With batch norms that do something, in evaluation mode and single precision."""
    torch.manual_seed(0)
    return scrambled(net).float().eval()


def thin_deeplab() -> nn.Module:
    """The same weights every time."""
    torch.manual_seed(0)
    return floats(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8))


def assert_same_answer(fast, slow, bound=1e-4):
    assert type(fast) is type(slow)
    pairs = zip(fast, slow, strict=True) if isinstance(slow, tuple) else [(fast, slow)]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ((ours - theirs).abs().max() / theirs.std()).item() < bound
