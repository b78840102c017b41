"""What a network costs, measured on the network itself: it is run once on meta tensors, which have a shape and no memory.

Convention, on every table: one MAC is one multiply-accumulate of a convolution or linear layer; biases, batch norm,
activations, pooling and resizing count nothing. Parameters are what training changes; running statistics are not.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.checks import require_kind, require_positive
from minideeplab.cost.memory import Operation, peak_bytes
from minideeplab.cost.meta import Watch, without_values
from minideeplab.cost.operators import FIELDS
from minideeplab.cost.receptive_field import Field, Path, Size, merge
from minideeplab.cost.table import Table

CONVENTION = "MAC: one multiply-accumulate of a convolution or linear layer (2 FLOPs); params: without running statistics"


class Row(NamedTuple):
    """One call of one layer. `receptive_field` is in input pixels, its longer side, the maximum over paths."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: Size


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
        """Which part of the MACs is `depthwise`, `pointwise`, `dense`, `grouped` or `linear`."""
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
            [r.name, r.kind, " x ".join(map(str, r.shape[1:])), f"{r.params:,}", f"{r.macs:,}", str(r.receptive_field)]
            for r in self.rows
        ]
        total = ["total", "", "", f"{self.params:,}", f"{self.macs:,}", ""]
        inputs = " and ".join(" x ".join(map(str, shape)) for shape in self.inputs)
        header = ["layer", "kind", "output", "params", "MACs", "sees"]
        return Table(header, [*rows, total], f"{self.model} on {inputs}; sees: receptive field in pixels. {CONVENTION}.")

    def markdown(self) -> str:
        """The table as Markdown."""
        return self.table().markdown()

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def compare(reports: Mapping[str, Report]) -> Table:
    """Several networks side by side, with ratios to the first, shares of the MACs by kind, and peak activation memory."""
    require_kind(Mapping, reports=reports)
    require_kind(Report, **{f"reports[{name!r}]": report for name, report in reports.items()})
    if not reports:
        raise ValueError("compare needs at least one report, got none")
    first, rows = next(iter(reports.values())), []
    for name, report in reports.items():
        params = f"{report.params / first.params:.2f}" if first.params else ""
        macs = f"{report.macs / first.macs:.2f}" if first.macs else ""
        shares = [f"{float(report.share(kind)):.1%}" for kind in ("depthwise", "pointwise", "dense")]
        row = [name, f"{report.params:,}", params, f"{report.macs:,}", macs, *shares]
        rows.append([*row, str(report.receptive_field), f"{report.peak_bytes / 1e6:,.1f}"])
    inputs = " and ".join(sorted({" x ".join(map(str, shape)) for report in reports.values() for shape in report.inputs}))
    header = ["model", "params", "ratio", "MACs", "ratio", "depthwise", "pointwise", "dense", "sees", "peak MB"]
    caption = (
        f"On {inputs}; ratios to the first row; depthwise, pointwise, dense: shares of the MACs; sees: receptive field in "
        f"pixels; peak: activations alive at once, in 10^6 bytes. {CONVENTION}."
    )
    return Table(header, rows, caption)


def profile(model: nn.Module, *shapes: Sequence[int]) -> Report:
    """Run `model` once in evaluation mode on inputs of these shapes, and report every layer.

    The run takes place on a copy whose tensors are on the meta device: nothing is allocated, the model, its hooks and
    its mode are left alone, and 4097 x 8193 costs no more than 65 x 65. Raises TypeError if `model` is no module, ValueError
    if it cannot run on these shapes.

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
        twin = meta_twin(model).eval()
        dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.float32)
        inputs = [torch.empty(*shape, dtype=dtype, device="meta") for shape in shapes]
        with torch.no_grad(), _Trace(twin, inputs) as trace:
            output = twin(*inputs)
    except Exception as error:
        tried = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{type(model).__name__} cannot run on {tried}: {error}") from error
    sizes = tuple(tuple(shape) for shape in shapes)
    return Report(type(model).__name__, sizes, tuple(trace.finish()), trace.sees(output), trace.peak_bytes(output))


def meta_twin(model: nn.Module) -> nn.Module:
    """A copy of the module tree whose tensors have been exchanged for meta tensors, without anybody's hooks."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]:
            if isinstance(tensor, Tensor):
                meta = without_values(tensor)
                memo[id(tensor)] = nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


