"""What a network costs, measured on the network itself: it is run once on meta tensors, which have a shape and no memory.

Convention, on every table: one MAC is one multiply-accumulate of a convolution or linear layer; biases, batch norm,
activations, pooling and resizing count nothing. Parameters are what training changes; running statistics are not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from torch import nn

from minideeplab.checks import require_kind, require_positive
from minideeplab.cost.receptive_field import Size
from minideeplab.cost.table import Table
from minideeplab.cost.trace import Row, run_on_meta

CONVENTION = "MAC: one multiply-accumulate of a convolution or linear layer (2 FLOPs); params: without running statistics"
KINDS = ("depthwise", "pointwise", "dense")
UNKNOWN = "unknown: behind an operation of which minideeplab.cost.operators does not say what it reads"


@dataclass(frozen=True, repr=False)
class Report:
    """The rows of a network, in the order they ran, the receptive field of its output, and its peak activation memory.

    `peak_bytes` is the largest sum of activations alive at once, as `peak_bytes` of `minideeplab.cost.memory` defines it,
    in the network's own number format. Prints as text, shows as a table in Jupyter.
    """

    model: str
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    receptive_field: Size
    peak_bytes: int

    @property
    def params(self) -> int:
        """What training changes, in all rows; a shared layer counts once."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all rows."""
        return sum(row.macs for row in self.rows)

    def share(self, kind: str) -> Fraction:
        """Which part of the MACs is `depthwise`, `pointwise`, `dense`, `grouped` or `linear`.

        ValueError for another kind, and where layers of several kinds were added up (`grouped`): it can be told no more.
        """
        if mixed := [row.name for row in self.rows if row.kind == "module" and row.macs]:
            raise ValueError(f"{mixed[0]} adds up layers of several kinds: ask the report before it was grouped")
        if kind not in (*KINDS, "grouped", "linear", *(row.kind for row in self.rows)):
            raise ValueError(f"there is no kind {kind!r}: name depthwise, pointwise, dense, grouped or linear")
        return Fraction(sum(row.macs for row in self.rows if row.kind == kind), self.macs or 1)

    def grouped(self, depth: int = 1) -> "Report":
        """The same report with the layers of a module added up: `depth` counts the names between dots that are kept."""
        require_positive(depth=depth)
        groups: dict[str, Row] = {}
        for row in self.rows:
            name = ".".join(row.name.split(".")[:depth])
            first = groups.get(name, row._replace(params=0, macs=0))
            kind = row.kind if first.kind == row.kind else "module"
            groups[name] = row._replace(name=name, kind=kind, params=first.params + row.params, macs=first.macs + row.macs)
        return replace(self, rows=tuple(groups.values()))

    def table(self) -> Table:
        """One line a row, and the total."""
        rows = [
            [r.name, r.kind, " x ".join(map(str, r.shape[1:])), f"{r.params:,}", f"{r.macs:,}", _sight(r.receptive_field)]
            for r in self.rows
        ]
        total = ["total", "", "", f"{self.params:,}", f"{self.macs:,}", ""]
        inputs = " and ".join(" x ".join(map(str, shape)) for shape in self.inputs)
        header = ["layer", "kind", "output", "params", "MACs", "sees"]
        sees = f"sees: receptive field in pixels{_hint(row.receptive_field for row in self.rows)}"
        return Table(header, [*rows, total], f"{self.model} on {inputs}; {sees}. {CONVENTION}.")

    def markdown(self) -> str:
        """The table as Markdown."""
        return self.table().markdown()

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def compare(reports: Mapping[str, Report]) -> Table:
    """Several networks side by side, with ratios to the first, shares of the MACs by kind, and peak activation memory.

    The three kinds of a separable network always have a column, others where a network has them: shares add up to 100 %.
    ValueError for a report whose layers of several kinds were added up.
    """
    require_kind(Mapping, reports=reports)
    require_kind(Report, **{f"reports[{name!r}]": report for name, report in reports.items()})
    if not reports:
        raise ValueError("compare needs at least one report, got none")
    kinds = list(dict.fromkeys([*KINDS, *(row.kind for report in reports.values() for row in report.rows if row.macs)]))
    first, rows = next(iter(reports.values())), []
    for name, report in reports.items():
        params = f"{report.params / first.params:.2f}" if first.params else ""
        macs = f"{report.macs / first.macs:.2f}" if first.macs else ""
        shares = [f"{float(report.share(kind)):.1%}" for kind in kinds]
        row = [name, f"{report.params:,}", params, f"{report.macs:,}", macs, *shares]
        rows.append([*row, _sight(report.receptive_field), f"{report.peak_bytes / 1e6:,.1f}"])
    inputs = " and ".join(sorted({" x ".join(map(str, shape)) for report in reports.values() for shape in report.inputs}))
    header = ["model", "params", "ratio", "MACs", "ratio", *kinds, "sees", "peak MB"]
    caption = (
        f"On {inputs}; ratios to the first row; {', '.join(kinds)}: shares of the MACs; sees: receptive field in "
        f"pixels{_hint(report.receptive_field for report in reports.values())}; peak: activations alive at once, in 10^6 "
        f"bytes. {CONVENTION}."
    )
    return Table(header, rows, caption)


def _sight(size: Size) -> str:
    """A receptive field as a table prints it."""
    return "whole image" if size == "all" else str(size)


def _hint(sizes: Iterable[Size]) -> str:
    """What `unknown` means, for the caption of a table that has it."""
    return f" ({UNKNOWN})" if "unknown" in sizes else ""


def profile(model: nn.Module, *shapes: Sequence[int]) -> Report:
    """Run `model` once in evaluation mode on inputs of these shapes, and report every layer.

    The run takes place on a copy whose tensors are on the meta device: nothing is allocated, the model, its hooks and
    its mode are left alone, and 4097 x 8193 costs no more than 65 x 65. It may return tensors in lists, dicts and dataclasses;
    the receptive field is then that of the one that sees most, and `unknown` if an object hides what it holds. Raises TypeError
    if `model` is no module, ValueError if it cannot run on these shapes.

    >>> profile(nn.Conv2d(3, 8, 3), (1, 3, 5, 5)).macs
    1944
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"profile needs an nn.Module, got {type(model).__name__}")
    if not shapes:
        raise ValueError("profile needs the shape of the input, for instance (1, 3, 513, 513)")
    for shape in shapes:
        if not isinstance(shape, Sequence):
            raise TypeError(f"profile takes the shape of each input, for instance (1, 3, 513, 513), got {shape!r}")
        require_positive(**{f"{tuple(shape)}[{axis}]": size for axis, size in enumerate(shape)})
    try:
        run = run_on_meta(model, shapes)
    except Exception as error:
        tried = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{type(model).__name__} cannot run on {tried}: {error}") from error
    sizes = tuple(tuple(shape) for shape in shapes)
    return Report(type(model).__name__, sizes, run.rows, run.receptive_field, run.peak_bytes)
