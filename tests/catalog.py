"""The one list of what the library builds: a row for every block, network and function that has an option.

A new block costs one row here. Every property that holds for all of them iterates over this table: inputs left alone,
gradients, options heard, bad numbers refused, the tools of PyTorch, the fast path. Without a row, `test_catalog` fails.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from strategies import integers
from torch import nn

import minideeplab as m
from minideeplab import geometry
from minideeplab.blocks.inception import MeanPool2d
from minideeplab.cost import formulas
from minideeplab.geometry import Step


class Row(NamedTuple):
    """How to make it, small; what it is then run on; and another value for every option (empty: seen in another row).

    A head runs on a pyramid: its first argument is a backbone, which stands before it.
    """

    subject: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    shapes: Sequence[tuple[int, ...]] = ()
    choices: dict[str, Any] = {}  # noqa: RUF012  # never changed
    options: dict[str, Any] = {}  # noqa: RUF012  # with which it is made here
    is_head: bool = False

    def make(self, **choice: Any) -> Any:
        """The module, or a function's answer."""
        made = self.subject(*self.arguments, **(self.options | choice))
        return m.Segmenter(self.arguments[0], made, 3) if self.is_head else made


SMALL, X, LOW, IMAGE = {"width": 1 / 64}, (2, 2, 5, 4), (2, 3, 7, 6), (2, 3, 33, 30)
SEPARABLE = {"kernel_size": 5, "stride": 2, "dilation": 2}
STRIDES = {"output_stride": 8, "width": 1 / 32}


def thin() -> nn.Module:
    """A backbone as small as it gets."""
    return m.AlignedXception([(128, 2), (256, 2), (728, 2)], 1, width=1 / 64)


