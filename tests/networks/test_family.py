"""The heads side by side: the listings and their margins, what each can see, and where each can draw an edge."""

import re
from math import ceil

import figures
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

import minideeplab as m
from minideeplab.cost import profile

FAMILY = {  # how to make it; the output stride of its margins
    "FCN-32s": (lambda backbone, **c: m.FCNHead(backbone, **c), 32),
    "FCN-8s": (lambda backbone, **c: m.FCNHead(backbone, maps=3, **c), 32),
    "U-Net": (m.UNetHead, 32),
    "SegNet": (m.SegNetHead, 32),
    "PSPNet": (m.PSPNetHead, 8),
    "RefineNet": (m.RefineNetHead, 32),
    "DeepLabV3": (m.DeepLabV3Head, 16),
    "DeepLabV3+": (m.DeepLabV3PlusHead, 16),
}
NAIVE = {"FCN-32s", "PSPNet", "DeepLabV3"}  # no finer map: only bilinear upsampling behind the last one
FINER = set(FAMILY) - NAIVE


def segmenter(name: str, output_stride: int = 16, channels: int = 16) -> m.Segmenter:
    backbone = m.mobilenet_v2(output_stride=output_stride, width=1 / 4)
    return m.Segmenter(backbone, FAMILY[name][0](backbone, channels=channels), 3)


torch.manual_seed(0)
NETS = {(name, stride): scrambled(segmenter(name, stride)).float() for name in FAMILY for stride in (32, 16, 8, 4)
        if (name, stride) != ("FCN-8s", 4)}  # fmt: skip


@settings(max_examples=120)
@given(st.sampled_from(sorted(NETS)), st.integers(1, 70), st.integers(1, 70), st.integers(1, 2))
def test_any_image_is_answered_in_exactly_its_size(which, height, width, images):
    with torch.no_grad():
        answer = NETS[which](torch.randn(images, 3, height, width))
    assert answer.shape == (images, 3, height, width)
    assert answer.isfinite().all()


# ---- the listings


def rows(head: nn.Module) -> list[str]:
    """The names of its rows: its own modules, and those of its lists."""
    return [
        name if not isinstance(part, nn.ModuleList) else f"{name}.{number}"
        for name, part in head.named_children()
        for number in range(len(part) if isinstance(part, nn.ModuleList) else 1)
    ]


def margins(head: nn.Module) -> list[figures.Size]:
    """The sizes in the margins of a head's listing, its base class's before its own."""
    kinds = [kind for kind in reversed(type(head).__mro__) if kind.__module__.startswith("minideeplab.")]
    return [size for kind in kinds for size in figures.margins(kind).values()]


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "FCN-32s"])
def test_every_line_makes_the_size_in_its_margin(name):
    make, output_stride = FAMILY[name]
    backbone = m.resnet101(output_stride=output_stride)
    net = m.Segmenter(backbone, make(backbone), 21)
    made, promised = figures.made(net, 513), margins(net.head)
    sizes = [made[f"head.{row}"] for row in rows(net.head)]
    high = (2048, ceil(513 / output_stride), ceil(513 / output_stride))
    assert promised == sizes or promised == [high, *sizes]
    assert len(set(promised)) > 1 or len(promised) == 1
    wrong = [*promised[:-1], (promised[-1][0] + 1, *promised[-1][1:])]
    assert wrong not in (sizes, [high, *sizes])


# ---- what a head can see of a map, and where it can draw an edge


