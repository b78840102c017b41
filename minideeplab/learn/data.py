"""Stub: to be replaced by the real module on merge."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

VOID = 255


class Sample(NamedTuple):
    """image (3, H, W) in [-1, 1], labels (H, W) int64."""

    image: Tensor
    labels: Tensor


class Shapes:
    """Stub."""

    classes = ("background", "disc", "rod", "box")

    def __init__(self, count: int, *, size: int = 65, seed: int = 0) -> None:
        if count < 1 or size < 1:
            raise ValueError(f"count and size must be at least 1, got {count} and {size}")
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        draw = np.random.default_rng((self.seed, index))
        n = self.size
        y, x = np.mgrid[:n, :n]
        labels = np.zeros((n, n), np.int64)
        image = np.ones((3, n, n)) * draw.uniform(-0.5, 0.5, (3, 1, 1))
        image += 0.3 * draw.standard_normal((3, 5, 5)).repeat(-(-n // 5), 1).repeat(-(-n // 5), 2)[:, :n, :n]
        for _ in range(draw.integers(2, 6)):
            kind = int(draw.integers(1, 4))
            cy, cx, angle = draw.uniform(0, n), draw.uniform(0, n), draw.uniform(0, np.pi)
            u, v = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle), (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
            r = draw.uniform(0.08, 0.22) * n
            inside = {1: u**2 + v**2 < r**2, 2: (abs(u) < 2 * r) & (abs(v) < 1.5), 3: (abs(u) < r) & (abs(v) < 0.7 * r)}[kind]
            labels[inside] = kind
            color = draw.uniform(-0.7, 0.7, (3, 1)) + 0.3 * np.eye(3)[:, [kind - 1]]
            image[:, inside] = color
        image += 0.15 * draw.standard_normal(image.shape)
        return Sample(torch.from_numpy(image).float().clamp(-1, 1), torch.from_numpy(labels))


class SegmentationFolder:
    """Stub."""

    classes: tuple[str, ...] = ()

    def __init__(self, root: str | Path, split: str, *, num_classes: int | None = None) -> None:
        from minideeplab.learn.photo import pillow

        self.root, self.open = Path(root), pillow("Image").open
        self.names = (self.root / f"ImageSets/Segmentation/{split}.txt").read_text().split()
        text = self.root / "classes.txt"
        self.classes = tuple(text.read_text().split()) if text.exists() else tuple(map(str, range(num_classes or 21)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        from minideeplab.image import from_pixels

        name = self.names[index]
        image = np.array(self.open(self.root / f"JPEGImages/{name}.jpg").convert("RGB"))
        labels = np.array(self.open(self.root / f"SegmentationClass/{name}.png"))
        return Sample(from_pixels(torch.from_numpy(image))[0], torch.from_numpy(labels).long())
