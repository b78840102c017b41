"""The names that the command line knows: the networks that files may hold, and the blocks of the ladder."""

from collections.abc import Callable
from inspect import signature

from torch import nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.decoder import Decoder
from minideeplab.blocks.extreme import ExtremeInception, SimplifiedInception
from minideeplab.blocks.separable import SeparableConv2d
from minideeplab.geometry import same_padding
from minideeplab.learn.network_file import NETWORKS, Model


def conv(*, inputs: int, outputs: int, kernel: int, rate: int = 1) -> nn.Module:
    """A standard convolution like those inside the other blocks: it keeps the size and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=same_padding(kernel, rate), dilation=rate, bias=False)


def block(size: int, build: Callable[..., nn.Module]) -> Model:
    """A block takes the keywords of its builder."""
    return Model(size, build, {name: parameter.default for name, parameter in signature(build).parameters.items()})


MODELS = {
    **NETWORKS,
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
