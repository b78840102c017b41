"""`profile` agrees with other counters, allocates nothing, and leaves the model as it was."""

import copy
import tracemalloc
from fractions import Fraction

import pytest
import torch
import torchinfo
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from minideeplab import (
    Decoder,
    DeepLabV3,
    DeepLabV3Plus,
    InceptionV3,
    PyramidPooling,
    SeparableConv2d,
    Xception,
    resnet101,
    xception41,
    xception65,
    xception71,
)
from minideeplab.cost import compare, profile, tf_multiply_adds
from minideeplab.cost.trace import MACS

NETS = {
    "inception_v3": lambda: InceptionV3(),
    "xception": lambda: Xception(),
    "xception at 8": lambda: Xception(10, output_stride=8),
    "xception71": lambda: xception71(output_stride=8),
    "resnet101": lambda: resnet101(multi_grid=(1, 2, 4)),
    "deeplabv3": lambda: DeepLabV3(xception41(), 21),
    "deeplabv3plus": lambda: DeepLabV3Plus(xception65(), 21, separable=False),
    "pyramid": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), PyramidPooling(8)),
}


@pytest.fixture(scope="module", params=NETS)
def net(request):
    return NETS[request.param]().eval().to("meta")


def test_macs_are_half_of_the_flop_counters_flops(net):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(2, 3, 97, 81, device="meta"))
    assert 2 * profile(net, (2, 3, 97, 81)).macs == counter.get_total_flops()


def test_params_are_those_of_the_module(net):
    assert profile(net, (1, 3, 97, 81)).params == sum(p.numel() for p in net.parameters())


def test_torchinfo_differs_by_biases_and_batch_norms(net):
    """It charges every bias of a convolution once a pixel, and every weight and bias of anything else once an image."""
    extra = 0

    def note(module, _, y):
        nonlocal extra
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            extra += y.numel()
        if isinstance(module, nn.BatchNorm2d):
            extra += 2 * module.num_features * len(y)
        if isinstance(module, nn.Linear):
            extra += module.bias.numel() * len(y)

    hooks = [module.register_forward_hook(note) for module in net.modules()]
    net(torch.empty(2, 3, 97, 81, device="meta"))
    for hook in hooks:
        hook.remove()
    report, witness = profile(net, (2, 3, 97, 81)), torchinfo.summary(net, (2, 3, 97, 81), device="meta", verbose=0)
    assert witness.total_params == report.params
    assert witness.total_mult_adds - report.macs == extra > 0


def test_every_convolution_and_linear_layer_has_a_row_in_the_order_they_run():
    net, ran = Xception(10).eval(), []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, y, name=name: ran.append((name, tuple(y.shape))))
    net(torch.randn(2, 3, 71, 79))
    rows = [(row.name, row.shape) for row in profile(net, (2, 3, 71, 79)).rows if row.macs]
    assert rows == ran
    assert len(rows) == 2 + 34 * 2 + 4 + 1


def test_kinds():
    layers = {
        "dense": nn.Conv2d(8, 8, 3),
        "grouped": nn.Conv2d(8, 8, 3, groups=2),
        "depthwise": nn.Conv2d(8, 16, 3, groups=8),
        "pointwise": nn.Conv2d(16, 8, 1),
        "batch norm": nn.BatchNorm2d(8),
        "MaxPool2d": nn.MaxPool2d(2),
    }
    report = profile(nn.Sequential(*layers.values()), (1, 8, 20, 20))
    assert [row.kind for row in report.rows] == list(layers)
    assert profile(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), (1, 4)).rows[0].kind == "linear"
    assert sum(report.share(kind) for kind in layers) == 1
    assert report.share("dense") > report.share("grouped") > report.share("depthwise") > report.share("batch norm") == 0


def test_a_share_that_a_report_cannot_tell_is_refused():
    report = profile(nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))), (1, 8, 9, 9))
    assert report.share("pointwise") == Fraction(1, 10)
    with pytest.raises(ValueError, match="there is no kind 'pointwize': name depthwise"):
        report.share("pointwize")
    with pytest.raises(ValueError, match=r"^0 adds up layers of several kinds: ask the report before"):
        report.grouped(1).share("pointwise")  # not 0, as the rows would say
    with pytest.raises(ValueError, match="adds up layers"):
        compare({"grouped": report.grouped(1)})
    assert report.grouped(2).share("pointwise") == Fraction(1, 10)


