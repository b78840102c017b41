"""Pictures of tensors. A color means one thing: blue space, vermilion channel, purple both; they survive color blindness.

Signs, classes and series have colors of their own. Each function returns the figure and the data it draws, so that what a
reader sees can be printed, compared and tested. What cannot be drawn is refused: ValueError or TypeError, with its name.
"""

from collections.abc import Collection, Mapping, Sequence
from math import isfinite, log2
from pathlib import Path
from typing import Any

import matplotlib.image
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from torch import Tensor

from minideeplab.checks import check_kernel, require_kind
from minideeplab.cost.report import Report
from minideeplab.cost.timing import Measured
from minideeplab.image import from_pixels, to_pixels

SPACE, CHANNEL, BOTH, NEITHER, NEGATIVE = "#0072B2", "#D55E00", "#6F5A7A", "#9A9A9A", "#C9A227"
COLORS = {"space": SPACE, "channel": CHANNEL, "both": BOTH, "neither": NEITHER}  #: kinds of `planes` and `bars`
KINDS = {"depthwise": SPACE, "pointwise": CHANNEL, "linear": CHANNEL, "dense": BOTH, "grouped": BOTH}  # what a layer mixes
INK = "#222222"
LABELS = ["#F2F2F2", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00"]  #: background, then classes
SERIES = list(zip((INK, *LABELS[1:3]) * 2, "o^svDP", ("-",) * 3 + ("--",) * 3, strict=True))  # color, marker, line
FONT = 12  # points: a back row can read it
MOST_BLOCKS = 64  # of a kernel, along each side

Point = tuple[float, float]
Counted = tuple[Figure, dict[str, list[int]]]


def photograph(path: str | Path) -> Tensor:
    """A color photograph as the networks want it: (1, 3, H, W), RGB in [-1, 1], 8 bits; transparency and EXIF are ignored."""
    pixels = torch.from_numpy(matplotlib.image.imread(path).copy())  # (H, W, 3): a PNG from 0 to 1, any other 0 to 255
    if pixels.dim() != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"expected a color photograph (H, W, 3), got {tuple(pixels.shape)} in {path}")
    return from_pixels((pixels * 255).round().int()[..., :3] if pixels.is_floating_point() else pixels[..., :3])


def planes(rows: Mapping[str, Tensor], *, kinds: Sequence[str]) -> tuple[Figure, dict[str, list[list[int]]]]:
    """Small integer planes (h, w) side by side, each number in its cell; shade is magnitude, yellow is negative.

    `kinds` says of each plane whether it shows "space", "channel", "both" or "neither".
    """
    _check(rows, (2,), "planes (h, w)")
    if len(kinds) != len(rows):
        raise ValueError(f"expected one kind for each plane, got {len(kinds)} for {len(rows)}")
    drawn = {name: _integers(name, plane) for name, plane in rows.items()}
    side = min(max(1.9, 0.48 * max(max(plane.shape) for plane in rows.values())), 3.6)
    figure = Figure(figsize=(side * len(rows), side + 0.2), layout="constrained")
    for axes, (name, plane), kind in zip(_axes(figure, len(rows)), drawn.items(), kinds, strict=True):
        largest = max(1, *(abs(value) for row in plane for value in row))
        shade = LinearSegmentedColormap.from_list("shade", [NEGATIVE, "white", _color(kind)])
        axes.imshow(plane, cmap=shade, vmin=-largest, vmax=largest)
        for (i, j), value in _cells(plane):
            ink = "white" if value > largest / 2 and kind != "neither" else "black"
            axes.text(j, i, str(value), ha="center", va="center", fontsize=FONT, color=ink)
        _grid(axes, rows[name].shape)
        axes.set_title(name, fontsize=FONT)
    return figure, drawn


