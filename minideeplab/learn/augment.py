"""What training makes of a picture: scaled, padded, cropped and mirrored at random, as the authors do; labels with it.

Image by bilinear interpolation, labels by the nearest neighbor, both with aligned corners: a blend of two classes' numbers
would be a third class. What is padded is gray (pixel 127.5, hence 0) and void, behind and below as in `minideeplab.image`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minideeplab.blocks.convolution import upsample
from minideeplab.checks import require_finite, require_kind, require_positive
from minideeplab.learn.data import VOID, Sample

STEP = 0.25  # between the scales among which the authors draw: 0.5, 0.75, ..., 2.0
MOST = 2**28  # pixels of a scaled picture: 3 GB in three channels


def augment(
    sample: Sample, size: int, generator: torch.Generator, *,
    scales: tuple[float, float] = (0.5, 2.0), flip: bool = True,
) -> Sample:
    """A random view, size x size: scaled, padded where too small, cropped, and in one of two cases mirrored left to right.

    The scale is one of those from the lower to the upper, some 0.25 apart (the authors' `scale_factor_step_size`); sides are
    rounded down. Four numbers are drawn from `generator` whatever the options, so the same state is the same view, and
    one option leaves what another one draws. ValueError unless 0 < lower <= upper.
    """
    _check(sample)
    require_positive(size=size)
    require_kind(torch.Generator, generator=generator)
    require_kind(bool, flip=flip)
    if not isinstance(scales, tuple | list) or len(scales) != 2:
        raise TypeError(f"scales must be a pair (lower, upper) such as (0.5, 2.0), got {scales!r}")
    require_finite(**{f"scales[{i}]": scale for i, scale in enumerate(scales)})
    lower, upper = scales
    if lower > upper:
        raise ValueError(f"scales must be (lower, upper), got {scales}: the first is the larger")
    height, width = sample.labels.shape
    if height * upper * width * upper > MOST:
        raise ValueError(f"scale {upper} makes more than {MOST:,} pixels of {height} x {width}")
    last = int((upper - lower) / STEP)  # steps from the lower to the upper

    def choose(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    scale = lower + (upper - lower) * choose(last + 1) / max(last, 1)
    scaled = _scaled(sample, (max(1, int(height * scale)), max(1, int(width * scale))))
    image, labels = _padded(scaled, size)
    top, left = choose(labels.shape[0] - size + 1), choose(labels.shape[1] - size + 1)
    image, labels = (x[..., top : top + size, left : left + size] for x in (image, labels))
    mirrored = choose(2) == 1 and flip
    return Sample(image.flip(-1), labels.flip(-1)) if mirrored else Sample(image.contiguous(), labels.contiguous())


def fit(sample: Sample, size: int) -> Sample:
    """The picture as it is, size x size, gray and void behind and below it: for batches of evaluation, nothing is random.

    ValueError for a larger one: cut off, its pixels would not be scored.
    """
    _check(sample)
    require_positive(size=size)
    height, width = sample.labels.shape
    if max(height, width) > size:
        raise ValueError(f"{height} x {width} pixels do not fit into {size} x {size}: use a size of {max(height, width)}")
    return _padded(sample, size)


def _scaled(sample: Sample, sides: tuple[int, int]) -> Sample:
    if sides == tuple(sample.labels.shape):
        return sample
    rows, columns = (_nearest(before, after) for before, after in zip(sample.labels.shape, sides))
    return Sample(upsample(sample.image[None], sides)[0], sample.labels[rows][:, columns])


def _nearest(before: int, after: int) -> Tensor:
    """Of each of `after` pixels the one of `before`, corners on corners: i * (before - 1) / (after - 1), halves rounded up."""
    gaps = max(after - 1, 1)
    return (2 * torch.arange(after) * (before - 1) + gaps) // (2 * gaps)


def _padded(sample: Sample, size: int) -> Sample:
    """To at least size x size."""
    height, width = sample.labels.shape
    behind = (0, max(0, size - width), 0, max(0, size - height))
    return Sample(F.pad(sample.image, behind, value=0.0), F.pad(sample.labels, behind, value=VOID))


def _check(sample: Sample) -> None:
    if not isinstance(sample, Sample):
        raise TypeError(f"sample must be a Sample, got {type(sample).__name__}")
    image, labels = sample
    for name, x, kind in (("image", image, torch.float32), ("labels", labels, torch.int64)):
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        if found != kind:
            raise TypeError(f"a sample's {name} must be {kind}, got {found}")
    if image.dim() != 3 or len(image) != 3 or not image.numel() or image.shape[1:] != labels.shape:
        shapes = f"{tuple(image.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"a sample is an image (3, H, W) and labels (H, W) of one size, got {shapes}")
