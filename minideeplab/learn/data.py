"""Data sets: what `len` and an index answer, as `torch.utils.data.DataLoader` asks for it. Nothing is downloaded.

`Shapes` is drawn, `SegmentationFolder` is any set in PASCAL VOC's layout, `FashionMNIST` is read from idx files. What is
missing is said when the set is made, what is damaged inside a file when that is read; either error names the file.
"""

import gzip
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from operator import index as whole
from pathlib import Path
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from minideeplab.checks import require_positive
from minideeplab.image import from_pixels
from minideeplab.learn import shapes
from minideeplab.learn.photo import LONGEST_SIDE, MOST_PIXELS, pillow, read_photo
from minideeplab.networks.pretrained import VOC
from minideeplab.weights.file_limits import LARGEST_TEXT, plain, reading

VOID = 255  #: the label of pixels that are neither learned nor scored
MOST_DRAWN = 2**32  # seeds, and pictures of a seed
MOST_READ = 2**20  # pictures of an idx file: 0.8 GB
IDX = {"train": "train", "test": "t10k"}  # how Fashion-MNIST's files of a split begin
GARMENTS = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)


class Sample(NamedTuple):
    """A picture (3, H, W) in [-1, 1] and its labels (H, W), int64, 255 void; a DataLoader makes a Sample of batches of them."""

    image: Tensor  # (3, H, W), float32, RGB in [-1, 1]
    labels: Tensor  # (H, W), int64, classes and 255 = void


