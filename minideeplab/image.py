"""From pixels to what a network sees, and back: the one home of the scaling to [-1, 1] and of the grid 16 k + 1.

Every network of the library takes RGB as (N, 3, H, W) in [-1, 1], as Keras's Xception and the authors' DeepLab do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minideeplab.checks import check_maps, require_positive


def from_pixels(pixels: Tensor) -> Tensor:
    """Pixels 0..255 in the order of image files, (H, W, 3) or (N, H, W, 3) -> (N, 3, H, W) in [-1, 1], float32.

    TypeError for numbers with a point, which often run from 0 to 1, and for truth values; ValueError beyond 0..255.

    >>> [f"{x:.3f}" for x in from_pixels(torch.tensor([[[0, 51, 255]]])).flatten()]
    ['-1.000', '-0.600', '1.000']
    """
    if not isinstance(pixels, Tensor):
        raise TypeError(f"expected pixels as a tensor (H, W, 3) or (N, H, W, 3), got {type(pixels).__name__}")
    if pixels.dim() not in (3, 4) or pixels.shape[-1] != 3:
        raise ValueError(f"expected RGB pixels (H, W, 3) or (N, H, W, 3), got {tuple(pixels.shape)}")
    if pixels.is_floating_point() or pixels.is_complex() or pixels.dtype == torch.bool:
        way = "x.round().int(), or of 0 to 1 (255 * x).round().int()"
        raise TypeError(f"pixels are whole numbers 0 to 255, got {pixels.dtype}: make integers of them, {way}")
    if pixels.dtype != torch.uint8 and not pixels.is_meta and pixels.numel():
        least, most = pixels.long().aminmax()
        if least < 0 or most > 255:
            raise ValueError(f"pixels are 0 to 255, got {least} to {most}: scale them down")
    batch = pixels if pixels.dim() == 4 else pixels[None]
    return batch.permute(0, 3, 1, 2).float() * (2 / 255) - 1


def to_pixels(x: Tensor) -> Tensor:
    """The way back: (N, 3, H, W) in [-1, 1] -> (N, H, W, 3), uint8, rounded; what lies outside is cut off.

    >>> to_pixels(torch.tensor([-1.0, -0.6, 1.5]).view(1, 3, 1, 1)).flatten().tolist()
    [0, 51, 255]
    """
    check_maps(x, 3)
    return ((x.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def on_grid(size: int, *, step: int = 16) -> int:
    """The next size of step * k + 1 pixels, on which the grids of every stride up to `step` nest with corners aligned.

    >>> on_grid(513), on_grid(512), on_grid(514), on_grid(1)
    (513, 513, 529, 1)
    """
    require_positive(size=size, step=step)
    return -(-(size - 1) // step) * step + 1


def pad_to_grid(x: Tensor, *, step: int = 16) -> Tensor:
    """Gray (0, pixel 127.5) *behind* the map, to the next sides of step * k + 1: (N, C, H, W) -> (N, C, H', W').

    Crop the answer with `[:, :, :H, :W]`. On sides that are multiples of 16, aligned corners shift every coarse point:
    the authors' network loses up to a fifth of its IoU there.
    """
    check_maps(x, None)
    height, width = x.shape[2:]
    return F.pad(x, (0, on_grid(width, step=step) - width, 0, on_grid(height, step=step) - height))
