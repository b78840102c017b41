"""What a trained network is worth: mIoU, accuracy, IoU of each class and mIoU near boundaries, counted in whole numbers."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.checks import require_counts, require_kind
from minideeplab.image import pad_to_grid
from minideeplab.learn.batches import Data
from minideeplab.learn.confusion import accuracy, confusion, iou, mean_iou, trimap
from minideeplab.learn.data import VOID
from minideeplab.learn.predict import numbers
from minideeplab.weights.file_limits import plain
from minideeplab.weights.replacement import replace_whole


class Scores(NamedTuple):
    """Fractions from 0 to 1 over all pixels that count; `trimap` by the width of the band in pixels.

    A class that occurs neither in truth nor in answers, and a band without pixels, has None.
    """

    miou: Fraction
    accuracy: Fraction
    classes: dict[str, Fraction | None]
    trimap: dict[int, Fraction | None]

    def facts(self) -> dict[str, Any]:
        """As JSON says it: numbers from 0 to 1 with 6 decimals, null for None."""

        def short(share: Fraction | None) -> float | None:
            return None if share is None else round(float(share), 6)

        bands = {str(width): short(share) for width, share in self.trimap.items()}
        classes = {name: short(share) for name, share in self.classes.items()}
        return {"miou": short(self.miou), "accuracy": short(self.accuracy), "classes": classes, "trimap": bands}

    def text(self) -> str:
        """Some lines for a reader."""
        shares = {f"IoU of {plain(name, 60)}": share for name, share in self.classes.items()}
        near = {f"mIoU within {width} of a boundary": share for width, share in self.trimap.items()}
        rows = {"mIoU": self.miou, "accuracy": self.accuracy} | shares | near
        return "\n".join(f"{'none' if share is None else f'{float(share):.4f}':>7}  {name}" for name, share in rows.items())


@torch.inference_mode()
def evaluate(net: nn.Module, data: Data, *, widths: Sequence[int] = (1, 2, 4, 8)) -> Scores:
    """One image after the other at its full size, padded behind to 16 k + 1 pixels a side; void (255) counts nowhere.

    `net` answers (N, len(data.classes), H, W), and each part of it comes back in the mode in which it was. ValueError for no
    image, for another count of classes, and for answers that are NaN or infinite.
    """
    require_kind(nn.Module, net=net)
    device, modes = next(net.parameters()).device, [(part, part.training) for part in net.modules()]
    net.eval()
    samples = (data[index] for index in range(len(data)))
    try:
        return score(((answer(net, x.to(device), len(data.classes)), y) for x, y in samples), data.classes, widths=widths)
    finally:
        for part, mode in modes:
            part.training = mode


def score(pairs: Iterable[tuple[Tensor, Tensor]], classes: Sequence[str], *, widths: Sequence[int] = (1, 2, 4, 8)) -> Scores:
    """Scores of label maps, whoever drew them: pairs of what was drawn and what is true, both (H, W); void counts nowhere.

    `trimap` is the mIoU of the pixels that lie within so many of a boundary (`confusion.trimap`). ValueError for no pair.
    """
    require_counts(widths=widths)
    whole = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    bands, count = {width: whole.clone() for width in widths}, 0
    for drawn, truth in pairs:
        whole, count = whole + confusion(drawn, truth, len(classes)), count + 1
        for width in widths:
            bands[width] = bands[width] + confusion(drawn, truth.where(trimap(truth, width), VOID), len(classes))
    if not count:
        raise ValueError("there is no image to evaluate on: the data are empty")
    near = {width: mean_iou(band) if band.any() else None for width, band in bands.items()}
    return Scores(mean_iou(whole), accuracy(whole), dict(zip(classes, iou(whole), strict=True)), near)


def answer(net: nn.Module, image: Tensor, classes: int) -> Tensor:
    """A class for every pixel: (3, H, W) -> (H, W), int64, on the CPU."""
    height, width = image.shape[1:]
    logits = numbers(net(pad_to_grid(image[None])))
    if logits.shape[1] != classes:
        raise ValueError(f"the network tells {logits.shape[1]} classes apart, the data have {classes}: use data of its classes")
    drawn: Tensor = logits[0, :, :height, :width].argmax(0).cpu()
    return drawn


def picture(path: Path, losses: Sequence[float], scores: Scores) -> bool:
    """The losses and the IoUs drawn into a PNG (`course.curves.learning`); whether matplotlib is there to draw them."""
    try:
        from minideeplab.course.curves import learning
    except ImportError:
        return False
    classes = {name: None if share is None else float(share) for name, share in scores.classes.items()}
    figure, _ = learning(losses, classes, miou=float(scores.miou))
    with replace_whole(path, overwrite=True) as whole:
        figure.savefig(whole, dpi=120)
    return True
