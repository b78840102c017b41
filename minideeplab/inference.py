"""The fast path: the same function, arranged for the machine; and the authors' multi-scale prediction.

A trained network does more than its answer needs. `optimize_for_inference` leaves out what it can, in five steps, each
explained where it is taken: fold batch norm, rectify inside the convolution, lay channels last, pack the weights, pad
wide rates by hand. docs/benchmarks.md has what each brings. A sixth, adding the shortcut inside the convolution, brought
nothing that could be measured and is not here.
"""

import copy
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from minideeplab.blocks.convolution import upsample
from minideeplab.checks import check_image, check_maps


def optimize_for_inference(model: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
    """A new module that computes what `model.eval()` computes, faster and without gradients; `model` is left alone.

    The same positional inputs, of any size, and the same outputs: logits within 1e-4 of their standard deviation in
    float32. `dtype=torch.bfloat16` computes with 8 significant bits inside and answers in the model's own dtype.

    Any module will do. What cannot be written down as a list of operations (its path depends on values or sizes, or it
    has hooks) keeps running as it is, with optimized parts. The result is a snapshot and cannot be trained.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"optimize_for_inference needs an nn.Module, got {type(model).__name__}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point type such as torch.bfloat16, got {dtype!r}")
    with torch.inference_mode(False), torch.no_grad():
        return FastPath(copy.deepcopy(model).eval(), dtype)


class FastPath(nn.Module):
    """The optimized network, and the conversions on its way in and out.

    Channels last: a 1 x 1 convolution multiplies a matrix by the channels of one pixel. Stored in the order N, H, W, C
    these lie side by side and nothing has to be rearranged. The axes keep their names, only the strides change.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.inside, self.outside = dtype, next((p.dtype for p in net.parameters() if p.is_floating_point()), None)
        self.graphs = nn.ModuleList()
        self.net = _optimized(net, self.graphs)
        self.to(dtype).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FastPath":
        """Stays in evaluation mode, whatever `mode` says: a folded batch norm has no other."""
        return super().train(False)

    def forward(self, *inputs: Any) -> Any:
        def enter(x: Any) -> Any:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                return x
            return x.to(self.inside, memory_format=torch.channels_last if x.dim() == 4 else torch.preserve_format)

        def leave(x: Any) -> Any:
            return x.to(self.outside) if self.inside and isinstance(x, Tensor) and x.is_floating_point() else x

        with torch.no_grad():
            return tree_map(leave, self.net(*tree_map(enter, inputs)))


class FastConv2d(nn.Module):
    """A convolution with the batch norm and the ReLU behind it: (N, C_in, H, W) -> (N, C_out, H', W')."""

    # oneDNN's fast depthwise kernel holds the left border in registers: 6 columns with AVX-512, 4 with AVX2. For a wider
    # padding, and every ASPP has wider ones, it falls back to a kernel 5 to 60 times slower.
    widest_padding = 4

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach().clone(memory_format=torch.channels_last)
        bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        rows, columns = map(int, conv.padding)
        self.stride, self.padding, self.dilation, self.groups = conv.stride, (rows, columns), conv.dilation, conv.groups
        self.relu = False
        self.packed: tuple[Any, Tensor] = (None, weight)  # of which size of map, and the weights in blocks for it

    def fold(self, bn: nn.BatchNorm2d) -> None:
        """With fixed statistics, batch norm is one factor and one shift per channel: weights and bias can carry them.

        gamma * (w * x + b - mean) / std + beta  =  (gamma / std * w) * x + (gamma / std * (b - mean) + beta)
        """
        mean, variance = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
        gamma, beta = (bn.weight, bn.bias) if bn.affine else (1, 0)
        factor = gamma / (variance.double() + bn.eps).sqrt()  # double precision: rounded once, at the end
        self.weight.copy_(factor[:, None, None, None] * self.weight)
        self.bias.copy_(factor * (self.bias - mean) + beta)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor
        if not _has_onednn(x):
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            return F.relu(y) if self.relu else y
        rows, columns = self.padding
        if self.groups > 1 and columns > self.widest_padding:
            x, columns = F.pad(x, (columns, columns)), 0  # the same zeros, but now they are pixels of the map
        geometry = (rows, columns), self.stride, self.dilation, self.groups
        key = (x.shape, x.dtype, self.weight._version)
        if self.packed[0] != key:
            # oneDNN wants the weights in blocks that depend on the size of the map, and would arrange them anew in every
            # call: on small images up to half of the time. A new size packs again.
            self.packed = (key, torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, x.shape))
        # This operation is always oneDNN's (F.conv2d leaves a single image's 1 x 1 to a matrix product, half as fast on
        # some CPUs), and it rectifies a sum before it leaves the registers: ReLU costs no second pass over the map.
        then = "relu" if self.relu else "none"
        y = torch.ops.mkldnn._convolution_pointwise(x, self.packed[1], self.bias, *geometry, then, [], "")
        return y

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": (None, self.weight)}  # packed weights can be neither copied nor saved


