"""The commands `classify` and `segment`: a photo in, an answer out."""

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from minideeplab.cli.arguments import Commands, add_command, check_output, note, whole
from minideeplab.cli.costs import check_room
from minideeplab.cost import profile
from minideeplab.image import on_grid
from minideeplab.learn.network_file import fill, open_network
from minideeplab.learn.photo import classify, overlay, read_photo, segment, shares
from minideeplab.weights.replacement import replace_whole

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def ready(path: Path, side: int, *, segments: bool, **asked: Any) -> tuple[nn.Module, list[str]]:
    """The network in a file and the names of its classes; before it is filled, whether this size fits it and the machine."""
    net, names = open_network(path, segments=segments, **asked)
    report = profile(net, (1, 3, side, side))
    check_room(path.name, 4 * report.params + 3 * report.peak_bytes)
    return fill(net, path), names


def run_classify(arguments: argparse.Namespace) -> int:
    """`classify PHOTO --weights FILE`: one line a class on stdout."""
    photo = read_photo(arguments.photo)
    net, names = ready(arguments.weights, arguments.size, segments=False)
    for k, probability in classify(photo, net, top=arguments.top, size=arguments.size):
        print(f"{probability:7.2%}  {names[k]}")
    return 0


def run_segment(arguments: argparse.Namespace) -> int:
    """`segment PHOTO --weights FILE`: a picture in a file, the shares on stdout."""
    target = arguments.output or arguments.photo.with_suffix(".segmented.png")
    if target.suffix.lower() not in PICTURES:
        raise ValueError(f"{target} is no picture by its name: it may end in {', '.join(PICTURES)}")
    inputs = (arguments.photo, arguments.weights)
    check_output(target, arguments.force, *inputs)
    photo, stride = read_photo(arguments.photo), arguments.output_stride
    asked = {"output_stride": stride} if stride else {}
    net, names = ready(arguments.weights, on_grid(arguments.size), segments=True, **asked)
    labels = segment(photo, net, size=arguments.size)
    with replace_whole(target, overwrite=arguments.force, inputs=inputs) as whole_file:
        overlay(photo, labels, names).save(whole_file)
    note(f"written: {target}")
    for k, share in shares(labels):
        print(f"{share:7.2%}  {names[k]}")
    return 0


def add_commands(commands: Commands) -> None:
    """`classify` and `segment`."""
    look = add_command(
        commands, run_classify, "Say what a photo shows", "photo.jpg --weights xception.safetensors --top 3",
    )
    paint = add_command(
        commands, run_segment, "Color a photo by what each pixel shows, with a legend and each class's share",
        "photo.jpg --weights deeplab.safetensors\nphoto.jpg --weights deeplab.safetensors --output-stride 8 -o colored.png",
    )
    for parser, size in ((look, 299), (paint, 513)):
        parser.add_argument("photo", type=Path, metavar="PHOTO")
        parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="a file that convert wrote")
        text = "pixels of the square input (default: %(default)s)"
        parser.add_argument("--size", type=whole(100_000), default=size, metavar="N", help=text)
    most = "how many classes to print (default: %(default)s)"
    look.add_argument("--top", type=whole(10**6), default=5, metavar="N", help=most)
    paint.add_argument("--output-stride", type=whole(10**6), metavar="N", help="8 is finer and slower (default: 16)")
    paint.add_argument("-o", "--output", type=Path, metavar="FILE", help="the picture to write (default: PHOTO.segmented.png)")
    paint.add_argument("--force", action="store_true", help="overwrite the picture if it exists")
