"""Weights that need not be stored: every number follows from the array's name. Shared by the scripts here and by the tests.

`seeded` is the recipe of the authors' golden run (tf_deeplabv3plus_xception_65.npz); the scripts add running statistics,
which that run stores. numpy's RandomState is frozen: the same seed gives the same numbers in every version.
"""

import zlib

import numpy as np
from numpy.typing import NDArray


def seeded(name: str, shape: tuple[int, ...], *, gain: float = 2.0) -> NDArray[np.float32]:
    """An array in TensorFlow's layout; `gain` is the variance that a convolution adds, 2 if a ReLU comes before it."""
    draw = np.random.RandomState((zlib.crc32(name.encode()) ^ 1234) & 0xFFFFFFFF)
    leaf = name.rpartition("/")[2]
    if leaf == "gamma":
        array = draw.uniform(0.6, 1.4, shape)
    elif leaf in ("beta", "moving_mean"):
        array = draw.randn(*shape) * 0.3
    elif leaf == "moving_variance":
        array = draw.uniform(0.6, 1.4, shape)
    elif leaf == "biases":
        array = draw.randn(*shape) * 0.2
    elif leaf == "depthwise_weights":
        array = draw.randn(*shape) * np.sqrt(gain / (shape[0] * shape[1]))
    else:
        array = draw.randn(*shape) * np.sqrt(gain / np.prod(shape[:-1]))
    return array.astype(np.float32)


def seeded_torch(name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | NDArray[np.int64]:
    """The same for a name and shape of a PyTorch state dict."""
    layer, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    kinds = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "beta"}
    kind = kinds.get(leaf, "gamma" if len(shape) == 1 else "weights")
    return np.ascontiguousarray(seeded(f"{layer}/{kind}", shape[::-1], gain=1.0).T)


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image: random gray levels, the same for the same shape."""
    return np.random.RandomState(sum(shape)).randint(0, 256, shape).astype(np.uint8)
