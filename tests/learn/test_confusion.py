"""Confusion, IoU, accuracy and trimap bands: exact, additive, equal to loops over pixels and to scikit-learn's answers."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minideeplab.learn.confusion import accuracy, confusion, iou, mean_iou, trimap
from minideeplab.learn.metrics import intersection_over_union


@st.composite
def two_maps(draw, most=9, classes=4, void=True):
    """What was drawn, the truth with some void, and the number of classes."""
    sides, kinds = (draw(st.integers(1, most)), draw(st.integers(1, most))), draw(st.integers(1, classes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    drawn, truth = (torch.randint(kinds, sides, generator=generator) for _ in range(2))
    return drawn, truth.masked_fill(torch.randint(4, sides, generator=generator).eq(0) & void, 255), kinds


def by_looking_at_each_pixel(drawn, truth, num_classes, ignore=255):
    """The definition, one pixel after the other."""
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for d, t in zip(drawn.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if t != ignore:
            matrix[t][d] += 1
    return matrix


def by_sets(drawn, truth, num_classes):
    """Jaccard's index of two sets of pixels, for each class."""
    pixels = [(i, d, t) for i, (d, t) in enumerate(zip(drawn.flatten().tolist(), truth.flatten().tolist())) if t != 255]
    scores = []
    for k in range(num_classes):
        a, b = {i for i, d, _ in pixels if d == k}, {i for i, _, t in pixels if t == k}
        scores.append(Fraction(len(a & b), len(a | b)) if a | b else None)
    return tuple(scores)


def by_looking_around(labels, width, ignore=255):
    """The definition of the band: is there a pixel of another label within `width`?"""
    rows, columns = labels.shape
    band = torch.zeros(rows, columns, dtype=torch.bool)
    for y in range(rows):
        for x in range(columns):
            around = [(v, u) for v in range(rows) for u in range(columns) if (v - y) ** 2 + (u - x) ** 2 <= width**2]
            band[y, x] = labels[y, x] != ignore and any(labels[v, u] != labels[y, x] for v, u in around)
    return band


@given(two_maps())
def test_a_row_holds_what_a_class_was_drawn_as(maps):
    drawn, truth, kinds = maps
    matrix = confusion(drawn, truth, kinds)
    assert (matrix.dtype, tuple(matrix.shape)) == (torch.int64, (kinds, kinds))
    assert matrix.tolist() == by_looking_at_each_pixel(drawn, truth, kinds)


def test_rows_and_columns_are_not_swapped():
    truth, drawn = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 1, 1, 1]])
    assert confusion(drawn, truth, 2).tolist() == [[1, 2], [0, 1]]
    assert confusion(truth, drawn, 2).tolist() == [[1, 0], [2, 1]]


@given(two_maps())
def test_iou_is_jaccard_s_index_of_two_sets_of_pixels(maps):
    drawn, truth, kinds = maps
    scores = iou(confusion(drawn, truth, kinds))
    assert scores == by_sets(drawn, truth, kinds)
    for k, score in enumerate(scores):
        if score is not None:
            assert score == intersection_over_union(drawn.eq(k) & truth.ne(255), truth.eq(k))


@given(two_maps(), st.sampled_from([torch.uint8, torch.int16, torch.int32]))
def test_the_number_format_of_labels_changes_nothing(maps, dtype):
    drawn, truth, kinds = maps
    assert torch.equal(confusion(drawn.to(dtype), truth.to(dtype), kinds), confusion(drawn, truth, kinds))
    assert confusion(torch.tensor([[18]], dtype=dtype), torch.tensor([[19]], dtype=dtype), 21)[19, 18] == 1  # 19 * 21 > 255


def test_matrices_of_images_add_up_to_that_of_the_set_and_scores_do_not():
    generator = torch.Generator().manual_seed(0)
    drawn, truth = torch.randint(3, (2, 4, 7, 7), generator=generator)  # four images
    truth[0] = truth[0].clamp(max=1)
    whole, parts = confusion(drawn, truth, 3), [confusion(d, t, 3) for d, t in zip(drawn, truth)]
    assert torch.equal(whole, sum(parts))
    assert sum(map(mean_iou, parts)) / 4 != mean_iou(whole)  # pixels are added, not scores


def test_void_is_not_scored_whatever_was_drawn_there():
    truth = torch.tensor([[0, 1, 255, 255]])
    assert confusion(torch.tensor([[0, 1, 0, 1]]), truth, 2).tolist() == [[1, 0], [0, 1]]
    assert torch.equal(confusion(torch.tensor([[0, 1, 99, 255]]), truth, 2), torch.eye(2, dtype=torch.int64))
    assert confusion(torch.tensor([[0, 1, 2, 2]]), truth, 256, ignore=-1)[255, 2] == 2  # 255 is a class where -1 is void
    assert confusion(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), 2, ignore=0).tolist() == [[0, 0], [0, 1]]


