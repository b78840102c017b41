"""torchvision's Inception V3 and ASPP and ours, with the same random weights; its DeepLabV3 is another network."""

import pytest
import torch
from golden.recipe import noise, seeded_torch
from torch import Tensor, nn

from minideeplab import ASPP, InceptionV3, weights

torchvision = pytest.importorskip("torchvision")


def filled(net: nn.Module) -> nn.Module:
    state = {name: torch.from_numpy(seeded_torch(name, tuple(value.shape))) for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


@torch.no_grad()
def error(ours: nn.Module, theirs: nn.Module, x: Tensor) -> float:
    expected = theirs(x)
    return float((ours(x) - expected).abs().max() / expected.std())


def test_inception_v3_counts_padding_and_is_ours_otherwise() -> None:
    theirs, net = filled(torchvision.models.inception_v3(weights=None, init_weights=False)), InceptionV3().eval()
    state = weights.from_torchvision(theirs.state_dict())
    assert len(state.ignored) == 14  # the auxiliary head
    weights.load(net, state)
    theirs.transform_input = False
    for height, width in ((139, 180), (299, 299)):
        x = torch.from_numpy(noise((1, height, width, 3))).permute(0, 3, 1, 2).float() * (2 / 255) - 1
        assert error(net, theirs, x) > 0.01
        for module in net.modules():
            if isinstance(module, nn.AvgPool2d):
                module.count_include_pad = True
        assert error(net, theirs, x) < 1e-5
        for module in net.modules():
            if isinstance(module, nn.AvgPool2d):
                module.count_include_pad = False


@pytest.mark.parametrize("rates", [(6, 12, 18), (12, 24, 36), (2,)])
def test_aspp_is_ours_once_the_projection_is_permuted(rates: tuple[int, ...]) -> None:
    theirs = filled(torchvision.models.segmentation.deeplabv3.ASPP(64, list(rates), 32))
    net, x = ASPP(64, 32, rates=rates, separable=False).eval(), torch.randn(2, 64, 33, 40)
    state = weights.from_torchvision(theirs.state_dict())
    weights.load(net, state)
    assert error(net, theirs, x) < 1e-5
    state["project.conv.weight"] = theirs.state_dict()["project.0.weight"]
    weights.load(net, state)
    assert error(net, theirs, x) > 0.1


def test_deeplabv3_is_refused_but_lends_its_aspp() -> None:
    theirs = filled(torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None))
    with pytest.raises(ValueError, match="deeplabv3_resnet is another network: a 7 x 7 root"):
        weights.from_torchvision(theirs.state_dict())
    prefix = "classifier.0."
    arrays = {name.removeprefix(prefix): value for name, value in theirs.state_dict().items() if name.startswith(prefix)}
    net = ASPP(2048, 256, rates=(12, 24, 36), separable=False).eval()
    weights.load(net, weights.from_torchvision(arrays))
    assert error(net, theirs.classifier[0], torch.randn(1, 2048, 9, 12)) < 1e-5
