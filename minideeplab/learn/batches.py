"""Which images a step of a training sees, and how they are cut: a pure function of the seed and the step."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from minideeplab.learn.augment import augment
from minideeplab.learn.data import Sample


class Data(Protocol):
    """Samples by number, and the names of their classes: `Shapes`, `SegmentationFolder`, or one's own."""

    @property
    def classes(self) -> Sequence[str]:
        """Their names, in the order of the labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Kept:
    """Data whose samples are drawn or read once, all of them now, for those who look at them often."""

    def __init__(self, data: Data) -> None:
        self.classes, self.samples = data.classes, [data[index] for index in range(len(data))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        return self.samples[index]


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that are a pure function of whole numbers, at least 0."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))


@lru_cache(maxsize=2)
def order(count: int, seed: int, epoch: int) -> Tensor:
    """In which order an epoch sees the images, each once."""
    return torch.randperm(count, generator=generator(seed, 0, epoch))


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """By step what one of `ranks` processes sees: images (N / ranks, 3, size, size) and labels (N / ranks, size, size)."""

    def __init__(
        self, data: Data, *, batch: int, size: int, seed: int, scales: tuple[float, float], rank: int = 0, ranks: int = 1,
    ) -> None:
        self.data, self.batch, self.size, self.seed, self.scales = data, batch, size, seed, scales
        self.rank, self.ranks = rank, ranks

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        images, labels = zip(*map(self.draw, range(step * self.batch + self.rank, (step + 1) * self.batch, self.ranks)))
        return torch.stack(images), torch.stack(labels)

    def draw(self, number: int) -> Sample:
        """The sample that this run sees as its `number`th, scaled, cut and perhaps mirrored."""
        epoch, place = divmod(number, len(self.data))
        sample = self.data[int(order(len(self.data), self.seed, epoch)[place])]
        return augment(sample, self.size, generator(self.seed, 1, number), scales=self.scales)


class Failed(NamedTuple):
    """What a batch could not be made for, and where that was, as Python prints it."""

    error: Exception
    place: str


class Told(Dataset[Any]):
    """`Batches` for a DataLoader: what is wrong with a file comes back as it was raised.

    Raised in a worker, it would reach the reader with a traceback of that process in its text, and not as one line.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | Failed:
        try:
            return self.batches[step]
        except (ValueError, OSError) as error:
            texts = all(isinstance(part, str | bytes | int) for part in error.args) and not vars(error)
            if type(error).__module__ != "builtins" or not texts:  # what could not be sent would be waited for without end
                raise
            return Failed(error, traceback.format_exc())


def heard(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `Told`; ValueError or OSError for the first that could not be made, caused by where it was raised."""
    for batch in batches:
        if isinstance(batch, Failed):
            raise batch.error from RuntimeError(batch.place)
        yield batch
