"""Intersection over union, distances to a boundary and what a coarse grid leaves of true labels: exact, on every machine."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from minideeplab.blocks.convolution import upsample
from minideeplab.learn.metrics import (
    LABELS,
    intersection_over_union,
    perfect_labels,
    squared_distance_to_boundary,
    wrong_pixels_near_boundary,
)

MASK = Path(__file__).parents[2] / "notebooks" / "assets" / "crow_mask.png"


@pytest.fixture(scope="module")
def crow():
    """A human's mask of a crow: (513, 513), true where the bird is."""
    with Image.open(MASK) as image:
        assert image.mode == "1"
        return torch.from_numpy(np.array(image))


@st.composite
def label_maps(draw, most=11, classes=4):
    rows, columns, kinds = draw(st.integers(1, most)), draw(st.integers(1, most)), draw(st.integers(1, classes))
    seed = draw(st.integers(0, 2**31))
    return torch.randint(kinds, (rows, columns), generator=torch.Generator().manual_seed(seed))


def by_comparing_all_pairs(labels, length=lambda dy, dx: dy**2 + dx**2):
    """The definition: the least length over all pixels of another class."""
    (rows, columns), flat = labels.shape, labels.flatten()
    y, x = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    lengths = length((y[:, None] - y).abs(), (x[:, None] - x).abs())
    return torch.where(flat[:, None] != flat, lengths, 10**9).amin(1).view(rows, columns)