class _Trace(Watch):
    """Sees every operation: adds its MACs to the module that runs, carries the fields of its inputs to its outputs."""

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[Row] = []
        self.model, self.counted = model, set[int]()
        fields = (Field(frozenset([Path(source=number)])) for number in range(len(inputs)))
        self.fields: dict[int, tuple[Field, Field]] = {id(x): (field,) * 2 for x, field in zip(inputs, fields, strict=True)}
        self.alive: list[Any] = list(inputs)  # an id is unique only while its tensor lives
        self.pieces = {_piece(tensor) for tensor in [*model.parameters(), *model.buffers()]}  # weights are no activations
        self.operations = [Operation([], self._new(inputs))]
        self.running: list[dict[str, Any]] = []  # the modules that run, innermost last
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(partial(self._leave, name or type(module).__name__))

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.running.append({"macs": 0, "kind": "", "sees": self._merged(inputs)})

    def _leave(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        ran = self.running.pop()
        params = self._count(module)
        leaf = next(module.children(), None) is None
        field = self._merged(output)
        if params or ran["macs"] or (leaf and field != ran["sees"]):
            shape = next((tuple(tensor.shape) for tensor in tensors_in(output)), ())
            self.rows.append(Row(name, ran["kind"] or _kind_of(module), shape, params, ran["macs"], self.sees(output)))

    def _count(self, module: nn.Module) -> int:
        own = [p for p in module._parameters.values() if p is not None and id(p) not in self.counted]
        self.counted.update(map(id, own))
        return sum(p.numel() for p in own)

    def sees(self, output: Any) -> Size:
        """The receptive field of a result, its longer side."""
        shape = next((tensor.shape for tensor in tensors_in(output)), ())
        height, width = [1, 1, *shape[2:]][-2:]
        rows, columns = self._merged(output)
        sizes = rows.size(height), columns.size(width)
        return "all" if "all" in sizes else max(sizes)

    def peak_bytes(self, output: Any) -> int:
        """Activations alive at once; the output lives to the end."""
        return peak_bytes([*self.operations, Operation([_piece(tensor) for tensor in tensors_in(output)], {})])

    def _new(self, results: Any) -> dict[int, int]:
        """The pieces of memory that no tensor before had, and their bytes."""
        new = {_piece(tensor): tensor.untyped_storage().nbytes() for tensor in tensors_in(results)}
        new = {piece: size for piece, size in new.items() if piece not in self.pieces}
        self.pieces.update(new)
        return new

    def finish(self) -> list[Row]:
        """The rows, and those of modules that hold parameters and never ran."""
        for name, module in self.model.named_modules():
            if params := self._count(module):
                self.rows.append(Row(name or type(module).__name__, "never ran", (), params, 0, 0))
        return self.rows

    def see(self, name: str, args: Sequence[Any], result: Any) -> None:
        """Its MACs go to the innermost module, its fields and its memory to its results."""
        if name in MACS and self.running:
            kind, macs = MACS[name](args, result)
            self.running[-1]["macs"] += macs
            self.running[-1]["kind"] = kind
        fields = self._merged(args)
        if name in FIELDS:
            fields = (FIELDS[name](args, result, fields[0], -2), FIELDS[name](args, result, fields[1], -1))
        self.operations.append(Operation([_piece(tensor) for tensor in tensors_in(args)], self._new(result)))
        for tensor in tensors_in(result):
            self.fields[id(tensor)] = fields
            self.alive.append(tensor)

    def _merged(self, values: Any) -> tuple[Field, Field]:
        known = [self.fields[id(tensor)] for tensor in tensors_in(values) if id(tensor) in self.fields]
        return (merge(rows for rows, _ in known), merge(columns for _, columns in known)) if known else (Field(), Field())


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among an operation's arguments or results, nested lists included."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, list | tuple) else []


def _piece(tensor: Tensor) -> int:
    """Names the memory behind a tensor; views share it."""
    return int(tensor.untyped_storage()._cdata)


def _kind_of(module: nn.Module) -> str:
    return "batch norm" if isinstance(module, nn.modules.batchnorm._BatchNorm) else type(module).__name__


def _convolution_macs(args: Any, result: Tensor) -> tuple[str, int]:
    x, weight, _, _, _, _, transposed, _, groups = args
    places = x.shape[2:].numel() if transposed else result.shape[2:].numel()
    one = weight.shape[2:].numel() == 1
    kind = "depthwise" if groups == x.shape[1] > 1 else "grouped" if groups > 1 else "pointwise" if one else "dense"
    return kind, len(x) * places * weight.numel()  # every weight once per place


def _matmul_macs(args: Any, result: Tensor, *, first: int) -> tuple[str, int]:
    return "linear", result.numel() * args[first].shape[-1]


# torch operation -> the kind of layer and its MACs, from arguments and result
MACS: dict[str, Callable[[Any, Any], tuple[str, int]]] = {
    "convolution": _convolution_macs,
    "mm": partial(_matmul_macs, first=0),
    "bmm": partial(_matmul_macs, first=0),
    "addmm": partial(_matmul_macs, first=1),
}
