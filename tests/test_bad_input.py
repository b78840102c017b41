"""What is handed in wrong is refused where it is handed in: ValueError or TypeError that carry the number."""

import inspect
import re
import traceback
from functools import cache
from time import perf_counter

import pytest
import torch
from catalog import BLOCKS, NETWORKS, ROWS, Row, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import minideeplab as m
from minideeplab import geometry, image
from minideeplab.cost import compare, profile

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


def wrong_values(row: Row) -> list[tuple[str, object]]:
    """(parameter, a value of the right shape in which one whole number is `WRONG`) for every number that can be passed."""
    given = dict(zip(parameters(row.subject), row.arguments, strict=False)) | row.options
    given |= {name: p.default for name, p in parameters(row.subject).items() if p.default is not p.empty and name not in given}
    found = []
    for name, value in given.items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            found.append((name, lambda wrong: wrong))
        elif isinstance(value, tuple | list) and value and all(isinstance(x, int) for x in value):
            found.append((name, lambda wrong, value=value: [*value[:-1], wrong]))
    return found


NUMBERS = [(key, name, put) for key, row in ROWS.items() for name, put in wrong_values(row)]
NUMBERS += [(key, "rates", lambda wrong: (1, wrong)) for key in ("DeepLabV3", "DeepLabV3Plus")]
FLAGS = [
    (key, name) for key, row in ROWS.items() for name, p in parameters(row.subject).items() if p.annotation in (bool, "bool")
]
COUNTS = {  # what is not an argument of something in the catalog
    "entry flow": lambda n: m.AlignedXception([(128, 2), (256, 2), (728, n)], 1, width=1 / 64),
    "strides": lambda n: geometry.trade_strides([2, n], 4),
    "a step's stride": lambda n: m.XceptionBlock(4, [4], stride=geometry.Step(n)),
    "a step's dilation": lambda n: m.AlignedBlock(4, [4, 4, 4], stride=geometry.Step(2, True, n)),
    "a row of a walk": lambda n: geometry.StrideWalk(4)(n),
    "receptive field": lambda n: geometry.receptive_field([(3, 1, n)]),
    "depth of a report": lambda n: profile(nn.Identity(), (1, 3, 5, 5)).grouped(n),
    "profile": lambda n: profile(nn.Identity(), (1, 3, n, 5)),
    "grid": lambda n: image.on_grid(n),
}


def call_with(key: str, name: str, value: object) -> object:
    """What the row's subject answers with another value for this parameter."""
    row = ROWS[key]
    names = list(parameters(row.subject))
    arguments = {n: value if n == name else x for n, x in zip(names, row.arguments, strict=False)}
    options = {n: x for n, x in row.options.items() if n != name} | ({} if name in arguments else {name: value})
    return row.subject(*arguments.values(), **options)


@pytest.mark.parametrize(("key", "name", "put"), NUMBERS, ids=lambda value: value if isinstance(value, str) else "")
@settings(max_examples=6)
@given(wrong=WRONG_COUNTS)
def test_every_whole_number_that_is_none_is_refused_with_the_number(key, name, put, wrong):
    assert_names(refusal(lambda: call_with(key, name, put(wrong))), wrong)


