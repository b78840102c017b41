"""Inception V3 (Szegedy 2016, table 1), corrected by the released code, which two of the authors call the reference.

Against the printed table: "conv 3x3/1, 35x35x192" is a pooling, the 35 x 35 modules keep one 5 x 5, and the five modules
at 17 x 17 are one reduction and four. No auxiliary head: it serves training only; with it, counts grow by 3,326,696.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU
from minideeplab.blocks.inception import Inception8, Inception17, Inception35, ReductionTo8, ReductionTo17
from minideeplab.checks import check_image, require_positive


class InceptionV3(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1] -> logits (N, num_classes). At least 75 x 75; made for 299 x 299."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        require_positive(num_classes=num_classes)
        self.stem = nn.Sequential(                                   # 299 x 299 x    3
            ConvBNReLU(3, 32, 3, stride=2, valid=True),              # 149 x 149 x   32
            ConvBNReLU(32, 32, 3, valid=True),                       # 147 x 147 x   32
            ConvBNReLU(32, 64, 3),                                   # 147 x 147 x   64
            nn.MaxPool2d(3, stride=2),                               #  73 x  73 x   64
            ConvBNReLU(64, 80, 1),                                   #  73 x  73 x   80
            ConvBNReLU(80, 192, 3, valid=True),                      #  71 x  71 x  192
            nn.MaxPool2d(3, stride=2),                               #  35 x  35 x  192
        )
        self.modules_35 = nn.Sequential(
            Inception35(192, pooled=32),                             #  35 x  35 x  256
            Inception35(256, pooled=64),                             #  35 x  35 x  288
            Inception35(288, pooled=64),                             #  35 x  35 x  288
        )
        self.modules_17 = nn.Sequential(
            ReductionTo17(288),                                      #  17 x  17 x  768
            Inception17(768, 128),                                  #  17 x  17 x  768
            Inception17(768, 160),                                  #  17 x  17 x  768
            Inception17(768, 160),                                  #  17 x  17 x  768
            Inception17(768, 192),                                  #  17 x  17 x  768
        )
        self.modules_8 = nn.Sequential(
            ReductionTo8(768),                                       #   8 x   8 x 1280
            Inception8(1280),                                        #   8 x   8 x 2048
            Inception8(2048),                                        #   8 x   8 x 2048
        )
        self.dropout = nn.Dropout(0.2)
        self.classify = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, next(self.parameters()).dtype, least=75)
        x = self.modules_8(self.modules_17(self.modules_35(self.stem(x))))  # (N, 2048, 8, 8) from 299 x 299
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, 2048)
        return self.classify(self.dropout(x))
