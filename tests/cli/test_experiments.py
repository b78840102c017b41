"""The command `experiment`: what it prints, what it refuses, and how it goes on."""

import json

import pytest

from minideeplab.__main__ import main
from minideeplab.learn import ablations, experiments
from minideeplab.learn.ablations import EXPERIMENTS, Arm, Claim, Experiment
from minideeplab.learn.small_networks import Stack, dense


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """One that takes a second, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablations, "HELD", 2)
    monkeypatch.setattr(experiments, "PICTURES", 8)
    monkeypatch.setattr(experiments, "BATCH", 2)
    ablations.held_out.cache_clear()
    arms = {name: Arm(lambda width=width: Stack([dense] * 2, width)) for name, width in (("a", 4), ("b", 6))}
    monkeypatch.setitem(
        EXPERIMENTS, "tiny", Experiment("Is a better?", "nobody", arms, [Claim("a", "b"), Claim("b", "a", within=1.5)])
    )
    yield
    ablations.held_out.cache_clear()


def test_a_line_for_each_claim_and_a_file_that_is_gone_on_from(capsys, tmp_path):
    assert main(["experiment", "tiny", "--seeds", "2", "--steps", "2"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["undecided", "reproduced"]
    assert '"a" is better than "b" (mIoU)' in out
    assert "Is a better? (nobody)" in err
    file = tmp_path / "results" / "tiny.csv"
    before = file.read_bytes()
    assert main(["experiment", "tiny", "--seeds", "2", "--steps", "2"]) == 0
    assert capsys.readouterr().out == out
    assert file.read_bytes() == before


def test_json_is_one_object(capsys):
    assert main(["experiment", "tiny", "--seeds", "3", "--steps", "1", "--json", "-o", "here"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["experiment"], facts["rows"]) == ("tiny", 6)
    assert set(facts["claims"][0]) == {"claim", "mean", "interval", "seeds", "verdict"}
    assert facts["claims"][0]["seeds"] == 3


def test_results_of_other_steps_are_not_mixed_in(capsys):
    for steps in ("2", "9", "2"):  # the last finds its rows before those of the second
        assert main(["experiment", "tiny", "--seeds", "2", "--steps", steps, "--json"]) == 0
    first, second, again = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["rows"], second["rows"], again["rows"]) == (4, 8, 8)
    assert again["claims"] == first["claims"] != second["claims"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "invalid choice"),
        (["decoder", "--seeds", "1"], "must be from 2"),
        (["decoder", "--steps", "0"], "must be from 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(["experiment", *words])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minideeplab.cli.experiments.run", interrupted)
    assert main(["experiment", "tiny"]) == 130
    assert "the same command goes on from" in capsys.readouterr().err
