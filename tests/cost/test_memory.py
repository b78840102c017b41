"""Peak activation memory: counted by hand, by brute force, and against tensors that live and die in a real run."""

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from minideeplab import ASPP, DeepLabV3Plus, Xception, XceptionBlock, xception65
from minideeplab.cost import compare, profile
from minideeplab.cost.memory import Operation, peak_bytes

FLOAT = 4  # bytes


@st.composite
def programs(draw: Any) -> list[Operation]:
    """Every operation makes one piece and reads any that exist."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    reads = [draw(st.lists(st.integers(0, turn - 1), max_size=3)) if turn else [] for turn in range(len(sizes))]
    return [Operation(read, {turn: size}) for turn, (read, size) in enumerate(zip(reads, sizes, strict=True))]


@given(programs())
def test_peak_is_the_largest_sum_over_the_moments_of_a_program(program):
    def lives(piece: int, moment: int) -> bool:
        readers = [turn for turn, operation in enumerate(program) if piece in operation.reads]
        return piece <= moment <= max([piece, *readers])

    sums = [sum(op.makes[piece] for piece, op in enumerate(program) if lives(piece, moment)) for moment in range(len(program))]
    assert peak_bytes(program) == max(sums)


@given(programs())
def test_peak_lies_between_the_largest_piece_and_all_of_them(program):
    sizes = [size for operation in program for size in operation.makes.values()]
    assert max(sizes) <= peak_bytes(program) <= sum(sizes)


def test_a_chain_holds_an_input_and_a_result():
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 2, 1))
    assert profile(chain, (1, 3, 10, 10)).peak_bytes == (8 + 16) * 100 * FLOAT


def test_a_shortcut_keeps_the_input_of_its_block_alive():
    class Block(nn.Module):
        def __init__(self, shortcut: bool) -> None:
            super().__init__()
            self.residual, self.shortcut = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()), shortcut

        def forward(self, x: Tensor) -> Tensor:
            return self.residual(x) + x if self.shortcut else self.residual(x)

    maps = [profile(Block(shortcut), (1, 8, 10, 10)).peak_bytes / (8 * 100 * FLOAT) for shortcut in (False, True)]
    assert maps == [2, 3]


def test_views_and_weights_are_no_activations():
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(100, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(1)[:, :100].view(-1, 100))

    assert profile(Views(), (1, 2, 10, 10)).peak_bytes == (200 + 7) * FLOAT


def test_an_early_result_that_is_returned_lives_to_the_end():
    class Two(nn.Module):
        def __init__(self, keep: bool) -> None:
            super().__init__()
            self.keep, self.shrink = keep, nn.Conv2d(16, 1, 1)

        def forward(self, x: Tensor) -> Any:
            low = torch.relu(x)
            small = self.shrink(low)
            wide = small.repeat(1, 40, 1, 1)
            return (low, wide) if self.keep else wide

    assert profile(Two(keep=False), (1, 16, 10, 10)).peak_bytes == (1 + 40) * 100 * FLOAT
    assert profile(Two(keep=True), (1, 16, 10, 10)).peak_bytes == (16 + 1 + 40) * 100 * FLOAT


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bytes_follow_the_number_format(dtype):
    net = nn.Conv2d(3, 8, 3, padding=1)
    assert profile(net.to(dtype), (1, 3, 9, 9)).peak_bytes == (3 + 8) * 81 * dtype.itemsize


class Alive(TorchDispatchMode):
    """The most bytes that tensors of a real run hold at once: memory that the garbage collector has not taken back."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in [*net.parameters(), *net.buffers()]}
        self.bytes = self.peak = self.total = 0
        self.remember(x)

    def remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known and storage.nbytes():
            self.known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
            self.total += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self.forget, storage.data_ptr(), storage.nbytes())

    def forget(self, pointer: int, size: int) -> None:
        self.known.discard(pointer)
        self.bytes -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            self.remember(tensor)
        return result


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)), (2, 3, 20, 20)),
        (XceptionBlock(8, [16, 16], stride=2), (1, 8, 33, 33)),
        (ASPP(16, 8), (1, 16, 33, 33)),
        (Xception(10), (1, 3, 71, 71)),
        (DeepLabV3Plus(xception65(width=0.125), 5), (1, 3, 65, 65)),
    ],
    ids=["chain", "block", "aspp", "xception", "deeplab"],
)
def test_a_real_run_holds_at_least_the_peak_and_less_than_everything(net, shape):
    net, x = net.eval(), torch.rand(shape)
    with torch.no_grad(), Alive(net, x) as alive:
        net(x)
    least = profile(net, shape).peak_bytes
    assert least <= alive.peak < alive.total  # more than the peak: a frame keeps what it named until it returns


def test_the_comparison_shows_shares_and_peak():
    nets = {"dense": nn.Conv2d(8, 8, 3, padding=1, bias=False), "pointwise": nn.Conv2d(8, 8, 1, bias=False)}
    table = compare({name: profile(net, (1, 8, 100, 125)) for name, net in nets.items()})
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [(row["depthwise"], row["pointwise"], row["dense"]) for row in rows] == [
        ("0.0%", "0.0%", "100.0%"),
        ("0.0%", "100.0%", "0.0%"),
    ]
    assert [row["peak MB"] for row in rows] == ["0.8", "0.8"]
    assert "10^6 bytes" in table.caption
