"""A checkpoint: one safetensors file, replaced whole, that holds what a run needs to go on as if it had never stopped.

Weights, running statistics, the optimizer's momentum and every loss so far; the settings stand in its header. Random numbers
are not kept: those of a step are a pure function of the seed and the step (`train.generator`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minideeplab import weights
from minideeplab.weights.file_limits import plain


def write_checkpoint(
    path: Path, net: nn.Module, optimizer: Optimizer, losses: list[float], settings: Mapping[str, Any],
) -> None:
    """After `len(losses)` steps. Whatever happens meanwhile, `path` holds this checkpoint or the one before."""
    momenta = {
        f"momentum/{name}": optimizer.state[value]["momentum_buffer"]
        for name, value in net.named_parameters() if optimizer.state[value].get("momentum_buffer") is not None
    }
    state = {f"net/{name}": value for name, value in net.state_dict().items()} | momenta
    state["losses"] = torch.tensor(losses, dtype=torch.float64)
    weights.save(state, path, about={"settings": json.dumps(settings)}, overwrite=True)


def read_checkpoint(path: Path, net: nn.Module, optimizer: Optimizer, settings: Mapping[str, Any]) -> list[float]:
    """Into `net` and `optimizer`; the losses of the steps that are done.

    ValueError if the run that wrote it had other settings, which names them, or another network. Nothing is unpickled, and
    `net` is left alone unless all fits.
    """
    try:
        before = json.loads(weights.describe(path).about["settings"])
        differing = sorted(name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name))
    except (KeyError, AttributeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no checkpoint of a training: its header has no settings") from error
    if differing:
        was = ", ".join(f"{plain(name)} was {plain(before.get(name))}, is {settings.get(name)}" for name in differing)
        raise ValueError(f"{path} belongs to a run of other settings: {was}. Use those, or another folder")
    state = weights.read(path)
    losses = state.pop("losses", torch.empty(0, 0))
    if losses.dim() != 1 or not losses.is_floating_point() or len(losses) > settings["steps"]:
        raise ValueError(f"{path} is no checkpoint of a training of {settings['steps']} steps: its losses are {losses.shape}")
    momenta, parameters = starting(state, "momentum/"), dict(net.named_parameters())
    for name, value in momenta.items():
        if name not in parameters or value.shape != parameters[name].shape or value.dtype != parameters[name].dtype:
            raise ValueError(f"{path} has a momentum of {plain(name)}, {tuple(value.shape)}, for which there is no weight")
    weights.load(net, starting(state, "net/"))
    for name, value in momenta.items():
        optimizer.state[parameters[name]]["momentum_buffer"] = value.to(parameters[name].device)
    return losses.tolist()


def starting(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays of one kind, without the prefix that says which."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