BLOCKS = {
    "ConvBN": Row(m.ConvBN, (2, 3, 3), [X], {"stride": 2, "dilation": 2, "valid": True, "eps": 0.1}),
    "ConvBN, strided": Row(m.ConvBN, (2, 3, (3, 1)), [X], {}, {"stride": 2}),
    "ConvBNReLU": Row(m.ConvBNReLU, (2, 3), [X], {"kernel_size": 3}),
    "ConvBNReLU, valid": Row(m.ConvBNReLU, (2, 3, (1, 3)), [X], {}, {"valid": True}),
    "SameConv2d": Row(m.SameConv2d, (2, 4), [X], {"kernel_size": 5, "stride": 2, "dilation": 2, "groups": 2}),
    "SameConv2d, strided": Row(m.SameConv2d, (2, 4), [(2, 2, 6, 5)], {}, {"stride": 2, "groups": 2}),
    "SameMaxPool2d": Row(m.SameMaxPool2d, (), [(2, 2, 6, 5)], {"stride": 1, "dilation": 2}),
    "SameMaxPool2d, dilated": Row(m.SameMaxPool2d, (), [X], {}, {"stride": 1, "dilation": 2}),
    "MeanPool2d": Row(MeanPool2d, (), [X]),
    "Inception35": Row(m.Inception35, (2, 4), [(2, 2, 4, 3)]),
    "ReductionTo17": Row(m.ReductionTo17, (2,), [X]),
    "Inception17": Row(m.Inception17, (2, 3), [(2, 2, 4, 3)]),
    "ReductionTo8": Row(m.ReductionTo8, (2,), [X]),
    "Inception8": Row(m.Inception8, (2,), [(2, 2, 4, 3)]),
    "SimplifiedInception": Row(m.SimplifiedInception, (2, 6), [X], {"towers": 2, "kernel_size": 5}),
    "SegmentedInception": Row(m.SegmentedInception, (2, 6), [X], {"segments": 2, "kernel_size": 5}),
    "ExtremeInception": Row(m.ExtremeInception, (2, 6), [X], {"kernel_size": 5}),
    "SeparableConv2d": Row(m.SeparableConv2d, (2, 3), [X], SEPARABLE),
    "SeparableConv2d, strided": Row(m.SeparableConv2d, (2, 3), [X], {}, {"stride": 2}),
    "SeparableConvBN": Row(m.SeparableConvBN, (2, 3), [X], {**SEPARABLE, "relu": True, "eps": 0.1}),
    "SeparableConvBN, rectified": Row(m.SeparableConvBN, (2, 3), [X], {}, {"dilation": 2, "relu": True}),
    "XceptionBlock": Row(m.XceptionBlock, (2, [2, 3]), [X], {"stride": 2, "starts_with_relu": False}),
    "XceptionBlock, strided": Row(m.XceptionBlock, (2, [2, 3]), [X], {"stride": Step(2, True, 2)}, {"stride": 2}),
    "XceptionBlock, identity": Row(m.XceptionBlock, (2, [2, 2]), [X]),
    "AlignedBlock": Row(m.AlignedBlock, (2, [2, 3, 3]), [X], {"stride": 2}),
    "AlignedBlock, strided": Row(m.AlignedBlock, (2, [2, 3, 3]), [X], {"stride": Step(2, True, 2)}, {"stride": 2}),
    "AlignedBlock, identity": Row(m.AlignedBlock, (2, [2, 2, 2]), [X]),
    "Bottleneck": Row(m.Bottleneck, (2, 1), [X], {"stride": 2}),
    "Bottleneck, skipping": Row(m.Bottleneck, (8, 2), [(2, 8, 5, 4)], {"stride": Step(2, True, 2)}, {"stride": 2}),
    "InvertedResidual": Row(m.InvertedResidual, (2, 3), [X], {"expansion": 1, "stride": 2}),
    "InvertedResidual, strided": Row(m.InvertedResidual, (2, 3), [X], {"stride": Step(2, True, 2)}, {"stride": 2}),
    "InvertedResidual, identity": Row(m.InvertedResidual, (2, 2), [X]),
    "ImagePooling": Row(m.ImagePooling, (2, 3), [X]),
    "ASPP": Row(m.ASPP, (2,), [X], {"channels": 4, "rates": (1,), "separable": False}, {"channels": 3, "rates": (1, 2)}),
    "ASPP, without rates": Row(m.ASPP, (2, 3), [X], {}, {"rates": ()}),
    "Decoder": Row(
        m.Decoder, (3, 2), [LOW, (2, 2, 3, 4)],
        {"channels": 4, "low_channels": 1, "refine": 1, "separable": False}, {"channels": 3, "low_channels": 2},
    ),
    "PyramidPooling": Row(m.PyramidPooling, (4,), [(2, 4, 5, 4)], {"bins": (1, 3)}, {"bins": (1, 2)}),
    "ResidualConvUnit": Row(m.ResidualConvUnit, (2,), [X]),
    "ChainedResidualPooling": Row(m.ChainedResidualPooling, (2,), [X], {"blocks": 3}),
    "RefineNetBlock": Row(m.RefineNetBlock, ([2, 3],), [X, (2, 3, 3, 2)]),
    "RefineNetBlock, one path": Row(m.RefineNetBlock, ([2],), [X]),
    "UNetStep": Row(m.UNetStep, (3, 2, 4), [(2, 3, 3, 2), X]),
}  # fmt: skip
NETWORKS = {
    "InceptionV3": Row(m.InceptionV3, (), [(2, 3, 75, 75)], {"num_classes": 10}),
    "Xception": Row(m.Xception, (10,), [(2, 3, 39, 39)], {"output_stride": 16}),
    "AlignedXception": Row(m.AlignedXception, ([(128, 2), (256, 2), (728, 2)], 1), [IMAGE], STRIDES, SMALL),
    "xception41": Row(m.xception41, (), [IMAGE], STRIDES, SMALL),
    "xception65": Row(m.xception65, (), [IMAGE], STRIDES, SMALL),
    "xception71": Row(m.xception71, (), [IMAGE], STRIDES, SMALL),
    "ResNet": Row(m.ResNet, ([3, 1, 1, 3],), [IMAGE], {**STRIDES, "multi_grid": (1, 2, 4)}, SMALL),
    "resnet101": Row(m.resnet101, (), [IMAGE], {**STRIDES, "multi_grid": (1, 2, 4)}, SMALL),
    "MobileNetV2": Row(m.MobileNetV2, (), [IMAGE], STRIDES, SMALL),
    "mobilenet_v2": Row(m.mobilenet_v2, (), [IMAGE], STRIDES, SMALL),
    "Classifier": Row(m.Classifier, (thin(), 3), [IMAGE]),
    "DeepLabV3": Row(
        m.DeepLabV3, (thin(), 3), [IMAGE], {"rates": (1, 2), "channels": 8, "separable": False}, {"channels": 4}
    ),
    "DeepLabV3Plus": Row(
        m.DeepLabV3Plus, (thin(), 3), [IMAGE],
        {"rates": (1, 2), "channels": 8, "low_channels": 2, "refine": 1, "separable": False}, {"channels": 4},
    ),
    "DeepLabV3Plus on ResNet": Row(m.DeepLabV3Plus, (m.ResNet([3, 1, 1, 3], **SMALL), 3), [IMAGE], {}, {"channels": 4}),
    "DeepLabV3 on MobileNetV2": Row(
        m.DeepLabV3, (m.mobilenet_v2(width=1 / 16), 3), [IMAGE], {"rates": (1,)}, {"channels": 4, "rates": ()}
    ),
    "DeepLabV3Plus on MobileNetV2": Row(m.DeepLabV3Plus, (m.mobilenet_v2(width=1 / 16), 3), [IMAGE], {}, {"channels": 4}),
    "Segmenter": Row(m.Segmenter, (thin(), m.DeepLabV3Head(thin(), channels=4, rates=(1,)), 3), [IMAGE]),
    "FCNHead": Row(m.FCNHead, (thin(),), [IMAGE], {"channels": 5, "maps": 3}, {"channels": 4}, is_head=True),
    "FCNHead, FCN-8s": Row(m.FCNHead, (thin(),), [IMAGE], {}, {"channels": 4, "maps": 3}, is_head=True),
    "UNetHead": Row(m.UNetHead, (thin(),), [IMAGE], {"channels": 3}, {"channels": 2}, is_head=True),
    "SegNetHead": Row(m.SegNetHead, (thin(),), [IMAGE], {"channels": 3}, {"channels": 2}, is_head=True),
    "PSPNetHead": Row(m.PSPNetHead, (thin(),), [IMAGE], {"channels": 3, "bins": (1, 3)}, {"channels": 4}, is_head=True),
    "RefineNetHead": Row(m.RefineNetHead, (thin(),), [IMAGE], {"channels": 3}, {"channels": 2}, is_head=True),
    "DeepLabV3Head": Row(
        m.DeepLabV3Head, (thin(),), [IMAGE], {"rates": (1, 2), "channels": 8}, {"channels": 4}, is_head=True
    ),
    "DeepLabV3PlusHead": Row(
        m.DeepLabV3PlusHead, (thin(),), [IMAGE],
        {"rates": (1, 2), "channels": 8, "low_channels": 2}, {"channels": 4}, is_head=True,
    ),
    **{
        f"{head.__name__} on {backbone.__name__}": Row(head, (backbone(width=1 / 64),), [IMAGE], {}, {"channels": 2}, True)
        for head in (m.UNetHead, m.SegNetHead, m.RefineNetHead) for backbone in (m.resnet101, m.mobilenet_v2)
    },
}  # fmt: skip
MODULES = BLOCKS | NETWORKS
MAPS, KERNEL = integers(1, 2, 5, 5), integers(1, 2, 3, 3)
FUNCTIONS = {
    "conv2d_loops": Row(m.conv2d_loops, (MAPS, integers(1, 2, 2, 2)), (), {"stride": 2, "padding": 1, "dilation": 2}),
    "regroup": Row(m.regroup, (integers(4, 1, 1, 1), 4), (), {"fewer": 2}),
    "kernel_with_holes": Row(m.kernel_with_holes, (KERNEL, 2)),
    "conv2d_on_sub_grids": Row(m.conv2d_on_sub_grids, (MAPS, KERNEL, 2)),
    "mean_taps_inside": Row(m.mean_taps_inside, (9, 2), (), {"kernel_size": 5}),
    "pixels_touched": Row(m.pixels_touched, ((1, 2),), (), {"kernel_size": 5}),
    "pretrained": Row(m.pretrained, (), [(1, 3, 33, 30)], {"output_stride": 8}),  # a "DeepLabV3" that is as large as it is
    "UnpoolingDecoder": Row(m.UnpoolingDecoder, ([2, 2],)),
    "effective_kernel": Row(geometry.effective_kernel, (3,), (), {"dilation": 2}),
    "same_padding": Row(geometry.same_padding, (3,), (), {"dilation": 2}),
    "same_padding_before": Row(geometry.same_padding_before, (10, 3), (), {"stride": 2, "dilation": 2}),
    "output_size": Row(geometry.output_size, (9, 3), (), {"stride": 2, "dilation": 2, "padding": 1}),
    "trade_strides": Row(geometry.trade_strides, ([2, 2], 4), (), {"start": 2}),
    "default_rates": Row(geometry.default_rates, (16,)),
    "convolution": Row(formulas.convolution, (4, 4, 3, 5, 5), (), {"groups": 2}),
    "inception_tower": Row(formulas.inception_tower, (4, 2, 4, 3, 8, 8)),
    "inverted_residual": Row(formulas.inverted_residual, (4, 4, 3, 5, 5), (), {"expansion": 2}),
    "spatially_separable": Row(formulas.spatially_separable, (4, 4, 3, 8, 8)),
}
ROWS = MODULES | FUNCTIONS


