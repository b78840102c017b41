"""A drawing says what the module has: every number in it is counted again here, from weights or from a run."""

import inspect
from itertools import combinations
from math import prod

import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import nn

from minideeplab import (
    ASPP,
    DeepLabV3,
    DeepLabV3Plus,
    ExtremeInception,
    InceptionV3,
    SegmentedInception,
    SeparableConv2d,
    SimplifiedInception,
    Xception,
    kernel_with_holes,
    mobilenet_v2,
    resnet101,
    xception41,
    xception65,
    xception71,
)
from minideeplab.blocks.inception import Inception8, Inception17, Inception35, ReductionTo17
from minideeplab.blocks.separable import SeparableConvBN
from minideeplab.cost import profile
from minideeplab.course import boxes, layers, plot, schematic

TOWERS = {
    "Inception35": Inception35(192, pooled=32),
    "Inception17": Inception17(768, 128),
    "ReductionTo17": ReductionTo17(288),
    "SimplifiedInception": SimplifiedInception(192, 96),
    "SegmentedInception": SegmentedInception(192, 96),
    "ExtremeInception": ExtremeInception(192, 96),
    "ASPP": ASPP(2048),
    "ASPP, dense": ASPP(64, 32, separable=False),
    "ASPP, two branches": ASPP(320, rates=()),
}
LINES = {
    "Xception": (Xception(), 299),
    "xception41": (xception41(width=1 / 16), 129),
    "xception65": (xception65(width=1 / 16), 129),
    "xception71": (xception71(width=1 / 16), 129),
    "mobilenet_v2": (mobilenet_v2(), 129),
    "resnet101": (resnet101(width=1 / 8), 129),
}


def deeplab(num_classes=21, *, output_stride=16, width=1 / 16, **options):
    return DeepLabV3Plus(xception41(output_stride=output_stride, width=width), num_classes, **options)


DRAWN = {
    **{name: lambda module=module: schematic.towers(module) for name, module in TOWERS.items()},
    **{
        name: lambda net=net, side=side: schematic.flow(net, profile(net, (1, 3, side, side + 16)))
        for name, (net, side) in LINES.items()
    },
    "no report": lambda: schematic.flow(Xception()),
    "DeepLabV3+": lambda: schematic.encoder_decoder(deeplab(width=1)),
    "DeepLabV3+, dense, three": lambda: schematic.encoder_decoder(deeplab(separable=False, refine=3)),
    "DeepLabV3+, two branches": lambda: schematic.encoder_decoder(DeepLabV3Plus(mobilenet_v2(), 3, rates=(), refine=1)),
    "structures": schematic.structures,
    "taps": lambda: schematic.taps(SeparableConv2d(256, 512, 3, dilation=2)),
}
BOXED = [*TOWERS, *(name for name in DRAWN if name.startswith("DeepLab"))]


