"""Stub: to be replaced by the real module on merge."""

import torch
import torch.nn.functional as F
from torch import Generator

from minideeplab.learn.data import VOID, Sample


def augment(
    sample: Sample, size: int, generator: Generator, *, scales: tuple[float, float] = (0.5, 2.0), flip: bool = True,
) -> Sample:
    """Stub."""
    low, high = scales
    scale = low + (high - low) * torch.rand((), generator=generator).item()
    sides = [max(1, round(side * scale)) for side in sample.labels.shape]
    image = F.interpolate(sample.image[None], size=sides, mode="bilinear", align_corners=True)[0]
    labels = F.interpolate(sample.labels[None, None].float(), size=sides, mode="nearest")[0, 0].long()
    if flip and torch.rand((), generator=generator) < 0.5:
        image, labels = image.flip(2), labels.flip(1)
    below, right = (max(0, size - side) for side in sides)
    image, labels = F.pad(image, (0, right, 0, below)), F.pad(labels, (0, right, 0, below), value=VOID)
    top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in labels.shape)
    return Sample(image[:, top : top + size, left : left + size], labels[top : top + size, left : left + size])


def fit(sample: Sample, size: int) -> Sample:
    """Stub."""
    return augment(sample, size, Generator(), scales=(1.0, 1.0), flip=False)
