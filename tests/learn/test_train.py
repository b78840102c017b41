"""What a step learns from and how: the authors' schedule, what decays, what void counts, what is frozen, and that it learns."""

import copy
import os
import signal
import threading
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from learn.tiny import Plain, Uneven, settings, tiny
from torch import nn

from minideeplab import DeepLabV3Plus, mobilenet_v2, pretrained, weights
from minideeplab.learn import start as starting
from minideeplab.learn.batches import Batches, Told, generator, order
from minideeplab.learn.data import VOID, Sample, Shapes
from minideeplab.learn.evaluate import evaluate
from minideeplab.learn.start import data_of, load_what_fits, opened, start
from minideeplab.learn.train import freeze, freeze_norms, loss, parameter_groups, poly, train


def test_the_rate_falls_as_the_authors_poly_schedule():
    rates = [poly(step, 30_000, rate=0.007) for step in range(0, 30_001, 100)]
    assert rates[0] == 0.007
    assert rates[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[150] == pytest.approx(0.007 * 0.5**0.9)
    assert poly(1, 2, rate=1, power=2) == 0.25  # the power changes something
    for wrong in ({"step": 3, "steps": 2, "rate": 1.0}, {"step": -1, "steps": 2, "rate": 1.0}):
        with pytest.raises(ValueError, match="step must be from 0 to 2"):
            poly(**wrong)


# ---- what decays


def by_hand(net: nn.Module, *, momentum: float, decay: float, rate: float, steps: int) -> list[torch.Tensor]:
    """The weights after some steps on `Uneven`: each follows a velocity that remembers its slopes and, of kernels, a pull."""
    batches = Batches(Uneven(), batch=4, size=17, seed=3, scales=(1.0, 1.0))
    values = list(net.parameters())
    velocities = [torch.zeros_like(value) for value in values]
    for step in range(steps):
        images, labels = batches[step]
        slopes = torch.autograd.grad(loss(net(images), labels), values)
        with torch.no_grad():
            for value, velocity, slope in zip(values, velocities, slopes):
                velocity.mul_(momentum).add_(slope + decay * (value.dim() == 4) * value)
                value.sub_(poly(step, steps, rate=rate) * velocity)
    return values


def test_frozen_is_a_matter_of_one_call():
    net = tiny()
    net.decoder.requires_grad_(False)  # by somebody else: that stays
    before = {name: value.requires_grad for name, value in net.named_parameters()}
    train(net, Uneven(), **settings(steps=1), frozen=("backbone",), freeze_norm=True)
    assert {name: value.requires_grad for name, value in net.named_parameters()} == before
    old = copy.deepcopy(net.backbone.state_dict())
    train(net, Uneven(), **settings(steps=1, rate=0.1))
    assert any(not torch.equal(value, old[name]) for name, value in net.backbone.named_parameters())


def test_evaluating_leaves_each_part_in_its_mode():
    net = tiny().train()
    freeze_norms(net)
    modes = [part.training for part in net.modules()]
    evaluate(net, Uneven())
    assert len(set(modes)) == 2
    assert [part.training for part in net.modules()] == modes


@pytest.mark.parametrize(("momentum", "same"), [(0.9, True), (0.5, False), (0.0, False)])
def test_a_step_is_that_of_momentum_0_9_written_out(momentum, same):
    torch.manual_seed(0)
    net = Plain(4)
    other = copy.deepcopy(net)
    train(net, Uneven(), **settings(steps=3, rate=0.05), seed=3, scales=(1.0, 1.0), weight_decay=0.1)
    written = by_hand(other, momentum=momentum, decay=0.1, rate=0.05, steps=3)
    differences = [(a - b).abs().max().item() for a, b in zip(net.parameters(), written)]
    assert (max(differences) < 1e-6) == same


def test_dense_and_pointwise_kernels_decay_and_nothing_else():
    net = DeepLabV3Plus(mobilenet_v2(width=0.25), 4, channels=8, low_channels=4)
    names = {id(value): name for name, value in net.named_parameters()}
    decaying, others = ({names[id(value)] for value in group["params"]} for group in parameter_groups(net, 0.5))
    kernels = {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d)}
    depthwise = {f"{name}.weight" for name, part in kernels.items() if part.groups > 1}
    assert decaying == {f"{name}.weight" for name in kernels} - depthwise
    assert {"classify.bias", "aspp.project.bn.weight", *depthwise} <= others
    assert decaying | others == set(names.values())
    assert [group["weight_decay"] for group in parameter_groups(net, 0.5)] == [0.5, 0]
    freeze(net.backbone)
    assert not any(names[id(value)].startswith("backbone") for group in parameter_groups(net) for value in group["params"])


