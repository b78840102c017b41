"""The authors' weights give the authors' numbers, the wrong ones do not, and what is no checkpoint of ours says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.recipe import noise, seeded
from torch import Tensor, nn
from weight_files import GOLDEN, image_of, nchw, shapes_of

from minideeplab import (
    AlignedBlock,
    Classifier,
    Decoder,
    DeepLabV3,
    DeepLabV3Plus,
    resnet101,
    weights,
    xception41,
    xception65,
    xception71,
)

BACKBONES = {"xception_41": xception41, "xception_65": xception65, "xception_71": xception71, "resnet_v1_101": resnet101}


# The authors' own run: DeepLabV3+, Xception-65, full width


@pytest.fixture(scope="module")
def authors() -> Any:
    return np.load(GOLDEN / "tf_deeplabv3plus_xception_65.npz")


@pytest.fixture(scope="module")
def checkpoint(authors: Any) -> dict[str, np.ndarray]:
    made = {name: seeded(name, shape) for name, shape in shapes_of(authors["names"], authors["shapes"]).items()}
    stored = {name.removeprefix("stats/"): authors[name] for name in authors.files if name.startswith("stats/")}
    return made | stored


@pytest.fixture(scope="module")
def deeplab(checkpoint: dict[str, np.ndarray]) -> DeepLabV3Plus:
    net = DeepLabV3Plus(xception65(output_stride=16), 21).eval()
    weights.load(net, weights.from_tensorflow(checkpoint))
    return net


@torch.no_grad()
def logits_error(net: DeepLabV3Plus, authors: Any, case: str, scale: Callable[[Tensor], Tensor] = lambda x: x) -> float:
    """Largest error of the logits, in standard deviations of the authors' logits."""
    theirs = nchw(authors[f"{case}/logits"])
    return float((net.coarse_logits(scale(image_of(authors[f"{case}/input"]))) - theirs).abs().max() / theirs.std())


@pytest.mark.parametrize("case", ["os16_96x160", "os16_129x193"])
@torch.no_grad()
def test_the_authors_weights_give_the_authors_numbers(deeplab: DeepLabV3Plus, authors: Any, case: str) -> None:
    x = image_of(authors[f"{case}/input"])
    low, high = deeplab.backbone(x)
    unit = "ep/xception_65/entry_flow/block2/unit_1/xception_module/separable_conv2_pointwise"
    for ours, name in (
        (low, unit),
        (deeplab.aspp(high), "op/concat_projection/Relu"),
        (deeplab.coarse_logits(x), "logits"),
    ):
        theirs = nchw(authors[f"{case}/{name}"])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=min(1e-3, 1e-4 * float(theirs.std())), msg=name)
    different = int((deeplab(x).argmax(1).numpy() != authors[f"{case}/argmax"]).sum())
    assert different <= 2


