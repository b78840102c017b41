"""Multi-scale prediction: the mean of probabilities over sizes and mirror images, and what it cannot be asked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from strategies import scrambled
from torch import nn

import minideeplab as m
from minideeplab.learn.predict import predict


def deeplab() -> nn.Module:
    torch.manual_seed(0)
    return scrambled(m.DeepLabV3(m.xception41(width=1 / 32), 5, channels=8)).float()


def test_predict_is_the_mean_of_probabilities_over_scales_and_mirror_images():
    torch.manual_seed(0)
    net = scrambled(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8)).float()
    x, total, scales = torch.rand(2, 3, 33, 49) * 2 - 1, torch.zeros(2, 5, 33, 49), (0.5, 1.25)
    with torch.no_grad():
        for h, w in ((17, 25), (41, 61)):  # int((n - 1) * scale + 1)
            y = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=True)
            for logits in (net(y), net(y.flip(3)).flip(3)):
                total += F.interpolate(logits, size=(33, 49), mode="bilinear", align_corners=True).softmax(1) / 4
    torch.testing.assert_close(predict(net, x, scales=scales), total)
    assert not torch.allclose(predict(net, x, scales=scales, flip=False), total, atol=1e-6)


def test_predict_of_one_scale_is_softmax_and_sums_to_one():
    net, x = deeplab(), torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(predict(net, x, scales=(1.0,), flip=False), net(x).softmax(1))
    torch.testing.assert_close(predict(net, x).sum(1), torch.ones(1, 33, 33))


def test_a_mirrored_image_has_a_mirrored_answer():
    net, x = deeplab(), torch.rand(1, 3, 33, 33)
    torch.testing.assert_close(predict(net, x.flip(3)), predict(net, x).flip(3))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(predict(net, x.flip(3), flip=False), predict(net, x, flip=False).flip(3))


def test_scales_that_are_no_python_floats_mean_the_same():
    net, x = deeplab(), torch.rand(1, 3, 33, 33)
    assert torch.equal(predict(net, x, scales=[1, np.float64(0.5)]), predict(net, x, scales=(1.0, 0.5)))


def test_the_images_are_left_alone_and_no_gradient_is_kept():
    net, x = deeplab(), torch.rand(1, 3, 33, 33)
    assert not predict(net, x).requires_grad
    assert x._version == 0


def sizes_seen(x, **options):
    sizes = []
    predict(lambda x: (sizes.append(tuple(x.shape[2:])), x)[1], x, **options)
    return sizes


def test_by_default_the_network_sees_the_authors_six_scales_and_each_mirrored():
    sides = [17, 25, 33, 41, 49, 57]  # of 33
    assert sizes_seen(torch.rand(1, 3, 33, 65)) == [(side, 2 * side - 1) for side in sides for _ in range(2)]


def test_a_tiny_scale_still_leaves_one_pixel():
    assert sizes_seen(torch.rand(1, 3, 9, 17), scales=(1e-9, 0.1), flip=False) == [(1, 1), (1, 2)]


IMAGES = torch.zeros(1, 3, 9, 9)


@pytest.mark.parametrize(
    ("images", "options", "error", "says"),
    [
        (IMAGES, {"scales": ()}, ValueError, r"scales is empty.*at least one"),
        (IMAGES, {"scales": (1.0, 0.0)}, ValueError, r"scales\[1\] must be positive and finite, got 0\.0"),
        (IMAGES, {"scales": (-0.5,)}, ValueError, r"scales\[0\] must be positive and finite, got -0\.5"),
        (IMAGES, {"scales": (1.0, float("inf"))}, ValueError, r"scales\[1\] must be positive and finite, got inf"),
        (IMAGES, {"scales": (float("nan"),)}, ValueError, r"scales\[0\] must be positive and finite, got nan"),
        (IMAGES, {"scales": (1e300,)}, ValueError, r"scales\[0\] = 1e\+300 makes"),
        (IMAGES, {"scales": (1.7e308,)}, ValueError, r"scales\[0\] = 1\.7e\+308 makes more than 4,294,967,296 pixels of 9 x 9"),
        (IMAGES, {"scales": "0.5"}, TypeError, "scales must be a sequence of numbers.*got str"),
        (IMAGES, {"scales": b"\x01"}, TypeError, "scales must be a sequence of numbers.*got bytes"),
        (IMAGES, {"scales": ("0.5",)}, TypeError, r"scales\[0\] must be a number, got '0\.5'"),
        (IMAGES, {"scales": (True,)}, TypeError, r"scales\[0\] must be a number, got True"),
        (IMAGES, {"scales": np.array([0.5, 1.0])}, TypeError, "scales must be a sequence of numbers.*got ndarray"),
        (IMAGES, {"scales": torch.ones(2)}, TypeError, "scales must be a sequence of numbers.*got Tensor"),
        (IMAGES, {"scales": 1.0}, TypeError, "scales must be a sequence of numbers.*got float"),
        (IMAGES, {"flip": "no"}, TypeError, "flip must be of type bool, got str 'no'"),
        (IMAGES.numpy(), {}, TypeError, r"expected a tensor \(N, C, H, W\), got ndarray"),
        (IMAGES[0], {}, ValueError, r"expected \(N, C, H, W\), got \(3, 9, 9\): add the batch axis"),
        (IMAGES.byte(), {}, TypeError, "uint8"),
        (IMAGES[:0], {}, ValueError, r"\(0, 3, 9, 9\)"),
    ],
)
def test_what_predict_cannot_do_is_refused_in_one_line(images, options, error, says):
    with pytest.raises(error, match=says) as raised:
        predict(nn.Identity().eval(), images, **options)
    assert "\n" not in str(raised.value)


def test_a_network_that_answers_with_no_maps_is_refused():
    with pytest.raises(TypeError, match=r"the network's answer: expected a tensor \(N, C, H, W\), got Features"):
        predict(m.xception41(width=1 / 32).eval(), torch.rand(1, 3, 33, 33))
    with pytest.raises(ValueError, match=r"the network's answer: expected \(N, C, H, W\), got \(1, 3\)"):
        predict(lambda x: x.mean((2, 3)), IMAGES)


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="eval"):
        predict(nn.Identity(), IMAGES)
