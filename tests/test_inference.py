"""The fast path: the same answers, the network left alone, every trick against a witness that is not ours."""

import copy
import io
import random
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from random_networks import assert_same_answer, floats, random_network, thin_deeplab
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode

import minideeplab as m
from minideeplab.blocks.inception import Towers
from minideeplab.inference import FastConv2d, FastPath, keep_freed_memory, optimize_for_inference

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
    "mobilenet_v2": (lambda: m.DeepLabV3(m.mobilenet_v2(), 21, rates=()), (1, 3, 65, 98)),
    "mobilenet_v2 at 8": (
        lambda: m.DeepLabV3Plus(m.mobilenet_v2(width=1 / 4, output_stride=8), 21, channels=16),
        (2, 3, 64, 50),
    ),
    "PyramidPooling": (lambda: m.PyramidPooling(8), (1, 8, 12, 13)),
    "FCN": (lambda: segmenter(m.FCNHead, m.xception41(width=1 / 16), maps=3), (1, 3, 65, 98)),
    "U-Net": (lambda: segmenter(m.UNetHead, m.resnet101(width=1 / 16), channels=4), (1, 3, 65, 98)),
    "PSPNet": (lambda: segmenter(m.PSPNetHead, m.mobilenet_v2(width=1 / 8, output_stride=8), channels=8), (1, 3, 64, 97)),
    "RefineNet": (lambda: segmenter(m.RefineNetHead, m.mobilenet_v2(width=1 / 8), channels=4), (1, 3, 65, 98)),
    "DeepLabV3+, a head": (lambda: segmenter(m.DeepLabV3PlusHead, m.xception41(width=1 / 16), channels=8), (1, 3, 65, 98)),
}


def segmenter(head, backbone: nn.Module, **options) -> nn.Module:
    return m.Segmenter(backbone, head(backbone, **options), 5)


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
def test_the_answer_is_the_same_and_the_network_is_left_alone(name):
    make, shape = NETWORKS[name]
    net, x = floats(make()), torch.rand(shape) * 2 - 1
    before = copy.deepcopy(net.state_dict())
    fast = optimize_for_inference(net)
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
        smaller = x[..., :-1] if min(shape[2:]) > 75 or "Inc" not in name else x
        assert_same_answer(fast(smaller), net(smaller))  # another size: nothing was cut to the first one
        assert_same_answer(fast(x), net(x))  # the size before: the weights packed for the other are not used
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert "native_batch_norm" in operations(net, x)
    assert "native_batch_norm" not in operations(fast, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_double_precision_the_edited_graph_is_the_same_function(name):
    make, shape = NETWORKS[name]
    net, x = floats(make()).double(), torch.rand(shape, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        assert_same_answer(optimize_for_inference(net)(x), net(x), bound=1e-10)


@pytest.mark.parametrize("seed", range(200))
def test_random_networks_keep_their_answers(seed):
    net, x = random_network(random.Random(seed))
    fast = optimize_for_inference(floats(net))
    with torch.no_grad():
        try:
            slow = net(x)
        except RuntimeError as error:  # one of them ends on a map smaller than a kernel
            with pytest.raises(RuntimeError, match=re.escape(str(error))):
                fast(x)
        else:
            for _ in range(2):  # with weights as they are, and packed
                assert_same_answer(fast(x), slow)


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


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="built without oneDNN")


@needs_onednn
def test_only_wide_paddings_are_made_by_hand():
    x = torch.randn(1, 8, 33, 20)
    seen = {rate: operations(optimize_for_inference(m.SeparableConv2d(8, 4, dilation=rate)), x) for rate in (4, 6)}
    assert "constant_pad_nd" not in seen[4]
    assert "constant_pad_nd" in seen[6]
    assert all("_convolution_pointwise" in names and "convolution" not in names for names in seen.values())


@needs_onednn
def test_weights_are_packed_once_for_each_size():
    fast, x = optimize_for_inference(m.SeparableConv2d(8, 4)), torch.randn(1, 8, 33, 20)
    packs = ["_reorder_convolution_weight" in operations(fast, y) for y in (x, x, x[..., 1:], x[..., 1:])]
    assert packs == [True, False, True, False]


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "kept"), [((1, 8, 25, 40), True), ((1, 8, 25, 41), False), ((2, 8, 25, 20), True), ((2, 8, 25, 21), False)]
)
def test_a_second_copy_of_the_weights_is_kept_for_small_maps_only(shape, kept):
    net, x = floats(m.SeparableConv2d(8, 4)), torch.randn(shape)
    fast = optimize_for_inference(net)
    packs = ["_reorder_convolution_weight" in operations(fast, x) for _ in range(2)]
    assert packs == [kept, False]
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))


