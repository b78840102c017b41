"""A museum of real bugs: each from a public implementation, told again in our own words, going wrong as it did there.

Beside every exhibit stands the property that catches it: the library has it, the exhibit does not.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minideeplab
from minideeplab import (
    ASPP,
    AlignedBlock,
    ImagePooling,
    SameMaxPool2d,
    SeparableConv2d,
    Xception,
    XceptionBlock,
    kernel_with_holes,
    mean_taps_inside,
    resnet101,
    separable_terms,
    upsample,
    weights,
    xception71,
)
from minideeplab.blocks.inception import MeanPool2d
from minideeplab.geometry import Step, default_rates, effective_kernel, receptive_field, trade_strides

# ---- the properties


def leaves_its_input_alone(module: nn.Module, x: Tensor) -> bool:
    before = x.clone()
    module(x)
    return torch.equal(x, before)


def keeps_the_size(module: nn.Module, x: Tensor) -> bool:
    return module(x).shape[2:] == x.shape[2:]


def same_keys_at_every_output_stride(build: Callable[[int], nn.Module]) -> bool:
    with torch.device("meta"):
        return build(8).state_dict().keys() == build(16).state_dict().keys() == build(32).state_dict().keys()


def changes_something(options: Iterable[object], result: Callable[..., object]) -> bool:
    results = [result(option) for option in options]
    return all(a != b for i, a in enumerate(results) for b in results[:i])


def drops_in_training(module: nn.Module, x: Tensor) -> bool:
    module.train()
    return not torch.equal(module(x), module(x))


def invents_no_label(resize: Callable[[Tensor, tuple[int, int]], Tensor], mask: Tensor) -> bool:
    return set(resize(mask, (33, 33)).unique().tolist()) <= set(mask.unique().tolist())


def keeps_coarse_values(enlarge: Callable[[Tensor, tuple[int, int]], Tensor], x: Tensor) -> bool:
    height, width = ((side - 1) * 4 + 1 for side in x.shape[2:])
    return bool(torch.isclose(enlarge(x, (height, width))[:, :, ::4, ::4], x).all())


def reaches_the_same_pixels(rates: Callable[[int], tuple[int, ...]]) -> bool:
    return len({tuple(rate * stride for rate in rates(stride)) for stride in (8, 16, 32)}) == 1


def whole_numbers(*shape: int) -> Tensor:
    return torch.randint(-4, 5, shape).float()


# ---- the exhibits: residuals and dropout


class InPlaceBlock(nn.Module):
    """`x + branch(x)` where the branch begins with a ReLU that works in place."""

    def __init__(self, block: XceptionBlock) -> None:
        super().__init__()
        self.residual = nn.Sequential(nn.ReLU(inplace=True), *copy.deepcopy(block.residual)[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + x


def test_an_in_place_relu_eats_the_shortcut():
    """Nothing crashes and the network even learns: only, no shortcut of it ever carries a negative number.

    https://github.com/jfzhang95/pytorch-deeplab-xception/blob/0a5814f77fcbf3205eb77aa52c3e8793096e9f5d/modeling/backbone/xception.py
    (`self.relu`, shared by every place of a block); the same: https://github.com/rosinality/vq-vae-2-pytorch/issues/60
    """
    ours = XceptionBlock(4, [4, 4]).eval()
    bug, x = InPlaceBlock(ours).eval(), whole_numbers(1, 4, 6, 6)
    torch.testing.assert_close(ours(x), ours.residual(x) + x)
    torch.testing.assert_close(bug(x.clone()), ours.residual(x) + F.relu(x))
    assert leaves_its_input_alone(ours, x)
    assert not leaves_its_input_alone(bug, x)


class DropoutThrownAway(nn.Module):
    """Calls dropout, and forgets to keep what it returns."""

    def forward(self, x: Tensor) -> Tensor:
        F.dropout(x, 0.5, training=self.training)
        return x


def test_a_dropout_whose_result_is_thrown_away():
    """Any rate trains the same network.

    https://github.com/huggingface/pytorch-image-models/blob/16664ea31ba52dc55c3744e69741fffddb4845da/timm/models/xception.py
    (`forward_head`); a ReLU lost in the same way: https://github.com/Cadene/pretrained-models.pytorch/issues/79
    """
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(DropoutThrownAway().train()(x), x)
    assert drops_in_training(ASPP(4, 64, rates=(1, 2)), x)
    assert not drops_in_training(DropoutThrownAway(), x)


# ---- sizes, strides and rates


class FixedPadding(nn.Module):
    """A separable convolution that is told its padding once, and its dilation later."""

    def __init__(self, channels: int, *, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, dilation=dilation, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def test_a_padding_that_does_not_follow_the_dilation():
    """The exit flow of an Xception at output stride 16, then at 8: two layers shave 4 and 12 pixels off the map, silently.

    https://github.com/VainF/DeepLabV3Plus-Pytorch/blob/c3fd97b0edd23a899c5a03af53831f6545b3fdd1/network/backbone/xception.py
    (`conv3` and `conv4`)
    """
    for dilation, size, left in ((1, 33, 33), (2, 33, 29), (4, 65, 53)):
        x = whole_numbers(1, 2, size, size)
        bug = nn.Sequential(*(FixedPadding(2, dilation=dilation) for _ in range(2)))
        assert bug(x).shape[2:] == (left, left)
        assert keeps_the_size(SeparableConv2d(2, 2, dilation=dilation), x)
        assert keeps_the_size(bug, x) == (dilation == 1)  # and so at output stride 32 nobody notices


def deciding_after_the_stride_was_traded(output_stride: int) -> nn.Module:
    """Xception-71's modules, each given a projection only if a stride is *left*."""
    figure = [(64, 128, 2), (128, 256, 1), (256, 256, 2), (256, 728, 1), (728, 728, 2), (728, 728, 1), (728, 1024, 2)]
    steps = trade_strides([stride for *_, stride in figure], output_stride, start=2)
    return nn.Sequential(
        *(
            AlignedBlock(a, [b] * 3, stride=Step(step.stride, dilation=step.dilation))
            for (a, b, _), step in zip(figure, steps, strict=True)
        )
    )


