"""A classifier is its backbone, the mean of its last map, dropout, and the 1 x 1 that DeepLab puts on every pixel."""

import torch
from strategies import scrambled
from torch.testing import assert_close

from minideeplab import Classifier, xception41

THIN = 1 / 64


def test_the_1_x_1_on_the_mean_is_the_mean_of_the_1_x_1_on_every_pixel():
    net, x = scrambled(Classifier(xception41(width=THIN), 5)), torch.randn(2, 3, 40, 33).double()
    high = net.backbone(x).high
    assert net(x).shape == (2, 5)
    assert_close(net(x), net.classify(high).mean((2, 3)))
    assert not torch.equal(net(x), net.classify(high).amax((2, 3)))


def test_half_of_the_mean_is_dropped_in_training():
    net, x = scrambled(Classifier(xception41(width=THIN))), torch.randn(2, 3, 40, 33).double()
    assert (net.dropout.p, net.classify.out_channels) == (0.5, 1000)
    assert torch.equal(net(x), net(x))
    net.dropout.train()
    assert not torch.equal(net(x), net(x))
