"""The small set of photographs is in VOC's layout, its masks lie on its pictures, and it is the same wherever it is made."""

import hashlib

import crow_set
import pytest
import torch

from minideeplab.course.plot import photograph
from minideeplab.image import to_pixels
from minideeplab.learn import photo
from minideeplab.learn.data import SegmentationFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "crow"
    return folder, crow_set.build(folder)


def test_it_is_in_voc_s_layout_with_two_classes(made):
    train, val = (SegmentationFolder(made[0], split) for split in ("train", "val"))
    assert (len(train), len(val), list(train.classes)) == (30, 10, ["background", "bird"])
    assert {int(label) for _, labels in train for label in labels.unique()} == {0, 1}


def test_picture_and_mask_are_one_crop_turned_together(made):
    folder, crops = made
    human = photo.read_mask(crow_set.ASSETS / "crow_mask.png").long()
    crow = photograph(crow_set.ASSETS / "crow.png")[0].mean(0)
    numbers = [number for number in range(crow_set.COUNT) if number % 4]
    for number, (image, labels) in zip(numbers[:8], SegmentationFolder(folder, "train")):
        y, x, side = crops[number]
        if number % 2:
            image, labels = image.flip(1, 2), labels.flip(0, 1)
        assert torch.equal(labels, human[y : y + side, x : x + side])
        assert alike(image.mean(0), crow[y : y + side, x : x + side]) > 0.9
        assert alike(image.mean(0).flip(0, 1), crow[y : y + side, x : x + side]) < 0.9


def alike(one, other):
    """The correlation of two maps."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_it_is_the_same_wherever_it_is_made(made):
    every = hashlib.sha256()
    for image, labels in SegmentationFolder(made[0], "val"):
        every.update(to_pixels(image[None])[0].numpy().tobytes() + labels.byte().numpy().tobytes())
    assert every.hexdigest() == "d56bec6b3fcba78634efc345488605b94b7c5d997b695d70d0b1cdccf985b701"


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["crow_set.py", str(tmp_path)])
    assert crow_set.main() == 1
    assert "is there already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
