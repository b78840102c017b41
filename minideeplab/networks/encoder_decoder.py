"""Heads that come back up through the map of every stride, each its paper's figure: U-Net, SegNet (2015), RefineNet (2016).

The rest of the way is bilinear; U-Net and SegNet climb to the image. Margins: 513 x 513, `resnet101`, output stride 32.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._nn import max_unpool2d  # what torch.nn.functional's calls, behind a check of sizes that cannot be traced

from minideeplab.blocks.convolution import ConvBNReLU
from minideeplab.blocks.refinement import RefineNetBlock, ResidualConvUnit, conv3x3
from minideeplab.checks import require_positive
from minideeplab.networks.backbone import Pyramid, PyramidBackbone, check_backbone


class UNetStep(nn.Module):
    """2 x 2 up-convolution, the encoder's map beside it, two 3 x 3 with ReLU, which begin with variance 2 / inputs (sec. 3).

    (N, coarse, ceil(H / 2), ceil(W / 2)), (N, fine, H, W) -> (N, channels, H, W). No batch norm.
    """

    def __init__(self, coarse: int, fine: int, channels: int) -> None:
        super().__init__()
        require_positive(coarse=coarse, fine=fine, channels=channels)
        self.up = nn.ConvTranspose2d(coarse, channels, 2, stride=2)
        self.mix_1, self.mix_2 = conv3x3(fine + channels, channels), conv3x3(channels, channels)
        for mix in (self.mix_1, self.mix_2):
            nn.init.kaiming_normal_(mix.weight, nonlinearity="relu")

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        x = self.up(x)[:, :, : beside.shape[2], : beside.shape[3]]
        return F.relu(self.mix_2(F.relu(self.mix_1(torch.cat([beside, x], dim=1)))))


class UNetHead(nn.Module):
    """U-Net (Ronneberger 2015, fig. 1): the whole map of every stride is set beside what comes back up.

    `Pyramid` -> (N, channels, ceil(H / 2), ceil(W / 2)); a step is twice as wide as the next. The paper's 3 x 3 are
    unpadded, so it crops the encoder's maps; ours are padded, and where a size is odd it is the upsampled map that is cropped.
    """

    def __init__(self, backbone: PyramidBackbone, *, channels: int = 64) -> None:
        super().__init__()
        check_backbone(backbone, pyramid=True)
        require_positive(channels=channels)
        self.channels, (last, *self.strides) = channels, sorted(backbone.channels, reverse=True)
        widths = [backbone.channels[last], *(channels * 2**step for step in reversed(range(len(self.strides))))]
        self.steps = nn.ModuleList(                                                        #  17 x  17 x 2048
            UNetStep(before, backbone.channels[stride], after)                             #  33 x  33 x  512
            for (before, after), stride                                                    #  65 x  65 x  256
            in zip(pairwise(widths), self.strides)                                         # 129 x 129 x  128
        )                                                                                  # 257 x 257 x   64

    def forward(self, pyramid: Pyramid) -> Tensor:
        x = pyramid.high
        for step, stride in zip(self.steps, self.strides):
            x = step(x, pyramid.maps[stride])
        return x


class SegNetHead(nn.Module):
    """SegNet (Badrinarayanan 2015, figs. 2, 3): of every stride only the *places* of its maxima help what comes back up.

    `Pyramid` -> (N, channels, ceil(H / 2), ceil(W / 2)). The paper's encoder halves by the 2 x 2 max pooling whose places it
    keeps; ours strides, and the places are those of its map before the stride. A place belongs to a channel, so only the
    last width is free. One 3 x 3 a step, where the paper mirrors VGG's two or three.
    """

    def __init__(self, backbone: PyramidBackbone, *, channels: int = 64) -> None:
        super().__init__()
        check_backbone(backbone, pyramid=True)
        strides = sorted(backbone.channels, reverse=True)
        self.channels, self.strides = channels, strides[1:]
        self.convolve = nn.ModuleList(                                                     #  17 x  17 x 2048
            ConvBNReLU(before, after, 3, eps=1e-5)                                         #  17 x  17 x 1024
            for before, after in pairwise([                                                #  33 x  33 x  512
                *(backbone.channels[stride] for stride in strides),                        #  65 x  65 x  256
                channels,                                                                  # 129 x 129 x  128
            ]))                                                                            # 257 x 257 x   64

    def forward(self, pyramid: Pyramid) -> Tensor:
        x = self.convolve[0](pyramid.high)
        for convolve, stride in zip(self.convolve[1:], self.strides):
            before = pyramid.maps[stride]
            _, places = F.max_pool2d(before, 2, ceil_mode=True, return_indices=True)  # rounded up, as a stride does
            x = convolve(max_unpool2d(x, places, before.shape[2:]))
        return x


class RefineNetHead(nn.Module):
    """RefineNet (Lin 2017, fig. 2c): from the coarsest map to stride 4, a block a stride that takes in its encoder's map.

    `Pyramid` -> (N, channels, ceil(H / 4), ceil(W / 4)). No batch norm; sums, where U-Net concatenates. The coarsest path is
    twice as wide. The 3 x 3 that brings an encoder's map to its width is in no figure.
    """

    def __init__(self, backbone: PyramidBackbone, *, channels: int = 256) -> None:
        super().__init__()
        check_backbone(backbone, pyramid=True)
        require_positive(channels=channels)
        self.channels, self.strides = channels, [s for s in sorted(backbone.channels, reverse=True) if s >= 4]
        widths = [channels * (2 if s == self.strides[0] > 4 else 1) for s in self.strides]
        self.reduce = nn.ModuleList(                                                       #  17 x  17 x 2048
            conv3x3(backbone.channels[stride], width)                                      #  17 x  17 x  512
            for stride, width                                                              #  33 x  33 x  256
            in zip(self.strides, widths)                                                   #  65 x  65 x  256
        )                                                                                  # 129 x 129 x  256
        self.blocks = nn.ModuleList(
            RefineNetBlock(path)                                                           #  17 x  17 x  512
            for path                                                                       #  33 x  33 x  256
            in [widths[:1], *map(sorted, pairwise(widths))]                                #  65 x  65 x  256
        )                                                                                  # 129 x 129 x  256
        self.units = nn.Sequential(ResidualConvUnit(channels), ResidualConvUnit(channels))  # 129 x 129 x 256

    def forward(self, pyramid: Pyramid) -> Tensor:
        first, *finer = (reduce(pyramid.maps[stride]) for reduce, stride in zip(self.reduce, self.strides))
        x = self.blocks[0](first)
        for block, y in zip(self.blocks[1:], finer):
            x = block(y, x)
        return self.units(x)
