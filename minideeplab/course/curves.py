"""How networks learned, in pictures: the loss of every step, mIoU near boundaries, and differences with their intervals."""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from math import isfinite

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from minideeplab.course.plot import BOTH, FONT, INK, LABELS, NEGATIVE, NEITHER

MANY = [INK, *(color for color in LABELS[1:] if color != "#F0E442")]  # but for yellow, which white drowns
CHANGES = ["#F2F2F2", "#56B4E9", "#E69F00", INK]  #: for `plot.labels`: both right, won, lost, both wrong
BARE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # a line behind a number stays behind it
WINDOW = 50  # steps that the smooth line averages, at most


def learning(losses: Sequence[float], classes: Mapping[str, float | None], *, miou: float) -> tuple[Figure, list[float]]:
    """The losses by step with their running mean, and beside them each class's IoU as bars, with a line at the mean.

    Also returns the running mean: at each step over the last steps, at most 50, a tenth of all in a short run. ValueError
    for no loss, and for one that is not finite.
    """
    if not losses or not all(map(isfinite, losses)):
        raise ValueError(f"expected finite losses, got {[loss for loss in losses if not isfinite(loss)][:1] or 'none'}")
    window = max(1, min(WINDOW, len(losses) // 10))
    sums = [0.0]
    for loss in losses:
        sums.append(sums[-1] + loss)
    means = [(sums[k] - sums[max(0, k - window)]) / min(k, window) for k in range(1, len(sums))]
    figure = Figure(figsize=(9.0, max(3.4, 0.3 * len(classes) + 1.2)), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = range(1, len(losses) + 1)
    left.plot(steps, losses, color=NEITHER, linewidth=0.8, alpha=0.6)
    left.plot(steps, means, color=INK, linewidth=2)
    left.set_xlabel("steps", fontsize=FONT)
    left.set_ylabel("loss", fontsize=FONT)
    left.set_ylim(bottom=0)
    for y, share in enumerate(classes.values()):
        right.barh(y, share or 0, color=BOTH)
        right.text(share or 0, y, " none" if share is None else f" {share:.2f}", va="center", fontsize=FONT - 2, bbox=BARE)
    right.axvline(miou, color=INK, linestyle="--")
    right.set_title(f"mIoU {miou:.3f}", fontsize=FONT)
    right.set_yticks(range(len(classes)), list(classes), fontsize=FONT - 2)
    right.set(xlim=(0, 1.15))
    right.set_xlabel("IoU", fontsize=FONT)
    right.invert_yaxis()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, means


def bands(
    lines: Mapping[str, Mapping[int, float]], *, yardsticks: Collection[str] = (),
) -> tuple[Figure, dict[str, list[float]]]:
    """mIoU by the width of the band around the boundary in which it is scored (Chen 2018, fig. 5); `yardsticks` are dashed.

    `lines` has mIoU in [0, 1] by width in pixels. Also returns the percentages drawn. ValueError for no line, for widths
    that differ, and for what is no share.
    """
    if not lines or len({tuple(line) for line in lines.values()}) > 1 or not next(iter(lines.values())):
        raise ValueError(f"expected lines of the same widths, got {[list(line) for line in lines.values()] or 'none'}")
    if wrong := [share for line in lines.values() for share in line.values() if not 0 <= share <= 1]:
        raise ValueError(f"mIoU is from 0 to 1, got {wrong[0]}")
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    drawn = {name: [100 * float(share) for share in line.values()] for name, line in lines.items()}
    widths = list(map(str, next(iter(lines.values()))))
    for (name, shares), color, marker in zip(drawn.items(), cycle(MANY), cycle("o^svDPX")):
        axes.plot(widths, shares, "--" if name in yardsticks else "-", marker=marker, markersize=8, color=color, label=name)
    axes.set_xlabel("pixels from the boundary, at most", fontsize=FONT)
    axes.set_ylabel("mIoU in the band, percent", fontsize=FONT)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=FONT - 1, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def prices(
    points: Mapping[str, tuple[float, float, float, float]], *, x: str, y: str,
) -> tuple[Figure, dict[str, tuple[float, float, float, float]]]:
    """What each costs, on a logarithmic axis, and what came of it: (cost, least, mean, most) by name, a bar from least to most.

    The names stand above and below the bars in turn, so that neighbors have room.

    ValueError for no point, and unless costs are above 0 and least <= mean <= most.
    """
    if not points or not all(cost > 0 and low <= mean <= high and isfinite(high - low + cost)
                             for cost, low, mean, high in points.values()):
        raise ValueError(f"expected points of a cost above 0, least <= mean <= most, got {dict(points) or 'none'}")
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for rank, (name, (cost, low, mean, high)) in enumerate(sorted(points.items(), key=lambda point: point[1][0])):
        axes.plot([cost, cost], [low, high], color=NEITHER, linewidth=3)
        axes.plot(cost, mean, "o", color=INK, markersize=8)
        place, side = ((cost, low), (0, -14)) if rank % 2 else ((cost, high), (0, 6))
        axes.annotate(name, place, side, textcoords="offset points", ha="center", fontsize=FONT, bbox=BARE)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:,.4g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, dict(points)


MARKS = {"reproduced": (INK, "o"), "undecided": (NEITHER, "s"), "contradicted": (NEGATIVE, "X")}  # color, marker


def intervals(rows: Sequence[tuple[str, float, float, float, str]]) -> tuple[Figure, dict[str, int]]:
    """Differences with their intervals, one a line: (label, mean, low, high, verdict) each, marked by the verdict.

    Also returns how many of each verdict there are. ValueError for no row, and for a number that is not finite.
    """
    if not rows or not all(isfinite(value) for _, *values, _ in rows for value in values):
        raise ValueError(f"expected rows of a label, three finite numbers and a verdict, got {list(rows)[:1] or 'none'}")
    figure = Figure(figsize=(10.0, 0.3 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    for y, (_, mean, low, high, verdict) in enumerate(rows):
        color, marker = MARKS[verdict]
        axes.plot([low, high], [y, y], color=color, linewidth=2.5)
        axes.plot(mean, y, marker, color=color, markersize=7)
    axes.axvline(0, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=FONT - 3)
    axes.set_xlabel("difference, 95 % interval", fontsize=FONT)
    axes.legend([Line2D([], [], color=color, marker=marker) for color, marker in MARKS.values()], MARKS, fontsize=FONT - 2)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, {verdict: sum(row[4] == verdict for row in rows) for verdict in MARKS}
