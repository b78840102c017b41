"""State dicts: compared with a network before they are loaded, and kept as safetensors, whole or not at all."""

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn


class State(dict[str, Tensor]):
    """A state dict that says what it is: `ignored` lists arrays of the source that no network needs, `about` describes it."""

    def __init__(
        self, arrays: Mapping[str, Tensor], *, ignored: Iterable[str] = (), about: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(arrays)
        self.ignored, self.about = sorted(ignored), dict(about or {})


def misfits(net: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """One line for every array of `state` that does not fit `net`, and for every one it lacks; empty if all is well.

    Batch norm's `num_batches_tracked`, which only training without momentum reads and other frameworks do not know, may
    be missing.
    """
    own, kind, wrong = net.state_dict(), type(net).__name__, []
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    wrong += [f"missing  {name} {tuple(own[name].shape)}" for name in missing]
    wrong += [f"extra    {name} {tuple(value.shape)}" for name, value in state.items() if name not in own]
    for name in own.keys() & state.keys():
        ours, theirs = own[name], state[name]
        if ours.shape != theirs.shape:
            wrong.append(f"shape    {name} is {tuple(theirs.shape)}, {kind} needs {tuple(ours.shape)}")
        elif ours.is_floating_point() != theirs.is_floating_point():
            wrong.append(f"kind     {name} is {theirs.dtype}, {kind} needs {ours.dtype}")
        elif not theirs.isfinite().all():
            wrong.append(f"numbers  {name} holds NaN or infinity")
    return sorted(wrong)


def load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare every name, shape and number first; then load, or raise one ValueError that lists all that is wrong.

    A failed load leaves `net` untouched (`load_state_dict` alone does not).
    """
    if wrong := misfits(net, state):
        raise ValueError("\n  ".join([f"{len(wrong)} arrays do not fit {type(net).__name__}, nothing was loaded:", *wrong]))
    net.load_state_dict(net.state_dict() | dict(state))


def save(
    state: Mapping[str, Tensor], path: str | Path, *, about: Mapping[str, str] | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """Write a safetensors file, whole or not at all; `about` is its header. An existing file stays, unless `overwrite`."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already: choose another name, or pass overwrite=True")
    safetensors = needs("safetensors.torch")
    with TemporaryDirectory(dir=path.parent, prefix=".minideeplab-") as folder:
        whole = Path(folder) / path.name
        safetensors.save_file({name: value.contiguous() for name, value in state.items()}, whole, metadata=dict(about or {}))
        os.replace(whole, path)


def read(path: str | Path) -> State:
    """A state dict from a safetensors file, ours or anyone's; `.about` is its header."""
    safetensors = needs("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return State({name: file.get_tensor(name) for name in file.keys()}, about=file.metadata())
    except FileNotFoundError:
        raise
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no complete safetensors file: {error}") from error


def needs(module: str) -> Any:
    """An optional dependency, or the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'minideeplab[weights]'") from error
