"""Multiply-adds as the authors of DeepLabV3+ counted them, recovered from tables 3 and 5 of Chen 2018.

The paper names neither input nor rule. It is TensorFlow 1's profiler, its float operations divided by two, over the whole
inference graph on one 513 x 513 image (Cityscapes: 1025 x 2049): much more than convolutions, and yet no batch norm, no
ReLU, no resizing, for which the profiler had no formula.
"""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.checks import require_finite, require_kind, require_positive
from minideeplab.cost.meta import Watch
from minideeplab.cost.trace import meta_twin, number_format


class MultiplyAdds(NamedTuple):
    """Half of the profiler's float operations, counted, by what they belong to. `arithmetic` is what `profile` calls MACs.

    The first six grow with every scale and flipped image that is looked at, the last four are paid once.
    """

    arithmetic: float = 0
    space_to_batch: float = 0  # atrous convolution ran on sub-grids of equal size: the map was padded to a multiple of the rate
    residual_additions: float = 0  # one operation an element
    average_pool: float = 0  # image pooling: one for each element read
    max_pool: float = 0  # ResNet's root: nine for each element made
    bias: float = 0  # of the logits
    weight_decay: float = 0  # the training loss stayed in the graph: square, sum and scale every weight but the depthwise ones
    initializers: float = 0  # so did the random start of every weight: scale and shift
    argmax: float = 0  # one comparison less than there are classes, at every pixel
    input_scaling: float = 0  # [0, 255] -> [-1, 1]: multiply and subtract

    @property
    def total(self) -> float:
        """What the paper prints: it in billions, this in ones."""
        return sum(self)


def tf_multiply_adds(
    net: nn.Module, size: int | tuple[int, int], *, scales: Sequence[float] = (1.0,), flip: bool = False,
) -> MultiplyAdds:
    """What tables 3 and 5 would print for a DeepLab on one image of `size` (height and width, if they differ).

    The image is looked at once at every scale, twice with `flip`; a scaled side has int((n - 1) * scale + 1) pixels.
    `net` is run on meta tensors and left alone; ValueError if it cannot run or does not give a map of logits, and for a
    scale that is not positive and finite.
    """
    require_kind(nn.Module, net=net)
    require_kind(bool, flip=flip)
    height, width = (size, size) if isinstance(size, int) else size
    require_positive(height=height, width=width)
    require_finite(**{f"scales[{i}]": scale for i, scale in enumerate(scales)})
    if not scales:
        raise ValueError("scales is empty: name at least one, (1.0,) is the image as it is")
    twin, profiler = meta_twin(net).eval(), _Profiler()
    for scale in scales:
        scaled = [int((side - 1) * scale + 1) for side in (height, width)]
        try:
            with torch.inference_mode(False), torch.no_grad(), profiler:  # see cost/trace.py
                logits = twin(torch.empty(1, 3, *scaled, dtype=number_format(twin), device="meta"))
        except Exception as error:
            raise ValueError(f"{type(net).__name__} cannot run on (1, 3, {scaled[0]}, {scaled[1]}): {error}") from error
        if not isinstance(logits, Tensor) or logits.dim() != 4:
            raise ValueError(f"expected logits (1, classes, height, width) as DeepLab gives them from {type(net).__name__}")
    kernels = [module for module in twin.modules() if isinstance(module, nn.Conv2d)]
    every = sum(kernel.weight.numel() for kernel in kernels)
    depthwise = sum(kernel.weight.numel() for kernel in kernels if kernel.groups == kernel.in_channels > 1)
    looks = 2 if flip else 1
    operations = MultiplyAdds(*(looks * count for count in profiler.operations))._replace(
        weight_decay=3 * (every - depthwise),
        initializers=2 * every,
        argmax=height * width * (logits.shape[1] - 1),
        input_scaling=2 * 3 * height * width,
    )
    return MultiplyAdds(*(count / 2 for count in operations))


class _Profiler(Watch):
    """Sees every operation that runs and adds up the float operations that TensorFlow's profiler had a formula for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = MultiplyAdds()

    def see(self, name: str, args: Sequence[Any], result: Any) -> None:
        done = self.operations
        match name:
            case "convolution":
                _, weight, bias, _, _, rates, *_ = args
                places = prod(result.shape[2:])
                padded = prod(ceil(side / rate) * rate for side, rate in zip(result.shape[2:], rates, strict=True))
                done = done._replace(
                    arithmetic=done.arithmetic + 2 * weight.numel() * places,
                    space_to_batch=done.space_to_batch + 2 * weight.numel() * (padded - places),
                    bias=done.bias + (0 if bias is None else result.numel()),
                )
            case "add":
                done = done._replace(residual_additions=done.residual_additions + result.numel())
            case "mean":
                done = done._replace(average_pool=done.average_pool + args[0].numel())
            case "max_pool2d_with_indices":
                done = done._replace(max_pool=done.max_pool + 9 * result[0].numel())
        self.operations = done
