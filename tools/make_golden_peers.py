"""Run timm's and torchvision's networks and keep what they answer: peers.npz. In the environment of `make parity`.

.venv-peers/bin/python tools/make_golden_peers.py
The file goes to tests/golden. The weights are generated (recipe.py there), so names, shapes and outputs suffice.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
from recipe import noise, seeded_torch  # noqa: E402  (beside the files it explains)


def fill(net: nn.Module) -> nn.Module:
    """The network with generated weights, ready to answer."""
    state = {name: torch.from_numpy(seeded_torch(name, tuple(value.shape))) for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


def image(height: int, width: int) -> Tensor:
    """Noise as an image in [-1, 1]."""
    return torch.from_numpy(noise((1, height, width, 3))).permute(0, 3, 1, 2).float() * (2 / 255) - 1


def main() -> None:
    """Write tests/golden/peers.npz."""
    kept = {"versions": f"timm {timm.__version__}, torchvision {torchvision.__version__}"}

    def names(key: str, net: nn.Module) -> nn.Module:
        state = net.state_dict()
        kept[f"{key}/names"] = np.array(list(state))
        kept[f"{key}/shapes"] = np.array([[*value.shape, *[0] * (4 - value.dim())] for value in state.values()], dtype=np.int32)
        return net

    with torch.inference_mode():
        net = fill(names("legacy_xception", timm.create_model("legacy_xception")))
        for height, width in ((263, 263), (299, 299)):
            kept[f"legacy_xception/{height}x{width}"] = net(image(height, width)).numpy()
        net = fill(names("xception41", timm.create_model("xception41")))
        kept["xception41/64x98"] = net(image(64, 98)).numpy()
        for key in ("xception65", "xception71"):
            names(key, timm.create_model(key))
        net = fill(names("inception_v3", torchvision.models.inception_v3(weights=None, init_weights=False)))
        net.transform_input = False
        kept["inception_v3/139x180"] = net(image(139, 180)).numpy()
        net = fill(names("aspp", ASPP(32, [1, 2, 3], 16)))
        kept["aspp/9x12"] = net(torch.from_numpy(seeded_torch("maps.weight", (1, 32, 9, 12)))).numpy()
    path = GOLDEN / "peers.npz"
    np.savez_compressed(path, **kept)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
