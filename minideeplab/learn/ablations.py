"""The papers' ablations as a table: synthetic shapes, small networks, and what is claimed of them. `experiments` runs it.

An arm is a network, how fast it learns and how it is looked at; all arms of an experiment see the same pictures in the same
order for the same seed. What holds at this scale is no proof for the papers' networks.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.blocks.separable import separable_share
from minideeplab.learn.batches import Kept
from minideeplab.learn.confusion import trimap
from minideeplab.learn.data import Shapes
from minideeplab.learn.evaluate import answer, score
from minideeplab.learn.predict import SCALES, predict
from minideeplab.learn.small_networks import (
    CLASSES,
    HybridHead,
    Stack,
    between,
    dense,
    headed,
    plus,
    segmented,
    separable,
    small,
    unpooled,
    unreduced,
)
from minideeplab.networks.deeplab import DeepLabV3
from minideeplab.networks.encoder_decoder import RefineNetHead, SegNetHead, UNetHead
from minideeplab.networks.family import DeepLabV3Head, DeepLabV3PlusHead, FCNHead, PSPNetHead

SIZE, RATE = 65, 0.1
WITHOUT_NORM = 0.02  # RefineNet's rate: without batch norm it diverges at 0.1 and 0.05; the others learn less at 0.02
EDGE = 4  # pixels from a boundary that are near it
HELD, HELD_OUT = 200, 10**9  # pictures to measure with, the same for all seeds, and the seed of these

MEASURES = {
    "miou": "mIoU", "trimap1": "mIoU within 1 pixel", "share": "share of the squared weight", "mean_loss": "mean training loss",
    "near": f"pixels wrong within {EDGE} of a boundary", "far": "pixels wrong farther off",
}

Measures = dict[str, float]
Look = Callable[[nn.Module, int], Measures]


@lru_cache(maxsize=1)
def held_out() -> Kept:
    """What no seed learns from."""
    return Kept(Shapes(HELD, size=SIZE, seed=HELD_OUT))


def scores(net: nn.Module, seed: int) -> Measures:
    """On what no seed learns from."""
    data = held_out()
    with torch.inference_mode():
        drawn = [(answer(net.eval(), image, CLASSES), truth) for image, truth in data.samples]
    found, pixels = score(drawn, data.classes, widths=(1,)), sum(truth.numel() for _, truth in drawn)
    wrong = sum(int((maps != truth).sum()) for maps, truth in drawn)
    near = sum(int((maps != truth)[trimap(truth, EDGE)].sum()) for maps, truth in drawn)
    places = {"near": near / pixels, "far": (wrong - near) / pixels}
    return {"miou": float(found.miou), "trimap1": float(found.trimap[1] or 0), "accuracy": float(found.accuracy)} | places


class Arm(NamedTuple):
    """How to make the network, how fast it learns, and how it is looked at when it has learned: a row for each look."""

    make: Callable[[], nn.Module]
    rate: float = RATE
    looks: Mapping[str, Look] = {"": scores}


class Claim(NamedTuple):
    """`better` is better than `worse` by `measure`; with a margin `within`, it is as good, to so much."""

    better: str
    worse: str
    measure: str = "miou"
    within: float | None = None

    def text(self) -> str:
        """In words."""
        if self.within is not None:
            return f'"{self.better}" is as good as "{self.worse}", to {self.within:g} ({MEASURES[self.measure]})'
        word = "carries more than" if self.measure == "share" else "is better than"
        return f'"{self.better}" {word} "{self.worse}" ({MEASURES[self.measure]})'


class Experiment(NamedTuple):
    """A question to a paper: its words, their place, the arms, and what is claimed of them."""

    question: str
    source: str
    arms: Mapping[str, Arm]
    claims: Sequence[Claim]


# ---- looks


def at_stride(net: nn.Module, seed: int, *, output_stride: int) -> Measures:
    """The same weights at another output stride, with the rates that follow from it."""
    factor = 16 // output_stride
    other = plus(output_stride=output_stride, rates=(factor, 2 * factor))
    other.load_state_dict(net.state_dict())
    return scores(other, seed)


class Looks(nn.Module):
    """A network that is asked several times."""

    def __init__(self, net: nn.Module, scales: Sequence[float], flip: bool) -> None:
        super().__init__()
        self.net, self.scales, self.flip = net, scales, flip

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (N, 4, H, W)."""
        return predict(self.net, x, scales=self.scales, flip=self.flip)


