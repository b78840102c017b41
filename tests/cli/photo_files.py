"""What the tests of photos and files share: small networks whose answers differ from pixel to pixel, and files of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.recipe import seeded
from torch import nn

CROW = Path(__file__).parents[2] / "notebooks" / "assets" / "crow.png"  # 513 x 513


def photo(width: int = 50, height: int = 33) -> Any:
    from PIL import Image

    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8))


@torch.no_grad()
def fresh(build: Callable[[], nn.Module]) -> nn.Module:
    """Random weights, the last layer such that different pixels get different answers."""
    torch.manual_seed(0)
    net = build().eval()
    net.classify.weight.normal_()
    logits = (net.coarse_logits if hasattr(net, "coarse_logits") else net)(torch.rand(4, 3, 65, 65) * 2 - 1).transpose(0, 1)
    mean = logits.flatten(1).mean(1)
    spread = (logits.flatten(1) - mean[:, None]).std()
    net.classify.weight /= spread
    net.classify.bias.sub_(mean).div_(spread)
    return net


def authors_checkpoint(case: str, path: Path, *, without: str = "(none)") -> None:
    """The arrays of a case of tf_variants.npz, with what a training checkpoint holds besides."""
    golden = np.load(Path(__file__).parents[1] / "golden" / "tf_variants.npz")
    shapes = zip(golden[f"{case}/names"], golden[f"{case}/shapes"], strict=True)
    arrays = {str(n): seeded(str(n), tuple(s[s > 0]), gain=1.0) for n, s in shapes if without not in str(n)}
    momentum = {f"{name}/Momentum": array for name, array in arrays.items() if name.endswith("weights")}
    np.savez(path, global_step=np.int64(30000), **arrays, **momentum)
