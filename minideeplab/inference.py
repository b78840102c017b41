"""The fast path: the same function of the same network, arranged for the machine.

A trained network does more than its answer needs. `optimize_for_inference` leaves out what it can, in six steps, each
explained where it is taken: fold batch norm, rectify inside the convolution, lay channels last, pack the weights, pad
wide rates by hand, look at a batch in pieces. docs/benchmarks.md has what they bring, and what brought nothing.
"""

import copy
import ctypes
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._pytree import tree_map

from minideeplab.blocks.convolution import SameConv2d
from minideeplab.checks import check_image, require_kind
from minideeplab.geometry import same_padding_before

PLAIN = {  # torch's layers that are served beside this library's own modules
    nn.Sequential, nn.ModuleList, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Upsample, nn.Dropout, nn.Flatten, nn.Linear, nn.Identity,
}
RECTIFIERS: dict[Any, Callable[[Tensor], Tensor]] = {nn.ReLU: F.relu, F.relu: F.relu, nn.ReLU6: F.relu6, F.relu6: F.relu6}
UNPOOLING = {F.max_unpool2d, torch._C._nn.max_unpool2d}
ALONE = threading.Lock()  # torch.fx patches `nn.Module` itself while it traces: two at once would leave it so
IN_ONEDNN: dict[Any, tuple[str, list[float]]] = {None: ("none", []), F.relu: ("relu", []), F.relu6: ("hardtanh", [0.0, 6.0])}


