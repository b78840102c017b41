"""What a learner is told: a figure speaks in words as well, a guess is weighed, an exercise says what is not right yet."""

import base64
from fractions import Fraction

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from minideeplab.course.lesson import check, compare_guess, show


@pytest.fixture
def shown(monkeypatch):
    """What IPython is asked to display: (data, metadata)."""
    asked = []
    monkeypatch.setattr("IPython.display.display", lambda data, *, metadata, raw: asked.append((data, metadata)))
    return asked


def test_a_figure_is_shown_as_a_picture_with_its_words(shown):
    show(Figure(figsize=(2, 1)), alt="a white rectangle")
    ((data, metadata),) = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "Figure: a white rectangle"
    assert metadata == {"image/png": {"alt": "a white rectangle"}}


def test_the_same_figure_is_the_same_file(shown):
    """Or every run of a notebook would change it."""
    for _ in range(2):
        show(Figure(figsize=(2, 1)), alt="a white rectangle")
    assert shown[0] == shown[1]


@pytest.mark.parametrize("alt", ["", "  "])
def test_a_figure_without_words_is_refused(alt):
    with pytest.raises(ValueError, match="alt text"):
        show(Figure(), alt=alt)


@pytest.mark.parametrize(
    ("guess", "says"),
    [
        (None, "no guess yet"),
        (1152, "your guess 1,152 is exact"),
        (576, "your guess 576, counted 1,152: below by a factor of 2.0"),
        (1_152_000, "your guess 1,152,000, counted 1,152: above by a factor of 1000.0"),
        (0, "your guess 0, counted 1,152"),
        (-5, "your guess -5, counted 1,152"),
        (0.5, "your guess 0.5, counted 1,152: below by a factor of 2304.0"),
        (1150, "your guess 1,150, counted 1,152: below by 2"),  # not by a factor of 1.0
        (Fraction(1, 2), "your guess 0.5, counted 1,152: below by a factor of 2304.0"),
        (1152.25, "your guess 1,152.25, counted 1,152: above by 0.25"),
        (1097, "your guess 1,097, counted 1,152: below by a factor of 1.1"),
        (True, "your guess True is no finite number, so nothing can be compared with 1,152"),
        (float("nan"), "your guess nan is no finite number, so nothing can be compared with 1,152"),
        (float("-inf"), "your guess -inf is no finite number, so nothing can be compared with 1,152"),
        ("1152", "your guess '1152' is no finite number, so nothing can be compared with 1,152"),
        ([1152], "your guess [1152] is no finite number, so nothing can be compared with 1,152"),
    ],
)
def test_a_guess_is_weighed_against_the_count(guess, says, capsys):
    compare_guess(guess, 1152)
    assert capsys.readouterr().out == says + "\n"


def test_no_guess_is_off_by_a_factor_of_one(capsys):
    for guess in range(1, 4000):
        compare_guess(guess, 1152)
    assert "factor of 1.0\n" not in capsys.readouterr().out


def double(x):
    return 2 * x


def add(x, y):
    return x + y


def stub(x):
    pass


def halves(x):
    return 2 * x if x > 1 else None


@pytest.mark.parametrize(
    ("function", "cases", "says"),
    [
        (double, {(1,): 2, (3,): 6}, "all 2 right"),
        (add, {(1, 2): 3, (1, 1): 3}, "add(1, 1) gives 2, expected 3\n1 of 2 right"),
        (add, {("a", "b"): "ab"}, "all 1 right"),
        (double, {("a",): "a"}, "double('a') gives aa, expected a\n0 of 1 right"),
        (stub, {(1,): 2}, "stub returns nothing yet: write it, then run this cell"),
        (halves, {(1,): 2, (2,): 4}, "halves(1) gives None, expected 2\n1 of 2 right"),
    ],
)
def test_an_exercise_says_which_cases_come_out(function, cases, says, capsys):
    check(function, cases)
    assert capsys.readouterr().out == says + "\n"


@pytest.mark.parametrize(
    ("got", "want", "right"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), True),  # whatever the type of the numbers,
        (torch.tensor([1.7, 2.0]), torch.tensor([1, 2]), False),  # but not by cutting them off
        (torch.tensor([[1, 2]]), torch.tensor([1, 2]), False),
        (torch.tensor(3), 3, True),
        (torch.tensor([1, 2]), 3, False),
        (3, torch.tensor(3), False),
        ((3, 4), (3, 4), True),
        ([3, 4], (3, 4), False),
        (np.array([1, 2]), torch.tensor([1, 2]), True),
        (np.array([1, 3]), torch.tensor([1, 2]), False),
        (np.int64(3), 3, True),
        (np.float64(3.5), 3, False),
        (np.array([3, 4]), [3, 4], True),
        (np.array([3, 4]), 3, False),
        (np.array([3]), 3, True),
        (np.array([2, 1])[::-1], torch.tensor([1, 2]), True),
        (np.array(["a"]), torch.tensor([1, 2]), False),
    ],
)
def test_tensors_are_compared_by_shape_and_value(got, want, right, capsys):
    check(lambda _: got, {(0,): want})
    assert ("all 1 right" in capsys.readouterr().out) == right
