"""The authors' multi-scale prediction: one photograph seen at several sizes and mirrored, the probabilities averaged."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minideeplab.blocks.convolution import upsample
from minideeplab.checks import check_maps, require_finite, require_kind

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  #: the authors' on PASCAL VOC
MOST = 2**32  # pixels of an image: more take 51 GB in three channels


def predict(
    net: Callable[[Tensor], Tensor], images: Tensor, *,
    scales: Sequence[float] = SCALES, flip: bool = True,
) -> Tensor:
    """Class probabilities as the authors compute them for their tables: (N, C, H, W) -> (N, num_classes, H, W).

    `net`, in evaluation mode, sees the images at every scale, and mirrored. Its logits are resized to H x W, softmax makes
    probabilities of them, and these are averaged; `.argmax(1)` gives the labels. A scale makes (side - 1) * scale + 1
    pixels of a side, rounded down, so 16 k + 1 pixels often stay such a number. TypeError unless `scales` is a sequence of
    numbers; ValueError for a scale that is not positive and finite, for none, and for a network in training mode.
    """
    check_maps(images, None)
    require_kind(bool, flip=flip)
    if isinstance(scales, str | bytes | bytearray) or not isinstance(scales, Sequence):
        raise TypeError(f"scales must be a sequence of numbers such as (0.5, 1.0), got {type(scales).__name__}")
    require_finite(**{f"scales[{i}]": scale for i, scale in enumerate(scales)})
    if not scales:
        raise ValueError("scales is empty: name at least one, (1.0,) is the image as it is")
    if getattr(net, "training", False):
        raise ValueError("predict needs a network in evaluation mode: call .eval() on it first")
    (h, w), mirrorings, total = images.shape[2:], (False, True) if flip else (False,), torch.zeros(())
    for number, scale in enumerate(scales):
        if ((h - 1) * scale + 1) * ((w - 1) * scale + 1) > MOST:
            raise ValueError(f"scales[{number}] = {scale} makes more than {MOST:,} pixels of {h} x {w}")
    with torch.no_grad():
        for scale in scales:
            x = upsample(images, (int((h - 1) * scale + 1), int((w - 1) * scale + 1)))  # 513 -> 257, 385, ...: still 16k + 1
            for mirrored in mirrorings:
                logits = _maps(net(x.flip(3) if mirrored else x))
                total = total + upsample(logits.flip(3) if mirrored else logits, (h, w)).softmax(1)
    return total / (len(scales) * len(mirrorings))


def numbers(answer: Tensor) -> Tensor:
    """The answer of a network. ValueError for NaN and infinity in it, which `argmax` would call a class.

    Minus infinity is in order: so a network may rule a class out.
    """
    if wrong := int((answer.isnan() | answer.isposinf()).sum()):
        raise ValueError(f"{wrong:,} of the network's {answer.numel():,} numbers are NaN or infinite: look at its weights")
    return answer


def _maps(answer: Tensor) -> Tensor:
    try:
        check_maps(answer, None)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the network's answer: {error}") from None
    return answer
