"""From a name on the command line to a network, what it is fed, and what it costs."""

import argparse
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from minideeplab.blocks.decoder import Decoder
from minideeplab.cost import Report, profile, tf_multiply_adds
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus

# The options of the models: keyword of a builder -> what the command line calls it.
FLAGS = {
    "classes": "--classes", "output_stride": "--output-stride", "dense": "--dense", "inputs": "--in", "outputs": "--out",
    "kernel": "--kernel", "rate": "--rate", "towers": "--towers",
}  # fmt: skip


class Model(NamedTuple):
    """What a name stands for: the usual size of its input, and a builder whose keywords are the options that apply."""

    size: int
    build: Callable[..., nn.Module]


class Subject(NamedTuple):
    """A model that was asked for, what it is fed, and what it costs. The network is on the meta device, unless a user's."""

    name: str
    net: nn.Module
    size: tuple[int, int]
    shapes: list[tuple[int, ...]]
    report: Report

    def facts(self) -> dict[str, Any]:
        """What JSON says about it."""
        (height, width), report = self.size, self.report
        facts: dict[str, Any] = {
            "model": self.name,
            "size": height if height == width else [height, width],
            "params": report.params,
            "macs": report.macs,
            "shares": {kind: float(report.share(kind)) for kind in dict.fromkeys(row.kind for row in report.rows if row.macs)},
            "receptive_field": report.receptive_field,
            "peak_bytes": report.peak_bytes,
        }
        if isinstance(self.net, DeepLabV3 | DeepLabV3Plus):
            facts["tf_multiply_adds"] = tf_multiply_adds(self.net, self.size).total
        return facts


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the models that stand on the command line."""
    return {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}


def subjects(models: Mapping[str, Model], names: Sequence[str], args: argparse.Namespace) -> list[Subject]:
    """Build and profile them. An option that applies to none of them is an error: silence would be a wrong answer."""
    options = given(args)
    for name in names:
        if name not in models and ":" not in name:
            near = get_close_matches(name.lower(), models, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown model {name!r}: {hint}Known are {', '.join(models)}, or module.path:callable")
    for option in options:
        if not any(option in applicable(models, name) for name in names):
            raise ValueError(f"{FLAGS[option]} does not apply to {' or '.join(names)}")
    size = args.size or (models[names[0]].size if names[0] in models else 513,) * 2
    found = []
    for name in dict.fromkeys(names):
        with users_code(name):
            net = build(models, name, options, "meta")
            shapes = inputs_of(net, size, options if ":" in name else {})
            found.append(Subject(name, net, size, shapes, profile(net, *shapes)))
    return found


def applicable(models: Mapping[str, Model], name: str) -> set[str]:
    """The options of a model; a user's own has but the channels of its input."""
    return set(inspect.signature(models[name].build).parameters) if name in models else {"inputs"}


def build(models: Mapping[str, Model], name: str, options: Mapping[str, Any], device: str) -> nn.Module:
    """The network of a name. On the meta device it takes neither memory nor time; a user's is built as the user builds it."""
    if name in models:
        own = {key: value for key, value in options.items() if key in applicable(models, name)}
        try:
            with torch.device(device):
                return models[name].build(**own)
        except RuntimeError as error:  # more bytes than torch can count
            raise ValueError(f"{name} cannot be that large: {error}") from error
    sys.path.insert(0, os.getcwd())  # `python -m` has it, the installed command has not
    thing = pkgutil.resolve_name(name)
    net = thing if isinstance(thing, nn.Module) else thing()
    if not isinstance(net, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(net).__name__}")
    return net


def inputs_of(net: nn.Module, size: tuple[int, int], options: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes that a network is fed: an image, a map of its own channels, or for the decoder a fine and a coarse map."""
    height, width = size
    if isinstance(net, Decoder):
        return [(1, net.in_low, height, width), (1, net.in_high, -(-height // 4), -(-width // 4))]
    return [(1, options.get("inputs", getattr(net, "in_channels", 3)), height, width)]


@contextmanager
def users_code(name: str) -> Iterator[None]:
    """What a user's code prints goes to standard error; what it raises becomes a line that says what and where."""
    if ":" not in name:
        yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        cause = error.__cause__ or error
        elsewhere = {Path(str(module)).parent for module in (__file__, torch.__file__, pkgutil.__file__)}
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)]
        own = [f" ({path.name}, line {line})" for path, line in frames if path.is_file() and elsewhere.isdisjoint(path.parents)]
        raise ValueError(f"{name} failed: {type(cause).__name__}: {cause}{own[-1] if own else ''}") from error
