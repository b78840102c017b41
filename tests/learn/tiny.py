"""What the tests of training share: networks that a step trains in milliseconds, and settings for them."""

import torch
from torch import Tensor, nn

from minideeplab import AlignedXception, DeepLabV3Plus
from minideeplab.learn.data import VOID, Sample


def tiny(classes: int = 4, *, drop: float = 0.0) -> DeepLabV3Plus:
    """A DeepLabV3+ of a few thousand weights, always the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = AlignedXception([(128, 2), (256, 2), (728, 2)], 1, width=1 / 64)
        net = DeepLabV3Plus(backbone, classes, channels=8, low_channels=4, rates=(1,))
    net.aspp.dropout.p = drop
    return net


class Plain(nn.Sequential):
    """Two convolutions: enough to learn colors."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, classes, 1))


def settings(*, steps: int = 3, batch: int = 4, rate: float = 0.01) -> dict:
    return {"steps": steps, "batch": batch, "size": 17, "rate": rate}


class Uneven:
    """Random images; those of odd numbers are void but for a strip, so that processes count different numbers of pixels."""

    classes = ("a", "b", "c", "d")

    def __init__(self, count: int = 8, size: int = 17) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        g = torch.Generator().manual_seed(index)
        image: Tensor = torch.rand(3, self.size, self.size, generator=g) * 2 - 1
        labels = torch.randint(4, (self.size, self.size), generator=g)
        if index % 2:
            labels[2:] = VOID
        return Sample(image, labels)
