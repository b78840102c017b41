"""`classify` and `segment`: a photo in, with the shipped or one's own weights an answer out; bad input in, one line out."""

import copy
import importlib
import json
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cli.photo_files import CROW, fresh, photo
from torch import nn

from minideeplab import Classifier, DeepLabV3Plus, pretrained, weights, xception41
from minideeplab.__main__ import main
from minideeplab.cli import photos
from minideeplab.learn.network_file import label_names
from minideeplab.learn.photo import classify, fitted, label_picture, overlay, palette, read_photo, segment, shares
from minideeplab.learn.predict import predict
from minideeplab.networks.pretrained import VOC

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def deeplab() -> DeepLabV3Plus:
    return fresh(lambda: DeepLabV3Plus(xception41(width=0.125), 21, channels=16, low_channels=4))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return fresh(lambda: Classifier(xception41(output_stride=32, width=0.125), 7))


# ---- reading


def test_photos_of_every_mode_become_the_rgb_that_a_viewer_shows(tmp_path):
    clear, sixteen = Image.new("RGBA", (4, 3), (255, 0, 0, 0)), Image.new("I;16", (4, 3), 40000)
    cases = {
        "gray.png": (photo(4, 3).convert("L"), None), "one.png": (Image.new("1", (4, 3), 1), (255, 255, 255)),
        "palette.png": (Image.new("RGB", (4, 3), (9, 80, 7)).quantize(4), (9, 80, 7)),
        "cmyk.tif": (Image.new("CMYK", (4, 3), (0, 255, 255, 0)), (255, 0, 0)),
        "clear.png": (clear, (255, 255, 255)), "sixteen.png": (sixteen, (156, 156, 156)),
        "sixteen.tif": (sixteen, (156, 156, 156)), "white.png": (Image.new("I;16", (4, 3), 65535), (255, 255, 255)),
        "dark.png": (Image.new("I;16", (4, 3), 200), (1, 1, 1)),  # rounded: 200 // 256 is 0
    }  # fmt: skip
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name)
        read = read_photo(tmp_path / name)
        assert (read.mode, read.size) == ("RGB", (4, 3))
        assert expected in (None, read.getpixel((1, 1))), name


def test_photos_are_turned_upright(tmp_path):
    image = photo(6, 2)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "p.png", exif=exif)
    assert read_photo(tmp_path / "p.png").size == (2, 6)
    image.save(tmp_path / "q.png")
    assert read_photo(tmp_path / "q.png").size == (6, 2)


