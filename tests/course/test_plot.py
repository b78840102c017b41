"""A figure draws the data that it returns: nothing is drawn that cannot be printed, and nothing printed that is not drawn."""

import inspect
from itertools import combinations
from math import inf, nan

import matplotlib.image
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle
from PIL import Image
from strategies import integers
from torch import nn

from minideeplab import DeepLabV3Plus, regroup, xception41
from minideeplab.cost import profile
from minideeplab.cost.timing import KindRow, Measured, Roofline, Spread
from minideeplab.course import plot
from minideeplab.course.curves import CHANGES
from minideeplab.image import from_pixels


def texts(axes):
    return [text.get_text() for text in axes.texts]


def rectangles(axes, color):
    """The lower left corners and the sizes of what is filled with a color."""
    filled = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    return [(*p.get_xy(), p.get_width(), p.get_height()) for p in filled if p.get_facecolor()[:3] == to_rgba(color)[:3]]


def test_photograph_is_what_the_networks_want(tmp_path):
    pixels = torch.arange(256 * 3, dtype=torch.int64).remainder(256).to(torch.uint8).view(16, 16, 3)
    matplotlib.image.imsave(tmp_path / "all.png", pixels.numpy())  # with a fourth channel of full opacity
    assert torch.equal(plot.photograph(tmp_path / "all.png"), from_pixels(pixels))


def test_a_gray_photograph_is_refused(tmp_path):
    Image.new("L", (3, 2)).save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match=r"a color photograph \(H, W, 3\), got \(2, 3\) in .*gray.png"):
        plot.photograph(tmp_path / "gray.png")


def test_a_photograph_that_is_no_png_is_scaled_as_well(tmp_path):
    Image.new("RGB", (3, 2), (255, 255, 255)).save(tmp_path / "white.bmp")
    assert torch.equal(plot.photograph(tmp_path / "white.bmp"), torch.ones(1, 3, 2, 3))


