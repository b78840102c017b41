"""How long a network takes on this machine, by kind of layer, beside how long it would have to take at least.

The roofline (Williams 2009): an operation can be no faster than its arithmetic at the machine's peak, nor than its bytes at
the machine's bandwidth. Both are measured here, in the same session and with the same threads as the network. Reading
tables of multiply-accumulates without it misleads: a depthwise convolution does little with every byte that it moves.

A single time is an anecdote. `Spread` therefore has no median to take out alone: quartiles come together or not at all.
"""

import copy
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from minideeplab.checks import require_positive
from minideeplab.cost.report import CONVENTION
from minideeplab.cost.table import Table
from minideeplab.cost.trace import MACS, number_format, tensors_in

SIDE = 1024  # of the square matrices whose product shows the peak
MAP = (1, 256, 64, 64)  # and the map whose 3 x 3 convolution, a product too, is faster where torch's two libraries differ
COPIED = 2**27  # bytes, more than most caches hold
MOST_THREADS = 1024  # the operating system refuses more, some time later and without a word
LEAST = 0.5  # seconds for each of the three
KINDS = {
    "native_batch_norm": "batch norm",
    "relu": "ReLU",
    "max_pool2d_with_indices": "pooling",
    "avg_pool2d": "pooling",
    "_adaptive_avg_pool2d": "pooling",
    "mean": "pooling",
    "upsample_bilinear2d": "resizing",
    "cat": "concatenation",
    "add": "addition",
}


@dataclass(frozen=True)
class Spread:
    """A measured quantity: the quartiles of several runs (a quarter of them lay below the first, half below the second).

    They are interpolated between runs: those of three runs lie halfway from the middle one to the fastest and the slowest.

    >>> Spread.of([0.012, 0.011, 0.015, 0.013, 0.012], "s")
    12.0 ms (12.0 to 13.0)
    """

    quartiles: tuple[float, float, float]
    unit: str
    runs: int

    @classmethod
    def of(cls, values: Iterable[float], unit: str) -> "Spread":
        """Of at least three runs: ValueError with fewer."""
        values = list(values)
        if len(values) < 3:
            raise ValueError(f"a spread needs at least 3 runs, got {len(values)}")
        first, second, third = statistics.quantiles(values, n=4, method="inclusive")
        return cls((first, second, third), unit, len(values))

    def __repr__(self) -> str:
        largest = max(map(abs, self.quartiles))
        prefixes = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}
        prefix = "" if self.unit == "%" else next((name for name, factor in prefixes.items() if largest >= factor), "")
        form = ".1f" if self.unit == "%" else "#.3g"
        first, second, third = (format(value / prefixes[prefix], form).rstrip(".") for value in self.quartiles)
        return f"{second} {prefix}{self.unit} ({first} to {third})"


@dataclass(frozen=True)
class Roofline:
    """What this machine does at most, each a second: floating-point operations of a large product, bytes of a large copy."""

    flops: Spread
    bandwidth: Spread
    threads: int
    dtype: torch.dtype

    def seconds(self, work: Sequence[tuple[int, int]]) -> Spread:
        """The least time for operations of so many (MACs, bytes): for each, whichever of the two takes longer."""
        peaks = zip(reversed(self.flops.quartiles), reversed(self.bandwidth.quartiles), strict=True)
        least = [sum(max(2 * macs / flops, moved / bandwidth) for macs, moved in work) for flops, bandwidth in peaks]
        return Spread((least[0], least[1], least[2]), "s", min(self.flops.runs, self.bandwidth.runs))

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"roofline: {self.flops} of arithmetic, {self.bandwidth} of memory; {dtype}, threads: {self.threads}"


class KindRow(NamedTuple):
    """All operations of one kind: `seconds`, their `share` of all kinds in percent, and `least`, the seconds of the roofline.

    `moved` counts every input, weight and result once, in bytes.
    """

    kind: str
    calls: int
    macs: int
    moved: int
    seconds: Spread
    share: Spread
    least: Spread


