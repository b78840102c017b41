"""`train` and `evaluate` from outside: what they print and leave behind, what they resume, and one line for bad input."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from minideeplab import weights
from minideeplab.__main__ import main
from minideeplab.cli import training
from minideeplab.learn import run as running
from minideeplab.learn import start as starting
from minideeplab.learn.data import Sample
from minideeplab.learn.evaluate import evaluate
from minideeplab.learn.start import data_of, opened

Image = pytest.importorskip("PIL.Image")
FILES = {"checkpoint.safetensors", "log.csv", "weights.safetensors", "curves.png"}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Few shapes to measure with, and no lasting change of this process's memory."""
    monkeypatch.setattr(starting, "SHAPES", (50, 3))
    monkeypatch.setattr(training, "keep_freed_memory", lambda: True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six photos in VOC's layout, 3 classes, each with a frame of void."""
    root = tmp_path_factory.mktemp("voc")
    for place in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / place).mkdir(parents=True)
    draw = np.random.RandomState(0)
    for k in range(6):
        labels = np.kron(draw.randint(0, 3, (5, 7)), np.ones((8, 8))).astype(np.uint8)
        labels[:2] = 255
        picture = Image.fromarray(labels)
        picture.putpalette([0] * 768)
        picture.save(root / f"SegmentationClass/{k}.png")
        colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])[labels % 3] + draw.randint(-20, 20, (40, 56, 1))
        Image.fromarray(colors.astype(np.uint8)).save(root / f"JPEGImages/{k}.jpg")
    (root / "ImageSets/Segmentation/train.txt").write_text("0\n1\n2\n3\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("4\n5\n")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root


def answer(capsys, *words):
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out, err


def refused(capsys, *words):
    try:
        status = main([str(word) for word in words])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


def kept(out):
    """The weights, bit by bit, and the log; safetensors writes the texts of a header in any order."""
    arrays = weights.read(out / "weights.safetensors")
    return {name: value.numpy().tobytes() for name, value in arrays.items()}, (out / "log.csv").read_text()


SHORT = ("--steps", 2, "--batch", 2, "--size", 33)


def test_train_without_data_learns_shapes_and_evaluate_agrees_about_them(capsys, tmp_path):
    out, err = answer(capsys, "train", "-o", tmp_path / "run", *SHORT, "--json")
    facts = json.loads(out)
    assert out.count("\n") == 1
    assert set(facts["classes"]) == {"background", "disc", "rod", "box"}
    assert set(facts["trimap"]) == {"1", "2", "4", "8"}
    assert {"miou", "accuracy", "loss", "seconds", "params"} <= set(facts)
    assert (facts["steps"], facts["fresh"]) == (2, ["backbone", "aspp", "decoder", "classify"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert err == ""
    net = opened(tmp_path / "run" / "weights.safetensors")
    assert evaluate(net, data_of(None, "val")).facts()["miou"] == facts["miou"]
    out, _ = answer(capsys, "evaluate", "--weights", tmp_path / "run" / "weights.safetensors", "--json")
    again = json.loads(out)
    assert {name: again[name] for name in ("miou", "accuracy", "classes", "trimap")} == {
        name: facts[name] for name in ("miou", "accuracy", "classes", "trimap")
    }
    assert again["images"] == 3


def test_for_readers_there_are_lines(capsys, tmp_path):
    out, _ = answer(capsys, "train", "-o", tmp_path / "run", *SHORT)
    assert [line.split(maxsplit=1)[1] for line in out.splitlines()] == [
        "mIoU", "accuracy", *(f"IoU of {name}" for name in ("background", "disc", "rod", "box")),
        *(f"mIoU within {width} of a boundary" for width in (1, 2, 4, 8)),
    ]  # fmt: skip


def test_every_option_of_training_reaches_it(capsys, tmp_path, monkeypatch):
    given = {}

    def records(net, data, **options):
        given.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(running, "train", records)
    line = ("--steps", 7, "--batch", 3, "--size", 49, "--rate", 0.5, "--seed", 11)
    words = ("train", "-o", tmp_path, *line, "--freeze", "backbone", "--frozen-norm", "--resume", "--weights", "shipped")
    assert main([str(word) for word in words]) == 2
    assert capsys.readouterr().err.splitlines() == ["loaded from shipped: all but classify", "minideeplab: error: enough"]
    about = given.pop("about")
    assert given == {
        "steps": 7, "batch": 3, "size": 49, "rate": 0.5, "seed": 11, "frozen": ["backbone"], "freeze_norm": True,
        "fresh": ["classify"], "resume": True, "out": tmp_path, "scales": (1.0, 1.0), "workers": 1,
    }  # fmt: skip
    assert about["labels"] == "background\ndisc\nrod\nbox"
    refused(capsys, "train")
    assert {key: given[key] for key in ("steps", "batch", "size", "rate", "seed")} == {
        "steps": 1000, "batch": 8, "size": 65, "rate": running.RATE, "seed": 0
    }  # fmt: skip
    text = " ".join(answer_of_help(capsys).split())
    assert f"(default: {running.RATE}, from weights {running.LOADED_RATE})" in text


def answer_of_help(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    return capsys.readouterr().out


def test_shapes_are_learned_on_one_thread_whatever_the_machine_has(capsys, tmp_path, monkeypatch):
    threads, learn, before = [], running.train, torch.get_num_threads()
    monkeypatch.setattr(
        running, "train", lambda *given, **named: (threads.append(torch.get_num_threads()), learn(*given, **named))[1]
    )
    try:
        torch.set_num_threads(2)
        answer(capsys, "train", "-o", tmp_path / "run", *SHORT)
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


def test_a_folder_in_voc_s_layout_is_learned_from_the_shipped_weights(capsys, tmp_path, folder):
    line = ("train", folder, "-o", tmp_path / "run", "--weights", "shipped", "--model", "deeplabv3plus-mobilenet_v2", *SHORT)
    out, err = answer(capsys, *line, "--freeze", "backbone", "--frozen-norm", "--json")
    facts = json.loads(out)
    assert err == "loaded from shipped: all but decoder, classify\n"
    assert facts["fresh"] == ["decoder", "classify"]
    assert list(facts["classes"]) == ["red", "green", "blue"]
    net = opened(tmp_path / "run" / "weights.safetensors")
    theirs = opened("shipped").state_dict()
    assert all(torch.equal(value, theirs[f"backbone.{name}"]) for name, value in net.backbone.state_dict().items())
    aspp, decoder = (net.get_submodule(name).state_dict() for name in ("aspp", "decoder"))
    assert all(torch.equal(value, theirs[f"aspp.{name}"]) for name, value in aspp.items() if "running" in name)  # frozen norms
    fresh = [value for name, value in decoder.items() if name.endswith("running_mean")]
    assert fresh
    assert all(value.any() for value in fresh)  # a fresh one measures its own
    photo = folder / "JPEGImages" / "4.jpg"
    out, _ = answer(capsys, "segment", photo, "--weights", tmp_path / "run" / "weights.safetensors", "-o", tmp_path / "4.png")
    assert {line.split()[1] for line in out.splitlines()} <= {"red", "green", "blue"}  # the names stand in the file
    out, _ = answer(
        capsys, "evaluate", folder, "--weights", tmp_path / "run" / "weights.safetensors", "--split", "train", "--json"
    )
    assert json.loads(out)["images"] == 4


def test_a_run_goes_on_with_resume_and_only_then(capsys, tmp_path):
    answer(capsys, "train", "-o", tmp_path / "run", *SHORT)
    before = kept(tmp_path / "run")
    assert "holds a run already: resume it, or name another folder" in refused(capsys, "train", "-o", tmp_path / "run", *SHORT)
    answer(capsys, "train", "-o", tmp_path / "run", *SHORT, "--resume")
    assert kept(tmp_path / "run") == before
    line = ("train", "-o", tmp_path / "run", "--resume", "--steps", 3, "--batch", 2, "--size", 33)
    assert "steps was 2, is 3" in refused(capsys, *line)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    answer(capsys, "train", "-o", tmp_path / "whole", *SHORT, "--steps", 3)
    found, calls = starting.Shapes.__getitem__, []

    def interrupted(self, index):
        calls.append(index)
        if len(calls) == 3:
            os.kill(os.getppid(), signal.SIGINT)  # images are prepared in a process of its own
        return found(self, index)

    line = ["train", "-o", tmp_path / "run", *SHORT, "--steps", 3]
    with monkeypatch.context() as patch:
        patch.setattr(starting.Shapes, "__getitem__", interrupted)
        assert main([str(word) for word in line]) == 130
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == (
        "", [f"stopped: the same command with --resume goes on from {tmp_path / 'run'}", "minideeplab: interrupted"]
    )  # fmt: skip
    answer(capsys, *line, "--resume")
    assert kept(tmp_path / "run") == kept(tmp_path / "whole")


def test_without_matplotlib_there_is_no_picture_and_all_else(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minideeplab.course.curves", None)
    out, _ = answer(capsys, "train", "-o", tmp_path / "run", *SHORT, "--json")
    assert json.loads(out)["curves"] is False
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES - {"curves.png"}


def test_two_processes_print_and_write_once(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "minideeplab"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    words = [*map(str, (*SHORT, "--batch", 4)), "--json", "-o", str(tmp_path / "run")]
    done = subprocess.run([*command, "train", *words], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[:2000]
    assert json.loads(done.stdout)["steps"] == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --steps 0", "must be from 1 to"),
        ("train --size 20000", "must be from 1 to 4,096, got 20,000"),
        ("train --batch x", "expected a whole number"),
        ("train --rate nan -o {}/run", "rate must be positive and finite, got nan"),
        ("train --rate -1 -o {}/run", "rate must be positive and finite, got -1.0"),
        ("train {}/missing", "missing"),
        ("train -o {}/missing/run --steps 1", "missing/run"),
        ("train --weights {}/missing", "missing"),
        ("train --model xception -o {}/run", "xception does not answer for every pixel"),
        ("train --model deeplabv3-none -o {}/run", "deeplabv3-none does not answer for every pixel"),
        ("train --batch 1 -o {}/run", "needs a batch of at least 2 in training, got 1"),
        ("train --freeze classify", "invalid choice"),
        (
            "train --frozen-norm -o {}/run",
            "those of loaded weights, and none were loaded: name some (--weights)",
        ),
        ("evaluate", "the following arguments are required: --weights"),
        ("evaluate --weights shipped", "the network tells 21 classes apart, the data have 4"),
        ("evaluate --weights {}/missing", "missing"),
    ],
)
def test_bad_input_is_one_line(line, message, capsys, tmp_path):
    assert message in refused(capsys, *line.format(*[tmp_path] * 2).split())


def test_scores_are_exact_and_a_band_without_pixels_has_none():
    class Flat:
        classes = ("a", "b", "c")

        def __init__(self, *labels):
            self.labels = labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            labels = torch.tensor(self.labels[index])
            return Sample(torch.zeros(3, *labels.shape), labels)

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.score = torch.nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))
            self.sizes = []

        def forward(self, x):
            self.sizes.append(tuple(x.shape))
            return self.score[None, :, None, None].expand(len(x), -1, *x.shape[2:])

    net = First()
    scores = evaluate(net, Flat([[0, 0, 0, 0, 0, 1, 255]], [[0] * 20]), widths=(1, 9))
    assert net.sizes == [(1, 3, 1, 17), (1, 3, 1, 33)]
    assert net.training
    assert scores.accuracy * 26 == 25
    assert scores.classes == {"a": scores.accuracy, "b": 0, "c": None}
    assert scores.miou * 2 == scores.accuracy
    assert scores.trimap[1] != scores.trimap[9]
    flat = evaluate(net, Flat([[0] * 20]))
    assert (flat.miou, flat.trimap) == (1, dict.fromkeys((1, 2, 4, 8)))
    assert "none  mIoU within 1 of a boundary" in flat.text()
    assert flat.facts()["trimap"] == {"1": None, "2": None, "4": None, "8": None}
    with pytest.raises(ValueError, match="there is no image to evaluate on"):
        evaluate(net, Flat())


def test_what_is_said_about_the_padding_is_cut_off():
    class Quarters:
        classes = ("dark", "light")

        def __len__(self):
            return 2

        def __getitem__(self, index):
            labels = torch.zeros(5, 7, dtype=torch.int64)
            labels[:2, :3] = 1  # no symmetry hides a shift
            return Sample((2.0 * labels - 1).expand(3, -1, -1), labels)

    class Reads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.sign = torch.nn.Parameter(torch.tensor([-1.0, 1.0]))

        def forward(self, x):
            return x[:, :1] * self.sign.view(1, 2, 1, 1)

    scores = evaluate(Reads(), Quarters())
    assert (scores.accuracy, scores.classes) == (1, {"dark": 1, "light": 1})