@pytest.mark.parametrize(("key", "name"), FLAGS)
@pytest.mark.parametrize("wrong", ["no", 0, None])
def test_what_is_no_bool_is_not_taken_for_true(key, name, wrong):
    assert_names(refusal(lambda: call_with(key, name, wrong)), wrong)


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
        (lambda: m.SegmentedInception(4, 12, segments=5), r"5 does not divide 12, use one of 1, 2, 3, 4, 6, 12"),
        (lambda: m.regroup(torch.zeros(4, 1, 1, 1), 4, fewer=3), "3 does not divide 4"),
        (lambda: m.ASPP(4, rates=(6, 6)), r"different.*\(6, 6\)"),
        (lambda: m.PyramidPooling(8, bins=(2, 2)), r"\(2, 2\)"),
        (lambda: m.XceptionBlock(4, []), "widths is empty"),
        (lambda: m.pixels_touched([]), "rates is empty"),
        (
            lambda: m.xception65(output_stride=12, width=1 / 64),
            "12 cannot be reached: this network passes through 2, 4, 8, 16, ...",
        ),
        (lambda: m.resnet101(output_stride=2, width=1 / 64), "2 cannot be reached: this network passes through 4, ..."),
        (lambda: m.xception65(output_stride=2), "at least 4.*got 2"),
        (lambda: m.xception65(width=0.0), "width must be positive and finite, got 0.0"),
        (lambda: m.xception65(width=float("nan")), "width must be positive and finite, got nan"),
        (lambda: m.resnet101(width=-1.0), "width must be positive and finite, got -1.0"),
        (lambda: m.resnet101(multi_grid=(1, 2), width=1 / 64), r"3 units, got \(1, 2\)"),
        (lambda: m.DeepLabV3(nn.Identity(), 3), "Identity without"),
        (lambda: m.UnpoolingDecoder([4]), r"got \[4\]"),
        (lambda: m.Segmenter(nn.Identity(), m.UNetHead(backbone()), 3), r"Identity without .*'channels', 'pyramid'"),
        (lambda: m.UNetHead(nn.Identity()), "Identity without"),
        (lambda: m.Segmenter(backbone(), nn.Identity(), 3), r"head\.channels must be an integer, got None"),
        (lambda: m.Segmenter(backbone(), m.UNetHead, 3), "head must be of type Module, got type"),
        (lambda: m.FCNHead(backbone(), maps=5), "at most 4, as many as the backbone has, got 5"),
        (lambda: m.resnet101(width=float("inf")), "width must be positive and finite, got inf"),
        (lambda: m.ConvBN(4, 4, eps=-1.0), "eps must be positive and finite, got -1.0"),
        (lambda: m.ConvBN(4, 4, (3, 3, 3)), r"\(rows, columns\), got \(3, 3, 3\)"),
        (lambda: m.AlignedBlock(4, [4, 5]), r"three separable convolutions, got \[4, 5\]"),
        (lambda: m.AlignedXception([], 1), r"728 channels at its end, got \[\]"),
        (lambda: m.AlignedXception([(256, 2), (728, 2)], 1), r"\(256, 2\) at stride 4.*got \[\(256, 2\), \(728, 2\)\]"),
        (lambda: m.ResNet([2, 1, 1, 3]), r"at least 3 .*got \[2, 1, 1, 3\]"),
        (lambda: m.PyramidPooling(2, bins=(1, 2, 3)), r"at most in_channels = 2, got \(1, 2, 3\)"),
        (lambda: m.separable_share(KERNEL), r"\(1, 2, 3, 3\) of zeros has no weight"),
        (lambda: m.separable_terms(KERNEL / 0), "0 of 18 finite"),
        (lambda: m.separable_terms(KERNEL.long()), "floating-point numbers, got torch.int64"),
        (lambda: m.pool_and_remember(torch.zeros(1, 2, 1, 5)), r"at least 2 x 2, got \(1, 2, 1, 5\)"),
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
        (lambda: m.XceptionBlock(4, [4], stride=(2, 1)), r"stride must be an integer, got \(2, 1\)"),
        (lambda: m.XceptionBlock(4, [4], stride=geometry.Step(2, "no")), "stride.traded must be of type bool, got str"),
        (lambda: m.ASPP(4, 4, rates=b"\x06\x0c"), "rates must be a sequence of integers, got b"),
        (lambda: m.AlignedXception([(128, 2), (256, 2), (728, "2")], 1), r"entry_flow\[2\]\[1\] must be an integer, got '2'"),
        (lambda: m.xception65(width="1"), "width must be a number, got '1'"),
        (lambda: m.resnet101(multi_grid=2), "multi_grid must be a sequence of integers, got 2"),
        (lambda: m.DeepLabV3(m.xception41, 3), "got function without"),
        (lambda: m.DeepLabV3Plus(None, 3), "got NoneType without"),
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


made = cache(lambda name: NETWORKS[name].make().eval())


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


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=15)
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


def test_a_block_checks_nothing_and_leaves_a_wrong_map_to_torch():
    """The boundary: constructors, free functions and a network's forward. Torch says it well enough."""
    for block, wrong in ((m.ConvBN(3, 4, 3), torch.zeros(1, 2, 5, 5)), (m.SeparableConv2d(3, 4), torch.zeros(1, 4, 5, 5))):
        with pytest.raises(RuntimeError, match=r"to have 3 channels"):
            block(wrong)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        m.Decoder(3, 4, channels=4)(torch.zeros(2, 3, 8, 8), torch.zeros(1, 4, 4, 4))
    forwards = [inspect.getsource(row.subject.forward) for row in BLOCKS.values()]
    exceptions = [source for source in forwards if "check_" in source or "require_" in source or "raise " in source]
    assert {"check_batch" in source for source in exceptions} == {True}  # which torch would blame on batch norm
    assert any("check_image" in inspect.getsource(row.subject) for row in NETWORKS.values())


def test_listing_the_divisors_for_an_error_message_takes_no_time():
    start = perf_counter()
    assert "use one of 1, 2, 4, 5" in str(refusal(lambda: m.SegmentedInception(1, 10**9, segments=3)))
    assert perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("options", "says"), [({"padding": -1}, "-1"), ({"stride": 0}, "stride"), ({"dilation": 0}, "dilation")]
)
def test_loops_refuse_what_the_definition_has_no_meaning_for(options, says):
    assert says in str(refusal(lambda: m.conv2d_loops(torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 3, 3), **options)))