def test_a_decay_pulls_at_kernels_but_not_at_depthwise_ones():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))
    optimizer = torch.optim.SGD(parameter_groups(net, 0.5), lr=1.0)
    for value in net.parameters():
        value.grad = torch.zeros_like(value)
    before = {name: value.clone() for name, value in net.named_parameters()}
    optimizer.step()
    assert torch.equal(net[1].weight, before["1.weight"] * 0.5)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters() if name != "1.weight")


# ---- the loss


def test_void_pixels_do_not_count_in_the_loss():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    assert torch.equal(loss(logits, labels), F.cross_entropy(logits, labels))
    half = labels.clone()
    half[:, :2] = VOID
    torch.testing.assert_close(loss(logits, half), F.cross_entropy(logits[:, :, 2:], labels[:, 2:]))
    assert not torch.isclose(loss(logits, half), loss(logits, labels))
    torch.testing.assert_close(loss(logits, labels, torch.tensor(80)), loss(logits, labels) / 2)


def test_only_void_is_a_loss_of_zero_without_a_gradient():
    logits, labels = torch.randn(1, 3, 4, 5, requires_grad=True), torch.full((1, 4, 5), VOID)
    assert F.cross_entropy(logits, labels, ignore_index=VOID).isnan()  # as torch has it
    loss(logits, labels).backward()
    assert loss(logits, labels) == 0
    assert not logits.grad.any()


def test_labels_beyond_the_classes_are_refused_with_their_numbers():
    with pytest.raises(ValueError, match="labels are from 0 to 2 or 255, got 0 to 3"):
        loss(torch.randn(1, 3, 1, 2), torch.tensor([[[0, 3]]]))
    with pytest.raises(ValueError, match="labels are from 0 to 2 or 255, got -1 to 1"):
        loss(torch.randn(1, 3, 1, 2), torch.tensor([[[-1, 1]]]))


# ---- what is frozen


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(net, before):
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def test_frozen_norms_keep_their_statistics_and_their_scale_while_kernels_learn():
    net = tiny()
    norms = {name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)}
    before = state(net)
    train(net, Shapes(9, size=17), **settings(steps=2), freeze_norm=True)
    assert changed(net, before)
    assert not [name for name in changed(net, before) if name.rpartition(".")[0] in norms]
    before = state(net := tiny())
    train(net, Shapes(9, size=17), **settings(steps=2))
    moved = {name.rpartition(".")[2] for name in changed(net, before) if name.rpartition(".")[0] in norms}
    assert moved == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_a_frozen_backbone_learns_nothing_and_its_head_does():
    before = state(net := tiny())
    train(net, Shapes(9, size=17), **settings(steps=2), frozen=["backbone"])
    assert changed(net, before)
    assert not [name for name in changed(net, before) if name.startswith("backbone")]
    train(net := tiny(), Shapes(9, size=17), **settings(steps=2))
    assert [name for name in changed(net, before) if name.startswith("backbone")]


def test_norms_of_fresh_parts_learn_where_the_others_are_frozen():
    before = state(net := tiny())
    train(net, Shapes(9, size=17), **settings(steps=2), freeze_norm=True, fresh=["decoder"])
    norms = {name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)}
    moved = {name.rpartition(".")[0] for name in changed(net, before) if name.rpartition(".")[0] in norms}
    assert moved == {name for name in norms if name.startswith("decoder.")} < norms


def test_a_run_is_not_resumed_with_other_fresh_parts(tmp_path):
    train(tiny(), Shapes(9, size=17), **settings(steps=2), out=tmp_path, freeze_norm=True, fresh=["decoder"])
    with pytest.raises(ValueError, match="fresh"):
        train(tiny(), Shapes(9, size=17), **settings(steps=2), out=tmp_path, freeze_norm=True, resume=True)


def test_freezing_norms_leaves_dropout_in_training():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.1), nn.Conv2d(3, 3, 1)).train()
    freeze_norms(net)
    assert [part.training for part in net] == [False, True, True]
    assert [value.requires_grad for value in net.parameters()] == [False, False, True, True]


# ---- what a step sees


def test_every_epoch_sees_each_image_once_in_an_order_of_its_own():
    class Numbers:
        classes = ("all",)

        def __len__(self):
            return 10

        def __getitem__(self, index):
            return Sample(torch.full((3, 2, 2), float(index)), torch.zeros(2, 2, dtype=torch.int64))

    batches = Batches(Numbers(), batch=5, size=2, seed=0, scales=(1.0, 1.0))
    seen = [batches[step][0][:, 0, 0, 0].int().tolist() for step in range(4)]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == list(range(10))
    assert seen[0] + seen[1] != seen[2] + seen[3]
    assert order(10, 0, 0).tolist() != order(10, 1, 0).tolist()  # and each seed has its own