def several(net: nn.Module, seed: int, *, scales: Sequence[float], flip: bool) -> Measures:
    """Scores of averaged probabilities."""
    return scores(Looks(net, scales, flip), seed)


def share(net: nn.Module, seed: int, *, layer: int, trained: bool) -> Measures:
    """Of a dense kernel's squared weight, what its best separable kernel carries; or that of a random kernel of its shape."""
    kernel = [part.weight for part in net.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)][2 + layer]
    if not trained:
        kernel = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(1000 * seed + layer))
    return {"share": float(separable_share(kernel.detach())[0])}


# ---- the table


def stack(*layers: Callable[[int], nn.Module], width: int = 64, shortcuts: bool = True, rate: float = RATE) -> Arm:
    """An arm of such layers."""
    return Arm(partial(Stack, layers, width, shortcuts=shortcuts), rate)


def with_between(*layers: Callable[..., nn.Module]) -> Arm:
    """Eight separable convolutions with these layers between the halves."""

    def layer(width: int) -> nn.Module:
        return between(width, *(partial(make, width) if make is nn.BatchNorm2d else make for make in layers))

    return stack(*[layer] * 8)


def rated(*rates: int) -> Arm:
    """A dense layer at each of these rates; shortcuts as in every stack."""
    return stack(*(partial(dense, rate=rate) for rate in rates), width=32)


RATES = (0.05, 0.1, 0.2)
SPECTRUM = {1: 32, 2: 42, 4: 52, 8: 64}  # segments: the width at which parameters are those of 80 segments of one channel
LAYERS = 6

