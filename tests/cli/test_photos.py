"""`classify` and `segment`: a photo and a file of weights in, an answer out; bad input in, one clear line out."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cli.photo_files import fresh, photo
from torch import nn

from minideeplab import Classifier, DeepLabV3Plus, weights, xception41
from minideeplab.__main__ import main
from minideeplab.cli import photos
from minideeplab.learn.photo import classify, overlay, palette, read_photo, segment, shares

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")


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


def direct(net: nn.Module, image, size: int, *, behind: bool = True) -> torch.Tensor:
    """The definition for a photo whose longer side fits: fill with gray, ask, cut off."""
    width, height = image.size
    canvas = torch.full((1, 3, size, size), 127.5)
    top, left = (0, 0) if behind else (size - height, size - width)
    canvas[0, :, top : top + height, left : left + width] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    with torch.no_grad():
        labels = net(canvas / 127.5 - 1).argmax(1)[0]
    return labels[top : top + height, left : left + width].to(torch.uint8)


def test_segment_pads_behind_and_below_as_the_authors_do_up_to_the_grid(deeplab):
    image = photo(97, 61)
    labels = segment(image, deeplab, size=97)
    assert len(labels.unique()) > 3  # not a constant answer
    assert torch.equal(labels, direct(deeplab, image, 97))
    assert not torch.equal(labels, direct(deeplab, image, 97, behind=False))
    assert torch.equal(segment(photo(90, 61), deeplab, size=90), direct(deeplab, photo(90, 61), 97))  # 16 k + 1


def test_segment_answers_in_the_size_of_the_photo(deeplab):
    for size in ((200, 120), (31, 64), (1, 500), (97, 97), (1, 1)):
        assert segment(photo(*size), deeplab, size=97).shape == size[::-1]


def test_labels_are_enlarged_without_new_classes_at_their_borders(deeplab):
    image = photo(97, 97).resize((291, 291), Image.Resampling.NEAREST)
    large = segment(image, deeplab, size=97)
    assert torch.equal(F.interpolate(large[None, None, 1::3, 1::3], size=(291, 291), mode="nearest-exact")[0, 0], large)


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
    assert {row.split("%  ")[1] for row in printed.out.splitlines()} <= {*photos_names()}
    assert printed.err == "written: photo.segmented.png\n"
    assert main([*line, "--force"]) == 0
    assert main([*line, "-o", "finer.png", "--output-stride", "8"]) == 0
    assert Path("finer.png").read_bytes() != Path("photo.segmented.png").read_bytes()


def photos_names() -> tuple[str, ...]:
    from minideeplab.learn.network_file import VOC

    return VOC


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(files, capsys, monkeypatch):
    monkeypatch.setattr(photos, "segment", lambda *_, **__: pytest.fail("it worked first"))
    os.mkfifo("pipe.png")
    Path("link.png").symlink_to("elsewhere.png")
    Path("folder.png").mkdir()
    Path("old.png").write_bytes(b"old")
    before = Path("photo.png").read_bytes()
    for output, reason in {
        "old.png": "exists already: name another with -o, or add --force", "photo.png --force": "what is read",
        "pipe.png --force": "a pipe", "link.png --force": "a link", "folder.png --force": "a folder",
        "deeplab.safetensors --force": "no picture by its name", "x.xyz": "no picture by its name", "no/x.png": "no folder",
    }.items():  # fmt: skip
        assert main(f"segment photo.png --weights deeplab.safetensors -o {output}".split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert reason in err
        assert err.count("\n") == 1
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
