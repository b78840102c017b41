"""SegNet's way back up: maxima return to their places, and nothing else is remembered."""

import pytest
import torch
import torch.nn.functional as F
from strategies import integers

from minideeplab import UnpoolingDecoder, pool_and_remember


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


def test_every_step_needs_the_places_of_its_stage():
    first = pool_and_remember(integers(2, 3, 8, 8))
    second = pool_and_remember(first.map)
    decoder = UnpoolingDecoder([3, 3, 5]).eval()
    for stages in ([second], [second, first, first]):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            decoder(second.map, stages)


def test_batch_norms_eps_is_that_of_pytorch():
    assert [convolve.bn.eps for convolve in UnpoolingDecoder([4, 3, 2]).convolve] == [1e-5, 1e-5]