#: Every experiment by the name that `python -m minideeplab experiment` takes.
EXPERIMENTS: dict[str, Experiment] = {
    "activation": Experiment(
        "What stands between the halves of a separable convolution?",
        "Chollet 2017, 4.7, fig. 10: nothing > ELU > ReLU; Chen 2018, 4.3: batch norm and ReLU together gain; "
        "that batch norm alone would be worse than both is no paper's claim, it parts the two",
        {
            "nothing": with_between(), "ReLU": with_between(nn.ReLU), "ELU": with_between(nn.ELU),
            "BN": with_between(nn.BatchNorm2d), "BN and ReLU": with_between(nn.BatchNorm2d, nn.ReLU),
        },
        [
            Claim("nothing", "ReLU"), Claim("nothing", "ELU"), Claim("ELU", "ReLU"), Claim("nothing", "ReLU", "mean_loss"),
            Claim("BN and ReLU", "nothing"), Claim("BN", "nothing"), Claim("BN and ReLU", "BN"),
        ],
    ),
    "residual": Experiment(
        "Does a stack of separable convolutions need shortcuts, when those without may choose their rate of learning?",
        "Chollet 2017, 4.6, fig. 9; with one optimizer for both it \"may be uncharitable\"",
        {
            f"{name}, rate {rate:g}": stack(*[separable] * 16, shortcuts=shortcuts, rate=rate)
            for name, shortcuts in (("shortcuts", True), ("none", False)) for rate in RATES
        },
        [Claim("shortcuts, rate 0.1", f"none, rate {rate:g}") for rate in RATES]
        + [Claim("shortcuts, rate 0.1", f"none, rate {rate:g}", "mean_loss") for rate in RATES],
    ),
    "equal-size": Experiment(
        "Of one size, to 3 %, is a separable stack better than one of segments, or of dense convolutions?",
        "Chollet 2017, tables 1 to 3, where Inception V3 is the other one; the dense stack is ours",
        {
            "separable": stack(*[separable] * 8, width=69),
            "Inception, 3 segments": stack(*[partial(segmented, segments=3)] * 8, width=42),
            "dense": stack(*[dense] * 8, width=29),
        },
        [Claim("separable", "Inception, 3 segments"), Claim("separable", "dense"), Claim("Inception, 3 segments", "dense")],
    ),
    "spectrum": Experiment(
        "Between one segment and one for each channel, at equal parameters: where is the best stop?",
        "Chollet 2017, 1.2 and 5, leaves the middle open; Xie 2017 (ResNeXt) explored a related dial",
        {f"{count}": stack(*[partial(segmented, segments=count)] * 8, width=width) for count, width in SPECTRUM.items()}
        | {"one a channel": stack(*[partial(segmented, segments=80)] * 8, width=80)},
        [Claim("one a channel", "1"), Claim("one a channel", "4"), Claim("one a channel", "8"), Claim("4", "1")],
    ),
    "hypothesis": Experiment(
        "How much of a trained dense kernel does its best separable one carry, against a random kernel of its shape?",
        "after Chollet's stronger hypothesis (2017, 1.1 and 3), \"mapped completely separately\"; of weights no paper says it",
        {"": Arm(partial(Stack, [dense] * LAYERS, 32), RATE, {
            f"layer {layer + 1}, {'trained' if trained else 'random'}": partial(share, layer=layer, trained=trained)
            for layer in range(LAYERS) for trained in (True, False)})},
        [Claim(f"layer {layer + 1}, trained", f"layer {layer + 1}, random", "share") for layer in range(LAYERS)],
    ),
    "decoder": Experiment(
        "Does a decoder help, and does it help at the boundary?",
        "Chen 2018, tables 3 and 5, fig. 5",
        {"decoder": Arm(plus), "bilinear": Arm(partial(small, DeepLabV3))},
        [Claim("decoder", "bilinear", measure) for measure in ("miou", "trimap1", "near", "far")],
    ),
    "channels": Experiment(
        "How many channels should the low-level map keep? The decoder has 32, the map 24.",
        "Chen 2018, table 1, one run each: 48 of 256 best, 8 and 64 worse; none without reduction",
        {f"{count}": Arm(partial(plus, low_channels=count)) for count in (1, 2, 4, 8, 16, 24)}
        | {"no reduction": Arm(unreduced)},
        [Claim("8", "1"), Claim("8", "24"), Claim("8", "no reduction"), Claim("8", "1", "trimap1"),
         Claim("8", "no reduction", "trimap1")],
    ),
    "structure": Experiment(
        "How many 3 x 3 convolutions should refine?",
        "Chen 2018, table 2, one run each: two are better than one and than three",
        {f"{count}": Arm(partial(plus, refine=count)) for count in (1, 2, 3)},
        [Claim("2", "1"), Claim("2", "3")],
    ),
    "separable": Experiment(
        "Do separable convolutions in ASPP and decoder cost quality?",
        "Chen 2018, table 5: -0.14 to -0.24 points of mIoU for 33 to 41 % fewer multiply-adds; here 58 % fewer",
        {"separable": Arm(plus), "dense": Arm(partial(plus, separable=False))},
        [Claim("separable", "dense", within=0.02), Claim("separable", "dense", "trimap1", within=0.02)],
    ),
    "rates": Experiment(
        "Do several rates help, and what do rates do that are as large as the map (9 x 9 at output stride 8)?",
        "DeepLab (TPAMI 2018), table 3: several over one; Chen 2017, fig. 4: too large ones act as a 1 x 1",
        {name: Arm(partial(plus, output_stride=8, rates=rates))
         for name, rates in (("1, 2, 3", (1, 2, 3)), ("2", (2,)), ("8, 16, 24", (8, 16, 24)), ("none", ()))},
        [Claim("1, 2, 3", "2"), Claim("1, 2, 3", "none"), Claim("1, 2, 3", "8, 16, 24"),
         Claim("8, 16, 24", "none", within=0.02)],
    ),
    "pooling": Experiment(
        "Does a view of the whole image help?",
        "Chen 2017, table 5: yes on VOC; Chen 2018, table 7a: not on Cityscapes",
        {"image pooling": Arm(plus), "without": Arm(unpooled)},
        [Claim("image pooling", "without"), Claim("image pooling", "without", "trimap1")],
    ),
    "gridding": Experiment(
        "At one receptive field, are rates without a common factor better?",
        "Wang 2018 (HDC), table 2, where the field grows too; Chen 2017 uses (2, 4, 8)",
        {", ".join(map(str, rates)): rated(*rates)
         for rates in ((2, 2, 2), (1, 2, 3), (2, 2, 4), (1, 2, 5), (2, 4, 8), (3, 4, 7))},
        [Claim("1, 2, 3", "2, 2, 2"), Claim("1, 2, 5", "2, 2, 4"), Claim("3, 4, 7", "2, 4, 8")],
    ),
    "output-stride": Experiment(
        "What do a finer output stride, several scales and mirror images bring?",
        "Chen 2018, tables 3 and 5: asked at 8, at six scales, mirrored it gains; Chen 2017, table 10: trained at 8 it loses",
        {
            "16": Arm(plus, RATE, {
                "": scores, ", asked at 8": partial(at_stride, output_stride=8),
                ", flip": partial(several, scales=(1.0,), flip=True),
                ", six scales": partial(several, scales=SCALES, flip=False),
            }),
            "8": Arm(partial(plus, output_stride=8, rates=(2, 4))),
        },
        [Claim("16, asked at 8", "16"), Claim("16", "8"), Claim("16, flip", "16"), Claim("16, six scales", "16")],
    ),
    "heads": Experiment(
        "On one small encoder, at equal training: which way back up?",
        "the article's closing surmise; we know of no paper that trained all seven side by side",
        {
            "the naive way": Arm(partial(headed, FCNHead, channels=CLASSES)),
            "U-Net": Arm(partial(headed, UNetHead, channels=16)), "SegNet": Arm(partial(headed, SegNetHead, channels=32)),
            "PSPNet": Arm(partial(headed, PSPNetHead, channels=32)),
            "RefineNet": Arm(partial(headed, RefineNetHead, channels=32), WITHOUT_NORM),
            "DeepLabV3": Arm(partial(headed, DeepLabV3Head, channels=32, rates=(1, 2))),
            "DeepLabV3+": Arm(partial(headed, DeepLabV3PlusHead, channels=32, low_channels=8, rates=(1, 2))),
        },
        [Claim(name, "DeepLabV3", "trimap1") for name in ("U-Net", "SegNet", "RefineNet", "DeepLabV3+")]
        + [Claim(name, "the naive way") for name in ("PSPNet", "DeepLabV3")]
        + [Claim("DeepLabV3+", name) for name in ("U-Net", "SegNet", "RefineNet")],
    ),
    "hybrid": Experiment(
        "What lies between them: ASPP's view of the whole and three bridges, summed?",
        "the article's closing surmise, tried in notebook 13; no paper's figure",
        {
            "hybrid": Arm(partial(headed, HybridHead, channels=32)),
            "U-Net": Arm(partial(headed, UNetHead, channels=16)),
            "DeepLabV3+": Arm(partial(headed, DeepLabV3PlusHead, channels=32, low_channels=8, rates=(1, 2))),
        },
        [Claim("hybrid", name, measure) for name in ("U-Net", "DeepLabV3+") for measure in ("miou", "trimap1")],
    ),
}