@pytest.mark.parametrize("block", [m.ConvBN(3, 8, 3), m.SeparableConv2d(3, 8), m.SameMaxPool2d()])
def test_maps_lie_channels_last_from_the_first_layer_on(block):
    answer = optimize_for_inference(block)(torch.rand(1, 3, 9, 9))
    assert answer.is_contiguous(memory_format=torch.channels_last)
    assert not answer.is_contiguous()


@needs_onednn
@pytest.mark.parametrize("rectify", [nn.ReLU(), nn.ReLU6(), nn.ReLU(inplace=True)])
def test_a_rectifier_costs_no_second_pass(rectify):
    net, x = floats(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), rectify)), 30 * torch.randn(2, 3, 9, 9)
    fast = optimize_for_inference(net)
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
        assert (fast(x) == 6).any() == isinstance(rectify, nn.ReLU6)
    assert {"relu", "relu_", "hardtanh", "hardtanh_"}.isdisjoint(operations(fast, x))


def test_relu_moves_into_the_convolution_and_nowhere_else():
    net, x = thin_deeplab(), torch.rand(1, 3, 33, 33)
    fast = optimize_for_inference(net)
    inside = sum(conv.rectify is F.relu for conv in fast.modules() if isinstance(conv, FastConv2d))
    blocks = [block for block in net.modules() if isinstance(block, m.AlignedBlock)]
    # Root 2, last module 6, ASPP 5 + 3 + 1, decoder 1 + 4, and in each module the second and third ReLU: its first reads what
    # the shortcut reads too, and the third of the tapped module what the decoder reads.
    assert inside == 2 + 6 + 9 + 5 + 2 * len(blocks) - 1
    assert_same_answer(fast(x), net(x))


def test_relu6_moves_in_too_whether_it_is_called_or_is_a_layer():
    net, x = floats(m.mobilenet_v2(width=1 / 8)), 20 * torch.rand(1, 3, 33, 34)
    fast = optimize_for_inference(net)
    inside = [conv.rectify for conv in fast.modules() if isinstance(conv, FastConv2d)]
    assert inside.count(F.relu6) == 1 + 16 + 17  # the root's layer, and each block's two but for the first, which has one
    assert inside.count(None) == 17  # the projections are linear
    assert {"hardtanh", "hardtanh_", "relu6", "clamp"}.isdisjoint(operations(fast, x))
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 6])
def test_a_convolution_that_pads_for_itself_pads_the_same(kernel, stride, dilation):
    conv = m.SameConv2d(4, 8, kernel, stride=stride, dilation=dilation, groups=2)
    net = floats(nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU6()))
    fast = optimize_for_inference(net)
    with torch.no_grad():
        for side in [(rows, columns) for rows in (8, 9, 10, 11) for columns in (6, 7, 12, 13)]:
            x = torch.randn(1, 4, *side)
            assert_same_answer(fast(x), net(x))


@needs_onednn
@pytest.mark.parametrize(("side", "copied"), [((9, 7), False), ((9, 8), True), ((8, 7), True)])
def test_only_where_padding_is_not_symmetric_the_map_is_copied(side, copied):
    fast = optimize_for_inference(m.SameConv2d(4, 8, stride=2))
    assert ("constant_pad_nd" in operations(fast, torch.randn(1, 4, *side))) == copied


