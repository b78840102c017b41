"""The ablations in small: every arm is the network it says, and a verdict follows the rule that was written before the run."""

import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

import minideeplab as m
from minideeplab.cost import profile
from minideeplab.learn import ablations, experiments
from minideeplab.learn.ablations import EXPERIMENTS, Arm, Claim, Experiment
from minideeplab.learn.batches import Kept
from minideeplab.learn.data import Sample, Shapes
from minideeplab.learn.experiments import committed, judge, read, run, verdicts
from minideeplab.learn.small_networks import CLASSES, Stack, between, dense, plus, unreduced

ARMS = [(name, arm) for name, experiment in EXPERIMENTS.items() for arm in experiment.arms]


def params(name: str, arm: str) -> int:
    return sum(value.numel() for value in EXPERIMENTS[name].arms[arm].make().parameters())


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_arm_gives_a_class_to_every_pixel_and_learns(name, arm):
    torch.manual_seed(0)
    net = EXPERIMENTS[name].arms[arm].make()
    logits = net(torch.rand(2, 3, 65, 65))
    assert logits.shape == (2, CLASSES, 65, 65)
    logits.square().mean().backward()
    assert all(value.grad is not None for value in net.parameters())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_claims_name_arms_and_measures_that_the_experiment_has(name):
    experiment = EXPERIMENTS[name]
    rows = {arm + look for arm, (_, _, looks) in experiment.arms.items() for look in looks}
    for claim in experiment.claims:
        assert {claim.better, claim.worse} <= rows
        assert claim.measure in experiments.COLUMNS
        assert claim.better != claim.worse


