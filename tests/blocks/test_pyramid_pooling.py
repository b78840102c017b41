"""PSPNet's pyramid and SegNet's way back up do what their papers draw."""

import pytest
import torch
import torch.nn.functional as F
from strategies import integers, scrambled
from torch.testing import assert_close

from minideeplab import PyramidPooling, UnpoolingDecoder, pool_and_remember


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


@pytest.mark.parametrize("side", [(6, 8), (7, 9)])
def test_a_maximum_returns_to_its_place(side):
    x = torch.randperm(2 * side[0] * side[1]).float().view(1, 2, *side) + 1
    pooled = pool_and_remember(x)
    assert pooled.map.shape[2:] == (side[0] // 2, side[1] // 2)
    back = F.max_unpool2d(pooled.map, pooled.indices, [2, 2], output_size=list(pooled.size))
    even = x[:, :, : side[0] // 2 * 2, : side[1] // 2 * 2]
    kept = even == F.interpolate(pooled.map, scale_factor=2)
    assert torch.equal(back[:, :, : even.shape[2], : even.shape[3]], even * kept)
    assert kept.sum() == pooled.map.numel()  # one pixel in four


def test_segnet_goes_up_with_nothing_but_places():
    x = integers(2, 3, 10, 13)
    first = pool_and_remember(x)
    second = pool_and_remember(first.map)
    decoder = UnpoolingDecoder([3, 3, 5]).eval()
    y = decoder(second.map, [second, first])
    step = decoder.convolve[0](F.max_unpool2d(second.map, second.indices, [2, 2], output_size=list(second.size)))
    assert torch.equal(y, decoder.convolve[1](F.max_unpool2d(step, first.indices, [2, 2], output_size=list(first.size))))
    assert y.shape == (2, 5, 10, 13)
    elsewhere = [pooled._replace(indices=pooled.indices.flip(-1)) for pooled in (second, first)]
    assert not torch.equal(decoder(second.map, elsewhere), y)