def kernel(weight: Tensor, *, highlight: int | None = None) -> tuple[Figure, Tensor]:
    """A kernel (C_out, C_in, k, k) as blocks: a row for each output, a column for each input; zeros stay white.

    `highlight` frames the row of one output: everything that this output channel knows. Also returns how many weights of
    each block are not zero, (C_out, C_in). At most 64 x 64 blocks.
    """
    check_kernel(weight)
    outputs, inputs, height, width = weight.shape
    if max(outputs, inputs) > MOST_BLOCKS:
        raise ValueError(f"at most {MOST_BLOCKS} x {MOST_BLOCKS} blocks can be read, got {outputs} x {inputs}: draw a part")
    if highlight is not None and highlight not in range(outputs):
        raise ValueError(f"highlight must be an output from 0 to {outputs - 1}, got {highlight!r}")
    figure = Figure(figsize=(max(3.2, 0.55 * inputs + 1.2), max(2.2, 0.55 * outputs + 0.8)), layout="constrained")
    (axes,) = _axes(figure, 1)
    across, down = width + 1, height + 1  # a block, and the gap behind it
    for o in range(outputs):
        for c in range(inputs):
            for (u, v), value in _cells((weight[o, c] != 0).tolist()):
                corner = (c * across + v, o * down + u)
                axes.add_patch(Rectangle(corner, 1, 1, fc=BOTH if value else "white", edgecolor="#CCCCCC", linewidth=0.6))
    if highlight is not None:
        frame = (-0.5, highlight * down - 0.5)
        axes.add_patch(Rectangle(frame, inputs * across, down, fill=False, edgecolor=CHANNEL, linewidth=2.5))
    axes.set(xlim=(-0.8, inputs * across - 0.2), ylim=(outputs * down - 0.2, -0.8), aspect="equal", xticks=[], yticks=[])
    axes.set_xlabel(f"{inputs} input channels", fontsize=FONT, color=CHANNEL)
    axes.set_ylabel(f"{outputs} outputs", fontsize=FONT, color=CHANNEL)
    axes.spines[:].set_visible(False)
    return figure, (weight != 0).flatten(2).sum(2)


def images(rows: Mapping[str, Tensor]) -> tuple[Figure, dict[str, tuple[int, ...]]]:
    """Photographs (3, H, W) in [-1, 1] and single maps (H, W) side by side; a map runs from black (lowest) to white."""
    _check(rows, (2, 3), "photographs (3, H, W) and maps (H, W)")
    figure = Figure(figsize=(2.9 * len(rows), 3.1), layout="constrained")
    for axes, (name, picture) in zip(_axes(figure, len(rows)), rows.items(), strict=True):
        drawn = to_pixels(picture.detach()[None])[0] if picture.dim() == 3 else picture.detach().float()
        axes.imshow(drawn.numpy(), cmap="gray")  # a photograph has its own colors
        axes.set_title(name, fontsize=FONT)
        axes.set_axis_off()
    return figure, {name: tuple(picture.shape) for name, picture in rows.items()}


def labels(rows: Mapping[str, Tensor], *, names: Sequence[str] = (), colors: Sequence[str] = LABELS) -> Counted:
    """Label maps (H, W), side by side, a color a class; `names` make a legend. Also returns how many pixels each class has."""
    _check(rows, (2,), "label maps (H, W)")
    for name, plane in rows.items():
        if plane.is_floating_point() or plane.is_complex():
            raise TypeError(f"labels are integers, got {plane.dtype} in {name!r}: argmax(1) makes them of logits")
        if wrong := sorted(set(plane.flatten().tolist()) - set(range(len(colors)))):
            raise ValueError(f"there are colors for classes 0 to {len(colors) - 1}, got {wrong[0]} in {name!r}: renumber them")
    figure = Figure(figsize=(2.6 * len(rows), 2.9), layout="constrained")
    shade = LinearSegmentedColormap.from_list("labels", colors, N=len(colors))
    for axes, (name, plane) in zip(_axes(figure, len(rows)), rows.items(), strict=True):
        axes.imshow(plane.numpy(), cmap=shade, vmin=0, vmax=len(colors) - 1, interpolation="nearest")
        axes.set_title(name, fontsize=FONT)
        axes.set(xticks=[], yticks=[])
    keys = [Rectangle((0, 0), 1, 1, facecolor=color, edgecolor=INK) for color in colors[: len(names)]]
    if names:
        figure.legend(keys, names, fontsize=FONT, frameon=False, loc="outside lower center", ncols=len(names))
    return figure, {name: torch.bincount(plane.flatten().long()).tolist() for name, plane in rows.items()}