def _has_onednn(x: Tensor) -> bool:
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _StandIn(fx.Proxy):
    """Stands in for a tensor and writes down what is done to it. It has no value, no size and no type to be asked for."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """`isinstance` looks here, and must not learn that this is no tensor: a network would take another path."""
        if sys._getframe(1).f_globals["__name__"].startswith("torch."):
            return fx.Proxy
        raise fx.proxy.TraceError("the type of a stand-in was asked for")


class _Tracer(fx.Tracer):
    """Runs `forward` once on stand-ins: the operations they write down are a graph, which can be edited like a list.

    A module that asks a stand-in for more than it has becomes a single, opaque operation.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(check_image, check_maps, upsample))  # three more operations, not looked into
        self.opaque: list[nn.Module] = []

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _StandIn(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_simple(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.create_arg((args, kwargs))  # written down now: an attribute such as `features.high` waits for its first use
        before = len(self.graph.nodes)
        if not self.is_leaf_module(m, ""):
            try:
                return forward(*args, **kwargs)
            except Exception:  # whatever it was, a stand-in did not suffice: take back what was written down
                for node in reversed(list(self.graph.nodes)[before:]):
                    self.graph.erase_node(node)
                self.opaque.append(m)
        return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def create_arg(self, a: Any) -> Any:
        """A tensor that no module owns was made in `forward`, perhaps at random: it has to be made in every call."""
        arg = a.node if type(a) is _StandIn else super().create_arg(a)
        if isinstance(arg, fx.Node) and str(arg.target).startswith("_tensor_constant"):
            raise fx.proxy.TraceError("a tensor made in forward")
        return arg


def _is_simple(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _optimized(module: nn.Module, graphs: nn.ModuleList) -> nn.Module:
    """The edited graph of `module`; or, where it is opaque, `module` itself, with parts that run as graphs."""
    tracer, fast = _Tracer(), module
    try:
        if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
            raise fx.proxy.TraceError("a hook may carry real tensors past the graph")
        if any(p.default is not p.empty for p in inspect.signature(type(module).forward).parameters.values()):
            raise fx.proxy.TraceError("a stand-in for an argument that may be missing is never None")
        fast = fx.GraphModule(module, tracer.trace(module))
        graphs.append(fast)
    except Exception:
        tracer.opaque = [module]
    else:
        _fuse(fast)
    for parent in tracer.opaque:
        for part in parent.children():
            if not _is_simple(part) and (graph := _optimized(part, graphs)) is not part:
                part.forward = graph.forward  # its attributes stay, for whoever asks
    return fast


def _fuse(net: fx.GraphModule) -> None:
    """Edits the graph: convolution, batch norm, ReLU become one operation where nobody else reads what lies between."""
    modules = dict(net.named_modules())

    def called(node: fx.Node) -> Any:
        return modules[str(node.target)] if node.op == "call_module" else node.target

    def absorb(node: fx.Node, wanted: Callable[[Any], bool]) -> Any:
        """What the only reader of `node` calls, if wanted: `node` then takes the reader's place. Otherwise None."""
        reader = next(iter(node.users)) if len(node.users) == 1 else node
        if reader is node or not wanted(called(reader)):
            return None
        reader.replace_all_uses_with(node)
        net.graph.erase_node(reader)
        return called(reader)

    relus = (F.relu, torch.relu, "relu", "relu_")
    for node in net.graph.nodes:
        conv = called(node)
        if conv is check_maps and node.args[0].op != "placeholder":
            net.graph.erase_node(node)  # what the caller hands in is checked, what we hand on need not be
        elif conv is check_image:  # the number format is ours to choose
            node.target, node.args = check_maps, (node.args[0], 3)
        elif type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and isinstance(conv.padding, tuple):
            fast = FastConv2d(conv)
            if bn := absorb(node, lambda what: type(what) is nn.BatchNorm2d and what.running_mean is not None):
                fast.fold(bn)
            fast.relu = bool(absorb(node, lambda what: type(what) is nn.ReLU or what in relus))
            node.target = f"fast.{node.name}"
            net.add_submodule(node.target, fast)
    net.delete_all_unused_submodules()
    net.recompile()


def predict(
    net: Callable[[Tensor], Tensor], images: Tensor, *,
    scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip: bool = True,
) -> Tensor:  # fmt: skip
    """Class probabilities as the authors compute them for their tables: (N, C, H, W) -> (N, num_classes, H, W).

    `net`, in evaluation mode, sees the images at every scale, and mirrored. Its logits are resized to H x W, softmax makes
    probabilities of them, and these are averaged; `.argmax(1)` gives the labels.
    """
    check_maps(images, images.shape[1] if images.dim() == 4 else 3)
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be positive and at least one, got {tuple(scales)}")
    if getattr(net, "training", False):
        raise ValueError("predict needs a network in evaluation mode: call .eval() on it first")
    (h, w), mirrorings, total = images.shape[2:], (False, True) if flip else (False,), torch.zeros(())
    with torch.no_grad():
        for scale in scales:
            x = upsample(images, (int((h - 1) * scale + 1), int((w - 1) * scale + 1)))  # 513 -> 257, 385, ...: still 16n + 1
            for mirrored in mirrorings:
                logits = net(x.flip(3)).flip(3) if mirrored else net(x)
                total = total + upsample(logits, (h, w)).softmax(1)
    return total / (len(scales) * len(mirrorings))
