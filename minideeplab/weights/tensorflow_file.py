"""The authors' checkpoints as {variable name: array}: read by TensorFlow, or from an `.npz` that was exported once."""

import importlib
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from minideeplab.weights.archive import read_npz
from minideeplab.weights.file_limits import plain

EXPORT = """pip install tensorflow; or let any machine that has it export once, and read the .npz:
  import numpy, tensorflow as tf
  reader = tf.train.load_checkpoint("PREFIX")
  numpy.savez("weights.npz", **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})"""


def read_tensorflow(path: str | Path) -> dict[str, NDArray[Any]]:
    """Arrays of a checkpoint, given by its prefix (needs TensorFlow), or of an `.npz` (needs nothing)."""
    path = Path(path)
    if path.suffix == ".npz":
        return read_npz(path)
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not prefix.with_name(prefix.name + ".index").exists():
        raise FileNotFoundError(f"no checkpoint {prefix}: it would have {prefix.name}.index beside its data")
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise ImportError(f"reading a TensorFlow checkpoint needs TensorFlow: {EXPORT}") from error
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow raises its own kinds
        raise ValueError(f"{prefix} is no complete checkpoint: {plain(error, 400)}") from error
