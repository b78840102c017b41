"""Other people's weights in: their arrays -> our state dict, compared with a network, then loaded.

`from_tensorflow`, `from_tflite`, `from_keras`, `from_timm` and `from_torchvision` translate; `load` compares everything and
only then loads; `save` and `read` keep the result as safetensors, and `describe` looks at a header alone. None of the
frameworks is imported, nothing is ever unpickled. Beside the code lie the weights of `minideeplab.pretrained`, with their page.
"""

from minideeplab.weights.storage import State, describe, load, misfits, read, save
from minideeplab.weights.tensorflow_file import read_tensorflow
from minideeplab.weights.translation import from_keras, from_tensorflow, from_tflite, from_timm, from_torchvision

__all__ = [
    "State",
    "describe",
    "from_keras",
    "from_tensorflow",
    "from_tflite",
    "from_timm",
    "from_torchvision",
    "load",
    "misfits",
    "read",
    "read_tensorflow",
    "save",
]