def test_planes_write_every_number_into_its_cell():
    rows = {"a": torch.tensor([[1, -2], [3, 40]]), "b": torch.zeros(1, 3)}
    figure, drawn = plot.planes(rows, kinds=["space", "channel"])
    assert drawn == {"a": [[1, -2], [3, 40]], "b": [[0, 0, 0]]}
    assert [texts(axes) for axes in figure.axes] == [["1", "-2", "3", "40"], ["0", "0", "0"]]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    shades = [axes.images[0].get_cmap()(1.0) for axes in figure.axes]
    assert shades == [to_rgba(plot.SPACE), to_rgba(plot.CHANNEL)]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_kernel_leaves_zeros_white_and_counts_the_rest(groups):
    weight = regroup(integers(6, 6 // groups, 3, 3, least=1), groups)
    figure, counts = plot.kernel(weight, highlight=4)
    assert torch.equal(counts, 9 * (weight.abs().sum((2, 3)) > 0))
    (axes,) = figure.axes
    assert len(rectangles(axes, plot.BOTH)) == counts.sum() == 36 * 9 // groups
    assert len(rectangles(axes, "white")) == 36 * 9 - counts.sum()
    (frame,) = [patch for patch in axes.patches if not patch.get_fill()]
    assert frame.get_y() == 4 * 4 - 0.5  # around the fifth row of blocks
    assert axes.get_xlabel() == "6 input channels"
    assert axes.get_ylabel() == "6 outputs"


def test_images_show_photographs_in_color_and_maps_in_gray():
    figure, shapes = plot.images({"photo": torch.tensor([-1.0, 0, 3]).view(3, 1, 1), "map": torch.eye(2, requires_grad=True)})
    photo, gray = (axes.images[0] for axes in figure.axes)
    assert photo.get_array().ravel().tolist() == [0, 128, 255]  # 3 lies beyond white
    assert gray.get_cmap().name == "gray"
    assert shapes == {"photo": (3, 1, 1), "map": (2, 2)}


def test_labels_count_the_pixels_of_each_class():
    figure, counts = plot.labels({"truth": torch.tensor([[0, 1], [1, 2]])})
    assert counts == {"truth": [1, 2, 1]}
    (image,) = figure.axes[0].images
    colors = image.to_rgba(image.get_array())
    assert colors[0, 0].tolist() == list(to_rgba(plot.LABELS[0]))
    assert colors[1, 1].tolist() == list(to_rgba(plot.LABELS[2]))


def test_labels_take_other_colors_and_as_many_classes():
    figure, _ = plot.labels({"changes": torch.tensor([[0, 3]])}, names=["a", "b", "c", "d"], colors=CHANGES)
    (image,) = figure.axes[0].images
    assert image.to_rgba(image.get_array())[0, 1].tolist() == list(to_rgba(CHANGES[3]))
    assert [key.get_facecolor() for key in figure.legends[0].get_patches()] == [to_rgba(color) for color in CHANGES]
    with pytest.raises(ValueError, match="classes 0 to 3, got 4"):
        plot.labels({"a": torch.tensor([[4]])}, colors=CHANGES)


def test_bars_are_as_long_as_their_parts_together():
    rows = {"dense": {"both": 12}, "separable": {"space": 3, "channel": 4}}
    figure, totals = plot.bars(rows, unit="weights")
    (axes,) = figure.axes
    assert totals == {"dense": 12, "separable": 7}
    assert [x + w for x, _, w, _ in rectangles(axes, plot.CHANNEL)] == [7]
    assert [w for _, _, w, _ in rectangles(axes, plot.SPACE)] == [3]
    assert [w for _, _, w, _ in rectangles(axes, plot.BOTH)] == [12]
    assert texts(axes) == [" 12", " 7"]
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"both", "space", "channel"}


@pytest.mark.parametrize("draw", [
    lambda: plot.bars({"one bar, as long as can be": {"channel": 40000, "both": 215040}}, unit="weights"),
    lambda: plot.tradeoff({"one": [(1.0, 2.0)], "two": [(3.0, 9.0)]}, x="cost", y="gain"),
])  # fmt: skip
def test_a_legend_touches_nothing_that_is_drawn(draw):
    figure, _ = draw()
    figure.draw_without_rendering()
    (legend,), (axes,) = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_bars_of_nothing_at_all_are_drawn():
    assert plot.bars({"empty": {"space": 0}}, unit="weights")[1] == {"empty": 0}


def test_journey_draws_a_slab_for_every_map_as_tall_as_its_side():
    report = profile(DeepLabV3Plus(xception41(width=1 / 64), 3, channels=4), (1, 3, 65, 65)).grouped(2)
    figure, slabs = plot.journey(report, bridge=("backbone.root", "decoder.reduce"))
    maps = [row for row in report.rows if len(row.shape) == 4]
    assert slabs == [("image", 3, 65), *((row.name, row.shape[1], row.shape[2]) for row in maps)]
    (axes,) = figure.axes
    heights = [height for _, _, _, height in rectangles(axes, plot.SPACE)]
    assert heights == pytest.approx([height / 65 for _, _, height in slabs])
    assert sum(text.arrow_patch is not None for text in axes.texts if hasattr(text, "arrow_patch")) == 1
    assert len(plot.journey(report)[0].axes[0].texts) == len(axes.texts) - 1


def test_tradeoff_sorts_by_cost():
    figure, drawn = plot.tradeoff({"with decoder": [(90.0, 80.0), (50.0, 79.5)], "without": [(30.0, 77.0)]}, x="cost", y="gain")
    (axes,) = figure.axes
    assert drawn == {"with decoder": [(50.0, 79.5), (90.0, 80.0)], "without": [(30.0, 77.0)]}
    assert [list(zip(*line.get_data(), strict=True)) for line in axes.lines] == list(drawn.values())
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "cost", "gain")
    assert texts(axes) == ["50", "90", "30"]


@pytest.mark.parametrize("count", range(1, 7))
def test_tradeoff_draws_every_line_and_no_two_alike(count):
    figure, drawn = plot.tradeoff({f"line {i}": [(1.0, float(i)), (2.0, i + 1.0)] for i in range(count)}, x="cost", y="gain")
    drawn_lines = figure.axes[0].lines
    assert len({line.get_marker() for line in drawn_lines}) == count  # told apart without any color
    assert (
        len({(line.get_color(), line.get_linestyle()) for line in drawn_lines})
        == len(drawn)
        == len(figure.legends[0].get_texts())
        == count
    )


def test_tradeoff_says_that_it_cannot_tell_seven_lines_apart():
    with pytest.raises(ValueError, match="at most 6 lines can be told apart, got 7"):
        plot.tradeoff({f"line {i}": [(1.0, 2.0)] for i in range(7)}, x="cost", y="gain")


