"""Drawn shapes are the same everywhere, a folder in VOC's layout is read as it is, and what is damaged is named."""

import gzip
import hashlib
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from minideeplab.image import to_pixels
from minideeplab.learn.data import GARMENTS, VOID, FashionMNIST, Sample, SegmentationFolder, Shapes, read_labels
from minideeplab.learn.photo import label_picture
from minideeplab.networks.pretrained import VOC

Image = pytest.importorskip("PIL.Image")

# ---- Shapes


def digest(sample):
    pixels = to_pixels(sample.image[None])[0].numpy()
    return hashlib.sha256(pixels.tobytes() + sample.labels.numpy().astype("<i8").tobytes()).hexdigest()[:16]


DRAWN = {  # seed, index, size: the first 16 digits of a SHA-256
    (0, 0, 65): "5d4be74de774ef16",
    (0, 3, 65): "77a4b62ffbcd8849",
    (1, 3, 65): "f5e012bd7a5b97d2",
    (4294967295, 70000, 33): "1283b8c87acd2bc8",
    (2, 1, 129): "4d536360173182ae",
    (0, 5, 17): "ff0a3ad2a369dfd3",
}


@pytest.mark.parametrize(("seed", "index", "size"), DRAWN)
def test_a_picture_is_the_same_on_every_machine(seed, index, size):
    assert digest(Shapes(index + 1, size=size, seed=seed)[index]) == DRAWN[seed, index, size]


def test_a_picture_does_not_depend_on_how_many_there_are_or_on_what_was_asked_before():
    few, many = Shapes(8), Shapes(100)
    many[99]
    torch.manual_seed(3)
    np.random.seed(3)
    assert digest(few[3]) == digest(many[3]) == digest(few[np.int64(3)]) == digest(few[-5])
    assert len({digest(many[i]) for i in range(100)} | {digest(Shapes(8, seed=1)[i]) for i in range(8)}) == 108
    state = np.random.get_state()[1].copy()
    few[0]
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_picture_is_an_image_in_minus_one_to_one_and_labels_of_four_classes_without_void():
    data, seen = Shapes(60), torch.zeros(4)
    assert data.classes == ("background", "disc", "rod", "box")
    for image, labels in data:
        assert (tuple(image.shape), image.dtype, tuple(labels.shape), labels.dtype) == (
            (3, 65, 65), torch.float32, (65, 65), torch.int64,
        )  # fmt: skip
        assert -1 <= image.min() < image.max() <= 1
        assert set(labels.flatten().tolist()) <= {0, 1, 2, 3}
        seen += labels.flatten().bincount(minlength=4)
    shares = seen / seen.sum()
    assert shares[0] < 0.8
    assert shares[1] > 0.1  # discs are large
    assert 0.02 < shares[2] < 0.08  # rods are thin
    assert shares[3] > 0.04
    assert tuple(Shapes(1, size=33)[0].image.shape) == (3, 33, 33)


def rows_of_colors(count=120):
    """The mean color of every class in every picture, and the class: (n, 3), (n)."""
    colors, kinds = [], []
    for image, labels in Shapes(count):
        for kind in (1, 2, 3):
            if labels.eq(kind).any():
                colors.append(image[:, labels == kind].mean(1))
                kinds.append(kind - 1)
    return torch.stack(colors), torch.tensor(kinds)


def test_a_color_hints_at_the_class_and_does_not_decide_it():
    colors, kinds = rows_of_colors()
    one_hot = torch.nn.functional.one_hot(kinds).double()
    design = torch.cat([colors, torch.ones(len(colors), 1)], 1).double()
    guess = (design @ torch.linalg.lstsq(design, one_hot).solution).argmax(1)
    right = (guess == kinds).double().mean()
    assert 0.45 < right < 0.9  # chance is a third


def test_a_rod_is_one_to_three_pixels_wide_and_a_disc_is_not():
    def thickness(mask):  # how often a pixel's neighbors of the class can be taken away
        count = 0
        while mask.any():
            padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))
            mask = mask & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
            count += 1
        return count

    assert max(thickness(Shapes(40)[i].labels == 2) for i in range(40)) <= 4  # crossings are thicker
    assert max(thickness(Shapes(40)[i].labels == 1) for i in range(40)) > 10