def declared(path: Path, width: int, height: int) -> None:
    """A one-bit PNG of a few kilobytes whose header claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_what_is_no_photo_is_refused_by_name_before_it_is_decoded(tmp_path):
    photo(64, 64).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("F", (4, 3), 0.5).save(tmp_path / "float.tif")
    os.mkfifo(tmp_path / "pipe.png")
    for name, size in {"large": (12000, 12000), "huge": (10**5, 10**5), "long": (20000, 1)}.items():
        declared(tmp_path / f"{name}.png", *size)
    for name, reason in {
        "half.png": "truncated", "text.jpg": "cannot identify", "empty.jpg": "cannot identify", "float.tif": "no known scale",
        "large.png": "declares 12,000 x 12,000 pixels", "huge.png": "pixels", "long.png": "a side", "pipe.png": "a pipe",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=rf"{name} is .*?{reason}"):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_photo(tmp_path / "absent.jpg")


# ---- asking


def test_classify_ranks_what_the_network_says(classifier):
    image = photo(299, 299)  # already the size: nothing is resampled
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = classifier(x).softmax(1)[0].sort(descending=True)
    answer = classify(image, classifier, top=3)
    assert [k for k, _ in answer] == expected.indices[:3].tolist()
    torch.testing.assert_close(torch.tensor([p for _, p in answer]), expected.values[:3])
    everything = classify(photo(), classifier, top=100, size=65)  # never more classes than there are
    assert sorted(k for k, _ in everything) == list(range(7))
    assert sum(p for _, p in everything) == pytest.approx(1)
    assert classify(photo(), classifier, top=100, size=97) != everything  # size changes something


def test_what_read_photo_would_have_changed_is_not_looked_at(classifier, deeplab, tmp_path):
    deep = Image.fromarray(np.full((40, 40), 40_000, np.uint16))
    turned = photo()
    turned.getexif()[0x0112] = 6
    hidden = photo().convert("RGBA")
    keyed = photo()
    keyed.info["transparency"] = (0, 0, 0)
    cases = ((deep, "is of mode I;16"), (hidden, "is of mode RGBA"), (turned, "is of mode RGB, and still to be turned"))
    for image, why in (*cases, (keyed, "is of mode RGB with transparency")):
        for ask, net in ((classify, classifier), (segment, deeplab)):
            with pytest.raises(ValueError, match=f"the photo {why}.*: open it with read_photo"):
                ask(image, net)
        image.save(file := tmp_path / "photo.png", exif=image.getexif())
        assert segment(read_photo(file), deeplab).dim() == 2


@pytest.mark.parametrize("number", [0, 1, 9])
def test_an_exif_tag_that_turns_nothing_is_no_obstacle(number, deeplab, tmp_path):
    image = photo()
    image.getexif()[0x0112] = number
    image.save(tmp_path / "photo.jpg", exif=image.getexif())
    assert segment(read_photo(tmp_path / "photo.jpg"), deeplab).dim() == 2


def test_a_network_of_no_numbers_has_no_answer(classifier, deeplab):
    for ask, net in ((classify, copy.deepcopy(classifier)), (segment, copy.deepcopy(deeplab))):
        with torch.no_grad():
            net.classify.bias[0] = torch.nan
        with pytest.raises(ValueError, match=r"of the network's .* numbers are NaN or infinite"):
            ask(photo(), net)


def test_a_network_in_training_is_not_asked(classifier, deeplab):
    for ask, net in ((classify, classifier), (segment, deeplab)):
        net.train()
        with pytest.raises(ValueError, match=r"call \.eval\(\)"):
            ask(photo(), net)
        net.eval()
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        classify(photo(), classifier, top=0)
    with pytest.raises(ValueError, match="size must be at least 1, got -3"):
        segment(photo(), deeplab, size=-3)


def padded(image, size: tuple[int, int], *, behind: bool = True) -> torch.Tensor:
    """What the network sees of a photo that is not scaled: gray around it up to (rows, columns), in [-1, 1]."""
    width, height = image.size
    canvas = torch.full((1, 3, *size), 127.5)
    top, left = (0, 0) if behind else (size[0] - height, size[1] - width)
    canvas[0, :, top : top + height, left : left + width] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return canvas / 127.5 - 1


@torch.no_grad()
def direct(net: nn.Module, image, size: tuple[int, int], *, behind: bool = True) -> torch.Tensor:
    """The definition for a photo that is not scaled: fill with gray, ask, cut off."""
    width, height = image.size
    labels = net(padded(image, size, behind=behind)).argmax(1)[0].to(torch.uint8)
    return labels[:height, :width] if behind else labels[-height:, -width:]


def test_segment_pads_behind_and_below_to_the_grid_and_to_no_square(deeplab):
    image = photo(97, 61)
    labels = segment(image, deeplab)
    assert len(labels.unique()) > 3  # not a constant answer
    assert torch.equal(labels, direct(deeplab, image, (65, 97)))
    assert not torch.equal(labels, direct(deeplab, image, (65, 97), behind=False))
    assert not torch.equal(labels, direct(deeplab, image, (97, 97)))  # a square would be noticed
    assert not torch.equal(labels, direct(deeplab, image, (61, 97)))  # and no padding
    assert torch.equal(segment(photo(90, 61), deeplab, size=90), direct(deeplab, photo(90, 61), (65, 97)))  # 16 k + 1


@pytest.mark.parametrize(
    ("photo_size", "size", "expected"),
    [
        ((513, 400), None, (513, 400)), ((50, 33), None, (50, 33)), ((1, 500), None, (1, 500)), ((1, 1), None, (1, 1)),
        ((514, 400), None, (513, 399)), ((600, 1026), None, (300, 513)), ((12000, 1), None, (513, 1)),
        ((513, 400), 100, (100, 77)), ((50, 100), 1000, (500, 1000)), ((513, 513), 513, (513, 513)), ((3, 7), 1, (1, 1)),
    ],
)  # fmt: skip
def test_only_photos_above_513_are_scaled_unless_a_size_is_asked_for(photo_size, size, expected):
    assert fitted(Image.new("1", photo_size), size) == expected


def test_the_network_sees_the_photo_and_gray_and_nothing_else():
    seen: list[torch.Tensor] = []

    def net(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    for image in (photo(50, 33), photo(1, 500), photo(1, 1), photo(33, 17)):
        segment(image, net)
        rows, columns = (-(-(side - 1) // 16) * 16 + 1 for side in image.size[::-1])
        torch.testing.assert_close(seen[-1], padded(image, (rows, columns)))
    segment(photo(600, 300), net)
    segment(photo(50, 33), net, size=100)  # 100 x 66
    assert [tuple(x.shape[2:]) for x in seen[-2:]] == [(257, 513), (81, 113)]


def test_enlarging_a_small_photo_would_be_noticed(deeplab):
    assert torch.equal(segment(photo(50, 33), deeplab), direct(deeplab, photo(50, 33), (33, 65)))
    assert not torch.equal(segment(photo(50, 33), deeplab), segment(photo(50, 33), deeplab, size=513))


def test_several_scales_are_the_authors_prediction_on_the_padded_photo(deeplab):
    image = photo(50, 40)
    labels = segment(image, deeplab, multi_scale=True)
    assert torch.equal(labels, predict(deeplab, padded(image, (49, 65)))[0, :, :40, :50].argmax(0).to(torch.uint8))
    assert not torch.equal(labels, predict(deeplab, padded(image, (40, 50)))[0].argmax(0).to(torch.uint8))  # padding matters
    assert not torch.equal(labels, segment(image, deeplab))
    with pytest.raises(TypeError, match="multi_scale must be of type bool, got str 'no'"):
        segment(image, deeplab, multi_scale="no")


def test_segment_answers_in_the_size_of_the_photo(deeplab):
    for size in ((200, 120), (31, 64), (1, 500), (97, 97), (1, 1)):
        for asked in ({}, {"size": 97}, {"multi_scale": True, "size": 33}):
            assert segment(photo(*size), deeplab, **asked).shape == size[::-1]


def test_labels_are_enlarged_without_new_classes_at_their_borders(deeplab):
    image = photo(97, 97).resize((291, 291), Image.Resampling.NEAREST)
    large = segment(image, deeplab, size=97)
    assert torch.equal(F.interpolate(large[None, None, 1::3, 1::3], size=(291, 291), mode="nearest-exact")[0, 0], large)


def test_a_pixel_takes_the_label_whose_center_is_nearest():
    def columns(x: torch.Tensor) -> torch.Tensor:  # each of its own class
        return F.one_hot(torch.arange(x.shape[3]).expand(x.shape[2:])).permute(2, 0, 1)[None].float()

    assert segment(photo(3, 1), columns, size=2).tolist() == [[0, 1, 1]]  # corners on corners would say 0, 0, 1
    assert segment(photo(5, 1), columns, size=3).tolist() == [[0, 0, 1, 2, 2]]


@pytest.mark.parametrize(("ask", "resample"), [(segment, "LANCZOS"), (classify, "BILINEAR")])
def test_a_photo_is_scaled_as_it_is_said(ask, resample):
    seen: list[torch.Tensor] = []

    def net(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x if ask is segment else x.mean((2, 3))

    ask(photo(99, 99), net, size=33)
    ways = {
        way: padded(photo(99, 99).resize((33, 33), getattr(Image.Resampling, way)), (33, 33)) for way in ("LANCZOS", "BILINEAR")
    }
    assert [way for way, expected in ways.items() if torch.allclose(seen[0], expected, atol=1e-6)] == [resample]


def test_more_than_256_classes_keep_their_numbers():
    class Last(nn.Module):
        def forward(self, x):
            return F.one_hot(torch.full(x.shape[2:], 299), 300).permute(2, 0, 1)[None].float()

    labels = segment(photo(20, 10), Last().eval(), size=17)
    assert labels.unique().tolist() == [299]
    assert shares(labels) == [(299, 1.0)]
    drawn = np.array(overlay(photo(20, 10), labels, [f"class {k}" for k in range(300)]))
    assert (drawn[:, 20:].reshape(-1, 3) == palette(300)[299].numpy()).all(1).any()
    assert palette(300)[299].tolist() != palette(300)[43].tolist()


# ---- drawing


def test_a_label_picture_is_the_label_map_in_vocs_palette(tmp_path):
    labels = torch.arange(256, dtype=torch.uint8).view(8, 32)
    label_picture(labels).save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture), labels.numpy())
        colors = np.array(picture.convert("RGB")).reshape(-1, 3)
    assert np.array_equal(colors, palette(256).numpy())
    assert [colors[k].tolist() for k in (0, 3, 15, 255)] == [[0, 0, 0], [128, 128, 0], [192, 128, 128], [224, 224, 192]]  # VOC
    with pytest.raises(ValueError, match=r"at most 256 classes, these labels are torch\.int32"):
        label_picture(labels.int())


def test_the_palette_is_pascal_vocs_and_goes_on():
    colors = palette(1000).tolist()
    assert [colors[k] for k in (1, 15, 20, 255)] == [[128, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert len({tuple(color) for color in colors}) == 1000


def test_shares_are_those_of_the_pixels():
    labels = torch.tensor([[3, 3, 3], [0, 0, 7]], dtype=torch.uint8)
    assert shares(labels) == [(3, 3 / 6), (0, 2 / 6), (7, 1 / 6)]


def test_the_overlay_leaves_the_background_and_colors_the_rest():
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


def test_the_legend_has_room_for_every_class_and_stays_a_picture():
    for count, rows in ((21, 21), (1000, 64)):
        canvas = overlay(photo(count, 2), torch.arange(count, dtype=torch.int32).repeat(2, 1), ["x"] * count)
        assert canvas.height == (rows + 1) * 14


# ---- the commands


@pytest.fixture
def files(tmp_path, deeplab, classifier, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(deeplab.state_dict(), "deeplab.safetensors")
    weights.save(classifier.state_dict(), "classifier.safetensors", about={"labels": "a\nb\nc\nd\ne\nf\ng"})
    photo(60, 40).save("photo.png")
    return tmp_path


def test_classify_prints_the_names_that_travel_with_the_weights(files, capsys):
    assert main("classify photo.png --weights classifier.safetensors --top 3 --size 65".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.split("%  ")[1] in "abcdefg" for line in lines)


def test_segment_writes_a_picture_and_prints_the_shares(files, capsys):
    line = "segment photo.png --weights deeplab.safetensors --size 97".split()
    assert main(line) == 0
    printed = capsys.readouterr()
    with Image.open("photo.segmented.png") as picture:
        assert picture.width > 60
    assert sum(float(row.split("%")[0]) for row in printed.out.splitlines()) == pytest.approx(100, abs=0.2)
    assert {row.split("%  ")[1] for row in printed.out.splitlines()} <= {*VOC}
    looked, written = printed.err.splitlines()
    assert looked == "looked at: 97 x 64 of 60 x 40 pixels (another size: --size)"
    assert written == "written: photo.segmented.png"
    assert main([*line, "--force"]) == 0


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(files, capsys, monkeypatch):
    monkeypatch.setattr(photos, "segment", lambda *_, **__: pytest.fail("it worked first"))
    os.mkfifo("pipe.png")
    Path("link.png").symlink_to("elsewhere.png")
    Path("folder.png").mkdir()
    Path("old.png").write_bytes(b"old")
    Path("same.png").symlink_to("photo.png")
    before = Path("photo.png").read_bytes()
    for output, reason in {
        "old.png": "exists already: name another with -o, or add --force", "photo.png --force": "what is read",
        "pipe.png --force": "a pipe", "link.png --force": "a link", "folder.png --force": "a folder",
        "deeplab.safetensors --force": "no picture by its name", "x.xyz": "no picture by its name", "no/x.png": "no folder",
        "new.png --labels photo.png --force": "photo.png is what is read", "same.png --force": "what is read",
        "new.png --labels deeplab.safetensors --force": "labels are written as a PNG", "new.png --labels l.jpg": "as a PNG",
        "new.png --labels l": "as a PNG", "new.png --labels new.png": "cannot be both the picture and the labels",
        "new.png --labels no/../new.png": "no folder", "new.png --labels ../{here}/new.png": "cannot be both",
        "old.png --labels old.png --force": "cannot be both", "new.png --labels link.png --force": "a link",
        "new.png --labels old.png": "old.png exists already: name another with --labels, or add --force",
        "old.png --labels new.png": "old.png exists already: name another with -o",
        "new.png --labels folder.png": "a folder", "new.png --labels pipe.png": "a pipe",
    }.items():  # fmt: skip
        output = output.replace("{here}", files.name)
        assert main(f"segment photo.png --weights deeplab.safetensors -o {output}".split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert reason in err
        assert err.count("\n") == 1
        assert not Path("new.png").exists()
    assert (Path("old.png").read_bytes(), Path("photo.png").read_bytes()) == (b"old", before)


def test_a_failing_write_keeps_the_old_picture_and_leaves_no_litter(files, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Path("old.png").write_bytes(b"old")
    before = sorted(path.name for path in files.iterdir())
    monkeypatch.setattr(Image.Image, "save", full)
    assert main("segment photo.png --weights deeplab.safetensors --size 33 -o old.png --force".split()) == 2
    assert "No space left" in capsys.readouterr().err
    assert Path("old.png").read_bytes() == b"old"
    assert sorted(path.name for path in files.iterdir()) == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("classify photo.png --weights classifier.safetensors --top 0", "--top: must be from 1"),
        (
            "classify photo.png --weights classifier.safetensors --size 1" + 20 * "0",
            "--size: must be from 1 to 100,000",
        ),
        ("classify photo.png --weights classifier.safetensors --size 99999", "no room for classifier.safetensors at this size"),
        ("segment photo.png --weights deeplab.safetensors --size 1000000", "--size: must be from 1 to 100,000"),
        ("segment photo.png --weights deeplab.safetensors --output-stride 0", "--output-stride: must be from 1"),
        ("segment photo.png --weights deeplab.safetensors --output-stride 7", "output stride 7 cannot be reached"),
        ("segment photo.png --weights classifier.safetensors", "that one is for the command classify"),
        ("classify photo.png --weights deeplab.safetensors", "holds a DeepLabV3Plus: that one is for the command segment"),
        ("classify photo.png --weights photo.png", "photo.png is no complete safetensors file"),
        ("classify photo.png", "the following arguments are required: --weights"),
        ("segment absent.png", "No such file or directory: 'absent.png'"),
        ("segment photo.png --size 0", "--size: must be from 1 to 100,000, got 0"),
        ("segment photo.png --size 90000", "no room for the shipped network at this size"),
        ("segment photo.png --size 60000 --multi-scale", "no room for the shipped network at this size"),
        ("segment photo.png --output-stride 2", "output_stride must be at least 4"),
        ("segment photo.png --output-stride 7", "output stride 7 cannot be reached: this network passes through 2, 4, 8"),
        ("segment photo.png --weights photo.png", "photo.png is no complete safetensors file"),
        ("segment .", "empty name"),
        ("classify absent.png --weights classifier.safetensors", "No such file or directory: 'absent.png'"),
    ],
)
def test_what_photos_cannot_do_is_one_clear_line(files, capsys, line, reason):
    try:
        status = main(line.split())
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert reason in err


# ---- the network that is shipped


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[dict[str, float], list[str]]:
    """{name: percent} from standard output, the lines on standard error."""
    assert main([*map(str, words)]) == 0
    out, err = capsys.readouterr()
    return {name: float(share) for share, name in (row.strip().split("%  ") for row in out.splitlines())}, err.splitlines()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in, with the crow's photo."""
    monkeypatch.chdir(tmp_path)
    Path("crow.png").write_bytes(CROW.read_bytes())
    return tmp_path