@pytest.mark.parametrize("costs", [(54.17, 67.1, 263.0), (2e6, 9e6), (0.02, 0.3)])
def test_the_costs_on_the_axis_are_written_out(costs):
    figure, _ = plot.tradeoff({"a line": [(cost, 1.0) for cost in costs]}, x="cost", y="gain")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    shown = [text.get_text() for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
    assert len(shown) >= 2
    assert all(low <= float(text.replace(",", "")) <= high for text in shown), shown  # no power of ten to be worked out
    assert not [text for text in axes.get_xticklabels(minor=True) if text.get_text()]


def test_roofline_bends_where_bandwidth_meets_the_peak():
    def spread(value, unit):
        return Spread((value, value, value), unit, 3)

    def row(kind, macs, moved):
        return KindRow(kind, 1, macs, moved, spread(1e-3, "s"), spread(50.0, "%"), spread(1e-4, "s"))

    machine = Roofline(spread(1e11, "FLOP/s"), spread(1e10, "B/s"), 1, torch.float32)
    rows = (row("depthwise", 10**6, 4 * 10**6), row("pointwise", 4 * 10**7, 10**6), row("ReLU", 0, 10**6))
    figure, points = plot.roofline(Measured("Net", ((1, 3, 5, 5),), rows, spread(2e-3, "s"), machine))
    assert points == {"depthwise": pytest.approx((0.5, 2)), "pointwise": pytest.approx((80, 80))}  # ReLU has no MACs
    roof, *marks = figure.axes[0].lines
    assert roof.get_xydata()[1].tolist() == pytest.approx([10, 100])
    assert roof.get_xydata()[2, 1] == pytest.approx(100)
    assert [mark.get_color() for mark in marks] == [plot.SPACE, plot.CHANNEL]
    assert [text.xyann[1] < 0 for text in figure.axes[0].texts] == [True, False]  # on different sides of their dots


NUMBERS = {"a": torch.tensor([[1, 2]])}
REPORT = profile(nn.Sequential(nn.Conv2d(3, 4, 1)), (1, 3, 5, 5))


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plot.planes({"a": torch.tensor([[0.7]])}, kinds=["space"]), ValueError, "integers, got 0.7 in 'a'"),
        (lambda: plot.planes({"a": torch.tensor([[nan]])}, kinds=["space"]), ValueError, "integers, got nan in 'a'"),
        (lambda: plot.planes({"a": torch.tensor([[-inf]])}, kinds=["space"]), ValueError, "integers, got -inf in 'a'"),
        (lambda: plot.planes({"a": torch.ones(1, 2, 3)}, kinds=["space"]), ValueError, r"got \(1, 2, 3\) in 'a'"),
        (lambda: plot.planes({"a": torch.ones(0, 3)}, kinds=["space"]), ValueError, r"got \(0, 3\) in 'a'"),
        (lambda: plot.planes(NUMBERS, kinds=["time"]), ValueError, "one of space, channel, both, neither, got 'time'"),
        (lambda: plot.planes(NUMBERS, kinds=["space"] * 2), ValueError, "one kind for each plane, got 2 for 1"),
        (lambda: plot.planes({}, kinds=[]), ValueError, "got none"),
        (lambda: plot.planes([1], kinds=["space"]), TypeError, "Mapping, got list"),
        (lambda: plot.planes({"a": [[1]]}, kinds=["space"]), TypeError, r"rows\['a'\] must be of type Tensor, got list"),
        (lambda: plot.kernel(torch.ones(4, 3, 3, 3), highlight=99), ValueError, "an output from 0 to 3, got 99"),
        (lambda: plot.kernel(torch.ones(4, 3, 3, 3), highlight=-1), ValueError, "an output from 0 to 3, got -1"),
        (lambda: plot.kernel(torch.ones(4, 3, 3, 3), highlight="1"), ValueError, "an output from 0 to 3, got '1'"),
        (lambda: plot.kernel(torch.ones(65, 1, 3, 3)), ValueError, "64 x 64 blocks can be read, got 65 x 1"),
        (lambda: plot.kernel(torch.ones(3, 3)), ValueError, r"a kernel \(C_out, C_in, k_h, k_w\), got \(3, 3\)"),
        (lambda: plot.images({"a": torch.ones(1, 3, 4, 4)}), ValueError, r"got \(1, 3, 4, 4\) in 'a'"),
        (lambda: plot.images({"a": torch.ones(4, 4, 3)}), ValueError, r"got \(4, 4, 3\) in 'a'"),
        (lambda: plot.images({"a": torch.ones(3, 4, 4).byte()}), TypeError, "floating-point"),
        (lambda: plot.labels({"a": torch.tensor([[0, 6]])}), ValueError, "colors for classes 0 to 5, got 6 in 'a'"),
        (lambda: plot.labels({"a": torch.tensor([[-1, 5]])}), ValueError, "colors for classes 0 to 5, got -1 in 'a'"),
        (lambda: plot.labels({"a": torch.ones(2, 2)}), TypeError, "labels are integers, got torch.float32 in 'a'"),
        (lambda: plot.bars({}, unit="weights"), ValueError, "bars, got none"),
        (lambda: plot.bars({"a": {}}, unit="weights"), ValueError, "parts of 'a', got none"),
        (lambda: plot.bars({"a": 3}, unit="weights"), TypeError, "parts of 'a' must be of type Mapping, got int"),
        (lambda: plot.bars({"a": {"time": 3}}, unit="weights"), ValueError, "got 'time'"),
        (lambda: plot.bars({"a": {"space": -3}}, unit="weights"), ValueError, "at least 0 and finite, got -3 in 'a'"),
        (lambda: plot.journey("report"), TypeError, "report must be of type Report, got str"),
        (lambda: plot.journey(profile(nn.Linear(3, 4), (1, 3))), ValueError, r"an image \(N, C, H, W\), got \(1, 3\)"),
        (lambda: plot.journey(REPORT, bridge=("0", "9")), ValueError, "no row is called '9': .* joins two of image, 0"),
        (lambda: plot.tradeoff({"a": []}, x="", y=""), ValueError, "points in 'a', got none"),
        (lambda: plot.tradeoff({"a": [(0.0, 1.0)]}, x="", y=""), ValueError, r"a cost above 0 .*, got \(0.0, 1.0\) in 'a'"),
        (lambda: plot.tradeoff({"a": [(1.0, nan)]}, x="", y=""), ValueError, r"both finite, got \(1.0, nan\) in 'a'"),
        (lambda: plot.roofline("measured"), TypeError, "measured must be of type Measured, got str"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


def test_planes_of_any_type_are_drawn_exactly():
    rows = {"yes": torch.tensor([[True, False]]), "far": torch.tensor([[2**40]]), "half": torch.ones(1, 1).half()}
    assert plot.planes(rows, kinds=["both"] * 3)[1] == {"yes": [[1, 0]], "far": [[2**40]], "half": [[1]]}


SIGHT = {  # what is left of (R, G, B) in linear light without one kind of cone (Machado 2009)
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def distance(sight, one, other):
    first, second = (torch.tensor(SIGHT[sight]) @ torch.tensor(to_rgb(color)) ** 2.2 for color in (one, other))
    return (first.clamp(0, 1) ** (1 / 2.2) - second.clamp(0, 1) ** (1 / 2.2)).norm()


@pytest.mark.parametrize("sight", SIGHT)
def test_space_and_channel_stay_apart_without_one_kind_of_cone(sight):
    assert distance(sight, plot.SPACE, plot.CHANNEL) > 0.4


MEANINGS = {
    "what is mixed": {plot.SPACE, plot.CHANNEL, plot.BOTH, plot.NEITHER},
    "a sign": {plot.NEGATIVE},
    "a class or a series": {color for color, _, _ in plot.SERIES} | set(plot.LABELS),
}


def test_a_color_means_one_thing():
    assert not [set.intersection(*pair) for pair in combinations(MEANINGS.values(), 2) if set.intersection(*pair)]
    assert set(plot.KINDS.values()) <= MEANINGS["what is mixed"]


def test_red_and_green_would_not():
    assert distance("deuteranopia", "#D62728", "#7A7A10") < 0.25


def test_figures_belong_to_nobody():
    """No global state of pyplot: nothing to close, nothing that one figure leaves to the next."""
    assert "pyplot" not in inspect.getsource(plot)
    assert plot.bars({"a": {"space": 1}}, unit="weights")[0] is not plot.bars({"a": {"space": 1}}, unit="weights")[0]
