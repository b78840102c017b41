"""The authors' network for phones with the weights that this package brings along: nothing is downloaded, ever."""

from pathlib import Path

import torch

from minideeplab import weights
from minideeplab.networks.deeplab import DeepLabV3
from minideeplab.networks.mobilenet_v2 import mobilenet_v2
from minideeplab.weights.quantized import unpack

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
SHIPPED = Path(weights.__file__).with_name("deeplabv3_mobilenet_v2_voc.safetensors")


def pretrained(*, output_stride: int = 16) -> DeepLabV3:
    """DeepLabV3 on MobileNetV2 as its authors trained it on PASCAL VOC 2012, in evaluation mode; `.classes` names the 21.

    (N, 3, H, W), RGB in [-1, 1] -> logits (N, 21, H, W). Best on sides of 16 k + 1 pixels, up to 513 as in training: pad with
    `image.pad_to_grid` and crop. The weights were quantized to 8 bits by the authors; source and licence stand beside the
    file. They report 75.32 % mIoU on VOC val for the float checkpoint and 74.26 % with 8 bits; there is no decoder, so edges
    are coarse. Another `output_stride` keeps every weight, but the network was trained at 16.
    """
    if not SHIPPED.is_file():
        raise FileNotFoundError(f"{SHIPPED} is missing, though the package brings it along: install minideeplab again")
    with torch.device("cpu"):
        net = DeepLabV3(mobilenet_v2(output_stride=output_stride), len(VOC), rates=())
    weights.load(net, unpack(weights.read(SHIPPED)))
    net.classes = VOC
    return net.eval()