def wrong_eps(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    for module in net.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            patch.setattr(module, "eps", 1e-5)


def corners_apart(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    def upsample(x: Tensor, size: Any) -> Tensor:
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)

    patch.setitem(Decoder.forward.__globals__, "upsample", upsample)


def rectified_low(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    reduce = net.decoder.reduce.forward
    patch.setattr(net.decoder.reduce, "forward", lambda low: reduce(low.relu()))


def rate_in_exit_flow(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    for row in net.backbone.exit_flow[1:]:
        patch.setattr(row.depthwise, "dilation", (1, 1))
        patch.setattr(row.depthwise, "padding", (1, 1))


def rectified_shortcut(net: DeepLabV3Plus, patch: pytest.MonkeyPatch) -> None:
    for block in net.backbone.modules():
        if isinstance(block, AlignedBlock):
            shortcut = block.shortcut.forward
            patch.setattr(block.shortcut, "forward", lambda x, shortcut=shortcut: shortcut(x.relu()))


@pytest.mark.parametrize(
    ("mistake", "cost"),
    [(wrong_eps, 0.3), (corners_apart, 0.29), (rectified_low, 0.16), (rate_in_exit_flow, 1.8), (rectified_shortcut, 2.4)],
)
def test_one_wrong_choice_costs_as_much_as_is_said(
    deeplab: DeepLabV3Plus, authors: Any, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., None], cost: float
) -> None:
    mistake(deeplab, monkeypatch)
    assert logits_error(deeplab, authors, "os16_129x193") == pytest.approx(cost, rel=0.05)


def test_the_preprocessing_of_other_networks_destroys_the_answer(deeplab: DeepLabV3Plus, authors: Any) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    error = logits_error(deeplab, authors, "os16_129x193", lambda x: ((x + 1) / 2 - mean) / std)
    assert error == pytest.approx(14.7, rel=0.05)


# The authors' other networks, an eighth as wide


@pytest.fixture(scope="module")
def variants() -> Any:
    return np.load(GOLDEN / "tf_variants.npz")


def variant(name: str, *, output_stride: int | None = None, multi_grid: tuple[int, ...] | None = None) -> nn.Module:
    """The network that a case of tf_variants.npz names, such as `xception_71 os8 plus separable 1,1,1`."""
    scope, stride, head, split, grid = name.split()
    options: dict[str, Any] = {"output_stride": output_stride or int(stride.removeprefix("os")), "width": 0.125}
    if scope == "resnet_v1_101":
        options["multi_grid"] = multi_grid or tuple(int(rate) for rate in grid.split(","))
    backbone = BACKBONES[scope](**options)
    if head == "classifier":
        return Classifier(backbone, 1001).eval()
    if head == "v3":
        return DeepLabV3(backbone, 5, channels=32, separable=split == "separable").eval()
    return DeepLabV3Plus(backbone, 5, channels=32, low_channels=6, separable=split == "separable").eval()


def variant_state(variants: Any, name: str) -> weights.State:
    shapes = shapes_of(variants[f"{name}/names"], variants[f"{name}/shapes"])
    return weights.from_tensorflow({name: seeded(name, shape, gain=1.0) for name, shape in shapes.items()})


@torch.no_grad()
def variant_error(net: nn.Module, variants: Any, name: str, size: tuple[int, int]) -> float:
    x = image_of(noise((1, *size, 3)))
    ours, theirs = (
        net.coarse_logits(x) if hasattr(net, "coarse_logits") else net(x),
        nchw(variants[f"{name}/{size[0]}x{size[1]}"]),
    )
    return float((ours - theirs).abs().max() / theirs.std())


VARIANTS = [
    "xception_41 os16 plus dense 1,1,1",
    "xception_71 os16 plus separable 1,1,1",
    "xception_71 os8 plus separable 1,1,1",
    "xception_65 os8 plus separable 1,1,1",
    "xception_65 os32 plus separable 1,1,1",
    "xception_65 os16 v3 dense 1,1,1",
    "resnet_v1_101 os16 plus dense 1,2,4",
    "resnet_v1_101 os8 v3 dense 1,2,4",
    "xception_41 os32 classifier dense 1,1,1",
    "resnet_v1_101 os32 classifier dense 1,1,1",
]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_the_authors_gives_tensorflows_numbers(variants: Any, name: str) -> None:
    net = variant(name)
    weights.load(net, variant_state(variants, name))
    for size in ((64, 98), (65, 97)):
        assert variant_error(net, variants, name, size) < 1e-4


def test_variants_and_cases_are_the_same_list(variants: Any) -> None:
    assert {key.rpartition("/")[0] for key in variants.files if key.endswith("/names")} == set(VARIANTS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("xception_71 os8 plus separable 1,1,1", {"output_stride": 16}),
        ("resnet_v1_101 os16 plus dense 1,2,4", {"multi_grid": (1, 1, 1)}),
        ("resnet_v1_101 os32 classifier dense 1,1,1", {"output_stride": 16}),
    ],
)
def test_the_same_weights_at_other_rates_answer_something_else(variants: Any, name: str, options: dict[str, Any]) -> None:
    net = variant(name, **options)
    weights.load(net, variant_state(variants, name))  # the arrays are the same: only the rates tell
    assert variant_error(net, variants, name, (64, 98)) > 0.01


def test_the_imagenet_classifier_of_xception65_has_the_published_count() -> None:
    net = Classifier(xception65(output_stride=32).to("meta"), num_classes=1000)
    assert sum(value.numel() for value in net.parameters()) == 39_916_312


def test_classifier_drops_half_of_the_features_in_training_only() -> None:
    net, x = Classifier(xception41(output_stride=32, width=0.05), num_classes=7), torch.rand(2, 3, 33, 33)
    net.backbone.eval()
    assert not torch.equal(net(x), net(x))
    net.eval()
    torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)
    assert net(x).shape == (2, 7)
