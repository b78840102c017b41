"""A small set of photographs in PASCAL VOC's layout, to try `train DATA` with: python tools/crow_set.py FOLDER

Forty crops of the course's one photograph and its human mask, of 180 to 359 pixels, each with another tint and some noise,
every second one turned by 180 degrees; ten of them are for measuring. They overlap: what is learned from them is this crow.
The files are the same wherever they are made (NumPy's frozen MT19937, whole numbers, PNG without loss).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parents[1] / "notebooks" / "assets"
COUNT, SMALLEST, LARGEST = 40, 180, 360
BIRD = [0, 0, 0, 128, 128, 0]  # VOC's colors of background and bird


def build(folder: Path) -> list[tuple[int, int, int]]:
    """Write the set; top, left and side of each crop. FileExistsError if the folder is there already."""
    photo, mask = (np.array(Image.open(ASSETS / f"{name}.png")) for name in ("crow", "crow_mask"))
    parts = [folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")]
    folder.mkdir(parents=True)
    for part in parts:
        part.mkdir(parents=True)
    random, crops, names = np.random.RandomState(0), [], {"train": list[str](), "val": list[str]()}
    for number in range(COUNT):
        side = int(random.randint(SMALLEST, LARGEST))
        y, x = (int(corner) for corner in random.randint(0, photo.shape[0] - side, 2))
        crops.append((y, x, side))
        tint, noise = random.randint(60, 140, 3), random.randint(-14, 15, (side, side, 3))
        crop = (photo[y : y + side, x : x + side, :3].astype(np.int64) * tint // 100 + noise).clip(0, 255).astype(np.uint8)
        label = (mask[y : y + side, x : x + side] > 0).astype(np.uint8)
        if number % 2:
            crop, label = crop[::-1, ::-1], label[::-1, ::-1]
        name = f"{number:02d}"
        Image.fromarray(crop).save(parts[0] / f"{name}.png")
        drawn = Image.fromarray(label)
        drawn.putpalette(BIRD)
        drawn.save(parts[1] / f"{name}.png")
        names["train" if number % 4 else "val"].append(name)
    for split, listed in names.items():
        (parts[2] / f"{split}.txt").write_text("\n".join(listed) + "\n")
    (folder / "classes.txt").write_text("background\nbird\n")
    return crops


def main() -> int:
    """Build it where the command line says."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        build(Path(sys.argv[1]))
    except FileExistsError:
        print(f"{sys.argv[1]} is there already: name another folder", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
