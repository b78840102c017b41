"""The picture of a training draws the losses and the IoUs that it is given, and returns the running mean that it draws."""

from itertools import combinations
from math import inf, nan

import pytest

from minideeplab.course.curves import bands, intervals, learning, prices


def test_the_running_mean_is_drawn_over_the_losses():
    losses = [float(k % 7) for k in range(200)]
    figure, means = learning(losses, {"sky": 0.5, "cow": None}, miou=0.5)
    left, right = figure.axes
    raw, smooth = (list(line.get_ydata()) for line in left.lines)
    assert raw == losses
    assert smooth == means
    assert means[:2] == [losses[0], sum(losses[:2]) / 2]
    assert means[-1] == pytest.approx(sum(losses[-20:]) / 20)
    assert means[-1] != pytest.approx(sum(losses) / 200)
    assert [text.get_text() for text in right.texts] == [" 0.50", " none"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["sky", "cow"]
    assert right.get_title() == "mIoU 0.500"
    assert right.lines[0].get_xdata()[0] == 0.5


def test_a_single_step_can_be_drawn_and_a_long_run_averages_fifty():
    assert learning([2.0], {"a": 1.0}, miou=1.0)[1] == [2.0]
    assert learning([0.0] * 950 + [1.0] * 50, {"a": 1.0}, miou=1.0)[1][-1] == pytest.approx(1.0)


@pytest.mark.parametrize("losses", [[], [1.0, nan], [inf]])
def test_what_cannot_be_drawn_is_refused(losses):
    with pytest.raises(ValueError, match="expected finite losses, got"):
        learning(losses, {"a": 1.0}, miou=1.0)


def test_bands_are_drawn_by_width_and_yardsticks_are_dashed():
    lines = {"net": {1: 0.25, 8: 0.5}, "stride 16": {1: 0.2, 8: 0.75}}
    figure, drawn = bands(lines, yardsticks=["stride 16"])
    assert drawn == {"net": [25.0, 50.0], "stride 16": [20.0, 75.0]}
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == list(drawn.values())
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "8"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)


@pytest.mark.parametrize("lines", [{}, {"a": {}}, {"a": {1: 0.5}, "b": {2: 0.5}}, {"a": {1: nan}}, {"a": {1: 1.5}}])
def test_bands_that_cannot_be_drawn_are_refused(lines):
    with pytest.raises(ValueError, match=r"same widths|from 0 to 1"):
        bands(lines)


def test_prices_are_drawn_with_their_spread_and_their_names():
    points = {"cheap": (10.0, 1.0, 2.0, 4.0), "dear": (1000.0, 2.0, 2.0, 2.0)}
    figure, drawn = prices(points, x="MACs", y="mIoU")
    assert drawn == points
    [axes] = figure.axes
    bar, mark = axes.lines[:2]
    assert (list(bar.get_xdata()), list(bar.get_ydata())) == ([10.0, 10.0], [1.0, 4.0])
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([10.0], [2.0])
    assert [text.get_text() for text in axes.texts] == list(points)
    assert axes.get_xscale() == "log"


def touching(points):
    figure, _ = prices(points, x="x", y="y")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    return sum(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_names_of_neighbors_have_room():
    heads = {"the naive way": 3.8, "DeepLabV3": 4.5, "DeepLabV3+": 5.4, "PSPNet": 7.3, "SegNet": 10.4}
    assert touching({name: (cost, 50.0, 51.0, 52.0) for name, cost in heads.items()}) == 0
    assert touching(dict.fromkeys(heads, (5.0, 50.0, 51.0, 52.0))) > 0  # all on one place: that would be noticed


@pytest.mark.parametrize("point", [(0.0, 1.0, 1.0, 1.0), (1.0, 2.0, 1.0, 3.0), (1.0, 0.0, nan, 1.0), (inf, 0.0, 0.0, 1.0)])
def test_prices_that_cannot_be_drawn_are_refused(point):
    with pytest.raises(ValueError, match="expected points of a cost above 0"):
        prices({"a": point}, x="x", y="y")
    with pytest.raises(ValueError, match="got none"):
        prices({}, x="x", y="y")


def test_intervals_are_marked_by_their_verdicts_wherever_they_lie():
    rows = [("a", 0.2, 0.1, 0.3, "reproduced"), ("b", -0.2, -0.3, -0.1, "undecided"), ("c", 0.1, -0.1, 0.3, "contradicted")]
    figure, counts = intervals(rows)
    assert counts == {"reproduced": 1, "undecided": 1, "contradicted": 1}
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == [[0.1, 0.3], [0.2]]
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines[1:6:2]}) == 3


@pytest.mark.parametrize("rows", [[], [("a", nan, 0.0, 1.0, "undecided")], [("a", 0.0, -inf, 1.0, "undecided")]])
def test_an_interval_that_cannot_be_drawn_is_refused(rows):
    with pytest.raises(ValueError, match="finite"):
        intervals(rows)