def test_a_projection_that_disappears_at_output_stride_8():
    """One module of Xception-71 strides without changing its channels. Its projection existed "if stride != 1", asked too late.

    https://github.com/huggingface/pytorch-image-models/blob/066e490605ba1d3666861096163246c885603469/timm/models/xception_aligned.py
    (`XceptionAligned.__init__` rewrites `b['stride']`, `XceptionModule.__init__` asks for it)
    """
    with torch.device("meta"):
        at_8, at_16 = (set(deciding_after_the_stride_was_traded(stride).state_dict()) for stride in (8, 16))
    lost = {name.removeprefix("4.shortcut.") for name in at_16 - at_8}
    running = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert lost == {"conv.weight", "bn.weight", "bn.bias"} | running
    assert same_keys_at_every_output_stride(lambda stride: xception71(output_stride=stride))
    assert not same_keys_at_every_output_stride(deciding_after_the_stride_was_traded)


def test_rates_that_ignore_the_output_stride():
    """(12, 24, 36) belongs to output stride 8. At 16 the last branch reaches 576 pixels on an image of 513: a costly 1 x 1.

    https://github.com/pytorch/vision/issues/7956, corrected by https://github.com/pytorch/vision/pull/8019;
    https://github.com/qubvel-org/segmentation_models.pytorch/issues/390
    """

    def hard_coded(output_stride: int) -> tuple[int, ...]:
        return 12, 24, 36

    assert [mean_taps_inside(33, rate) for rate in hard_coded(16)][-1] == 1
    assert [float(mean_taps_inside(33, rate)) for rate in default_rates(16)] == pytest.approx([6.95, 5.17, 3.64], abs=5e-3)
    assert reaches_the_same_pixels(default_rates)
    assert not reaches_the_same_pixels(hard_coded)


