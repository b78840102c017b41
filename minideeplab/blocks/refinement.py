"""RefineNet's block: maps of two strides become one, as large as the finer (Lin 2017, fig. 3). The article's RefineNet."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import upsample
from minideeplab.checks import require_counts, require_positive


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3 x 3 at the same size, with a bias, since no batch norm follows."""
    require_positive(in_channels=in_channels, out_channels=out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResidualConvUnit(nn.Module):
    """ReLU -> 3 x 3 -> ReLU -> 3 x 3 and an identity shortcut, no batch norm (Lin 2017, fig. 3): (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = conv3x3(channels, channels), conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_2(F.relu(self.conv_1(F.relu(x))))


class ChainedResidualPooling(nn.Module):
    """ReLU, then a chain of `blocks` times 5 x 5 max pooling at stride 1 -> 3 x 3; the sum of its links (Lin 2017, fig. 3).

    (N, C, H, W) -> the same. Two blocks are the paper's default, four its choice on VOC.
    """

    def __init__(self, channels: int, *, blocks: int = 2) -> None:
        super().__init__()
        require_positive(blocks=blocks)
        self.convolve = nn.ModuleList(conv3x3(channels, channels) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = link = F.relu(x)
        for convolve in self.convolve:
            link = convolve(F.max_pool2d(link, 5, stride=1, padding=2))
            x = x + link
        return x


class RefineNetBlock(nn.Module):
    """One block (Lin 2017, fig. 3): two units a path, fusion by sum, chained pooling, one unit. Finest map first.

    (N, widths[0], H, W), (N, widths[1], h, w), ... -> (N, min(widths), H, W). One path has nothing to fuse.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        require_counts(widths=widths)
        least = min(widths)
        self.adapt = nn.ModuleList(nn.Sequential(ResidualConvUnit(c), ResidualConvUnit(c)) for c in widths)
        self.fuse = nn.ModuleList(conv3x3(c, least) if len(widths) > 1 else nn.Identity() for c in widths)
        self.pool, self.unit = ChainedResidualPooling(least), ResidualConvUnit(least)

    def forward(self, *maps: Tensor) -> Tensor:
        x, *coarser = (fuse(adapt(x)) for fuse, adapt, x in zip(self.fuse, self.adapt, maps))
        for y in coarser:
            x = x + upsample(y, x.shape[2:])
        return self.unit(self.pool(x))
