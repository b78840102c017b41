"""A family of heads on one backbone, each its paper's figure: FCN, PSPNet, DeepLab; and in `encoder_decoder` those that climb.

In the margins: a 513 x 513 picture behind `resnet101` at output stride 32; at 8 for PSPNet, at 16 for DeepLab.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.convolution import ConvBNReLU, upsample
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.pyramid_pooling import PyramidPooling
from minideeplab.checks import check_image, require_kind, require_positive
from minideeplab.geometry import default_rates
from minideeplab.networks.backbone import Backbone, Pyramid, PyramidBackbone, check_backbone


class Segmenter(nn.Module):
    """A backbone, a head, a 1 x 1 that classifies, upsampled: (N, 3, H, W) -> logits (N, num_classes, H, W).

    RGB in [-1, 1], any size. A head is a module with `channels` and a `forward` that makes of a `Pyramid` one map
    (N, channels, h, w), of any size. The smallest hands on the last map:

    >>> import torch, minideeplab as m
    >>> class LastMap(nn.Module):
    ...     channels = 320
    ...     def forward(self, pyramid): return pyramid.high  # or pyramid.low, pyramid.maps[8], ...
    >>> m.Segmenter(m.mobilenet_v2(), LastMap(), num_classes=4)(torch.zeros(1, 3, 65, 64)).shape
    torch.Size([1, 4, 65, 64])
    """

    def __init__(self, backbone: PyramidBackbone, head: nn.Module, num_classes: int) -> None:
        super().__init__()
        check_backbone(backbone, pyramid=True)
        require_kind(nn.Module, head=head)
        channels: int = getattr(head, "channels", None)  # type: ignore[assignment]
        require_positive(num_classes=num_classes, **{"head.channels": channels})
        self.backbone, self.head, self.classify = backbone, head, nn.Conv2d(channels, num_classes, 1)

    def coarse_logits(self, x: Tensor) -> Tensor:
        """(N, num_classes, h, w), as large as the head's map."""
        check_image(x, next(self.parameters()).dtype)
        return self.classify(self.head(self.backbone.pyramid(x)))

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.coarse_logits(x), x.shape[2:])


class FCNHead(nn.Module):
    """FCN (Long 2015, fig. 3): 1 x 1 scores of the coarsest `maps`, each sum upsampled and added to the next finer scores.

    `Pyramid` -> (N, channels, h, w), the size of the finest that is read. At output stride 32, 1, 2, 3 maps are FCN-32s,
    16s, 8s; one map is the naive way up. As in the paper the scores of finer maps begin at zero. `channels` are the
    paper's classes: what `Segmenter` has behind them is linear, too. Its steps by 2 are learned and begin as ours, bilinear.
    """

    def __init__(self, backbone: PyramidBackbone, *, channels: int = 21, maps: int = 1) -> None:
        super().__init__()
        check_backbone(backbone, pyramid=True)
        require_positive(channels=channels, maps=maps)
        if maps > len(backbone.channels):
            raise ValueError(f"maps must be at most {len(backbone.channels)}, as many as the backbone has, got {maps}")
        self.channels, self.strides = channels, sorted(backbone.channels, reverse=True)[:maps]
        self.score = nn.ModuleList(                                                        #  17 x  17 x 2048
            nn.Conv2d(backbone.channels[stride], channels, 1)                              #  17 x  17 x   21
            for stride in self.strides                                                     #  33 x  33 x   21
        )                                                                                  #  65 x  65 x   21
        for weight in self.score[1:].parameters():
            nn.init.zeros_(weight)

    def forward(self, pyramid: Pyramid) -> Tensor:
        x, *finer = (score(pyramid.maps[stride]) for score, stride in zip(self.score, self.strides))
        for scores in finer:
            x = upsample(x, scores.shape[2:]) + scores
        return x


class PSPNetHead(nn.Module):
    """PSPNet (Zhao 2017, fig. 3; no auxiliary loss): `Pyramid` -> (N, channels, ceil(H / os), ceil(W / os))."""

    def __init__(self, backbone: Backbone, *, channels: int = 512, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        check_backbone(backbone)
        self.channels, c = channels, backbone.high_channels
        self.pool = PyramidPooling(c, bins=bins)                                           #  65 x  65 x 4096
        self.mix = ConvBNReLU(c + len(bins) * (c // len(bins)), channels, 3, eps=1e-5)     #  65 x  65 x  512

    def forward(self, pyramid: Pyramid) -> Tensor:
        return self.mix(self.pool(pyramid.high))


class DeepLabV3Head(nn.Module):
    """ASPP (Chen 2017, fig. 5; here separable) and no way back: `Pyramid` -> (N, channels, ceil(H / os), ceil(W / os))."""

    def __init__(self, backbone: Backbone, *, channels: int = 256, rates: Sequence[int] | None = None) -> None:
        super().__init__()
        check_backbone(backbone)
        self.channels, rates = channels, default_rates(backbone.output_stride) if rates is None else rates
        self.aspp = ASPP(backbone.high_channels, channels, rates=rates)                    #  33 x  33 x  256

    def forward(self, pyramid: Pyramid) -> Tensor:
        return self.aspp(pyramid.high)


class DeepLabV3PlusHead(DeepLabV3Head):
    """DeepLabV3+'s head (Chen 2018, fig. 2): the same and the decoder. `Pyramid` -> (N, channels, ceil(H / 4), ceil(W / 4))."""

    def __init__(
        self, backbone: Backbone, *, channels: int = 256, low_channels: int = 48, rates: Sequence[int] | None = None,
    ) -> None:
        super().__init__(backbone, channels=channels, rates=rates)
        self.decoder = Decoder(backbone.low_channels, channels, channels=channels, low_channels=low_channels)  # 129 x 129 x 256

    def forward(self, pyramid: Pyramid) -> Tensor:
        return self.decoder(pyramid.low, self.aspp(pyramid.high))
