"""What a module is made of, read off its layers: a label and a kind each, and the modules of a network in a line.

A kind says what a layer mixes: "space" (depthwise), "channel" (1 x 1), "both" (dense), "neither" (pooling). Batch norm, ReLU
and dropout are left out, as in most figures of the papers.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from torch import nn

from minideeplab.blocks.aspp import ImagePooling
from minideeplab.blocks.convolution import SameMaxPool2d
from minideeplab.blocks.inception import Towers
from minideeplab.cost.report import Report

Box = tuple[str, str]  # what is written in it, and its kind
SILENT = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Dropout, nn.Identity)  # what has no box


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


def layers(module: nn.Module) -> list[Box]:
    """The convolutions and pools of a module that runs them one after another, as it lists them; not its shortcut.

    A box names its kernel and its output channels; a depthwise one keeps its channels, and names none. ValueError for
    layers that are neither these nor left out, and for towers, which do not stand one after another.
    """
    if isinstance(module, ImagePooling):
        return [("image mean", "neither"), *layers(module.project)]
    if isinstance(module, nn.Conv2d):
        one, depthwise = set(module.kernel_size) == {1}, module.groups == module.in_channels > 1
        rows, columns = module.kernel_size
        text = f"{rows} x {columns}" + ("" if depthwise else f", {module.out_channels}") + _step(module.stride, "stride")
        text += f", {module.groups} segments" if module.groups > 1 and not depthwise else ""
        return [(text + _step(module.dilation, "rate"), "space" if depthwise else "channel" if one else "both")]
    if isinstance(module, SameMaxPool2d | nn.MaxPool2d | nn.AvgPool2d):
        size, what = getattr(module, "kernel_size", 3), "mean" if isinstance(module, nn.AvgPool2d) else "max"
        rows, columns = size if isinstance(size, tuple) else (size, size)
        return [(f"{what} {rows} x {columns}" + _step(module.stride, "stride"), "neither")]
    if isinstance(module, Towers):
        raise ValueError("towers inside towers do not stand one after another: draw the inner ones by themselves")
    children = [child for name, child in module.named_children() if name != "shortcut"]
    if not children and not isinstance(module, SILENT):
        raise ValueError(f"there is no box for {type(module).__name__}: convolutions, max and mean pools have one")
    return [box for child in children for box in layers(child)]


def channels(module: nn.Module, before: int) -> int:
    """How many channels come out: those of its last convolution, or as many as went in."""
    return next((layer.out_channels for layer in reversed([*module.modules()]) if isinstance(layer, nn.Conv2d)), before)


def stages(network: nn.Module, report: Report | None = None) -> list[Stage]:
    """The modules of a network whose listings are `nn.Sequential` or `nn.ModuleList`, equal neighbors together.

    With a report of this network also the sizes of their maps. ValueError where a module stands in no listing.
    """
    return [stage for name, group in network.named_children() for stage in _stages(name, group, report)]


def _stages(name: str, group: nn.Module, report: Report | None) -> Iterator[Stage]:
    if type(group) not in (nn.Sequential, nn.ModuleList):
        if any(isinstance(module, nn.Conv2d) for module in group.modules()):
            raise ValueError(f"{name} ({type(group).__name__}) is no nn.Sequential of modules: it has no place in a line")
        return
    found, count = list[tuple[list[Box], Stage]](), 0
    for path, module in _listed(name, group):
        if boxes := layers(module):
            count, beside = channels(module, count), getattr(module, "shortcut", None)
            has = getattr(module, "has_shortcut", hasattr(module, "shortcut"))
            shortcut = "1 x 1" if isinstance(beside, nn.Sequential) else "identity" if has else ""
            stride, rate, kinds = _most(module, "stride"), _most(module, "dilation"), tuple(kind for _, kind in boxes)
            found.append((boxes, Stage(name, kinds, count, 1, shortcut, stride, rate, _size(path, report))))
    for (_, stage), same in groupby(found):
        yield stage._replace(times=len(list(same)))


def _listed(name: str, group: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested listings, by path."""
    for key, module in group.named_children():
        inner = type(module) in (nn.Sequential, nn.ModuleList)
        yield from _listed(f"{name}.{key}", module) if inner else [(f"{name}.{key}", module)]


def _most(module: nn.Module, name: str) -> int:
    values = [getattr(layer, name, 1) for layer in module.modules()]
    return max(value[0] if isinstance(value, tuple) else value for value in values)


def _size(path: str, report: Report | None) -> tuple[int, ...]:
    """Rows and columns of a module's last map in the report."""
    if report is None:
        return ()
    shapes = [row.shape for row in report.rows if f"{row.name}.".startswith(f"{path}.")]
    if not shapes:
        raise ValueError(f"the report of {report.model} has no row {path}: profile the network that is drawn")
    return shapes[-1][2:]


def _step(pair: int | tuple[int, ...] | None, name: str) -> str:
    """What a stride or a rate adds to a label, unless it is 1."""
    first = pair[0] if isinstance(pair, tuple) else pair
    return f", {name} {first}" if first != 1 else ""
