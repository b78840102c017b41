"""A backbone as it is trained on ImageNet: what `Xception` and `InceptionV3` bring along, for the DeepLab backbones."""

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.checks import require_positive
from minideeplab.networks.backbone import Backbone, check_backbone


class Classifier(nn.Module):
    """Backbone, global mean, dropout, 1 x 1: (N, 3, H, W) -> logits (N, num_classes).

    RGB in [-1, 1]. The same 1 x 1 that DeepLab puts on every pixel stands here on the mean of all pixels. The authors'
    classifiers run at output stride 32 and know 1001 classes: class 0 is the background.
    """

    def __init__(self, backbone: Backbone, num_classes: int = 1000) -> None:
        super().__init__()
        require_positive(num_classes=num_classes)
        check_backbone(backbone)
        self.backbone = backbone
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Conv2d(backbone.high_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.backbone(x).high, 1)  # (N, 2048, 1, 1)
        return self.classify(self.dropout(x)).flatten(1)  # (N, num_classes)
