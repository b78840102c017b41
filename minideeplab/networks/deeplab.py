"""DeepLabV3 and DeepLabV3+ (Chen 2018, figs. 1 and 2): nothing new, only composition.

A backbone is any module that returns `Features(low, high)` and knows its `low_channels`, `high_channels` and `output_stride`.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.convolution import upsample
from minideeplab.blocks.decoder import Decoder
from minideeplab.checks import require_positive
from minideeplab.geometry import default_rates
from minideeplab.networks.backbone import Backbone, check_backbone


class DeepLabV3(nn.Module):
    """Backbone and ASPP, no decoder (fig. 1a): (N, 3, H, W) -> logits (N, num_classes, H, W).

    RGB in [-1, 1], any size. `rates=None` follows the output stride: (6, 12, 18) at 16. `separable` is table 5's "SC".
    `classes` has the names of the classes where the weights know them (`pretrained`).
    """

    classes: Sequence[str] = ()

    def __init__(
        self, backbone: Backbone, num_classes: int, *,
        rates: Sequence[int] | None = None, channels: int = 256, separable: bool = True,
    ) -> None:
        super().__init__()
        require_positive(num_classes=num_classes)
        check_backbone(backbone)
        self.backbone = backbone
        rates = default_rates(backbone.output_stride) if rates is None else rates
        self.aspp = ASPP(backbone.high_channels, channels, rates=rates, separable=separable)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def coarse_logits(self, x: Tensor) -> Tensor:
        """(N, num_classes, ceil(H / os), ceil(W / os))."""
        return self.classify(self.aspp(self.backbone(x).high))

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.coarse_logits(x), x.shape[2:])


class DeepLabV3Plus(nn.Module):
    """Backbone, ASPP and decoder (fig. 2): (N, 3, H, W) -> logits (N, num_classes, H, W).

    RGB in [-1, 1], any size. `rates=None` follows the output stride; `separable` is table 5's "SC" and rules ASPP and
    decoder alike; `low_channels` is table 1's, `refine` counts table 2's 3 x 3 convolutions.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *,
        rates: Sequence[int] | None = None, channels: int = 256, low_channels: int = 48, refine: int = 2,
        separable: bool = True,
    ) -> None:
        super().__init__()
        require_positive(num_classes=num_classes)
        check_backbone(backbone)
        self.backbone = backbone
        rates = default_rates(backbone.output_stride) if rates is None else rates
        self.aspp = ASPP(backbone.high_channels, channels, rates=rates, separable=separable)
        options = {"channels": channels, "low_channels": low_channels, "refine": refine}
        self.decoder = Decoder(backbone.low_channels, channels, **options, separable=separable)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def coarse_logits(self, x: Tensor) -> Tensor:
        """(N, num_classes, ceil(H / 4), ceil(W / 4))."""
        low, high = self.backbone(x)  # (N, 256, H/4, W/4), (N, 2048, H/os, W/os)
        return self.classify(self.decoder(low, self.aspp(high)))

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.coarse_logits(x), x.shape[2:])