def test_a_class_that_occurs_in_neither_has_no_iou_and_one_never_found_has_zero():
    matrix = confusion(torch.tensor([[0, 0, 1, 3]]), torch.tensor([[0, 0, 0, 1]]), 5)
    assert iou(matrix) == (Fraction(2, 3), Fraction(0), None, Fraction(0), None)
    assert mean_iou(matrix) == Fraction(2, 9)  # over three classes, not five
    assert accuracy(matrix) == Fraction(2, 4)


def test_scores_of_large_counts_stay_exact():
    matrix = torch.tensor([[10**17 + 1, 0], [1, 1]])
    assert iou(matrix)[0] == Fraction(10**17 + 1, 10**17 + 2) != 1
    assert float(iou(matrix)[0]) == 1.0  # a float could not tell
    assert accuracy(matrix) == Fraction(10**17 + 2, 10**17 + 3)


# scikit-learn 1.9.1, on d, t = np.random.RandomState(7).randint(0, 5, (2, 200), dtype=np.int64); k = t != 4:
# confusion_matrix(t[k], d[k], labels=range(5)).tolist(); jaccard_score(t[k], d[k], labels=range(5), average=None);
# the mean of those; accuracy_score(t[k], d[k])
SKLEARN = {
    "matrix": [[11, 9, 4, 9, 7], [8, 7, 4, 10, 4], [6, 10, 6, 8, 14], [8, 6, 9, 6, 8], [0, 0, 0, 0, 0]],
    "jaccard": [0.1774193548387097, 0.1206896551724138, 0.09836065573770492, 0.09375, 0.0],
    "mean": 0.09804393314976569,
    "accuracy": 0.19480519480519481,
}


def test_what_scikit_learn_says_of_200_pixels():
    import numpy as np

    drawn, truth = torch.from_numpy(np.random.RandomState(7).randint(0, 5, (2, 200), dtype=np.int64))
    matrix = confusion(drawn, truth, 5, ignore=4)
    assert matrix.tolist() == SKLEARN["matrix"]
    assert [float(score) for score in iou(matrix)] == pytest.approx(SKLEARN["jaccard"], abs=1e-15)
    assert float(mean_iou(matrix)) == pytest.approx(SKLEARN["mean"], abs=1e-15)
    assert float(accuracy(matrix)) == pytest.approx(SKLEARN["accuracy"], abs=1e-15)
    assert float(mean_iou(confusion(drawn, truth, 5))) != pytest.approx(SKLEARN["mean"], abs=1e-3)  # 4 not ignored


@given(two_maps(most=7), st.integers(1, 4))
def test_a_band_holds_the_pixels_with_another_label_within_its_width(maps, width):
    _, labels, _ = maps
    band = trimap(labels, width)
    assert band.dtype == torch.bool
    assert torch.equal(band, by_looking_around(labels, width))


@given(two_maps(most=7), st.integers(1, 4))
def test_bands_grow_with_their_width_up_to_the_whole_map(maps, width):
    _, labels, _ = maps
    assert not (trimap(labels, width) & ~trimap(labels, width + 1)).any()
    if len(set(labels.flatten().tolist())) > 1:
        assert torch.equal(trimap(labels, 10**20), labels != 255)


def rimmed():
    """A disc on background, a void rim two pixels wide between them."""
    y, x = torch.meshgrid(torch.arange(33), torch.arange(33), indexing="ij")
    squared = (y - 16) ** 2 + (x - 15) ** 2
    return (squared <= 64).long().masked_fill((squared > 64) & (squared <= 100), 255)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_where_void_parts_the_objects_the_band_is_void_dilated(width):
    """Chen 2018, sec. 4.4: a disc of radius `width` around every void pixel, without these pixels themselves."""
    labels = rimmed()
    dilated = torch.zeros_like(labels, dtype=torch.bool)
    for y, x in (labels == 255).nonzero().tolist():
        for v in range(33):
            for u in range(33):
                dilated[v, u] |= (v - y) ** 2 + (u - x) ** 2 <= width**2
    assert torch.equal(trimap(labels, width), dilated & (labels != 255))
    filled = labels.where(labels != 255, 0)  # without the rim it is the line between the classes
    assert not torch.equal(trimap(filled, width), trimap(labels, width))


