"""What holds for every block and every network: the input is left alone, gradients are right, every option is heard."""

import copy
import inspect
from functools import cache

import pytest
import torch
from strategies import integers, scrambled
from torch import nn
from torch.func import functional_call

import minideeplab as m
from minideeplab import geometry
from minideeplab.blocks.inception import MeanPool2d
from minideeplab.cost import formulas
from minideeplab.geometry import Step

BLOCKS = {  # how to make it, and the shapes of what it takes
    "ConvBN": (lambda: m.ConvBN(2, 3, 3, stride=2), [(2, 2, 5, 4)]),
    "ConvBNReLU": (lambda: m.ConvBNReLU(2, 3, (1, 3), valid=True), [(2, 2, 5, 4)]),
    "SameMaxPool2d": (lambda: m.SameMaxPool2d(), [(2, 2, 5, 4)]),
    "SameMaxPool2d, dilated": (lambda: m.SameMaxPool2d(stride=1, dilation=2), [(2, 2, 5, 4)]),
    "MeanPool2d": (MeanPool2d, [(2, 2, 5, 4)]),
    "Inception35": (lambda: m.Inception35(2, 4), [(2, 2, 4, 3)]),
    "ReductionTo17": (lambda: m.ReductionTo17(2), [(2, 2, 5, 4)]),
    "Inception17": (lambda: m.Inception17(3, 2), [(2, 2, 4, 3)]),
    "ReductionTo8": (lambda: m.ReductionTo8(2), [(2, 2, 5, 4)]),
    "Inception8": (lambda: m.Inception8(2), [(2, 2, 4, 3)]),
    "SimplifiedInception": (lambda: m.SimplifiedInception(2, 6), [(2, 2, 5, 4)]),
    "SegmentedInception": (lambda: m.SegmentedInception(2, 6), [(2, 2, 5, 4)]),
    "ExtremeInception": (lambda: m.ExtremeInception(2, 6), [(2, 2, 5, 4)]),
    "SeparableConv2d": (lambda: m.SeparableConv2d(2, 3, stride=2), [(2, 2, 5, 4)]),
    "SeparableConvBN": (lambda: m.SeparableConvBN(2, 3, dilation=2, relu=True), [(2, 2, 5, 4)]),
    "XceptionBlock": (lambda: m.XceptionBlock(2, [2, 3], stride=2), [(2, 2, 5, 4)]),
    "XceptionBlock, identity": (lambda: m.XceptionBlock(2, [2, 2]), [(2, 2, 5, 4)]),
    "AlignedBlock": (lambda: m.AlignedBlock(2, [2, 3, 3], stride=2), [(2, 2, 5, 4)]),
    "AlignedBlock, identity": (lambda: m.AlignedBlock(2, [2, 2, 2]), [(2, 2, 5, 4)]),
    "ImagePooling": (lambda: m.ImagePooling(2, 3), [(2, 2, 5, 4)]),
    "ASPP": (lambda: m.ASPP(2, 3, rates=(1, 2)), [(2, 2, 5, 4)]),
    "Decoder": (lambda: m.Decoder(3, 2, channels=3, low_channels=2), [(2, 3, 7, 6), (2, 2, 3, 4)]),
    "PyramidPooling": (lambda: m.PyramidPooling(4, bins=(1, 2)), [(2, 4, 5, 4)]),
    "Bottleneck": (lambda: m.resnet101(width=1 / 32).stages[0][2], [(2, 8, 5, 4)]),
}
NETWORKS = {
    "InceptionV3": (m.InceptionV3, [(2, 3, 75, 75)]),
    "Xception": (lambda: m.Xception(10), [(2, 3, 39, 39)]),
    "xception71": (lambda: m.xception71(width=1 / 64), [(2, 3, 33, 30)]),
    "resnet101": (lambda: m.resnet101(width=1 / 64), [(2, 3, 33, 30)]),
    "DeepLabV3": (lambda: m.DeepLabV3(m.xception41(width=1 / 64), 3, channels=4), [(2, 3, 33, 30)]),
    "DeepLabV3Plus": (lambda: m.DeepLabV3Plus(m.resnet101(width=1 / 64), 3, channels=4), [(2, 3, 33, 30)]),
    "Classifier": (lambda: m.Classifier(m.xception41(width=1 / 64), 3), [(2, 3, 33, 30)]),
}