def answer_to(name: str, stride: int) -> float:
    """How much one output pixel changes with the map of this stride, all others held: a derivative, by autograd."""
    net = NETS[name, 16].head.double()
    backbone = NETS[name, 16].backbone
    maps = {s: torch.randn(1, c, 64 // s, 64 // s).double() for s, c in backbone.channels.items()}
    maps[stride].requires_grad_()
    y = net(m.Pyramid.of(maps[4], maps))
    (change,) = torch.autograd.grad(y[..., y.shape[2] // 2, y.shape[3] // 2].sum(), maps[stride], allow_unused=True)
    net.float()
    return 0.0 if change is None else change.abs().sum().item()


def test_without_the_finer_maps_unet_cannot_place_an_edge():
    """The maps of stride 2, 4 and 8 reach an output pixel of U-Net; of FCN-32s only the last one does."""
    assert all(answer_to("U-Net", stride) > 0 for stride in (2, 4, 8, 16))
    assert [answer_to("FCN-32s", stride) > 0 for stride in (2, 4, 8, 16)] == [False, False, False, True]


@pytest.mark.parametrize("name", FAMILY)
def test_only_heads_with_a_way_back_up_read_finer_maps(name):
    assert answer_to(name, 16) > 0
    by_value = {"FCN-8s": {4, 8}, "U-Net": {2, 4, 8}, "RefineNet": {4, 8}, "DeepLabV3+": {4}}
    assert {stride for stride in (2, 4, 8) if answer_to(name, stride) > 0} == by_value.get(name, set())


@pytest.mark.parametrize("name", FAMILY)
def test_two_images_with_the_same_last_map_look_the_same_to_a_naive_head(name):
    """By values or, as SegNet, by places: whoever comes back up tells them apart."""
    net, backbone = NETS[name, 16].head, NETS[name, 16].backbone
    maps = {s: torch.randn(1, c, 64 // s, 64 // s) for s, c in backbone.channels.items()}
    other = {s: x if s == 16 else torch.randn_like(x) for s, x in maps.items()}
    with torch.no_grad():
        same = torch.equal(net(m.Pyramid.of(maps[4], maps)), net(m.Pyramid.of(other[4], other)))
    assert same == (name in NAIVE)


@pytest.mark.parametrize(("name", "far"), [("FCN-32s", False), ("PSPNet", True), ("DeepLabV3", True), ("DeepLabV3+", True)])
def test_one_corner_knows_of_the_other_only_with_context(name, far):
    net, backbone = NETS[name, 16].head, NETS[name, 16].backbone
    maps = {s: torch.randn(1, c, 256 // s, 256 // s) for s, c in backbone.channels.items()}
    changed = maps | {16: maps[16].clone()}
    changed[16][..., -1, -1] += 100
    with torch.no_grad():
        before, after = net(m.Pyramid.of(maps[4], maps)), net(m.Pyramid.of(changed[4], changed))
    assert torch.equal(before[..., 0, 0], after[..., 0, 0]) != far


# ---- FCN


def test_fcn_scores_every_map_and_adds_the_upsampled_sum_of_the_coarser():
    net = scrambled(segmenter("FCN-8s", 32))
    x = net.backbone.pyramid(torch.randn(1, 3, 65, 97).double())
    scores = [score(x.maps[stride]) for score, stride in zip(net.head.score, (32, 16, 8), strict=True)]
    middle = scores[1] + m.upsample(scores[0], scores[1].shape[2:])
    assert_close(net.head(x), scores[2] + m.upsample(middle, scores[2].shape[2:]))
    assert (net.head(x) - scores[2]).abs().max() > 0.1


def test_fcns_finer_scores_begin_at_zero_so_fcn_8s_begins_as_fcn_32s():
    torch.manual_seed(0)
    backbone = m.mobilenet_v2(width=1 / 16).eval()
    one, three = m.FCNHead(backbone, channels=4), m.FCNHead(backbone, channels=4, maps=3)
    three.score[0].load_state_dict(one.score[0].state_dict())
    pyramid = backbone.pyramid(torch.randn(1, 3, 65, 65))
    coarse, fine = one(pyramid), three(pyramid)
    steps = m.upsample(m.upsample(coarse, pyramid.maps[8].shape[2:]), fine.shape[2:])
    assert_close(fine, steps)
    nn.init.normal_(three.score[2].weight)
    assert (three(pyramid) - steps).abs().max() > 1e-3


def test_scores_may_be_upsampled_and_then_mixed_or_mixed_and_then_upsampled():
    """Both are linear and every pixel's weights sum to one: that is why FCN's classes may be the head's channels."""
    net, x = scrambled(segmenter("FCN-32s", channels=3)), torch.randn(1, 3, 65, 65).double()
    assert_close(net(x), net.classify(m.upsample(net.head(net.backbone.pyramid(x)), (65, 65))))
    rectified = net.classify(m.upsample(net.head(net.backbone.pyramid(x)), (65, 65)).relu())
    late = m.upsample(net.classify(net.head(net.backbone.pyramid(x)).relu()), (65, 65))
    assert (rectified - late).abs().max() > 1e-3  # with a ReLU between them it would not do


# ---- DeepLab, PSPNet


@pytest.mark.parametrize(("whole", "head"), [(m.DeepLabV3, m.DeepLabV3Head), (m.DeepLabV3Plus, m.DeepLabV3PlusHead)])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_deeplabs_heads_are_what_the_networks_have_between_their_ends(whole, head, output_stride):
    backbone = m.xception41(output_stride=output_stride, width=1 / 32)
    theirs = scrambled(whole(backbone, 5, channels=8))
    ours = m.Segmenter(backbone, head(backbone, channels=8), 5).double().eval()
    state = {re.sub(r"^(aspp|decoder)\.", r"head.\1.", name): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 64, 97).double()
    assert_close(ours(x), theirs(x))
    assert_close(ours.coarse_logits(x), theirs.coarse_logits(x))
    assert ours.head.aspp.rates == theirs.aspp.rates


def test_pspnet_mixes_the_last_map_and_its_means_with_a_3_x_3():
    net = scrambled(segmenter("PSPNet", 8))
    x = net.backbone.pyramid(torch.randn(2, 3, 65, 65).double())
    assert_close(net.head(x), net.head.mix(net.head.pool(x.high)))
    c = net.backbone.high_channels
    reduced = c // 4
    expected = 4 * (c * reduced + 2 * reduced) + 9 * (c + 4 * reduced) * 16 + 2 * 16
    assert sum(weight.numel() for weight in net.head.parameters()) == expected
    assert net.head.mix.conv.kernel_size == (3, 3)


# ---- the segmenter


def test_nothing_new_only_composition():
    net, x = scrambled(segmenter("U-Net")), torch.randn(2, 3, 40, 56).double()
    coarse = net.classify(net.head(net.backbone.pyramid(x)))
    assert torch.equal(net.coarse_logits(x), coarse)
    assert torch.equal(net(x), m.upsample(coarse, (40, 56)))
    assert (net.classify.kernel_size, net.classify.out_channels) == ((1, 1), 3)


class Stub(nn.Module):
    """What a learner writes."""

    channels = 20

    def forward(self, pyramid):
        return pyramid.high


def test_a_head_is_any_module_with_channels_that_makes_a_map_of_a_pyramid():
    net = m.Segmenter(m.mobilenet_v2(width=1 / 16), Stub(), 4).eval()
    assert net(torch.randn(1, 3, 50, 33)).shape == (1, 4, 50, 33)
    wrong = Stub()
    wrong.channels = 21
    with pytest.raises(RuntimeError, match="21"):
        m.Segmenter(m.mobilenet_v2(width=1 / 16), wrong, 4)(torch.randn(1, 3, 50, 33))


@pytest.mark.parametrize("name", FAMILY)
def test_a_bad_image_is_refused(name):
    net = NETS[name, 16]
    with pytest.raises(TypeError, match="float64"):
        net(torch.zeros(1, 3, 33, 33).double())
    with pytest.raises(ValueError, match="add the batch axis"):
        net(torch.zeros(3, 33, 33))


@pytest.mark.parametrize("name", FAMILY)
def test_costs_are_counted_without_computing(name):
    net = segmenter(name)
    report = profile(net, (1, 3, 97, 65))
    assert report.params == sum(weight.numel() for weight in net.parameters())
    assert report.macs > profile(net.backbone, (1, 3, 97, 65)).macs


@pytest.mark.parametrize("name", FAMILY)
def test_every_weight_of_a_head_is_trained(name):
    torch.manual_seed(0)
    net, x = segmenter(name), torch.randn(2, 3, 65, 65)
    net(x)[:, 0].square().mean().backward()
    silent = [name for name, weight in net.head.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []
