"""The fast path: the same answers, the model left alone, and every trick against a witness that is not ours."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from strategies import scrambled
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode

import minideeplab as m
from minideeplab.inference import FastConv2d, optimize_for_inference, predict

NETWORKS = {  # every architecture, every output stride, even and odd sizes, square and not
    "Xception": (lambda: m.Xception(10), (2, 3, 75, 98)),
    "Xception at 16": (lambda: m.Xception(10, output_stride=16), (1, 3, 71, 71)),
    "InceptionV3": (lambda: m.InceptionV3(10), (1, 3, 75, 80)),
    "xception41": (lambda: m.xception41(width=1 / 16), (1, 3, 33, 50)),
    "xception71 at 8": (lambda: m.DeepLabV3Plus(m.xception71(width=1 / 16, output_stride=8), 21, channels=16), (1, 3, 96, 65)),
    "resnet101, dense": (
        lambda: m.DeepLabV3(m.resnet101(width=1 / 16, multi_grid=(1, 2, 4)), 21, channels=16, separable=False),
        (1, 3, 65, 64),
    ),
    "xception65 at 32": (
        lambda: m.DeepLabV3Plus(m.xception65(width=1 / 16, output_stride=32), 21, channels=16),
        (2, 3, 64, 97),
    ),
    "Classifier": (lambda: m.Classifier(m.xception41(width=1 / 16), 10), (2, 3, 64, 64)),
    "PyramidPooling": (lambda: m.PyramidPooling(8), (1, 8, 12, 13)),
}


def floats(net: nn.Module) -> nn.Module:
    """With batch norms that do something, in evaluation mode and single precision."""
    torch.manual_seed(0)
    return scrambled(net).float().eval()


def assert_same_answer(fast, slow, bound=1e-4):
    pairs = zip(fast, slow, strict=True) if isinstance(slow, tuple) else [(fast, slow)]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ((ours - theirs).abs().max() / theirs.std()).item() < bound


@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_is_the_same_and_the_model_is_left_alone(name):
    make, shape = NETWORKS[name]
    net, x = floats(make()), torch.rand(shape) * 2 - 1
    before = copy.deepcopy(net.state_dict())
    fast = optimize_for_inference(net)
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
        smaller = x[..., :-1] if min(shape[2:]) > 75 or "Inc" not in name else x
        assert_same_answer(fast(smaller), net(smaller))  # another size: nothing was cut to the first one
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert "native_batch_norm" in operations(net, x)
    assert "native_batch_norm" not in operations(fast, x)


def operations(net: nn.Module, x: torch.Tensor) -> set[str]:
    """The names of everything that runs."""
    seen = set()

    class See(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), See():
        net(x)
    return seen


@pytest.mark.parametrize("name", NETWORKS)
def test_in_double_precision_the_edited_graph_is_the_same_function(name):
    make, shape = NETWORKS[name]
    net, x = floats(make()).double(), torch.rand(shape, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        assert_same_answer(optimize_for_inference(net)(x), net(x), bound=1e-10)


@pytest.mark.parametrize("wrong", ["eps", "running_var"])
def test_in_double_precision_a_slightly_wrong_fold_is_seen(wrong, monkeypatch):
    net, x = floats(m.ConvBN(3, 8, 3)).double(), torch.rand(1, 3, 9, 9, dtype=torch.float64)
    fold = FastConv2d.fold

    def slightly_wrong(self, bn):
        bn = copy.deepcopy(bn)
        setattr(bn, wrong, getattr(bn, wrong) * (1 + 1e-5))
        fold(self, bn)

    monkeypatch.setattr(FastConv2d, "fold", slightly_wrong)
    with pytest.raises(AssertionError):
        assert_same_answer(optimize_for_inference(net)(x), net(x), bound=1e-10)


def test_without_the_fold_the_answer_is_another():
    net, x = floats(m.ConvBN(3, 8, 3)), torch.rand(1, 3, 9, 9)
    bare = copy.deepcopy(net)
    bare.bn = nn.Identity()
    with pytest.raises(AssertionError):
        assert_same_answer(optimize_for_inference(bare)(x), net(x))


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_is_what_torchs_own_fusion_does(groups, bias):
    conv, bn = nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=groups, bias=bias), nn.BatchNorm2d(16, eps=1e-3)
    floats(nn.Sequential(conv, bn))
    theirs, ours = fuse_conv_bn_eval(conv, bn), FastConv2d(conv)
    with torch.no_grad():
        ours.fold(bn)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("rate", [1, 4, 6, 8, 12, 36])
def test_wide_rates_padded_by_hand_read_the_same_zeros(rate):
    net, x = floats(m.SeparableConv2d(8, 4, dilation=rate)), torch.randn(1, 8, 33, 20)
    with torch.no_grad():
        assert_same_answer(optimize_for_inference(net)(x), net(x))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="built without oneDNN")
def test_only_wide_paddings_are_made_by_hand():
    x = torch.randn(1, 8, 33, 20)
    seen = {rate: operations(optimize_for_inference(m.SeparableConv2d(8, 4, dilation=rate)), x) for rate in (4, 6)}
    assert "constant_pad_nd" not in seen[4]
    assert "constant_pad_nd" in seen[6]
    assert all("_convolution_pointwise" in names and "convolution" not in names for names in seen.values())


def test_relu_moves_into_the_convolution_and_nowhere_else():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(1, 3, 33, 33)
    fast = optimize_for_inference(net)
    inside = sum(conv.relu for conv in fast.modules() if isinstance(conv, FastConv2d))
    blocks = [block for block in net.modules() if isinstance(block, m.AlignedBlock)]
    # Root 2, last module 6, ASPP 5 + 3 + 1, decoder 1 + 4, and in each module the second and third ReLU: its first reads what
    # the shortcut reads too, and the third of the tapped module what the decoder reads.
    assert inside == 2 + 6 + 9 + 5 + 2 * len(blocks) - 1
    assert_same_answer(fast(x), net(x))


# ---- networks that are not ours: never wrong, whatever their forward does


class Written(nn.Module):
    """A convolution, its batch norm, and a forward that a test writes."""

    def __init__(self, forward, **parts: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn, self.written = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.written(self, x)


def second_batch_norm(net, x):
    return net.bn(net.conv(x)) + net.second(net.conv(x))


def read_twice(net, x):
    y = net.conv(x)
    return net.bn(y) + y


def in_place_behind_a_shortcut(net, x):
    y = net.bn(net.conv(x))
    shortcut = y * 2
    return net.relu(y) + shortcut + y  # `y` is rectified by now


def of_another_kind(net, x):
    return net.bn(net.conv(x)) if isinstance(x, torch.Tensor) else x[0]


def by_value(net, x):
    return net.bn(net.conv(x)) if x.mean() > 0 else net.conv(x)


def by_size(net, x):
    return net.bn(net.conv(x)) if x.shape[3] > 6 else net.conv(x)


ODD = {
    "one convolution, two batch norms": Written(second_batch_norm, second=nn.BatchNorm2d(3)),
    "the convolution is read as well": Written(read_twice),
    "a ReLU in place, behind a shortcut": Written(in_place_behind_a_shortcut, relu=nn.ReLU(inplace=True)),
    "a ReLU in place": Written(lambda net, x: net.relu(net.bn(net.conv(x))), relu=nn.ReLU(inplace=True)),
    "ReLU as a method": Written(lambda net, x: net.bn(net.conv(x)).relu_()),
    "a path by type": Written(of_another_kind),
    "a path by value": Written(by_value),
    "a path by size": Written(by_size),
    "batch norm in front": Written(lambda net, x: net.conv(F.relu(net.bn(x)))),
    "batch norm of the batch": Written(
        lambda net, x: net.batch(net.conv(x)), batch=nn.BatchNorm2d(3, track_running_stats=False)
    ),
    "batch norm without gamma": Written(lambda net, x: net.plain(net.conv(x)), plain=nn.BatchNorm2d(3, affine=False)),
    "padding in words": Written(lambda net, x: net.bn(net.same(x)), same=nn.Conv2d(3, 3, 2, padding="same")),
    "padding by reflection": Written(
        lambda net, x: net.bn(net.mirror(x)), mirror=nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
    ),
    "a part asked for its weights": Written(
        lambda net, x: (net.part(x) + net.part[0].weight.sum()) if x.mean() > 0 else net.part[:1](x),
        part=nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
    ),
    "no batch norm": Written(lambda net, x: net.conv(x)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", ODD)
def test_foreign_networks_keep_their_answers(name):
    net = floats(ODD[name])
    fast = optimize_for_inference(net)
    for x in (torch.rand(2, 3, 5, 7), -torch.rand(1, 3, 6, 6)):
        with torch.no_grad():
            assert_same_answer(fast(x.clone()), net(x.clone()))


@pytest.mark.parametrize("name", ["one convolution, two batch norms", "batch norm without gamma", "a ReLU in place"])
def test_what_can_be_folded_is(name):
    assert "native_batch_norm" not in operations(optimize_for_inference(floats(ODD[name])), torch.rand(1, 3, 5, 5))


@pytest.mark.parametrize("name", ["the convolution is read as well", "batch norm in front", "batch norm of the batch"])
def test_what_cannot_be_folded_is_not(name):
    assert "native_batch_norm" in operations(optimize_for_inference(floats(ODD[name])), torch.rand(1, 3, 5, 5))


def test_an_argument_that_may_be_missing_may_be_missing():
    class Masked(Written):
        def forward(self, x, mask=None):
            return super().forward(x) if mask is None else super().forward(x) * mask

    net, x, mask = floats(Masked(lambda net, x: net.bn(net.conv(x)))), torch.rand(1, 3, 7, 7), torch.rand(7, 7)
    fast = optimize_for_inference(net)
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
        assert_same_answer(fast(x, mask), net(x, mask))


def test_what_an_opaque_module_reads_first_can_be_read_again():
    def by_value(net, maps):
        return net.bn(net.conv(maps)) if maps.mean() > 0 else maps

    def forward(net, x):
        features = net.backbone(x)
        return net.moody(features.high) + features.high

    class Backbone(Written):
        def forward(self, x):
            return m.Features(x, by_value(self, x))

    net, x = floats(Written(forward, backbone=Backbone(None), moody=Written(by_value))), torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        assert_same_answer(optimize_for_inference(net)(x), net(x))


def test_a_random_tensor_is_drawn_in_every_call():
    fast = optimize_for_inference(floats(Written(lambda net, x: net.bn(net.conv(x)) + torch.rand(1))))
    x = torch.rand(1, 3, 5, 5)
    assert not torch.equal(fast(x), fast(x))


def test_hooks_see_and_carry_what_they_did_before():
    seen = []

    def forward(net, x):
        net.part(x)
        return seen[-1] * 2  # what a hook put aside, as timm's feature extractors do

    net, x = floats(Written(forward, part=m.ConvBNReLU(3, 4, 3))), torch.rand(1, 3, 7, 7)
    net.part.conv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    fast = optimize_for_inference(net)
    assert not seen  # no stand-in went through it
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
    assert len(seen) == 2


def test_a_fast_network_may_be_a_part_of_another():
    inner = optimize_for_inference(floats(m.ConvBNReLU(3, 4, 3)), dtype=torch.bfloat16)
    net, x = nn.Sequential(inner, floats(m.ConvBN(4, 4, 3))), torch.rand(1, 3, 7, 7)
    with torch.no_grad():
        assert_same_answer(optimize_for_inference(net)(x), net(x))


def test_it_is_a_snapshot_and_can_be_copied_saved_and_given_other_weights():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(1, 3, 33, 33)
    fast = optimize_for_inference(net)
    answer, file = fast(x), io.BytesIO()
    for parameter in net.parameters():
        parameter.data.zero_()
    torch.save(fast, file)
    file.seek(0)
    for same in (fast, copy.deepcopy(fast), torch.load(file, weights_only=False)):
        assert torch.equal(same(x), answer)
    fast.load_state_dict({key: value * 0 for key, value in fast.state_dict().items()})
    assert not fast(x).any()  # the packed weights are not the old ones


def test_it_can_be_done_twice_and_stays_in_evaluation_mode():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(1, 3, 33, 33)
    once = optimize_for_inference(net)
    twice = optimize_for_inference(once)
    assert not once.train().training
    assert_same_answer(twice(x), once(x))
    assert_same_answer(optimize_for_inference(net.train())(x), once(x))  # a model in training mode is meant in evaluation mode
    assert net.training
    assert not any(p.requires_grad for p in once.parameters())


def test_bfloat16_is_close_and_answers_in_the_models_own_type():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 8), 21, channels=32)), torch.rand(1, 3, 65, 65) * 2 - 1
    with torch.no_grad():
        slow, fast = net(x), optimize_for_inference(net, dtype=torch.bfloat16)(x)
    assert fast.dtype == torch.float32
    assert_same_answer(fast, slow, bound=0.2)
    with pytest.raises(AssertionError):  # and it does compute with fewer digits
        assert_same_answer(fast, slow)


@pytest.mark.parametrize(
    ("model", "dtype", "says"), [("net", None, "str"), (nn.Identity(), torch.int8, "int8"), (nn.Identity(), "b", "'b'")]
)
def test_what_cannot_be_optimized_is_refused(model, dtype, says):
    with pytest.raises(TypeError, match=says):
        optimize_for_inference(model, dtype=dtype)


def test_bad_images_are_still_refused():
    fast = optimize_for_inference(m.Xception(10))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        fast(torch.zeros(1, 4, 71, 71))
    with pytest.raises(TypeError, match="uint8"):
        fast(torch.zeros(1, 3, 71, 71, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        optimize_for_inference(m.ConvBN(3, 4))(torch.zeros(1, 4, 5, 5))


# ---- many scales, and mirrored


def test_predict_is_the_mean_of_probabilities_over_scales_and_mirror_images():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(2, 3, 33, 49) * 2 - 1
    total, scales = torch.zeros(2, 5, 33, 49), (0.5, 1.25)
    with torch.no_grad():
        for h, w in ((17, 25), (41, 61)):  # int((n - 1) * scale + 1)
            y = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=True)
            for logits in (net(y), net(y.flip(3)).flip(3)):
                total += F.interpolate(logits, size=(33, 49), mode="bilinear", align_corners=True).softmax(1) / 4
    torch.testing.assert_close(predict(net, x, scales=scales), total)
    assert not torch.allclose(predict(net, x, scales=scales, flip=False), total, atol=1e-6)


def test_predict_of_one_scale_is_softmax_and_sums_to_one():
    net, x = floats(m.DeepLabV3(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(predict(net, x, scales=(1.0,), flip=False), net(x).softmax(1))
    torch.testing.assert_close(predict(net, x).sum(1), torch.ones(1, 33, 33))


def test_a_mirrored_image_has_a_mirrored_answer():
    net, x = floats(m.DeepLabV3(m.xception41(width=1 / 32), 5, channels=8)), torch.rand(1, 3, 33, 33)
    torch.testing.assert_close(predict(net, x.flip(3)), predict(net, x).flip(3))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(predict(net, x.flip(3), flip=False), predict(net, x, flip=False).flip(3))


@pytest.mark.parametrize(("options", "says"), [({"scales": ()}, "at least one"), ({"scales": (1.0, 0.0)}, r"0\.0")])
def test_impossible_scales_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        predict(nn.Identity().eval(), torch.zeros(1, 3, 9, 9), **options)


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="eval"):
        predict(nn.Identity(), torch.zeros(1, 3, 9, 9))
