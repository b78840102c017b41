"""Inception V3 is the table that its listing shows, and counts what others count."""

import figures
import pytest
import torch
from strategies import scrambled
from torch import nn

from minideeplab import Inception8, Inception17, Inception35, InceptionV3, ReductionTo8, ReductionTo17
from minideeplab.blocks.inception import MeanPool2d
from minideeplab.cost import profile


@pytest.fixture(scope="module")
def net():
    return scrambled(InceptionV3())


def test_every_line_makes_the_size_in_its_margin():
    net, lines = InceptionV3(), figures.listings(InceptionV3)
    promised, made = figures.promised(net, lines), figures.made(net, 299)
    assert [len(listing) for listing in lines.values()] == [7, 3, 5, 3]
    assert len(figures.margins(InceptionV3)) == 18 + 1  # every margin belongs to a line, but for the picture's
    assert promised == {name: made[name] for name in promised}
    assert min(figures.margins(InceptionV3).items())[1] == made["picture"]


def test_a_wrong_margin_would_be_noticed():
    promised, made = figures.promised(InceptionV3(), figures.listings(InceptionV3)), figures.made(InceptionV3(), 297)
    assert {name for name in promised if promised[name] != made[name]} >= {"stem.0", "stem.1", "stem.2"}


def test_it_counts_what_torchvision_and_keras_count(net):
    report = profile(net, (1, 3, 299, 299))
    assert (report.params, report.macs) == (23_834_568, 5_713_216_096)
    gammas = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert (gammas, report.params - gammas) == (17_216, 23_817_352)  # Keras has no gammas here


def test_eleven_modules_in_the_order_of_the_table(net):
    kinds = [type(module) for flow in (net.modules_35, net.modules_17, net.modules_8) for module in flow]
    assert kinds == [Inception35] * 3 + [ReductionTo17] + [Inception17] * 4 + [ReductionTo8] + [Inception8] * 2


def test_batch_norms_eps_is_that_of_the_release_and_pools_do_not_count_padding(net):
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    pools = [m for m in net.modules() if isinstance(m, nn.AvgPool2d)]
    assert len(pools) == 9
    assert all(isinstance(pool, MeanPool2d) and not pool.count_include_pad for pool in pools)


def test_75_pixels_are_enough_and_74_are_not(net):
    with torch.no_grad():
        assert net(torch.randn(1, 3, 75, 80).double()).shape == (1, 1000)
    with pytest.raises(ValueError, match=r"at least 75 x 75, got \(1, 3, 74, 75\)"):
        net(torch.randn(1, 3, 74, 75))


def test_the_classes_are_what_was_asked_for():
    net = InceptionV3(7)
    assert net.classify.weight.shape == (7, 2048)
    assert net.dropout.p == 0.2
