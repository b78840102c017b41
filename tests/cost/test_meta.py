"""Results without values are those of torch, whether a rule answers or torch is asked."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minideeplab.cost import meta
from minideeplab.cost.meta import result_of, without_values
from minideeplab.cost.trace import tensors_in

aten = torch.ops.aten
small = st.integers(0, 3)
pairs = st.lists(st.integers(1, 3), min_size=2, max_size=2)
halves = st.lists(st.integers(0, 1), min_size=2, max_size=2)


@st.composite
def maps(draw: Any) -> torch.Tensor:
    """A map as networks have them, and now and then as they seldom have: strided, channels last, expanded, in half."""
    n, c, h, w = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    x = torch.empty(n, c, 2 * h, w, device="meta", dtype=draw(st.sampled_from([torch.float32] * 4 + [torch.bfloat16])))
    kind = draw(st.sampled_from(["plain"] * 5 + ["strided", "channels last", "expanded"]))
    if kind == "strided":
        return x[:, :, ::2]
    if kind == "expanded":
        return x[:, :, :1, :1].expand(-1, -1, h, w)
    return x.to(memory_format=torch.channels_last) if kind == "channels last" else x[:, :, :h].contiguous()


def described(func: Any, args: Any) -> Any:
    """Shape, type and memory layout of every result, or that there was an error."""
    try:
        results = tensors_in(func(*args))
    except (RuntimeError, IndexError, ZeroDivisionError, ValueError):  # the last: torch 2.4, of bounds in the wrong order
        return "an error"
    layouts = [[step for step, size in zip(x.stride(), x.shape) if size > 1] for x in results]
    return [(x.shape, x.dtype, layout) for x, layout in zip(results, layouts)]


@st.composite
def calls(draw: Any) -> tuple[Any, list[Any]]:
    name, x = draw(st.sampled_from(sorted(meta._RULES))), draw(maps())
    c = x.shape[1]

    def like(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=x.dtype, device="meta")

    match name:
        case "relu":
            return aten.relu.default, [x]
        case "hardtanh":
            return aten.hardtanh.default, [x, *draw(st.sampled_from([[], [0.0, 6.0], [0.0], [2.0, -2.0]]))]
        case "constant_pad_nd":
            margins = draw(st.lists(st.integers(-1, 2), min_size=0, max_size=5))
            return aten.constant_pad_nd.default, [x, margins, *draw(st.sampled_from([[], [0.0], [-1.0]]))]
        case "add":
            return aten.add.Tensor, [
                x,
                draw(st.sampled_from([x, like(*x.shape), like(c, 1, 1), like(3, 7, 11, 13), x.double(), 2])),
            ]
        case "native_batch_norm":
            sizes = [draw(st.sampled_from([c, c, c, c + 1])) for _ in range(2)]
            own = [like(c), like(c), *(like(size) for size in sizes)]
            return aten.native_batch_norm.default, [x, *own, draw(st.sampled_from([False, False, True])), 0.1, 1e-3]
        case "convolution":
            groups, inputs = draw(st.sampled_from([(1, c), (1, c), (c, 1), (2, c)]))
            weight = like(draw(st.integers(1, 3)) * groups, inputs, *draw(pairs))
            options = [draw(pairs), draw(halves), draw(pairs), draw(st.sampled_from([False] * 5 + [True])), [0, 0], groups]
            return aten.convolution.default, [x, weight, None, *options]
        case "max_pool2d_with_indices":
            options = [
                draw(pairs),
                draw(st.sampled_from([[], [1, 1], [2, 2], [2, 3]])),
                draw(halves),
                draw(pairs),
                draw(st.booleans()),
            ]
            return aten.max_pool2d_with_indices.default, [x, *options[: draw(st.integers(1, 5))]]
        case "avg_pool2d":
            options = [
                draw(pairs),
                draw(st.sampled_from([[], [1, 1], [2, 2], [2, 3]])),
                draw(halves),
                draw(st.booleans()),
                False,
            ]
            return aten.avg_pool2d.default, [x, *options[: draw(st.integers(1, 5))]]
        case "mean":
            return aten.mean.dim, [
                x,
                draw(st.sampled_from([[2, 3], [-1], [0, 2], [], None, [4], [1, -3]])),
                draw(st.booleans()),
            ]
        case "cat":
            others = [like(*x.shape), like(x.shape[0], 2, *x.shape[2:]), like(x.shape[0], c, 11, x.shape[3]), x]
            return aten.cat.default, [
                [x, *draw(st.lists(st.sampled_from(others), max_size=3))],
                draw(st.sampled_from([0, 1, 1, 2, -3, 4])),
            ]
        case "upsample_bilinear2d":
            return aten.upsample_bilinear2d.default, [
                x,
                draw(st.sampled_from([[4, 5], [1, 1], [0, 3], [4]])),
                draw(st.booleans()),
            ]
        case "addmm":
            sizes = [draw(st.sampled_from([2, 3])) for _ in range(4)]
            return aten.addmm.default, [
                like(draw(st.sampled_from([5, 5, 1, 4]))),
                like(sizes[0], sizes[1]),
                like(5, sizes[2]).t(),
            ]
    raise AssertionError(f"no calls of {name} are drawn")


@settings(max_examples=1000)
@given(calls())
def test_a_result_is_what_torch_makes(call):
    func, args = call
    evaluation = func is aten.native_batch_norm.default and not args[5]
    kept = 1 if evaluation else None  # the statistics of a batch that are not taken: empty on the CPU, not on meta
    ours, torchs = described(lambda *args: result_of(func, args, {}), args), described(func, args)
    assert ours[:kept] == torchs[:kept]


@pytest.mark.parametrize("name", sorted(meta._RULES))
def test_every_rule_answers_where_it_can(name, monkeypatch):
    """Not vacuous: for a plain call of each, torch is not asked."""
    x = torch.empty(2, 4, 9, 9, device="meta")
    c, weight = torch.empty(4, device="meta"), torch.empty(6, 4, 3, 3, device="meta")
    args = {
        "relu": [x], "hardtanh": [x, 0.0, 6.0], "constant_pad_nd": [x, [0, 1, 1, 0]],
        "add": [x, x], "native_batch_norm": [x, c, c, c, c, False, 0.1, 1e-3],
        "convolution": [x, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1],
        "max_pool2d_with_indices": [x, [3, 3], [2, 2], [1, 1], [1, 1], True], "avg_pool2d": [x, [3, 3], [1, 1], [1, 1]],
        "mean": [x, [2, 3], True], "cat": [[x, x], 1], "upsample_bilinear2d": [x, [5, 7], True],
        "addmm": [c, torch.empty(3, 7, device="meta"), torch.empty(4, 7, device="meta").t()],
    }[name]  # fmt: skip

    def asked(*args: Any) -> None:
        raise AssertionError("torch was asked")

    asked.overloadpacket = getattr(aten, name)
    assert tensors_in(result_of(asked, args, {}))


@pytest.mark.parametrize(
    "x", [torch.ones(2, 3), torch.ones(2, 3).t(), torch.ones(1, 2, 3, 4, dtype=torch.int8), torch.ones(3, 3).to_sparse()]
)
def test_a_tensor_without_values_is_otherwise_the_same(x):
    twin = without_values(x)
    assert (twin.shape, twin.dtype, twin.layout, twin.device.type) == (x.shape, x.dtype, x.layout, "meta")
    assert x.layout != torch.strided or twin.stride() == x.stride()


def test_maps_are_concatenated_along_the_batch_unless_told_otherwise():
    x = torch.empty(2, 4, 9, 9, device="meta")
    assert result_of(aten.cat.default, [[x, x]], {}).shape == torch.cat([x, x]).shape == (4, 4, 9, 9)


OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6)


@pytest.mark.skipif(OLD, reason="older torch imports sympy whatever it is asked")
def test_the_papers_networks_are_profiled_without_torch_s_compiler():
    code = """
import sys, torch
from minideeplab import DeepLabV3, DeepLabV3Plus, InceptionV3, Xception, resnet101, xception65
from minideeplab.cost import profile, tf_multiply_adds
with torch.device("meta"):
    nets = Xception(), InceptionV3(), DeepLabV3(resnet101(), 21), DeepLabV3Plus(xception65(), 21)
for net in nets:
    profile(net, (1, 3, 129, 128))
tf_multiply_adds(nets[-1], 129)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
