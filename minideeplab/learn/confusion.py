"""Stub: to be replaced by the real module on merge."""

from fractions import Fraction

import torch
from torch import Tensor

from minideeplab.learn.metrics import squared_distance_to_boundary


def confusion(drawn: Tensor, truth: Tensor, num_classes: int, *, ignore: int = 255) -> Tensor:
    """Stub: (C, C), rows are the truth."""
    counted = truth != ignore
    return torch.bincount(truth[counted] * num_classes + drawn[counted], minlength=num_classes**2).view(num_classes, -1)


def iou(matrix: Tensor) -> tuple[Fraction | None, ...]:
    """Stub."""
    unions = matrix.sum(0) + matrix.sum(1) - matrix.diag()
    return tuple(Fraction(int(i), int(u)) if u else None for i, u in zip(matrix.diag(), unions))


def mean_iou(matrix: Tensor) -> Fraction:
    """Stub."""
    found = [share for share in iou(matrix) if share is not None]
    if not found:
        raise ValueError("no pixel is counted")
    return sum(found, start=Fraction(0)) / len(found)


def accuracy(matrix: Tensor) -> Fraction:
    """Stub."""
    if not matrix.sum():
        raise ValueError("no pixel is counted")
    return Fraction(int(matrix.trace()), int(matrix.sum()))


def trimap(labels: Tensor, width: int, *, ignore: int = 255) -> Tensor:
    """Stub."""
    if bool((labels == labels[0, 0]).all()):
        return torch.zeros_like(labels, dtype=torch.bool)
    return (squared_distance_to_boundary(labels) <= width * width) & (labels != ignore)
