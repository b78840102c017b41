"""Keep what the proofs of the shipped weights need: mobilenet_v2.npz, from three larger files with the same answers.

python tools/make_golden_mobilenet.py golden_crow.npz golden_cat.npz golden_even.npz

Each file has, for one picture, the answers of two programs that are not ours. Made once, in another environment, both from
the authors' deeplabv3_mnv2_pascal_quant.tflite (github.com/google-coral/test_data at 104342d):

- ai-edge-litert 2.3.0, the interpreter that the authors' file is meant for, which computes with 8 bits: `labels` (H, W),
  `logits` (33, 33, 21) as float32, multiples of `logits_scale`, and crops of three inner maps as bytes, `stem`, `block3`
  (expanded_conv_3) and `backbone`, (rows, columns, channels), each with `_scale`, `_zero` and `_origin` (row, column);
- a float port of the same file to PyTorch 2.13, which rounds nothing to bytes: the same with `float_` before it, float32.

The pictures are not kept: the crow and the cat are in notebooks/assets (tests/networks/test_pretrained.py prepares them), the
"even" one, 528 x 514, is np.pad(crow, ((0, 15), (0, 1), (0, 0)), "edge"), for padding on even maps. It has no labels.

Everything is kept exactly: logits as int16 multiples of their scale, the port's maps as float32, since the proofs ask for
1e-3 and half precision is wrong by up to 8e-3 at these magnitudes. Left out are the cat's crops, which would add nothing to
the crow's, and the labels of LiteRT's reference kernels.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "mobilenet_v2.npz"
MAPS = ("stem", "block3", "backbone")


def kept(picture: str, theirs: Any) -> Iterator[tuple[str, Any]]:
    """(name, array) of everything that is kept of a picture's answers."""
    if "labels" in theirs:
        yield "labels", theirs["labels"]
    scale = theirs["logits_scale"]
    whole = np.rint(theirs["logits"] / scale).astype(np.int16)
    if not np.array_equal(whole.astype(np.float32) * scale, theirs["logits"]):
        raise ValueError(f"{picture}: the logits are no multiples of {scale}")
    yield from (("logits", whole), ("logits_scale", scale), ("float_logits", theirs["float_logits"]))
    for name in MAPS if picture != "cat" else ():
        yield from (
            (key, theirs[key]) for key in (name, f"float_{name}", *(f"{name}_{x}" for x in ("scale", "zero", "origin")))
        )


def main(crow: str, cat: str, even: str) -> None:
    """Write tests/golden/mobilenet_v2.npz."""
    files = {"crow": crow, "cat": cat, "even": even}
    arrays = {f"{picture}/{name}": array for picture, path in files.items() for name, array in kept(picture, np.load(path))}
    np.savez_compressed(TARGET, **arrays)
    print(TARGET.name, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