@pytest.mark.parametrize("name", BLOCKS | NETWORKS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_input_is_left_alone(name, mode):
    make, shapes = (BLOCKS | NETWORKS)[name]
    module, inputs = getattr(make(), mode)(), [torch.randn(shape) for shape in shapes]
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        module(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert [x._version for x in inputs] == [0] * len(inputs)  # not even written to with the same values


def test_an_in_place_relu_would_be_noticed():
    x = torch.ones(1, 1, 2, 2)
    nn.ReLU(inplace=True)(x)
    assert x._version > 0
    assert not any(getattr(part, "inplace", False) for make, _ in (BLOCKS | NETWORKS).values() for part in make().modules())


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_of_inputs_and_weights_are_those_of_finite_differences(name):
    make, shapes = BLOCKS[name]
    module = scrambled(make())
    names, weights = zip(*module.named_parameters(), strict=True) if list(module.parameters()) else ((), ())
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def answer(*values):
        return functional_call(module, dict(zip(names, values[len(inputs) :], strict=True)), values[: len(inputs)])

    assert torch.autograd.gradcheck(answer, (*inputs, *weights), fast_mode=True)


@pytest.mark.parametrize("name", BLOCKS | NETWORKS)
def test_an_image_is_answered_the_same_alone_as_among_others(name):
    make, shapes = (BLOCKS | NETWORKS)[name]
    module, inputs = scrambled(make()), [torch.randn(shape).double() for shape in shapes]
    with torch.no_grad():
        both, alone = module(*inputs), module(*(x[:1] for x in inputs))
    pairs = zip(both, alone, strict=True) if isinstance(both, m.Features) else [(both, alone)]
    for many, one in pairs:
        torch.testing.assert_close(many[:1], one)


@pytest.mark.parametrize("name", ["ASPP", "InceptionV3", "Xception", "Classifier"])
def test_dropout_is_not_thrown_away(name):
    make, shapes = (BLOCKS | NETWORKS)[name]
    module, x = scrambled(make()), torch.randn(shapes[0]).double()
    assert torch.equal(module(x), module(x))
    module.dropout.train()
    assert not torch.equal(module(x), module(x))


X, SMALL, LOW = (1, 6, 9, 9), (1, 3, 33, 33), (1, 6, 17, 17)
OPTIONS = {  # positional arguments, the shapes that a module is then run on, and another value for every option
    m.ConvBN: ((6, 4, 3), [X], {"stride": 2, "dilation": 2, "valid": True, "eps": 0.1}),
    m.ConvBNReLU: ((6, 4), [X], {"kernel_size": 5}),
    m.SameMaxPool2d: ((), [X], {"stride": 1, "dilation": 2}),
    m.SimplifiedInception: ((6, 6), [X], {"towers": 2, "kernel_size": 5}),
    m.SegmentedInception: ((6, 6), [X], {"segments": 2, "kernel_size": 5}),
    m.ExtremeInception: ((6, 6), [X], {"kernel_size": 5}),
    m.Inception17: ((4, 6), [X], {}),
    m.SeparableConv2d: ((6, 4), [X], {"kernel_size": 5, "stride": 2, "dilation": 2}),
    m.SeparableConvBN: ((6, 4), [X], {"kernel_size": 5, "stride": 2, "dilation": 2, "relu": True, "eps": 0.1}),
    m.ASPP: ((6,), [X], {"channels": 8, "rates": (1, 2), "separable": False}),
    m.Decoder: ((6, 6), [LOW, X], {"channels": 8, "low_channels": 2, "refine": 1, "separable": False}),
    m.PyramidPooling: ((6,), [X], {"bins": (1, 2)}),
    m.XceptionBlock: ((6, [6, 6]), [X], {"stride": 2, "step": Step(1, 2), "starts_with_relu": False}),
    m.AlignedBlock: ((6, [6, 6, 6]), [X], {"stride": 2, "step": Step(1, 2)}),
    m.AlignedXception: (([(128, 2), (256, 2), (728, 2)], 1), [SMALL], {"output_stride": 8, "width": 1 / 32}),
    m.xception41: ((), [SMALL], {"output_stride": 8, "width": 1 / 32}),
    m.xception65: ((), [SMALL], {"output_stride": 8, "width": 1 / 32}),
    m.xception71: ((), [SMALL], {"output_stride": 8, "width": 1 / 32}),
    m.ResNet: (([3, 1, 1, 3],), [SMALL], {"output_stride": 8, "multi_grid": (1, 2, 4), "width": 1 / 32}),
    m.resnet101: ((), [SMALL], {"output_stride": 8, "multi_grid": (1, 2, 4), "width": 1 / 32}),
    m.InceptionV3: ((), [(1, 3, 75, 75)], {"num_classes": 10}),
    m.Xception: ((), [(1, 3, 39, 39)], {"num_classes": 10, "output_stride": 16}),
    m.DeepLabV3: ((m.xception41(width=1 / 64), 3), [SMALL], {"rates": (1, 2), "channels": 8, "separable": False}),
    m.DeepLabV3Plus: (
        (m.xception41(width=1 / 64), 3),
        [SMALL],
        {"rates": (1, 2), "channels": 8, "low_channels": 2, "refine": 1, "separable": False},
    ),
    m.Classifier: ((m.xception41(width=1 / 64),), [SMALL], {"num_classes": 10}),
    m.conv2d_loops: ((integers(1, 2, 5, 5), integers(1, 2, 2, 2)), [], {"stride": 2, "padding": 1, "dilation": 2}),
    m.regroup: ((integers(4, 1, 1, 1), 4), [], {"fewer": 2}),
    m.mean_taps_inside: ((9, 2), [], {"kernel_size": 5}),
    m.pixels_touched: (((1, 2),), [], {"kernel_size": 5}),
    geometry.effective_kernel: ((3,), [], {"dilation": 2}),
    geometry.same_padding: ((3,), [], {"dilation": 2}),
    geometry.same_padding_before: ((9, 3), [], {"stride": 5, "dilation": 2}),
    geometry.output_size: ((9, 3), [], {"stride": 2, "dilation": 2, "padding": 1}),
    geometry.trade_strides: (([2, 2], 4), [], {"start": 2}),
    formulas.convolution: ((4, 4, 3, 5, 5), [], {"groups": 2}),
}
ELSEWHERE = {  # the base class or the subclass has it, or it stands among the positional arguments
    m.ConvBN: {"kernel_size"},
    m.ConvBNReLU: {"stride", "dilation", "valid", "eps"},
    m.Inception17: {"in_channels"},
}


def options(subject):
    parameters = inspect.signature(subject).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.default is not p.empty}


def test_every_option_of_the_library_is_in_the_table():
    ours = [f for module in (geometry, formulas) for f in vars(module).values() if inspect.isfunction(f)]
    functions = [f for f in ours if f.__module__.startswith("minideeplab")]
    public = [getattr(m, name) for name in m.__all__ if name != "Features"] + functions
    with_options = {subject: options(subject) for subject in public if options(subject)}
    assert {s: set(row[2]) | ELSEWHERE.get(s, set()) for s, row in OPTIONS.items()} == with_options


@cache
def fingerprint(subject, option=None):
    """Everything that a choice could change: the names and shapes of the weights, and the answer."""
    arguments, shapes, choices = OPTIONS[subject]
    chosen = {"width": 1 / 64} if "width" in choices else {}  # networks are thin here unless width itself is tried
    torch.manual_seed(0)
    made = subject(*copy.deepcopy(arguments), **(chosen | ({option: choices[option]} if option else {})))
    if not isinstance(made, nn.Module):
        return repr(made)
    torch.manual_seed(1)
    with torch.no_grad():
        answer = scrambled(made)(*(torch.randn(shape).double() for shape in shapes))
    return {name: value.shape for name, value in made.state_dict().items()}, repr(answer)


@pytest.mark.parametrize(
    ("subject", "option"),
    [(subject, option) for subject, (_, _, choices) in OPTIONS.items() for option in choices],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_option_changes_something(subject, option):
    assert fingerprint.__wrapped__(subject) == fingerprint(subject)  # the same twice, so that a difference means something
    assert fingerprint(subject, option) != fingerprint(subject)