def test_a_step_is_a_pure_function_of_the_seed():
    def batches(seed=0, scales=(0.5, 2.0)):
        return Batches(Shapes(20, size=33), batch=4, size=17, seed=seed, scales=scales)

    first, again = batches()[3], batches()[3]
    assert first[0].shape == (4, 3, 17, 17)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(batches(seed=1)[3][0], first[0])
    assert not torch.equal(batches(scales=(1.0, 1.0))[3][0], first[0])
    assert generator(1, 2).initial_seed() != generator(2, 1).initial_seed() != generator(1, 2, 0).initial_seed()


def test_an_image_is_cut_anew_in_every_epoch():
    batches = Batches(Shapes(1, size=33), batch=1, size=17, seed=0, scales=(1.0, 1.0))
    assert len({batches[step][0].numpy().tobytes() for step in range(4)}) > 2


def test_processes_share_the_batch_of_one():
    options = {"batch": 4, "size": 17, "seed": 0, "scales": (0.5, 2.0)}
    whole, _ = Batches(Shapes(20, size=33), **options)[3]
    parts = [Batches(Shapes(20, size=33), **options, rank=rank, ranks=2)[3][0] for rank in (0, 1)]
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


# ---- the loop


def test_training_is_a_pure_function_of_its_settings_and_each_changes_something():
    def result(**options):
        net = tiny()
        given = settings(steps=3) | {"scales": (1.0, 1.0)} | options
        return train(net, Shapes(9, size=33), **given), state(net)

    losses, weights_ = result()
    torch.rand(7)  # whoever else draws random numbers
    assert result()[0] == losses
    assert all(torch.equal(value, weights_[name]) for name, value in result()[1].items())
    changes = {
        "seed": 1,
        "rate": 0.02,
        "batch": 3,
        "size": 25,
        "weight_decay": 0.1,
        "power": 2.0,
        "scales": (0.5, 2.0),
        "steps": 4,
    }
    for name, value in changes.items():
        other = result(**{name: value})[1]
        assert any(not torch.equal(value, weights_[name]) for name, value in other.items()), name


def test_dropout_is_in_the_seed_too_and_leaves_torch_s_own_generator_alone():
    def result(drop):
        net = tiny(drop=drop)
        return train(net, Shapes(9, size=17), **settings(steps=2))

    assert result(0.5) == result(0.5)
    assert result(0.5) != result(0.0)


class Drops(nn.Module):
    """Remembers what dropout left of ones, at every step."""

    def __init__(self):
        super().__init__()
        self.seen, self.bias = [], nn.Parameter(torch.zeros(4))

    def forward(self, x):
        self.seen.append(tuple(F.dropout(torch.ones(50), 0.5, self.training).tolist()))
        return self.bias.view(1, 4, 1, 1).expand(len(x), -1, *x.shape[2:])


def test_every_step_drops_something_else():
    train(net := Drops(), Uneven(), **settings(steps=4))
    assert len(set(net.seen)) == 4
    train(again := Drops(), Uneven(), **settings(steps=4))
    assert again.seen == net.seen


class Shaken(Uneven):
    """Where a process of its own prepares the images, signals reach it as they do from a terminal."""

    parent = os.getpid()

    def __getitem__(self, index):
        if os.getpid() != self.parent:
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
        return super().__getitem__(index)


def test_processes_that_prepare_images_change_nothing_and_do_not_hear_ctrl_c():
    alone, helped = (train(tiny(), Shaken(), **settings(), workers=workers) for workers in (0, 1))
    assert helped == alone


