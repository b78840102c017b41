"""The command line: what a block or a network costs, how long it takes, and what it says about a photo."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import ExtremeInception, SimplifiedInception
from minideeplab.blocks.separable import SeparableConv2d
from minideeplab.cli import costs as commands
from minideeplab.cli import photos as photo
from minideeplab.cli.costs import one_line
from minideeplab.cli.models import Model
from minideeplab.geometry import same_padding
from minideeplab.networks.aligned_xception import xception41, xception65, xception71
from minideeplab.networks.deeplab import DeepLabV3, DeepLabV3Plus
from minideeplab.networks.inception_v3 import InceptionV3
from minideeplab.networks.resnet import resnet101
from minideeplab.networks.xception import Xception

Make = Callable[..., nn.Module]


def backbone(make: Make) -> Model:
    """At 513 pixels, without classifier."""
    return Model(513, lambda output_stride=16: make(output_stride=output_stride))


def deeplab(head: Make, make: Make) -> Model:
    """At 513 pixels, with the 21 classes of VOC; separable unless `dense`."""

    def build(classes: int = 21, output_stride: int = 16, dense: bool = False) -> nn.Module:
        return head(make(output_stride=output_stride), classes, separable=not dense)

    return Model(513, build)


def conv(inputs: int, outputs: int, kernel: int, rate: int = 1) -> nn.Module:
    """A standard convolution like those inside the other blocks: it keeps the size and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=same_padding(kernel, rate), dilation=rate, bias=False)


# Every name, and what it builds. The keywords of a builder are the options that apply to its name.
# fmt: off
MODELS = {
    "inception_v3":             Model(299, lambda classes=1000: InceptionV3(classes)),
    "xception":                 Model(299, lambda classes=1000, output_stride=32:
                                      Xception(classes, output_stride=output_stride)),
    "xception41":               backbone(xception41),
    "xception65":               backbone(xception65),
    "xception71":               backbone(xception71),
    "resnet101":                backbone(resnet101),
    "deeplabv3-xception41":     deeplab(DeepLabV3, xception41),
    "deeplabv3-xception65":     deeplab(DeepLabV3, xception65),
    "deeplabv3-xception71":     deeplab(DeepLabV3, xception71),
    "deeplabv3-resnet101":      deeplab(DeepLabV3, partial(resnet101, multi_grid=(1, 2, 4))),
    "deeplabv3plus-xception41": deeplab(DeepLabV3Plus, xception41),
    "deeplabv3plus-xception65": deeplab(DeepLabV3Plus, xception65),
    "deeplabv3plus-xception71": deeplab(DeepLabV3Plus, xception71),
    "deeplabv3plus-resnet101":  deeplab(DeepLabV3Plus, partial(resnet101, multi_grid=(1, 2, 4))),
    "conv":      Model(33, lambda inputs=192, outputs=192, kernel=3: conv(inputs, outputs, kernel)),
    "atrous":    Model(33, lambda inputs=192, outputs=192, kernel=3, rate=2: conv(inputs, outputs, kernel, rate)),
    "inception": Model(33, lambda inputs=192, outputs=192, kernel=3, towers=3:
                       SimplifiedInception(inputs, outputs, towers=towers, kernel_size=kernel)),
    "extreme":   Model(33, lambda inputs=192, outputs=192, kernel=3: ExtremeInception(inputs, outputs, kernel_size=kernel)),
    "separable": Model(33, lambda inputs=192, outputs=192, kernel=3, rate=1:
                       SeparableConv2d(inputs, outputs, kernel, dilation=rate)),
    "aspp":      Model(33, lambda inputs=2048, outputs=256, rate=6, dense=False:
                       ASPP(inputs, outputs, rates=(rate, 2 * rate, 3 * rate), separable=not dense)),
    "decoder":   Model(129, lambda inputs=256, outputs=256, dense=False:
                       Decoder(inputs, outputs, channels=outputs, separable=not dense)),
}
# fmt: on

ABOUT = """What a block or a network costs, how long it takes, and what it says about a photo.

Results go to standard output, messages to standard error. Exit status: 0 done, 1 the run failed, 2 the input was bad."""
EXAMPLES = """examples:
  python -m minideeplab cost deeplabv3plus-xception65 --size 513
  python -m minideeplab compare inception_v3 xception --size 299 --markdown
  python -m minideeplab COMMAND --help"""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    try:
        release = version("minideeplab")
    except PackageNotFoundError:
        release = "(not installed)"
    style = argparse.RawDescriptionHelpFormatter
    top: argparse.ArgumentParser = Parser(prog="minideeplab", description=ABOUT, epilog=EXAMPLES, formatter_class=style)
    top.add_argument("--version", action="version", version=f"minideeplab {release}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_commands(subparsers, MODELS)
    photo.add_commands(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"minideeplab: error: {one_line(error)}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
