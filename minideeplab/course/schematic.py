"""Modules as boxes and arrows, drawn from the module itself: kernels, channels and rates are read off its layers.

Blue looks at space, vermilion mixes channels, purple does both at once, gray does neither; a map is white. Batch norm, ReLU
and dropout have no box, as in most figures of the papers. Each function returns the figure and what stands in it, in order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from math import log2
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path
from torch import nn

from minideeplab.blocks.aspp import ASPP, ImagePooling
from minideeplab.blocks.atrous import kernel_with_holes
from minideeplab.blocks.convolution import SameMaxPool2d
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import ExtremeInception, SegmentedInception, SimplifiedInception
from minideeplab.blocks.inception import Towers
from minideeplab.blocks.separable import SeparableConv2d, SeparableConvBN
from minideeplab.checks import require_kind
from minideeplab.cost.report import Report
from minideeplab.course.plot import COLORS, FONT, INK

Box = tuple[str, str]  # what is written in it, and its kind
Column = list[Box]
SAYS = {"space": "looks at space", "channel": "mixes channels", "both": "both at once", "neither": "neither"}
FILLS = COLORS | {"map": "white", "network": "#EDEDED"}
MOST = 6  # equal towers side by side; of more, the first three and the last are drawn
LETTER, TALL, STEP, GAP, STRIPE = 0.095, 0.44, 0.74, 0.3, 0.1  # inches: a letter, a box, the one above, the gap beside, a layer


def towers(module: nn.Module) -> tuple[Figure, list[Column]]:
    """What stands side by side on one map, from bottom to top: Chollet 2017, figs. 1 to 4, and ASPP (Chen 2017, fig. 5).

    Takes the modules of `blocks.inception`, `blocks.extreme` and `blocks.aspp`. Also returns the columns: what all share,
    each tower, what joins them. A box names its kernel and its output channels; a depthwise one keeps its channels. Against
    the papers: the shared map is one wide box; fig. 1 draws a 3 x 3 behind the pool and no 5 x 5, where `Inception35` follows
    the released code; of more than six equal towers four are drawn.
    """
    shared: Column = [(f"{getattr(module, 'in_channels', 0)} channels", "map")]
    joined: Column = []
    if isinstance(module, Towers | ASPP):
        branches = list(module.towers if isinstance(module, Towers) else module.branches)
        sides, total = [_layers(branch) for branch in branches], sum(_channels(b, module.in_channels) for b in branches)
        joined = _layers(module.project) if isinstance(module, ASPP) else []
    elif isinstance(module, SimplifiedInception):
        sides = [_layers(mix) + _layers(look) for mix, look in zip(module.mixes, module.looks, strict=True)]
        total = sum(_channels(look, 0) for look in module.looks)
    elif isinstance(module, SegmentedInception | ExtremeInception):
        mix, look = (child for child in module.children() if isinstance(child, nn.Conv2d))
        each, total = look.out_channels // look.groups, look.out_channels
        size = f"{look.kernel_size[0]} x {look.kernel_size[1]}, {each}"
        shared, sides = shared + _layers(mix), [[(size, "space" if each == 1 else "both")] for _ in range(look.groups)]
    else:
        raise TypeError(f"towers draws an Inception module, fig. 2, 3 or 4 of Chollet, or ASPP; got {type(module).__name__}")
    if len(sides) > MOST and all(side == sides[0] for side in sides):
        sides = [*sides[:3], [(f"{len(sides) - 4} more", "")], sides[-1]]
    joined = [(f"concat, {total}", "neither"), *joined]
    rows, widths = max(map(len, sides)), [max(_width(_wrapped(text)) for text, _ in side) for side in sides]
    width = sum(widths) + GAP * (len(sides) - 1)
    total_width, height = max(width + 0.6, 6.6), (len(shared) + rows + len(joined)) * STEP + 0.35
    figure, axes = _sheet(total_width, height, [shared, *sides, joined])
    x, y = (total_width - width) / 2, 0.6
    _climb(axes, total_width / 2, y, shared, width)
    for side, wide in zip(sides, widths, strict=True):
        foot, end = y + (len(shared) - 1) * STEP, y + (len(shared) + rows) * STEP
        _climb(axes, x + wide / 2, y + len(shared) * STEP, side, wide, foot=foot, end=end)
        x += wide + GAP
    _climb(axes, total_width / 2, end, joined, width)
    return figure, [shared, *sides, joined]


class Stage(NamedTuple):
    """A module of a line: its listing, the kinds of its layers, and what is written beside it."""

    flow: str
    kinds: tuple[str, ...]
    channels: int
    times: int  # how many equal ones follow each other
    shortcut: str  # "1 x 1", "identity" or ""
    stride: int  # the largest of its layers, like the rate
    rate: int
    size: tuple[int, ...]  # (H, W) of its map, () without a report


def flow(network: nn.Module, report: Report | None = None) -> tuple[Figure, list[Stage]]:
    """The modules of a network in a line, as it lists them: Xception (Chollet 2017, fig. 5; Chen 2018, fig. 4).

    A stripe is a layer, a bow is a shortcut; equal modules that follow each other are drawn once. Takes a network whose
    modules stand in `nn.Sequential` or `nn.ModuleList` and run in that order: `Xception`, `xception65`, `mobilenet_v2`,
    `resnet101`. With `profile(network, shape)` the sizes of the maps stand below. Also returns the modules. Against the
    papers: one line where fig. 5 has three columns, no ReLU, and nothing behind the last listing (mean, classifier).
    """
    require_kind(nn.Module, network=network)
    require_kind(Report, **{"report": report} if report is not None else {})
    stages = [stage for name, group in network.named_children() for stage in _stages(name, group, report)]
    if not stages:
        raise ValueError(f"{type(network).__name__} lists no modules in an nn.Sequential: nothing to draw in a line")
    rows = {"channels": [f"{stage.channels}" for stage in stages], "stride": [f"{stage.stride}" for stage in stages]}
    if any(stage.rate > 1 for stage in stages):
        rows["rate"] = [f"{stage.rate}" for stage in stages]
    if report:
        rows["pixels"] = ["\n".join(map(str, stage.size[: len(set(stage.size))])) for stage in stages]
    low = 1.05 + 0.2 * (len(rows) + any("\n" in text for text in rows.get("pixels", [])))
    bodies = [max(STRIPE * len(stage.kinds), LETTER * len(str(stage.channels)) - 0.1) for stage in stages]
    columns = [[("", kind) for kind in stage.kinds] for stage in stages]
    figure, axes = _sheet(1.4 + sum(bodies) + 0.36 * len(bodies), low + 1.45, columns)
    x, line, top, before, ends = 1.2, low + 0.32, low + 0.64, 0.75, dict[str, list[float]]()
    for number, (stage, body) in enumerate(zip(stages, bodies, strict=True)):
        middle, half = x + body / 2, STRIPE * len(stage.kinds) / 2
        _arrow(axes, (before, line), (middle - half, line))
        for i, kind in enumerate(stage.kinds):
            axes.add_patch(Rectangle((middle - half + i * STRIPE, low), STRIPE, 0.64, fc=FILLS[kind], ec=INK, lw=0.8))
        color, above = COLORS["channel"] if stage.shortcut == "1 x 1" else INK, top + (0.46 if stage.shortcut else 0.05)
        if stage.shortcut:
            left, right = middle - half - 0.2, middle + half + 0.1
            _arrow(axes, (left, line), (left, top + 0.2), (right, top + 0.2), (right, line), color=color)
        axes.text(middle, top + 0.24, stage.shortcut, ha="center", fontsize=FONT - 2, color=color)
        axes.text(middle, above, f"x {stage.times}" if stage.times > 1 else "", ha="center", fontsize=FONT, weight="bold")
        for row, texts in enumerate(rows.values()):
            axes.text(middle, low - 0.05 - 0.2 * row, texts[number], ha="center", va="top", fontsize=FONT - 1)
        ends[stage.flow] = [*ends.get(stage.flow, []), x - 0.06, x + body + 0.06]
        before, x = middle + half, x + body + 0.36
    for name, (start, *_, end) in ends.items():
        axes.plot([start, end], [0.84, 0.84], color=INK, linewidth=1)
        axes.text((start + end) / 2, 0.8, name.replace("_", "\n"), ha="center", va="top", fontsize=FONT - 1, linespacing=1)
    for row, title in enumerate(rows):
        axes.text(0.1, low - 0.05 - 0.2 * row, title, va="top", fontsize=FONT - 1)
    axes.text(0.1, line, "image", va="center", fontsize=FONT - 1)
    return figure, stages


def _stages(name: str, group: nn.Module, report: Report | None) -> Iterator[Stage]:
    """The modules of one listing, equal neighbors together."""
    if type(group) not in (nn.Sequential, nn.ModuleList):
        if any(isinstance(module, nn.Conv2d) for module in group.modules()):
            raise ValueError(f"{name} is a {type(group).__name__}, no nn.Sequential of modules: it has no place in a line")
        return
    found, channels = list[tuple[Column, Stage]](), 0
    for path, module in _listed(name, group):
        if layers := _layers(module):
            channels, beside = _channels(module, channels), getattr(module, "shortcut", None)
            has = getattr(module, "has_shortcut", hasattr(module, "shortcut"))
            shortcut = "1 x 1" if isinstance(beside, nn.Sequential) else "identity" if has else ""
            stride, rate = _most(module, "stride"), _most(module, "dilation")
            kinds = tuple(kind for _, kind in layers)
            found.append((layers, Stage(name, kinds, channels, 1, shortcut, stride, rate, _size(path, report))))
    for (_, stage), same in groupby(found):
        yield stage._replace(times=len(list(same)))


def _most(module: nn.Module, name: str) -> int:
    values = [getattr(layer, name, 1) for layer in module.modules()]
    return max(value[0] if isinstance(value, tuple) else value for value in values)


def _listed(name: str, group: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for key, module in group.named_children():
        inner = type(module) in (nn.Sequential, nn.ModuleList)
        yield from _listed(f"{name}.{key}", module) if inner else [(f"{name}.{key}", module)]


def _size(path: str, report: Report | None) -> tuple[int, ...]:
    if report is None:
        return ()
    shapes = [row.shape for row in report.rows if f"{row.name}.".startswith(f"{path}.")]
    if not shapes:
        raise ValueError(f"the report of {report.model} has no row {path}: profile the network that is drawn")
    return shapes[-1][2:]


def encoder_decoder(network: nn.Module) -> tuple[Figure, dict[str, Column]]:
    """DeepLabV3+ (Chen 2018, fig. 2): what the encoder knows, upsampled, beside where the low-level map has it.

    Takes a network with a `backbone`, an `aspp`, a `decoder` and `classify`, as `DeepLabV3Plus` has them. Also returns
    the boxes by place. F1, F2', F2 and F3 are the article's names. Against the figure: the classifier has a box, the
    3 x 3 convolutions one each, and both halves of separable ones are drawn.
    """
    backbone, aspp, decoder = (getattr(network, name, None) for name in ("backbone", "aspp", "decoder"))
    classify = getattr(network, "classify", None)
    if not (isinstance(aspp, ASPP) and isinstance(decoder, Decoder) and isinstance(classify, nn.Conv2d) and backbone):
        need = "a network with backbone, aspp, decoder and classify, as DeepLabV3Plus has"
        raise TypeError(f"encoder_decoder draws {need}; got {type(network).__name__}")
    rates, refine = [_layers(branch) for branch in aspp.branches], [_layers(layer) for layer in decoder.refine]
    views, kept = len(rates) * _channels(aspp.project, 0), _channels(decoder.reduce, 0)
    name, factor = type(backbone).__name__, backbone.output_stride // 4
    boxes: dict[str, Column] = {
        "image": [("image", "map")],
        "backbone": [(f"{name}\noutput stride {backbone.output_stride}\n{backbone.high_channels} channels", "network")],
        **{f"ASPP {number}": branch for number, branch in enumerate(rates, 1)},
        "join": [(f"concat,\n{views}", "neither")],
        "project": _layers(aspp.project),
        "F1": [(f"upsample\nx {factor}", "neither")],
        "F2": _layers(decoder.reduce),
        "F3": [(f"concat,\n{decoder.in_high + kept}", "neither")],
        **{f"refine {number}": layers for number, layers in enumerate(refine, 1)},
        "classify": _layers(classify),
        "upsample": [("upsample\nx 4", "neither")],
        "logits": [("logits", "map")],
    }
    lower, upper = max(0.5 * len(refine), 0.5) + 0.9, max(0.36 * len(rates), 0.9) + 0.5
    figure, axes = _sheet(9.3, lower + upper + 0.75, boxes.values())
    floor, deck, high = 0.45, 0.55 + lower, 0.55 + lower + upper / 2 - 0.1
    for y, height, what in ((floor, lower, "decoder"), (deck, upper, "encoder")):
        axes.add_patch(Rectangle((1.0, y), 8.2, height, fill=False, edgecolor="#777777", linestyle="--"))
        axes.text(9.1, y + height - 0.08, what, ha="right", va="top", fontsize=FONT, weight="bold")
    tall, y = upper - 0.5, floor + 0.25 + 0.25 * len(refine)
    _box(axes, (0.45, high), boxes["image"][0], 0.7)
    _box(axes, (1.85, high), boxes["backbone"][0], 1.4, tall)
    _arrow(axes, (0.8, high), (1.15, high))
    for number, branch in enumerate(rates):
        level = high + 0.36 * ((len(rates) - 1) / 2 - number)
        _pair(axes, (2.9, level), branch, 2.4)
        _arrow(axes, (2.55, level), (2.9, level))
        _arrow(axes, (5.3, level), (5.65, level))
    _box(axes, (6.05, high), boxes["join"][0], 0.8, tall)
    _box(axes, (7.3, high), boxes["project"][0], 1.1)
    _arrow(axes, (6.45, high), (6.75, high))
    up = floor + lower - 0.4
    _box(axes, (3.0, up), boxes["F1"][0], 0.95)
    _arrow(axes, (7.3, high - 0.22), (7.3, up), (3.475, up))
    _box(axes, (1.85, y), boxes["F2"][0], 0.95)
    _arrow(axes, (1.85, high - tall / 2), (1.85, y + 0.22))
    _box(axes, (3.0, y), boxes["F3"][0], 0.8)
    _arrow(axes, (2.325, y), (2.6, y))
    _arrow(axes, (3.0, up - 0.22), (3.0, y + 0.22))
    return figure, boxes


def _pair(axes: Axes, left: tuple[float, float], column: Column, width: float) -> None:
    """The layers of a branch, one touching the next, from left to right."""
    shares = [1.4 if kind == "space" else 1.1 for _, kind in column]
    x = left[0]
    for box, share in zip(column, shares, strict=True):
        wide = width * share / sum(shares)
        _box(axes, (x + wide / 2, left[1]), box, wide, 0.3)
        x += wide


def _climb(
    axes: Axes, x: float, y: float, column: Column, width: float, *, foot: float | None = None, end: float | None = None,
) -> None:
    """Boxes one above the other and the arrows between them; also from the box at `foot`, and to the one at `end`."""
    places = [y + number * STEP for number in range(len(column))]
    for place, box in zip(places, column, strict=True):
        _box(axes, (x, place), box, width)
    stops = [place for place in (foot, *places, end) if place is not None]
    for below, above in pairwise(stops):
        _arrow(axes, (x, below + TALL / 2), (x, above - TALL / 2))


def _layers(module: nn.Module) -> Column:
    """The convolutions and pools of a module that runs them one after another, as it lists them; not its shortcut."""
    if isinstance(module, ImagePooling):
        return [("image mean", "neither"), *_layers(module.project)]
    if isinstance(module, nn.Conv2d):
        return [_convolution(module)]
    if isinstance(module, SameMaxPool2d | nn.MaxPool2d | nn.AvgPool2d):
        size = 3 if isinstance(module, SameMaxPool2d) else module.kernel_size
        name = "mean" if isinstance(module, nn.AvgPool2d) else "max"
        return [(f"{name} {size} x {size}" + (f", stride {module.stride}" if module.stride != 1 else ""), "neither")]
    if isinstance(module, Towers):
        raise ValueError("towers inside towers have no place in a line: draw the inner ones by themselves")
    children = [child for name, child in module.named_children() if name != "shortcut"]
    if not children and any(True for _ in module.parameters()) and not isinstance(module, nn.BatchNorm2d):
        raise ValueError(f"there is no box for {type(module).__name__}: convolutions and pools have one")
    return [box for child in children for box in _layers(child)]


def _convolution(conv: nn.Conv2d) -> Box:
    one, depthwise = set(conv.kernel_size) == {1}, conv.groups == conv.in_channels > 1
    text = f"{conv.kernel_size[0]} x {conv.kernel_size[1]}" + ("" if depthwise else f", {conv.out_channels}")
    text += f", stride {conv.stride[0]}" if conv.stride[0] > 1 else ""
    text += f", rate {conv.dilation[0]}" if conv.dilation[0] > 1 and not one else ""
    return text, "space" if depthwise else "channel" if one else "both"


def _channels(module: nn.Module, before: int) -> int:
    """How many come out: what its last convolution says, or as many as went in."""
    return next((m.out_channels for m in reversed(list(module.modules())) if isinstance(m, nn.Conv2d)), before)


def _sheet(width: float, height: float, columns: Iterable[Column]) -> tuple[Figure, Axes]:
    """Axes in inches over the whole figure, and a legend of the kinds that occur."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    seen = {kind for column in columns for _, kind in column}
    keys = {says: Rectangle((0, 0), 1, 1, fc=COLORS[kind], ec=INK) for kind, says in SAYS.items() if kind in seen}
    if keys:
        figure.legend(keys.values(), keys, fontsize=FONT, frameon=False, loc="lower center", ncols=len(keys), borderpad=0)
    return figure, axes


def _box(axes: Axes, center: tuple[float, float], box: Box, width: float, height: float = TALL) -> None:
    text, kind = box
    (x, y), dark = center, kind in ("space", "both")
    if kind:
        corner = (x - width / 2, y - height / 2)
        axes.add_patch(Rectangle(corner, width, height, facecolor=FILLS[kind], edgecolor=INK, linewidth=1.2))
    fits = width >= _width(text) - 0.1
    words = text if fits else _wrapped(text)
    axes.text(x, y, words, ha="center", va="center", fontsize=FONT, color="white" if dark else "black", linespacing=1)


def _arrow(axes: Axes, *points: tuple[float, float], color: str = INK) -> None:
    """Through the points, in inches; the head touches the last one."""
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "color": color, "linewidth": 1.3, "joinstyle": "miter"}
    axes.add_patch(FancyArrowPatch(path=Path(points), **style))


def _wrapped(text: str) -> str:
    return text.replace(", stride", ",\nstride").replace(", rate", ",\nrate") if len(text) > 11 else text


def _width(text: str) -> float:
    return 0.2 + LETTER * max(map(len, text.split("\n")))
