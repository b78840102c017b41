"""A figure draws the data that it returns: nothing is drawn that cannot be printed, and nothing printed that is not drawn."""

import inspect

import matplotlib.image
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle
from strategies import integers
from torch.testing import assert_close

from minideeplab import DeepLabV3Plus, regroup, xception41
from minideeplab.cost import profile
from minideeplab.cost.timing import KindRow, Measured, Roofline, Spread
from minideeplab.course import plot


def texts(axes):
    return [text.get_text() for text in axes.texts]


def rectangles(axes, color):
    """The lower left corners and the sizes of what is filled with a color."""
    filled = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    return [(*p.get_xy(), p.get_width(), p.get_height()) for p in filled if p.get_facecolor()[:3] == to_rgba(color)[:3]]


def test_photograph_is_what_the_networks_want(tmp_path):
    pixels = torch.tensor([[[0, 51, 255], [255, 255, 0]]], dtype=torch.uint8)  # one row of two pixels
    matplotlib.image.imsave(tmp_path / "two.png", pixels.numpy())
    photograph = plot.photograph(tmp_path / "two.png")
    assert_close(photograph, torch.tensor([[[[-1.0, 1]], [[-0.6, 1]], [[1, -1]]]]))


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
    assert photo.get_array().ravel().tolist() == [0, 0.5, 1]  # 3 lies beyond white
    assert gray.get_cmap().name == "gray"
    assert shapes == {"photo": (3, 1, 1), "map": (2, 2)}


def test_labels_count_the_pixels_of_each_class():
    figure, counts = plot.labels({"truth": torch.tensor([[0, 1], [1, 2]])})
    assert counts == {"truth": [1, 2, 1]}
    (image,) = figure.axes[0].images
    colors = image.to_rgba(image.get_array())
    assert colors[0, 0].tolist() == list(to_rgba(plot.LABELS[0]))
    assert colors[1, 1].tolist() == list(to_rgba(plot.LABELS[2]))


def test_bars_are_as_long_as_their_parts_together():
    rows = {"dense": {"both": 12}, "separable": {"space": 3, "channel": 4}}
    figure, totals = plot.bars(rows, unit="weights")
    (axes,) = figure.axes
    assert totals == {"dense": 12, "separable": 7}
    assert [x + w for x, _, w, _ in rectangles(axes, plot.CHANNEL)] == [7]
    assert [w for _, _, w, _ in rectangles(axes, plot.SPACE)] == [3]
    assert [w for _, _, w, _ in rectangles(axes, plot.BOTH)] == [12]
    assert texts(axes) == [" 12", " 7"]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"both", "space", "channel"}


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


def test_red_and_green_would_not():
    assert distance("deuteranopia", "#D62728", "#7A7A10") < 0.25


def test_figures_belong_to_nobody():
    """No global state of pyplot: nothing to close, nothing that one figure leaves to the next."""
    assert "pyplot" not in inspect.getsource(plot)
    assert plot.bars({"a": {"space": 1}}, unit="weights")[0] is not plot.bars({"a": {"space": 1}}, unit="weights")[0]
