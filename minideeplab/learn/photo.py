"""A network asked about a photo: read, classified, segmented, drawn.

Sides are padded to 16 k + 1 pixels, on which the authors' networks were trained, and cropped back.
"""

import importlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from minideeplab.checks import require_kind, require_positive
from minideeplab.image import from_pixels, pad_to_grid
from minideeplab.learn.predict import numbers, predict
from minideeplab.weights.file_limits import reading

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS, LONGEST_SIDE = 2**26, 12_000  # of a photo: 200 MB of RGB
MOST_ROWS = 64  # of a legend
ORIENTATION = 0x0112  # EXIF's tag: 1 is upright, 2 to 8 are turned or mirrored, others mean nothing
TRAINED = 513  # pixels a side of the crops on which the authors trained


def pillow(part: str) -> Any:
    """A module of Pillow, or the line that installs it."""
    try:
        return importlib.import_module(f"PIL.{part}")
    except ImportError as error:
        raise ImportError("photos need Pillow: pip install 'minideeplab[data]'") from error


def read_photo(path: str | Path) -> "Image":
    """An RGB image, turned upright as its EXIF tag asks; what is transparent shows white. ValueError if it is none.

    The size that it declares is checked before a pixel is decoded. 16 bits of gray are scaled to 8, of 32 nobody knows how.
    """
    images, operations = pillow("Image"), pillow("ImageOps")
    with reading(Path(path), "photo"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or converted here
        with images.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS or max(image.size) > LONGEST_SIDE:
                most = f"at most {MOST_PIXELS:,} in all and {LONGEST_SIDE:,} a side are read"
                raise ValueError(f"it declares {width:,} x {height:,} pixels, {most}")
            upright: Image = operations.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            gray = np.asarray(upright)
            if upright.mode == "F" or gray.min() < 0 or gray.max() >= 2**16:
                raise ValueError("pixels of 32 bits have no known scale: save it with 8 or 16")
            return images.fromarray(((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
        if not upright.has_transparency_data:
            return upright.convert("RGB")
        white: Image = images.new("RGBA", upright.size, "white")
        return images.alpha_composite(white, upright.convert("RGBA")).convert("RGB")


def read_mask(path: str | Path) -> Tensor:
    """A mask (H, W), boolean, from a picture of two values, white is the thing. ValueError for gray or color."""
    images = pillow("Image")
    with reading(Path(path), "mask"), images.open(path) as image:
        values = np.unique(gray := np.asarray(image.convert("L")))
        if image.mode not in ("1", "L") or not {0, 255}.issuperset(values.tolist()):
            raise ValueError(f"a mask is black and white, this picture is of mode {image.mode} with {len(values)} values")
        return torch.from_numpy(gray > 0)


def pixels(photo: "Image", width: int, height: int, resample: str) -> Tensor:
    """(1, 3, height, width) in [-1, 1]. ValueError for what `read_photo` would have scaled, turned or laid on white."""
    hidden, turned = photo.has_transparency_data, photo.getexif().get(ORIENTATION) in range(2, 9)
    if photo.mode != "RGB" or hidden or turned:
        what = f"is of mode {photo.mode}{' with transparency' * hidden}"
        what += ", and still to be turned, says its EXIF tag" * turned
        raise ValueError(f"the photo {what}: open it with read_photo, which makes upright RGB of it")
    resized = photo.resize((width, height), getattr(pillow("Image").Resampling, resample))
    return from_pixels(torch.from_numpy(np.array(resized)))


def check_net(net: Callable[[Tensor], Tensor]) -> None:
    """Raise in training mode, where dropout and batch statistics would make the answer random."""
    if getattr(net, "training", False):
        raise ValueError("the network is in training mode: call .eval() before asking it about a photo")


@torch.no_grad()
def classify(photo: "Image", net: Callable[[Tensor], Tensor], *, top: int = 5, size: int = 299) -> list[tuple[int, float]]:
    """The `top` classes by number and their probabilities, the likeliest first. ValueError in training mode.

    The photo is squeezed to size x size, as Keras does.
    """
    require_positive(top=top, size=size)
    check_net(net)
    probabilities = numbers(net(pixels(photo, size, size, "BILINEAR"))).softmax(1)[0]
    best = probabilities.topk(min(top, len(probabilities)))
    return list(zip(best.indices.tolist(), best.values.tolist()))


def fitted(photo: "Image", size: int | None = None) -> tuple[int, int]:
    """(width, height) at which a photo is looked at: its longer side becomes `size`; by default at most 513, as in training."""
    longer = max(photo.size)
    if size is None:
        size = min(longer, TRAINED)
    require_positive(size=size)
    width, height = (max(1, side * size // longer) for side in photo.size)
    return width, height


@torch.no_grad()
def segment(
    photo: "Image", net: Callable[[Tensor], Tensor], *, size: int | None = None, multi_scale: bool = False,
) -> Tensor:
    """A class for every pixel of the photo: (H, W), uint8, or int32 where there are more than 256 classes.

    The photo is scaled as `fitted` says, gray (127.5, hence 0) fills it behind and below up to 16 k + 1 pixels a side, and
    what the network says about the filling is cut off. `multi_scale` averages six sizes and their mirror images, as the
    authors do for their tables: some 17 times the work. ValueError in training mode, and for logits that are no numbers.
    """
    require_kind(bool, multi_scale=multi_scale)
    check_net(net)
    width, height = fitted(photo, size)
    x = pad_to_grid(pixels(photo, width, height, "LANCZOS"))  # (1, 3, 16 k + 1, 16 l + 1)
    scores = numbers(predict(net, x) if multi_scale else net(x))[0, :, :height, :width]
    labels = scores.argmax(0).to(torch.uint8 if len(scores) <= 256 else torch.int32)
    columns, rows = (  # of each pixel of the photo, the nearest of the map: centers compared, in integers
        (2 * torch.arange(full) + 1) * small // (2 * full) for full, small in zip(photo.size, (width, height), strict=True)
    )
    return labels[rows][:, columns]


def label_picture(labels: Tensor) -> "Image":
    """Labels (H, W), uint8, as a picture in PASCAL VOC's form: a palette of its colors, each pixel's index is its class.

    ValueError for labels of another type.
    """
    if labels.dtype != torch.uint8:
        raise ValueError(f"a palette picture has at most 256 classes, these labels are {labels.dtype}")
    picture: Image = pillow("Image").fromarray(labels.numpy())
    picture.putpalette(palette(256).flatten().tolist())
    return picture


def palette(count: int) -> Tensor:
    """PASCAL VOC's colors, (count, 3), uint8: three bits of the class at a time, one for each channel, the highest first.

    They go on beyond VOC's 256, all different up to 2 ** 24.

    >>> palette(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    colors = torch.zeros(count, 3, dtype=torch.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (torch.arange(count) >> (3 * bit + channel) & 1) << (7 - bit)
    return colors.to(torch.uint8)


def shares(labels: Tensor) -> list[tuple[int, float]]:
    """Each class that occurs in a label map (H, W) and its share of the pixels, 0 to 1, the largest first."""
    counts = labels.flatten().bincount()
    order = counts.argsort(descending=True, stable=True)
    return [(int(k), int(counts[k]) / labels.numel()) for k in order if counts[k]]


def overlay(photo: "Image", labels: Tensor, names: Sequence[str]) -> "Image":
    """The photo under the colors of its labels (H, W) (a background stays as it is), and a legend with their shares."""
    images, draws, fonts = pillow("Image"), pillow("ImageDraw"), pillow("ImageFont")
    colors = palette(len(names)).numpy()
    tint = images.fromarray(colors[labels.numpy()])
    clear = labels.eq(0) if names[0] == "background" else torch.zeros_like(labels, dtype=torch.bool)
    mask = images.fromarray((~clear).mul(140).to(torch.uint8).numpy())
    line = min(max(14, photo.height // 24), 48)
    font, rows = fonts.load_default(line * 0.7), [(k, f"{names[k]}  {share:.1%}") for k, share in shares(labels)]
    if len(rows) > MOST_ROWS:
        rows = [*rows[: MOST_ROWS - 1], (-1, f"and {len(rows) - MOST_ROWS + 1} more")]
    panel = 2 * line + max(round(font.getlength(text)) for _, text in rows)
    canvas: Image = images.new("RGB", (photo.width + panel, max(photo.height, line * (len(rows) + 1))), "white")
    canvas.paste(images.composite(tint, photo, mask))
    draw = draws.Draw(canvas)
    for row, (k, text) in enumerate(rows):
        left, top = photo.width + line // 2, line // 2 + row * line
        if k >= 0:
            draw.rectangle((left, top, left + line // 2, top + line // 2), fill=tuple(colors[k].tolist()), outline="black")
        draw.text((left + line, top - line // 8), text, fill="black", font=font)
    return canvas
