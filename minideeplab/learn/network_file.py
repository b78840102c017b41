"""A network and its file: what the header of a converted or trained file says, and what arrays tell where it is silent.

Arrays are compared with a network on the meta device before anything of their claimed size is allocated.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab import weights
from minideeplab.checks import require_kind
from minideeplab.networks.aligned_xception import xception41, xception65, xception71
from minideeplab.networks.classifier import Classifier
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.networks.inception_v3 import InceptionV3
from minideeplab.networks.mobilenet_v2 import mobilenet_v2
from minideeplab.networks.pretrained import VOC
from minideeplab.networks.resnet import ResNet, resnet101
from minideeplab.networks.xception import Xception
from minideeplab.weights.file_limits import plain

MOST_REFINED = 9  # 3 x 3 convolutions in a decoder; table 2 tries three
LARGEST_RATE = 256  # of an atrous branch: taps further apart than that leave any map that is looked at here


class Model(NamedTuple):
    """A name's usual size of input, its builder, and the options that it takes, with their defaults."""

    size: int
    build: Callable[..., nn.Module]
    options: Mapping[str, Any]


def classifier(make: Callable[..., Any], *, classes: int, **body: Any) -> nn.Module:
    """A backbone as it is trained on ImageNet."""
    return Classifier(make(**body), classes)


def deeplab(head: Callable[..., nn.Module], make: Callable[..., Any], *, classes: int, dense: bool, **rest: Any) -> nn.Module:
    """DeepLabV3 or V3+ on a backbone; separable unless `dense`."""
    require_kind(bool, dense=dense)
    if "refine" in rest and rest["refine"] > MOST_REFINED:
        raise ValueError(f"refine must be at most {MOST_REFINED}, got {rest['refine']}")
    if max(rest.get("rates") or [0]) > LARGEST_RATE:
        raise ValueError(f"rates must be at most {LARGEST_RATE}, got {rest['rates']}")
    body = {option: rest.pop(option) for option in ("output_stride", "width", "multi_grid") if option in rest}
    return head(make(**body), classes, separable=not dense, **rest)


def grid(name: str, *rates: int) -> dict[str, Any]:
    """The multi-grid of a ResNet, which is the only backbone that has one."""
    return {"multi_grid": rates} if name.startswith("resnet") else {}


def no_rates(name: str) -> dict[str, Any]:
    """The authors' network for phones has no atrous branch."""
    return {"rates": ()} if name == "mobilenet_v2" else {}


BACKBONES: dict[str, Callable[..., Any]] = {
    "xception41": xception41, "xception65": xception65, "xception71": xception71,
    "resnet50": partial(ResNet, [3, 4, 6, 3]), "resnet101": resnet101, "mobilenet_v2": mobilenet_v2,
}
CLASSIFIERS = {name: make for name, make in BACKBONES.items() if name != "mobilenet_v2"}  # its own has one layer more
SMALL = partial(ResNet, [3, 1, 1, 1], multi_grid=(1,))  # six bottlenecks: few layers, each of them quick on a CPU
BODY = {"output_stride": 16, "width": 1.0}
TOY = {"width": 0.1, "channels": 32, "rates": (1, 2)}  # of the network that learns in a minute: files name it in their header
V3 = BODY | {"classes": 21, "dense": False, "channels": 256, "rates": None}

NETWORKS = {
    "inception_v3": Model(299, lambda classes: InceptionV3(classes), {"classes": 1000}),
    "xception":     Model(299, lambda classes, output_stride: Xception(classes, output_stride=output_stride),
                          {"classes": 1000, "output_stride": 32}),
    **{name: Model(513, make, BODY | grid(name, 1, 1, 1)) for name, make in BACKBONES.items()},
    **{f"classifier-{name}": Model(299, partial(classifier, make), BODY | {"output_stride": 32, "classes": 1000}
                                   | grid(name, 1, 1, 1)) for name, make in CLASSIFIERS.items()},
    **{f"deeplabv3-{name}": Model(513, partial(deeplab, DeepLabV3, make), V3 | grid(name, 1, 2, 4) | no_rates(name))
       for name, make in BACKBONES.items()},
    **{f"deeplabv3plus-{name}": Model(513, partial(deeplab, DeepLabV3Plus, make), V3 | {"low_channels": 48, "refine": 2}
                                      | grid(name, 1, 2, 4)) for name, make in BACKBONES.items()},
    "deeplabv3-small":     Model(65, partial(deeplab, DeepLabV3, SMALL), V3 | TOY),
    "deeplabv3plus-small": Model(65, partial(deeplab, DeepLabV3Plus, SMALL), V3 | TOY | {"low_channels": 8, "refine": 2}),
}


def build(models: Mapping[str, Model], name: str, device: str = "meta", **options: Any) -> nn.Module:
    """The network of a name; options left out have their defaults. On the meta device it takes neither memory nor time."""
    model = models[name]
    if unknown := sorted(options.keys() - model.options.keys()):
        raise ValueError(f"{name} has no option {unknown[0]!r}: it takes {', '.join(model.options)}")
    try:
        with torch.device(device):
            return model.build(**{**model.options, **options})
    except (RuntimeError, OverflowError) as error:  # more bytes than torch can count
        raise ValueError(f"{name} cannot be that large: {error}") from error


