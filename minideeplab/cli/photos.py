"""The commands `classify` and `segment`: a photo in, an answer out."""

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from minideeplab.cli.arguments import Commands, add_command, check_output, note, whole
from minideeplab.cli.costs import check_room, print_json
from minideeplab.cost import profile
from minideeplab.image import on_grid
from minideeplab.inference import keep_freed_memory, optimize_for_inference
from minideeplab.learn.network_file import fill, open_network
from minideeplab.learn.photo import classify, fitted, label_picture, overlay, read_photo, segment, shares
from minideeplab.learn.predict import SCALES
from minideeplab.networks.pretrained import VOC, pretrained
from minideeplab.weights.replacement import replace_whole

SHIPPED = """

Without --weights: the authors' DeepLabV3 on MobileNetV2, trained on PASCAL VOC
2012, which this package brings along (2 MB, nothing is downloaded). It knows 20
kinds of things, and calls all else background or one of them. It
is small and has no decoder, so its edges are coarse, and it was trained on 513
pixels a side: larger is not better. Its authors report 75.3 % mIoU on VOC val,
and 74.3 % with these 8-bit weights."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def ready(path: Path | None, height: int, width: int, *, segments: bool, **asked: Any) -> tuple[nn.Module, list[str]]:
    """The network in a file, or the shipped one, on its fast path, and the names of its classes.

    Before it is filled, whether this size fits it and the machine.
    """
    if path is None:
        net: nn.Module = pretrained(**asked)
        names = list(VOC)
    else:
        net, names = open_network(path, segments=segments, **asked)
    keep_freed_memory()  # this process is the command's own
    report = profile(net, (1, 3, height, width))
    check_room(path.name if path else "the shipped network", 8 * report.params + 3 * report.peak_bytes)
    return optimize_for_inference(fill(net, path) if path else net), names


def run_classify(arguments: argparse.Namespace) -> int:
    """`classify PHOTO --weights FILE`: one line a class on stdout."""
    photo = read_photo(arguments.photo)
    net, names = ready(arguments.weights, arguments.size, arguments.size, segments=False)
    for k, probability in classify(photo, net, top=arguments.top, size=arguments.size):
        print(f"{probability:7.2%}  {names[k]}")
    return 0


def run_segment(arguments: argparse.Namespace) -> int:
    """`segment PHOTO`: a picture in a file, the shares on stdout."""
    target, labeled = arguments.output or arguments.photo.with_suffix(".segmented.png"), arguments.labels
    if target.suffix.lower() not in PICTURES:
        raise ValueError(f"{target} is no picture by its name: it may end in {', '.join(PICTURES)}")
    if labeled and labeled.suffix.lower() != ".png":
        raise ValueError(f"{labeled}: labels are written as a PNG, whose pixels stay what they are")
    if labeled and labeled.is_file() and not arguments.force:
        raise ValueError(f"{labeled} exists already: name another with --labels, or add --force")
    inputs = list(filter(None, (arguments.photo, arguments.weights)))
    for file in filter(None, (target, labeled)):
        check_output(file, arguments.force, *inputs)
    if labeled and labeled.resolve() == target.resolve():
        raise ValueError(f"{labeled} cannot be both the picture and the labels: name another with -o or --labels")
    photo = read_photo(arguments.photo)
    width, height = fitted(photo, arguments.size)
    largest = max(SCALES) if arguments.multi_scale else 1
    asked = {"output_stride": arguments.output_stride} if arguments.output_stride else {}
    sides = (int((on_grid(side) - 1) * largest) + 1 for side in (height, width))
    net, names = ready(arguments.weights, *sides, segments=True, **asked)
    if labeled and len(names) > 256:
        raise ValueError(f"{labeled}: a palette has 256 colors, this network {len(names):,} classes: leave out --labels")
    if (width, height) != photo.size:
        note(f"looked at: {width} x {height} of {photo.width} x {photo.height} pixels (another size: --size)")
    labels = segment(photo, net, size=arguments.size, multi_scale=arguments.multi_scale)
    with replace_whole(target, overwrite=arguments.force, inputs=inputs) as whole_file:
        overlay(photo, labels, names).save(whole_file)
    if labeled:
        with replace_whole(labeled, overwrite=arguments.force, inputs=inputs) as whole_file:
            label_picture(labels).save(whole_file)
    note(f"written: {target}{f' and {labeled}' if labeled else ''}")
    if arguments.json:
        found: dict[str, float] = {}
        for k, share in shares(labels):
            found[names[k]] = found.get(names[k], 0) + share  # two classes may have one name
        files = {"photo": str(arguments.photo), "picture": str(target), "labels": str(labeled) if labeled else None}
        print_json(files | {"looked_at": [height, width], "shares": found})
        return 0
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
        "photo.jpg\nphoto.jpg --multi-scale --labels classes.png -o colored.png\n"
        "photo.jpg --weights deeplab.safetensors --output-stride 8", about=SHIPPED,
    )
    for parser in (look, paint):
        parser.add_argument("photo", type=Path, metavar="PHOTO", help="a picture of any size and form that Pillow reads")
    text, side = "a file that convert wrote", whole(100_000)
    look.add_argument("--weights", type=Path, required=True, metavar="FILE", help=text)
    paint.add_argument("--weights", type=Path, metavar="FILE", help=f"{text} (default: the network that is shipped)")
    look.add_argument("--size", type=side, default=299, metavar="N", help="pixels of the square input (default: %(default)s)")
    most = "how many classes to print (default: %(default)s)"
    look.add_argument("--top", type=whole(10**6), default=5, metavar="N", help=most)
    paint.add_argument("--size", type=side, metavar="N", help="pixels of the longer side (default: the photo's, at most 513)")
    paint.add_argument("--output-stride", type=whole(10**6), metavar="N", help="8 is finer and slower (default: 16)")
    paint.add_argument("--multi-scale", action="store_true", help="average six sizes and their mirror images: slow")
    paint.add_argument("-o", "--output", type=Path, metavar="FILE", help="the picture to write (default: PHOTO.segmented.png)")
    paint.add_argument("--labels", type=Path, metavar="FILE", help="also write each pixel's class, a PNG in VOC's palette")
    paint.add_argument("--json", action="store_true", help="one line for programs")
    paint.add_argument("--force", action="store_true", help="overwrite what exists")