def test_wrong_pixels_are_parted_by_their_distance_from_a_boundary(monkeypatch):
    halves = torch.zeros(16, 20, dtype=torch.long)
    halves[:, 10:] = 1
    data = Kept(Shapes(1))
    data.samples = [Sample(torch.zeros(3, 16, 20), halves)]
    monkeypatch.setattr(ablations, "held_out", lambda: data)

    class Blank(nn.Module):
        """Says that everything is of class 0."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([1.0, 0, 0, 0])[None, :, None, None].expand(1, 4, *x.shape[2:])

    found = ablations.scores(Blank(), 0)
    assert (found["accuracy"], found["near"], found["far"]) == (1 / 2, 4 / 20, 6 / 20)  # columns: 4 lie within 4 of the line
    monkeypatch.setattr(ablations, "EDGE", 7)
    assert ablations.scores(Blank(), 0)["near"] == 7 / 20


@pytest.mark.parametrize(("name", "most"), [("spectrum", 0.08), ("equal-size", 0.05), ("activation", 0.05), ("residual", 0.0)])
def test_arms_that_are_said_to_be_of_one_size_are(name, most):
    counts = [params(name, arm) for arm in EXPERIMENTS[name].arms]
    assert max(counts) / min(counts) - 1 <= most


def test_asked_at_another_output_stride_a_network_keeps_its_weights_and_its_rates_follow(monkeypatch):
    asked, net = list[nn.Module](), plus()
    monkeypatch.setattr(ablations, "scores", lambda other, seed: asked.append(other) or {})
    ablations.at_stride(net, 0, output_stride=8)
    rates = [
        [conv.dilation[0] for conv in one.aspp.modules() if isinstance(conv, nn.Conv2d) and conv.groups > 1]
        for one in (net, asked[0])
    ]
    assert rates == [[1, 2], [2, 4]]
    assert asked[0].backbone.output_stride == 8
    assert all(torch.equal(value, asked[0].state_dict()[name]) for name, value in net.state_dict().items())


def test_dense_arms_of_another_experiment_are_not():
    counts = [params("separable", arm) for arm in EXPERIMENTS["separable"].arms]
    assert max(counts) / min(counts) - 1 > 0.05


def test_rates_that_are_compared_see_equally_far():
    fields = {arm: profile(nn.Sequential(*made(arm)), (1, 32, 65, 65)).receptive_field for arm in EXPERIMENTS["gridding"].arms}
    assert fields["2, 2, 2"] == fields["1, 2, 3"] == 13
    assert fields["2, 2, 4"] == fields["1, 2, 5"] == 17
    assert fields["2, 4, 8"] == fields["3, 4, 7"] == 29


def made(arm: str) -> list[nn.Module]:
    return [part for part in EXPERIMENTS["gridding"].arms[arm].make().pairs.modules() if isinstance(part, nn.Conv2d)]


def test_only_what_stands_between_the_halves_differs():
    arms = EXPERIMENTS["activation"].arms
    kinds = {name: [type(part) for part in list(arm.make().pairs[0])[1]] for name, arm in arms.items()}
    assert kinds["nothing"] == [nn.Conv2d, nn.Conv2d]
    assert kinds["BN and ReLU"] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    assert kinds["ELU"] == [nn.Conv2d, nn.ELU, nn.Conv2d]
    depthwise, _, pointwise = between(4, nn.ReLU)
    assert (depthwise.groups, pointwise.kernel_size) == (4, (1, 1))


def test_without_shortcuts_the_stack_is_another_function():
    torch.manual_seed(0)
    net, x = Stack([dense] * 4, 8).eval(), torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        with_them = net(x)
        net.shortcuts = False
        assert not torch.allclose(with_them, net(x))


def test_a_decoder_without_reduction_reads_the_map_as_it_is():
    net = unreduced().eval()
    low, high = torch.rand(1, 24, 9, 9), torch.rand(1, 32, 5, 5)
    wider = []
    net.decoder.refine[0].register_forward_pre_hook(lambda _, inputs: wider.append(inputs[0]))
    net.decoder(low, high)
    assert torch.equal(wider[0][:, 32:], low)


def test_without_image_pooling_no_pixel_sees_the_whole_image():
    torch.manual_seed(0)
    seen = {}
    for name in ("image pooling", "without"):
        net = EXPERIMENTS["pooling"].arms[name].make().eval()
        x = torch.rand(1, 204, 33, 33, requires_grad=True)
        net.aspp(x)[0, :, 0, 0].sum().backward()
        seen[name] = bool(x.grad[0, :, -1, -1].any())
    assert seen == {"image pooling": True, "without": False}


def test_the_same_weights_answer_at_another_output_stride():
    torch.manual_seed(0)
    net = plus().eval()
    finer = plus(output_stride=8, rates=(2, 4)).eval()
    finer.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(net.backbone(x).high, finer.backbone(x).high[:, :, ::2, ::2])


# ---- the rule


@pytest.mark.parametrize(
    ("differences", "within", "word"),
    [
        ([0.02, 0.03, 0.04], None, "reproduced"),
        ([-0.02, -0.03, -0.04], None, "contradicted"),
        ([0.02, 0.03, -0.04], None, "undecided"),
        ([0.001, 0.1, 0.2], None, "undecided"),  # all on one side, and still
        ([0.001, -0.001, 0.002], 0.02, "reproduced"),
        ([0.05, 0.051, 0.052], 0.02, "contradicted"),
        ([-0.05, -0.051, -0.052], 0.02, "contradicted"),
        ([0.01, 0.03, 0.02], 0.02, "undecided"),
    ],
)
def test_a_verdict_follows_the_interval(differences, within, word):
    assert judge(Claim("a", "b", within=within), differences).word == word


def test_the_interval_is_students():
    """Of 1, 2, 3, 4, 5 the mean is 3 and the half width 2.776 * sqrt(2.5 / 5), as any table of t says for four degrees."""
    found = judge(Claim("a", "b"), [1.0, 2.0, 3.0, 4.0, 5.0])
    assert math.isclose(found.high - found.mean, 1.963, abs_tol=1e-3)
    assert math.isclose(found.mean - found.low, 1.963, abs_tol=1e-3)


def test_lower_losses_are_better_and_seeds_are_paired():
    rows = [
        {"arm": arm, "seed": seed, "mean_loss": str(loss), "miou": "0"}
        for arm, losses in (("nothing", {"0": 1.0, "1": 2.0, "9": 0.0}), ("ReLU", {"1": 2.5, "0": 1.4, "7": 0.0}))
        for seed, loss in losses.items()
    ]
    found = {verdict.claim.measure: verdict for verdict in verdicts("activation", rows)}
    assert found["mean_loss"].seeds == 2
    assert math.isclose(found["mean_loss"].mean, 0.45)


# ---- runs


@pytest.fixture
def tiny(monkeypatch):
    """An experiment that takes a second."""
    monkeypatch.setattr(ablations, "HELD", 2)
    monkeypatch.setattr(experiments, "PICTURES", 8)
    ablations.held_out.cache_clear()
    monkeypatch.setattr(experiments, "BATCH", 2)
    arms = {
        "a": Arm(lambda: Stack([dense] * 2, 4)),
        "b": Arm(lambda: Stack([dense] * 2, 4, shortcuts=False)),
    }
    monkeypatch.setitem(EXPERIMENTS, "tiny", Experiment("?", "nobody", arms, [Claim("a", "b")]))
    yield
    ablations.held_out.cache_clear()


def test_a_run_goes_on_where_it_stopped_and_ends_the_same(tiny, tmp_path, monkeypatch):
    whole = run("tiny", seeds=2, folder=tmp_path / "whole", steps=2)
    calls, train = [], experiments.train

    def stops(*arguments, **options):
        calls.append(options["seed"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(experiments, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        run("tiny", seeds=2, folder=tmp_path / "parts", steps=2)
    assert len(read(tmp_path / "parts" / "tiny.csv")) == 2
    again = run("tiny", seeds=2, folder=tmp_path / "parts", steps=2)
    assert calls == [0, 0, 1, 1, 1]
    assert again == whole == read(tmp_path / "parts" / "tiny.csv")
    assert run("tiny", seeds=2, folder=tmp_path / "parts", steps=2) == whole
    assert len(calls) == 5


def test_another_seed_is_another_run(tiny, tmp_path):
    rows = run("tiny", seeds=2, folder=tmp_path, steps=2)
    assert len({row["mean_loss"] for row in rows}) == 4
    assert len(list(verdicts("tiny", rows))) == 1


@pytest.mark.parametrize("asked", [{"seeds": 0}, {"seeds": 1, "steps": 0}])
def test_what_cannot_be_run_is_refused(asked, tmp_path):
    with pytest.raises(ValueError, match="must be"):
        run("decoder", folder=tmp_path, **asked)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a,b\n", 1), ("a,b\n1,2\n", 2), ("{columns}\n\nonly,two\n", 3), ("{columns}\n{columns},more\n", 2)],
)
def test_a_file_of_other_columns_is_no_result(text, line, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "train", None)  # it would not be reached
    (tmp_path / "decoder.csv").write_text(text.format(columns=",".join(experiments.COLUMNS)))
    with pytest.raises(ValueError, match=rf"decoder\.csv, line {line}: a result has the columns arm, seed, .*; name another"):
        run("decoder", seeds=2, folder=tmp_path)


@pytest.mark.parametrize("rest", [b'"de"x,1\n', b"\xff\n"])
def test_a_file_that_is_no_table_is_named(rest, tmp_path):
    (tmp_path / "decoder.csv").write_bytes(",".join(experiments.COLUMNS).encode() + b"\n" + rest)
    with pytest.raises(ValueError, match=r"decoder\.csv, line \d, is no table"):
        read(tmp_path / "decoder.csv")


def test_a_folder_that_cannot_be_is_refused_before_the_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "train", None)  # it would not be reached
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        run("tiny", seeds=1, folder=tmp_path / "file", steps=1)


def test_an_unknown_experiment_is_answered_with_the_known(tmp_path):
    with pytest.raises(ValueError, match="there is no experiment nonsense: choose one of activation, "):
        run("nonsense", seeds=1, folder=tmp_path)


def test_a_trained_kernel_is_read_layer_by_layer():
    net = EXPERIMENTS["hypothesis"].arms[""].make()
    kernel = net.pairs[0][1].weight
    assert ablations.share(net, 0, layer=0, trained=True) == {"share": float(m.separable_share(kernel.detach())[0])}
    assert ablations.share(net, 0, layer=0, trained=False) != ablations.share(net, 1, layer=0, trained=False)


RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed")
@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.csv")), ids=lambda file: file.stem)
def test_committed_results_are_those_of_the_arms_there_are(file):
    rows, experiment = read(file), EXPERIMENTS[file.stem]
    assert {row["arm"] for row in rows} == {arm + look for arm, (_, _, looks) in experiment.arms.items() for look in looks}
    for arm in experiment.arms:
        assert {int(row["params"]) for row in rows if row["arm"] == arm} <= {params(file.stem, arm)}
    seeds = {arm: {row["seed"] for row in rows if row["arm"] == arm} for arm in {row["arm"] for row in rows}}
    assert len(set(map(frozenset, seeds.values()))) == 1


def claimed_lines(name):
    """What the page has to say of an experiment, number by number."""
    for claim, mean, low, high, _, word in verdicts(name, read(RESULTS / f"{name}.csv")):
        yield f"| {claim.text()} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) | {word}"


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed")
@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.csv")), ids=lambda file: file.stem)
def test_the_page_says_what_the_results_say(file):
    page = (RESULTS.parent / "experiments.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {file.stem}: ")[2].partition("\n## ")[0]
    lines = list(claimed_lines(file.stem))
    assert lines
    assert [line for line in lines if line not in section] == []
    assert section.count("reproduced in trend |") == sum(line.endswith("reproduced") for line in lines)


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed")
def test_four_experiments_share_a_network_and_its_runs():
    arms = {"decoder": "decoder", "structure": "2", "separable": "separable", "pooling": "image pooling"}
    runs = {name: [row["miou"] for row in read(RESULTS / f"{name}.csv") if row["arm"] == arm] for name, arm in arms.items()}
    assert len(set(map(tuple, runs.values()))) == 1
    others = {row["miou"] for row in read(RESULTS / "separable.csv") if row["arm"] == "dense"}
    assert others.isdisjoint(runs["decoder"])


def test_results_that_came_with_the_checkout_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [len(committed(name)) for name in ("decoder", "heads")] == [10, 35]
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no .*decoder\.csv: python -m minideeplab experiment decoder -o "):
        committed("decoder")


def test_a_hybrid_that_is_told_in_the_notebook_is_the_one_that_was_measured():
    cells = nbformat.read(Path(__file__).parents[2] / "notebooks" / "13_a_family_of_heads.ipynb", as_version=4).cells
    (folded,) = [cell.source for cell in cells if "A worked hybrid" in cell.source]
    names: dict[str, object] = {"nn": nn, "torch": torch}
    exec(re.search(r"```python\n(.*?)```", folded, re.DOTALL)[1], names)
    torch.manual_seed(0)
    net = EXPERIMENTS["hybrid"].arms["hybrid"].make().eval()
    told = names["MyHead"](net.backbone).eval()
    told.load_state_dict(net.head.state_dict())
    pyramid = net.backbone.pyramid(torch.rand(1, 3, 65, 65))
    assert torch.equal(told(pyramid), net.head(pyramid))
    assert told.channels == net.head.channels
    assert f"{sum(value.numel() for value in net.parameters()):,} parameters" in folded


def test_a_hybrid_without_a_bridge_is_another_one():
    net = EXPERIMENTS["hybrid"].arms["hybrid"].make().eval()
    pyramid = net.backbone.pyramid(torch.rand(1, 3, 65, 65))
    before = net.head(pyramid)
    with torch.no_grad():
        net.head.bridges[1].weight.zero_()
    assert not torch.equal(net.head(pyramid), before)


def test_a_bound_beside_zero_is_told_with_the_digits_that_say_on_which_side():
    verdict = judge(Claim("a", "b"), [0.0101, 0.0099])._replace(low=0.0001, mean=0.01, high=0.0199)
    assert verdict.text().startswith("reproduced   +1.00 (+0.01 to +1.99) points:")
    assert verdict._replace(low=0.001).text().startswith("reproduced    +1.0 (+0.1 to +2.0) points:")
