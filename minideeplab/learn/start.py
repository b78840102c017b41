"""What a training starts from: the images, and a small network with fresh weights or another with all weights that fit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from minideeplab import weights
from minideeplab.learn.batches import Data
from minideeplab.learn.data import SegmentationFolder, Shapes
from minideeplab.learn.network_file import NETWORKS, build, fill, network_of, open_network
from minideeplab.networks.pretrained import pretrained

SHAPES, HELD_OUT = (20_000, 200), 2**32 - 1  # how many shapes to learn from and to measure with, and the seed of the latter
SMALL, SHIPPED = "deeplabv3plus-small", "deeplabv3-mobilenet_v2"
KEPT = ("width", "channels", "low_channels", "refine", "rates", "dense", "multi_grid")  # of weights for another network


class Start(NamedTuple):
    """A network, its description for the header of a file, the parts that no weights were found for, and whose those are."""

    net: nn.Module
    network: str
    fresh: list[str]
    source: str | None


def start(classes: int, *, model: str | None = None, source: Path | str | None = None) -> Start:
    """A DeepLab of so many classes, on the CPU; fresh weights are drawn from torch's own generator.

    `source` is a file that `convert` or `train` wrote, "shipped" for `pretrained()`, or None. `model` is one of `NETWORKS`
    and by default that of the source, or else a small DeepLabV3+; where it differs from the source's (another head on its
    backbone) it gets the source's width and channels. What fits by name and shape is loaded. ValueError if nothing does.
    """
    state, about = given(source)
    options = dict(about)
    found = options.pop("name", None)
    name = model or found or SMALL
    if name not in NETWORKS or not name.startswith("deeplab"):
        known = ", ".join(name for name in NETWORKS if name.startswith("deeplab"))
        raise ValueError(f"{name} does not answer for every pixel: name a model, one of {known}")
    if name != found:
        options = {key: value for key, value in options.items() if key in KEPT and key in NETWORKS[name].options}
    options["classes"] = classes
    net = build(NETWORKS, name, "cpu", **options)
    fresh = load_what_fits(net, state) if source else list(dict(net.named_children()))
    network = json.dumps({"name": name, **NETWORKS[name].options, **options})
    return Start(net, network, fresh, None if source is None else str(source))


def data_of(root: Path | None, split: str, *, seed: int = 0) -> Data:
    """A folder in PASCAL VOC's layout, or without one the synthetic shapes: "train" by seed, "val" the same 200 for all."""
    if root is not None:
        return SegmentationFolder(root, split)
    return Shapes(SHAPES[0], seed=seed) if split == "train" else Shapes(SHAPES[1], seed=HELD_OUT)


def opened(source: Path | str) -> nn.Module:
    """The trained DeepLab of a source, in evaluation mode."""
    if source == "shipped":
        return pretrained()
    net, _ = open_network(Path(source), segments=True)
    return fill(net, Path(source))


def given(source: Path | str | None) -> tuple[Mapping[str, Tensor], dict[str, object]]:
    """The arrays of a source, and its network's name and options; nothing for None."""
    if source is None:
        return {}, {}
    if source == "shipped":
        return pretrained().state_dict(), {"name": SHIPPED, **NETWORKS[SHIPPED].options}
    path = Path(source)
    header = weights.describe(path)
    _, network = network_of(header, header.about, path)
    return weights.read(path), json.loads(network)


def load_what_fits(net: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load the arrays of `state` that `net` has by name and shape; the names of the parts left fresh, the widest that are.

    ValueError if none fits.

    >>> load_what_fits(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 4)).state_dict())
    ['1']
    """
    own = net.state_dict()
    fits = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    if not fits:
        first = next(iter(state), "none at all")
        raise ValueError(f"none of these {len(state)} arrays fits a {type(net).__name__} by name and shape, as {first}")
    weights.load(net, own | fits)
    learned, fresh = {part for name in fits for part in parts(name)}, list[str]()
    for name in own.keys() - fits.keys():
        if not name.endswith("num_batches_tracked"):
            fresh.append(next((part for part in parts(name) if part not in learned), name))
    return sorted(set(fresh), key=[part for name in own for part in [*parts(name), name]].index)


def parts(name: str) -> list[str]:
    """The modules that an array lies in, the widest first.

    >>> parts("aspp.project.conv.weight")
    ['aspp', 'aspp.project', 'aspp.project.conv']
    """
    words = name.split(".")
    return [".".join(words[:count]) for count in range(1, len(words))]
