"""The decoder joins what is known with where it is, and keeps the second a minority."""

import pytest
import torch
import torch.nn.functional as F
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import ConvBNReLU, Decoder, SeparableConvBN, upsample


def joined(decoder, low, high):
    """What the refining convolutions read, and what they answer."""
    heard = []
    decoder.refine.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    return decoder(low, high), heard[0]


@pytest.mark.parametrize("separable", [False, True])
def test_the_article_s_f1_f2_f3(separable):
    decoder = scrambled(Decoder(6, 5, channels=7, low_channels=2, separable=separable))
    low, high = torch.randn(2, 6, 9, 13).double(), torch.randn(2, 5, 3, 4).double()
    y, f3 = joined(decoder, low, high)
    f1 = F.interpolate(high, size=(9, 13), mode="bilinear", align_corners=True)
    f2 = F.relu(decoder.reduce.bn(decoder.reduce.conv(low)))
    assert torch.equal(f3, torch.cat([f1, f2], dim=1))  # the encoder's channels first, then the low-level ones
    assert torch.equal(y, decoder.refine(f3))
    assert y.shape == (2, 7, 9, 13)


def test_where_grids_nest_a_coarse_value_keeps_its_place():
    decoder, high = scrambled(Decoder(6, 5, channels=7)), torch.randn(1, 5, 9, 9).double()
    _, nested = joined(decoder, torch.randn(1, 6, 33, 33).double(), high)
    assert_close(nested[:, :5, ::4, ::4], high)
    centers = F.interpolate(high, size=(33, 33), mode="bilinear", align_corners=False)
    assert (centers[:, :, ::4, ::4] - high).abs().max() > 0.01
    assert torch.equal(upsample(high, (33, 33)), nested[:, :5])


def test_the_low_level_share_falls_from_a_half_to_a_sixth():
    for low_channels, share in ((256, 256 / 512), (48, 48 / 304)):
        decoder = Decoder(256, 256, low_channels=low_channels)
        assert low_channels / decoder.refine[0].depthwise.in_channels == share


@pytest.mark.parametrize(("separable", "kind"), [(False, ConvBNReLU), (True, SeparableConvBN)])
def test_refine_counts_the_3_x_3_convolutions(separable, kind):
    for refine in (1, 2, 3):
        layers = list(Decoder(6, 5, channels=7, low_channels=2, refine=refine, separable=separable).refine)
        assert [type(layer) for layer in layers] == [kind] * refine
        looks = [layer.depthwise if separable else layer.conv for layer in layers]
        assert [look.kernel_size for look in looks] == [(3, 3)] * refine
        assert [look.in_channels for look in looks] == [7] * refine
        assert {layer.relu for layer in layers if separable} <= {True}


def test_the_reduction_is_a_1_x_1_rectified_and_nothing_has_a_bias():
    decoder = Decoder(6, 5, channels=7)
    assert isinstance(decoder.reduce, ConvBNReLU)
    assert (decoder.reduce.conv.kernel_size, decoder.reduce.conv.out_channels) == ((1, 1), 48)
    assert not any(m.bias is not None for m in decoder.modules() if isinstance(m, nn.Conv2d))


def test_batch_norms_eps_is_that_of_the_release():
    for separable in (False, True):
        assert {m.eps for m in Decoder(6, 5, separable=separable).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_high_may_be_of_any_size_beside_low():
    decoder = Decoder(6, 5, channels=7).eval()
    for side in ((1, 1), (3, 9), (33, 40)):
        assert decoder(torch.randn(1, 6, 12, 17), torch.randn(1, 5, *side)).shape == (1, 7, 12, 17)
