"""`photo` and `convert`: a file of weights and a photo in, an answer out; bad input in, one clear line out."""

import argparse
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.recipe import seeded
from torch import Tensor, nn

from minideeplab import (
    Classifier,
    DeepLabV3,
    DeepLabV3Plus,
    InceptionV3,
    ResNet,
    Xception,
    resnet101,
    weights,
    xception41,
    xception65,
    xception71,
)
from minideeplab.cli.files import network_for
from minideeplab.cli.photos import add_commands, classify, overlay, palette, read_photo, segment, shares

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")


def photo(width: int = 50, height: int = 33, seed: int = 0) -> Any:
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@torch.no_grad()
def fresh(build: Callable[[], nn.Module]) -> nn.Module:
    """Random weights, the last layer such that different pixels get different answers."""
    torch.manual_seed(0)
    net = build().eval()
    net.classify.weight.normal_()
    logits = (net.coarse_logits if hasattr(net, "coarse_logits") else net)(torch.rand(4, 3, 65, 65) * 2 - 1).transpose(0, 1)
    mean = logits.flatten(1).mean(1)
    spread = (logits.flatten(1) - mean[:, None]).std()
    net.classify.weight /= spread
    net.classify.bias.sub_(mean).div_(spread)
    return net


@pytest.fixture(scope="module")
def deeplab() -> DeepLabV3Plus:
    return fresh(lambda: DeepLabV3Plus(xception41(width=0.125), 21, channels=16, low_channels=4))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return fresh(lambda: Classifier(xception41(output_stride=32, width=0.125), 7))


# Reading


def test_photos_of_every_mode_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK", "I;16"):
        image = Image.new("I;16", (4, 3), 40000) if mode == "I;16" else photo(4, 3).convert(mode)
        path = tmp_path / f"{mode[0]}.{'tif' if mode in ('CMYK', 'I;16') else 'png'}"
        image.save(path)
        read = read_photo(path)
        assert (read.mode, read.size) == ("RGB", (4, 3))


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    image = photo(6, 2)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "p.png", exif=exif)
    assert read_photo(tmp_path / "p.png").size == (2, 6)
    image.save(tmp_path / "q.png")
    assert read_photo(tmp_path / "q.png").size == (6, 2)


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    photo(64, 64).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("half.png", "text.jpg", "empty.jpg"):
        with pytest.raises(ValueError, match=f"{name} is no photo that can be read"):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_photo(tmp_path / "absent.jpg")


# Classifying


def test_classify_ranks_what_the_network_says(classifier: Classifier) -> None:
    image = photo(299, 299)  # already the size: nothing is resampled
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = classifier(x).softmax(1)[0].sort(descending=True)
    answer = classify(image, classifier, top=3)
    assert [k for k, _ in answer] == expected.indices[:3].tolist()
    torch.testing.assert_close(torch.tensor([p for _, p in answer]), expected.values[:3])


def test_classify_never_names_more_classes_than_there_are(classifier: Classifier) -> None:
    answer = classify(photo(), classifier, top=100, size=65)
    assert sorted(k for k, _ in answer) == list(range(7))
    assert sum(p for _, p in answer) == pytest.approx(1)
    assert classify(photo(), classifier, top=100, size=97) != answer  # size changes something


def test_a_network_in_training_is_not_asked(classifier: Classifier, deeplab: DeepLabV3Plus) -> None:
    for ask, net in ((classify, classifier), (segment, deeplab)):
        net.train()
        with pytest.raises(ValueError, match=r"call \.eval\(\)"):
            ask(photo(), net)
        net.eval()
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        classify(photo(), classifier, top=0)
    with pytest.raises(ValueError, match="size must be at least 1, got -3"):
        segment(photo(), deeplab, size=-3)


# Segmenting


def direct(net: nn.Module, image: Any, size: int, *, behind: bool = True) -> Tensor:
    """The definition for a photo whose longer side is already `size`: fill with gray, ask, cut off."""
    width, height = image.size
    canvas = torch.full((1, 3, size, size), 127.5)
    top, left = (0, 0) if behind else (size - height, size - width)
    canvas[0, :, top : top + height, left : left + width] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    with torch.no_grad():
        labels = net(canvas / 127.5 - 1).argmax(1)[0]
    return labels[top : top + height, left : left + width].to(torch.uint8)


