"""Pixels become what a network sees and come back, and a padded map lies on the grid of 16 k + 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minideeplab.image import from_pixels, on_grid, pad_to_grid, to_pixels


def test_every_pixel_comes_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    x = from_pixels(pixels)
    assert (x.min(), x.max(), x.dtype, tuple(x.shape)) == (-1, 1, torch.float32, (1, 3, 16, 16))
    assert torch.equal(to_pixels(x), pixels)
    assert torch.equal(from_pixels(pixels[0]), x)


def test_channels_are_not_mixed_up_with_rows():
    pixels = torch.zeros(2, 4, 3, dtype=torch.uint8)
    pixels[0, 3] = torch.tensor([255, 0, 255])
    assert from_pixels(pixels)[0, :, 0, 3].tolist() == [1, -1, 1]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint16, torch.int64])
def test_pixels_of_other_whole_numbers_are_the_same_pixels(dtype):
    pixels = torch.arange(75, dtype=torch.uint8).view(5, 5, 3)
    assert torch.equal(from_pixels(pixels.to(dtype)), from_pixels(pixels))


@given(st.integers(1, 600), st.sampled_from([4, 8, 16, 32]))
def test_the_next_size_on_the_grid_is_the_smallest_that_fits(size, step):
    found = on_grid(size, step=step)
    assert found >= size
    assert found - step < size
    assert found % step == 1 % step


def test_gray_goes_behind_and_nothing_moves():
    x = torch.rand(1, 3, 20, 33) + 1
    padded = pad_to_grid(x)
    assert padded.shape == (1, 3, 33, 33)
    assert torch.equal(padded[:, :, :20], x)
    assert not padded[:, :, 20:].any()
    assert torch.equal(pad_to_grid(padded), padded)
    assert pad_to_grid(x[:, :, :, :30], step=8).shape == (1, 3, 25, 33)
    assert pad_to_grid(x[:, :, :, :30], step=32).shape == (1, 3, 33, 33)
    assert pad_to_grid(x, step=64).shape == (1, 3, 65, 65)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: from_pixels(torch.zeros(3, 5, 5)), r"RGB pixels .*got \(3, 5, 5\)"),
        (lambda: from_pixels([[1]]), "got list"),
        (lambda: from_pixels(torch.rand(5, 5, 3)), r"whole numbers 0 to 255, got torch.float32: make .*, or of 0 to 1 \(255"),
        (lambda: from_pixels(torch.ones(5, 5, 3, dtype=torch.bool)), "whole numbers 0 to 255, got torch.bool"),
        (lambda: from_pixels(torch.full((5, 5, 3), 40_000, dtype=torch.uint16)), "pixels are 0 to 255, got 40000 to 40000"),
        (lambda: from_pixels(torch.full((5, 5, 3), 40_000)), "pixels are 0 to 255, got 40000 to 40000: scale"),
        (lambda: from_pixels(torch.full((5, 5, 3), -1)), "pixels are 0 to 255, got -1 to -1"),
        (lambda: to_pixels(torch.zeros(1, 1, 5, 5)), r"\(N, 3, H, W\), got \(1, 1, 5, 5\)"),
        (lambda: on_grid(0), "size must be at least 1, got 0"),
        (lambda: pad_to_grid(torch.zeros(3, 5, 5)), "add the batch axis"),
    ],
)
def test_what_is_no_picture_is_refused(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
