"""Keras's files, read with h5py alone: {layer name: its arrays}. Three layouts, one answer.

`.h5` (Keras 2 and 3): one group for each top-level layer, whose `weight_names` are in order. `.weights.h5` (Keras 3): groups
named by class and count, the layer's own name in an attribute. `.keras`: a zip of such a file and the model's
`config.json`, which gives the names where an early Keras 3 did not write the attribute.

HDF5 can point at other files and at itself. Here only what lies plainly in the file is read: no links but hard ones, no
external or virtual storage, no filters, nothing that claims more bytes than are stored.
"""

import importlib
import io
import json
import re
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minideeplab.weights import archive
from minideeplab.weights.file_limits import LARGEST_TEXT, MOST_ARRAYS, check_bytes, plain, reading

Layers = dict[str, list[NDArray[Any]]]
Stored = dict[str, list[Any]]  # the same before it is read: h5py's datasets


def read(path: str | Path) -> Layers:
    """Every layer that has arrays, also those inside a nested model."""
    path = Path(path)
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError("reading Keras's files needs h5py: pip install 'minideeplab[weights]'") from error
    with reading(path, "Keras file (.h5, .weights.h5 or .keras)"):
        if not zipfile.is_zipfile(path):
            with h5py.File(path, "r") as file:
                keras = KerasFile(h5py, file)
                return taken(keras.by_weight_names() or keras.by_attribute())
        with archive.opened(path) as members:
            model = json.loads(archive.content(members, "config.json", LARGEST_TEXT))
            with h5py.File(io.BytesIO(archive.content(members, "model.weights.h5")), "r") as file:
                return taken(KerasFile(h5py, file).by_config(file, model))


def count_unnamed(layers: Layers) -> Layers:
    """Keras names `conv2d`, `conv2d_1`, ... as it goes, from wherever the session stood: they become `conv2d #0`, `#1`, ..."""
    counted = dict(layers)
    for kind in ("conv2d", "batch_normalization"):
        unnamed = [name for name in layers if re.fullmatch(rf"{kind}(_[0-9]{{1,9}})?", name)]
        for k, name in enumerate(sorted(unnamed, key=lambda name: int(name[len(kind) + 1 :] or 0))):
            counted[f"{kind} #{k}"] = counted.pop(name)
    return counted


def taken(stored: Stored) -> Layers:
    """The numbers, once every array was found and checked."""
    return {name: [np.asarray(dataset) for dataset in datasets] for name, datasets in stored.items()}


class KerasFile:
    """An open HDF5 file in Keras's layouts, and how many bytes the arrays found so far have."""

    def __init__(self, h5py: Any, file: Any) -> None:
        self.h5py, self.file, self.bytes = h5py, file, 0

    def by_weight_names(self) -> Stored:
        """`.h5`: model_weights/<top-level layer>/<layer>/<array>; the file of weights alone lacks the first part."""
        layers: Stored = {}
        group = self.child(self.file, "model_weights") if "model_weights" in self.file else self.file
        for top in names(group, "layer_names"):
            inside = self.child(group, top)
            for name in names(inside, "weight_names"):
                if "/" not in name:
                    raise ValueError(f"the array {plain(name)} of {plain(top)} does not say its layer, as in layer/kernel")
                layers.setdefault(name.split("/")[-2], []).append(self.checked(self.child(inside, name)))
        return layers

    def by_attribute(self) -> Stored:
        """`.weights.h5`: layers/<class>_<n>/vars/<i>."""
        layers: Stored = {}

        def visit(path: str, item: Any) -> None:
            if path.rpartition("/")[2] == "vars" and len(item):
                if "name" not in item.attrs:
                    raise ValueError("it has no layer names, as an early Keras 3 wrote it: save the whole model as .keras")
                layers[item.attrs["name"]] = self.variables(item)

        self.file.visititems(visit)  # follows hard links alone
        return layers

    def by_config(self, file: Any, model: dict[str, Any]) -> Stored:
        """`.keras`: the groups of `.weights.h5`, named by walking the model's layers and counting each class, as Keras does."""
        layers: Stored = {}
        seen: dict[str, int] = {}
        groups = self.child(file, "layers")
        for layer in model["config"]["layers"]:
            kind = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", layer["class_name"]).lower()
            count = seen[kind] = seen.get(kind, -1) + 1
            place = f"{kind}_{count}" if count else kind
            if place not in groups:
                continue
            group = self.child(groups, place)
            if "layers" in layer["config"]:
                layers |= self.by_config(group, layer)
            elif len(variables := self.child(group, "vars")):
                layers[layer["config"]["name"]] = self.variables(variables)
        return layers

    def variables(self, group: Any) -> list[Any]:
        """vars/0, vars/1, ..."""
        return [self.checked(self.child(group, str(i))) for i in range(len(group))]

    def child(self, group: Any, path: str) -> Any:
        """What lies at `path` inside a group, reached by hard links alone: others lead in circles or into other files."""
        for part in filter(None, path.split("/")):
            link = group.get(part, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                raise ValueError(f"{plain(part)} is a link to elsewhere" if link else f"{plain(part)} is missing")
            group = group[part]
        return group

    def checked(self, dataset: Any) -> Any:
        """An array, not yet read, if it is stored plainly in this file and its size fits what is stored."""
        name = plain(dataset.name)
        if not isinstance(dataset, self.h5py.Dataset) or dataset.dtype.kind not in "fiub":
            raise ValueError(f"{name} is no array of real numbers")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"the numbers of {name} are in another file")
        self.bytes += dataset.nbytes
        check_bytes(self.bytes, f"{name} or what precedes it")
        if dataset.chunks or dataset.id.get_storage_size() != dataset.nbytes:
            raise ValueError(f"{name} is in chunks, compressed or not written: Keras stores {dataset.nbytes:,} bytes plainly")
        return dataset


def names(group: Any, attribute: str) -> list[str]:
    """A list of names that Keras keeps in an attribute; none if there is no such attribute."""
    if attribute not in group.attrs:
        return []
    count = prod(group.attrs.get_id(attribute).shape)
    if count > MOST_ARRAYS:
        raise ValueError(f"{attribute} claims {count:,} names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]