def test_one_channel_of_one_is_no_depthwise_layer():
    class Own(nn.Module):
        """A kernel that is no layer of torch's."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.kernel, self.groups = nn.Parameter(torch.ones(2 * channels, 1, 3, 3)), channels

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.kernel, groups=self.groups)

    assert [profile(Own(channels), (1, channels, 5, 5)).rows[0].kind for channels in (1, 2)] == ["dense", "depthwise"]


def test_transposed_1_d_and_attention_products_are_counted_as_torch_counts_them():
    class Products(nn.Module):
        def forward(self, x):
            return torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)) @ torch.ones(2, 5, device=x.device)

    for module, shape in (
        (nn.ConvTranspose2d(3, 6, 3, 2, groups=3), (2, 3, 5, 7)),
        (nn.Conv1d(3, 6, 3, padding=1), (2, 3, 9)),
        (nn.Conv3d(3, 6, 3), (2, 3, 5, 5, 5)),
        (Products(), (4, 2, 3, 3)),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.randn(shape))
        assert 2 * profile(module, shape).macs == counter.get_total_flops() > 0
    assert profile(nn.Conv1d(3, 6, 5), (2, 3, 9)).receptive_field == 5


class Allocations(TorchDispatchMode):
    """Notes every tensor that an operation makes in real memory, copies of weights included."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.elements += sum(y.numel() for y in tree_leaves(result) if isinstance(y, torch.Tensor) and y.device.type != "meta")
        return result


def test_nothing_is_allocated():
    """The first feature map alone would take 320 GB."""
    net = DeepLabV3Plus(xception41(), 21)
    profile(net, (1, 3, 65, 65))  # torch imports its decompositions on first use
    tracemalloc.start()
    with Allocations() as allocations:
        report = profile(net, (1, 3, 100_001, 100_001))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert allocations.elements == 0
    assert peak < 20e6  # bytes of Python's own
    assert report.rows[0].shape == (1, 32, 50_001, 50_001)
    with Allocations() as allocations:
        copy.deepcopy(net)
    assert allocations.elements > 27e6  # the spy would have seen a copy


def test_a_model_on_no_device_at_all_is_counted_the_same():
    shape = (1, 3, 65, 65)
    with torch.device("meta"):
        ghost = xception41()
    assert profile(ghost, shape) == profile(xception41(), shape)


def test_the_model_is_left_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), SeparableConv2d(4, 4)).train()
    net[2].eval()
    net[0].weight.requires_grad_(False)
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append("hook"))
    net[3].register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    state, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()]
    pointers, random = [p.data_ptr() for p in net.parameters()], torch.get_rng_state()
    profile(net, (2, 3, 9, 9))
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()] == hooks
    assert [p.data_ptr() for p in net.parameters()] == pointers
    assert (net[0].weight.requires_grad, net[1].weight.requires_grad, net[0].weight.grad) == (False, True, None)
    assert torch.equal(torch.get_rng_state(), random)
    assert calls == []
    net(torch.randn(2, 3, 9, 9))
    assert calls == ["hook", "pre-hook"]


def test_mode_is_evaluation_whatever_the_models():
    """Image pooling refuses one image in training; `profile` may ask for one."""
    net = DeepLabV3Plus(xception41(width=1 / 64), 2, channels=4)
    assert profile(net.train(), (1, 3, 33, 33)) == profile(net.eval(), (1, 3, 33, 33))


def test_shared_layers_work_twice_and_are_owned_once():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    twice, once = profile(nn.Sequential(layer, layer), (1, 4, 5, 5)), profile(layer, (1, 4, 5, 5))
    assert (twice.macs, twice.params) == (2 * once.macs, once.params)
    assert [row.params for row in twice.rows] == [once.params, 0]
    tied = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    tied[1].weight = tied[0].weight
    assert profile(tied, (1, 4, 9, 9)).params == 4 * 4 * 9 + 4 + 4


