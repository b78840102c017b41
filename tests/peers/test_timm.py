"""timm's networks and ours, with the same random weights: the same numbers, and each difference named.

`make parity` runs this in an environment of its own; tests/golden/peers.npz keeps a few of these answers for everybody.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden.recipe import noise, seeded_torch
from torch import Tensor, nn

from minideeplab import Classifier, InceptionV3, Xception, weights, xception41, xception65, xception71

timm = pytest.importorskip("timm")

ALIGNED = {"xception41": xception41, "xception65": xception65, "xception71": xception71}


def filled(net: nn.Module) -> nn.Module:
    state = {name: torch.from_numpy(seeded_torch(name, tuple(value.shape))) for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


def image(height: int, width: int) -> Tensor:
    return torch.from_numpy(noise((1, height, width, 3))).permute(0, 3, 1, 2).float() * (2 / 255) - 1


@torch.no_grad()
def error(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], size: tuple[int, int]) -> float:
    """Largest difference, in standard deviations of their answer."""
    x = image(*size)
    expected = theirs(x)
    return float((ours(x) - expected).abs().max() / expected.std())


@pytest.fixture(scope="module")
def legacy() -> nn.Module:
    return filled(timm.create_model("legacy_xception"))


def keras_eps(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3


def test_legacy_xception_with_kerass_epsilon_is_ours_on_odd_maps_only(legacy: nn.Module) -> None:
    net = Xception().eval()
    weights.load(net, weights.from_timm(legacy.state_dict()))
    as_shipped = error(net, legacy, (263, 263))
    keras_eps(legacy)
    assert error(net, legacy, (263, 263)) < 1e-5 < 1e-3 < as_shipped
    assert error(net, legacy, (299, 299)) > 0.02  # 74 pixels are even: its pool is symmetric, Keras's is not


def test_legacy_xception_with_kerass_pool_too_is_ours_everywhere(legacy: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    keras_eps(legacy)
    net = Xception().eval()
    weights.load(net, weights.from_timm(legacy.state_dict()))

    def same(pool: nn.MaxPool2d, x: Tensor) -> Tensor:
        """TensorFlow's SAME, in words of its own: one before the map only where its length is odd, one behind it always."""
        height, width = x.shape[2:]
        return F.max_pool2d(F.pad(x, (width % 2, 1, height % 2, 1), value=float("-inf")), 3, 2)

    monkeypatch.setattr(nn.MaxPool2d, "forward", same)
    assert error(net, legacy, (299, 299)) < 1e-5
    assert error(net, legacy, (150, 197)) < 1e-5


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [(name, stride) for name in ALIGNED for stride in (32, 16, 8) if (name, stride) != ("xception71", 8)],  # see the next test
)
def test_aligned_xceptions_give_the_same_features_at_every_output_stride(name: str, output_stride: int) -> None:
    theirs = timm.create_model(name, output_stride=output_stride)
    net = Classifier(ALIGNED[name](output_stride=output_stride)).eval()
    weights.load(net, weights.from_timm(filled(theirs).state_dict()))
    for size in ((64, 98), (65, 97)):
        assert error(lambda x: net.backbone(x).high, theirs.forward_features, size) < 2e-5
        assert error(net, theirs, size) < 2e-5
    other = Classifier(ALIGNED[name](output_stride=32 if output_stride == 16 else 16)).eval()
    weights.load(other, net.state_dict())
    assert error(other, theirs, (65, 97)) > 1e-3  # the same weights at another output stride


def test_timms_xception71_loses_a_projection_at_output_stride_8() -> None:
    whole, lossy = timm.create_model("xception71"), timm.create_model("xception71", output_stride=8)
    lost = whole.state_dict().keys() - lossy.state_dict().keys()
    assert len(lost) == 6
    assert {name.rpartition(".")[0] for name in lost} == {"blocks.4.shortcut.conv", "blocks.4.shortcut.bn"}
    net = Classifier(xception71(output_stride=8))
    with pytest.raises(ValueError, match="5 arrays do not fit Classifier") as caught:  # the sixth counts batches: optional
        weights.load(net, weights.from_timm(lossy.state_dict()))
    assert str(caught.value).count("missing  backbone.entry_flow.4.shortcut.") == 5
    weights.load(net, weights.from_timm(whole.state_dict()))  # ours has the same arrays at every output stride


def test_inception_v3_is_ours_but_for_the_padding_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, net = filled(timm.create_model("inception_v3")), InceptionV3().eval()
    weights.load(net, weights.from_timm(theirs.state_dict()))
    assert error(net, theirs, (139, 180)) > 0.01
    pool = F.avg_pool2d

    def not_counting(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return pool(x, *arguments[:3], **options, count_include_pad=False)

    monkeypatch.setattr(F, "avg_pool2d", not_counting)
    assert error(net, theirs, (139, 180)) < 1e-5
    assert error(net, theirs, (299, 299)) < 1e-5


def test_pre_activation_xceptions_are_refused() -> None:
    with pytest.raises(ValueError, match="xception41p and xception65p normalize and rectify"):
        weights.from_timm(timm.create_model("xception65p").state_dict())


def test_segmentation_models_pytorchs_deeplab_is_refused() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    state = smp.DeepLabV3Plus("tu-xception41", encoder_weights=None).state_dict()
    with pytest.raises(ValueError, match="segmentation-models-pytorch's DeepLabV3Plus is another network"):
        weights.from_timm(state)