class Shapes:
    """Discs, thin rods and boxes, drawn: `count` pictures of size x size, without end where more are asked for.

    A picture is a pure function of seed, index and size: `Shapes(8)[3]` is `Shapes(100)[3]`, today and on another machine.
    What is for evaluation takes another seed. `learn.shapes` says what is in them. Sides of 17 to 4097 pixels.
    """

    classes = shapes.CLASSES

    def __init__(self, count: int, *, size: int = 65, seed: int = 0) -> None:
        require_positive(count=count, size=size)
        if not shapes.SMALLEST <= size <= shapes.LARGEST:
            raise ValueError(f"size must be {shapes.SMALLEST} to {shapes.LARGEST} pixels a side, got {size}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an integer, got {seed!r}")
        for name, value, most in (("seed", seed, MOST_DRAWN - 1), ("count", count, MOST_DRAWN)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be 0 to {most:,}, got {value}")
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> Sample:
        pixels, labels = shapes.draw(self.size, self.seed, _place(index, self.count))
        return Sample(from_pixels(torch.from_numpy(pixels))[0], torch.from_numpy(labels))


class SegmentationFolder:
    """Photographs and label maps in PASCAL VOC's layout, the names of a split in `ImageSets/Segmentation/{split}.txt`.

    `JPEGImages/NAME.jpg` (or .png), turned upright as its EXIF tag asks; `SegmentationClass/NAME.png` of the same size, whose
    pixel is its class: a palette's index, or a gray value, 255 is void. All files of the split must be there when the set is
    made; a picture is decoded when it is asked for, and then a damaged or contradicting one is a ValueError.

    Class names are the lines of `classes.txt` in the folder. Without it they are VOC's 21 where the folder's name begins with
    VOC (VOC2012); else numbers: `num_classes` of them, or as many as the masks need, all those in `SegmentationClass`, so that
    train and val agree (which takes a few milliseconds a mask).
    """

    def __init__(self, root: str | Path, split: str, *, num_classes: int | None = None) -> None:
        self.root, self.split = Path(root), split
        self.names = _split_names(self.root / "ImageSets" / "Segmentation", split)
        masks = self.root / "SegmentationClass"
        self.files = [(_photo_file(self.root / "JPEGImages", name), masks / f"{name}.png") for name in self.names]
        for _, mask in self.files:
            if not mask.is_file():
                raise FileNotFoundError(f"{mask} is missing: split {split} names it")
        self.classes = _class_names(self.root, num_classes)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        photo, mask = self.files[_place(index, len(self.files))]
        image, labels = from_pixels(torch.from_numpy(np.array(read_photo(photo))))[0], read_labels(mask)
        if image.shape[1:] != labels.shape:
            sizes = " and ".join(f"{width} x {height}" for height, width in (labels.shape, image.shape[1:]))
            raise ValueError(f"{mask} and {photo} must be of one size, got {sizes} pixels")
        if (highest := _highest(labels)) >= len(self.classes):
            most = f"the {len(self.classes)} classes are 0 to {len(self.classes) - 1}, and {VOID} is void"
            raise ValueError(f"{mask} holds label {highest}: {most}")
        return Sample(image, labels)


class FashionMNIST:
    """Fashion-MNIST (Xiao 2017): ten kinds of garment, 28 x 28, gray; an index answers ((1, 28, 28) in [-1, 1], class).

    `folder` holds the idx files as they are published, packed (.gz) or not: Debian's package dataset-fashion-mnist puts them
    into /usr/share/datasets/fashion-mnist. They are read when the set is made; ValueError names a truncated or foreign one.
    """

    classes = GARMENTS

    def __init__(self, folder: str | Path, split: str) -> None:
        if split not in IDX:
            raise ValueError(f"split must be train or test, got {split!r}")
        self.images = _read_idx(Path(folder) / f"{IDX[split]}-images-idx3-ubyte", 28, 28)  # (n, 28, 28), uint8
        labels = _read_idx(file := Path(folder) / f"{IDX[split]}-labels-idx1-ubyte")
        if len(labels) != len(self.images):
            raise ValueError(f"{file} holds {len(labels):,} labels, and there are {len(self.images):,} pictures")
        if int(labels.max()) >= len(GARMENTS):
            raise ValueError(f"{file} holds label {int(labels.max())}: the classes are 0 to {len(GARMENTS) - 1}")
        self.labels: list[int] = labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> tuple[Tensor, int]:
        place = _place(index, len(self.labels))
        return self.images[place, None].float() * (2 / 255) - 1, self.labels[place]


def read_labels(path: str | Path) -> Tensor:
    """A label map (H, W), int64, from a PNG: a palette's indices, or gray values of 8 bits. ValueError for colors.

    The size that it declares is checked before a pixel is decoded.
    """
    images = pillow("Image")
    with reading(Path(path), "label map"), warnings.catch_warnings(), ExitStack() as files:
        warnings.simplefilter("ignore")  # Pillow warns of sizes that are refused here
        image = files.enter_context(images.open(path, formats=["PNG"]))
        if image.width * image.height > MOST_PIXELS or max(image.size) > LONGEST_SIDE:
            raise ValueError(f"it declares {image.width:,} x {image.height:,} pixels, at most {MOST_PIXELS:,} are read")
        if image.mode not in ("P", "L"):
            raise ValueError(f"classes are a palette's indices or gray values, this picture is of mode {image.mode}")
        if image.mode == "L" and image.tile and image.tile[0][3] != "L":  # Pillow would stretch 2 or 4 bits to 0..255
            raise ValueError(f"gray of fewer than 8 bits ({image.tile[0][3]}) has no agreed values: save it with 8")
        return torch.from_numpy(np.array(image)).long()


def _place(index: SupportsIndex, count: int) -> int:
    """The index as Python's sequences take it, from the end if negative."""
    place = whole(index)
    if not -count <= place < count:
        raise IndexError(f"index {place} of {count:,} pictures")
    return place % count


def _split_names(folder: Path, split: str) -> Sequence[str]:
    _check_name(split, f"split {split!r}")
    file = folder / f"{split}.txt"
    if not file.is_file():
        others = sorted(path.stem for path in folder.glob("*.txt"))
        raise FileNotFoundError(f"{file} is missing" + (f": there is {', '.join(others)}" if others else ""))
    names = _lines(file)
    if not names:
        raise ValueError(f"{file} names no picture")
    for name in names:
        _check_name(name, f"{file} names {plain(repr(name))}")
    if twice := len(names) - len(set(names)):
        raise ValueError(f"{file} names {twice} of its {len(names)} pictures twice")
    return names


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or name in ("", ".", "..") or any(letter in name for letter in "/\\:\0"):
        raise ValueError(f"{what}: a name is that of a file in its folder, without /, \\ and :")


def _photo_file(folder: Path, name: str) -> Path:
    for file in (folder / f"{name}.jpg", folder / f"{name}.png"):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{folder / name}.jpg is missing, and so is {name}.png")


def _class_names(root: Path, count: int | None) -> tuple[str, ...]:
    if count is not None:
        require_positive(num_classes=count)
    if (file := root / "classes.txt").is_file():
        names, source = tuple(_lines(file)), str(file)
    elif root.resolve().name.startswith("VOC"):
        names, source = VOC, f"{root}, VOC by its name,"
    else:
        names, source = tuple(map(str, range(count or _classes_in(root / "SegmentationClass")))), str(root)
    if count not in (None, len(names)):
        raise ValueError(f"{source} has {len(names)} classes, and num_classes is {count}")
    if not 1 <= len(names) <= VOID or len(set(names)) < len(names):
        raise ValueError(f"{source} must have 1 to {VOID} different classes, got {len(names)} of {len(set(names))} names")
    return names


def _classes_in(folder: Path) -> int:
    """One more than the highest label of all masks."""
    return 1 + max(_highest(read_labels(file)) for file in sorted(folder.glob("*.png")))


def _highest(labels: Tensor) -> int:
    return int(labels.where(labels != VOID, 0).max())


def _lines(file: Path) -> list[str]:
    with reading(file, "list of names"):
        if file.stat().st_size > LARGEST_TEXT:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, at most {LARGEST_TEXT:,} are read")
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _read_idx(plain_file: Path, *sides: int) -> Tensor:
    """The bytes of an idx file, (n, *sides): magic number, n and sides as big-endian integers of 32 bits, then the bytes."""
    packed = plain_file.with_name(f"{plain_file.name}.gz")
    file = plain_file if plain_file.is_file() else packed
    if not file.is_file():
        raise FileNotFoundError(f"{plain_file} is missing, and so is {packed.name}")
    with reading(file, "idx file"), (gzip.open(file) if file == packed else file.open("rb")) as stream:
        magic, header = 2049 + len(sides), stream.read(8 + 4 * len(sides))
        found = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
        if len(header) < 8 + 4 * len(sides) or found[0] != magic or tuple(found[2:]) != sides:
            expected = ", ".join(map(str, [magic, "count", *sides]))
            raise ValueError(f"it begins with {', '.join(map(str, found)) or 'nothing'}, not with {expected}")
        if not 1 <= found[1] <= MOST_READ:
            raise ValueError(f"it declares {found[1]:,} pictures, 1 to {MOST_READ:,} are read")
        expected_bytes = found[1] * int(np.prod(sides, dtype=np.int64))
        data = stream.read(expected_bytes + 1)
        if len(data) != expected_bytes:
            amount = "more than" if len(data) > expected_bytes else f"{len(data):,} of"
            raise ValueError(f"it holds {amount} the {expected_bytes:,} bytes that it declares")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, *sides)
