"""A listing and its margin: what the comments of a network's source promise, held against what its modules make.

    ConvBNReLU(3, 32, 3, stride=2, valid=True),          # 149 x 149 x   32

`ast` says which module stands on which line, the comment on that line says the size of its output.
"""

import ast
import inspect
import re
import textwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

MARGIN = re.compile(r"#\s*(\d+) x\s*(\d+) x\s*(\d+)")


Size = tuple[int, int, int]  # (channels, height, width)


class Line(NamedTuple):
    """One entry of a listing: the size in its margin; `many` for one that stands for several."""

    size: Size
    many: bool


def margins(figure: Any) -> dict[int, Size]:
    """Number of a line of its source -> the size in the margin."""
    found = {number: MARGIN.search(line) for number, line in enumerate(inspect.getsource(figure).splitlines(), 1)}
    return {number: (int(m[3]), int(m[1]), int(m[2])) for number, m in found.items() if m}


def listings(figure: Any) -> dict[str, list[Line]]:
    """The listings `self.name = nn.Sequential(...)` of a class; "entry_flow", the list that a function's call begins with."""
    margin = margins(figure)

    def entries(nodes: list[ast.expr]) -> list[Line]:
        lines = [(node, [margin[n] for n in range(node.lineno, node.end_lineno + 1) if n in margin]) for node in nodes]
        return [Line(size[-1], isinstance(node, ast.Starred)) for node, size in lines if size]

    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(figure)))):
        match node:
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Call(args=[ast.List(elts=nodes)] | nodes)):
                found[name] = entries(nodes)
            case ast.Return(value=ast.Call(args=[ast.List(elts=nodes)])):
                found["entry_flow"] = entries(nodes)
    return {name: lines for name, lines in found.items() if lines}


def promised(net: nn.Module, lines: dict[str, list[Line]]) -> dict[str, Size]:
    """Name of a module -> the size in the margin of its line."""
    sizes = {}
    for name, listing in lines.items():
        surplus = len(net.get_submodule(name)) - len(listing)
        spread = [line.size for line in listing for _ in range(surplus + 1 if line.many else 1)]
        sizes |= {f"{name}.{i}": size for i, size in enumerate(spread)}
    return sizes


def made(net: nn.Module, side: int) -> dict[str, Size]:
    """Name of a module -> the size of what it makes of a `side` x `side` picture; "picture" is the picture itself."""
    sizes: dict[str, Size] = {"picture": (3, side, side)}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor | tuple):  # a tapped row hands over its output first, then the tapped map
            sizes[name] = tuple((output if isinstance(output, Tensor) else output[0]).shape[1:])

    for name, module in net.to("meta").eval().named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    net(torch.empty(1, 3, side, side, device="meta"))
    return sizes
