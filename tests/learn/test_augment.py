"""Scaled, padded, cropped and mirrored: image and labels stay together, and the same generator gives the same view."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from minideeplab.learn.augment import augment, fit
from minideeplab.learn.data import VOID, Sample, Shapes


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(height, width, classes=4):
    return Sample(
        torch.rand(3, height, width, generator=numbers()) * 2 - 1, torch.randint(classes, (height, width), generator=numbers(1))
    )


def ramp(height, width):
    """Every pixel says where it is: image channels hold row and column, the label both."""
    rows, columns = torch.arange(height)[:, None].expand(height, width), torch.arange(width).expand(height, width)
    return Sample(torch.stack([rows, columns, torch.ones_like(rows)]).float(), rows * 1000 + columns)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**31))
def test_a_view_has_the_size_asked_for_and_no_label_that_was_not_there(height, width, size, seed):
    sample = noise(height, width)
    image, labels = augment(sample, size, numbers(seed))
    assert (image.shape, labels.shape) == ((3, size, size), (size, size))
    assert (image.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert set(labels.flatten().tolist()) <= set(sample.labels.flatten().tolist()) | {VOID}
    assert image.is_contiguous()
    assert labels.is_contiguous()


def test_the_same_state_of_a_generator_is_the_same_view_and_the_next_is_another():
    sample, generator = noise(33, 29), numbers(5)
    first, second = augment(sample, 17, generator), augment(sample, 17, generator)
    again = augment(sample, 17, numbers(5))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.image, second.image)


def test_the_global_generator_is_neither_asked_nor_moved():
    state = torch.get_rng_state()
    augment(noise(9, 9), 9, numbers())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_sample_is_left_alone():
    sample = noise(9, 9)
    augment(sample, 20, numbers())
    fit(sample, 20)
    assert sample.image._version == sample.labels._version == 0


def test_at_scale_one_a_view_is_a_cut_and_labels_stay_with_their_pixels():
    sample, seen = ramp(40, 50), set()
    for seed in range(200):
        image, labels = augment(sample, 16, numbers(seed), scales=(1.0, 1.0), flip=False)
        assert torch.equal(labels, image[0].long() * 1000 + image[1].long())
        assert torch.equal(labels, labels[0, 0] + ramp(16, 16).labels)
        seen.add(int(labels[0, 0]))
    tops, lefts = {place // 1000 for place in seen}, {place % 1000 for place in seen}
    assert (min(tops), max(tops)) == (0, 24)  # the first and the last place of 16 in 40
    assert (min(lefts), max(lefts)) == (0, 34)


def test_half_of_the_views_are_mirrored_left_to_right_image_and_labels_alike():
    sample, mirrored = ramp(10, 10), 0
    for seed in range(200):
        image, labels = augment(sample, 10, numbers(seed), scales=(1.0, 1.0))
        assert torch.equal(labels, image[0].long() * 1000 + image[1].long())
        assert labels[:, 0].tolist() in ([1000 * y for y in range(10)], [1000 * y + 9 for y in range(10)])  # never upside down
        mirrored += int(labels[0, 0] == 9)
        straight = augment(sample, 10, numbers(seed), scales=(1.0, 1.0), flip=False)
        assert torch.equal(straight.labels, sample.labels)
    assert 80 < mirrored < 120


def test_not_to_mirror_leaves_scale_and_place_as_they_were():
    sample = noise(30, 30)
    for seed in range(20):
        one, other = numbers(seed), numbers(seed)
        with_, without = augment(sample, 17, one), augment(sample, 17, other, flip=False)
        assert torch.equal(one.get_state(), other.get_state())  # the next view is the same one, too
        assert torch.equal(with_.labels, without.labels) or torch.equal(with_.labels.flip(1), without.labels)


def scaled_sides(count, **options):
    """The sides that a picture of 40 x 20 got, seen where nothing is cut: what lies outside is void."""
    sample, sides = Sample(torch.ones(3, 40, 20), torch.zeros(40, 20, dtype=torch.int64)), Counter()
    for seed in range(count):
        labels = augment(sample, 400, numbers(seed), **options).labels
        inside = (labels != VOID).nonzero()
        sides[tuple((inside.amax(0) - inside.amin(0) + 1).tolist())] += 1
    return sides


def test_scales_are_the_authors_seven_from_a_half_to_two_each_alike():
    sides = scaled_sides(350)
    assert set(sides) == {(int(40 * s), int(20 * s)) for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)}
    assert min(sides.values()) > 25  # of 50
    assert set(scaled_sides(50, scales=(1.0, 1.3))) == {(40, 20), (52, 26)}
    assert set(scaled_sides(9, scales=(0.5, 0.7))) == {(20, 10)}  # no two scales 0.25 apart: the lower one
    assert set(scaled_sides(9, scales=(0.01, 0.01))) == {(1, 1)}


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.75])
def test_the_image_is_bilinear_and_labels_are_the_nearest_neighbor_s_corners_on_corners(scale):
    sample = noise(21, 33)
    sides = int(21 * scale), int(33 * scale)
    image, labels = (x[..., : sides[0], : sides[1]] for x in augment(sample, 70, numbers(), scales=(scale, scale), flip=False))
    expected = F.interpolate(sample.image[None], size=sides, mode="bilinear", align_corners=True)[0]
    assert_close(image, expected)
    nearest = sample.labels.clone()
    places = [torch.tensor([int(i * (n - 1) / (m - 1) + 0.5) for i in range(m)]) for n, m in zip((21, 33), sides, strict=True)]
    assert torch.equal(labels, nearest[places[0]][:, places[1]])
    corners = [labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]]
    assert corners == [nearest[0, 0], nearest[0, -1], nearest[-1, 0], nearest[-1, -1]]
    other = F.interpolate(nearest[None, None].float(), size=sides, mode="nearest")[0, 0].long()
    assert not torch.equal(labels, other)  # PyTorch's nearest does not align corners: half a pixel off the image
    assert not torch.equal(image, F.interpolate(sample.image[None], size=sides, mode="bilinear", align_corners=False)[0])


def test_halves_of_the_nearest_are_rounded_up():
    two = Sample(torch.zeros(3, 2, 2), torch.tensor([[0, 1], [0, 1]]))
    found = augment(two, 3, torch.Generator(), scales=(1.5, 1.5), flip=False)
    assert found.labels.tolist() == [[0, 1, 1]] * 3  # the middle lies between both


def test_labels_stay_upon_their_pixels_at_every_scale():
    """A ramp says where a pixel came from: its label is at most half a pixel away, at every scale."""
    for scale in (0.5, 0.75, 1.25, 1.5, 1.75, 2.0):
        image, labels = (x[..., : int(41 * scale), : int(41 * scale)] for x in augment(
            ramp(41, 41), 90, numbers(), scales=(scale, scale), flip=False
        ))  # fmt: skip
        assert (image[0] - labels // 1000).abs().max() <= 0.5 + 1e-4
        assert (image[1] - labels % 1000).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("call", [fit, lambda sample, size: augment(sample, size, numbers(), scales=(1.0, 1.0), flip=False)])
def test_gray_and_void_go_behind_and_below(call):
    sample = noise(5, 8)
    image, labels = call(sample, 11)
    assert torch.equal(image[:, :5, :8], sample.image)
    assert torch.equal(labels[:5, :8], sample.labels)
    assert (image[:, 5:].abs().sum(), image[:, :, 8:].abs().sum()) == (0, 0)  # pixel 127.5
    assert set(labels[5:].flatten().tolist()) == set(labels[:, 8:].flatten().tolist()) == {VOID}


def test_what_fits_exactly_is_left_as_it_is_and_what_does_not_is_refused():
    sample = Shapes(1)[0]
    assert all(torch.equal(a, b) for a, b in zip(fit(sample, 65), sample, strict=True))
    with pytest.raises(ValueError, match="5 x 9 pixels do not fit into 8 x 8: use a size of 9"):
        fit(noise(5, 9), 8)


def test_a_dataloader_makes_samples_of_fitted_ones():
    samples = [fit(noise(5, 8), 9), fit(noise(9, 3), 9)]
    batch = next(iter(torch.utils.data.DataLoader(samples, batch_size=2)))
    assert isinstance(batch, Sample)
    assert (batch.image.shape, batch.labels.shape) == ((2, 3, 9, 9), (2, 9, 9))


GOOD = noise(4, 5)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: augment(tuple(GOOD), 9, numbers()), TypeError, "sample must be a Sample, got tuple"),
        (lambda: augment(GOOD, 0, numbers()), ValueError, "size must be at least 1, got 0"),
        (lambda: augment(GOOD, 9.0, numbers()), TypeError, r"size must be an integer, got 9\.0"),
        (lambda: augment(GOOD, 9, 7), TypeError, "generator must be of type Generator, got int 7"),
        (lambda: augment(GOOD, 9, numbers(), flip=1), TypeError, "flip must be of type bool, got int 1"),
        (lambda: augment(GOOD, 9, numbers(), scales=2.0), TypeError, r"scales must be a pair .*got 2\.0"),
        (lambda: augment(GOOD, 9, numbers(), scales=(1, 2, 3)), TypeError, r"scales must be a pair .*got \(1, 2, 3\)"),
        (lambda: augment(GOOD, 9, numbers(), scales=(0, 2)), ValueError, r"scales\[0\] must be positive and finite, got 0"),
        (lambda: augment(GOOD, 9, numbers(), scales=(2.0, 0.5)), ValueError, r"\(2\.0, 0\.5\): the first is the larger"),
        (lambda: augment(GOOD, 9, numbers(), scales=(1, 1e300)), ValueError, r"1e\+300 makes more than .* of 4 x 5"),
        (lambda: fit(Sample(GOOD.image.double(), GOOD.labels), 9), TypeError, r"image must be torch\.float32, got .*float64"),
        (lambda: fit(Sample(GOOD.image, GOOD.labels.byte()), 9), TypeError, r"labels must be torch\.int64, got torch\.uint8"),
        (lambda: fit(Sample(GOOD.image, None), 9), TypeError, r"labels must be torch\.int64, got NoneType"),
        (lambda: fit(Sample(GOOD.image, GOOD.labels.T), 9), ValueError, r"one size, got \(3, 4, 5\) and \(5, 4\)"),
        (lambda: fit(Sample(GOOD.image[:1], GOOD.labels), 9), ValueError, r"image \(3, H, W\).*got \(1, 4, 5\)"),
        (lambda: fit(Sample(GOOD.image[None], GOOD.labels[None]), 9), ValueError, r"got \(1, 3, 4, 5\) and \(1, 4, 5\)"),
        (lambda: fit(Sample(GOOD.image[:, :0], GOOD.labels[:0]), 9), ValueError, r"got \(3, 0, 5\) and \(0, 5\)"),
        (lambda: fit(GOOD, -1), ValueError, "size must be at least 1, got -1"),
    ],
)
def test_what_is_no_sample_is_refused_in_one_line(call, error, says):
    with pytest.raises(error, match=says) as raised:
        call()
    assert "\n" not in str(raised.value)
