"""`convert` and what it leaves behind: a whole network that says what it is, or nothing and one line."""

import json
import os
import pickle
import random
import re
import time

import numpy as np
import pytest
import torch
from cli.photo_files import authors_checkpoint, fresh

from minideeplab import (
    Classifier,
    DeepLabV3,
    DeepLabV3Plus,
    ResNet,
    mobilenet_v2,
    resnet101,
    weights,
    xception41,
    xception65,
    xception71,
)
from minideeplab.__main__ import main
from minideeplab.learn.network_file import NETWORKS as NAMES
from minideeplab.learn.network_file import build, fill, open_network, recognize

CLASSIFIER = "xception_41 os32 classifier dense 1,1,1"
NETWORKS = {
    "deeplabv3plus-xception41": lambda: DeepLabV3Plus(xception41(width=0.125), 21, channels=16, low_channels=4),
    "deeplabv3plus-xception65": lambda: DeepLabV3Plus(
        xception65(width=0.125), 19, channels=8, low_channels=4, refine=3, separable=False
    ),
    "deeplabv3plus-xception71": lambda: DeepLabV3Plus(xception71(width=0.125), 3, channels=8),
    "deeplabv3-xception65": lambda: DeepLabV3(xception65(width=0.125), 4, channels=8, separable=False),
    "deeplabv3plus-resnet101": lambda: DeepLabV3Plus(resnet101(width=0.125, multi_grid=(1, 2, 4)), 5, channels=8),
    "deeplabv3-resnet50": lambda: DeepLabV3(ResNet([3, 4, 6, 3], width=0.125, multi_grid=(1, 2, 4)), 5, channels=8),
    "classifier-xception65": lambda: Classifier(xception65(output_stride=32, width=0.125), 9),
    "classifier-resnet101": lambda: Classifier(resnet101(output_stride=32, width=0.125), 9),
}


def refused(capsys, *words: object) -> str:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_is_rebuilt_from_its_arrays_alone(name, tmp_path):
    net, path, x = fresh(NETWORKS[name]), tmp_path / "w.safetensors", torch.rand(1, 3, 65, 70) * 2 - 1
    assert recognize(net.state_dict())[0] == name
    weights.save(net.state_dict(), path)  # as files were before they said what they hold
    empty, _ = open_network(path, segments=name.startswith("deeplab"))
    assert all(value.is_meta for value in empty.state_dict().values())  # compared before anything is allocated
    assert torch.equal(fill(empty, path)(x), net(x))


@pytest.mark.parametrize("name", [name for name, model in NAMES.items() if {"classes"} <= model.options.keys()])
def test_every_network_with_classes_is_recognized_and_built_again(name):
    state = build(NAMES, name, classes=7).state_dict()
    again, options = recognize(state)
    assert (again, options["classes"]) == (name, 7)
    assert weights.misfits(build(NAMES, again, **options), state) == []