def test_a_multi_grid_that_went_into_the_pointwise_layers():
    """The three rates are for the 3 x 3 of three units. Spread over 1 x 1, 3 x 3, 1 x 1 of one unit, two of them do nothing.

    https://github.com/eveningdong/DeepLabV3-Tensorflow/issues/13
    """

    def spread(grid: tuple[int, int, int]) -> int:
        return receptive_field([(1, 1, grid[0]), (3, 1, grid[1]), (1, 1, grid[2])] * 3)

    def unit_by_unit(grid: tuple[int, int, int]) -> int:
        with torch.device("meta"):
            last = resnet101(output_stride=32, multi_grid=grid, width=0.125).stages[-1]
        kernels = [m for m in last.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        return receptive_field([(3, 1, kernel.dilation[0]) for kernel in kernels])

    grids = ((1, 2, 1), (1, 2, 3), (1, 2, 4))
    assert ([spread(grid) for grid in grids], [unit_by_unit(grid) for grid in grids]) == ([13, 13, 13], [9, 13, 15])
    assert changes_something(grids, unit_by_unit)
    assert not changes_something(grids, spread)


def test_a_dilation_counted_from_zero():
    """A textbook calls the ordinary kernel "dilation 0" and counts the holes. Its rates, typed into a framework, are one off.

    https://github.com/udlbook/udlbook/issues/89
    """

    def extent_by_holes(kernel_size: int, holes: int) -> int:
        return kernel_size + (kernel_size - 1) * holes

    assert [extent_by_holes(3, rate) for rate in (6, 12, 18)] == [15, 27, 39]
    assert [effective_kernel(3, rate) for rate in (6, 12, 18)] == [13, 25, 37]
    kernel = whole_numbers(2, 2, 3, 3)
    assert torch.equal(kernel_with_holes(kernel, 1), kernel)  # rate 1 is the kernel itself, and there is no rate 0
    with pytest.raises(ValueError, match="dilation must be at least 1, got 0"):
        SeparableConv2d(2, 2, dilation=0)


# ---- what the frameworks do differently


def test_a_pool_padded_on_both_sides_reads_other_windows_than_tensorflow():
    """The published example: the numbers 0 to 15 on a 4 x 4 map. On odd maps the two agree, so a test at 263 pixels is blind.

    https://github.com/onnx/onnx/issues/388; in a port of Keras's Xception:
    https://github.com/Cadene/pretrained-models.pytorch/blob/0479011a730e44683645237537079a655e063e1e/pretrainedmodels/models/xception.py
    """
    symmetric, even, odd = nn.MaxPool2d(3, 2, 1), torch.arange(16.0).view(1, 1, 4, 4), torch.arange(25.0).view(1, 1, 5, 5)
    assert symmetric(even)[0, 0].tolist() == [[5, 7], [13, 15]]
    assert SameMaxPool2d(stride=2)(even)[0, 0].tolist() == [[10, 11], [14, 15]]  # as the issue quotes TensorFlow
    assert torch.equal(symmetric(odd), SameMaxPool2d(stride=2)(odd))


def test_an_average_that_counts_the_padding_darkens_the_border():
    """A constant map should stay constant. Counted zeros leave 6/9 of it along the edges and 4/9 in the corners.

    https://github.com/microsoft/MMdnn/issues/628 (Inception V3 from TensorFlow to PyTorch)
    """
    counts_padding, nines = nn.AvgPool2d(3, stride=1, padding=1), torch.full((1, 1, 3, 3), 9.0)
    assert counts_padding(nines)[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    assert torch.equal(MeanPool2d()(nines), nines)


def test_an_epsilon_left_at_the_default_of_another_framework():
    """Keras divides by sqrt(variance + 0.001), PyTorch adds 0.00001: a quiet channel comes out 40 % louder.

    https://github.com/gzuidhof/nn-transfer/pull/3; in a port of Keras's Xception:
    https://github.com/Cadene/pretrained-models.pytorch/blob/0479011a730e44683645237537079a655e063e1e/pretrainedmodels/models/xception.py
    """
    quiet, ported, keras = torch.tensor([[[[0.03]]]]), nn.BatchNorm2d(1).eval(), nn.BatchNorm2d(1, eps=1e-3).eval()
    for norm in (ported, keras):
        norm.running_var.fill_(1e-3)
    assert (ported(quiet) / keras(quiet)).item() == pytest.approx((2e-3 / 1.01e-3) ** 0.5)
    with torch.device("meta"):
        assert {module.eps for module in Xception().modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_corners_that_are_not_aligned_move_every_value():
    """513, 129 and 33 are nested grids. With the default of PyTorch since 0.4 no coarse point lies on a fine one any more.

    https://github.com/kazuto1011/deeplab-pytorch/issues/37
    """

    def halves(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    x = whole_numbers(1, 2, 5, 9)
    assert keeps_coarse_values(upsample, x)
    assert not keeps_coarse_values(halves, x)


# ---- labels and batches


def test_a_mask_resized_like_a_photograph_invents_labels():
    """Between class 2 and class 6 a bilinear filter finds classes 3, 4 and 5. Interpolate the evidence, never the names.

    https://github.com/ykamikawa/tf-keras-PSPNet/issues/2 (labels 0, 2, 6, 7, 10 in, 0 to 10 out);
    https://github.com/divamgupta/image-segmentation-keras/issues/11
    """
    mask = torch.tensor([0, 2, 6, 7, 10])[torch.randint(5, (9, 9))]

    def as_a_photograph(labels: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample(labels[None, None].float(), size)[0, 0].round().long()

    def by_evidence(labels: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample(F.one_hot(labels).permute(2, 0, 1)[None].float(), size)[0].argmax(0)  # what DeepLab does with logits

    assert set(as_a_photograph(mask, (33, 33)).unique().tolist()) == set(range(11))
    assert invents_no_label(by_evidence, mask)
    assert not invents_no_label(as_a_photograph, mask)


def test_batch_norm_over_one_pooled_pixel():
    """Image pooling leaves one pixel a channel; with one image, no variance. The last batch of an epoch may be that short.

    https://github.com/jfzhang95/pytorch-deeplab-xception/issues/41
    """
    bug, x = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), torch.ones(1, 4, 5, 5)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        bug(x)
    with pytest.raises(
        ValueError, match=r"needs a batch of at least 2 in training, got 1: .* enlarge the batch or call \.eval"
    ):
        ImagePooling(4, 8)(x)
    assert ImagePooling(4, 8).eval()(x).shape == (1, 8, 5, 5)


# ---- arguments and weights


def positional(channels, kernel=3, stride=1, dilation=1, bias=False, norm=None) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, kernel, stride, dilation, dilation, bias=bias), norm(channels))


def test_an_argument_that_slid_into_the_place_of_another():
    """The normalization was to be the sixth argument and was written in the place of the fifth: a class is a true `bias`.

    https://github.com/jfzhang95/pytorch-deeplab-xception/blob/0a5814f77fcbf3205eb77aa52c3e8793096e9f5d/modeling/backbone/xception.py
    (`SeparableConv2d(inplanes, planes, 3, 1, dilation, BatchNorm)` in `Block`)
    """
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        positional(4, 3, 1, 2, nn.BatchNorm2d)
    with pytest.raises(TypeError, match="positional arguments"):
        SeparableConv2d(4, 4, 3, 1)


def test_no_module_of_ours_takes_an_option_by_its_place():
    modules = [value for value in vars(minideeplab).values() if inspect.isclass(value) and issubclass(value, nn.Module)]
    options = [
        p for module in modules for p in inspect.signature(module).parameters.values() if p.name in ("stride", "dilation")
    ]
    assert len(options) > 5
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}


def load_what_is_known(net: nn.Module, checkpoint: Mapping[str, Tensor]) -> None:
    """Keeps the arrays whose names are known. The dictionary that knows them was never filled."""
    known: dict[str, Tensor] = {}
    own = net.state_dict()
    known.update({name: array for name, array in checkpoint.items() if name in known})
    net.load_state_dict(own | known)


def test_pretrained_weights_that_were_never_loaded():
    """No error, no warning, and random weights. Reported in January 2019, corrected in December.

    https://github.com/jfzhang95/pytorch-deeplab-xception/issues/58 and
    https://github.com/jfzhang95/pytorch-deeplab-xception/issues/125
    """
    pretrained, net = SeparableConv2d(2, 3), SeparableConv2d(2, 3)
    before = copy.deepcopy(net.state_dict())
    load_what_is_known(net, pretrained.state_dict())
    assert all(torch.equal(array, before[name]) for name, array in net.state_dict().items())
    with pytest.raises(ValueError, match="2 arrays do not fit SeparableConv2d, nothing was loaded:\n  missing"):
        weights.load(net, {})
    weights.load(net, pretrained.state_dict())
    assert all(torch.equal(array, net.state_dict()[name]) for name, array in pretrained.state_dict().items())


def converted(conv: nn.Conv2d) -> nn.Module:
    """A dense layer "made separable": new random weights, and the bias *tensor* where a yes or no is asked."""
    depthwise = nn.Conv2d(conv.in_channels, conv.in_channels, 3, padding=1, groups=conv.in_channels, bias=conv.bias)
    return nn.Sequential(depthwise, nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=conv.bias))


def test_a_conversion_that_asks_a_tensor_for_yes_or_no():
    """Without bias it works, by luck: `None` is no. With bias it raises, or drops a single zero; the weights are gone anyway.

    https://github.com/VainF/DeepLabV3Plus-Pytorch/blob/48f990b258f52d5e8880380c7a00df29bce045d8/network/_deeplab.py
    (`convert_to_separable_conv`)
    """
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"):
        converted(nn.Conv2d(2, 3, 3, padding=1))
    single = nn.Conv2d(2, 1, 3, padding=1)
    nn.init.zeros_(single.bias)
    assert converted(single)[1].bias is None

    dense, x = nn.Conv2d(2, 3, 3, padding=1, bias=False), torch.randn(1, 2, 5, 5)
    assert not torch.allclose(converted(dense)(x), dense(x))
    depthwise, pointwise = separable_terms(dense.weight.detach())  # ours keeps the function: a sum of separable layers
    terms = [F.conv2d(F.conv2d(x, d[:, None], padding=1, groups=2), p[:, :, None, None]) for d, p in zip(depthwise, pointwise)]
    torch.testing.assert_close(sum(terms), dense(x).detach())
