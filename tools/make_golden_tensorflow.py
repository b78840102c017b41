"""The authors' networks once more, in TensorFlow's own operations, and what they answer: tf_variants.npz.

In an environment of its own: pip install tensorflow-cpu; then python tools/make_golden_tensorflow.py [width]
The run of the authors' own code (tf_deeplabv3plus_xception_65.npz) covers one network; this covers the others, an eighth
as wide: 41 and 71 layers, dense heads, no decoder, output strides 8, 16 and 32, ResNet-101 beta with multi-grid, and the
ImageNet classifiers.
Read beside research/deeplab of tensorflow/models: names, padding, order and epsilons are theirs. The file goes
to tests/golden; weights: recipe.py there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
from recipe import noise, seeded  # noqa: E402  (beside the files it explains)

WIDTH = float(sys.argv[1]) if len(sys.argv) > 1 else 0.125
CLASSES = 5
shapes: dict[str, tuple[int, ...]] = {}


def c(channels: int) -> int:
    """Channels of a layer at this width."""
    return max(1, round(channels * WIDTH))


def variable(name: str, *shape: int) -> np.ndarray:
    """An array of the checkpoint, made by the recipe; its shape is kept."""
    shapes[name] = shape
    return seeded(name, shape, gain=1.0)


def norm(x: tf.Tensor, scope: str, eps: float) -> tf.Tensor:
    """Batch norm with stored statistics."""
    leaves = ("moving_mean", "moving_variance", "beta", "gamma")
    return tf.nn.batch_normalization(x, *(variable(f"{scope}/BatchNorm/{leaf}", x.shape[-1]) for leaf in leaves), eps)


def conv(x, scope, channels, k=1, *, stride=1, rate=1, relu=True, eps=1e-3):
    """slim.conv2d, or resnet_utils.conv2d_same: explicit symmetric padding where a 3 x 3 strides."""
    weights = variable(f"{scope}/weights", k, k, x.shape[-1], channels)
    if stride > 1 and k > 1:
        x, padding = tf.pad(x, [[0, 0], [rate, rate], [rate, rate], [0, 0]]), "VALID"
    else:
        padding = "SAME"
    x = norm(tf.nn.conv2d(x, weights, stride, padding, dilations=rate), scope, eps)
    return tf.nn.relu(x) if relu else x


def separable(x, scope, channels, *, stride=1, rate=1, relu=False, eps=1e-3):
    """separable_conv2d_same, split: depthwise, batch norm, pointwise, batch norm; `relu` after both."""
    weights = variable(f"{scope}_depthwise/depthwise_weights", 3, 3, x.shape[-1], 1)
    padding = "SAME"
    if stride > 1:
        x, padding = tf.pad(x, [[0, 0], [rate, rate], [rate, rate], [0, 0]]), "VALID"
    x = tf.nn.depthwise_conv2d(x, weights, [1, stride, stride, 1], padding, dilations=[rate, rate])
    x = norm(x, f"{scope}_depthwise", eps)
    return conv(tf.nn.relu(x) if relu else x, f"{scope}_pointwise", channels, relu=relu, eps=eps)


def walk(strides: Sequence[int], target: int) -> list[tuple[int, int]]:
    """stack_blocks_dense: (stride, rate) of every unit."""
    current, rate, steps = 1, 1, []
    for stride in strides:
        if current == target:
            steps.append((1, rate))
            rate *= stride
        else:
            steps.append((stride, 1))
            current *= stride
    return steps


def xception(x: tf.Tensor, variant: str, output_stride: int, grid: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """xception_41, xception_65, xception_71 -> low, high."""
    entry = [(128, 2), (256, 2), (728, 2)]
    if variant == "xception_71":
        entry = [(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)]
    middle = 8 if variant == "xception_41" else 16
    units = [(f"entry_flow/block{i}/unit_1", [depth] * 3, "conv", stride) for i, (depth, stride) in enumerate(entry, 1)]
    units += [(f"middle_flow/block1/unit_{i + 1}", [728] * 3, "sum", 1) for i in range(middle)]
    units += [("exit_flow/block1/unit_1", [728, 1024, 1024], "conv", 2)]
    units += [("exit_flow/block2/unit_1", [1536, 1536, 2048], "none", 1)]
    tap = f"entry_flow/block{3 if variant == 'xception_71' else 2}/unit_1"
    x = conv(x, f"{variant}/entry_flow/conv1_1", c(32), 3, stride=2)
    x = conv(x, f"{variant}/entry_flow/conv1_2", c(64), 3)
    steps = walk([stride for *_, stride in units], output_stride // 2)
    for (scope, depths, skip, _), (stride, rate) in zip(units, steps, strict=True):
        inputs, place, last = x, f"{variant}/{scope}/xception_module", skip == "none"
        for i in (1, 2, 3):
            x = x if last else tf.nn.relu(x)
            here = rate * (grid[i - 1] if last else 1)
            x = separable(
                x, f"{place}/separable_conv{i}", c(depths[i - 1]), stride=stride if i == 3 else 1, rate=here, relu=last
            )
            if scope == tap and i == 2:
                low = x
        if skip == "conv":
            x += conv(inputs, f"{place}/shortcut", c(depths[2]), stride=stride, relu=False)
        elif skip == "sum":
            x += inputs
    return low, x


def resnet(x: tf.Tensor, variant: str, output_stride: int, grid: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """resnet_v1_101_beta (its scope: resnet_v1_101) -> low, high."""
    for i, channels in enumerate((64, 64, 128), 1):
        x = conv(x, f"{variant}/conv1_{i}", c(channels), 3, stride=2 if i == 1 else 1, eps=1e-5)
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    counts = (3, 4, 23, 3)
    units = [(block, unit) for block, count in enumerate(counts, 1) for unit in range(1, count + 1)]
    strides = [2 if unit == counts[block - 1] and block < 4 else 1 for block, unit in units]
    for (block, unit), (stride, rate) in zip(units, walk(strides, output_stride // 4), strict=True):
        inputs, place, width = x, f"{variant}/block{block}/unit_{unit}/bottleneck_v1", c(64 * 2 ** (block - 1))
        if inputs.shape[-1] == 4 * width:
            shortcut = inputs[:, ::stride, ::stride]
        else:
            shortcut = conv(inputs, f"{place}/shortcut", 4 * width, stride=stride, relu=False, eps=1e-5)
        x = conv(x, f"{place}/conv1", width, eps=1e-5)
        x = conv(x, f"{place}/conv2", width, 3, stride=stride, rate=rate * (grid[unit - 1] if block == 4 else 1), eps=1e-5)
        x = conv(x, f"{place}/conv3", 4 * width, relu=False, eps=1e-5)
        if (block, unit) == (1, 2):
            low = x
        x = tf.nn.relu(shortcut + x)
    return low, x


def classes(x: tf.Tensor, scope: str, count: int) -> tf.Tensor:
    """The last layer: 1 x 1 with a bias."""
    return tf.nn.conv2d(x, variable(f"{scope}/weights", 1, 1, x.shape[-1], count), 1, "SAME") + variable(
        f"{scope}/biases", count
    )


def resize(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Bilinear, corners on corners."""
    return tf.compat.v1.image.resize_bilinear(x, like.shape[1:3], align_corners=True)