def test_it_learns():
    torch.manual_seed(0)
    net, data = Plain(4), Shapes(40, size=17)
    before = evaluate(net, data).miou
    losses = train(net, data, **settings(steps=40, batch=8, rate=0.1) | {"scales": (1.0, 1.0)})
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert evaluate(net, data).miou > before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"size": 20_000}, "size must be at most 4,096, got 20,000"),
        ({"size": 4096, "batch": 99}, "at most 67,108,864 pixels, got 99 crops of 4,096"),
        ({"rate": 0.0}, "rate must be positive and finite, got 0"),
        ({"rate": float("nan")}, "rate must be positive and finite, got nan"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay and seed must be at least 0, got -1.0"),
        ({"frozen": ["neck"]}, "has no part 'neck': frozen may name backbone, aspp, decoder, classify"),
        ({"fresh": ["decode"]}, "has no part 'decode': fresh may name backbone, aspp, decoder, classify"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(tiny(), Shapes(9, size=17), **settings() | options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_whose_checkpoint_could_not_be_read_is_refused_before_the_work(tmp_path):
    net = nn.Sequential(nn.Linear(2**26, 2, device="meta"), nn.Linear(2, 2, device="meta"))  # weights and momentum: 1 GiB
    with pytest.raises(
        ValueError, match=r"a checkpoint of this Sequential claims 1,073,741,888 bytes: no network here needs more"
    ):
        train(net, Shapes(9, size=17), **settings(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RuntimeError):  # what is frozen has no momentum: it begins, and cannot go on without numbers
        train(net, Shapes(9, size=17), **settings(), out=tmp_path / "run", frozen=["0"])


class Damaged(Shapes):
    """One of its pictures cannot be read."""

    def __getitem__(self, index):
        if index == 5:
            raise self.error
        return super().__getitem__(index)


class Own(ValueError):
    """An error that cannot be sent from process to process: it is made of two things."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_said_without_the_worker_that_read_it(workers):
    data = Damaged(9, size=17)
    for data.error in (ValueError("5.jpg is no complete photo"), FileNotFoundError("5.jpg is gone")):
        with pytest.raises(type(data.error)) as caught:
            train(tiny(), data, **settings(), workers=workers)
        assert str(caught.value) == str(data.error)
        assert "raise self.error" in str(caught.value.__cause__)  # the line of one's own is not lost
    data.error = Own("5.jpg", "of another library")
    with pytest.raises((ValueError, RuntimeError), match=r"5\.jpg: of another library"):
        train(tiny(), data, **settings(), workers=workers)
    data.error = ValueError("5.jpg holds a lock")
    data.error.reader = threading.Lock()  # cannot be pickled
    with pytest.raises(ValueError, match=r"5\.jpg holds a lock"):
        train(tiny(), data, **settings(), workers=0)
    with pytest.raises(ValueError, match=r"5\.jpg holds a lock"):
        Told(Batches(data, batch=9, size=17, seed=0, scales=(1.0, 1.0)))[0]


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_kept(tmp_path):
    net = tiny()
    nn.init.constant_(net.classify.bias, float("nan"))
    with pytest.raises(RuntimeError, match=r"the loss is nan: try a smaller rate than 0\.01"):
        train(net, Shapes(9, size=17), **settings(), out=tmp_path, save_every=0)
    assert not (tmp_path / "checkpoint.safetensors").exists()


# ---- what it starts from


def test_weights_are_loaded_where_they_fit_and_the_rest_is_named():
    begin = start(21, model="deeplabv3plus-mobilenet_v2", source="shipped")
    assert begin.fresh == ["decoder"]
    ours, theirs = begin.net.state_dict(), pretrained().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith(("backbone.", "aspp.")))
    assert start(5, source="shipped").fresh == ["classify"]
    assert start(21, source="shipped").fresh == []
    assert isinstance(start(21, source="shipped").net, type(pretrained()))


def test_the_part_that_is_named_is_the_widest_that_is_fresh():
    net = DeepLabV3Plus(mobilenet_v2(width=0.25), 4, channels=8, low_channels=4)
    other = {name: value for name, value in net.state_dict().items() if not name.startswith(("decoder.", "aspp.branches.0."))}
    other["classify.weight"] = torch.zeros(9, 8, 1, 1)
    assert load_what_fits(net, other) == ["aspp.branches.0", "decoder", "classify.weight"]
    with pytest.raises(ValueError, match=r"none of these 1 arrays fits a DeepLabV3Plus by name and shape, as gone"):
        load_what_fits(net, {"gone": torch.zeros(1)})


def test_the_small_network_has_about_120_000_parameters_and_a_file_of_it_can_be_opened(tmp_path):
    begin = start(4)
    assert begin.fresh == ["backbone", "aspp", "decoder", "classify"]
    assert 100_000 < sum(value.numel() for value in begin.net.parameters()) < 140_000
    weights.save(begin.net.state_dict(), tmp_path / "w.safetensors", about={"network": begin.network})
    again, x = opened(tmp_path / "w.safetensors"), torch.rand(1, 3, 65, 65)
    with torch.inference_mode():
        assert torch.equal(again(x), begin.net.eval()(x))
    other = start(7, source=tmp_path / "w.safetensors")  # further, with other classes
    assert other.fresh == ["classify"]
    assert torch.equal(other.net.backbone.root[0].conv.weight, begin.net.backbone.root[0].conv.weight)


def test_a_name_that_is_no_deeplab_is_refused():
    with pytest.raises(ValueError, match="xception does not answer for every pixel: name a model, one of deeplabv3-xception41"):
        start(4, model="xception")


def test_shapes_to_measure_with_are_none_to_learn_from():
    assert not torch.equal(data_of(None, "val")[0].image, data_of(None, "train")[0].image)
    assert not torch.equal(data_of(None, "train", seed=1)[0].image, data_of(None, "train")[0].image)
    assert torch.equal(data_of(None, "val", seed=1)[0].image, data_of(None, "val")[0].image)
    assert starting.HELD_OUT > 10**6  # the largest seed that the command takes
