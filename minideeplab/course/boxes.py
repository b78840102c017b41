"""Boxes and arrows, by where they stand: the pencils of `minideeplab.course.schematic`.

Blue looks at space, vermilion mixes channels, purple does both at once, gray does neither; a map is white, and a module that
stands for many layers is light gray. Lengths are inches, so that text fits.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path

from minideeplab.course.layers import Box
from minideeplab.course.plot import COLORS, FONT, INK

SAYS = {"space": "looks at space", "channel": "mixes channels", "both": "both at once", "neither": "neither"}
FILLS = COLORS | {"map": "white", "module": "#EDEDED"}
LETTER, TALL = 0.095, 0.44  # a letter is so wide, a box of two lines so tall


class Node(NamedTuple):
    """One box, or several that touch, from left to right; where their middle is, and how large they are together."""

    boxes: list[Box]
    x: float
    y: float
    width: float
    height: float = TALL


def sheet(x: tuple[float, float], y: tuple[float, float], kinds: Iterable[str]) -> tuple[Figure, Axes]:
    """Axes in inches from x[0] to x[1] and from y[0] to y[1], and below them a legend of these kinds."""
    seen = set(kinds)
    keys = {says: Rectangle((0, 0), 1, 1, fc=COLORS[kind], ec=INK) for kind, says in SAYS.items() if kind in seen}
    margin = max(0.2, (1.75 * len(keys) - x[1] + x[0]) / 2)
    x, y = (x[0] - margin, x[1] + margin), (y[0] - 0.35, y[1] + 0.1)
    figure = Figure(figsize=(x[1] - x[0], y[1] - y[0]))
    axes = figure.add_axes((0, 0, 1, 1), xlim=x, ylim=y)
    axes.set_axis_off()
    if keys:
        figure.legend(keys.values(), keys, fontsize=FONT, frameon=False, loc="lower center", ncols=len(keys), borderpad=0)
    return figure, axes


def draw(
    nodes: Mapping[Hashable, Node], arrows: Iterable[tuple[Hashable, Hashable]], *, below: float = 0.1, above: float = 0.0,
) -> tuple[Figure, Axes]:
    """Nodes, and arrows between them by name, with so much room below and above."""
    x = [node.x + side * node.width / 2 for node in nodes.values() for side in (-1, 1)]
    y = [node.y + side * node.height / 2 for node in nodes.values() for side in (-1, 1)]
    kinds = [kind for node in nodes.values() for _, kind in node.boxes]
    figure, axes = sheet((min(x), max(x)), (min(y) - below, max(y) + above), kinds)
    for node in nodes.values():
        start, whole = node.x - node.width / 2, sum(width(text) for text, _ in node.boxes)
        for text, kind in node.boxes:
            share = node.width * width(text) / whole
            _box(axes, (start + share / 2, node.y), (text, kind), share, node.height)
            start += share
    for one, other in arrows:
        arrow(axes, *_way(nodes[one], nodes[other]))
    return figure, axes


def arrow(axes: Axes, *points: tuple[float, float], color: str = INK) -> None:
    """Through the points; the head touches the last one."""
    axes.add_patch(FancyArrowPatch(path=Path(points), arrowstyle="-|>", mutation_scale=11, color=color, linewidth=1.3))


def wrapped(text: str) -> str:
    """A long label in lines."""
    return text.replace(", stride", ",\nstride").replace(", rate", ",\nrate") if len(text) > 11 else text


def width(text: str) -> float:
    """Inches that a label needs in a box of its own."""
    return 0.2 + LETTER * max(map(len, text.split("\n")))


def _box(axes: Axes, middle: tuple[float, float], what: Box, wide: float, tall: float) -> None:
    """A rectangle in the color of its kind, and its text, in two lines where one does not fit."""
    (x, y), (text, kind) = middle, what
    if kind:
        corner = (x - wide / 2, y - tall / 2)
        axes.add_patch(Rectangle(corner, wide, tall, facecolor=FILLS[kind], edgecolor=INK, linewidth=1.2))
    written = text if wide > width(text) - 0.1 else wrapped(text)
    ink = "white" if kind in ("space", "both") else "black"
    axes.text(x, y, written, ha="center", va="center", fontsize=FONT, color=ink, linespacing=1)


def _way(one: Node, other: Node) -> list[tuple[float, float]]:
    """From edge to edge: straight where one stands above or beside the other, else down or up and then across."""
    up, along = (1 if other.y > one.y else -1), (1 if other.x > one.x else -1)
    edge, near = one.y + up * one.height / 2, other.x - along * other.width / 2
    if abs(one.x - other.x) < max(one.width, other.width) / 2:
        x = min(one, other, key=lambda node: node.width).x
        return [(x, edge), (x, other.y - up * other.height / 2)]
    if abs(one.y - other.y) < max(one.height, other.height) / 2:
        y = min(one, other, key=lambda node: node.height).y
        return [(one.x + along * one.width / 2, y), (near, y)]
    return [(one.x, edge), (one.x, other.y), (near, other.y)]