def test_a_convolution_padded_symmetrically_would_be_another():
    net, x = m.SameConv2d(4, 8, stride=2), torch.randn(1, 4, 8, 8)
    wrong = nn.Conv2d(4, 8, 3, 2, 1, bias=False)
    wrong.load_state_dict(net.state_dict())
    with torch.no_grad(), pytest.raises(AssertionError):
        assert_same_answer(optimize_for_inference(wrong)(x), net(x))


# ---- plain layers, put together in ways that invite a wrong fusion


def conv(**options) -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, **({"padding": 1} | options))


def two_behind_one(first, *behind) -> nn.Module:
    """The same convolution, called once for each of what stands behind."""
    return Towers(3, *(nn.Sequential(first, then) for then in behind))


def with_an_integer(name, layer):
    """`layer` after the surgery that makes ResNets keep their maps: `layer.stride = 1`, a number where a pair was."""
    setattr(layer, name, 2)
    return layer


BN = nn.BatchNorm2d
ODD = {  # how to make it, and whether a batch norm is left over
    "one convolution, two batch norms": (lambda: two_behind_one(conv(), BN(3), BN(3)), False),
    "the convolution is read as well": (lambda: nn.Sequential(conv(), Towers(3, BN(3), nn.Identity())), True),
    "in place beside others": (
        lambda: nn.Sequential(conv(), BN(3), Towers(3, nn.Identity(), nn.ReLU(inplace=True), nn.MaxPool2d(1))),
        False,
    ),
    "a ReLU in place": (lambda: nn.Sequential(conv(), BN(3), nn.ReLU(inplace=True)), False),
    "a ReLU between": (lambda: nn.Sequential(conv(), nn.ReLU(), BN(3), nn.ReLU6()), True),
    "two batch norms": (lambda: nn.Sequential(conv(), BN(3), BN(3), nn.ReLU(), nn.ReLU6()), False),
    "batch norm in front": (lambda: nn.Sequential(BN(3), nn.ReLU(), conv()), True),
    "batch norm of the batch": (lambda: nn.Sequential(conv(), BN(3, track_running_stats=False)), True),
    "batch norm without gamma": (lambda: nn.Sequential(conv(), BN(3, affine=False)), False),
    "padding in words": (lambda: nn.Sequential(conv(padding="same"), BN(3)), True),
    "padding by reflection": (lambda: nn.Sequential(conv(padding_mode="reflect"), BN(3)), True),
    "an integer stride": (lambda: nn.Sequential(with_an_integer("stride", conv()), BN(3)), False),
    "an integer padding": (lambda: nn.Sequential(with_an_integer("padding", conv()), BN(3)), False),
    "an integer dilation": (lambda: nn.Sequential(with_an_integer("dilation", conv()), BN(3)), False),
    "a layer called fast": (lambda: nn.Sequential(nn.ModuleDict({"fast": conv()})["fast"], BN(3)), False),
    "batch norm alone": (lambda: BN(3), True),
    "a convolution alone": (conv, False),
    "an upsampling": (lambda: nn.Sequential(nn.Upsample(scale_factor=2), conv(stride=2), nn.AvgPool2d(2)), False),
    "a classifier": (
        lambda: nn.Sequential(conv(), nn.AdaptiveAvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(12, 5)),
        False,
    ),
    "nothing": (lambda: nn.Sequential(), False),
}


@pytest.mark.parametrize("name", ODD)
def test_plain_layers_are_fused_where_nobody_reads_between(name):
    make, left_over = ODD[name]
    net = floats(make())
    fast = optimize_for_inference(net)
    for x in (torch.rand(2, 3, 5, 7), -torch.rand(1, 3, 6, 6)):
        with torch.no_grad():
            for _ in range(2):
                assert_same_answer(fast(x.clone()), net(x.clone()))
    assert ("native_batch_norm" in operations(fast, x)) == left_over


