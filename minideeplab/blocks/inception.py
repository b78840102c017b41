"""Rung 2. The Inception V3 modules (Szegedy 2016): 1 x 1 first makes the costly windows small, towers split the work.

Towers stand side by side on the same input and are concatenated. The split into channels (1 x 1) and space (the rest)
is approximate: every 3 x 3 of a tower still mixes the channels of its tower.
"""

import torch
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU


class MeanPool2d(nn.AvgPool2d):
    """Average of a 3 x 3 window that keeps the size: (N, C, H, W) -> (N, C, H, W).

    Padding is not counted in the average, as in Keras and slim; torchvision counts it, and the border differs.
    """

    def __init__(self) -> None:
        super().__init__(3, stride=1, padding=1, count_include_pad=False)


class Towers(nn.Module):
    """Towers side by side: (N, C, H, W) -> (N, sum of the towers' channels, H', W'), concatenated in their order."""

    def __init__(self, in_channels: int, *towers: nn.Module) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.towers = nn.ModuleList(towers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([tower(x) for tower in self.towers], dim=1)


class Inception35(Towers):
    """The module of the 35 x 35 grid: (N, C, H, W) -> (N, 224 + pooled, H, W).

    The released code has the two 3 x 3 of Szegedy's fig. 5 in one tower and a 5 x 5 in another. Fig. 1 of Chollet 2017 draws
    another module: no 5 x 5, and a 3 x 3 behind the pool.
    """

    def __init__(self, in_channels: int, pooled: int) -> None:
        super().__init__(in_channels,
            ConvBNReLU(in_channels, 64),
            nn.Sequential(ConvBNReLU(in_channels, 48), ConvBNReLU(48, 64, 5)),
            nn.Sequential(ConvBNReLU(in_channels, 64), ConvBNReLU(64, 96, 3), ConvBNReLU(96, 96, 3)),
            nn.Sequential(MeanPool2d(), ConvBNReLU(in_channels, pooled)),
        )


class ReductionTo17(Towers):
    """35 x 35 -> 17 x 17 (Szegedy 2016, fig. 10): convolution and pooling side by side.

    (N, C, H, W) -> (N, C + 480, (H - 3) // 2 + 1, (W - 3) // 2 + 1): windows of 3 at stride 2 without padding.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels,
            ConvBNReLU(in_channels, 384, 3, stride=2, valid=True),
            nn.Sequential(ConvBNReLU(in_channels, 64), ConvBNReLU(64, 96, 3),
                          ConvBNReLU(96, 96, 3, stride=2, valid=True)),
            nn.MaxPool2d(3, stride=2),
        )


class Inception17(Towers):
    """17 x 17 (fig. 6): 7 x 7 windows as 1 x 7 and 7 x 1, (N, C, H, W) -> (N, 768, H, W).

    `reduced` is what the 1 x 1 of the longer towers reduces to.
    """

    def __init__(self, in_channels: int, reduced: int) -> None:
        super().__init__(in_channels,
            ConvBNReLU(in_channels, 192),
            nn.Sequential(ConvBNReLU(in_channels, reduced),
                          ConvBNReLU(reduced, reduced, (1, 7)), ConvBNReLU(reduced, 192, (7, 1))),
            nn.Sequential(ConvBNReLU(in_channels, reduced),
                          ConvBNReLU(reduced, reduced, (7, 1)), ConvBNReLU(reduced, reduced, (1, 7)),
                          ConvBNReLU(reduced, reduced, (7, 1)), ConvBNReLU(reduced, 192, (1, 7))),
            nn.Sequential(MeanPool2d(), ConvBNReLU(in_channels, 192)),
        )


class ReductionTo8(Towers):
    """17 x 17 -> 8 x 8: (N, C, H, W) -> (N, C + 512, (H - 3) // 2 + 1, (W - 3) // 2 + 1)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels,
            nn.Sequential(ConvBNReLU(in_channels, 192), ConvBNReLU(192, 320, 3, stride=2, valid=True)),
            nn.Sequential(ConvBNReLU(in_channels, 192), ConvBNReLU(192, 192, (1, 7)), ConvBNReLU(192, 192, (7, 1)),
                          ConvBNReLU(192, 192, 3, stride=2, valid=True)),
            nn.MaxPool2d(3, stride=2),
        )


class Inception8(Towers):
    """8 x 8 (fig. 7): the rows and columns of a 3 x 3 side by side, (N, C, H, W) -> (N, 2048, H, W)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels,
            ConvBNReLU(in_channels, 320),
            nn.Sequential(ConvBNReLU(in_channels, 384),
                          Towers(384, ConvBNReLU(384, 384, (1, 3)), ConvBNReLU(384, 384, (3, 1)))),
            nn.Sequential(ConvBNReLU(in_channels, 448), ConvBNReLU(448, 384, 3),
                          Towers(384, ConvBNReLU(384, 384, (1, 3)), ConvBNReLU(384, 384, (3, 1)))),
            nn.Sequential(MeanPool2d(), ConvBNReLU(in_channels, 192)),
        )
