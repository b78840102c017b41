"""What the tests of `weights` share: the golden runs read back, small checkpoints, and Keras's files written as Keras does."""

import gc
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.recipe import seeded
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def shapes_of(names: Any, shapes: Any) -> dict[str, tuple[int, ...]]:
    """Shapes are stored padded with zeros to four axes."""
    return {str(name): tuple(int(size) for size in shape if size) for name, shape in zip(names, shapes, strict=True)}


def image_of(pixels: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes -> (N, 3, H, W) in [-1, 1], as inside the authors' network."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * (2 / 255) - 1


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2) if array.ndim == 4 else torch.from_numpy(array)


def small_checkpoint() -> dict[str, np.ndarray]:
    scope = "xception_65/middle_flow/block1/unit_3/xception_module/separable_conv2"
    return {
        f"{scope}_depthwise/depthwise_weights": np.arange(18, dtype=np.float32).reshape(3, 3, 2, 1),
        f"{scope}_pointwise/weights": np.arange(6, dtype=np.float64).reshape(1, 1, 2, 3),
        f"{scope}_depthwise/BatchNorm/moving_variance": np.ones(2, np.float32),
        f"{scope}_pointwise/BatchNorm/gamma": np.ones(3, np.float32),
        "logits/semantic/biases": np.ones(21, np.float32),
    }


class Trap:
    """Unpickling it would be an assertion error: nothing here may."""

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    raise AssertionError("something was unpickled")


def write_h5(path: Path, layers: dict[str, dict[str, np.ndarray]], top: str | None = None) -> None:
    """Keras's `.h5` of weights; with `top`, all layers inside one nested model of that name."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [top] if top else list(layers)
        for name, arrays in layers.items():
            group = file.require_group(top or name)
            names = [f"{name}/{leaf}" for leaf in arrays]
            group.attrs["weight_names"] = [*group.attrs.get("weight_names", []), *names]
            for full, array in zip(names, arrays.values(), strict=True):
                group[full] = array


def write_weights_h5(
    target: Any, layers: dict[str, dict[str, np.ndarray]], groups: dict[str, str], *, named: bool = True
) -> None:
    """Keras 3's `.weights.h5`: layers/<group>/vars/<i>; an early Keras 3 did not write the layers' names."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(target, "w") as file:
        for group, name in groups.items():
            variables = file.create_group(f"layers/{group}/vars")
            if named:
                variables.attrs["name"] = name
            for i, array in enumerate(layers[name].values()):
                variables[str(i)] = array


def write_keras(path: Path, layers: dict[str, dict[str, np.ndarray]], golden: Any) -> None:
    write_weights_h5(path.with_suffix(".tmp"), layers, dict(json.loads(str(golden["groups"]))), named=False)
    listing = [{"class_name": kind, "config": {"name": name}} for kind, name in json.loads(str(golden["layers"]))]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": listing}}))
        archive.write(path.with_suffix(".tmp"), "model.weights.h5")


def keras_layers(golden: Any, *, tiny: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """{layer: {array: numbers}} of a Keras network, full or with every axis cut down to 1."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, shape in shapes_of(golden["names"], golden["shapes"]).items():
        layer, i, leaf = name.split("/")
        fewer = (1,) * len(shape) if tiny else shape
        layers.setdefault(layer, {})[f"{i}-{leaf}"] = seeded(name, fewer, gain=1.0)
    return layers


# Hostile files


def refused(action: Callable[[Any], object], path: Path, reason: str, *, memory: int = 2**30) -> None:
    """`action(path)` raises one clean line that names the file and says why, within a second and a gibibyte."""
    with within_limits(memory=memory), pytest.raises(ValueError, match=reason) as caught:
        action(path)
    line = str(caught.value)
    assert str(path) in line
    assert line.isprintable()
    assert len(line) < len(str(path)) + 500


@contextmanager
def within_limits(seconds: float = 1, memory: int = 2**30) -> Iterator[None]:
    """Memory beyond what is in use now cannot be had (on Linux), and time is that of this process alone.

    What thousands of tests before have left in it is not for this one to sweep: a full collection takes half a second.
    """
    gc.freeze()
    start, limit = time.process_time(), None
    with suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, limit[1]))
    try:
        yield
    finally:
        gc.unfreeze()
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, limit)
    assert time.process_time() - start < seconds