def parameters(subject: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a constructor or function, by name."""
    return dict(inspect.signature(subject).parameters)


def options(subject: Callable[..., Any]) -> set[str]:
    """Those that may be left out."""
    return {
        name for name, p in parameters(subject).items() if p.kind is p.KEYWORD_ONLY or p.default is not p.empty
    }  # fmt: skip


def public() -> list[Callable[..., Any]]:
    """What the package offers to be built or called, but for what holds results and names a contract."""
    names = set(m.__all__) - {"Features", "Pyramid", "Backbone"}
    ours = [f for module in (geometry, formulas) for f in vars(module).values() if inspect.isfunction(f)]
    return [getattr(m, name) for name in sorted(names)] + [
        f for f in ours if f.__module__ in (geometry.__name__, formulas.__name__)
    ]


def without_a_row(subjects: Sequence[Callable[..., Any]]) -> list[str]:
    """A sentence for everything that needs a row and has none, or has an option that no row tries."""
    tried: dict[Any, set[str]] = {}
    for row in ROWS.values():
        tried.setdefault(row.subject, set()).update(row.choices, row.options)
    missing = []
    for subject in subjects:
        needs = inspect.isclass(subject) and issubclass(subject, nn.Module)
        left = options(subject) - tried.get(subject, set()) if needs or options(subject) else set()
        left -= {"kernel_size"} if subject is m.ConvBN else set()  # a positional argument of its row
        left -= options(m.ConvBN) - {"kernel_size"} if subject is m.ConvBNReLU else set()  # its base class's
        left -= {"num_classes"} if subject in (m.Xception, m.Classifier) else set()  # positional, too
        if (needs or left) and subject not in tried:
            missing.append(f"{subject.__name__} has no row in tests/catalog.py: add one that makes it small")
        elif left:
            missing.append(f"{subject.__name__} has options that no row of tests/catalog.py tries: {', '.join(sorted(left))}")
    return missing
