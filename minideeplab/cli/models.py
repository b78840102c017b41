"""The names that the command line knows: what each builds, with which options; and back, from arrays to name and options."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import ExtremeInception, SimplifiedInception
from minideeplab.blocks.separable import SeparableConv2d
from minideeplab.checks import require_kind
from minideeplab.geometry import same_padding
from minideeplab.networks.aligned_xception import xception41, xception65, xception71
from minideeplab.networks.classifier import Classifier
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.networks.inception_v3 import InceptionV3
from minideeplab.networks.resnet import ResNet, resnet101
from minideeplab.networks.xception import Xception

MOST_REFINED = 9  # 3 x 3 convolutions in a decoder; table 2 tries three


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
    body = {option: rest.pop(option) for option in ("output_stride", "width", "multi_grid") if option in rest}
    return head(make(**body), classes, separable=not dense, **rest)


def conv(*, inputs: int, outputs: int, kernel: int, rate: int = 1) -> nn.Module:
    """A standard convolution like those inside the other blocks: it keeps the size and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=same_padding(kernel, rate), dilation=rate, bias=False)


def block(size: int, build: Callable[..., nn.Module]) -> Model:
    """A block takes the keywords of its builder."""
    return Model(size, build, {name: parameter.default for name, parameter in signature(build).parameters.items()})


def grid(name: str, *rates: int) -> dict[str, Any]:
    """The multi-grid of a ResNet, which is the only backbone that has one."""
    return {"multi_grid": rates} if name.startswith("resnet") else {}


BACKBONES: dict[str, Callable[..., Any]] = {
    "xception41": xception41, "xception65": xception65, "xception71": xception71,
    "resnet50": partial(ResNet, [3, 4, 6, 3]), "resnet101": resnet101,
}
BODY = {"output_stride": 16, "width": 1.0}
V3 = BODY | {"classes": 21, "dense": False, "channels": 256}

MODELS = {
    "inception_v3": Model(299, lambda classes: InceptionV3(classes), {"classes": 1000}),
    "xception":     Model(299, lambda classes, output_stride: Xception(classes, output_stride=output_stride),
                          {"classes": 1000, "output_stride": 32}),
    **{name: Model(513, make, BODY | grid(name, 1, 1, 1)) for name, make in BACKBONES.items()},
    **{f"classifier-{name}": Model(299, partial(classifier, make), BODY | {"output_stride": 32, "classes": 1000}
                                   | grid(name, 1, 1, 1)) for name, make in BACKBONES.items()},
    **{f"deeplabv3-{name}": Model(513, partial(deeplab, DeepLabV3, make), V3 | grid(name, 1, 2, 4))
       for name, make in BACKBONES.items()},
    **{f"deeplabv3plus-{name}": Model(513, partial(deeplab, DeepLabV3Plus, make), V3 | {"low_channels": 48, "refine": 2}
                                      | grid(name, 1, 2, 4)) for name, make in BACKBONES.items()},
    "conv":      block(33, lambda inputs=192, outputs=192, kernel=3: conv(inputs=inputs, outputs=outputs, kernel=kernel)),
    "atrous":    block(33, lambda inputs=192, outputs=192, kernel=3, rate=2:
                       conv(inputs=inputs, outputs=outputs, kernel=kernel, rate=rate)),
    "inception": block(33, lambda inputs=192, outputs=192, kernel=3, towers=3:
                       SimplifiedInception(inputs, outputs, towers=towers, kernel_size=kernel)),
    "extreme":   block(33, lambda inputs=192, outputs=192, kernel=3: ExtremeInception(inputs, outputs, kernel_size=kernel)),
    "separable": block(33, lambda inputs=192, outputs=192, kernel=3, rate=1:
                       SeparableConv2d(inputs, outputs, kernel, dilation=rate)),
    "aspp":      block(33, lambda inputs=2048, outputs=256, rate=6, dense=False:
                       ASPP(inputs, outputs, rates=(rate, 2 * rate, 3 * rate), separable=not dense)),
    "decoder":   block(129, lambda inputs=256, outputs=256, dense=False:
                       Decoder(inputs, outputs, channels=outputs, separable=not dense)),
}


def build(name: str, device: str = "meta", **options: Any) -> nn.Module:
    """The network of a name; options left out have their defaults. On the meta device it takes neither memory nor time."""
    model = MODELS[name]
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
    if count("backbone.stages"):
        name, widest = "resnet101" if count("backbone.stages.2") > 6 else "resnet50", "backbone.stages.3.0.expand.conv.weight"
    else:
        deep, more = count("backbone.middle_flow") > 8, count("backbone.entry_flow") > 3
        name, widest = "xception71" if more else "xception65" if deep else "xception41", "backbone.exit_flow.3.pointwise.weight"
    options["width"] = length(widest) / 2048
    if "aspp.project.conv.weight" not in state:
        return f"classifier-{name}", options
    options |= {"channels": length("aspp.project.conv.weight"), "dense": "aspp.branches.2.depthwise.weight" not in state}
    if "decoder.reduce.conv.weight" not in state:
        return f"deeplabv3-{name}", options
    options |= {"low_channels": length("decoder.reduce.conv.weight"), "refine": count("decoder.refine")}
    return f"deeplabv3plus-{name}", options