@dataclass(frozen=True, repr=False)
class Measured:
    """A network's time by kind of layer, longest first; `whole` is that of the network when nobody looks inside."""

    model: str
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[KindRow, ...]
    whole: Spread
    roofline: Roofline

    def table(self) -> Table:
        """One line a kind."""
        rows = [
            [kind, str(calls), f"{macs:,}", f"{moved / 1e6:,.1f}", *map(repr, (seconds, share, least))]
            for kind, calls, macs, moved, seconds, share, least in self.rows
        ]
        inputs = " and ".join(" x ".join(map(str, shape)) for shape in self.inputs)
        caption = (
            f"{self.model} on {inputs}, the whole network: {self.whole}. Medians and quartiles of {self.whole.runs} runs. "
            f"At least: on the {self.roofline}; maps that fit into a cache can be faster. {CONVENTION}."
        )
        return Table(["kind", "calls", "MACs", "MB moved", "time", "share", "at least"], rows, caption)

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def roofline(*, dtype: torch.dtype = torch.float32, threads: int | None = None) -> Roofline:
    """Measure this machine's peak and bandwidth, in about three seconds; `threads=None` is torch's own number."""
    x, weight, matrix = (torch.rand(*shape).to(dtype) for shape in (MAP, (MAP[1], MAP[1], 3, 3), (SIDE, SIDE)))
    source, target = torch.ones(2, COPIED // dtype.itemsize, dtype=dtype)
    with _threads(threads) as used, torch.no_grad():
        product = _times(lambda: matrix @ matrix)
        convolution = _times(lambda: F.conv2d(x, weight, padding=1))
        copying = _times(lambda: target.copy_(source))
    products = [2 * SIDE**3 / seconds for seconds in product]
    convolutions = [2 * x[0, 0].numel() * weight.numel() / seconds for seconds in convolution]
    flops = Spread.of(max(products, convolutions, key=statistics.median), "FLOP/s")
    bandwidth = Spread.of([2 * COPIED / seconds for seconds in copying], "B/s")  # read once, written once
    return Roofline(flops, bandwidth, used, dtype)


@torch.inference_mode(False)  # in it torch shows a convolution whole, and `MACS` does not know it
def measure(
    net: nn.Module, *shapes: Sequence[int], runs: int = 9, threads: int | None = None, machine: Roofline | None = None,
) -> Measured:
    """Time `net` in evaluation mode on random inputs of these shapes, on the CPU, after one run to warm up.

    It runs `runs` times with every operation timed by itself, and in turns with that as often without anybody looking
    inside. `machine` is a roofline measured before; None measures it now. The network is left
    alone. ValueError for fewer than three runs, and for a network that is not on the CPU.
    """
    require_positive(runs=runs)
    if runs < 3:
        raise ValueError(f"runs must be at least 3, or there is no spread to state; got {runs}")
    if not shapes:
        raise ValueError("measure needs the shape of the input, for instance (1, 3, 513, 513)")
    devices = {tensor.device.type for tensor in [*net.parameters(), *net.buffers()]} or {"cpu"}
    if devices != {"cpu"}:
        raise ValueError(f"measure times the CPU, and the network is on {', '.join(sorted(devices))}: call .cpu() first")
    net = copy.deepcopy(net).eval()
    dtype = number_format(net)
    inputs = [torch.rand(*shape).to(dtype) for shape in shapes]
    machine = machine or roofline(dtype=dtype, threads=threads)
    watched: list[list[_Timed]] = []
    whole: list[float] = []
    with _threads(threads) as used, torch.no_grad():
        net(*inputs)
        for _ in _with_progress(runs):  # the two in turns: what else the machine does meanwhile slows both
            with _Watch() as watch:
                net(*inputs)
            start = perf_counter()
            net(*inputs)
            whole.append(perf_counter() - start)
            watched.append(watch.operations)
    if machine.threads != used:
        raise ValueError(f"the roofline was measured with {machine.threads} threads and the network with {used}: use the same")
    sizes = tuple(tuple(shape) for shape in shapes)
    return Measured(type(net).__name__, sizes, tuple(_by_kind(watched, machine)), Spread.of(whole, "s"), machine)


class _Timed(NamedTuple):
    kind: str
    macs: int
    moved: int
    seconds: float


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times every operation by itself, but for those that move nothing: views, and empty tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Timed] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = perf_counter() - start
        name, read, made = func.overloadpacket.__name__, tensors_in(args), tensors_in(result)
        if read and {_memory(tensor) for tensor in made}.isdisjoint(_memory(tensor) for tensor in read):
            kind, macs = MACS[name](args, result) if name in MACS else (KINDS.get(name, name), 0)
            self.operations.append(_Timed(kind, macs, sum(tensor.nbytes for tensor in [*read, *made]), seconds))
        return result


def _times(run: Callable[[], Tensor]) -> list[float]:
    """Seconds of single runs, at least five and for LEAST seconds, after one to warm up.

    Not by torch.utils.benchmark: importing it writes a line to standard error where a CUDA toolkit is and no GPU.
    """
    run()
    times = list[float]()
    while len(times) < 5 or sum(times) < LEAST:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return times


def _memory(tensor: Tensor) -> int:
    """Names the memory behind a tensor; weights that oneDNN has packed do not say where they lie, and have no views."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else id(tensor)


def _by_kind(watched: Sequence[Sequence[_Timed]], machine: Roofline) -> Iterator[KindRow]:
    """The rows, longest first: every run adds up a kind's operations, the runs make the spread."""
    totals = [sum(operation.seconds for operation in run) for run in watched]
    kinds = {operation.kind for operation in watched[0]}
    runs = {kind: [sum(operation.seconds for operation in run if operation.kind == kind) for run in watched] for kind in kinds}
    for kind in sorted(kinds, key=lambda kind: -statistics.median(runs[kind])):
        work = [(operation.macs, operation.moved) for operation in watched[0] if operation.kind == kind]
        shares = [100 * seconds / total for seconds, total in zip(runs[kind], totals, strict=True)]
        yield KindRow(
            kind, len(work), sum(macs for macs, _ in work), sum(moved for _, moved in work),
            Spread.of(runs[kind], "s"), Spread.of(shares, "%"), machine.seconds(work),
        )


@contextmanager
def _threads(threads: int | None) -> Iterator[int]:
    """Let torch use so many threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    if threads is not None:
        require_positive(threads=threads)
        if threads > MOST_THREADS:
            raise ValueError(f"threads must be at most {MOST_THREADS:,}, got {threads:,}: use one for each core, or None")
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _with_progress(runs: int) -> Iterable[int]:
    """Turns, with a progress bar if standard error is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return range(runs)
    bar: Iterable[int] = tqdm(range(runs), unit="run", leave=False, disable=None)
    return bar