# ---- the optimized network's life


def test_bfloat16_is_close_and_answers_in_the_models_own_type():
    net, x = floats(m.DeepLabV3Plus(m.xception41(width=1 / 8), 21, channels=32)), torch.rand(1, 3, 65, 65) * 2 - 1
    with torch.no_grad():
        slow, fast = net(x), optimize_for_inference(net, dtype=torch.bfloat16)(x)
    assert fast.dtype == torch.float32
    assert_same_answer(fast, slow, bound=0.2)
    with pytest.raises(AssertionError):  # and it does compute with fewer digits
        assert_same_answer(fast, slow)


def test_it_is_a_snapshot_and_can_be_copied_saved_and_given_other_weights():
    net, x = thin_deeplab(), torch.rand(1, 3, 33, 33)
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


AT_ONCE = """
import sys, threading
from contextlib import nullcontext
from torch import nn
import minideeplab as m
from minideeplab import inference
if sys.argv[1] == "without the lock":
    inference.ALONE = nullcontext()
before, wrong, start = nn.Module.__call__, [], threading.Barrier(4)

def optimize(net):
    start.wait()
    try:
        inference.optimize_for_inference(net)
    except Exception as error:
        wrong.append(error)

for _ in range(5):
    nets = [m.Classifier(m.xception41(width=1 / 16), 10).eval() for _ in range(4)]
    workers = [threading.Thread(target=optimize, args=[net]) for net in nets]
    [worker.start() for worker in workers], [worker.join() for worker in workers]
    if wrong or nn.Module.__call__ is not before:
        sys.exit(3)
"""


@pytest.mark.parametrize(("how", "status"), [("with the lock", 0), ("without the lock", 3)])
def test_threads_may_optimize_at_once_thanks_to_the_lock(how, status):
    assert subprocess.run([sys.executable, "-c", AT_ONCE, how], check=False, timeout=120).returncode == status


def test_it_can_be_done_twice_and_stays_in_evaluation_mode():
    net, x = thin_deeplab(), torch.rand(1, 3, 33, 33)
    once, half = optimize_for_inference(net), optimize_for_inference(net, dtype=torch.bfloat16)
    twice = optimize_for_inference(once)
    assert twice is not once
    assert torch.equal(twice(x=x), once(x))
    assert torch.equal(optimize_for_inference(half)(x), half(x))
    assert torch.equal(optimize_for_inference(half, dtype=torch.bfloat16)(x), half(x))
    with pytest.raises(TypeError, match="optimized already"):
        optimize_for_inference(once, dtype=torch.bfloat16)
    assert not once.train().training
    assert_same_answer(optimize_for_inference(net.train())(x), once(x))  # training mode: what it does in evaluation is meant
    assert net.training
    assert not any(p.requires_grad for p in once.parameters())


@pytest.fixture
def small_maps(monkeypatch):
    """As if the C library kept no block over 40 kB."""
    monkeypatch.setattr(FastPath, "in_pieces", True)
    monkeypatch.setattr(FastPath, "kept", 40_000)


def batches(fast: nn.Module, x: torch.Tensor) -> list[int]:
    """How many images the first convolution sees at a time."""
    first, seen = next(part for part in fast.modules() if isinstance(part, FastConv2d)), list[int]()
    with first.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        fast(x)
    return seen


