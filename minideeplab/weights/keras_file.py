"""Keras's files, read with h5py alone: {layer name: its arrays}. Three layouts, one answer.

`.h5` (Keras 2 and 3): one group for each top-level layer, whose `weight_names` are in order. `.weights.h5` (Keras 3): groups
named by class and count, the layer's own name in an attribute. `.keras`: a zip of such a file and the model's
`config.json`, which gives the names where an early Keras 3 did not write the attribute.
"""

import importlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layers = dict[str, list[NDArray[Any]]]


def read(path: str | Path) -> Layers:
    """Every layer that has arrays, also those inside a nested model."""
    path = Path(path)
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError("reading Keras's files needs h5py: pip install 'minideeplab[weights]'") from error
    try:
        if not zipfile.is_zipfile(path):
            with h5py.File(path, "r") as file:
                return by_weight_names(file) or by_attribute(file)
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            return by_config(file, json.loads(archive.read("config.json")))
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no complete Keras file (.h5, .weights.h5 or .keras): {error}") from error


def count_unnamed(layers: Layers) -> Layers:
    """Keras names `conv2d`, `conv2d_1`, ... as it goes, from wherever the session stood: they become `conv2d #0`, `#1`, ..."""
    counted = dict(layers)
    for kind in ("conv2d", "batch_normalization"):
        unnamed = [name for name in layers if re.fullmatch(rf"{kind}(_\d+)?", name)]
        for k, name in enumerate(sorted(unnamed, key=lambda name: int(name[len(kind) + 1 :] or 0))):
            counted[f"{kind} #{k}"] = counted.pop(name)
    return counted


def by_weight_names(file: Any) -> Layers:
    """`.h5`: model_weights/<top-level layer>/<layer>/<array>; the file of weights alone lacks the first part."""
    layers: Layers = {}
    group = file.get("model_weights", file)
    for top in group.attrs.get("layer_names", []):
        top = top.decode() if isinstance(top, bytes) else top
        for name in group[top].attrs["weight_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            layers.setdefault(name.split("/")[-2], []).append(np.asarray(group[top][name]))
    return layers


def by_attribute(file: Any) -> Layers:
    """`.weights.h5`: layers/<class>_<n>/vars/<i>."""
    layers: Layers = {}

    def visit(path: str, item: Any) -> None:
        if path.rpartition("/")[2] == "vars" and len(item):
            if "name" not in item.attrs:
                raise ValueError("it has no layer names, as an early Keras 3 wrote it: save the whole model as .keras")
            layers[item.attrs["name"]] = arrays(item)

    file.visititems(visit)
    return layers


def by_config(file: Any, model: dict[str, Any]) -> Layers:
    """`.keras`: the groups of `.weights.h5`, named by walking the model's layers and counting each class, as Keras does."""
    layers: Layers = {}
    seen: dict[str, int] = {}
    for layer in model["config"]["layers"]:
        kind = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", layer["class_name"]).lower()
        count = seen[kind] = seen.get(kind, -1) + 1
        group = file["layers"].get(f"{kind}_{count}" if count else kind)
        if group is not None and "layers" in layer["config"]:
            layers |= by_config(group, layer)
        elif group is not None and len(group["vars"]):
            layers[layer["config"]["name"]] = arrays(group["vars"])
    return layers


def arrays(group: Any) -> list[NDArray[Any]]:
    """vars/0, vars/1, ..."""
    return [np.asarray(group[str(i)]) for i in range(len(group))]