def bird_in(path: str) -> float:
    """The share of a label picture's pixels that are a bird's."""
    with Image.open(path) as picture:
        return float((np.array(picture) == VOC.index("bird")).mean())


def test_segment_finds_a_bird_on_a_fifth_of_the_crow_at_once(here, capsys):
    found, lines = asked(capsys, "segment", "crow.png", "--labels", "classes.png")
    assert set(found) == {"background", "bird"}
    assert 20 < found["bird"] < 22.5  # a human's mask of it covers 21 %
    assert bird_in("classes.png") == pytest.approx(found["bird"] / 100, abs=1e-4)
    assert lines == ["written: crow.segmented.png and classes.png"]  # 513 x 513: nothing is scaled, nothing said
    with Image.open("crow.segmented.png") as picture:
        assert picture.height == 513
    photo(513, 513).save("noise.png")
    noise, _ = asked(capsys, "segment", "noise.png")
    assert noise.get("bird", 0) < 5  # it does not see birds everywhere


@pytest.mark.parametrize("kind", ["turned.jpg", "gray.png", "sixteen.png", "clear.png", "cmyk.jpg", "first.gif", "palette.png"])
def test_the_bird_is_found_in_photos_of_seven_kinds(here, capsys, kind):
    with Image.open("crow.png") as image:
        crow = image.convert("RGB")
    options = {}
    if kind == "turned.jpg":
        crow, options = crow.transpose(Image.Transpose.ROTATE_90), {"exif": Image.Exif()}
        options["exif"][0x0112] = 6
    gray = np.array(crow.convert("L"))
    kinds = {
        "gray.png": crow.convert("L"), "sixteen.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "clear.png": crow.convert("RGBA"),
        "cmyk.jpg": crow.convert("CMYK"), "first.gif": crow, "palette.png": crow.quantize(64),
    }  # fmt: skip
    kinds.get(kind, crow).save(kind, **options)
    found, _ = asked(capsys, "segment", kind)
    assert 18 < found["bird"] < 24