def bars(rows: Mapping[str, Mapping[str, int]], *, unit: str) -> tuple[Figure, dict[str, int]]:
    """Horizontal bars of counts, stacks of "space", "channel", "both" or "neither" parts. Also returns the totals."""
    _filled(Mapping, rows, "bars")
    for name, parts in rows.items():
        _filled(Mapping, parts, f"parts of {name!r}")
        if wrong := [count for count in parts.values() if not (isfinite(count) and count >= 0)]:
            raise ValueError(f"counts must be at least 0 and finite, got {wrong[0]} in {name!r}")
    figure = Figure(figsize=(7.2, 0.62 * len(rows) + 1.2), layout="constrained")
    (axes,) = _axes(figure, 1)
    totals = {name: sum(parts.values()) for name, parts in rows.items()}
    for y, (name, parts) in enumerate(rows.items()):
        start = 0
        for kind, count in parts.items():
            axes.barh(y, count, left=start, color=_color(kind), label=kind)
            start += count
        axes.text(totals[name], y, f" {totals[name]:,}", va="center", fontsize=FONT)
    seen = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(seen.values(), seen.keys(), fontsize=FONT - 1, frameon=False, loc="outside upper center", ncols=len(seen))
    axes.set_yticks(range(len(rows)), list(rows), fontsize=FONT)
    axes.set(xlim=(0, 1.2 * max(*totals.values(), 1)), xticks=[])
    axes.set_xlabel(unit, fontsize=FONT)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure, totals


def journey(report: Report, *, bridge: tuple[str, str] | None = None) -> tuple[Figure, list[tuple[str, int, int]]]:
    """What becomes of an image: one slab a row, as tall as the map (space) and as wide as the logarithm of its channels.

    Takes a report, usually `profile(...).grouped(...)`; `bridge` names the two rows that a skip connection joins. Also
    returns (name, channels, height) of each slab.
    """
    require_kind(Report, report=report)
    if len(report.inputs[0]) != 4:
        raise ValueError(f"a journey begins with an image (N, C, H, W), got {report.inputs[0]}")
    maps = [(row.name, row.shape[1], row.shape[2]) for row in report.rows if len(row.shape) == 4]
    slabs = [("image", report.inputs[0][1], report.inputs[0][2]), *maps]
    figure = Figure(figsize=(max(7.0, 1.15 * len(slabs)), 3.4), layout="constrained")
    (axes,) = _axes(figure, 1)
    x, middle = 0.0, dict[str, float]()
    for name, channels, height in slabs:
        width, tall = 0.12 + 0.07 * log2(channels), height / slabs[0][2]
        axes.add_patch(Rectangle((x, (1 - tall) / 2), width, tall, facecolor=SPACE, alpha=0.85))
        axes.add_patch(Rectangle((x, -0.09), width, 0.05, facecolor=CHANNEL))
        axes.text(x + width / 2, 1.04, name.replace(".", "\n"), ha="center", va="bottom", fontsize=FONT - 2)
        axes.text(x + width / 2, -0.13, f"{channels}", ha="center", va="top", fontsize=FONT - 1, color=CHANNEL)
        axes.text(x + width / 2, -0.25, f"{height}", ha="center", va="top", fontsize=FONT - 1, color=SPACE)
        middle[name] = x + width / 2
        x += width + 0.25
    if bridge:
        if unknown := [name for name in bridge if name not in middle]:
            raise ValueError(f"no row is called {unknown[0]!r}: a bridge joins two of {', '.join(middle)}")
        style = {"arrowstyle": "-|>", "color": SPACE, "linewidth": 2, "connectionstyle": "arc3,rad=-0.2"}
        axes.annotate("", xy=(middle[bridge[1]], 0.64), xytext=(middle[bridge[0]], 0.56), arrowprops=style)
    axes.text(-0.15, -0.13, "channels", ha="right", va="top", fontsize=FONT - 1, color=CHANNEL)
    axes.text(-0.15, -0.25, "pixels a side", ha="right", va="top", fontsize=FONT - 1, color=SPACE)
    axes.set(xlim=(-1.1, x), ylim=(-0.36, 1.25))
    axes.set_axis_off()
    return figure, slabs


