"""The papers' drawings, made from the modules themselves: kernels, channels, strides and rates are read off the layers.

Each function returns the figure and what stands in it, in the order of the figure, and says where it deviates from the
paper's drawing. `minideeplab.course.boxes` says what the colors mean.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.atrous import kernel_with_holes
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import ExtremeInception, SegmentedInception, SimplifiedInception
from minideeplab.blocks.inception import Towers
from minideeplab.blocks.separable import SeparableConv2d, SeparableConvBN
from minideeplab.checks import require_kind
from minideeplab.cost.report import Report
from minideeplab.course.boxes import FILLS, Node, arrow, draw, sheet, width, wrapped
from minideeplab.course.layers import Box, Stage, channels, layers, stages
from minideeplab.course.plot import COLORS, FONT, INK, Point

MOST = 6  # equal towers side by side; of more, the first three and the last are drawn
STEP, GAP, STRIPE = 0.74, 0.3, 0.1  # inches: from a box to the one above it, between boxes side by side, a layer in a line
STRUCTURES: Mapping[str, Sequence[int | str]] = {  # strides of the maps, and what stands between them
    "(a) pyramid pooling": (1, 2, 4, 8, "pyramid", 1),
    "(b) encoder-decoder": (1, 2, 4, 8, 16, 32, 16, 8, 4, 2, 1),
    "(c) encoder-decoder, atrous": (1, 2, 4, 8, 16, "atrous", "pyramid", 4, 1),
}
SKIPS: Mapping[str, Sequence[int]] = {"(b) encoder-decoder": (2, 4, 8, 16), "(c) encoder-decoder, atrous": (4,)}


def towers(module: nn.Module) -> tuple[Figure, list[list[Box]]]:
    """What stands side by side on one map, from bottom to top: Chollet 2017, figs. 1 to 4, and ASPP (Chen 2017, fig. 5).

    Takes the modules of `blocks.inception` and `blocks.extreme`, and `ASPP`. Also returns the columns: what all share, each
    tower, what joins them. Against the papers: what is shared or joined is one wide box; fig. 1 draws a 3 x 3 behind the
    pool and no 5 x 5, where `Inception35` follows the released code; of more than six equal towers four are drawn.
    """
    shared: list[Box] = [(f"{getattr(module, 'in_channels', 0)} channels", "map")]
    if isinstance(module, Towers | ASPP):
        branches = module.towers if isinstance(module, Towers) else module.branches
        sides, total = [layers(branch) for branch in branches], sum(channels(b, module.in_channels) for b in branches)
    elif isinstance(module, SimplifiedInception):
        sides = [layers(mix) + layers(look) for mix, look in zip(module.mixes, module.looks, strict=True)]
        total = sum(channels(look, 0) for look in module.looks)
    elif isinstance(module, SegmentedInception | ExtremeInception):
        mix, look = (child for child in module.children() if isinstance(child, nn.Conv2d))
        each, total = look.out_channels // look.groups, look.out_channels
        segment = (f"{look.kernel_size[0]} x {look.kernel_size[1]}, {each}", "space" if each == 1 else "both")
        shared, sides = shared + layers(mix), [[segment]] * look.groups
    else:
        raise TypeError(f"towers draws a module of blocks.inception or blocks.extreme, or ASPP; got {type(module).__name__}")
    if len(sides) > MOST and all(side == sides[0] for side in sides):
        sides = [*sides[:3], [(f"{len(sides) - 4} more", "")], sides[-1]]
    joined = [(f"concat, {total}", "neither"), *(layers(module.project) if isinstance(module, ASPP) else [])]
    columns, nodes, x = [shared, *sides, joined], dict[Hashable, Node](), 0.0
    for number, side in enumerate(sides, 1):
        wide = max(1.8 / len(sides), *(width(wrapped(text)) for text, _ in side))
        nodes |= {(number, row): Node([box], x + wide / 2, row * STEP, wide) for row, box in enumerate(side)}
        x += wide + GAP
    for number, column, bottom in ((0, shared, -len(shared)), (len(sides) + 1, joined, max(map(len, sides)))):
        for row, box in enumerate(column):
            nodes[number, row] = Node([box], (x - GAP) / 2, (bottom + row) * STEP, x - GAP)
    paths = [[(number, row) for row in range(len(column))] for number, column in enumerate(columns)]
    arrows = [pair for path in paths[1:-1] for pair in pairwise([*paths[0], *path, *paths[-1]])]
    return draw(nodes, dict.fromkeys(arrows))[0], columns


def flow(network: nn.Module, report: Report | None = None) -> tuple[Figure, list[Stage]]:
    """The modules of a network in a line, as it lists them: Xception (Chollet 2017, fig. 5; Chen 2018, fig. 4).

    A stripe is a layer, a bow is a shortcut; equal modules that follow each other are drawn once. Takes a network whose
    modules stand in `nn.Sequential` or `nn.ModuleList` and run in that order: `Xception`, `xception65`, `mobilenet_v2`,
    `resnet101`. With `profile(network, shape)` the sizes of the maps stand below. Also returns the modules. Against fig. 5:
    one line for its three columns, no ReLU, and nothing behind the last listing (mean, classifier).
    """
    require_kind(nn.Module, network=network)
    if report is not None:
        require_kind(Report, report=report)
    if not (line := stages(network, report)):
        raise ValueError(f"{type(network).__name__} lists no modules in an nn.Sequential: nothing to draw in a line")
    rows = {"channels": [f"{stage.channels}" for stage in line], "stride": [f"{stage.stride}" for stage in line]}
    if any(stage.rate > 1 for stage in line):
        rows["rate"] = [f"{stage.rate}" for stage in line]
    if report:
        shown = 1 if all(len(set(stage.size)) == 1 for stage in line) else 2  # of square maps one side
        rows["pixels"] = ["\n".join(map(str, stage.size[:shown])) for stage in line]
    nodes, x, ends = dict[Hashable, Node]({"image": Node([("image", "")], 0.1, 0, 0.7)}), 0.85, dict[str, list[float]]()
    for number, stage in enumerate(line):
        body = max(STRIPE * len(stage.kinds), 0.085 * len(str(stage.channels)))
        nodes[number] = Node([("", kind) for kind in stage.kinds], x + body / 2, 0, STRIPE * len(stage.kinds), 0.64)
        ends.setdefault(stage.flow, []).extend((x - 0.06, x + body + 0.06))
        x += body + 0.36
    floor = -0.42 - 0.2 * (len(rows) + any("\n" in text for text in rows.get("pixels", [])))
    figure, axes = draw(nodes, pairwise(nodes), below=0.1 - floor, above=0.72)
    for number, stage in enumerate(line):
        middle, half, color = nodes[number].x, nodes[number].width / 2, COLORS["channel"] if stage.shortcut == "1 x 1" else INK
        if stage.shortcut:
            left, right = middle - half - 0.2, middle + half + 0.1
            arrow(axes, (left, 0), (left, 0.52), (right, 0.52), (right, 0), color=color)
            axes.text(middle, 0.56, stage.shortcut, ha="center", fontsize=FONT - 2, color=color)
        if stage.times > 1:
            axes.text(middle, 0.78 if stage.shortcut else 0.37, f"x {stage.times}", ha="center", fontsize=FONT, weight="bold")
        for row, texts in enumerate(rows.values()):
            axes.text(middle, -0.37 - 0.2 * row, texts[number], ha="center", va="top", fontsize=FONT - 1)
    for row, title in enumerate(rows):
        axes.text(-0.2, -0.37 - 0.2 * row, title, va="top", fontsize=FONT - 1)
    for name, (start, *_, end) in ends.items():
        axes.plot([start, end], [floor, floor], color=INK, linewidth=1)
        axes.text((start + end) / 2, floor - 0.04, name.replace("_", "\n"), ha="center", va="top", fontsize=FONT - 1)
    return figure, line


def encoder_decoder(network: nn.Module) -> tuple[Figure, dict[str, list[Box]]]:
    """DeepLabV3+ (Chen 2018, fig. 2): what the encoder knows, upsampled, beside where the low-level map has it.

    Takes a network with `backbone`, `aspp`, `decoder` and `classify`, as `DeepLabV3Plus` has. Also returns the boxes by
    place; F1, F2', F2 and F3 are the article's names. Against the figure: the classifier has a box of its own, and so has
    each 3 x 3; a separable convolution shows both halves; the backbone is one box.
    """
    parts: list[Any] = [getattr(network, name, None) for name in ("backbone", "aspp", "decoder", "classify")]
    if not all(map(isinstance, parts, (nn.Module, ASPP, Decoder, nn.Conv2d))):
        raise TypeError(f"a DeepLabV3Plus has backbone, aspp, decoder and classify; got {type(network).__name__}")
    backbone, aspp, decoder, classify = parts
    branches = {f"branch {number}": layers(branch) for number, branch in enumerate(aspp.branches, 1)}
    refine = {f"refine {number}": layers(layer) for number, layer in enumerate(decoder.refine, 1)}
    views, joined = sum(channels(branch, 0) for branch in aspp.branches), decoder.in_high + channels(decoder.reduce, 0)
    about = f"{type(backbone).__name__}\noutput stride {backbone.output_stride}\n{backbone.high_channels} channels"
    across, inside = (max(sum(width(text) for text, _ in boxes) for boxes in rows.values()) for rows in (branches, refine))
    wide, tall, last = max(1.4, width(about) - 0.25), max(0.36 * len(branches), 0.9), -0.5 * (len(refine) - 1)
    high, start, join, end = 1.6 + tall / 2, wide + 0.3, wide + across + 0.6, wide + inside + 1.5  # branches to refine
    nodes: dict[Hashable, Node] = {
        "image": Node([("image", "map")], -0.7, high, 0.7),
        "backbone": Node([(about, "module")], wide / 2, high, wide, tall),
        **{name: Node(boxes, start + across / 2, high + tall / 2 - 0.18 - 0.36 * number, across, 0.3)
           for number, (name, boxes) in enumerate(branches.items())},
        "join": Node([(f"concat,\n{views}", "neither")], join + 0.4, high, 0.8, tall),
        "project": Node(layers(aspp.project), join + 1.65, high, 1.1),
        "F1": Node([(f"upsample\nx {backbone.output_stride // 4}", "neither")], start + 0.45, 0.85, 0.95),
        "F2": Node(layers(decoder.reduce), wide / 2, 0, 0.95),
        "F3": Node([(f"concat,\n{joined}", "neither")], start + 0.45, 0, 0.8),
        **{name: Node(boxes, start + 1.2 + inside / 2, -0.5 * number, inside, 0.3)
           for number, (name, boxes) in enumerate(refine.items())},
        "classify": Node(layers(classify), end + 0.8, last, 1.0),
        "upsample": Node([("upsample\nx 4", "neither")], end + 2.05, last, 0.95),
        "logits": Node([("logits", "map")], end + 3.15, last, 0.7),
    }
    arrows = [pair for branch in branches for pair in pairwise(["image", "backbone", branch, "join", "project", "F1", "F3"])]
    arrows += pairwise(["backbone", "F2", "F3", *refine, "classify", "upsample", "logits"])
    figure, axes = draw(nodes, dict.fromkeys(arrows), below=0.25, above=0.4)
    right = max(join + 2.2, end + 3.5)
    for bottom, top, what in ((last - 0.4, 1.32, "decoder"), (1.42, high + tall / 2 + 0.35, "encoder")):
        axes.add_patch(Rectangle((-0.2, bottom), right + 0.3, top - bottom, fill=False, edgecolor=INK, linestyle="--"))
        axes.text(right, top - 0.07, what, ha="right", va="top", fontsize=FONT, weight="bold")
    for text, x, y in (("F2'", wide / 2, 0.4), ("F1", start + 0.45, 0.4), ("F2", start - 0.37, 0.1), ("F3", start + 0.85, 0.1)):
        axes.text(x + 0.07, y, text, fontsize=FONT - 1, weight="bold")
    return figure, {str(name): node.boxes for name, node in nodes.items()}


def structures(
    rows: Mapping[str, Sequence[int | str]] = STRUCTURES, *, skips: Mapping[str, Sequence[int]] = SKIPS,
) -> tuple[Figure, Mapping[str, Sequence[int | str]]]:
    """Ways back to the image's size, by default the three of Chen 2018, fig. 1. Also returns the strides of the maps.

    There is no module behind this picture: it draws a plain description, strides of maps and words for what stands between
    them. A map is a bar, lower by the same step for each halving; an arrow is a skip connection between the two maps of a
    stride in `skips`. Against fig. 1: strides stand below where it writes factors between the maps (8x in a), and the encoder
    of (c) ends at 16.
    """
    nodes, x, tall = dict[Hashable, Node](), 0.0, 0.0
    for title, row in rows.items():
        first = x
        for number, part in enumerate(row):
            tall = 1.9 - 0.27 * log2(part) if isinstance(part, int) else tall  # a string leaves the map's size
            nodes[title, number] = Node([("", "map" if isinstance(part, int) else "module")], x, tall / 2, 0.16, tall)
            x += 0.3
        x = max(x + 0.35, first + width(title))
    figure, axes = draw(nodes, [], below=0.4, above=0.4)
    for title, row in rows.items():
        axes.text(nodes[title, 0].x - 0.08, 2.1, title, fontsize=FONT)
        for number, part in enumerate(row):
            place, turned = (nodes[title, number].x, -0.07), 90 if isinstance(part, str) else 0
            axes.text(*place, str(part), ha="center", va="top", fontsize=FONT - 1, rotation=turned)
        for stride in skips.get(title, ()):
            ends = [nodes[title, number] for number, part in enumerate(row) if part == stride]
            if len(ends) != 2:
                raise ValueError(f"a skip connection joins two maps of a stride, {title!r} has {len(ends)} of stride {stride}")
            arrow(axes, (ends[0].x + 0.08, 0.9 * ends[0].height), (ends[1].x - 0.08, 0.9 * ends[1].height))
    return figure, dict(rows)


def taps(separable: nn.Module) -> tuple[Figure, dict[str, list[list[int]]]]:
    """Where the halves of a separable convolution read (Chen 2018, fig. 3): depthwise, pointwise, and at its rate.

    Takes `SeparableConv2d` or `SeparableConvBN`. Also returns each kernel, 1 where it has a weight; without a rate above 1
    there is no third. Against the figure: at most three channels are drawn, one above the other.
    """
    if not isinstance(separable, SeparableConv2d | SeparableConvBN):
        raise TypeError(f"taps draws a SeparableConv2d or a SeparableConvBN, got {type(separable).__name__}")
    depthwise, pointwise = separable.depthwise, separable.pointwise
    inputs, rate, shown = depthwise.in_channels, depthwise.dilation[0], min(3, depthwise.in_channels)
    ones, one = torch.ones(1, 1, *depthwise.kernel_size), torch.ones(pointwise.kernel_size)
    weights = " x ".join(map(str, depthwise.kernel_size))
    drawn = {
        f"depthwise: {weights} weights for each of {inputs} channels": ("space", ones[0, 0]),
        f"pointwise: {inputs} weights for each of {pointwise.out_channels} outputs": ("channel", one),
    }
    if rate > 1:
        drawn[f"atrous depthwise: the same {weights} weights, rate {rate}"] = ("space", kernel_with_holes(ones, rate)[0, 0])
    across, wide, tall = max(5, *(len(plane) for _, plane in drawn.values())) + 2, 3.3, 0.8 * shown
    figure, axes = sheet((0, wide * len(drawn)), (0, tall + 0.6), [kind for kind, _ in drawn.values()])
    for number, (title, (kind, plane)) in enumerate(drawn.items()):
        left, margin = wide * number + 0.35, (across - len(plane)) // 2
        axes.text(left + 1.3, tall + 0.3, title.replace(": ", "\n"), ha="center", va="center", fontsize=FONT)
        cells = [(0, 0, across, "map"), *((u + margin, v + margin, 1, kind) for u, v in plane.nonzero().tolist())]
        for place in range(shown):
            _leaning(axes, (left, 0.8 * place + 0.1), cells, across)
        if kind == "channel":  # an output reads all channels at one place
            axes.plot([left + 1.3, left + 1.3], [0, tall], color=COLORS[kind], linewidth=2)
    return figure, {title: plane.int().tolist() for title, (_, plane) in drawn.items()}


def _leaning(axes: Axes, corner: Point, cells: Sequence[tuple[int, int, int, str]], across: int) -> None:
    """Squares (row, column, size, kind) on a plane of so many cells a side: 2 inches wide, 0.6 high, leaning to the right."""
    for u, v, size, kind in cells:
        rows, columns = [1 - row / across for row in (u, u, u + size, u + size)], (v, v + size, v + size, v)
        edge = [(corner[0] + 2 * x / across + 0.6 * y, corner[1] + 0.6 * y) for x, y in zip(columns, rows, strict=True)]
        axes.add_patch(Polygon(edge, facecolor=FILLS[kind], edgecolor=INK, linewidth=1 if size > 1 else min(1, 8 / across)))