def test_a_photo_on_its_side_is_another_photo(here, capsys):
    with Image.open("crow.png") as image:
        image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save("side.png")  # as a reader without EXIF would see it
    asked(capsys, "segment", "crow.png", "--labels", "upright.png")
    asked(capsys, "segment", "side.png", "--labels", "lying.png")
    with Image.open("upright.png") as upright, Image.open("lying.png") as lying:
        assert (np.array(upright) != np.array(lying)).mean() > 0.05


@pytest.mark.parametrize(
    ("size", "looked"),
    [
        ((1, 1), None), ((3, 2), None), ((1, 500), None), ((700, 3), "513 x 2 of 700 x 3"),
        ((1100, 900), "513 x 419 of 1100 x 900"),
    ],
)  # fmt: skip
def test_odd_sizes_are_answered_and_scaling_down_is_said(here, capsys, size, looked):
    photo(*size).save("odd.png")
    found, lines = asked(capsys, "segment", "odd.png", "--labels", "labels.png")
    assert sum(found.values()) == pytest.approx(100, abs=0.2)
    note = [f"looked at: {looked} pixels (another size: --size)"] if looked else []
    assert lines == [*note, "written: odd.segmented.png and labels.png"]
    with Image.open("labels.png") as labels:
        assert (labels.mode, labels.size) == ("P", size)


