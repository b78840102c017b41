"""Anybody's file of weights -> a network that runs: the command `convert`, and `open_network` for those that ask one."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from minideeplab import weights
from minideeplab.cli.arguments import Commands, add_command, check_output, note
from minideeplab.cli.models import MODELS, build, recognize
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.weights.file_limits import plain, reading

LARGEST_LABELS = 2**20  # bytes
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)


def translate(source: Path) -> weights.State:
    """Anybody's file -> our state dict, by its ending."""
    if source.suffix == ".npz" or source.suffix == ".index" or source.with_name(source.name + ".index").exists():
        return weights.from_tensorflow(weights.read_tensorflow(source))
    if source.suffix in (".h5", ".hdf5", ".keras"):
        return weights.from_keras(source)
    if source.suffix == ".safetensors":
        return weights.from_timm(weights.read(source))
    if source.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise ValueError(
            f"{source} is a pickle, which may run code when read: where you trust it, write its state dict as safetensors "
            "(safetensors.torch.save_file(state_dict, 'name.safetensors')) and convert that"
        )
    kinds = "a TensorFlow checkpoint's prefix or .npz, Keras's .h5 or .keras, or .safetensors of timm or torchvision"
    raise ValueError(f"{source}: expected {kinds}")


def network_of(state: Mapping[str, Tensor], about: Mapping[str, str], path: Path, **asked: Any) -> tuple[nn.Module, str]:
    """The network of these arrays, on the meta device, and its description as JSON: what `about` says, or what names tell.

    Arrays are compared with it, so it is whole; only the last layer may be missing.
    """
    try:
        known = json.loads(about["network"]) if "network" in about else None
        name, options = recognize(state) if known is None else (known.pop("name"), known)
        if not isinstance(name, str) or name not in MODELS:
            raise ValueError(f"its header names {name!r}, no network of this library")
        options |= asked
        net = build(name, **options)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no network that can be built: {error}") from error
    last = {name: value for name, value in net.state_dict().items() if name.startswith("classify.")}
    check(net, dict(state) if last.keys() & state.keys() else {**state, **last}, path)
    return net, json.dumps({"name": name, **MODELS[name].options, **options})


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
    if len(names) == classes - 1:  # the authors' ImageNet classifiers put the background first
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


def read_labels(path: Path | None) -> str:
    """The names of the classes, one a line; nothing without a file."""
    if path is None:
        return ""
    with reading(path, "list of names"), path.open("rb") as file:
        text = file.read(LARGEST_LABELS + 1)
        if len(text) > LARGEST_LABELS:
            raise ValueError(f"it has more than {LARGEST_LABELS:,} bytes")
        return text.decode().strip()


def run_convert(arguments: argparse.Namespace) -> int:
    """`convert SOURCE -o FILE`: what it is on stdout, what was left out on stderr."""
    source, target = arguments.source, arguments.output
    check_output(target, arguments.force, source, Path(f"{source}.index"), *filter(None, [arguments.labels]))
    labels, state = read_labels(arguments.labels), translate(source)
    net, network = network_of(state, {}, source)
    description = f"{type(net).__name__} without classes"
    if "classify.weight" in state:
        classes = len(label_names(net, len(state["classify.weight"]), labels))
        params = sum(value.numel() for value in net.parameters())
        description = f"{type(net).__name__}, {classes} classes, {params:,} parameters"
    about = {"minideeplab": description, "source": source.name, "labels": labels, "network": network}
    weights.save(state, target, about=about, overwrite=arguments.force)
    if state.ignored:
        kinds = Counter(name.rpartition("/")[2] for name in state.ignored)
        note(f"left out: {', '.join(f'{kind} ({times})' for kind, times in kinds.items())}")
    print(plain(f"{target}: {description}", 600))
    return 0


def add_commands(commands: Commands) -> None:
    """`convert`."""
    convert = add_command(
        commands, run_convert, "Bring other people's weights under this library's names, as safetensors",
        "model.ckpt-30000 -o deeplab.safetensors\n"
        "xception.keras -o xception.safetensors --labels imagenet_classes.txt\n"
        "timm_xception65.safetensors -o xception65.safetensors --force",
    )
    kinds = "TensorFlow checkpoint prefix or .npz; Keras .h5 or .keras; .safetensors of timm or torchvision"
    convert.add_argument("source", type=Path, metavar="SOURCE", help=kinds)
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    convert.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line, kept with the weights")
    convert.add_argument("--force", action="store_true", help="overwrite FILE if it exists")