def test_the_header_says_what_names_and_shapes_cannot(tmp_path):
    def opened(**about: object) -> ResNet:
        known = {"name": "deeplabv3plus-resnet101", "classes": 5, "width": 0.125, "channels": 8, **about}
        weights.save(state, path, about={"network": json.dumps(known)}, overwrite=True)
        return open_network(path, segments=True)[0]

    state, path = NETWORKS["deeplabv3plus-resnet101"]().state_dict(), tmp_path / "w.safetensors"
    assert opened().backbone.output_stride == 16
    assert opened(output_stride=8).backbone.output_stride == 8
    assert opened(output_stride=8).aspp.rates == (12, 24, 36)
    assert opened(multi_grid=[1, 1, 1]).backbone.stages[3][2].look.conv.dilation == (2, 2)
    assert opened().backbone.stages[3][2].look.conv.dilation == (8, 8)
    assert open_network(path, segments=True, output_stride=8)[0].backbone.output_stride == 8  # asked for, it comes first
    for wrong in (
        {"name": "nothing"}, {"name": []}, {"classes": 6}, {"width": 1e300}, {"width": "x"}, {"dense": "no"}, {"rates": [1]},
        {"refine": 10**9}, {"output_stride": 7}, {"multi_grid": [1]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"w\.safetensors holds no (network that can be built|complete DeepLabV3Plus)"):
            opened(**wrong)
    for text in ("{", "7", "[" * 10**5):
        weights.save(state, path, about={"network": text}, overwrite=True)
        with pytest.raises(ValueError, match="holds no network that can be built"):
            open_network(path, segments=True)


@pytest.mark.parametrize(
    ("build_net", "name", "rates"),
    [
        (lambda b: DeepLabV3(b, 5, channels=8, rates=()), "deeplabv3-mobilenet_v2", ()),
        (lambda b: DeepLabV3(b, 5, channels=8, rates=(6, 12, 18)), "deeplabv3-mobilenet_v2", (6, 12, 18)),
        (lambda b: DeepLabV3(b, 5, channels=8, separable=False), "deeplabv3-mobilenet_v2", (6, 12, 18)),
        (lambda b: DeepLabV3Plus(b, 5, channels=8), "deeplabv3plus-mobilenet_v2", (6, 12, 18)),
        (lambda b: DeepLabV3Plus(b, 5, channels=8, rates=()), "deeplabv3plus-mobilenet_v2", ()),
        (lambda b: DeepLabV3Plus(b, 5, channels=8, rates=(), separable=False), "deeplabv3plus-mobilenet_v2", ()),
    ],
)
@torch.no_grad()
def test_a_network_for_phones_is_rebuilt_with_and_without_atrous_branches(build_net, name, rates, tmp_path):
    net, path = fresh(lambda: build_net(mobilenet_v2(width=0.25))), tmp_path / "w.safetensors"
    weights.save(net.state_dict(), path)
    assert recognize(net.state_dict())[0] == name
    again, _ = open_network(path, segments=True)
    assert again.aspp.rates == rates
    x = torch.rand(1, 3, 65, 70) * 2 - 1
    assert torch.equal(fill(again, path)(x), net(x))


def test_rates_that_no_network_can_have_are_refused_before_anything_is_built(tmp_path):
    state, path = DeepLabV3(mobilenet_v2(width=0.25), 5, channels=8, rates=(6, 12, 18)).state_dict(), tmp_path / "w.safetensors"

    def opened(rates: object) -> tuple[int, ...]:
        known = {"name": "deeplabv3-mobilenet_v2", "classes": 5, "width": 0.25, "channels": 8, "rates": rates}
        weights.save(state, path, about={"network": json.dumps(known)}, overwrite=True)
        return open_network(path, segments=True)[0].aspp.rates

    assert opened([1, 2, 256]) == (1, 2, 256)  # what the arrays cannot say, the header says
    for rates, reason in (
        ([1, 2, 257], "rates must be at most 256"), ([10**9, 1, 2], "at most 256"), ([10**400, 1, 2], "at most 256"),
        ([1e300, 1, 2], "at most 256"), ([0, 1, 2], r"rates\[0\] must be at least 1"), ([-(10**9), 1, 2], "at least 1"),
        ([1] * 10**5, "must be different"), (list(range(1, 257)), "arrays do not fit"), ([True, 2, 3], "must be an integer"),
        ([1, 2], "arrays do not fit"), ([], "arrays do not fit"), ("666", "not supported"), (6, "not iterable"),
    ):  # fmt: skip
        start = time.perf_counter()
        with pytest.raises(ValueError, match=rf"w\.safetensors holds no (network|complete).*{reason}"):
            opened(rates)
        assert time.perf_counter() - start < 5  # seconds


def test_chollets_network_runs_at_the_output_stride_that_its_header_says(tmp_path):
    path, about = tmp_path / "x.safetensors", {"name": "xception", "classes": 3, "output_stride": 16}
    weights.save(build(NAMES, "xception", "cpu", classes=3).state_dict(), path, about={"network": json.dumps(about)})
    assert open_network(path, segments=False)[0].exit_flow[1].depthwise.dilation == (2, 2)
    assert open_network(path, segments=False, output_stride=32)[0].exit_flow[1].depthwise.dilation == (1, 1)


@pytest.mark.parametrize("name", ["deeplabv3plus-xception41", "deeplabv3plus-resnet101", "classifier-xception65"])
def test_part_of_a_network_is_refused(name, tmp_path):
    state, draw, path = NETWORKS[name]().state_dict(), random.Random(0), tmp_path / "w.safetensors"
    layers = sorted({key.rpartition(".")[0].rpartition(".")[0] for key in state})
    for _ in range(15):
        gone = tuple(f"{layer}." for layer in draw.sample(layers, draw.randint(1, 20)))
        part = {key: value for key, value in state.items() if not key.startswith(gone)}
        weights.save(part, path, overwrite=True)
        with pytest.raises(ValueError, match=r"fit|last layer|not the arrays|must be|needs") as caught:
            open_network(path, segments=name.startswith("deeplab"))
        assert str(path) in str(caught.value)


def test_a_checkpoint_is_converted_and_says_what_it_holds(tmp_path, capsys):
    authors_checkpoint("xception_41 os16 plus dense 1,1,1", tmp_path / "ckpt.npz")
    (tmp_path / "labels.txt").write_text("background\nrod\ndisc\nstar\nrest\n")
    words = ["convert", tmp_path / "ckpt.npz", "-o", tmp_path / "w.safetensors", "--labels", tmp_path / "labels.txt"]
    assert main([*map(str, words)]) == 0
    printed, about = capsys.readouterr(), weights.describe(tmp_path / "w.safetensors").about
    assert "DeepLabV3Plus, 5 classes, " in printed.out
    assert printed.err == "left out: Momentum (94), global_step (1)\n"
    assert (about["source"], about["labels"].split()[1]) == ("ckpt.npz", "rod")
    assert about["minideeplab"].startswith("DeepLabV3Plus, 5 classes")
    known = json.loads(about["network"])
    assert {"name": "deeplabv3plus-xception41", "classes": 5, "output_stride": 16, "dense": True}.items() <= known.items()
    net, names = open_network(tmp_path / "w.safetensors", segments=True)
    assert names == ["background", "rod", "disc", "star", "rest"]
    assert weights.misfits(net, weights.read(tmp_path / "w.safetensors")) == []


def test_a_file_is_whole_or_not_written(tmp_path, capsys):
    target = tmp_path / "w.safetensors"
    authors_checkpoint(CLASSIFIER, tmp_path / "part.npz", without="unit_3")
    assert re.search(
        r"part.npz holds no complete Classifier: 30 arrays do not fit, first: missing",
        refused(capsys, "convert", tmp_path / "part.npz", "-o", target),
    )
    np.savez(tmp_path / "bias.npz", **{"logits/semantic/biases": np.zeros(3, np.float32)})
    np.savez(tmp_path / "none.npz")
    for name in ("bias.npz holds no network", "none.npz is no complete"):
        assert name in refused(capsys, "convert", tmp_path / name.split()[0], "-o", target)
    assert not target.exists()
    authors_checkpoint(CLASSIFIER, tmp_path / "headless.npz", without="logits")
    assert main(["convert", str(tmp_path / "headless.npz"), "-o", str(target)]) == 0  # features are kept, but not asked
    assert "Classifier without classes" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no last layer \(classify\.weight\)"):
        open_network(target, segments=False)


def test_convert_overwrites_only_what_it_was_told_to(tmp_path, capsys):
    source, target = tmp_path / "ckpt.npz", tmp_path / "w.safetensors"
    authors_checkpoint(CLASSIFIER, source)
    target.write_bytes(b"old")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "exists already: name another with -o, or add --force" in refused(capsys, "convert", source, "-o", target)
    for name, reason in {
        "pipe": "a pipe", "link": "a link", "dangling": "a link", ".": "a folder", "ckpt.npz": "what is read",
        "no/w.safetensors": "no folder",
    }.items():  # fmt: skip
        assert reason in refused(capsys, "convert", source, "-o", tmp_path / name, "--force")
    assert target.read_bytes() == b"old"
    assert main(["convert", str(source), "-o", str(target), "--force"]) == 0
    assert weights.describe(target).about["source"] == "ckpt.npz"


def test_convert_refuses_what_it_cannot_read(tmp_path, capsys):
    (tmp_path / "model.pth").write_bytes(pickle.dumps({}))
    (tmp_path / "names.txt").write_text("x")
    (tmp_path / "text.tflite").write_text("no flatbuffer at all")
    (tmp_path / "empty.tflite").write_bytes(b"")
    (tmp_path / "cut.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    (tmp_path / "big.txt").write_bytes(b"x\n" * 2**20)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    os.mkfifo(tmp_path / "pipe")
    weights.save(NETWORKS["deeplabv3plus-xception41"]().state_dict(), tmp_path / "ours.safetensors")
    for source, reason in (
        ("model.pth", "is a pickle, which may run code"),
        ("names.txt", r"expected a TensorFlow checkpoint's prefix or \.npz, \.tflite, Keras's"),
        ("text.tflite", r"text\.tflite is no complete \.tflite"),
        ("empty.tflite", r"empty\.tflite is no complete \.tflite"),
        ("cut.tflite", r"cut\.tflite is no complete \.tflite"),
        ("absent.tflite", r"No such file or directory: '.*absent\.tflite'"),
        ("ours.safetensors", "are not those of a network"),  # ours already: nothing to rename
        ("absent.npz", "No such file"),
    ):
        assert re.search(reason, refused(capsys, "convert", tmp_path / source, "-o", tmp_path / "out.safetensors"))
    for labels, reason in {"pipe": "a pipe", "big.txt": "more than", "latin.txt": "decode", "gone": "No such file"}.items():
        words = ("convert", tmp_path / "x.npz", "-o", tmp_path / "out.safetensors", "--labels", tmp_path / labels)
        assert re.search(f"{labels}.*{reason}|{reason}.*{labels}", refused(capsys, *words))
    assert not (tmp_path / "out.safetensors").exists()


def test_labels_are_as_many_as_classes_and_reach_no_terminal_as_commands(tmp_path):
    state, path = NETWORKS["classifier-xception65"]().state_dict(), tmp_path / "w.safetensors"

    def names(labels: str) -> list[str]:
        weights.save(state, path, about={"labels": labels}, overwrite=True)
        return open_network(path, segments=False)[1]

    with pytest.raises(ValueError, match="2 labels for 9 classes"):
        names("a\nb")
    with pytest.raises(ValueError, match="8 labels for 9 classes"):  # a line short would shift every name
        names("a\nb\nc\nd\ne\nf\ng\nh")
    assert names("") == [f"class {k}" for k in range(9)]
    assert names("a\x1b[31m\nb\nc\nd\ne\nf\ng\nh\ni")[0] == "a?[31m"
    with pytest.raises(ValueError, match="holds a Classifier: that one is for the command classify"):
        open_network(path, segments=True)