def recognize(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The name and the options of the network whose arrays these are: names and shapes tell all but output stride and rates.

    Those stay at their defaults, a ResNet's multi-grid at that of the published ones. What is not recognized, or lacks
    the array that tells, is a ValueError. Whether the arrays are complete only a comparison (`weights.misfits`) says.
    """

    def length(name: str) -> int:
        if name not in state or not state[name].dim():
            raise ValueError(f"these are not the arrays of a network this library has: no {name} to measure it by")
        return state[name].shape[0]

    def count(place: str) -> int:
        return len({name.split(".")[place.count(".") + 1] for name in state if name.startswith(f"{place}.")})

    options: dict[str, Any] = {"classes": length("classify.weight")} if "classify.weight" in state else {}
    if "stem.0.conv.weight" in state:
        return "inception_v3", options
    if "entry_flow.0.conv.weight" in state:
        return "xception", options
    reference = 2048
    if count("backbone.rows"):
        name, widest, reference = "mobilenet_v2", "backbone.rows.6.0.project.conv.weight", 320
    elif count("backbone.stages"):
        units, widest = count("backbone.stages.2"), "backbone.stages.3.0.expand.conv.weight"
        name = "resnet101" if units > 6 else "resnet50" if units > 1 else "small"
    else:
        deep, more = count("backbone.middle_flow") > 8, count("backbone.entry_flow") > 3
        name, widest = "xception71" if more else "xception65" if deep else "xception41", "backbone.exit_flow.3.pointwise.weight"
    options["width"] = length(widest) / reference
    if name in CLASSIFIERS and "aspp.project.conv.weight" not in state:
        return f"classifier-{name}", options
    dense = {"aspp.branches.2.conv.weight", "decoder.refine.0.conv.weight"}  # without rates the decoder alone tells
    options |= {"channels": length("aspp.project.conv.weight"), "dense": not dense.isdisjoint(state)}
    if count("aspp.branches") == 2:
        options["rates"] = ()
    elif name == "mobilenet_v2":
        options["rates"] = None
    if "decoder.reduce.conv.weight" not in state:
        return f"deeplabv3-{name}", options
    options |= {"low_channels": length("decoder.reduce.conv.weight"), "refine": count("decoder.refine")}
    return f"deeplabv3plus-{name}", options


def network_of(state: Mapping[str, Tensor], about: Mapping[str, str], path: Path, **asked: Any) -> tuple[nn.Module, str]:
    """The network of these arrays, on the meta device, and its description as JSON: what `about` says, or what names tell.

    Arrays are compared with it, so it is whole; only the last layer may be missing.
    """
    try:
        known = json.loads(about["network"]) if "network" in about else None
        name, options = recognize(state) if known is None else (known.pop("name"), known)
        if not isinstance(name, str) or name not in NETWORKS:
            raise ValueError(f"its header names {name!r}, no network of this library")
        options |= asked
        net = build(NETWORKS, name, **options)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no network that can be built: {error}") from error
    last = {name: value for name, value in net.state_dict().items() if name.startswith("classify.")}
    check(net, dict(state) if last.keys() & state.keys() else {**state, **last}, path)
    return net, json.dumps({"name": name, **NETWORKS[name].options, **options})


def check(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """One line where `weights.load` lists them all."""
    if wrong := weights.misfits(net, state):
        raise ValueError(f"{path} holds no complete {type(net).__name__}: {len(wrong)} arrays do not fit, first: {wrong[0]}")


def is_deeplab(net: nn.Module) -> bool:
    """Whether it answers for every pixel."""
    return isinstance(net, DeepLabV3 | DeepLabV3Plus)


def label_names(net: nn.Module, classes: int, labels: str) -> list[str]:
    """One name for each class: the lines of `labels`, or VOC's for 21 segmented classes, or numbers."""
    names = labels.splitlines() or (VOC if is_deeplab(net) and classes == len(VOC) else [f"class {k}" for k in range(classes)])
    if len(names) == 1000 and classes == 1001:  # the authors' ImageNet classifiers put the background first
        names = ["background", *names]
    if len(names) != classes:
        raise ValueError(f"{len(names)} labels for {classes} classes: one name a line, as many as classes")
    return [plain(name, 100) for name in names]


def open_network(path: Path, *, segments: bool, **asked: Any) -> tuple[nn.Module, list[str]]:
    """The network in a file that `convert` or `weights.save` wrote, on the meta device, and the names of its classes."""
    header = weights.describe(path)
    if "classify.weight" not in header:
        raise ValueError(f"{path} has no last layer (classify.weight): it knows features, but no classes")
    net, _ = network_of(header, header.about, path, **asked)
    if is_deeplab(net) != segments:
        other = "classify" if segments else "segment"
        raise ValueError(f"{path} holds a {type(net).__name__}: that one is for the command {other}")
    return net, label_names(net, len(header["classify.weight"]), header.about.get("labels", ""))


def fill(net: nn.Module, path: Path) -> nn.Module:
    """The network of `open_network` with its numbers, in evaluation mode."""
    state = weights.read(path)
    check(net, state, path)
    net.to_empty(device="cpu")
    for buffer in net.buffers():
        buffer.zero_()  # also those that no file has to bring
    weights.load(net, state)
    return net.eval()