def by_floats(labels, stride, window=1):
    """The classes' one-hot maps, averaged around every stride-th pixel and enlarged: labels, and which pixels are no ties."""
    hot = F.one_hot(labels.long()).permute(2, 0, 1)[None].double()
    grown = [-(-(side - 1) // stride) * stride + 1 for side in labels.shape]  # the next sides of stride * k + 1
    reach = window // 2
    behind = [side - before + reach for side, before in zip(grown, labels.shape, strict=True)]
    padded = F.pad(hot, (reach, behind[1], reach, behind[0]), mode="replicate")
    taps = torch.ones(2 * reach + 1).double()
    taps[[0, -1]] = 1 if window % 2 else 0.5
    kernel = (taps[:, None] * taps / taps.sum() ** 2).expand(hot.shape[1], 1, -1, -1)
    shares = F.conv2d(padded, kernel, groups=hot.shape[1])[:, :, ::stride, ::stride]
    scores = upsample(shares, grown)[0, :, : labels.shape[0], : labels.shape[1]]
    best = scores.sort(0).values
    clear = best[-1] - best[-2] > 1e-9 if len(best) > 1 else torch.ones_like(labels, dtype=torch.bool)
    return scores.argmax(0), clear


def test_intersection_over_union_is_an_exact_fraction_of_pixel_counts():
    drawn, truth = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool(), torch.tensor([[0, 1, 1], [0, 0, 0]]).bool()
    assert intersection_over_union(drawn, truth) == intersection_over_union(truth, drawn) == Fraction(1, 3)
    assert intersection_over_union(truth, truth) == 1
    assert intersection_over_union(drawn, torch.zeros_like(truth)) == 0
    assert Fraction(int((drawn == truth).sum()), drawn.numel()) == Fraction(
        2, 3
    )  # the share of right pixels counts the background too


@given(label_maps())
def test_the_distance_is_the_least_over_all_pixels_of_another_class(labels):
    if len(labels.unique()) > 1:
        distance = squared_distance_to_boundary(labels)
        assert distance.dtype == torch.int64
        assert torch.equal(distance, by_comparing_all_pairs(labels))
        assert torch.equal(distance.T, squared_distance_to_boundary(labels.T))


@pytest.mark.parametrize(("side", "pixel"), [((13, 29), (0, 0)), ((29, 13), (28, 6)), ((1, 40), (0, 39)), ((40, 1), (7, 0))])
def test_far_from_a_single_other_pixel_the_distance_is_still_exact(side, pixel):
    labels = torch.zeros(side, dtype=torch.uint8)
    labels[pixel] = 255
    assert torch.equal(squared_distance_to_boundary(labels), by_comparing_all_pairs(labels))


@pytest.mark.parametrize("length", [lambda dy, dx: (dy + dx) ** 2, lambda dy, dx: torch.maximum(dy, dx) ** 2])
def test_city_blocks_and_chessboards_would_be_noticed(length):
    labels = torch.randint(3, (11, 11), generator=torch.Generator().manual_seed(0))
    labels[2:9, 2:9] = 1
    assert torch.equal(squared_distance_to_boundary(labels), by_comparing_all_pairs(labels))
    assert not torch.equal(squared_distance_to_boundary(labels), by_comparing_all_pairs(labels, length))


def test_between_three_classes_any_other_one_is_across_the_boundary():
    labels = torch.tensor([[0, 0, 1, 1, 1, 2]])
    assert squared_distance_to_boundary(labels).tolist() == [[4, 1, 1, 4, 1, 1]]
    assert squared_distance_to_boundary(labels == 2).tolist() == [[25, 16, 9, 4, 1, 1]]  # with two of them as one


def test_no_tensor_on_the_way_is_larger_than_the_map(crow):
    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            self.seen = max([self.seen, *(x.numel() for x in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(x))])
            return result

    with Largest() as largest:
        squared_distance_to_boundary(crow)
    assert largest.seen == crow.numel()
    with Largest() as largest:
        by_comparing_all_pairs(crow[100:110, 100:110])
    assert largest.seen == 100**2  # all pairs at once would be seen


def test_wrong_pixels_are_counted_by_their_distance_to_the_boundary_of_the_truth():
    truth = torch.zeros(9, 9, dtype=torch.int64)
    truth[:, 6:] = 1
    drawn = truth.clone()
    drawn[0, 5], drawn[1, 4], drawn[2, 2], drawn[8, 7], drawn[4, 8] = 1, 7, 1, 0, 0  # 1, 2, 4, 2 and 3 pixels away
    assert wrong_pixels_near_boundary(drawn, truth) == {1: 1, 2: 3, 4: 5, 8: 5, 16: 5}
    assert wrong_pixels_near_boundary(drawn, truth, [3, 10**30]) == {3: 4, 10**30: 5}
    assert wrong_pixels_near_boundary(truth, truth) == dict.fromkeys((1, 2, 4, 8, 16), 0)
    assert wrong_pixels_near_boundary(truth, drawn) != wrong_pixels_near_boundary(drawn, truth)  # whose boundary matters


def test_a_diagonal_neighbor_is_more_than_one_pixel_away():
    truth = torch.tensor([[0, 0], [0, 1]])
    assert wrong_pixels_near_boundary(torch.tensor([[1, 0], [0, 1]]), truth, (1, 2)) == {1: 0, 2: 1}


@given(label_maps(most=18), st.integers(1, 8), st.data())
def test_perfect_labels_are_what_floats_say_away_from_ties(labels, stride, data):
    window = data.draw(st.integers(1, stride))
    drawn, (floats, clear) = perfect_labels(labels, stride, window=window), by_floats(labels, stride, window)
    assert torch.equal(drawn[clear], floats[clear])


@given(st.integers(1, 8), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**31))
def test_on_sides_of_stride_k_plus_one_they_are_every_stride_th_pixel_upsampled(stride, rows, columns, seed):
    size = (stride * rows + 1, stride * columns + 1)
    labels = torch.randint(4, size, generator=torch.Generator().manual_seed(seed))
    one_hot = F.one_hot(labels, 5).permute(2, 0, 1)[None]  # (1, 5, H, W)
    scores = upsample(one_hot[:, :, ::stride, ::stride].float(), size)
    best, second = scores[0].topk(2, 0).values
    clear = best - second > 1e-4
    assert torch.equal(perfect_labels(labels, stride)[clear], scores.argmax(1)[0][clear])


@given(label_maps(), st.sampled_from(LABELS))
def test_stride_1_gives_the_labels_back_in_their_own_type(labels, dtype):
    labels = (labels - 1 if dtype.is_signed else labels).to(dtype)  # classes below 0 are classes too
    assert perfect_labels(labels, 1).dtype == dtype
    assert torch.equal(perfect_labels(labels, 1), labels)
    assert perfect_labels(labels, 3).dtype == dtype
    assert perfect_labels(labels, 3).shape == labels.shape


def test_of_equal_scores_the_lowest_class_wins_whatever_its_place():
    assert perfect_labels(torch.tensor([[5, 0, 9]]), 2).tolist() == [[5, 5, 9]]
    assert perfect_labels(torch.tensor([[9, 0, 5]]), 2).tolist() == [[9, 5, 5]]
    assert perfect_labels(torch.tensor([[0, 0, -1]], dtype=torch.int8), 2).tolist() == [[0, -1, -1]]


def test_three_classes_can_win_where_none_has_the_half():
    corners = torch.tensor([[1, 0, 0, 0, 2], *[[0] * 5] * 3, [3, 0, 0, 0, 3]])
    drawn = perfect_labels(corners, 4)
    assert drawn[1].tolist() == [1, 1, 1, 2, 2]  # in the middle 6 of 16 for 1 and for 2, 4 for 3
    assert drawn[2].tolist() == [1, 3, 3, 3, 2]  # at the sides 8 of 16 for each of two


def test_a_map_between_two_grid_sizes_goes_on_as_its_last_row_and_column():
    labels = torch.randint(3, (11, 14), generator=torch.Generator().manual_seed(0))
    longer = torch.cat([labels, labels[-1:].expand(2, -1)])
    longer = torch.cat([longer, longer[:, -1:].expand(-1, 3)], 1)  # 13 x 17
    assert torch.equal(perfect_labels(labels, 4), perfect_labels(longer, 4)[:11, :14])
    assert not torch.equal(perfect_labels(labels, 4), perfect_labels(F.pad(labels, (0, 3, 0, 2)), 4)[:11, :14])


def test_a_stride_beyond_the_map_is_large_and_still_exact():
    labels = torch.tensor([[1, 0, 2]])
    assert perfect_labels(labels, 2**15).tolist() == [[1, 1, 1]]
    assert perfect_labels(labels, 2**15, window=2**15).tolist() == [[1, 1, 2]]
    left, right = 2**15 + 1, 2**15 - 3  # of 2 * 2**15 in the first window, for 1 and for 2; the second window holds 2 only
    assert (2**15 - 1) * left > (2**15 - 1) * right + 1 * 2**16  # the second pixel
    assert (2**15 - 2) * left == (2**15 - 2) * right + 2 * 2**16 - 8  # the third: 8 in 2 ** 30 decide


AT_STRIDE = [  # stride, window, IoU, wrong pixels, of these within 1, 2, 4, 8, 16 pixels of the boundary
    (16, 16, Fraction(50647, 52796), 2149, [1154, 1675, 2066, 2149, 2149]),  # .959, .82 %
    (8, 8, Fraction(51449, 52464), 1015, [826, 979, 1015, 1015, 1015]),  # .981, .39 %
    (4, 4, Fraction(12927, 13042), 460, [446, 460, 460, 460, 460]),  # .991, .17 %
    (16, 1, Fraction(49368, 53831), 4463, [1342, 2429, 3791, 4450, 4463]),  # .917, 1.70 %
    (8, 1, Fraction(50757, 52988), 2231, [1228, 1899, 2226, 2231, 2231]),  # .958, .85 %
    (4, 1, Fraction(51099, 52378), 1279, [1029, 1275, 1279, 1279, 1279]),  # .976, .49 %
]


@pytest.mark.parametrize(("stride", "window", "overlap", "wrong", "near"), AT_STRIDE)
def test_of_a_crow_s_mask_this_much_is_left_at_a_stride(crow, stride, window, overlap, wrong, near):
    drawn = perfect_labels(crow, stride, window=window)
    assert intersection_over_union(drawn, crow) == overlap
    assert int((drawn != crow).sum()) == wrong
    assert list(wrong_pixels_near_boundary(drawn, crow).values()) == near


@pytest.mark.parametrize(("stride", "says"), [(16, ".902"), (8, ".950"), (4, ".972")])
def test_the_nearest_grid_point_instead_of_bilinear_enlargement_draws_worse(crow, stride, says):
    on_the_grid = by_shares(crow, stride) * 2 > (2 * stride) ** 2  # (k + 1, k + 1)
    nearest = (torch.arange(513) / stride).round().long()  # halves to the even one
    overlap = intersection_over_union(on_the_grid[nearest][:, nearest], crow)
    assert_close(float(overlap), float(says), atol=6e-4, rtol=0)
    assert overlap < intersection_over_union(perfect_labels(crow, stride, window=stride), crow) - Fraction(1, 100)


def by_shares(mask, stride):
    """Four times the pixels of the mask in the stride x stride squares around the grid points."""
    taps = torch.tensor([1, *[2] * (stride - 1), 1]).double()
    padded = F.pad(mask.double()[None, None], (stride // 2,) * 4)
    return F.conv2d(padded, (taps[:, None] * taps)[None, None], stride=stride)[0, 0].long()


def test_ties_matter_on_a_real_mask(crow):
    """Given to the higher class, ties change what is drawn: swap the classes, draw, swap back."""
    drawn, other_ties = perfect_labels(crow, 16), ~perfect_labels(~crow, 16)
    ties = upsample(crow[None, None, ::16, ::16].float(), (513, 513))[0, 0] == 0.5  # a sum of few sixteenths: exact
    assert torch.equal(other_ties != drawn, ties)
    assert int(ties.sum()) == 700
    assert intersection_over_union(other_ties, crow) != intersection_over_union(drawn, crow)


MAP = torch.zeros(2, 3, dtype=torch.int64)
EDGE = torch.tensor([[0, 1, 1], [0, 1, 1]])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: intersection_over_union(MAP, MAP.bool()), TypeError, r"drawn must be .*torch\.bool, got torch\.int64"),
        (lambda: intersection_over_union(MAP.bool(), None), TypeError, r"truth must be a tensor \(H, W\).*got NoneType"),
        (lambda: intersection_over_union(MAP.bool(), MAP.bool()), ValueError, "both masks are empty, 0 of 6 pixels"),
        (lambda: intersection_over_union(MAP.bool(), MAP.bool().T), ValueError, r"one shape, got \(2, 3\) and \(3, 2\)"),
        (lambda: intersection_over_union(MAP.bool()[0], MAP.bool()), ValueError, r"drawn must be \(H, W\).*got \(3,\)"),
        (lambda: squared_distance_to_boundary(MAP.numpy()), TypeError, "labels must be a tensor.*got ndarray"),
        (lambda: squared_distance_to_boundary(MAP.float()), TypeError, r"torch\.uint8.*got torch\.float32"),
        (lambda: squared_distance_to_boundary(MAP[None]), ValueError, r"\(H, W\).*got \(1, 2, 3\)"),
        (lambda: squared_distance_to_boundary(MAP[:0]), ValueError, r"at least one pixel, got \(0, 3\)"),
        (lambda: squared_distance_to_boundary(MAP + 7), ValueError, "at least 2 classes, got 6 pixels of class 7"),
        (lambda: squared_distance_to_boundary(MAP.bool()), ValueError, "at least 2 classes, got 6 pixels of class 0"),
        (lambda: wrong_pixels_near_boundary(EDGE, MAP), ValueError, "at least 2 classes, got 6 pixels of class 0"),
        (lambda: wrong_pixels_near_boundary(EDGE, EDGE.T), ValueError, r"one shape, got \(2, 3\) and \(3, 2\)"),
        (lambda: wrong_pixels_near_boundary(EDGE.half(), EDGE), TypeError, r"drawn must be.*got torch\.float16"),
        (lambda: wrong_pixels_near_boundary(EDGE, EDGE, (1, 0)), ValueError, r"radii\[1\] must be at least 1, got 0"),
        (lambda: wrong_pixels_near_boundary(EDGE, EDGE, (1.5,)), TypeError, r"radii\[0\] must be an integer, got 1\.5"),
        (lambda: wrong_pixels_near_boundary(EDGE, EDGE, 3), TypeError, "radii must be a sequence of integers, got 3"),
        (lambda: perfect_labels(MAP.float(), 2), TypeError, r"labels must be.*got torch\.float32"),
        (lambda: perfect_labels(MAP[0], 2), ValueError, r"\(H, W\).*got \(3,\)"),
        (lambda: perfect_labels(MAP[:, :0], 2), ValueError, r"at least one pixel, got \(2, 0\)"),
        (lambda: perfect_labels(MAP, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: perfect_labels(MAP, 2.0), TypeError, r"stride must be an integer, got 2\.0"),
        (lambda: perfect_labels(MAP, 2, window=0), ValueError, "window must be at least 1, got 0"),
        (lambda: perfect_labels(MAP, 2, window=3), ValueError, "at most stride.*got window 3 and stride 2"),
        (lambda: perfect_labels(MAP, 2**15 + 1), ValueError, "at most 32768, got window 1 and stride 32769"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_numbers(call, error, says):
    with pytest.raises(error, match=says) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_what_is_measured_is_left_alone(crow):
    version = crow._version
    perfect_labels(crow, 16, window=16)
    wrong_pixels_near_boundary(~crow, crow)
    assert crow._version == version