def test_segment_pads_behind_and_below_as_the_authors_do(deeplab: DeepLabV3Plus) -> None:
    image = photo(97, 61)
    labels = segment(image, deeplab, size=97)
    assert len(labels.unique()) > 3  # not a constant answer
    assert torch.equal(labels, direct(deeplab, image, 97))
    assert not torch.equal(labels, direct(deeplab, image, 97, behind=False))


def test_segment_answers_in_the_size_of_the_photo(deeplab: DeepLabV3Plus) -> None:
    for size in ((200, 120), (31, 64), (1, 500), (97, 97)):
        assert segment(photo(*size), deeplab, size=97).shape == size[::-1]


def test_labels_are_enlarged_without_new_classes_at_their_borders(deeplab: DeepLabV3Plus) -> None:
    small = photo(97, 97)
    labels = segment(small, deeplab, size=97)
    large = segment(small.resize((291, 291), Image.Resampling.NEAREST), deeplab, size=97)
    assert set(large.unique().tolist()) <= set(range(21))
    assert torch.equal(large[1::3, 1::3], F.interpolate(large[None, None], size=(97, 97), mode="nearest-exact")[0, 0])
    assert labels.shape == (97, 97)


def test_the_palette_is_pascal_vocs() -> None:
    colors = palette(256).tolist()
    assert colors[1] == [128, 0, 0]
    assert colors[15] == [192, 128, 128]
    assert colors[20] == [0, 64, 128]
    assert colors[255] == [224, 224, 192]
    assert len({tuple(color) for color in colors}) == 256


def test_shares_are_those_of_the_pixels() -> None:
    labels = torch.tensor([[3, 3, 3], [0, 0, 7]], dtype=torch.uint8)
    assert shares(labels) == [(3, 3 / 6), (0, 2 / 6), (7, 1 / 6)]


def test_the_overlay_leaves_the_background_and_colors_the_rest() -> None:
    image, labels = photo(60, 40), torch.zeros(40, 60, dtype=torch.uint8)
    labels[:, 30:] = 15
    names = ["background", *(f"thing {k}" for k in range(1, 21))]
    before, after = np.array(image), np.array(overlay(image, labels, names))
    assert np.array_equal(after[:40, :30], before[:, :30])
    expected = before[:, 30:] * (1 - 140 / 255) + np.array([192, 128, 128]) * (140 / 255)
    assert np.abs(after[:40, 30:60] - expected).max() <= 1
    legend = after[:, 60:].reshape(-1, 3)
    assert (legend == [192, 128, 128]).all(1).any()
    assert (legend.min(1) < 100).any()  # text
    road = np.array(overlay(image, labels, ["road", *names[1:]]))
    assert not np.array_equal(road[:40, :30], before[:, :30])  # class 0 is no background here: it is colored


def test_the_legend_has_room_for_every_class() -> None:
    labels = torch.arange(21, dtype=torch.uint8).repeat(21, 1)
    canvas = overlay(photo(21, 21), labels, [f"class {k}" for k in range(21)])
    assert canvas.height >= 22 * 14


# The network behind a file

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "v3+ 41": lambda: DeepLabV3Plus(xception41(width=0.125), 21, channels=16, low_channels=4),
    "v3+ 65 dense": lambda: DeepLabV3Plus(xception65(width=0.125), 19, channels=8, low_channels=4, refine=3, separable=False),
    "v3+ 71": lambda: DeepLabV3Plus(xception71(width=0.125), 3, channels=8),
    "v3 65": lambda: DeepLabV3(xception65(width=0.125), 4, channels=8, separable=False),
    "v3+ resnet": lambda: DeepLabV3Plus(
        resnet101(width=0.125, multi_grid=(1, 2, 4)), 5, channels=8, low_channels=4, separable=False
    ),
    "v3 resnet 50": lambda: DeepLabV3(ResNet([3, 4, 6, 3], width=0.125, multi_grid=(1, 2, 4)), 5, channels=8),
    "classifier 65": lambda: Classifier(xception65(output_stride=32, width=0.125), 9),
    "classifier resnet": lambda: Classifier(resnet101(output_stride=32, width=0.125), 9),
}


@pytest.mark.parametrize("key", NETWORKS)
@torch.no_grad()
def test_a_network_is_rebuilt_from_its_arrays_alone(key: str) -> None:
    net = fresh(NETWORKS[key])
    other, x = network_for(net.state_dict()).eval(), torch.rand(1, 3, 65, 70) * 2 - 1
    assert not torch.equal(net(x), other(x))
    weights.load(other, net.state_dict())
    assert torch.equal(net(x), other(x))


