"""timm's and torchvision's names: their recorded answers come out. `tests/peers` asks the packages themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.recipe import noise, seeded_torch
from torch import Tensor, nn
from weight_files import GOLDEN, image_of, shapes_of

from minideeplab import (
    ASPP,
    Classifier,
    InceptionV3,
    SameMaxPool2d,
    Xception,
    weights,
    xception41,
    xception65,
    xception71,
)


@pytest.fixture(scope="module")
def peers() -> Any:
    return np.load(GOLDEN / "peers.npz")


def peer_state(peers: Any, key: str) -> dict[str, Tensor]:
    # num_batches_tracked is a scalar: its shape is stored as zeros only
    shapes = shapes_of(peers[f"{key}/names"], peers[f"{key}/shapes"])
    return {name: torch.from_numpy(np.asarray(seeded_torch(name, shape))) for name, shape in shapes.items()}


@torch.no_grad()
def peer_error(net: nn.Module, peers: Any, case: str) -> float:
    height, width = (int(size) for size in case.rpartition("/")[2].split("x"))
    theirs = torch.from_numpy(peers[case])
    return float((net(image_of(noise((1, height, width, 3)))) - theirs).abs().max() / theirs.std())


def test_timms_legacy_xception_is_ours_but_for_its_epsilon_and_its_pool(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Xception().eval()
    weights.load(net, weights.from_timm(peer_state(peers, "legacy_xception")))
    assert peer_error(net, peers, "legacy_xception/263x263") > 1e-3  # eps 1e-3, Keras's, where timm has 1e-5
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    assert peer_error(net, peers, "legacy_xception/263x263") < 1e-5
    assert peer_error(net, peers, "legacy_xception/299x299") > 0.02  # on an even map its symmetric pool is another
    monkeypatch.setattr(SameMaxPool2d, "forward", lambda pool, x: F.max_pool2d(x, 3, 2, padding=1))
    assert peer_error(net, peers, "legacy_xception/299x299") < 1e-5


def test_timms_xception41_is_the_authors(peers: Any) -> None:
    net = Classifier(xception41(output_stride=32)).eval()
    weights.load(net, weights.from_timm(peer_state(peers, "xception41")))
    assert peer_error(net, peers, "xception41/64x98") < 1e-5
    assert peer_error(Classifier(net.backbone).eval(), peers, "xception41/64x98") > 0.1  # another head


@pytest.mark.parametrize(("key", "build"), [("xception65", xception65), ("xception71", xception71)])
def test_timms_names_map_one_to_one(peers: Any, key: str, build: Callable[..., nn.Module]) -> None:
    shapes = shapes_of(peers[f"{key}/names"], peers[f"{key}/shapes"])
    ours = weights.from_timm({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    with torch.device("meta"):
        own = Classifier(build(output_stride=32)).state_dict()
    assert len(ours) == len(shapes)
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in own.items()}


def test_torchvisions_inception_v3_is_ours_but_for_the_padding_it_counts(peers: Any) -> None:
    net = InceptionV3().eval()
    state = weights.from_torchvision(peer_state(peers, "inception_v3"))
    assert state.ignored
    assert all(name.startswith("AuxLogits.") for name in state.ignored)
    weights.load(net, state)
    assert peer_error(net, peers, "inception_v3/139x180") > 0.01
    for module in net.modules():
        if isinstance(module, nn.AvgPool2d):
            module.count_include_pad = True
    assert peer_error(net, peers, "inception_v3/139x180") < 1e-5


@torch.no_grad()
def test_torchvisions_aspp_is_ours_once_the_projection_is_permuted(peers: Any) -> None:
    net, maps = (
        ASPP(32, 16, rates=(1, 2, 3), separable=False).eval(),
        torch.from_numpy(seeded_torch("maps.weight", (1, 32, 9, 12))),
    )
    state, theirs = weights.from_torchvision(peer_state(peers, "aspp")), torch.from_numpy(peers["aspp/9x12"])
    weights.load(net, state)
    torch.testing.assert_close(net(maps), theirs, rtol=0, atol=1e-5)
    state["project.conv.weight"] = state["project.conv.weight"].roll(-16, dims=1)  # their order: image pooling last
    weights.load(net, state)
    assert (net(maps) - theirs).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segmentation_head.0.weight", "segmentation-models-pytorch's DeepLabV3Plus is another network"),
        ("backbone.conv1.weight", r"7 x 7 root.*pass the arrays that begin with classifier\.0\."),
        ("blocks.0.stack.conv2.norm.weight", "xception41p and xception65p"),
        ("layer1.0.conv1.weight", "1 names are not those of a network"),
        ("Mixed_9z.branch1x1.conv.weight", "1 names are not those of a network"),
    ],
)
def test_other_pytorch_networks_are_refused_with_the_reason(name: str, reason: str) -> None:
    for translate in (weights.from_timm, weights.from_torchvision):
        with pytest.raises(ValueError, match=reason):
            translate({name: torch.zeros(1)})