def test_a_large_photo_of_the_crow_has_as_much_bird(here, capsys):
    with Image.open("crow.png") as image:
        image.resize((2000, 1500)).save("large.jpg")
    found, lines = asked(capsys, "segment", "large.jpg")
    assert 19 < found["bird"] < 23
    assert lines[0] == "looked at: 513 x 384 of 2000 x 1500 pixels (another size: --size)"
    small, lines = asked(capsys, "segment", "large.jpg", "-o", "small.png", "--size", 65)
    assert lines[0] == "looked at: 65 x 48 of 2000 x 1500 pixels (another size: --size)"
    assert small.get("bird", 0) < 10  # the size matters: so few pixels show it no bird


def test_json_is_one_line_that_says_what_was_looked_at(here, capsys):
    photo(1000, 600).save("p.png")
    assert main("segment p.png --json".split()) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    facts = json.loads(out)
    assert list(facts) == ["photo", "picture", "labels", "looked_at", "shares"]
    assert facts["labels"] is None
    assert (facts["photo"], facts["picture"], facts["looked_at"]) == ("p.png", "p.segmented.png", [307, 513])  # height first
    assert sum(facts["shares"].values()) == pytest.approx(1)
    assert set(facts["shares"]) <= set(VOC)
    assert err.splitlines()[-1] == "written: p.segmented.png"