PIECES = {  # a network of the library sees each image by itself; how many bytes its largest map of one image takes
    "logits": (lambda: m.Xception(10), 4 * 128 * 35**2, 75),
    "maps with names": (lambda: m.xception41(width=1 / 16), 4 * 8 * 33**2, 65),
}


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize(
    ("images", "bound", "pieces"), [(6, 2.9, 2), (6, 3, 3), (6, 0.5, 1), (7, 3, 1), (4, 9, 4), (1, 0.5, 1)]
)
def test_from_the_second_time_on_a_batch_is_looked_at_in_equal_pieces(name, images, bound, pieces, monkeypatch):
    make, largest, side = PIECES[name]
    monkeypatch.setattr(FastPath, "in_pieces", True)
    monkeypatch.setattr(FastPath, "kept", int(bound * largest))
    net, x = floats(make()), torch.rand(images, 3, side, side) * 2 - 1
    fast = optimize_for_inference(net)
    assert [batches(fast, x), batches(fast, x), batches(fast, x)] == [[images], *[[pieces] * (images // pieces)] * 2]
    with torch.no_grad():
        assert_same_answer(fast(x), net(x))
        assert type(fast(x)) is type(net(x))


def test_a_batch_is_refused_whole_and_in_its_own_words(small_maps):
    fast, x = optimize_for_inference(floats(m.xception41(width=1 / 16))), torch.rand(4, 3, 65, 65)
    assert batches(fast, x) == [4]
    for wrong, words in ((x[:, :2], r"\(4, 2, 65, 65\)"), (x.double(), "float64"), (x[:0], r"\(0, 3, 65, 65\)")):
        for _ in range(2):
            with pytest.raises((ValueError, TypeError), match=words):
                fast(wrong)


def test_on_another_device_a_batch_stays_whole(small_maps):
    fast, x = optimize_for_inference(m.xception41(width=1 / 16)).to("meta"), torch.rand(4, 3, 65, 65, device="meta")
    assert [batches(fast, x), batches(fast, x)] == [[4], [4]]


def mixed(net: nn.Module, layer: nn.Module) -> nn.Module:
    """The network with a layer in it that mixes images."""
    net.root[0].bn = layer
    return net


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(2, track_running_stats=False), nn.Sequential(nn.Flatten(0, 1), nn.Flatten(0))]
)
def test_what_mixes_the_images_of_a_batch_is_never_cut(layer):
    net = m.xception41(width=1 / 16)
    assert optimize_for_inference(net).separate
    assert not optimize_for_inference(mixed(net, layer)).separate
    assert not optimize_for_inference(nn.Sequential(net)).separate  # not a network of the library: it is not asked


def test_with_the_statistics_of_a_batch_pieces_would_be_another_answer(small_maps):
    net, x = floats(mixed(m.xception41(width=1 / 16), nn.BatchNorm2d(2, track_running_stats=False))), torch.rand(4, 3, 65, 65)
    fast = optimize_for_inference(net)
    with torch.no_grad():
        for _ in range(2):
            assert_same_answer(fast(x), net(x))
        fast.separate = True
        fast(x)
        with pytest.raises(AssertionError):
            assert_same_answer(fast(x), net(x))


@pytest.mark.parametrize("can", [True, False])
def test_where_freed_memory_is_kept_a_batch_stays_whole(can, small_maps, monkeypatch):
    class CDLL:
        def __init__(self, name):
            self.mallopt = lambda option, size: can

    monkeypatch.setattr("minideeplab.inference.ctypes.CDLL", CDLL)
    monkeypatch.setattr("minideeplab.inference.sys.platform", "linux")
    fast, x = optimize_for_inference(floats(m.xception41(width=1 / 16))), torch.rand(4, 3, 65, 65)
    assert keep_freed_memory() == can
    batches(fast, x)
    assert batches(fast, x) == ([4] if can else [1] * 4)


def test_freed_memory_is_kept_where_glibc_can_be_asked():
    """In a process of its own: the 36 MB of a freed map are found again, after some turns in which the heap settles."""
    script = """if True:
        import resource, sys, torch
        from minideeplab.inference import keep_freed_memory
        asked = keep_freed_memory() if sys.argv[1] == "keep" else None
        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(9_000_000)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        print(asked, min([faults() for _ in range(40)][-10:]))
    """
    said = {}
    for mode in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", script, mode], capture_output=True, text=True, check=True)
        asked, count = done.stdout.split()
        said[mode] = (asked, int(count))
    if said["keep"][0] == "False":
        pytest.skip("no glibc here")
    assert said["keep"][1] < 100 < said["leave"][1]
