"""What a segmentation confuses, counted in whole numbers and added over images: IoU, their mean, accuracy, trimap bands.

A matrix is (C, C), int64: row t, column d counts the pixels of class t that were drawn as class d. Matrices of images add up
to that of a data set, and only then is divided, as PASCAL VOC scores: a mean of the images' own scores is another number.
"""

from fractions import Fraction

import torch
from torch import Tensor

from minideeplab.checks import require_positive
from minideeplab.learn.data import VOID
from minideeplab.learn.metrics import LABELS, squared_distance_to_boundary


def confusion(drawn: Tensor, truth: Tensor, num_classes: int, *, ignore: int = VOID) -> Tensor:
    """Pixels by their true class (rows) and the class drawn (columns): two label maps of one shape -> (C, C), int64.

    Where truth is `ignore`, nothing is counted, whatever was drawn. TypeError unless both are integer tensors; ValueError
    for two shapes and for a label outside the classes: 255 drawn on a pixel that counts is one.

    >>> confusion(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 255]]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    require_positive(num_classes=num_classes)
    for name, labels in {"drawn": drawn, "truth": truth}.items():
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        if kind not in LABELS:
            hint = ": take .argmax(1) of the logits first" if name == "drawn" and "float" in str(kind) else ""
            raise TypeError(f"{name} must be a tensor of integers, got {kind}{hint}")
    if drawn.shape != truth.shape:
        raise ValueError(f"drawn and truth must be of one shape, got {tuple(drawn.shape)} and {tuple(truth.shape)}")
    truth = truth.long()  # in uint8, 19 * 21 would wrap around
    counted = truth != ignore
    pairs = {"drawn": drawn.long()[counted], "truth": truth[counted]}
    for name, labels in pairs.items():
        if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < num_classes):
            span = f"{int(labels.min())} to {int(labels.max())}"
            raise ValueError(f"{name} must hold classes 0 to {num_classes - 1} where truth is not {ignore}, got {span}")
    places = pairs["truth"] * num_classes + pairs["drawn"]
    return places.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def iou(matrix: Tensor) -> tuple[Fraction | None, ...]:
    """Of a matrix (C, C) of `confusion`: for each class the pixels right, of those that are it or were drawn as it, else None.

    >>> iou(torch.tensor([[3, 1, 0], [2, 6, 0], [0, 0, 0]]))
    (Fraction(1, 2), Fraction(2, 3), None)
    """
    _check(matrix)
    right, union = matrix.diag(), matrix.sum(0) + matrix.sum(1) - matrix.diag()
    return tuple(Fraction(r, u) if u else None for r, u in zip(right.tolist(), union.tolist()))


def mean_iou(matrix: Tensor) -> Fraction:
    """The mean of a matrix's IoU over the classes that have one, each class alike. ValueError where no pixel was scored."""
    scores = [score for score in iou(matrix) if score is not None]
    if not scores:
        raise ValueError(f"a mean needs at least one scored pixel, this matrix of {len(matrix)} classes counts 0")
    return sum(scores, Fraction(0)) / len(scores)


def accuracy(matrix: Tensor) -> Fraction:
    """The share of a matrix's pixels that were drawn right, 0 to 1. ValueError where no pixel was scored."""
    _check(matrix)
    if not (total := int(matrix.sum())):
        raise ValueError(f"a share needs at least one scored pixel, this matrix of {len(matrix)} classes counts 0")
    return Fraction(int(matrix.diag().sum()), total)


def trimap(labels: Tensor, width: int, *, ignore: int = VOID) -> Tensor:
    """The band in which boundaries are judged (Chen 2018, sec. 4.4, fig. 5): labels (H, W) -> boolean (H, W).

    It holds every pixel of a class whose nearest pixel of another label, void being a label too, lies at most `width` pixels
    away: Euclidean, from center to center. Where VOC's void rims part all objects, that is the void label dilated by
    `width`, as in the paper; where two classes touch without a rim, it is the band on both sides of the line between them.
    Void itself is never in it, and a map of one label has none. To score in the band only, make the rest void:

    >>> labels = torch.tensor([[0, 0, 0, 1, 1, 1, 255, 2, 2, 2]])
    >>> labels.masked_fill(~trimap(labels, 1), 255).tolist()
    [[255, 255, 0, 1, 255, 1, 255, 2, 255, 255]]
    """
    require_positive(width=width)
    try:
        squared = squared_distance_to_boundary(labels)
    except ValueError:
        if labels.dim() != 2 or not labels.numel():
            raise
        return torch.zeros_like(labels, dtype=torch.bool)  # one label: no boundary
    return (squared <= min(width, sum(labels.shape)) ** 2) & (labels.long() != ignore)


def _check(matrix: Tensor) -> None:
    kind = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
    if kind != torch.int64:
        raise TypeError(f"expected a matrix (C, C) of torch.int64 as `confusion` counts it, got {kind}")
    if matrix.dim() != 2 or not matrix.numel() or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a matrix (C, C), got {tuple(matrix.shape)}")
    if int(matrix.min()) < 0:
        raise ValueError(f"a count of pixels is at least 0, got {int(matrix.min())}")
