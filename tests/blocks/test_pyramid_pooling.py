"""PSPNet's pyramid does what its paper draws."""

import pytest
import torch
from strategies import scrambled
from torch.testing import assert_close

from minideeplab import PyramidPooling


def test_the_pyramid_keeps_the_map_and_sets_means_of_its_regions_beside_it():
    pyramid, x = scrambled(PyramidPooling(8, bins=(1, 2, 4))), torch.randn(2, 8, 9, 13).double()
    y = pyramid(x)
    assert y.shape == (2, 8 + 3 * 2, 9, 13)
    assert torch.equal(y[:, :8], x)
    whole = pyramid.reduce[0](x.mean((2, 3), keepdim=True))
    assert_close(y[:, 8:10], whole.expand(-1, -1, 9, 13))  # one bin says the same everywhere,
    assert y[:, 10:].std((2, 3)).min() > 0  # more of them do not
    corners = [x[:, :, :5, :7], x[:, :, :5, 6:], x[:, :, 4:, :7], x[:, :, 4:, 6:]]  # regions overlap where 2 does not divide
    means = torch.stack([corner.mean((2, 3)) for corner in corners], dim=-1).unflatten(-1, (2, 2))
    assert_close(y[:, 10:12, ::8, ::12], pyramid.reduce[1](means))


def test_one_bin_needs_two_images_in_training():
    with pytest.raises(ValueError, match=r"batch of at least 2 in training, got 1.*\.eval\(\)"):
        PyramidPooling(4)(torch.randn(1, 4, 6, 6))
    assert PyramidPooling(4)(torch.randn(2, 4, 6, 6)).shape == (2, 8, 6, 6)
    assert PyramidPooling(4, bins=(2, 3))(torch.randn(1, 4, 6, 6)).shape == (1, 8, 6, 6)


def test_the_means_are_normalized_as_deeplabs_heads_are():
    assert {reduce.bn.eps for reduce in PyramidPooling(8).reduce} == {1e-5}


def test_means_stand_in_the_order_of_the_bins():
    pyramid, x = scrambled(PyramidPooling(4, bins=(3, 1))), torch.randn(2, 4, 6, 6).double()
    whole = pyramid.reduce[1](x.mean((2, 3), keepdim=True))
    assert_close(pyramid(x)[:, 6:], whole.expand(-1, -1, 6, 6))