def run(image: np.ndarray, variant: str, output_stride: int, head: str, split: bool, grid: Sequence[int]) -> np.ndarray:
    """Logits at the stride of the network; `head` is plus (V3+), v3 (no decoder) or classifier."""
    shapes.clear()
    backbone = resnet if variant.startswith("resnet") else xception
    low, x = backbone(tf.constant(image, tf.float32) * (2 / 255) - 1, variant, output_stride, grid)
    if head == "classifier":
        return classes(tf.reduce_mean(x, [1, 2], keepdims=True), f"{variant}/logits", 1001).numpy()[:, 0, 0]

    def three(x: tf.Tensor, scope: str, dense: str, rate: int = 1) -> tf.Tensor:
        if split:
            return separable(x, scope, c(256), rate=rate, relu=True, eps=1e-5)
        return conv(x, dense, c(256), 3, rate=rate, eps=1e-5)

    pooled = conv(tf.reduce_mean(x, [1, 2], keepdims=True), "image_pooling", c(256), eps=1e-5)
    branches = [resize(pooled, x), conv(x, "aspp0", c(256), eps=1e-5)]
    for i in (1, 2, 3):
        branches.append(three(x, f"aspp{i}", f"aspp{i}", rate=96 * i // output_stride))
    x = conv(tf.concat(branches, 3), "concat_projection", c(256), eps=1e-5)
    if head == "plus":
        low = conv(low, "decoder/feature_projection0", c(48), eps=1e-5)
        x = tf.concat([resize(x, low), low], 3)
        for i in (0, 1):
            x = three(x, f"decoder/decoder_conv{i}", f"decoder/decoder_conv0/decoder_conv0_{i + 1}")
    return classes(x, "logits/semantic", CLASSES).numpy()


CASES = [  # variant, output stride, head, separable, multi-grid
    ("xception_41", 16, "plus", False, (1, 1, 1)),
    ("xception_71", 16, "plus", True, (1, 1, 1)),
    ("xception_71", 8, "plus", True, (1, 1, 1)),
    ("xception_65", 8, "plus", True, (1, 1, 1)),
    ("xception_65", 32, "plus", True, (1, 1, 1)),
    ("xception_65", 16, "v3", False, (1, 1, 1)),
    ("resnet_v1_101", 16, "plus", False, (1, 2, 4)),
    ("resnet_v1_101", 8, "v3", False, (1, 2, 4)),
    ("xception_41", 32, "classifier", False, (1, 1, 1)),
    ("resnet_v1_101", 32, "classifier", False, (1, 1, 1)),
]

if __name__ == "__main__":
    kept = {"versions": f"tensorflow {tf.__version__}", "width": WIDTH}
    for case in CASES:
        variant, output_stride, head, split, grid = case
        name = f"{variant} os{output_stride} {head} {'separable' if split else 'dense'} {grid[0]},{grid[1]},{grid[2]}"
        for size in ((64, 98), (65, 97)):
            logits = run(noise((1, *size, 3)), *case)
            kept[f"{name}/{size[0]}x{size[1]}"] = logits
            print(name, size, "std of the logits", logits.std())
        kept[f"{name}/names"] = np.array(list(shapes))
        kept[f"{name}/shapes"] = np.array([[*shape, *[0] * (4 - len(shape))] for shape in shapes.values()], dtype=np.int32)
    path = GOLDEN / "tf_variants.npz"
    np.savez_compressed(path if WIDTH == 0.125 else f"tf_variants_{WIDTH}.npz", **kept)
