"""Run Keras's own Xception and InceptionV3 and keep what they answer: keras_xception.npz, keras_inception_v3.npz.

In an environment of its own: pip install keras tensorflow-cpu; then python tools/make_golden_keras.py
The files go to tests/golden. The weights are generated (recipe.py there), so a file holds the layers' names, the arrays'
shapes, and outputs at a few sizes.
"""

import json
import sys
import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
from recipe import noise, seeded  # noqa: E402  (beside the files it explains)

LEAVES = {
    "kernel": "weights",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "weights",
    "bias": "biases",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_variance": "moving_variance",
}


def groups_of(model: keras.Model) -> list[tuple[str, str]]:
    """Where Keras itself puts the layers of `model` in a `.weights.h5`: (group, layer name)."""
    groups = []
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(f"{folder}/model.weights.h5")
        with h5py.File(f"{folder}/model.weights.h5") as file:
            for group, item in file["layers"].items():
                if len(item["vars"]):
                    groups.append((group, item["vars"].attrs["name"]))
    return groups


def build(network: str, height: int, width: int) -> keras.Model:
    """Keras's network for one input size, with generated weights; names of unnamed layers start from zero again."""
    keras.backend.clear_session()
    make = getattr(keras.applications, network)
    model = make(weights=None, classifier_activation=None, input_shape=(height, width, 3))
    for layer in model.layers:
        layer.set_weights([seeded(name, shape, gain=1.0) for name, shape in arrays_of(layer)])
    return model


def arrays_of(layer: keras.Layer) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of a layer's arrays; the name ends as the recipe wants it."""
    return [(f"{layer.name}/{i}/{LEAVES[array.name]}", tuple(array.shape)) for i, array in enumerate(layer.weights)]


def keep(network: str, features: str, sizes: tuple[tuple[int, int], ...], path: Path) -> None:
    """Write what `network` answers at several sizes: its logits, and the map called `features`."""
    kept = {"versions": f"keras {keras.__version__}, {keras.backend.backend()}"}
    for height, width in sizes:
        model = build(network, height, width)
        image = noise((1, height, width, 3))
        taps = keras.Model(model.input, [model.get_layer(features).output, model.output])
        maps, logits = taps.predict(image / np.float32(127.5) - 1, verbose=0)
        kept[f"{height}x{width}/features"] = maps[:, :, :, ::64]  # every 64th channel
        kept[f"{height}x{width}/logits"] = logits
        print(network, height, width, "std of the logits", logits.std())
    arrays = [array for layer in model.layers for array in arrays_of(layer)]
    kept["names"] = np.array([name for name, _ in arrays])
    kept["shapes"] = np.array([[*shape, *[0] * (4 - len(shape))] for _, shape in arrays], dtype=np.int32)
    kept["layers"] = json.dumps([(type(layer).__name__, layer.name) for layer in model.layers])
    kept["groups"] = json.dumps(groups_of(model))
    np.savez_compressed(path, **kept)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    keep("Xception", "block14_sepconv2_act", ((299, 299), (263, 263), (150, 197)), GOLDEN / "keras_xception.npz")
    keep("InceptionV3", "mixed10", ((299, 299), (139, 180)), GOLDEN / "keras_inception_v3.npz")
