"""What is handed in wrong is refused where it is handed in: ValueError or TypeError that carry the number."""

import re
import traceback
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import minideeplab as m
from minideeplab import geometry
from minideeplab.cost import compare, formulas, profile

WRONG_COUNTS = st.one_of(st.integers(-9, 0), st.sampled_from([2.0, 1.5, "3", None, True]))


MAPS, KERNEL = torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 3, 3)
KERNEL_FUNCTIONS = [
    lambda weight: m.conv2d_loops(MAPS, weight),
    lambda weight: m.conv2d_on_sub_grids(MAPS, weight, 2),
    lambda weight: m.kernel_with_holes(weight, 2),
    lambda weight: m.regroup(weight, 2),
    m.separable_terms,
    m.separable_share,
]


def refusal(call) -> Exception:
    """The error a call ends in; it must be ours: raised in a file of the library and of a kind that callers can expect."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    raised_in = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert "minideeplab" in raised_in, f"{raised_in} raised {caught.value!r}"
    return caught.value


def assert_names(error: Exception, value: object) -> None:
    assert re.search(rf"(?<![\w.]){re.escape(repr(value))}(?![\w])", str(error)), f"{value!r} is not in {str(error)!r}"


COUNTS = {  # every whole number that somebody can pass
    "ConvBN in": lambda n: m.ConvBN(n, 4),
    "ConvBN out": lambda n: m.ConvBN(4, n),
    "ConvBN kernel": lambda n: m.ConvBN(4, 4, (n, n)),
    "ConvBN stride": lambda n: m.ConvBN(4, 4, 3, stride=n),
    "ConvBN dilation": lambda n: m.ConvBN(4, 4, 3, dilation=n),
    "ConvBN dilation, valid": lambda n: m.ConvBN(4, 4, 3, dilation=n, valid=True),
    "SameMaxPool2d stride": lambda n: m.SameMaxPool2d(stride=n),
    "SameMaxPool2d dilation": lambda n: m.SameMaxPool2d(dilation=n),
    "SeparableConv2d in": lambda n: m.SeparableConv2d(n, 4),
    "SeparableConv2d out": lambda n: m.SeparableConv2d(4, n),
    "SeparableConv2d kernel": lambda n: m.SeparableConv2d(4, 4, n),
    "SeparableConv2d stride": lambda n: m.SeparableConv2d(4, 4, stride=n),
    "SeparableConv2d dilation": lambda n: m.SeparableConv2d(4, 4, dilation=n),
    "SeparableConvBN out": lambda n: m.SeparableConvBN(4, n),
    "SimplifiedInception width": lambda n: m.SimplifiedInception(4, n),
    "SimplifiedInception towers": lambda n: m.SimplifiedInception(4, 6, towers=n),
    "SegmentedInception segments": lambda n: m.SegmentedInception(4, 6, segments=n),
    "ExtremeInception in": lambda n: m.ExtremeInception(n, 6),
    "ASPP in": lambda n: m.ASPP(n),
    "ASPP channels": lambda n: m.ASPP(4, n),
    "ASPP rate": lambda n: m.ASPP(4, 4, rates=(1, n)),
    "Decoder in": lambda n: m.Decoder(n, 4),
    "Decoder low": lambda n: m.Decoder(4, 4, low_channels=n),
    "Decoder refine": lambda n: m.Decoder(4, 4, refine=n),
    "PyramidPooling in": lambda n: m.PyramidPooling(n),
    "PyramidPooling bin": lambda n: m.PyramidPooling(8, bins=(1, n)),
    "XceptionBlock in": lambda n: m.XceptionBlock(n, [4]),
    "XceptionBlock width": lambda n: m.XceptionBlock(4, [4, n]),
    "XceptionBlock stride": lambda n: m.XceptionBlock(4, [4], stride=n),
    "AlignedBlock width": lambda n: m.AlignedBlock(4, [4, 4, n]),
    "Xception classes": lambda n: m.Xception(n),
    "Xception output stride": lambda n: m.Xception(10, output_stride=n),
    "InceptionV3 classes": lambda n: m.InceptionV3(n),
    "xception65 output stride": lambda n: m.xception65(output_stride=n, width=1 / 64),
    "resnet101 output stride": lambda n: m.resnet101(output_stride=n, width=1 / 64),
    "resnet101 grid": lambda n: m.resnet101(multi_grid=(1, n, 1), width=1 / 64),
    "DeepLabV3 classes": lambda n: m.DeepLabV3(backbone(), n),
    "DeepLabV3Plus refine": lambda n: m.DeepLabV3Plus(backbone(), 3, refine=n),
    "Inception35 pooled": lambda n: m.Inception35(4, n),
    "Inception17 width": lambda n: m.Inception17(n, 4),
    "ReductionTo17 in": lambda n: m.ReductionTo17(n),
    "UnpoolingDecoder width": lambda n: m.UnpoolingDecoder([4, n]),
    "AlignedXception middle": lambda n: m.AlignedXception([(128, 2), (256, 2), (728, 2)], n, width=1 / 64),
    "AlignedXception entry": lambda n: m.AlignedXception([(128, 2), (256, 2), (728, n)], 1, width=1 / 64),
    "ResNet units": lambda n: m.ResNet([3, n, 1, 3], width=1 / 64),
    "upsample": lambda n: m.upsample(torch.zeros(1, 1, 3, 3), (n, 5)),
    "holes": lambda n: m.kernel_with_holes(KERNEL, n),
    "sub-grids": lambda n: m.conv2d_on_sub_grids(MAPS, KERNEL, n),
    "loops stride": lambda n: m.conv2d_loops(MAPS, KERNEL, stride=n),
    "start": lambda n: geometry.trade_strides([2, 2], 4, start=n),
    "strides": lambda n: geometry.trade_strides([2, n], 4),
    "receptive field": lambda n: geometry.receptive_field([(3, 1, n)]),
    "default rates": lambda n: geometry.default_rates(n),
    "inception tower": lambda n: formulas.inception_tower(4, n, 4, 3, 8, 8),
    "depth of a report": lambda n: profile(nn.Identity(), (1, 3, 5, 5)).grouped(n),
    "taps rate": lambda n: m.mean_taps_inside(9, n),
    "ways rate": lambda n: m.pixels_touched((1, n)),
    "output size": lambda n: geometry.output_size(n, 3),
    "cost": lambda n: formulas.convolution(4, n, 3, 8, 8),
    "profile": lambda n: profile(nn.Identity(), (1, 3, n, 5)),
}


@cache
def backbone() -> nn.Module:
    return m.xception41(width=1 / 64)


@pytest.mark.parametrize("name", COUNTS)
@settings(max_examples=12)
@given(wrong=WRONG_COUNTS)
def test_bad_options_are_refused_with_the_number(name, wrong):
    assert_names(refusal(lambda: COUNTS[name](wrong)), wrong)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: m.SeparableConv2d(4, 4, 4), "odd kernel_size, got 4"),
        (lambda: m.ConvBN(4, 4, (3, 2)), "odd kernel_size, got 2"),
        (lambda: m.SimplifiedInception(4, 8, towers=3), "3 does not divide 8"),
        (lambda: m.SegmentedInception(4, 12, segments=5), r"5 does not divide 12, use one of \[1, 2, 3, 4, 6, 12\]"),
        (lambda: m.regroup(torch.zeros(4, 1, 1, 1), 4, fewer=3), "3 does not divide 4"),
        (lambda: m.ASPP(4, rates=()), r"got \(\)"),
        (lambda: m.ASPP(4, rates=(6, 6)), r"different.*\(6, 6\)"),
        (lambda: m.DeepLabV3(backbone(), 3, rates=()), r"got \(\)"),
        (lambda: m.PyramidPooling(8, bins=(2, 2)), r"\(2, 2\)"),
        (lambda: m.XceptionBlock(4, []), "widths is empty"),
        (lambda: m.pixels_touched([]), "rates is empty"),
        (
            lambda: m.xception65(output_stride=12, width=1 / 64),
            "12 cannot be reached: this network passes through 2, 4, 8, 16, 32",
        ),
        (lambda: m.resnet101(output_stride=2, width=1 / 64), "2 cannot be reached: this network passes through 4, 8, 16, 32"),
        (lambda: m.xception65(output_stride=2), "at least 4.*got 2"),
        (lambda: m.xception65(width=0.0), "width must be positive and finite, got 0.0"),
        (lambda: m.xception65(width=float("nan")), "width must be positive and finite, got nan"),
        (lambda: m.resnet101(width=-1.0), "width must be positive and finite, got -1.0"),
        (lambda: m.resnet101(multi_grid=(1, 2), width=1 / 64), r"3 units, got \(1, 2\)"),
        (lambda: m.DeepLabV3(nn.Identity(), 3), "Identity without"),
        (lambda: m.UnpoolingDecoder([4]), r"got \[4\]"),
        (lambda: m.resnet101(width=float("inf")), "width must be positive and finite, got inf"),
        (lambda: m.ConvBN(4, 4, eps=-1.0), "eps must be positive and finite, got -1.0"),
        (lambda: m.ConvBN(4, 4, (3, 3, 3)), r"\(rows, columns\), got \(3, 3, 3\)"),
        (lambda: m.AlignedBlock(4, [4, 5]), r"three separable convolutions, got \[4, 5\]"),
        (lambda: m.AlignedXception([], 1), r"728 channels at its end, got \[\]"),
        (lambda: m.AlignedXception([(256, 2), (728, 2)], 1), r"\(256, 2\) at stride 4.*got \[\(256, 2\), \(728, 2\)\]"),
        (lambda: m.ResNet([2, 1, 1, 3]), r"at least 3 .*got \[2, 1, 1, 3\]"),
        (lambda: m.upsample(MAPS, (5, 5, 5)), r"\(height, width\), got \(5, 5, 5\)"),
        (lambda: m.PyramidPooling(2, bins=(1, 2, 3)), r"at most in_channels = 2, got \(1, 2, 3\)"),
        (lambda: m.separable_share(KERNEL), r"\(1, 2, 3, 3\) of zeros has no weight"),
        (lambda: m.separable_terms(KERNEL / 0), "0 of 18 finite"),
        (lambda: m.separable_terms(KERNEL.long()), "floating-point numbers, got torch.int64"),
        (lambda: m.pool_and_remember(torch.zeros(1, 2, 1, 5)), r"at least 2 x 2, got \(1, 2, 1, 5\)"),
        (lambda: m.UnpoolingDecoder([2, 2])(MAPS, []), "1 steps up need as many pooled maps, got 0"),
        (lambda: m.UnpoolingDecoder([2, 2])(MAPS, [m.pool_and_remember(MAPS)]), r"\(1, 2, 2, 2\).*\(1, 2, 5, 5\)"),
        (lambda: geometry.receptive_field([(3, 1)]), r"layers\[0\] needs .*got \(3, 1\)"),
        (lambda: profile(nn.LazyConv2d(3, 3), (1, 3, 5, 5)), r"LazyConv2d cannot run on \(1, 3, 5, 5\)"),
        (lambda: profile(nn.Conv2d(3, 3, 3), (1, 3, 10**12, 10**12)), "Conv2d cannot run on .*1000000000000"),
        (lambda: compare({}), "at least one report, got none"),
        (lambda: profile(nn.Identity()), "needs the shape"),
        (lambda: profile("net", (1, 3, 5, 5)), "got str"),
        (lambda: profile(nn.Conv2d(4, 4, 3), (1, 3, 5, 5)), r"Conv2d cannot run on \(1, 3, 5, 5\)"),
        (lambda: geometry.output_size(4, 3, dilation=2), "spans 5 pixels does not fit into 4"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_what_would(call, says):
    assert re.search(says, str(refusal(call)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: m.ConvBN(4, 4, "3"), "kernel_size must be a sequence of integers, got '3'"),
        (lambda: m.ASPP(4, 4, rates=6), "rates must be a sequence of integers, got 6"),
        (lambda: m.ASPP(4, 4, rates="612"), "rates must be a sequence of integers, got '612'"),
        (lambda: m.PyramidPooling(4, bins=2), "bins must be a sequence of integers, got 2"),
        (lambda: m.XceptionBlock(4, 4), "widths must be a sequence of integers, got 4"),
        (lambda: m.XceptionBlock(4, [4], step=(2, 1)), "step must be of type Step, got tuple"),
        (lambda: m.AlignedBlock(4, [4, 4, 4], step=(2, 1)), "step must be of type Step, got tuple"),
        (lambda: m.xception65(width="1"), "width must be a number, got '1'"),
        (lambda: m.resnet101(multi_grid=2), "multi_grid must be a sequence of integers, got 2"),
        (lambda: m.DeepLabV3(m.xception41, 3), "got function without"),
        (lambda: m.DeepLabV3Plus(None, 3), "got NoneType without"),
        (lambda: m.UnpoolingDecoder([2, 2])(MAPS, [None]), r"pooled\[0\] must be of type Pooled, got NoneType"),
        (lambda: m.upsample(MAPS, 5), "size must be a sequence of integers, got 5"),
        (lambda: m.dense_kernel(nn.Conv2d(3, 3, 3)), "of type SeparableConv2d, got Conv2d"),
        (lambda: m.segmented_from_towers(m.SegmentedInception(3, 6)), "of type SimplifiedInception, got SegmentedInception"),
        (lambda: m.towers_from_segmented(m.SimplifiedInception(3, 6)), "of type SegmentedInception, got SimplifiedInception"),
        (lambda: m.extreme_from_segmented(nn.Identity()), "of type SegmentedInception, got Identity"),
        (lambda: m.conv2d_loops(MAPS, KERNEL.double()), "torch.float32 and torch.float64"),
        (lambda: geometry.output_size(5, 3, padding=1.5), "padding must be an integer, got 1.5"),
        (lambda: profile(nn.Identity(), 513), r"\(1, 3, 513, 513\), got 513"),
        (lambda: compare([profile(nn.Identity(), (1, 3, 5, 5))]), "of type Mapping, got list"),
        (lambda: compare({"a": 1}), r"reports\['a'\] must be of type Report, got int"),
        *((lambda f=f: f([[1.0]]), r"kernel \(C_out, C_in, k_h, k_w\), got list") for f in KERNEL_FUNCTIONS),
    ],
)
def test_what_is_of_the_wrong_kind_is_a_type_error(call, says):
    error = refusal(call)
    assert isinstance(error, TypeError)
    assert re.search(says, str(error))


@pytest.mark.parametrize("function", KERNEL_FUNCTIONS)
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3), (0, 2, 3, 3), (1, 2, 3, 3, 3)])
def test_what_has_not_the_axes_of_a_kernel_is_none(function, shape):
    assert str(shape) in str(refusal(lambda: function(torch.zeros(shape))))


NETS = {
    "ConvBN": lambda: m.ConvBN(3, 4, 3),
    "SeparableConv2d": lambda: m.SeparableConv2d(3, 4),
    "SegmentedInception": lambda: m.SegmentedInception(3, 6),
    "ASPP": lambda: m.ASPP(3, 4),
    "XceptionBlock": lambda: m.XceptionBlock(3, [4]),
    "PyramidPooling": lambda: m.PyramidPooling(3, bins=(2, 3)),
    "DeepLabV3Plus": lambda: m.DeepLabV3Plus(m.xception41(width=1 / 64), 3, channels=4),
    "resnet101": lambda: m.resnet101(width=1 / 64),
    "Xception": lambda: m.Xception(2),
    "InceptionV3": lambda: m.InceptionV3(2),
}
made = cache(lambda name: NETS[name]().eval())


@st.composite
def bad_images(draw: st.DrawFn) -> torch.Tensor:
    """Of a wrong rank, of wrong channels, with the channels last, of whole numbers, complex, or empty."""
    n, h, w = draw(st.integers(1, 2)), draw(st.integers(75, 80)), draw(st.integers(75, 80))
    kind = draw(st.sampled_from(["rank", "channels", "last", "integer", "complex", "empty"]))
    if kind == "rank":
        return torch.zeros(draw(st.sampled_from([(3, h, w), (h, w), (n, 3, h, w, 1)])))
    if kind == "channels":
        return torch.zeros(n, draw(st.sampled_from([1, 2, 4, 6])), h, w)
    if kind == "last":
        return torch.zeros(n, h, w, 3)
    if kind == "empty":
        return torch.zeros(draw(st.sampled_from([(0, 3, h, w), (n, 3, 0, w), (n, 3, h, 0)])))
    types = [torch.complex64] if kind == "complex" else [torch.uint8, torch.int64, torch.bool]
    return torch.zeros(n, 3, h, w, dtype=draw(st.sampled_from(types)))


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=25)
@given(image=bad_images())
def test_bad_images_are_refused_before_anything_is_computed(name, image):
    with torch.no_grad():
        error = refusal(lambda: made(name)(image))
    assert str(image.dtype) in str(error) or str(tuple(image.shape)) in str(error)


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (torch.zeros(3, 80, 80), r"x\[None\]"),
        (torch.zeros(1, 80, 80, 3), "permute"),
        (torch.zeros(1, 3, 80, 80, dtype=torch.uint8), "127.5"),
    ],
)
def test_the_most_likely_mistakes_are_told_what_to_do(image, hint):
    assert re.search(hint, str(refusal(lambda: made("DeepLabV3Plus")(image))))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("name", ["Xception", "InceptionV3", "DeepLabV3Plus", "resnet101"])
def test_an_image_in_another_number_format_than_the_weights_is_refused(name, dtype):
    error = str(refusal(lambda: made(name)(torch.zeros(1, 3, 80, 80, dtype=dtype))))
    assert f"the image is {dtype} and the network torch.float32" in error


def test_autocast_mixes_formats_on_purpose():
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert made("resnet101")(torch.zeros(1, 3, 33, 33, dtype=torch.bfloat16)).high.isfinite().all()


@pytest.mark.parametrize("not_a_tensor", [None, [[1.0]], "cat.png"])
def test_what_is_no_tensor_is_refused(not_a_tensor):
    assert type(not_a_tensor).__name__ in str(refusal(lambda: made("Xception")(not_a_tensor)))


@given(height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=30)
def test_a_classifier_states_its_smallest_image(height, width):
    for name, least in (("InceptionV3", 75), ("Xception", 7)):
        if min(height, width) < least:
            assert f"{least} x {least}" in str(refusal(lambda name=name: made(name)(torch.zeros(1, 3, height, width))))


@pytest.mark.parametrize("net", [m.ASPP(4, 4), m.PyramidPooling(4, bins=(1, 2)), m.ImagePooling(4, 4)])
def test_one_image_in_training_through_image_pooling_says_what_to_do(net):
    error = str(refusal(lambda: net.train()(torch.zeros(1, 4, 5, 5))))
    assert "at least 2" in error
    assert ".eval()" in error
    assert net.eval()(torch.zeros(1, 4, 5, 5)).shape[0] == 1


@given(low=st.integers(1, 3), high=st.integers(1, 3))
def test_maps_of_different_images_are_not_joined(low, high):
    call = lambda: m.Decoder(3, 4, channels=4)(torch.zeros(low, 3, 8, 8), torch.zeros(high, 4, 4, 4))  # noqa: E731
    if low != high:
        assert f"got {low} and {high}" in str(refusal(call))


@pytest.mark.parametrize(
    ("options", "says"), [({"padding": -1}, "-1"), ({"stride": 0}, "stride"), ({"dilation": 0}, "dilation")]
)
def test_loops_refuse_what_the_definition_has_no_meaning_for(options, says):
    assert says in str(refusal(lambda: m.conv2d_loops(torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 3, 3), **options)))