def test_without_void_the_band_lies_on_both_sides_of_the_line():
    labels = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    assert trimap(labels, 1).long().tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]
    assert trimap(labels, 2).long().tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]


def test_void_is_a_label_of_its_own_and_never_in_the_band():
    labels = torch.tensor([[0, 0, 0, 255, 255, 255, 1, 1, 1]])
    assert trimap(labels, 1).long().tolist() == [[0, 0, 1, 0, 0, 0, 1, 0, 0]]
    assert trimap(labels, 1, ignore=-1).long().tolist() == [[0, 0, 1, 1, 0, 1, 1, 0, 0]]


def test_a_map_of_one_label_has_no_boundary_and_no_band():
    assert not trimap(torch.full((3, 4), 7), 5).any()
    assert not trimap(torch.full((3, 4), 255, dtype=torch.uint8), 5).any()


def test_errors_far_from_the_boundary_do_not_count_in_the_band():
    truth = torch.zeros(1, 20, dtype=torch.int64)
    truth[:, 10:] = 1
    far, near = truth.clone(), truth.clone()
    far[0, 2], near[0, 9] = 1, 1
    in_the_band = truth.masked_fill(~trimap(truth, 2), 255)
    assert mean_iou(confusion(far, in_the_band, 2)) == 1
    assert mean_iou(confusion(near, in_the_band, 2)) < 1
    assert mean_iou(confusion(far, truth, 2)) == mean_iou(confusion(near, truth, 2)) < 1


MAP, MATRIX = torch.tensor([[0, 1, 2]]), torch.zeros(2, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: confusion(MAP.float(), MAP, 3), TypeError, r"drawn must be.*got torch\.float32: take \.argmax\(1\)"),
        (lambda: confusion(MAP, MAP.double(), 3), TypeError, r"truth must be a tensor of integers, got torch\.float64$"),
        (lambda: confusion(MAP.numpy(), MAP, 3), TypeError, "drawn must be a tensor of integers, got ndarray"),
        (lambda: confusion(MAP, MAP.T, 3), ValueError, r"one shape, got \(1, 3\) and \(3, 1\)"),
        (lambda: confusion(MAP, MAP[None], 3), ValueError, r"one shape, got \(1, 3\) and \(1, 1, 3\)"),
        (lambda: confusion(MAP, MAP.clamp(max=1), 2), ValueError, "drawn must hold classes 0 to 1 .*, got 0 to 2"),
        (lambda: confusion(MAP * 0, MAP, 2), ValueError, "truth must hold classes 0 to 1 where truth is not 255, got 0 to 2"),
        (lambda: confusion(MAP, MAP - 1, 3), ValueError, "truth must hold classes 0 to 2 .*, got -1 to 1"),
        (lambda: confusion(MAP.where(MAP < 2, 255), MAP, 3), ValueError, "drawn must hold classes 0 to 2 .*, got 0 to 255"),
        (lambda: confusion(MAP, MAP, 0), ValueError, "num_classes must be at least 1, got 0"),
        (lambda: confusion(MAP, MAP, 3.0), TypeError, r"num_classes must be an integer, got 3\.0"),
        (lambda: iou(MATRIX.float()), TypeError, r"torch\.int64 as `confusion` counts it, got torch\.float32"),
        (lambda: iou([[1]]), TypeError, "got list"),
        (lambda: accuracy(MATRIX[:1]), ValueError, r"expected a matrix \(C, C\), got \(1, 2\)"),
        (lambda: iou(MATRIX[None]), ValueError, r"got \(1, 2, 2\)"),
        (lambda: mean_iou(MATRIX - 3), ValueError, "at least 0, got -3"),
        (lambda: mean_iou(MATRIX), ValueError, "at least one scored pixel, this matrix of 2 classes counts 0"),
        (lambda: accuracy(MATRIX), ValueError, "at least one scored pixel, this matrix of 2 classes counts 0"),
        (lambda: trimap(MAP, 0), ValueError, "width must be at least 1, got 0"),
        (lambda: trimap(MAP, 1.5), TypeError, r"width must be an integer, got 1\.5"),
        (lambda: trimap(MAP.float(), 1), TypeError, r"labels must be.*got torch\.float32"),
        (lambda: trimap(MAP[0], 1), ValueError, r"\(H, W\).*got \(3,\)"),
        (lambda: trimap(MAP[:0], 1), ValueError, r"at least one pixel, got \(0, 3\)"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_one_line(call, error, says):
    with pytest.raises(error, match=says) as raised:
        call()
    assert "\n" not in str(raised.value)
