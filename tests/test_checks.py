"""What the boundary asks: every answer names the culprit, carries the number and says what to do."""

import pytest
import torch
from torch import fx

from minideeplab.checks import check_image, check_maps, is_stand_in, require_counts, require_divides, require_kind


def test_a_stand_in_has_no_value_to_be_checked():
    assert not is_stand_in(3)
    assert not is_stand_in(torch.zeros(1))

    class Seen(torch.nn.Module):
        def forward(self, x):
            self.said = is_stand_in(x), is_stand_in(x.shape[0])
            check_maps(x, 3)
            check_image(x, torch.float16)
            return x

    seen = Seen()
    fx.symbolic_trace(seen)
    assert seen.said == (True, True)
    with pytest.raises(ValueError, match=r"expected \(N, 3, H, W\), got \(1, 2, 3, 3\)"):
        seen(torch.zeros(1, 2, 3, 3))


@pytest.mark.parametrize("text", ["612", b"\x06", bytearray(3)])
def test_texts_and_bytes_are_no_sequence_of_numbers(text):
    with pytest.raises(TypeError, match="rates must be a sequence of integers"):
        require_counts(rates=text)


def test_a_long_value_is_shortened_in_its_error():
    with pytest.raises(TypeError) as caught:
        require_kind(bool, separable="n" * 10_000)
    assert len(str(caught.value)) < 150


def test_divisors_beyond_a_dozen_are_not_listed():
    with pytest.raises(ValueError, match=r"use one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, \.\.\.$"):
        require_divides(11, 2520, names=("segments", "width"))