def test_chollets_and_szegedys_networks_are_recognized_too() -> None:
    for build in (Xception, InceptionV3):
        with torch.device("meta"):
            net = build(6)
        other = network_for(net.state_dict(), device="meta")
        assert isinstance(other, build)
        assert other.classify.out_features == 6
    assert network_for(Xception(6).state_dict()).exit_flow[1].depthwise.dilation == (1, 1)
    assert network_for(Xception(6).state_dict(), output_stride=16).exit_flow[1].depthwise.dilation == (2, 2)


def test_the_output_stride_is_the_one_thing_to_be_told() -> None:
    state = NETWORKS["v3+ 41"]().state_dict()
    assert network_for(state).backbone.output_stride == 16
    assert network_for(state, output_stride=8).backbone.output_stride == 8
    assert network_for(state, output_stride=8).aspp.rates == (12, 24, 36)


@pytest.mark.parametrize("key", ["v3+ 41", "v3+ resnet", "classifier 65"])
def test_part_of_a_network_is_refused_with_a_value_error(key: str) -> None:
    state, draw = NETWORKS[key]().state_dict(), random.Random(0)
    for _ in range(30):
        layers = sorted({name.rpartition(".")[0].rpartition(".")[0] for name in state})
        gone = tuple(f"{layer}." for layer in draw.sample(layers, draw.randint(1, 20)))
        part = {name: value for name, value in state.items() if not name.startswith(gone)}
        with pytest.raises(ValueError, match=r"fit|last layer|not the arrays|must be|needs|incomplete"):
            weights.load(network_for(part), part)


# The commands


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args([str(word) for word in words])
    return int(arguments.run(arguments))


@pytest.fixture
def files(tmp_path: Path, deeplab: DeepLabV3Plus, classifier: Classifier) -> Path:
    weights.save(deeplab.state_dict(), tmp_path / "deeplab.safetensors")
    weights.save(classifier.state_dict(), tmp_path / "classifier.safetensors", about={"labels": "a\nb\nc\nd\ne\nf\ng"})
    photo(60, 40).save(tmp_path / "photo.png")
    return tmp_path