def tradeoff(lines: Mapping[str, Sequence[Point]], *, x: str, y: str) -> tuple[Figure, dict[str, list[Point]]]:
    """What is gained against what is paid, on a logarithmic axis: one line for each entry, its points in order of cost.

    The cost stands beside each point. At most six lines can be told apart.
    """
    _filled(Mapping, lines, "lines")
    if len(lines) > len(SERIES):
        raise ValueError(f"at most {len(SERIES)} lines can be told apart, got {len(lines)}: draw two figures")
    for name, points in lines.items():
        _filled(Sequence, points, f"points in {name!r}")
        if wrong := [point for point in points if not (isfinite(point[0]) and isfinite(point[1]) and point[0] > 0)]:
            raise ValueError(f"a point is a cost above 0 and a gain, both finite, got {wrong[0]} in {name!r}")
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    (axes,) = _axes(figure, 1)
    drawn = {name: sorted(points) for name, points in lines.items()}
    for (name, points), (color, marker, line) in zip(drawn.items(), SERIES, strict=False):  # as many as there are lines
        axes.plot(*zip(*points, strict=True), line, marker=marker, markersize=8, linewidth=2, color=color, label=name)
        for cost, gain in points:
            mark = axes.annotate(_short(cost), (cost, gain), (6, -14), textcoords="offset points", fontsize=10, color=color)
            mark.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0})  # readable on the next line, too
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: _short(cost)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1, y=0.15)
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    figure.legend(fontsize=FONT - 1, frameon=False, loc="outside upper center", ncols=min(len(lines), 3))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def roofline(measured: Measured) -> tuple[Figure, dict[str, Point]]:
    """What each kind of layer does, under what this machine can do: operations a byte against operations a second.

    Left of the bend memory sets the pace, right of it arithmetic. Also returns (FLOP / byte, GFLOP / s) of each kind with MACs.
    """
    require_kind(Measured, measured=measured)
    peak, bandwidth = measured.roofline.flops.quartiles[1], measured.roofline.bandwidth.quartiles[1]
    worked = [row for row in measured.rows if row.macs]
    if not worked:
        raise ValueError(f"no layer of {measured.model} multiplies: there is nothing to place under the roof")
    points = {row.kind: (2 * row.macs / row.moved, 2 * row.macs / row.seconds.quartiles[1] / 1e9) for row in worked}
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    (axes,) = _axes(figure, 1)
    reach = [0.5, peak / bandwidth, 4 * max(peak / bandwidth, *(x for x, _ in points.values()))]
    axes.loglog(reach, [min(peak, x * bandwidth) / 1e9 for x in reach], color=INK, linewidth=3)
    for rank, (kind, (x, y)) in enumerate(sorted(points.items(), key=lambda point: point[1][1])):
        color, below = KINDS.get(kind, INK), rank % 2 == 0  # neighbors in height have their words on different sides
        axes.loglog(x, y, "o", markersize=10, color=color)
        axes.annotate(kind, (x, y), (8, -16 if below else 8), textcoords="offset points", fontsize=FONT, color=color)
    axes.set_ylim(bottom=min(y for _, y in points.values()) / 2)
    axes.set_xlabel("operations for each byte moved (line: what memory and arithmetic allow)", fontsize=FONT)
    axes.set_ylabel("billion operations a second", fontsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, points


def _axes(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _filled(kind: type, given: Collection[Any], what: str) -> None:
    """Raise unless there is anything to draw."""
    require_kind(kind, **{what: given})
    if not given:
        raise ValueError(f"expected {what}, got none")


def _check(rows: Mapping[str, Tensor], dims: Sequence[int], what: str) -> None:
    """Raise unless these are tensors by name, of so many axes, none of them empty."""
    _filled(Mapping, rows, what)
    require_kind(Tensor, **{f"rows[{name!r}]": row for name, row in rows.items()})
    for name, row in rows.items():
        if row.dim() not in dims or not row.numel() or (row.dim() == 3 and len(row) != 3):
            raise ValueError(f"expected {what}, got {tuple(row.shape)} in {name!r}")


def _color(kind: str) -> str:
    if kind not in COLORS:
        raise ValueError(f"a kind is one of {', '.join(COLORS)}, got {kind!r}")
    return COLORS[kind]


def _integers(name: str, plane: Tensor) -> list[list[int]]:
    if wrong := [value for value in plane.flatten().tolist() if not (isfinite(value) and value == int(value))]:
        raise ValueError(f"planes show integers, got {wrong[0]:g} in {name!r}: scale and round first, or use images")
    return [[int(value) for value in row] for row in plane.tolist()]


def _cells(plane: Sequence[Sequence[int]]) -> list[tuple[tuple[int, int], int]]:
    return [((i, j), value) for i, row in enumerate(plane) for j, value in enumerate(row)]


def _short(cost: float) -> str:
    """Three digits, or all before the point."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"


def _grid(axes: Axes, shape: Sequence[int]) -> None:
    """Lines between the cells, no axis numbers."""
    axes.set(xticks=[x - 0.5 for x in range(1, shape[1])], yticks=[y - 0.5 for y in range(1, shape[0])])
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(color="#DDDDDD", linewidth=1)