def test_json_loses_no_share_where_two_classes_have_one_name(files, deeplab, capsys):
    weights.save(deeplab.state_dict(), "twins.safetensors", about={"labels": "\n".join(["odd", "even"] * 10 + ["odd"])})
    assert main("segment photo.png --weights twins.safetensors --json".split()) == 0
    found = json.loads(capsys.readouterr().out)["shares"]
    assert set(found) == {"odd", "even"}
    assert sum(found.values()) == pytest.approx(1)


def test_a_file_name_for_terminals_to_obey_reaches_none(here, capsys):
    photo(9, 9).save("a\x1b[31m.png")
    for form in ([], ["--json", "--force"]):
        assert main(["segment", "a\x1b[31m.png", *form]) == 0
        assert "\x1b" not in "".join(capsys.readouterr())


def test_the_options_change_the_answer(here, capsys):
    answers = set()
    with Image.open("crow.png") as image:
        image.resize((129, 129)).save("small.png")
    for option in ("", "--multi-scale", "--output-stride 8", "--size 257"):
        asked(capsys, *f"segment small.png --force --labels l.png {option}".split())
        answers.add(Path("l.png").read_bytes())
    assert len(answers) == 4


def test_the_shipped_network_in_a_file_of_ones_own_answers_the_same(here, capsys):
    weights.save(pretrained().state_dict(), "own.safetensors")
    with Image.open("crow.png") as image:
        image.resize((129, 129)).save("small.png")
    answers = []
    for option in ("", "--output-stride 8"):
        for file in ("", "--weights own.safetensors"):
            asked(capsys, *f"segment small.png --force --labels l.png {option} {file}".split())
            answers.append(Path("l.png").read_bytes())
    assert answers[0] == answers[1] != answers[2] == answers[3]


