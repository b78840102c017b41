"""What the notebooks need: a figure with its words, a guess beside the truth, an exercise and its check."""

import base64

import pytest
import torch
from matplotlib.figure import Figure

from minideeplab import lesson


def test_a_figure_carries_its_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options)))
    lesson.show(Figure(figsize=(1, 1)), alt="a finding")
    ((data, options),) = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "Figure: a finding"
    assert options["metadata"]["image/png"]["alt"] == "a finding"


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt text"):
        lesson.show(Figure(), alt=" ")


@pytest.mark.parametrize(
    ("guess", "truth", "says"),
    [
        (None, 5, "no guess yet"),
        (5, 5, "your guess 5 is exact"),
        (1000, 500, "your guess 1,000, counted 500: above by a factor of 2.0"),
        (100, 1000, "your guess 100, counted 1,000: below by a factor of 10.0"),
        (0, 7, "your guess 0, counted 7"),
        (-3, 7, "your guess -3, counted 7"),
    ],
)
def test_a_guess_is_compared_and_never_marked(capsys, guess, truth, says):
    lesson.compare_guess(guess, truth)
    assert capsys.readouterr().out.strip() == says


def double(x):
    return 2 * x


def test_a_check_says_what_came_out_and_what_was_expected(capsys):
    lesson.check(double, {(1,): 2, (2,): 5})
    assert capsys.readouterr().out.splitlines() == ["double(2) gives 4, expected 5", "1 of 2 right"]


def test_a_right_answer_is_all_right(capsys):
    lesson.check(double, {(1,): 2, (torch.ones(2),): torch.tensor([2, 2])})
    assert capsys.readouterr().out.strip() == "all 2 right"


@pytest.mark.parametrize("answer", [lambda x: x[:1], lambda x: [1.0, 1.0], lambda x: x + 1])
def test_a_tensor_of_another_shape_kind_or_value_is_wrong(capsys, answer):
    answer.__name__ = "answer"
    lesson.check(answer, {(torch.ones(2),): torch.ones(2)})
    assert "0 of 1 right" in capsys.readouterr().out


def test_a_stub_has_not_been_tried(capsys):
    lesson.check(lambda x: None, {(1,): 2})
    assert capsys.readouterr().out.startswith("not tried yet")
