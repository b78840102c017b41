"""A photo in, an answer out: `classify`, `segment`, and the commands `convert`, `classify` and `segment`.

Resizing and padding are those under which the authors' weights were trained and shown.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.checks import require_positive
from minideeplab.cli.files import open_network, run_convert

if TYPE_CHECKING:
    from PIL.Image import Image


def pillow(part: str) -> Any:
    """A module of Pillow, or the line that installs it."""
    try:
        return importlib.import_module(f"PIL.{part}")
    except ImportError as error:
        raise ImportError("photos need Pillow: pip install 'minideeplab[data]'") from error


def read_photo(path: str | Path) -> "Image":
    """An RGB image, turned upright as its EXIF tag asks."""
    images, operations = pillow("Image"), pillow("ImageOps")
    try:
        with images.open(path) as image:
            upright: Image = operations.exif_transpose(image).convert("RGB")
            return upright
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, images.DecompressionBombError) as error:
        raise ValueError(f"{path} is no photo that can be read: {error}") from error


def pixels(photo: "Image", width: int, height: int, resample: str) -> Tensor:
    """(1, 3, height, width) in [-1, 1]."""
    resized = photo.convert("RGB").resize((width, height), getattr(pillow("Image").Resampling, resample))
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() * (2 / 255) - 1


def check_net(net: nn.Module) -> None:
    """Raise in training mode, where dropout and batch statistics would make the answer random."""
    if net.training:
        raise ValueError("the network is in training mode: call .eval() before asking it about a photo")


@torch.inference_mode()
def classify(photo: "Image", net: nn.Module, *, top: int = 5, size: int = 299) -> list[tuple[int, float]]:
    """The `top` classes and their probabilities, the likeliest first. The photo is squeezed to size x size, as Keras does."""
    require_positive(top=top, size=size)
    check_net(net)
    probabilities = net(pixels(photo, size, size, "BILINEAR")).softmax(1)[0]
    best = probabilities.topk(min(top, len(probabilities)))
    return list(zip(best.indices.tolist(), best.values.tolist()))


@torch.inference_mode()
def segment(photo: "Image", net: nn.Module, *, size: int = 513) -> Tensor:
    """A class for every pixel of the photo: (H, W), uint8.

    As the authors show theirs: the longer side becomes `size`, gray (127.5, hence 0) fills the square behind and below,
    and what the network says about the filling is cut off.
    """
    require_positive(size=size)
    check_net(net)
    width, height = (max(1, side * size // max(photo.size)) for side in photo.size)
    x = F.pad(pixels(photo, width, height, "LANCZOS"), (0, size - width, 0, size - height))  # (1, 3, size, size)
    labels = net(x)[:, :, :height, :width].argmax(1, keepdim=True).to(torch.uint8)
    return F.interpolate(labels, size=photo.size[::-1], mode="nearest-exact")[0, 0]


def palette(count: int) -> Tensor:
    """PASCAL VOC's colors, (count, 3), uint8: three bits of the class at a time, one for each channel, the highest first.

    >>> palette(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    colors = torch.zeros(count, 3, dtype=torch.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (torch.arange(count) >> (3 * bit + channel) & 1) << (7 - bit)
    return colors.to(torch.uint8)


def shares(labels: Tensor) -> list[tuple[int, float]]:
    """Each class that occurs and its share of the pixels, the largest first."""
    counts = labels.flatten().bincount()
    order = counts.argsort(descending=True, stable=True)
    return [(int(k), int(counts[k]) / labels.numel()) for k in order if counts[k]]


def overlay(photo: "Image", labels: Tensor, names: Sequence[str]) -> "Image":
    """The photo under its classes' colors (a background stays as it is), and a legend with their shares to its right."""
    images, draws, fonts = pillow("Image"), pillow("ImageDraw"), pillow("ImageFont")
    colors = palette(256)
    tint = images.fromarray(colors[labels.long()].numpy())
    clear = labels.eq(0) if names[0] == "background" else torch.zeros_like(labels, dtype=torch.bool)
    mask = images.fromarray((~clear).mul(140).to(torch.uint8).numpy())
    line = max(14, photo.height // 24)
    font, rows = fonts.load_default(line * 0.7), [(k, f"{names[k]}  {share:.1%}") for k, share in shares(labels)]
    panel = 2 * line + max(round(font.getlength(text)) for _, text in rows)
    canvas: Image = images.new("RGB", (photo.width + panel, max(photo.height, line * (len(rows) + 1))), "white")
    canvas.paste(images.composite(tint, photo, mask))
    draw = draws.Draw(canvas)
    for row, (k, text) in enumerate(rows):
        left, top = photo.width + line // 2, line // 2 + row * line
        draw.rectangle((left, top, left + line // 2, top + line // 2), fill=tuple(colors[k].tolist()), outline="black")
        draw.text((left + line, top - line // 8), text, fill="black", font=font)
    return canvas


def run_classify(arguments: argparse.Namespace) -> int:
    """`classify PHOTO --weights FILE`: one line a class on stdout."""
    photo = read_photo(arguments.photo)
    net, names = open_network(arguments.weights, segments=False)
    for k, probability in classify(photo, net, top=arguments.top, size=arguments.size):
        print(f"{probability:7.2%}  {names[k]}")
    return 0


def run_segment(arguments: argparse.Namespace) -> int:
    """`segment PHOTO --weights FILE`: a picture in a file, the shares on stdout."""
    target = arguments.output or arguments.photo.with_suffix(".segmented.png")
    if target.exists() and not arguments.force:
        raise ValueError(f"{target} exists already: name another with -o, or add --force")
    photo = read_photo(arguments.photo)
    net, names = open_network(arguments.weights, segments=True, output_stride=arguments.output_stride)
    labels = segment(photo, net, size=arguments.size)
    overlay(photo, labels, names).save(target)
    for k, share in shares(labels):
        print(f"{share:7.2%}  {names[k]}")
    print(f"written: {target}", file=sys.stderr)
    return 0


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`convert`, `classify` and `segment`, each with its examples."""

    def command(name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
        lines = "\n".join(f"  python -m minideeplab {name} {example}" for example in examples.splitlines())
        style = argparse.RawDescriptionHelpFormatter
        parser = subparsers.add_parser(
            name, help=summary, description=f"{summary}.", epilog=f"examples:\n{lines}", formatter_class=style
        )
        parser.set_defaults(run=run)
        return parser

    convert = command(
        "convert", run_convert, "Bring other people's weights under this library's names, as safetensors",
        "model.ckpt-30000 -o deeplab.safetensors\n"
        "xception.keras -o xception.safetensors --labels imagenet_classes.txt\n"
        "timm_xception65.safetensors -o xception65.safetensors --force",
    )  # fmt: skip
    kinds = "TensorFlow checkpoint prefix or .npz; Keras .h5 or .keras; .safetensors of timm or torchvision"
    convert.add_argument("source", type=Path, metavar="SOURCE", help=kinds)
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    convert.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line, kept with the weights")
    convert.add_argument("--force", action="store_true", help="overwrite FILE if it exists")

    look = command("classify", run_classify, "Say what a photo shows", "photo.jpg --weights xception.safetensors --top 3")
    paint = command(
        "segment", run_segment, "Color a photo by what each pixel shows, with a legend and each class's share",
        "photo.jpg --weights deeplab.safetensors\nphoto.jpg --weights deeplab.safetensors --output-stride 8 -o colored.png",
    )  # fmt: skip
    for parser, size in ((look, 299), (paint, 513)):
        parser.add_argument("photo", type=Path, metavar="PHOTO")
        parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="a file that convert wrote")
        parser.add_argument("--size", type=int, default=size, help="pixels of the square input (default: %(default)s)")
    look.add_argument("--top", type=int, default=5, help="how many classes to print (default: %(default)s)")
    paint.add_argument("--output-stride", type=int, help="8 is finer and slower (default: 16)")
    paint.add_argument("-o", "--output", type=Path, metavar="FILE", help="the picture to write (default: PHOTO.segmented.png)")
    paint.add_argument("--force", action="store_true", help="overwrite the picture if it exists")