def test_what_never_ran_is_said_to_have_not():
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    net[0].add_module("spare", nn.Linear(5, 7))
    rows = profile(net, (1, 3, 5, 5)).rows
    assert [(row.name, row.kind, row.params, row.macs) for row in rows[1:]] == [("0.spare", "never ran", 42, 0)]
    assert profile(net, (1, 3, 5, 5)).receptive_field == 1


def test_several_inputs():
    decoder = Decoder(6, 5, channels=8, low_channels=2)
    report = profile(decoder, (1, 6, 33, 33), (1, 5, 9, 9))
    assert report.inputs == ((1, 6, 33, 33), (1, 5, 9, 9))
    assert "1 x 6 x 33 x 33 and 1 x 5 x 9 x 9" in str(report)
    assert report.macs == 33 * 33 * (6 * 2 + 7 * 9 + 7 * 8 + 8 * 9 + 8 * 8)


def test_the_field_of_the_output_is_not_only_that_of_the_last_layer():
    class Upsampled(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Conv2d(1, 1, 3, stride=4, padding=1)

        def forward(self, x):
            return nn.functional.interpolate(self.look(x), size=x.shape[2:], mode="bilinear", align_corners=True)

    report = profile(Upsampled(), (1, 1, 33, 33))
    assert (report.rows[-1].receptive_field, report.receptive_field) == (3, 7)


def test_double_precision_and_plain_tensors_on_modules_are_no_obstacle():
    class Centered(nn.Conv2d):
        def forward(self, x):
            return super().forward(x - self.mean)

    centered = Centered(3, 4, 3).double()
    centered.mean = torch.zeros(3, 1, 1, dtype=torch.float64)  # neither parameter nor buffer
    assert profile(centered, (1, 3, 5, 5)).macs == 9 * 3 * 4 * 9


def test_grouping_adds_up_and_keeps_what_comes_out():
    report = profile(Xception(), (1, 3, 299, 299))
    flows, blocks = report.grouped(), report.grouped(2)
    assert [row.name for row in flows.rows] == ["entry_flow", "middle_flow", "exit_flow", "classify"]
    assert (flows.params, flows.macs) == (blocks.params, blocks.macs) == (report.params, report.macs)
    assert [row.shape for row in flows.rows[:3]] == [(1, 728, 19, 19), (1, 728, 19, 19), (1, 2048, 10, 10)]
    assert len(blocks.rows) > len(flows.rows)
    assert [row.kind for row in flows.rows] == ["module", "module", "module", "linear"]


def test_text_markdown_and_html_carry_every_row_the_total_and_the_convention():
    report = profile(SeparableConv2d(8, 16), (1, 8, 5, 5))
    for form in (str(report), report.markdown(), report._repr_html_()):
        for word in ("depthwise", "pointwise", "72", "128", "1,800", "3,200", "200", "5,000", "MAC: one multiply-accumulate"):
            assert word in form
        assert "16 x 5 x 5" in form
    assert str(report).splitlines()[0].split() == ["layer", "kind", "output", "params", "MACs", "sees"]


def test_networks_side_by_side_with_ratios_to_the_first():
    reports = {
        name: profile(layer, (1, 8, 5, 5))
        for name, layer in (("dense", nn.Conv2d(8, 8, 3, 1, 1, bias=False)), ("separable", SeparableConv2d(8, 8)))
    }
    table = compare(reports)
    dense, separable = (dict(zip(table.header, row, strict=False)) for row in table.rows)
    assert [row[0] for row in table.rows] == ["dense", "separable"]
    assert [row[1:5] for row in table.rows] == [["576", "1.00", "14,400", "1.00"], ["136", "0.24", "3,400", "0.24"]]
    assert (dense["sees"], separable["sees"]) == ("3", "3")
    assert (separable["depthwise"], separable["pointwise"]) == ("52.9%", "47.1%")
    assert "multiply-accumulate" in table.caption


def test_shares_of_the_compared_add_up_whatever_the_kinds():
    nets = {
        "segments": nn.Conv2d(8, 8, 3, groups=4),
        "head": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    }
    table = compare({name: profile(net, (1, 8, 9, 9)) for name, net in nets.items()})
    kinds = table.header[5 : table.header.index("sees")]
    assert kinds == ["depthwise", "pointwise", "dense", "grouped", "linear"]
    assert [[float(cell.rstrip("%")) for cell in row[5:10]] for row in table.rows] == [[0, 0, 0, 100, 0], [0, 0, 0, 0, 100]]
    assert "depthwise, pointwise, dense, grouped, linear: shares of the MACs" in table.caption
    assert compare({"dense": profile(nn.Conv2d(8, 8, 3), (1, 8, 9, 9))}).header[5:9] == [
        "depthwise",
        "pointwise",
        "dense",
        "sees",
    ]


def test_a_table_says_what_its_words_mean_and_only_where_it_has_them():
    image, somewhere = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Conv2d(8, 8, 3), Rolled())
    for net, word, hint in ((image, "whole image", False), (somewhere, "unknown", True), (nn.Conv2d(8, 8, 3), "3", False)):
        report = profile(net, (1, 8, 9, 9))
        for table in (report.table(), compare({"one": report})):
            column = table.header.index("sees")
            assert word in [row[column] for row in table.rows]
            assert table.numeric()[column]
            assert ("unknown: behind an operation of which" in table.caption) == hint