def optimize_for_inference(net: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
    """A new module that computes what `net.eval()` computes, faster and without gradients; `net` is left alone.

    The same inputs, of any size, the same outputs and the same errors: logits within 1e-4 of their standard deviation in
    float32. `dtype=torch.bfloat16` computes with 8 significant bits inside and answers in the network's own dtype. The
    result is a snapshot and cannot be trained; its maps lie in memory with the channels last. Let no other thread run or
    trace a network meanwhile; several threads may optimize, one waits for the other.

    It serves what it can prove: this library's modules and the plain layers of torch in `PLAIN`, as they were written.
    TypeError for everything else (another class or a subclass, a replaced method, a hook), since a list of operations
    cannot say what foreign code would have done: there use `torch.compile`. And for `SegNetHead`: in a flat part of an image
    the last digit says which of four equal values is the maximum. ValueError for weights on several devices.
    """
    require_kind(nn.Module, net=net)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point type such as torch.bfloat16, got {dtype!r}")
    with ALONE, torch.inference_mode(False), torch.no_grad():
        if type(net) is FastPath and dtype in (None, net.inside):
            return copy.deepcopy(net)
        _require_known(net)
        net = copy.deepcopy(net).eval()
        return FastPath(nn.Sequential(net) if type(net) in {*PLAIN, SameConv2d} else net, dtype)


def keep_freed_memory() -> bool:
    """Ask the C library of this *process* to keep what is freed, for the next layer; whether it could be asked.

    glibc returns every block over 32 MiB to the system when it is freed and faults it in again, page by page, the next time:
    a map of 128 channels at 257 x 257 is larger. From here on blocks up to 1 GiB come from a heap that is not trimmed, so the
    process stays as large as it once was, and batches are no longer cut. Linux with glibc only; elsewhere the answer is False.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    kept = mallopt is not None and all(mallopt(option, size) for option, size in ((-3, 2**30), (-1, 2**31 - 1)))  # malloc.h
    FastPath.in_pieces = not kept  # with nothing to be faulted in again, a whole batch is the faster one
    return kept


def _require_known(net: nn.Module) -> None:
    """Raise unless every part of `net` is of a known class and does what that class says."""
    for name, part in net.named_modules():
        kind = type(part)
        ours = kind.__module__.startswith("minideeplab.") and kind.__module__ != __name__
        found = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None)  # a class can claim to be from anywhere
        hooks = part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        replaced = [key for key, value in vars(part).items() if callable(value)]  # shadows a method, or is called as a layer
        if kind is FastPath:
            what = "is optimized already: start from the network that it was made of"
        elif not (kind in PLAIN or (ours and found is kind)):
            what = f"is a {kind.__module__}.{kind.__qualname__}"
        elif hooks or _global_forward_hooks or _global_forward_pre_hooks:
            what = f"({kind.__name__}) has a hook"
        elif replaced:
            what = f"({kind.__name__}) has its own {', '.join(replaced)}"
        else:
            continue
        served = "the modules of minideeplab and plain layers of torch.nn, as they were written"
        where = f"part {name}" if name else "the network"
        raise TypeError(f"optimize_for_inference serves {served}: {where} {what}. Use torch.compile(net), which takes any")
    tensors = [*net.named_parameters(), *net.named_buffers()]
    if len(devices := {str(tensor.device) for _, tensor in tensors}) > 1:
        raise ValueError(f"the weights lie on {' and '.join(sorted(devices))}: move the network to one device, net.to(...)")
    for name, tensor in tensors:
        if type(tensor) not in (nn.Parameter, Tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
            what = f"{type(tensor).__name__}, {tensor.layout}, {tensor.dtype}"
            raise TypeError(f"{name} is no ordinary dense tensor ({what}): use torch.compile(net)")


class FastPath(nn.Module):
    """The optimized network, and the conversions on its way in and out.

    Channels last: a 1 x 1 convolution multiplies a matrix by the channels of one pixel. Stored in the order N, H, W, C
    these lie side by side and nothing has to be rearranged. The axes keep their names, only the strides change.

    Batches in pieces: a network sees each image by itself, so a batch may be cut anywhere. 8 x 299 x 299 pixels make maps of
    89 MB in Xception, which the C library hands back and faults in again, page by page; those of two it keeps. CPU only.
    """

    kept = 2**25  # bytes, beyond which glibc's malloc keeps no freed block: M_MMAP_THRESHOLD grows up to there, man mallopt
    in_pieces = True  # until `keep_freed_memory` has been called

    def __init__(self, net: nn.Module, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.separate, self.pieces = _sees_each_image_by_itself(net), dict[Any, int]()  # of which input: images a piece
        self.inside, self.outside = dtype, next((p.dtype for p in net.parameters() if p.is_floating_point()), None)
        try:
            self.net = fx.GraphModule(net, _Tracer().trace(net))
        except Exception as error:
            what = f"{type(net).__name__} is no fixed list of operations ({error})"
            raise TypeError(f"{what}: optimize the network around it, or use torch.compile(net)") from error
        _fuse(self.net, self.inside or self.outside)
        self.to(dtype).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FastPath":
        """Stays in evaluation mode, whatever `mode` says: a folded batch norm has no other."""
        return super().train(False)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        def enter(x: Any) -> Any:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                return x
            return x.to(self.inside, memory_format=torch.channels_last if x.dim() == 4 else torch.preserve_format)

        def leave(x: Any) -> Any:
            return x.to(self.outside) if self.inside and isinstance(x, Tensor) and x.is_floating_point() else x

        with torch.no_grad():
            inputs, named = tree_map(enter, inputs), tree_map(enter, named)
            batch = inputs[0] if self.separate and self.in_pieces and len(inputs) == 1 and not named else None
            if isinstance(batch, Tensor) and batch.dim() == 4 and batch.device.type == "cpu":
                return tree_map(leave, self._look(batch))
            return tree_map(leave, self.net(*inputs, **named))

    def _look(self, x: Tensor) -> Any:
        """The whole batch the first time, when it may be refused and its maps are measured, from then on in equal pieces."""
        key, count = (x.shape, x.dtype, x.device), len(x)
        if self.pieces.get(key, count) < count:
            return tree_map(lambda *parts: torch.cat(parts), *map(self.net, x.chunk(count // self.pieces[key])))
        answer = self.net(x)
        largest = max((part.made for part in self.net.modules() if isinstance(part, FastConv2d)), default=0)
        self.pieces[key] = max(n for n in range(1, count + 1) if not count % n and (n == 1 or n * largest <= count * self.kept))
        return answer


class FastConv2d(nn.Module):
    """A convolution with the batch norm and the ReLU behind it: (N, C_in, H, W) -> (N, C_out, H', W')."""

    # oneDNN's fast depthwise kernel holds the left border in registers: 6 columns with AVX-512, 4 with AVX2. For a wider
    # padding, and every ASPP has wider ones, it falls back to a kernel 5 to 60 times slower.
    widest_padding = 4
    # Packed weights are a second copy (150 MB in DeepLabV3+); packing anew costs 1 to 4 % above so many pixels, 7 on 17 x 17.
    most_pixels = 1000

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach().clone(memory_format=torch.channels_last)
        bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding, self.dilation = _two(conv.stride), _two(conv.padding), _two(conv.dilation)
        self.groups, self.folded, self.same = conv.groups, False, type(conv) is SameConv2d and self.stride != (1, 1)
        self.rectify: Callable[[Tensor], Tensor] | None = None
        self.made = 0  # bytes of its last map
        self.packed: tuple[Any, Tensor] = (None, weight)  # of which size of map, and the weights in blocks for it

    def fold(self, bn: nn.BatchNorm2d) -> None:
        """With fixed statistics, batch norm is one factor and one shift per channel: weights and bias can carry them.

        gamma * (w * x + b - mean) / std + beta  =  (gamma / std * w) * x + (gamma / std * (b - mean) + beta)
        """
        mean, variance = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
        gamma, beta = (1, 0) if bn.weight is None else (bn.weight, bn.bias)
        factor = gamma / (variance.double() + bn.eps).sqrt()  # double precision: rounded once, at the end
        self.weight.copy_(factor[:, None, None, None] * self.weight)
        self.bias.copy_(factor * (self.bias - mean) + beta)
        self.folded = True

    def absorb(self, layer: Any) -> bool:
        """Whether this convolution can do, and from now on does, what the layer or function behind it did."""
        if self.rectify is not None:
            return False
        if type(layer) is nn.BatchNorm2d:
            fixed = all(s is not None and s.shape == self.bias.shape for s in (layer.running_mean, layer.running_var))
            if fixed:  # it does not take the statistics of its batch
                self.fold(layer)
            return fixed
        self.rectify = RECTIFIERS.get(type(layer) if isinstance(layer, nn.Module) else layer)
        return self.rectify is not None

    def forward(self, x: Tensor) -> Tensor:
        weight, (rows, columns) = self.weight, self.padding
        if self.folded and x.dim() != 4:
            raise ValueError(f"expected 4D input (got {x.dim()}D input)")  # as the batch norm would have said
        if self.same:
            x, rows, columns = self._padded(x)
        if x.dim() != 4 or x.dtype != weight.dtype or not _has_onednn(x):
            y = F.conv2d(x, weight, self.bias, self.stride, (rows, columns), self.dilation, self.groups)
            self.made = y.nbytes
            return self.rectify(y) if self.rectify else y
        if weight.is_inference():  # loaded or converted in inference mode: without a version, which the key below needs
            with torch.inference_mode(False):
                weight = self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        if self.groups > 1 and columns > self.widest_padding:
            x, columns = F.pad(x, (columns, columns)), 0  # the same zeros, but now they are pixels of the map
        geometry = (rows, columns), self.stride, self.dilation, self.groups
        key = (x.shape, x.dtype, weight._version)
        known = self.packed[0] == key
        # This operation is always oneDNN's (F.conv2d leaves a single image's 1 x 1 to a matrix product, half as fast on
        # some CPUs), and it rectifies a sum before it leaves the registers: ReLU costs no second pass over the map.
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed[1] if known else weight, self.bias, *geometry, *IN_ONEDNN[self.rectify], "",
        )
        if not known and len(x) * x.shape[2] * x.shape[3] <= self.most_pixels:
            # oneDNN wants the weights in blocks that depend on the size of the map, and would arrange them anew in every
            # call: on small images up to half of the time. A new size packs again, once its shape has been found right.
            self.packed = (key, torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, x.shape))
        self.made = y.nbytes
        return y

    def _padded(self, x: Tensor) -> tuple[Tensor, int, int]:
        """TensorFlow's SAME. On odd maps it is symmetric: the convolution pads by itself, and nothing is copied."""
        axes = list(zip(x.shape[-2:], self.weight.shape[2:], self.stride, self.dilation))
        rows, columns = (same_padding_before(*axis) for axis in axes)
        extents = [dilation * (k - 1) for _, k, _, dilation in axes]
        if all((n + 2 * before - extent - 1) // stride == (n - 1) // stride  # as many windows as SAME has
               for (n, _, stride, _), before, extent in zip(axes, (rows, columns), extents)):
            return x, rows, columns
        return F.pad(x, (columns, extents[1] - columns, rows, extents[0] - rows)), 0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": (None, self.weight)}  # packed weights can be neither copied nor saved


def _sees_each_image_by_itself(net: nn.Module) -> bool:
    """Whether this is a network of the library without batch norm of the batch or `nn.Flatten` over images."""
    mixing = any(getattr(part, "running_mean", part) is None or getattr(part, "start_dim", 1) != 1 for part in net.modules())
    return type(net).__module__.startswith("minideeplab.networks.") and not mixing


def _two(value: Any) -> tuple[int, ...]:
    """(rows, columns) of what torch also takes as one number."""
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    return values * (2 // len(values))


def _has_onednn(x: Tensor) -> bool:
    there = x.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class _Tracer(fx.Tracer):
    """Runs `forward` once on stand-ins: what they write down is a graph of operations, which can be edited like a list."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(check_image,))  # one more operation: the network still refuses bad images

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """One operation of the list: torch's layers, and a convolution that pads for itself."""
        return type(module) is SameConv2d or super().is_leaf_module(module, name)

    def create_proxy(self, kind: str, target: Any, args: Any, *rest: Any, **named: Any) -> Any:
        """The stand-in for one operation; an argument that may be missing (a block's `tap`) is missing."""
        return args[0] if kind == "placeholder" and args else super().create_proxy(kind, target, args, *rest, **named)


def _fuse(net: fx.GraphModule, inside: torch.dtype | None) -> None:
    """Edits the graph: convolution, batch norm, ReLU become one operation where nobody else reads what lies between."""
    modules = dict(net.named_modules())

    def called(node: fx.Node) -> Any:
        return modules[str(node.target)] if node.op == "call_module" else node.target

    for node in net.graph.nodes:
        conv = called(node)
        if conv in UNPOOLING:  # on flat images ResNet-101 and SegNet's head answered 2.4 standard deviations apart
            what = "values go where maxima stood, and of nearly equal neighbors the last digit says which is the maximum"
            raise TypeError(f"{node.name} has no fast path that answers the same ({what}): run the network itself")
        if conv is check_image:
            node.args = (node.args[0], inside)  # the number format inside is ours to choose
        elif type(conv) in (nn.Conv2d, SameConv2d) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            fast = FastConv2d(conv)
            while len(node.users) == 1 and fast.absorb(called(reader := next(iter(node.users)))):
                reader.replace_all_uses_with(node)
                net.graph.erase_node(reader)
            node.target = f"fast.{node.name}"
            net.add_submodule(node.target, fast)
    net.delete_all_unused_submodules()
    net.recompile()
