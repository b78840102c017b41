"""Writes the weights that the package ships from the authors' .tflite: python tools/make_shipped_weights.py FILE.tflite

The file: deeplabv3_mnv2_pascal_quant.tflite of github.com/google-coral/test_data at 104342d (Apache-2.0). The result is
the same byte for byte every time; minideeplab/weights/deeplabv3_mobilenet_v2_voc.md says what it is and where it comes from.
"""

import hashlib
import sys
from pathlib import Path

from minideeplab import weights
from minideeplab.networks.pretrained import SHIPPED
from minideeplab.weights.quantized import pack
from minideeplab.weights.tflite_file import read_tflite

ABOUT = {  # one entry: safetensors writes several in any order
    "minideeplab": "DeepLabV3 on MobileNetV2, 21 classes of PASCAL VOC 2012, 8-bit weights, Apache-2.0: "
    "see the page beside this file"
}


def main(source: Path, target: Path = SHIPPED) -> None:
    weights.save(pack(read_tflite(source)), target, about=ABOUT, overwrite=True)
    print(f"{target}: {target.stat().st_size:,} bytes, sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
