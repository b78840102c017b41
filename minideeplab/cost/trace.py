"""One run of a network on meta tensors, which have a shape and no memory, watched operation by operation."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.cost.axes import Seen, meet
from minideeplab.cost.memory import Operation, peak_bytes
from minideeplab.cost.meta import Watch, without_values
from minideeplab.cost.operators import seen_behind
from minideeplab.cost.receptive_field import Size, widest


class Row(NamedTuple):
    """One call of one layer; `shape` is that of what came out.

    `receptive_field` is in input pixels, its longer side, the maximum over paths; `all` behind something that
    reads the whole image, `unknown` behind an operation that `minideeplab.cost.operators` does not list.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: Size


class Run(NamedTuple):
    """What was seen: a row for each call in their order, the receptive field of what came out, the most bytes alive at once."""

    rows: tuple[Row, ...]
    receptive_field: Size
    peak_bytes: int


@dataclass
class _Running:
    """A module that runs at the moment: what its own operations did so far, and what its inputs see."""

    sees: Seen
    macs: int = 0
    kind: str = ""


def run_on_meta(model: nn.Module, shapes: Sequence[Sequence[int]]) -> Run:
    """Run a copy of `model` in evaluation mode on inputs of these shapes. The model's own errors pass."""
    with torch.inference_mode(False), torch.no_grad():  # in inference mode torch shows `conv2d` whole, and nothing is counted
        twin = meta_twin(model).eval()
        inputs = [torch.empty(*shape, dtype=number_format(twin), device="meta") for shape in shapes]
        with _Trace(twin, inputs) as trace:
            output = twin(*inputs)
    return Run(tuple(trace.finish()), trace.sees(output), trace.peak_bytes(output))


def number_format(model: nn.Module) -> torch.dtype:
    """That of the first floating-point parameter; without any, float32."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


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
    """Sees every operation: adds its MACs to the module that runs, carries what its inputs see to its results."""

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[Row] = []
        self.model, self.counted = model, set[int]()
        self.seen = {id(x): Seen.of_input(number, x.dim()) for number, x in enumerate(inputs)}
        self.alive: list[Tensor] = list(inputs)  # an id is unique only while its tensor lives
        self.pieces = {_piece(tensor) for tensor in [*model.parameters(), *model.buffers()]}  # weights are no activations
        self.operations = [Operation([], self._new(inputs))]
        self.running: list[_Running] = []  # innermost last
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(partial(self._leave, name or type(module).__name__))

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.running.append(_Running(self._met(inputs)))

    def _leave(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        ran = self.running.pop()
        params = self._count(module)
        leaf = next(module.children(), None) is None
        if params or ran.macs or (leaf and self._met(output).fields != ran.sees.fields):
            shape = next((tuple(tensor.shape) for tensor in tensors_in(output)), ())
            self.rows.append(Row(name, ran.kind or _kind_of(module), shape, params, ran.macs, self.sees(output)))

    def _count(self, module: nn.Module) -> int:
        own = [p for p in module._parameters.values() if p is not None and id(p) not in self.counted]
        self.counted.update(map(id, own))
        return sum(p.numel() for p in own)

    def sees(self, output: Any) -> Size:
        """The receptive field of a result, its longer side: that of the tensor that sees most, if all can be found."""
        found = tensors_in(output)
        known = [self.seen.get(id(tensor), Seen()).size(tensor.shape) for tensor in found]
        return widest(known if found and not hides_something(output) else [*known, "unknown"])

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
        """The rows, and the modules that hold parameters and never ran."""
        for name, module in self.model.named_modules():
            if params := self._count(module):
                self.rows.append(Row(name or type(module).__name__, "never ran", (), params, 0, 0))
        return self.rows

    def see(self, name: str, args: Sequence[Any], result: Any) -> None:
        """Its MACs go to the innermost module, what it sees and its memory to its results."""
        if name in MACS and self.running:
            kind, macs = MACS[name](args, result)
            self.running[-1].macs += macs
            self.running[-1].kind = kind
        made = seen_behind(name, args, result, lambda x: self.seen.get(id(x)))
        self.operations.append(Operation([_piece(tensor) for tensor in tensors_in(args)], self._new(result)))
        results = tensors_in(result)
        if made and any(x is y for x in results for y in tensors_in(args)):
            self._written(results, made)
        for tensor in results:
            if made:
                self.seen[id(tensor)] = made
            self.alive.append(tensor)

    def _written(self, results: Sequence[Tensor], made: Seen) -> None:
        """In place: whatever else shares this memory has changed too, nobody knows where."""
        pieces = {_piece(tensor) for tensor in results}
        for other in self.alive:
            if _piece(other) in pieces:
                self.seen[id(other)] = meet([self.seen.get(id(other), made), made]).lost()

    def _met(self, values: Any) -> Seen:
        return meet(self.seen[id(tensor)] for tensor in tensors_in(values) if id(tensor) in self.seen)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in an argument or a result: in lists, tuples, dicts and dataclasses too, nested as they may be."""
    return [value] if isinstance(value, Tensor) else [tensor for item in _items(value) or [] for tensor in tensors_in(item)]


