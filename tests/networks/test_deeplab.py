"""DeepLabV3 and V3+ compose what the other files prove, count what the paper's code counts, and answer in any size."""

from math import ceil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scrambled
from torch import nn
from torch.testing import assert_close

from minideeplab import DeepLabV3, DeepLabV3Plus, resnet101, xception41, xception65, xception71
from minideeplab.cost import profile

NETS = {
    f"{net.__name__}-{backbone.__name__}-{stride}": net(backbone(output_stride=stride, width=1e-9), 3, channels=2, **options)
    for net, options in ((DeepLabV3, {}), (DeepLabV3Plus, {"low_channels": 1}))
    for backbone, stride in ((xception41, 16), (xception65, 8), (xception71, 32), (resnet101, 16))
}


@pytest.mark.parametrize(
    ("output_stride", "macs"),
    [(16, 54_035_303_024), (8, 176_851_524_720)],
)
def test_counts_are_those_of_the_authors_network(output_stride, macs):
    report = profile(DeepLabV3Plus(xception65(output_stride=output_stride), 21), (1, 3, 513, 513))
    assert (report.params, report.macs) == (41_055_413, macs)


@settings(max_examples=100)
@given(st.sampled_from(sorted(NETS)), st.integers(1, 70), st.integers(1, 70), st.integers(1, 2))
def test_any_image_is_answered_in_exactly_its_size(name, height, width, images):
    net = NETS[name].eval()
    with torch.no_grad():
        coarse, answer = net.coarse_logits(torch.ones(images, 3, height, width)), net(torch.ones(images, 3, height, width))
    stride = 4 if isinstance(net, DeepLabV3Plus) else net.backbone.output_stride
    assert coarse.shape == (images, 3, ceil(height / stride), ceil(width / stride))
    assert answer.shape == (images, 3, height, width)


def test_keys_and_shapes_are_the_same_at_every_output_stride():
    nets = [DeepLabV3Plus(xception71(output_stride=s, width=1 / 64), 5, channels=8) for s in (32, 16, 8)]
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in nets]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(("output_stride", "rates"), [(32, (3, 6, 9)), (16, (6, 12, 18)), (8, (12, 24, 36))])
def test_rates_follow_the_output_stride_unless_named(output_stride, rates):
    backbone = xception65(output_stride=output_stride, width=1 / 64)
    for net in (DeepLabV3, DeepLabV3Plus):
        assert net(backbone, 2, channels=4).aspp.rates == rates
        assert net(backbone, 2, channels=4, rates=(2, 5)).aspp.rates == (2, 5)


def test_nothing_new_only_composition():
    x = torch.randn(2, 3, 40, 56).double()
    v3, plus = (scrambled(net(xception41(width=1 / 32), 4, channels=8)) for net in (DeepLabV3, DeepLabV3Plus))
    low, high = plus.backbone(x)
    assert_close(plus.coarse_logits(x), plus.classify(plus.decoder(low, plus.aspp(high))))
    assert_close(v3.coarse_logits(x), v3.classify(v3.aspp(v3.backbone(x).high)))
    for net in (v3, plus):
        corners = F.interpolate(net.coarse_logits(x), size=(40, 56), mode="bilinear", align_corners=True)
        centers = F.interpolate(net.coarse_logits(x), size=(40, 56), mode="bilinear", align_corners=False)
        assert_close(net(x), corners)
        assert (net(x) - centers).abs().max() > 1e-3


def test_where_grids_nest_a_coarse_logit_keeps_its_value():
    """129 = 4 x 32 + 1; at 128 the corners still coincide, and the pixels between them drift."""
    net = scrambled(DeepLabV3Plus(xception41(width=1 / 32), 4, channels=8))
    nested, other = torch.randn(1, 3, 129, 129).double(), torch.randn(1, 3, 128, 128).double()
    assert_close(net(nested)[:, :, ::4, ::4], net.coarse_logits(nested))
    assert_close(net(other)[:, :, ::127, ::127], net.coarse_logits(other)[:, :, ::31, ::31])
    assert (net(other)[:, :, ::4, ::4] - net.coarse_logits(other)).abs().max() > 1e-3


def test_separable_rules_aspp_and_decoder_alike():
    backbone = xception41(width=1 / 32)

    def dense(net):
        kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.groups == 1]
        return len(kernels) - len([m for m in net.backbone.modules() if m in kernels])

    for net, kernels in ((DeepLabV3, 3), (DeepLabV3Plus, 3 + 2)):
        assert dense(net(backbone, 4, channels=8)) == 0
        assert dense(net(backbone, 4, channels=8, separable=False)) == kernels


def test_any_module_with_features_and_three_numbers_is_a_backbone():
    class Shallow(nn.Module):
        low_channels, high_channels, output_stride = 3, 3, 16

        def forward(self, x):
            return x[:, :, ::4, ::4], x[:, :, ::16, ::16]

    assert DeepLabV3Plus(Shallow(), 2, channels=4).eval()(torch.randn(1, 3, 33, 50)).shape == (1, 2, 33, 50)


def test_batch_norms_eps_is_that_of_the_release():
    net = DeepLabV3Plus(xception41(width=1 / 32), 4, channels=8)
    heads = [m.eps for part in (net.aspp, net.decoder) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(heads) == {1e-5}
    assert {m.eps for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_only_the_classifier_has_a_bias():
    net = DeepLabV3Plus(xception41(width=1 / 32), 4, channels=8)
    assert [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None] == ["classify"]
    assert net.classify.kernel_size == (1, 1)