def test_a_dataloader_batches_shapes_and_two_workers_draw_what_none_draws():
    alone, two = (
        list(DataLoader(Shapes(5, size=33), batch_size=2, num_workers=n, multiprocessing_context=context))
        for n, context in ((0, None), (2, "fork"))
    )
    assert all(isinstance(batch, Sample) for batch in two)
    assert [tuple(batch.image.shape) for batch in two] == [(2, 3, 33, 33), (2, 3, 33, 33), (1, 3, 33, 33)]
    assert all(torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels) for a, b in zip(alone, two, strict=True))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Shapes(0), ValueError, "count must be at least 1, got 0"),
        (lambda: Shapes(2.0), TypeError, r"count must be an integer, got 2\.0"),
        (lambda: Shapes(2**32 + 1), ValueError, "count must be 0 to 4,294,967,296, got 4294967297"),
        (lambda: Shapes(1, size=16), ValueError, "size must be 17 to 4097 pixels a side, got 16"),
        (lambda: Shapes(1, size=5000), ValueError, "size must be 17 to 4097 pixels a side, got 5000"),
        (lambda: Shapes(1, seed=-1), ValueError, "seed must be 0 to 4,294,967,295, got -1"),
        (lambda: Shapes(1, seed=2**32), ValueError, "seed must be 0 to 4,294,967,295, got 4294967296"),
        (lambda: Shapes(1, seed=True), TypeError, "seed must be an integer, got True"),
        (lambda: Shapes(3)[3], IndexError, "index 3 of 3 pictures"),
        (lambda: Shapes(3)[-4], IndexError, "index -4 of 3 pictures"),
        (lambda: Shapes(3)[0.0], TypeError, "integer"),
        (lambda: Shapes(3)[:2], TypeError, "integer"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


# ---- a folder in VOC's layout


def photo(width=9, height=6, seed=0):
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


def labels(width=9, height=6, most=3):
    drawn = torch.from_numpy(np.random.RandomState(1).randint(0, most, (height, width)).astype(np.uint8))
    drawn[0, 0], drawn[-1, -1] = VOID, most - 1
    return drawn


@pytest.fixture
def root(tmp_path):
    """Three pictures, two of them for training; three classes without names."""
    folder = tmp_path / "streets"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for i, name in enumerate(["2007_a", "2007_b", "2007_c"]):
        photo(seed=i).save(folder / "JPEGImages" / f"{name}.{'png' if i else 'jpg'}")
        label_picture(labels(most=2 if i < 2 else 3)).save(folder / "SegmentationClass" / f"{name}.png")
    write(folder, "train", "2007_a\n2007_b\n")
    write(folder, "val", "2007_c\r\n\r\n")
    return folder


def write(folder, split, text):
    (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text)


def test_a_folder_in_voc_s_layout_is_read_picture_by_picture(root):
    train, val = SegmentationFolder(root, "train"), SegmentationFolder(str(root), "val")
    assert (len(train), len(val)) == (2, 1)
    assert [mask.stem for _, mask in train.files] == ["2007_a", "2007_b"]
    image, truth = train[1]
    assert torch.equal(to_pixels(image[None])[0], torch.from_numpy(np.array(photo(seed=1))))
    assert torch.equal(truth, labels(most=2).long())
    assert (image.dtype, truth.dtype, int(truth[0, 0])) == (torch.float32, torch.int64, VOID)
    assert [len(sample.labels) for sample in train] == [6, 6]  # a loop over it ends
    with Image.open(root / "JPEGImages" / "2007_a.jpg") as jpeg:
        assert torch.equal(to_pixels(train[0].image[None])[0], torch.from_numpy(np.array(jpeg)))
    with pytest.raises(IndexError, match="index 2 of 2 pictures"):
        train[2]


def test_gray_masks_are_read_like_palettes_and_their_colors_do_not_matter(root):
    expected = SegmentationFolder(root, "val")[0].labels
    Image.fromarray(labels().numpy()).save(root / "SegmentationClass" / "2007_c.png")
    assert torch.equal(SegmentationFolder(root, "val")[0].labels, expected)
    odd = label_picture(labels())
    odd.putpalette([7, 7, 7] * 256)
    odd.save(root / "SegmentationClass" / "2007_c.png")
    assert torch.equal(SegmentationFolder(root, "val")[0].labels, expected)
    few = label_picture(labels().clamp(max=2))
    few.save(root / "SegmentationClass" / "2007_c.png", bits=2)
    assert torch.equal(SegmentationFolder(root, "val")[0].labels, labels().clamp(max=2).long())


def test_classes_come_from_a_file_or_from_voc_s_name_or_from_a_number_or_from_all_masks(root):
    assert SegmentationFolder(root, "train").classes == ("0", "1", "2")  # label 2 occurs in val only
    assert SegmentationFolder(root, "train", num_classes=5).classes == ("0", "1", "2", "3", "4")
    voc = root.with_name("VOC2012")
    shutil.copytree(root, voc)
    assert SegmentationFolder(voc, "train").classes == VOC
    for folder in (root, voc):
        (folder / "classes.txt").write_text("\ufeffroad\nthe sky\n\ncar\n", encoding="utf-8")
        assert SegmentationFolder(folder, "train").classes == ("road", "the sky", "car")
        assert SegmentationFolder(folder, "train", num_classes=3).classes == ("road", "the sky", "car")
    with pytest.raises(ValueError, match=r"classes\.txt has 3 classes, and num_classes is 4"):
        SegmentationFolder(root, "train", num_classes=4)
    (voc / "classes.txt").unlink()
    with pytest.raises(ValueError, match="VOC by its name, has 21 classes, and num_classes is 20"):
        SegmentationFolder(voc, "train", num_classes=20)


def test_a_folder_is_voc_by_its_own_name_from_wherever_it_is_named(root, monkeypatch):
    (root / "classes.txt").unlink(missing_ok=True)
    voc = shutil.copytree(root, root.with_name("VOC2007"))
    monkeypatch.chdir(voc)
    assert SegmentationFolder(".", "train").classes == VOC


def test_a_photograph_is_turned_upright_as_a_viewer_shows_it(root):
    exif = photo().getexif()
    exif[0x0112] = 6  # the camera was held upright
    photo().save(root / "JPEGImages" / "2007_a.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"2007_a\.png and .*2007_a\.jpg must be of one size, got 9 x 6 and 6 x 9 pixels"):
        SegmentationFolder(root, "train")[0]
    label_picture(labels().T.contiguous()).save(root / "SegmentationClass" / "2007_a.png")
    assert tuple(SegmentationFolder(root, "train", num_classes=3)[0].image.shape) == (3, 9, 6)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def gray(bits, path):
    """A gray PNG of 4 x 1 pixels with fewer than eight bits each."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 + bits // 2))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


MISSING = {
    "JPEGImages/2007_a.jpg": r"JPEGImages/2007_a\.jpg is missing, and so is 2007_a\.png",
    "SegmentationClass/2007_b.png": r"SegmentationClass/2007_b\.png is missing: split train names it",
    "ImageSets/Segmentation/train.txt": r"train\.txt is missing: there is val$",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_named_before_anything_is_read(root, name):
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=MISSING[name]):
        SegmentationFolder(root, "train")


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/ImageSets/Segmentation/val\.txt is missing$"):
        SegmentationFolder(tmp_path / "nowhere", "val")


@pytest.mark.parametrize(
    ("split", "text", "says"),
    [
        ("train", "\n \n", r"train\.txt names no picture"),
        ("train", "2007_a\n../../secret\n", r"train\.txt names '\.\./\.\./secret': a name is that of a file"),
        ("train", "/etc/passwd", r"train\.txt names '/etc/passwd': a name"),
        ("train", "..", r"train\.txt names '\.\.': a name"),
        ("train", "a\\b", r"train\.txt names .*: a name"),
        ("train", "C:b", r"train\.txt names 'C:b': a name"),
        ("train", "a\0b", r"train\.txt names .*: a name"),
        ("train", "2007_a\n2007_b\n2007_a\n", r"train\.txt names 1 of its 3 pictures twice"),
        ("../train", "2007_a", r"split '\.\./train': a name"),
        ("", "2007_a", "split '': a name"),
    ],
)
def test_a_list_that_names_nothing_or_leaves_its_folder_is_refused(root, split, text, says):
    write(root, "train", text)
    with pytest.raises(ValueError, match=says) as raised:
        SegmentationFolder(root, split)
    assert "\n" not in str(raised.value)


def test_a_list_that_is_no_text_is_named(root):
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"train\.txt is no complete list of names"):
        SegmentationFolder(root, "train")
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"a\n" * (5 * 2**20))
    with pytest.raises(ValueError, match="10,485,760 bytes, at most 8,388,608"):
        SegmentationFolder(root, "train")


DAMAGED = {
    "a truncated photograph": (lambda r: cut(r / "JPEGImages/2007_b.png"), r"2007_b\.png is no complete photo: .*truncated"),
    "no photograph": (lambda r: (r / "JPEGImages/2007_b.png").write_text("hello"), r"2007_b\.png is no complete photo"),
    "a truncated mask": (lambda r: cut(r / "SegmentationClass/2007_b.png"), r"Class/2007_b\.png is no complete label map"),
    "another size": (
        lambda r: label_picture(labels(8)).save(r / "SegmentationClass/2007_b.png"),
        r"Class/2007_b\.png and .*Images/2007_b\.png must be of one size, got 8 x 6 and 9 x 6 pixels",
    ),
    "a label outside": (
        lambda r: label_picture(labels(most=4)).save(r / "SegmentationClass/2007_b.png"),
        r"Class/2007_b\.png holds label 3: the 3 classes are 0 to 2, and 255 is void",
    ),
    "a mask in colors": (
        lambda r: label_picture(labels()).convert("RGB").save(r / "SegmentationClass/2007_b.png"),
        r"2007_b\.png is no complete label map: classes are a palette's indices or gray values, this picture is of mode RGB",
    ),
    "a black and white mask": (lambda r: gray(1, r / "SegmentationClass/2007_b.png"), "mode 1"),
    "two bits of gray": (lambda r: gray(2, r / "SegmentationClass/2007_b.png"), r"fewer than 8 bits \(L;2\)"),
    "sixteen bits": (lambda r: Image.new("I;16", (9, 6), 1).save(r / "SegmentationClass/2007_b.png"), "mode I"),
    "a JPEG called PNG": (
        lambda r: Image.fromarray(labels().numpy()).save(r / "SegmentationClass/2007_b.png", format="JPEG"),
        r"2007_b\.png is no complete label map: cannot identify",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_damaged_or_does_not_fit_is_named_when_it_is_read(root, what):
    damage, says = DAMAGED[what]
    data = SegmentationFolder(root, "train", num_classes=3)
    assert data[1]
    damage(root)
    assert data[0]  # its neighbor is whole
    with pytest.raises(ValueError, match=says) as raised:
        data[1]
    assert "\n" not in str(raised.value)


def test_a_mask_that_declares_a_huge_size_is_refused_before_it_is_decoded(tmp_path):
    gray(8, file := tmp_path / "m.png")
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 11_999, 11_999)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.png is no complete label map: it declares 11,999 x 11,999 pixels"):
        read_labels(file)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="a pipe"):
        read_labels(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 to 255 different classes, got 0"),
        ("a\na\n", "got 2 of 1 names"),
        ("\n".join(map(str, range(256))), "got 256 of"),
    ],
)
def test_classes_that_are_none_or_too_many_or_the_same_are_refused(root, text, says):
    (root / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"classes\.txt must have {says}" if text == "" else says):
        SegmentationFolder(root, "train")


def test_a_number_of_classes_that_is_none_is_refused(root):
    for wrong, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="num_classes must be"):
            SegmentationFolder(root, "train", num_classes=wrong)
    with pytest.raises(ValueError, match="1 to 255 different classes, got 256"):
        SegmentationFolder(root, "train", num_classes=256)


# ---- Fashion-MNIST


def idx(magic, sides, data):
    return struct.pack(f">{1 + len(sides)}I", magic, *sides) + bytes(data)


IMAGES = np.random.RandomState(0).randint(0, 256, (5, 28, 28)).astype(np.uint8)


@pytest.fixture
def garments(tmp_path):
    """Five pictures for training, packed, and two of them for testing, not packed."""
    whole, few = idx(2051, (5, 28, 28), IMAGES.tobytes()), idx(2051, (2, 28, 28), IMAGES[:2].tobytes())
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(2049, (5,), [9, 0, 3, 3, 1])))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(few)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(2049, (2,), [7, 2]))
    return tmp_path


def test_idx_files_packed_or_not_are_pictures_and_classes(garments):
    train, test = FashionMNIST(garments, "train"), FashionMNIST(str(garments), "test")
    assert (len(train), len(test), train.classes) == (5, 2, GARMENTS)
    assert len(set(GARMENTS)) == 10
    for place, (image, kind) in enumerate(train):
        assert (tuple(image.shape), image.dtype, type(kind)) == ((1, 28, 28), torch.float32, int)
        assert torch.equal(((image[0] + 1) * 127.5).round().byte(), torch.from_numpy(IMAGES[place]))
        assert -1 <= image.min() < image.max() <= 1
    assert [kind for _, kind in train] == [9, 0, 3, 3, 1]
    assert [kind for _, kind in test] == [7, 2]
    assert train[-1][1] == 1
    assert next(iter(DataLoader(train, batch_size=5)))[1].tolist() == [9, 0, 3, 3, 1]


def test_of_a_packed_file_and_an_unpacked_one_the_unpacked_is_read(garments):
    (garments / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(2049, (2,), [0, 0])))
    assert [kind for _, kind in FashionMNIST(garments, "test")] == [7, 2]


PICTURES, KINDS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
BROKEN = {
    "another magic number": (PICTURES, idx(2049, (2, 28, 28), IMAGES[:2].tobytes()), r"2049, 2, 28, 28, not with 2051"),
    "labels for pictures": (PICTURES, idx(2049, (2,), [7, 2]), "begins with 2049, 2, .*not with 2051, count, 28, 28"),
    "another size": (PICTURES, idx(2051, (2, 14, 56), IMAGES[:2].tobytes()), "2051, 2, 14, 56, not with"),
    "truncated": (PICTURES, idx(2051, (2, 28, 28), IMAGES[:2].tobytes()[:-1]), "1,567 of the 1,568 bytes"),
    "too long": (KINDS, idx(2049, (2,), [7, 2, 0]), "more than the 2 bytes"),
    "a piece of a header": (KINDS, b"\0\0\x08", "begins with"),
    "empty": (KINDS, b"", "begins with nothing"),
    "none": (KINDS, idx(2049, (0,), []), "declares 0 pictures"),
    "a claim of a terabyte": (PICTURES, idx(2051, (2**32 - 1, 28, 28), []), "declares 4,294,967,295 pictures"),
    "more labels than pictures": (KINDS, idx(2049, (3,), [7, 2, 1]), "holds 3 labels, and there are 2 pictures"),
    "an eleventh class": (KINDS, idx(2049, (2,), [7, 10]), "holds label 10: the classes are 0 to 9"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_an_idx_file_that_contradicts_itself_or_its_neighbor_is_named(garments, what):
    name, data, says = BROKEN[what]
    (garments / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} .*{says}") as raised:
        FashionMNIST(garments, "test")
    assert "\n" not in str(raised.value)
    assert len(FashionMNIST(garments, "train")) == 5


def test_a_truncated_packed_file_a_missing_one_and_a_split_that_is_none_are_named(garments):
    file = garments / "train-images-idx3-ubyte.gz"
    cut(file)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is no complete idx file"):
        FashionMNIST(garments, "train")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte is missing, and so is train-images-idx3-ubyte\.gz"):
        FashionMNIST(garments, "train")
    with pytest.raises(ValueError, match="split must be train or test, got 'val'"):
        FashionMNIST(garments, "val")