def hides_something(value: Any) -> bool:
    """Whether there is an object in it of which nobody knows if it holds tensors."""
    items = [] if value is None or isinstance(value, Tensor | int | float | str | bytes) else _items(value)
    return items is None or any(map(hides_something, items))


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        return list(value.values())
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return list(value) if isinstance(value, list | tuple | set | frozenset) else None


def _piece(tensor: Tensor) -> int:
    """Names the memory behind a tensor; views share it."""
    return int(tensor.untyped_storage()._cdata)


def _kind_of(module: nn.Module) -> str:
    return "batch norm" if isinstance(module, nn.modules.batchnorm._BatchNorm) else type(module).__name__


def _kind_of_kernel(x: Tensor, weight: Tensor, groups: int) -> str:
    one = weight.shape[-(x.dim() - 2) :].numel() == 1
    return "depthwise" if groups == x.shape[1] > 1 else "grouped" if groups > 1 else "pointwise" if one else "dense"


def _convolution_macs(args: Any, result: Tensor) -> tuple[str, int]:
    x, weight, _, _, _, _, transposed, _, groups = args
    places = x.shape[2:].numel() if transposed else result.shape[2:].numel()
    return _kind_of_kernel(x, weight, groups), len(x) * places * weight.numel()  # every weight once per place


def _onednn_convolution_macs(args: Any, result: Tensor) -> tuple[str, int]:
    x, weight, _, _, _, _, groups, *_ = args
    return _kind_of_kernel(x, weight, groups), len(x) * result.shape[2:].numel() * weight.numel()


def _matmul_macs(args: Any, result: Tensor, *, first: int) -> tuple[str, int]:
    return "linear", result.numel() * args[first].shape[-1]


def _summed_matmul_macs(args: Any, result: Tensor) -> tuple[str, int]:
    return "linear", args[1].numel() * args[2].shape[-1]


def _attention_macs(args: Any, result: Any) -> tuple[str, int]:
    query, key, value = args[:3]
    return "linear", prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


# torch operation -> the kind of layer and its MACs, from arguments and result. They are half of what torch's own counter
# of FLOPs finds, and it leaves out `addbmm`, `mv`, `addmv` and `dot`.
MACS: dict[str, Callable[[Any, Any], tuple[str, int]]] = {
    "convolution": _convolution_macs,
    "_convolution_pointwise": _onednn_convolution_macs,  # oneDNN's, of an optimized network
    **dict.fromkeys(("mm", "bmm", "mv", "dot"), partial(_matmul_macs, first=0)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), partial(_matmul_macs, first=1)),
    "addbmm": _summed_matmul_macs,
    **dict.fromkeys(
        [f"_scaled_dot_product_{way}" for way in ("flash_attention", "flash_attention_for_cpu", "efficient_attention")],
        _attention_macs,
    ),
}