def counted(module):
    """The labels that a module's convolutions should have, from their weights and what they are told."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            outputs, inputs, rows, columns = conv.weight.shape
            depthwise = inputs == 1 and outputs == conv.groups
            label = f"{rows} x {columns}" + ("" if depthwise else f", {outputs}")
            label += f", stride {conv.stride[0]}" if conv.stride != (1, 1) else ""
            label += f", rate {conv.dilation[0]}" if conv.dilation != (1, 1) else ""
            yield label, "space" if depthwise else "channel" if rows * columns == 1 else "both"


def unfolded(columns):
    return [box for column in columns for box in column if box[1] in ("space", "channel", "both")]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


@pytest.mark.parametrize("name", [name for name in TOWERS if name not in ("SegmentedInception", "ExtremeInception")])
def test_towers_have_the_convolutions_of_the_module_and_no_other(name):
    _, columns = schematic.towers(TOWERS[name])
    assert sorted(unfolded(columns)) == sorted(counted(TOWERS[name]))


@pytest.mark.parametrize("name", TOWERS)
def test_towers_join_as_many_channels_as_the_module_gives(name):
    module = TOWERS[name].eval()
    given = []
    if hasattr(module, "project"):
        module.project.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].shape[1]))
    given.append(module(torch.zeros(1, module.in_channels, 7, 7)).shape[1])
    _, (shared, *_, joined) = schematic.towers(module)
    assert shared[0] == (f"{module.in_channels} channels", "map")
    assert joined[0] == (f"concat, {given[0]}", "neither")


def test_inception_is_drawn_with_its_pool():
    assert schematic.towers(Inception35(192, pooled=32))[1] == [
        [("192 channels", "map")],
        [("1 x 1, 64", "channel")],
        [("1 x 1, 48", "channel"), ("5 x 5, 64", "both")],
        [("1 x 1, 64", "channel"), ("3 x 3, 96", "both"), ("3 x 3, 96", "both")],
        [("mean 3 x 3", "neither"), ("1 x 1, 32", "channel")],
        [("concat, 256", "neither")],
    ]


@pytest.mark.parametrize("segments", [1, 2, 3, 6])
def test_every_segment_has_a_kernel_of_its_own(segments):
    module = SegmentedInception(12, 24, segments=segments, kernel_size=5)
    _, (shared, *sides, _) = schematic.towers(module)
    outputs, inputs, rows, columns = module.look.weight.shape
    assert shared == [("12 channels", "map"), ("1 x 1, 24", "channel")]
    assert sides == [[(f"{rows} x {columns}, {outputs // segments}", "both")]] * segments
    assert len(sides) * inputs == outputs


def test_the_last_stop_of_the_spectrum_looks_like_extreme_inception():
    last, extreme = (schematic.towers(module)[1] for module in (SegmentedInception(9, 8, segments=8), ExtremeInception(9, 8)))
    assert last == extreme != schematic.towers(SegmentedInception(9, 8, segments=4))[1]
    assert {kind for _, kind in last[1]} == {"space"}


@pytest.mark.parametrize("width", [6, 7, 96])
def test_equal_towers_are_drawn_in_part_and_counted_in_full(width):
    _, (_, *sides, _) = schematic.towers(ExtremeInception(4, width))
    more = [int(text.removesuffix(" more")) for ((text, kind),) in sides if not kind]
    assert sum(bool(kind) for ((_, kind),) in sides) + sum(more) == width
    assert bool(more) == (width > schematic.MOST)


def test_towers_that_differ_are_all_drawn():
    rates = range(1, 9)
    assert len(schematic.towers(ASPP(8, 4, rates=rates))[1]) == 2 + len(rates) + 2


@pytest.mark.parametrize(("one", "other"), [
    (Inception35(192, pooled=32), Inception35(192, pooled=64)), (Inception35(192, pooled=32), Inception35(256, pooled=32)),
    (SimplifiedInception(8, 12), SimplifiedInception(8, 24)), (SimplifiedInception(8, 6), SimplifiedInception(8, 6, towers=2)),
    (ASPP(8, 4), ASPP(8, 4, rates=(12, 24, 36))), (ASPP(8, 4), ASPP(8, 4, separable=False)), (ASPP(8, 4), ASPP(8, 5)),
])  # fmt: skip
def test_another_module_is_another_picture(one, other):
    assert schematic.towers(one)[1] != schematic.towers(other)[1]


def test_only_the_depthwise_half_has_the_rate():
    boxes = unfolded(schematic.towers(ASPP(8, 4, rates=(7,)))[1])
    assert [kind for text, kind in boxes if "rate" in text] == ["space"]
    dense = unfolded(schematic.towers(ASPP(8, 4, rates=(7,), separable=False))[1])
    assert [kind for text, kind in dense if "rate" in text] == ["both"]


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_the_channels_and_pixels_of_the_maps(name):
    network, side = LINES[name]
    shape = (1, 3, side, side + 16)
    _, line = schematic.flow(network, profile(network, shape))
    found = []
    for _, group in network.named_children():
        if type(group) in (nn.Sequential, nn.ModuleList):
            for path, module in layers._listed("", group):
                if any(isinstance(inner, nn.Conv2d) or "Pool" in type(inner).__name__ for inner in module.modules()):
                    found.append((path, module))
    maps = []
    for _, module in found:
        module.register_forward_hook(lambda _m, _i, out: maps.append((out[0] if isinstance(out, tuple) else out).shape))
    network.eval()
    with torch.no_grad():
        network(torch.zeros(shape))
    for _, module in found:
        module._forward_hooks.clear()
    drawn = [(stage.channels, *stage.size) for stage in line for _ in range(stage.times)]
    assert drawn == [tuple(map_[1:]) for map_ in maps]


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_a_stripe_for_every_layer(name):
    network, _ = LINES[name]
    convolutions = {path for path, module in network.named_modules() if isinstance(module, nn.Conv2d) and path != "classify"}
    pools = [module for module in network.modules() if "Pool" in type(module).__name__]
    stripes = [kind for stage in schematic.flow(network)[1] for _ in range(stage.times) for kind in stage.kinds]
    assert stripes.count("neither") == len(pools)
    assert len(stripes) - len(pools) == len({path for path in convolutions if ".shortcut" not in path})


@pytest.mark.parametrize("name", LINES)
def test_a_line_strides_to_the_output_stride(name):
    network, _ = LINES[name]
    assert prod(stage.stride for stage in schematic.flow(network)[1] for _ in range(stage.times)) == network.output_stride


@pytest.mark.parametrize("name", LINES)
def test_what_is_returned_of_a_line_is_what_is_written_and_bowed(name):
    network, side = LINES[name]
    figure, line = schematic.flow(network, profile(network, (1, 3, side, side + 16)))
    (axes,) = figure.axes
    beside = [*(f"x {stage.times}" for stage in line if stage.times > 1), *(s.shortcut for s in line if s.shortcut)]
    rows = [(stage.channels, stage.stride, stage.rate, "\n".join(map(str, stage.size))) for stage in line]
    has_rate = any(stage.rate > 1 for stage in line)
    below = [str(value) for row in rows for value in (row if has_rate else row[:2] + row[3:])]
    titles = ["image", "channels", "stride", *(["rate"] if has_rate else []), "pixels"]
    flows = {stage.flow.replace("_", "\n") for stage in line}
    assert sorted(texts(figure)) == sorted([*beside, *below, *titles, *flows])
    across = sorted((text for text in axes.texts if text.get_text().isdigit()), key=lambda text: text.get_position()[0])
    top = max(text.get_position()[1] for text in across)  # the first row below the boxes
    assert [text.get_text() for text in across if text.get_position()[1] == top] == [str(stage.channels) for stage in line]
    bows = [patch for patch in arrows(axes) if len(patch._path_original.vertices) > 2]
    colors = [to_rgba(plot.CHANNEL if stage.shortcut == "1 x 1" else plot.INK) for stage in line if stage.shortcut]
    assert [patch.get_edgecolor() for patch in bows] == colors
    assert len(arrows(axes)) - len(bows) == len(line)


def test_xception_has_twelve_shortcuts_of_which_four_are_convolutions():
    _, line = schematic.flow(Xception())
    shortcuts = [stage.shortcut for stage in line for _ in range(stage.times)]
    assert (len(shortcuts), shortcuts.count("1 x 1"), shortcuts.count("identity")) == (16, 4, 8)
    assert [(stage.flow, stage.times) for stage in line if stage.times > 1] == [("middle_flow", 8)]


def test_a_line_follows_the_network():
    lines = [[*schematic.flow(make(width=1 / 16))[1]] for make in (xception41, xception65, xception71)]
    assert [[stage.times for stage in line if stage.flow == "middle_flow"] for line in lines] == [[8], [16], [16]]
    assert [len(line) for line in lines] == [9, 9, 11]
    at_16, at_8 = (schematic.flow(mobilenet_v2(output_stride=stride))[1] for stride in (16, 8))
    assert max(stage.rate for stage in at_16) == 2 < max(stage.rate for stage in at_8) == 4
    assert schematic.flow(mobilenet_v2(width=0.5))[1] != at_16


def test_modules_that_differ_inside_are_not_drawn_as_one():
    blocks = [nn.Sequential(nn.Conv2d(3, inner, 1), nn.ReLU(), nn.Conv2d(inner, 3, 3)) for inner in (4, 5, 5)]
    wrapped = [type("Block", (nn.Module,), {})() for _ in blocks]
    for module, inside in zip(wrapped, blocks, strict=True):
        module.inside = inside
    network = nn.Sequential(nn.Sequential(*wrapped))
    assert [stage.times for stage in schematic.flow(network)[1]] == [1, 2]


def test_of_square_maps_one_side_is_written():
    network = mobilenet_v2()
    square, wide = (schematic.flow(network, profile(network, (1, 3, 65, width)))[0] for width in (65, 129))
    assert [text for text in texts(square) if "\n" in text] == []
    assert "33\n65" in texts(wide)
    assert "33" in texts(square)


def test_the_rate_stands_below_only_where_there_is_one():
    assert "rate" not in texts(schematic.flow(Xception())[0])
    assert "rate" in texts(schematic.flow(Xception(output_stride=8))[0])


def test_encoder_and_decoder_have_the_convolutions_of_the_network():
    network = deeplab(5, channels=20, low_channels=6, refine=3)
    _, drawn = schematic.encoder_decoder(network)
    assert unfolded(drawn.values()) == [
        *counted(network.aspp),
        *counted(network.decoder.reduce),
        *counted(network.decoder.refine),
        *counted(network.classify),
    ]
    assert drawn["join"] == [(f"concat,\n{network.aspp.project.conv.weight.shape[1]}", "neither")]
    assert drawn["F3"] == [(f"concat,\n{network.decoder.refine[0].depthwise.weight.shape[0]}", "neither")]
    assert drawn["backbone"] == [("AlignedXception\noutput stride 16\n128 channels", "module")]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_both_upsamplings_together_undo_the_output_stride(output_stride):
    _, drawn = schematic.encoder_decoder(deeplab(output_stride=output_stride))
    first, second = (int(drawn[place][0][0].removeprefix("upsample\nx ")) for place in ("F1", "upsample"))
    network, image = deeplab(output_stride=output_stride), torch.zeros(1, 3, 65, 65)
    low, high = network.backbone.eval()(image)
    assert (low.shape[2] - 1) // (high.shape[2] - 1) == first
    assert first * second == output_stride


@pytest.mark.parametrize(
    "change",
    [{"refine": 1}, {"separable": False}, {"rates": (1, 2)}, {"low_channels": 32}, {"channels": 64}, {"num_classes": 3},
     {"output_stride": 8}, {"width": 1 / 8}],
)  # fmt: skip
def test_every_option_of_the_network_shows(change):
    assert schematic.encoder_decoder(deeplab(**change))[1] != schematic.encoder_decoder(deeplab())[1]


def test_skip_connections_join_maps_of_one_stride():
    figure, rows = schematic.structures()
    (axes,) = figure.axes
    bars = {patch.get_x() + patch.get_width() / 2: patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)}
    ends = [patch._path_original.vertices[:, 0].tolist() for patch in arrows(axes)]
    joined = [[min(bars, key=lambda x, end=end: abs(x - end)) for end in pair] for pair in ends]
    assert len(joined) == 5
    assert all(bars[one] == pytest.approx(bars[other]) and one != other for one, other in joined)
    assert [text for text in texts(figure) if text in rows] == [*rows]
    assert [text for text in texts(figure) if text not in rows] == [str(part) for row in rows.values() for part in row]


def test_structures_of_one_s_own_are_drawn_with_their_skip_connections():
    ladder = {"climbs": (1, 2, 4, 2, 1), "jumps": (1, 2, "pool", 1)}
    figure, rows = schematic.structures(ladder, skips={"climbs": (2, 1)})
    assert rows == ladder
    assert len(arrows(figure.axes[0])) == 2
    assert "pool" in texts(figure)
    assert len(arrows(schematic.structures(ladder, skips={})[0].axes[0])) == 0


@pytest.mark.parametrize(("title", "stride", "count"), [("climbs", 4, 1), ("jumps", 8, 0)])
def test_a_skip_connection_needs_two_maps_of_its_stride(title, stride, count):
    ladder = {"climbs": (1, 2, 4, 2, 1), "jumps": (1, 2, 1)}
    with pytest.raises(ValueError, match=f"'{title}' has {count} of stride {stride}"):
        schematic.structures(ladder, skips={title: (stride,)})


@pytest.mark.parametrize(("kernel_size", "rate"), [(3, 1), (3, 2), (5, 2), (3, 18)])
@pytest.mark.parametrize("layer", [SeparableConv2d, SeparableConvBN])
def test_taps_stand_where_the_weights_are(layer, kernel_size, rate):
    module = layer(8, 16, kernel_size, dilation=rate)
    figure, drawn = schematic.taps(module)
    depthwise, pointwise, *atrous = drawn.values()
    assert depthwise == torch.ones_like(module.depthwise.weight[0, 0]).int().tolist()
    assert pointwise == [[1]]
    holes = kernel_with_holes(module.depthwise.weight.abs() + 1, rate)[0, 0] > 0
    assert atrous == ([holes.int().tolist()] if rate > 1 else [])
    squares = [patch for patch in figure.axes[0].patches if patch.get_facecolor() == to_rgba(plot.SPACE)]
    assert all(patch.get_linewidth() < 1 for patch in squares) == (rate == 18 or kernel_size == 5)  # or edges hide small taps
    assert len(squares) == 3 * kernel_size**2 * (2 if rate > 1 else 1)  # in three channels


def test_no_more_channels_are_drawn_than_there_are():
    planes = [
        sum(patch.get_facecolor() == to_rgba("white") for patch in schematic.taps(SeparableConv2d(count, 4))[0].axes[0].patches)
        for count in (1, 2, 3, 64)
    ]
    assert planes == [2, 4, 6, 6]


def arrows(axes):
    return [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def on_an_edge(point, box):
    x, y = point[0] - box.get_x(), point[1] - box.get_y()
    inside = -1e-6 < x < box.get_width() + 1e-6 and -1e-6 < y < box.get_height() + 1e-6
    return inside and min(abs(x), abs(x - box.get_width()), abs(y), abs(y - box.get_height())) < 1e-6


@pytest.mark.parametrize("name", [name for name in BOXED if name != "ExtremeInception"])
def test_every_arrow_goes_from_box_to_box(name):
    figure, _ = DRAWN[name]()
    (axes,) = figure.axes
    drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    assert arrows(axes)
    for patch in arrows(axes):
        for point in patch._path_original.vertices[[0, -1]]:
            assert any(on_an_edge(point, box) for box in drawn), point


@pytest.mark.parametrize("name", BOXED)
def test_an_arrow_leads_to_every_box_but_the_first_and_from_every_box_but_the_last(name):
    figure, _ = DRAWN[name]()
    (axes,) = figure.axes
    drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    ends = [patch._path_original.vertices[[0, -1]] for patch in arrows(axes)]
    groups = touching(drawn)
    reached = [any(on_an_edge(end, box) for _, end in ends for box in group) for group in groups]
    left = [any(on_an_edge(start, box) for start, _ in ends for box in group) for group in groups]
    assert (reached.count(False), left.count(False)) == (1, 1)


def touching(drawn):
    """Boxes side by side without a gap are one."""
    groups = []
    for box in drawn:
        last = groups[-1][-1] if groups else None
        joins = last and abs(last.get_x() + last.get_width() - box.get_x()) < 1e-6 and abs(last.get_y() - box.get_y()) < 1e-6
        groups = [*groups[:-1], [*groups[-1], box]] if joins else [*groups, [box]]
    return groups


def test_the_maps_of_the_article_meet_where_they_are_joined():
    figure, _ = schematic.encoder_decoder(deeplab())
    (axes,) = figure.axes
    labels = {text.get_text().partition("\n")[0]: text.get_position() for text in axes.texts}
    joined = next(patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill() and holds(patch, axes))
    ends = [end for patch in arrows(axes) if on_an_edge(end := patch._path_original.vertices[-1], joined)]
    assert len(ends) == 2  # F1 from above, F2 from the left
    assert {"F1", "F2", "F2'", "F3"} <= set(labels)


def holds(patch, axes, text="concat,\n304"):
    label = next(label for label in axes.texts if label.get_text() == text)
    x, y = label.get_position()
    return patch.get_x() < x < patch.get_x() + patch.get_width() and patch.get_y() < y < patch.get_y() + patch.get_height()


def test_an_arrow_beside_its_box_would_be_noticed():
    figure, _ = DRAWN["SimplifiedInception"]()
    (axes,) = figure.axes
    box = next(patch for patch in axes.patches if isinstance(patch, Rectangle))
    corner, (width, height) = box.get_xy(), (box.get_width(), box.get_height())
    assert on_an_edge((corner[0] + width / 3, corner[1] + height), box)
    assert not on_an_edge((corner[0] + width / 3, corner[1] + height + 0.01), box)
    assert not on_an_edge((corner[0] + width / 3, corner[1] + height / 2), box)
    assert not on_an_edge((corner[0] + width + 0.01, corner[1] + height), box)


def crowded(figure):
    """Texts that leave the figure, and pairs that touch."""
    shown = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    shown += [text for legend in figure.legends for text in legend.get_texts()]
    figure.draw_without_rendering()
    places = [(text.get_text(), text.get_window_extent()) for text in shown]
    edge = figure.bbox
    out = [text for text, box in places if box.x0 < edge.x0 or box.x1 > edge.x1 or box.y0 < edge.y0 or box.y1 > edge.y1]
    return out + [(one[0], other[0]) for one, other in combinations(places, 2) if one[1].overlaps(other[1])]


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_touches_another_or_leaves_the_figure(name):
    figure, _ = DRAWN[name]()
    assert figure.get_size_inches()[0] <= 11  # where a notebook and a projector begin to shrink it
    assert crowded(figure) == []


def test_texts_that_touch_would_be_noticed():
    figure, _ = DRAWN["SimplifiedInception"]()
    figure.axes[0].text(0, 0, "over the first tower")
    assert [pair for pair in crowded(figure) if "over the first tower" in pair]
    figure, _ = boxes.draw({1: boxes.Node([("far too long for its box and for the figure", "map")], 0, 0, 1)}, [])
    assert crowded(figure)


@pytest.mark.parametrize("name", BOXED)
def test_every_label_fits_its_box(name):
    figure, data = DRAWN[name]()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    columns = data.values() if isinstance(data, dict) else data
    labels = [text.replace("\n", " ") for column in columns for text, kind in column if kind]
    for text in axes.texts:
        if text.get_text().replace("\n", " ") in labels:
            extent = text.get_window_extent()
            assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 + 2 and extent.y1 <= box.y1 + 2
                       for box in drawn), text.get_text()  # fmt: skip


@pytest.mark.parametrize("name", BOXED)
def test_what_is_returned_is_what_is_written(name):
    figure, data = DRAWN[name]()
    columns = data.values() if isinstance(data, dict) else data
    labels = [text.replace("\n", " ") for column in columns for text, _ in column]
    written = [text.replace("\n", " ") for text in texts(figure)]
    names = {"encoder", "decoder", "F1", "F2", "F2'", "F3"}
    assert sorted(labels) == sorted(text for text in written if text not in names)


@pytest.mark.parametrize("name", BOXED)
def test_a_box_has_the_color_of_its_kind_and_the_legend_every_kind_that_occurs(name):
    figure, data = DRAWN[name]()
    kinds = [kind for column in (data.values() if isinstance(data, dict) else data) for _, kind in column if kind]
    filled = [patch.get_facecolor() for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_fill()]
    assert sorted(filled) == sorted(to_rgba(boxes.FILLS[kind]) for kind in kinds)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [says for kind, says in boxes.SAYS.items() if kind in kinds]


def test_colors_mean_what_they_mean_in_the_plots():
    assert {kind: boxes.FILLS[kind] for kind in plot.COLORS} == plot.COLORS
    assert not set(plot.COLORS.values()) & {boxes.FILLS["map"], boxes.FILLS["module"]}


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: schematic.towers(nn.Conv2d(3, 4, 1)), TypeError, "a module of blocks.inception .*, or ASPP; got Conv2d"),
        (lambda: schematic.towers("ASPP"), TypeError, "got str"),
        (lambda: schematic.towers(Inception8(1280)), ValueError, "towers inside towers .* draw the inner ones by themselves"),
        (lambda: schematic.flow("Xception"), TypeError, "network must be of type Module, got str"),
        (lambda: schematic.flow(Xception(), "report"), TypeError, "report must be of type Report, got str"),
        (lambda: schematic.flow(nn.Linear(3, 4)), ValueError, "Linear lists no modules in an nn.Sequential"),
        (lambda: schematic.flow(deeplab()), ValueError, r"backbone \(AlignedXception\) is no nn.Sequential"),
        (lambda: schematic.flow(InceptionV3()), ValueError, "towers inside towers|no nn.Sequential"),
        (lambda: schematic.flow(nn.Sequential(nn.Sequential(nn.Linear(3, 4)))), ValueError, "no box for Linear"),
        (lambda: schematic.flow(nn.Sequential(nn.Sequential(nn.Upsample(9)))), ValueError, "no box for Upsample"),
        (
            lambda: schematic.flow(Xception(), profile(xception41(width=1 / 16), (1, 3, 65, 65))),
            ValueError, "report of AlignedXception has no row entry_flow.3: profile the network that is drawn",
        ),
        (lambda: schematic.encoder_decoder(DeepLabV3(xception41(width=1 / 16), 2)), TypeError, "decoder .*; got DeepLabV3"),
        (lambda: schematic.taps(nn.Conv2d(3, 4, 3)), TypeError, "a SeparableConv2d or a SeparableConvBN, got Conv2d"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_a_sentence(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


def test_a_kernel_that_is_not_square_a_pool_and_a_group_are_named():
    module = nn.Sequential(nn.Conv2d(4, 6, (1, 7), groups=2), nn.MaxPool2d((3, 2), 2), nn.AvgPool2d(3, 1))
    drawn = [("1 x 7, 6, 2 segments", "both"), ("max 3 x 2, stride 2", "neither"), ("mean 3 x 3", "neither")]
    assert layers.layers(module) == drawn


def test_drawing_leaves_the_module_and_matplotlib_alone():
    module = SimplifiedInception(8, 12)
    before = [*module.named_modules()], {name: weight.clone() for name, weight in module.state_dict().items()}
    schematic.towers(module)
    assert [*module.named_modules()] == before[0]
    assert all(torch.equal(weight, before[1][name]) for name, weight in module.state_dict().items())
    assert not [file for file in (schematic, boxes, layers) if "pyplot" in inspect.getsource(file)]