def test_several_scales_need_the_room_of_the_largest(here, capsys, monkeypatch):
    bytes_asked: list[float] = []
    monkeypatch.setattr(photos, "check_room", lambda _, most: bytes_asked.append(most))
    photo(257, 257).save("p.png")
    for options in ("--size 257", "--size 257 --multi-scale", "--size 449"):  # 449 = 1.75 * 256 + 1
        asked(capsys, *f"segment p.png --force {options}".split())
    assert bytes_asked[1] == bytes_asked[2] > 2 * bytes_asked[0]


def test_nothing_is_downloaded(here, capsys, monkeypatch):
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)
    with pytest.raises(AssertionError, match="a socket was opened"):
        socket.create_connection(("127.0.0.1", 9))  # what a download would meet
    photo(33, 33).save("p.png")
    asked(capsys, "segment", "p.png")


def test_shipped_weights_that_are_missing_or_damaged_are_one_line(here, capsys, monkeypatch):
    module = importlib.import_module("minideeplab.networks.pretrained")
    whole = module.SHIPPED.read_bytes()
    for name, content, reason in (
        ("gone", None, "install minideeplab again"),
        ("half", whole[:1000000], "half is no complete safetensors"),
    ):
        monkeypatch.setattr(module, "SHIPPED", here / name)
        if content:
            (here / name).write_bytes(content)
        assert main(["segment", "crow.png"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert reason in err
        assert str(here / name) in err
    assert not Path("crow.segmented.png").exists()


def test_more_than_256_classes_have_no_label_picture_and_are_refused_before_the_work(files, capsys, monkeypatch):
    net = fresh(lambda: DeepLabV3Plus(xception41(width=0.125), 257, channels=8, low_channels=4))
    weights.save(net.state_dict(), "many.safetensors")
    assert main("segment photo.png --weights many.safetensors -o without.png".split()) == 0
    capsys.readouterr()
    monkeypatch.setattr(photos, "segment", lambda *_, **__: pytest.fail("it worked first"))
    assert main("segment photo.png --weights many.safetensors --labels l.png".split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "l.png: a palette has 256 colors, this network 257 classes: leave out --labels" in err
    assert not Path("photo.segmented.png").exists()


def test_what_exists_is_overwritten_by_force_alone(here, capsys):
    photo(20, 20).save("p.png")
    asked(capsys, *"segment p.png --labels l.png".split())
    first = Path("p.segmented.png").read_bytes(), Path("l.png").read_bytes()
    assert main("segment p.png --labels new.png --size 65".split()) == 2
    assert main("segment p.png -o new.png --labels l.png --size 65".split()) == 2
    assert not Path("new.png").exists()
    assert (Path("p.segmented.png").read_bytes(), Path("l.png").read_bytes()) == first
    capsys.readouterr()
    photo(40, 40).save("p.png")
    asked(capsys, *"segment p.png --labels l.png --force".split())
    with Image.open("l.png") as labels:
        assert labels.size == (40, 40)
    assert Path("p.segmented.png").read_bytes() != first[0]


def test_the_help_says_what_the_network_is_and_what_it_is_not(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "the authors' DeepLabV3 on MobileNetV2", "trained on PASCAL VOC 2012", "nothing is downloaded",
        "20 kinds of things, and calls all else background or one of them", "no decoder, so its edges are coarse",
        "75.3 % mIoU on VOC val, and 74.3 % with these 8-bit weights", "at most 513",
    ):  # fmt: skip
        assert said in text
    assert len(VOC) == 21


def test_a_background_is_put_before_the_names_of_imagenet_alone():
    names = [f"thing {k}" for k in range(1000)]
    assert label_names(nn.Identity(), 1001, "\n".join(names)) == ["background", *names]
    with pytest.raises(ValueError, match="4 labels for 5 classes"):  # a line was forgotten: every name would be another's
        label_names(nn.Identity(), 5, "cat\ndog\ncow\nhen")
