"""Anybody's file of weights -> a network that runs: `translate` and `network_for`, and the command `convert`."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from minideeplab import weights
from minideeplab.networks.aligned_xception import xception41, xception65, xception71
from minideeplab.networks.backbone import Backbone
from minideeplab.networks.classifier import Classifier
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.networks.inception_v3 import InceptionV3
from minideeplab.networks.resnet import ResNet
from minideeplab.networks.xception import Xception

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def translate(source: Path) -> weights.State:
    """Anybody's file -> our state dict, by its ending."""
    if source.suffix == ".npz" or source.suffix == ".index" or source.with_name(source.name + ".index").exists():
        return weights.from_tensorflow(weights.read_tensorflow(source))
    if source.suffix in (".h5", ".hdf5", ".keras"):
        return weights.from_keras(source)
    if source.suffix == ".safetensors":
        state = weights.read(source)
        return weights.from_torchvision(state) if "convs.0.0.weight" in state else weights.from_timm(state)
    if source.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise ValueError(
            f"{source} is a pickle, which may run code when read: where you trust it, write its state dict as safetensors "
            "(safetensors.torch.save_file(state_dict, 'name.safetensors')) and convert that"
        )
    kinds = "a TensorFlow checkpoint's prefix or .npz, Keras's .h5 or .keras, or .safetensors of timm or torchvision"
    raise ValueError(f"{source}: expected {kinds}")


def network_for(state: Mapping[str, Tensor], *, output_stride: int | None = None, device: str = "cpu") -> nn.Module:
    """The network whose arrays these are, with fresh weights; names and shapes tell all but the output stride.

    Left open, it is 32 for a classifier and 16 for DeepLab. A ResNet gets the multi-grid (1, 2, 4) of the published ones.
    """
    if "classify.weight" not in state:
        raise ValueError("these weights have no last layer (classify.weight): they know features, but no classes")
    classes, channels = state["classify.weight"].shape[:2]

    def count(place: str) -> int:
        depth = place.count(".") + 1
        return len({name.split(".")[depth] for name in state if name.startswith(f"{place}.")})

    with torch.device(device):
        if "stem.0.conv.weight" in state:
            return InceptionV3(classes)
        if "entry_flow.0.conv.weight" in state:
            return Xception(classes, output_stride=output_stride or 32)
        widest = state.get("backbone.exit_flow.3.pointwise.weight", state.get("backbone.stages.3.0.expand.conv.weight"))
        if widest is None:
            raise ValueError(f"these are not the arrays of a network this library has: {', '.join(list(state)[:3])}, ...")
        segments = "aspp.project.conv.weight" in state
        stride, width = output_stride or (16 if segments else 32), len(widest) / 2048
        backbone: Backbone
        if count("backbone.stages"):
            units = [count(f"backbone.stages.{i}") for i in range(4)]
            grid = (1, 2, 4) if segments and units[3] == 3 else (1,) * units[3]
            backbone = ResNet(units, output_stride=stride, multi_grid=grid, width=width)
        else:
            deep, more = count("backbone.middle_flow") == 16, count("backbone.entry_flow") == 5
            backbone = (xception71 if more else xception65 if deep else xception41)(output_stride=stride, width=width)
        separable = "aspp.branches.2.depthwise.weight" in state
        if not segments:
            return Classifier(backbone, classes)
        if "decoder.reduce.conv.weight" not in state:
            return DeepLabV3(backbone, classes, channels=channels, separable=separable)
        low, refine = len(state["decoder.reduce.conv.weight"]), count("decoder.refine")
        return DeepLabV3Plus(backbone, classes, channels=channels, low_channels=low, refine=refine, separable=separable)


def label_names(classes: int, labels: str, *, segments: bool) -> list[str]:
    """One name for each class: the lines of `labels`, or VOC's for 21 segmented classes, or numbers."""
    known = VOC if segments and classes == len(VOC) else [f"class {k}" for k in range(classes)]
    names = labels.splitlines() or list(known)
    if len(names) == classes - 1:  # the authors' ImageNet classifiers put the background first
        names = ["background", *names]
    if len(names) != classes:
        raise ValueError(f"{len(names)} labels for {classes} classes: one name a line, as many as classes")
    return names


def check(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """One line where `weights.load` lists them all."""
    if wrong := weights.misfits(net, state):
        raise ValueError(f"{path} holds no complete {type(net).__name__}: {len(wrong)} arrays do not fit, first: {wrong[0]}")


def open_network(path: Path, *, segments: bool, output_stride: int | None = None) -> tuple[nn.Module, list[str]]:
    """The network in a file that `convert` or `weights.save` wrote, and the names of its classes."""
    state = weights.read(path)
    net = network_for(state, output_stride=output_stride)
    if isinstance(net, DeepLabV3 | DeepLabV3Plus) != segments:
        other = "classify" if segments else "segment"
        raise ValueError(f"{path} holds a {type(net).__name__}: that one is for the command {other}")
    check(net, state, path)
    weights.load(net, state)
    return net.eval(), label_names(len(state["classify.weight"]), state.about.get("labels", ""), segments=segments)


def run_convert(arguments: argparse.Namespace) -> int:
    """`convert SOURCE -o FILE`: what it is on stdout, what was left out on stderr."""
    target = arguments.output
    if target.exists() and not arguments.force:
        raise ValueError(f"{target} exists already: name another with -o, or add --force")
    state = translate(arguments.source)
    labels = arguments.labels.read_text(encoding="utf-8").strip() if arguments.labels else ""
    description = f"{'Xception' if 'entry_flow.0.conv.weight' in state else 'network'} without classes"
    if "classify.weight" in state:
        net = network_for(state, device="meta")
        check(net, state, arguments.source)
        names = label_names(len(state["classify.weight"]), labels, segments=isinstance(net, DeepLabV3 | DeepLabV3Plus))
        params = sum(value.numel() for value in net.parameters())
        description = f"{type(net).__name__}, {len(names)} classes, {params:,} parameters"
    about = {"minideeplab": description, "source": arguments.source.name, "labels": labels}
    weights.save(state, target, about=about, overwrite=arguments.force)
    if state.ignored:
        kinds = Counter(name.rpartition("/")[2] for name in state.ignored)
        print("left out:", ", ".join(f"{kind} ({times})" for kind, times in kinds.items()), file=sys.stderr)
    print(f"{target}: {description}")
    return 0