class Rolled(nn.Module):
    def forward(self, x):
        return x.roll(1, 2)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


PRODUCTS = {
    "baddbmm": lambda x: torch.baddbmm(x.new_ones(3, 4, 4), x, x.transpose(1, 2)),
    "einsum": lambda x: torch.einsum("nij,nkj->nik", x, x),
    "attention": lambda x: nn.functional.scaled_dot_product_attention(x, x, x[..., :2]),
    "matmul": lambda x: x @ x.new_ones(6, 5),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_counted_as_torch_counts_them(name):
    function = PRODUCTS[name]
    with FlopCounterMode(display=False) as counter:
        function(torch.randn(3, 4, 6, device="meta"))
    assert 2 * profile(Function(function), (3, 4, 6)).macs == counter.get_total_flops() > 0


def test_products_that_torch_does_not_count_are_counted_by_hand():
    products = {
        3 * 4 * 6 * 4: lambda x: torch.addbmm(x.new_ones(4, 4), x, x.transpose(1, 2)),
        4 * 6: lambda x: torch.mv(x[0], x[0, 0]),
        4 * 5: lambda x: torch.addmv(x[0, :, 0], x[0, :, :5], x[0, 0, :5]),
        6: lambda x: torch.dot(x[0, 0], x[0, 1]),
    }
    for macs, function in products.items():
        assert profile(Function(function), (3, 4, 6)).macs == macs


@pytest.mark.parametrize("way", ["flash_attention_for_cpu", "flash_attention", "efficient_attention"])
def test_a_fused_attention_is_counted_as_its_two_products(way):
    query, key, value = torch.empty(2, 3, 5, 8), torch.empty(2, 3, 7, 8), torch.empty(2, 3, 7, 6)
    assert MACS[f"_scaled_dot_product_{way}"]([query, key, value], None) == ("linear", 2 * 3 * (5 * 8 * 7 + 5 * 7 * 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_number_format_are_counted_the_same(dtype):
    single, other = DeepLabV3(xception41(width=1 / 8), 5), DeepLabV3(xception41(width=1 / 8), 5).to(dtype)
    assert profile(other, (1, 3, 65, 65)).rows == profile(single, (1, 3, 65, 65)).rows
    assert tf_multiply_adds(other, 65) == tf_multiply_adds(single, 65)


@pytest.mark.parametrize("born_there", [False, True])
def test_inference_mode_changes_no_count(born_there):
    net = DeepLabV3Plus(xception41(width=1 / 16), 21)
    outside = profile(net, (1, 3, 65, 65)), tf_multiply_adds(net, 65)
    with torch.inference_mode():
        net = DeepLabV3Plus(xception41(width=1 / 16), 21) if born_there else net
        inside = profile(net, (1, 3, 65, 65)), tf_multiply_adds(net, 65)
    assert inside == outside
    assert inside[0].macs > 0
