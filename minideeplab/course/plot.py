"""Pictures of tensors. Blue is space, vermilion is channel, in every figure of the course; both survive color blindness.

Each function returns the figure and the data it draws, so that what a reader sees can be printed, compared and tested.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from minideeplab.cost.report import Report

if TYPE_CHECKING:
    from minideeplab.cost.timing import Measured  # at run time it would start torch's benchmarks, which warn on some machines

SPACE, CHANNEL, BOTH, NEITHER, NEGATIVE = "#0072B2", "#D55E00", "#6F5A7A", "#9A9A9A", "#C9A227"
COLORS = {"space": SPACE, "channel": CHANNEL, "both": BOTH, "neither": NEITHER}
LABELS = ["#F2F2F2", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00"]  # background, then classes: never the two
FONT = 12  # points: a back row can read it

Point = tuple[float, float]


def photograph(path: str | Path) -> Tensor:
    """An 8-bit PNG as the networks want it: (1, 3, H, W), RGB in [-1, 1]."""
    pixels = torch.from_numpy(matplotlib.image.imread(path).copy())  # (H, W, 3), 0 to 1
    if pixels.dim() != 3:
        raise ValueError(f"expected a color photograph (H, W, 3), got {tuple(pixels.shape)} in {path}")
    return pixels[None, :, :, :3].permute(0, 3, 1, 2) * 2 - 1


def planes(rows: Mapping[str, Tensor], *, kinds: Sequence[str]) -> tuple[Figure, dict[str, list[list[int]]]]:
    """Small integer planes (h, w) side by side, each number in its cell; shade is magnitude, yellow is negative.

    `kinds` says of each plane whether it shows "space", "channel", "both" or "neither".
    """
    side = min(max(1.9, 0.48 * max(max(plane.shape) for plane in rows.values())), 3.6)
    figure = Figure(figsize=(side * len(rows), side + 0.2), layout="constrained")
    for axes, (name, plane), kind in zip(_axes(figure, len(rows)), rows.items(), kinds, strict=True):
        largest = max(1, int(plane.abs().max()))
        shade = LinearSegmentedColormap.from_list("shade", [NEGATIVE, "white", COLORS[kind]])
        axes.imshow(plane.detach().numpy(), cmap=shade, vmin=-largest, vmax=largest)
        for (i, j), value in _cells(plane):
            ink = "white" if value > largest / 2 else "black"
            axes.text(j, i, str(value), ha="center", va="center", fontsize=FONT, color=ink)
        _grid(axes, plane.shape)
        axes.set_title(name, fontsize=FONT)
    return figure, {name: plane.int().tolist() for name, plane in rows.items()}


def kernel(weight: Tensor, *, highlight: int | None = None) -> tuple[Figure, Tensor]:
    """A kernel (C_out, C_in, k, k) as blocks: a row for each output, a column for each input; zeros stay white.

    `highlight` frames the row of one output: everything that this output channel knows. Also returns how many weights of
    each block are not zero, (C_out, C_in).
    """
    outputs, inputs, height, width = weight.shape
    figure = Figure(figsize=(max(3.2, 0.55 * inputs + 1.2), max(2.2, 0.55 * outputs + 0.8)), layout="constrained")
    (axes,) = _axes(figure, 1)
    gap = 1
    for o in range(outputs):
        for c in range(inputs):
            for (u, v), value in _cells((weight[o, c] != 0).int()):
                corner = (c * (width + gap) + v, o * (height + gap) + u)
                fill = BOTH if value else "white"
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor="#CCCCCC", linewidth=0.6))
    if highlight is not None:
        frame = (-0.5, highlight * (height + gap) - 0.5)
        axes.add_patch(Rectangle(frame, inputs * (width + gap), height + gap, fill=False, edgecolor=CHANNEL, linewidth=2.5))
    axes.set(xlim=(-0.8, inputs * (width + gap) - 0.2), ylim=(outputs * (height + gap) - 0.2, -0.8))
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_xlabel(f"{inputs} input channels", fontsize=FONT, color=CHANNEL)
    axes.set_ylabel(f"{outputs} outputs", fontsize=FONT, color=CHANNEL)
    axes.spines[:].set_visible(False)
    return figure, (weight != 0).flatten(2).sum(2)


def images(rows: Mapping[str, Tensor]) -> tuple[Figure, dict[str, tuple[int, ...]]]:
    """Photographs (3, H, W) in [-1, 1] and single maps (H, W) side by side; a map runs from black (lowest) to white."""
    figure = Figure(figsize=(2.9 * len(rows), 3.1), layout="constrained")
    for axes, (name, picture) in zip(_axes(figure, len(rows)), rows.items(), strict=True):
        if picture.dim() == 3:
            axes.imshow(((picture.detach().permute(1, 2, 0) + 1) / 2).clamp(0, 1).numpy())
        else:
            axes.imshow(picture.detach().numpy(), cmap="gray")
        axes.set_title(name, fontsize=FONT)
        axes.set_axis_off()
    return figure, {name: tuple(picture.shape) for name, picture in rows.items()}


def labels(rows: Mapping[str, Tensor]) -> tuple[Figure, dict[str, list[int]]]:
    """Label maps (H, W) of small class numbers, side by side. Also returns how many pixels each class has."""
    figure = Figure(figsize=(2.6 * len(rows), 2.9), layout="constrained")
    shade = LinearSegmentedColormap.from_list("labels", LABELS, N=len(LABELS))
    for axes, (name, plane) in zip(_axes(figure, len(rows)), rows.items(), strict=True):
        axes.imshow(plane.numpy(), cmap=shade, vmin=0, vmax=len(LABELS) - 1, interpolation="nearest")
        axes.set_title(name, fontsize=FONT)
        axes.set(xticks=[], yticks=[])
    return figure, {name: torch.bincount(plane.flatten()).tolist() for name, plane in rows.items()}


def bars(rows: Mapping[str, Mapping[str, int]], *, unit: str) -> tuple[Figure, dict[str, int]]:
    """Horizontal bars of counts, stacks of "space", "channel", "both" or "neither" parts. Also returns the totals."""
    figure = Figure(figsize=(7.2, 0.62 * len(rows) + 0.9), layout="constrained")
    (axes,) = _axes(figure, 1)
    totals = {name: sum(parts.values()) for name, parts in rows.items()}
    for y, (name, parts) in enumerate(rows.items()):
        start = 0
        for kind, count in parts.items():
            axes.barh(y, count, left=start, color=COLORS[kind], label=kind)
            start += count
        axes.text(totals[name], y, f" {totals[name]:,}", va="center", fontsize=FONT)
    seen = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(seen.values(), seen.keys(), fontsize=FONT - 1, frameon=False, loc="lower right")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=FONT)
    axes.set(xlim=(0, 1.2 * max(totals.values())), xticks=[])
    axes.set_xlabel(unit, fontsize=FONT)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure, totals


def journey(report: Report, *, bridge: tuple[str, str] | None = None) -> tuple[Figure, list[tuple[str, int, int]]]:
    """What becomes of an image: one slab a row, as tall as the map (space) and as wide as the logarithm of its channels.

    Takes a report, usually `profile(...).grouped(...)`; `bridge` names the two rows that a skip connection joins. Also
    returns (name, channels, height) of each slab.
    """
    maps = [(row.name, row.shape[1], row.shape[2]) for row in report.rows if len(row.shape) == 4]
    slabs = [("image", report.inputs[0][1], report.inputs[0][2]), *maps]
    figure = Figure(figsize=(max(7.0, 1.15 * len(slabs)), 3.4), layout="constrained")
    (axes,) = _axes(figure, 1)
    x, middle = 0.0, dict[str, float]()
    for name, channels, height in slabs:
        width, tall = 0.12 + 0.07 * torch.tensor(float(channels)).log2().item(), height / slabs[0][2]
        axes.add_patch(Rectangle((x, (1 - tall) / 2), width, tall, facecolor=SPACE, alpha=0.85))
        axes.add_patch(Rectangle((x, -0.09), width, 0.05, facecolor=CHANNEL))
        axes.text(x + width / 2, 1.04, name.replace(".", "\n"), ha="center", va="bottom", fontsize=FONT - 2)
        axes.text(x + width / 2, -0.13, f"{channels}", ha="center", va="top", fontsize=FONT - 1, color=CHANNEL)
        axes.text(x + width / 2, -0.25, f"{height}", ha="center", va="top", fontsize=FONT - 1, color=SPACE)
        middle[name] = x + width / 2
        x += width + 0.25
    if bridge:
        style = {"arrowstyle": "-|>", "color": SPACE, "linewidth": 2, "connectionstyle": "arc3,rad=-0.2"}
        axes.annotate("", xy=(middle[bridge[1]], 0.64), xytext=(middle[bridge[0]], 0.56), arrowprops=style)
    axes.text(-0.15, -0.13, "channels", ha="right", va="top", fontsize=FONT - 1, color=CHANNEL)
    axes.text(-0.15, -0.25, "pixels a side", ha="right", va="top", fontsize=FONT - 1, color=SPACE)
    axes.set(xlim=(-1.1, x), ylim=(-0.36, 1.25))
    axes.set_axis_off()
    return figure, slabs


def tradeoff(lines: Mapping[str, Sequence[Point]], *, x: str, y: str) -> tuple[Figure, dict[str, list[Point]]]:
    """What is gained against what is paid, on a logarithmic axis: one line for each entry, its points in order of cost."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    (axes,) = _axes(figure, 1)
    drawn = {name: sorted(points) for name, points in lines.items()}
    for (name, points), color, marker in zip(drawn.items(), (NEITHER, BOTH, LABELS[1]), "os^", strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=8, linewidth=2, color=color, label=name)
    axes.set(xscale="log")
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.legend(fontsize=FONT - 1, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def roofline(measured: "Measured") -> tuple[Figure, dict[str, Point]]:
    """What each kind of layer does, under what this machine can do: operations a byte against operations a second.

    Left of the bend memory sets the pace, right of it arithmetic. Also returns (FLOP / byte, GFLOP / s) of each kind with MACs.
    """
    peak, bandwidth = measured.roofline.flops.quartiles[1], measured.roofline.bandwidth.quartiles[1]
    worked = [row for row in measured.rows if row.macs]
    points = {row.kind: (2 * row.macs / row.moved, 2 * row.macs / row.seconds.quartiles[1] / 1e9) for row in worked}
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    (axes,) = _axes(figure, 1)
    reach = [0.5, peak / bandwidth, 4 * max(peak / bandwidth, *(x for x, _ in points.values()))]
    axes.loglog(reach, [min(peak, x * bandwidth) / 1e9 for x in reach], color=NEITHER, linewidth=3)
    for kind, (x, y) in points.items():
        color = {"depthwise": SPACE, "pointwise": CHANNEL}.get(kind, BOTH)
        axes.loglog(x, y, "o", markersize=10, color=color)
        axes.annotate(kind, (x, y), xytext=(8, -14), textcoords="offset points", fontsize=FONT, color=color)
    axes.set_ylim(bottom=min(y for _, y in points.values()) / 2)
    axes.set_xlabel("operations for each byte moved", fontsize=FONT)
    axes.set_ylabel("billion operations a second", fontsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, points


def _axes(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _cells(plane: Tensor) -> list[tuple[tuple[int, int], int]]:
    return [((i, j), int(value)) for i, row in enumerate(plane) for j, value in enumerate(row)]


def _grid(axes: Axes, shape: Sequence[int]) -> None:
    """Lines between the cells, no axis numbers."""
    axes.set(xticks=[x - 0.5 for x in range(1, shape[1])], yticks=[y - 0.5 for y in range(1, shape[0])])
    options: dict[str, Any] = {"length": 0, "labelbottom": False, "labelleft": False}
    axes.tick_params(**options)
    axes.grid(color="#DDDDDD", linewidth=1)