def test_classify_prints_the_names_that_travel_with_the_weights(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("classify", files / "photo.png", "--weights", files / "classifier.safetensors", "--top", 3, "--size", 65)
    assert command(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.split()[1] == "" or line.split()[1] in "abcdefg" for line in lines)
    assert all("%" in line for line in lines)


def test_segment_writes_a_picture_and_prints_the_shares(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("segment", files / "photo.png", "--weights", files / "deeplab.safetensors", "--size", 97)
    assert command(*arguments) == 0
    printed = capsys.readouterr()
    with Image.open(files / "photo.segmented.png") as picture:
        assert picture.width > 60
    total = sum(float(line.split("%")[0]) for line in printed.out.splitlines())
    assert total == pytest.approx(100, abs=0.2)
    assert "photo.segmented.png" in printed.err
    with pytest.raises(ValueError, match=r"exists already.*--force"):
        command(*arguments)
    assert command(*arguments, "--force") == 0
    assert command(*arguments, "-o", files / "finer.png", "--output-stride", 8) == 0
    assert (files / "finer.png").read_bytes() != (files / "photo.segmented.png").read_bytes()


def authors_checkpoint(case: str, path: Path) -> None:
    """The arrays of a case of tf_variants.npz, with what a training checkpoint holds besides."""
    golden = np.load(Path(__file__).parent / "golden" / "tf_variants.npz")
    shapes = {
        str(name): shape[shape > 0] for name, shape in zip(golden[f"{case}/names"], golden[f"{case}/shapes"], strict=True)
    }
    arrays = {name: seeded(name, tuple(shape), gain=1.0) for name, shape in shapes.items()}
    momentum = {f"{name}/Momentum": array for name, array in arrays.items() if name.endswith("weights")}
    np.savez(path, global_step=np.int64(30000), **arrays, **momentum)


def test_a_checkpoint_is_converted_and_segments(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authors_checkpoint("xception_41 os16 plus dense 1,1,1", files / "ckpt.npz")
    (files / "labels.txt").write_text("background\nrod\ndisc\nstar\nrest\n")
    arguments = ("convert", files / "ckpt.npz", "-o", files / "w.safetensors", "--labels", files / "labels.txt")
    assert command(*arguments) == 0
    printed = capsys.readouterr()
    assert "DeepLabV3Plus, 5 classes, " in printed.out
    assert printed.err == "left out: Momentum (94), global_step (1)\n"
    about = weights.read(files / "w.safetensors").about
    assert about["source"] == "ckpt.npz"
    assert about["minideeplab"].startswith("DeepLabV3Plus, 5 classes")
    assert command("segment", files / "photo.png", "--weights", files / "w.safetensors", "--size", 65) == 0
    assert capsys.readouterr().out.split()[1] in {"background", "rod", "disc", "star", "rest"}


def test_an_imagenet_checkpoint_of_1001_classes_takes_1000_names(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authors_checkpoint("resnet_v1_101 os32 classifier dense 1,1,1", files / "ckpt.npz")
    (files / "labels.txt").write_text("".join(f"thing {k}\n" for k in range(1000)))
    assert command("convert", files / "ckpt.npz", "-o", files / "w.safetensors", "--labels", files / "labels.txt") == 0
    assert command("classify", files / "photo.png", "--weights", files / "w.safetensors", "--size", 65, "--top", 1001) == 0
    names = [line.split("%  ")[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert sorted(names) == sorted(["background", *(f"thing {k}" for k in range(1000))])


def test_convert_does_not_overwrite_unless_forced(files: Path) -> None:
    authors_checkpoint("xception_41 os32 classifier dense 1,1,1", files / "ckpt.npz")
    target = files / "deeplab.safetensors"
    before = target.read_bytes()
    with pytest.raises(ValueError, match=r"exists already.*--force"):
        command("convert", files / "ckpt.npz", "-o", target)
    assert target.read_bytes() == before
    assert command("convert", files / "ckpt.npz", "-o", target, "--force") == 0
    assert target.read_bytes() != before


def test_a_network_without_its_last_layer_is_kept_but_not_asked(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authors_checkpoint("xception_41 os32 classifier dense 1,1,1", files / "ckpt.npz")
    arrays = {name: array for name, array in weights.read_tensorflow(files / "ckpt.npz").items() if "logits" not in name}
    np.savez(files / "headless.npz", **arrays)
    assert command("convert", files / "headless.npz", "-o", files / "w.safetensors") == 0
    assert "without classes" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no last layer \(classify\.weight\)"):
        command("classify", files / "photo.png", "--weights", files / "w.safetensors")


def test_part_of_a_checkpoint_is_refused_in_one_line(files: Path) -> None:
    authors_checkpoint("xception_41 os32 classifier dense 1,1,1", files / "ckpt.npz")
    arrays = {name: array for name, array in weights.read_tensorflow(files / "ckpt.npz").items() if "unit_3" not in name}
    np.savez(files / "part.npz", **arrays)
    with pytest.raises(ValueError, match=r"holds no complete Classifier: 30 arrays do not fit, first: missing") as caught:
        command("convert", files / "part.npz", "-o", files / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert not (files / "w.safetensors").exists()


def test_convert_refuses_what_it_cannot_read(files: Path) -> None:
    (files / "model.pth").write_bytes(pickle.dumps({}))
    (files / "names.txt").write_text("x")
    for source, reason in (
        ("model.pth", "is a pickle, which may run code"),
        ("names.txt", "expected a TensorFlow checkpoint's prefix"),
        ("deeplab.safetensors", "are not those of a network"),  # ours already: nothing to rename
        ("photo.png", "expected a TensorFlow checkpoint's prefix"),
    ):
        with pytest.raises(ValueError, match=reason):
            command("convert", files / source, "-o", files / "out.safetensors")
    assert not (files / "out.safetensors").exists()


def test_the_wrong_command_for_a_network_is_named(files: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a DeepLabV3Plus: that one is for the command segment"):
        command("classify", files / "photo.png", "--weights", files / "deeplab.safetensors")
    with pytest.raises(ValueError, match="holds a Classifier: that one is for the command classify"):
        command("segment", files / "photo.png", "--weights", files / "classifier.safetensors")


def test_labels_must_be_as_many_as_classes(files: Path, classifier: Classifier) -> None:
    weights.save(classifier.state_dict(), files / "few.safetensors", about={"labels": "a\nb"})
    with pytest.raises(ValueError, match="2 labels for 7 classes"):
        command("classify", files / "photo.png", "--weights", files / "few.safetensors")
    weights.save(classifier.state_dict(), files / "six.safetensors", about={"labels": "a\nb\nc\nd\ne\nf"})
    assert command("classify", files / "photo.png", "--weights", files / "six.safetensors", "--size", 65) == 0  # + background
