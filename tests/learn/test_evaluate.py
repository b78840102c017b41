"""Scores of a network are those of the label maps that it draws, added up over the images before anything is divided."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from minideeplab.learn import metrics
from minideeplab.learn.data import VOID, Sample, Shapes
from minideeplab.learn.evaluate import evaluate, score


class Painter(nn.Module):
    """Draws class 1 wherever the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        bright = x.mean(1, keepdim=True) * self.gain
        return torch.cat([-bright, bright], dim=1)


class Pictures:
    classes = ("dark", "bright")

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def picture(*rows, wrong=()):
    """An image whose bright pixels are the ones of `rows`; the labels differ at the places in `wrong`."""
    labels = torch.tensor(rows)
    image = (2.0 * labels - 1).expand(3, *labels.shape).contiguous()
    for place in wrong:
        labels[place] = 1 - labels[place]
    return Sample(image, labels)


ONE = picture([0, 0, 1, 1], [0, 0, 1, 1], wrong=[(0, 0)])
OTHER = picture([1, 1], [1, 0])


def test_a_network_scores_as_the_maps_that_it_draws():
    drawn = [((sample.image[0] > 0).long(), sample.labels) for sample in (ONE, OTHER)]
    found = evaluate(Painter(), Pictures(ONE, OTHER), widths=(1, 9))
    assert found == score(drawn, Pictures.classes, widths=(1, 9))
    assert found.classes == {"dark": Fraction(4, 5), "bright": Fraction(7, 8)}  # 3 + 1 of 5 dark, 4 + 3 of 8 bright
    assert found.miou == Fraction(67, 80)
    assert found.accuracy == Fraction(11, 12)


def test_a_band_is_scored_by_its_own_pixels():
    found = evaluate(Painter(), Pictures(ONE), widths=(1,))
    assert found.trimap == {1: Fraction(17, 24)}  # six pixels: 3 of 4 dark, 2 of 3 bright
    assert found.miou == Fraction(31, 40)  # eight: 3 of 4, 4 of 5


def test_images_are_added_up_before_they_are_divided():
    apart = [evaluate(Painter(), Pictures(sample)).miou for sample in (ONE, OTHER)]
    assert evaluate(Painter(), Pictures(ONE, OTHER)).miou != sum(apart) / 2


def test_void_counts_neither_in_the_whole_nor_in_a_band():
    void = ONE._replace(labels=ONE.labels.clone())
    void.labels[0, 0] = VOID
    assert evaluate(Painter(), Pictures(ONE)).accuracy == Fraction(7, 8)
    found = evaluate(Painter(), Pictures(void), widths=(1,))
    assert found.accuracy == found.trimap[1] == 1


def test_perfect_labels_of_a_finer_grid_score_higher():
    truths = [Shapes(6, seed=5)[index].labels for index in range(6)]
    found = [
        score(((metrics.perfect_labels(truth, stride, window=stride), truth) for truth in truths), Shapes.classes, widths=(2,))
        for stride in (16, 8, 4, 1)
    ]
    assert found[0].miou < found[1].miou < found[2].miou < found[3].miou == found[3].trimap[2] == 1


def test_a_network_comes_back_in_its_mode_and_no_image_is_refused():
    net = Painter().train()
    evaluate(net, Pictures(ONE))
    assert net.training
    with pytest.raises(ValueError, match="there is no image"):
        evaluate(net, Pictures())
    with pytest.raises(ValueError, match="there is no image"):
        score([], ("a", "b"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_class(number):
    net = Painter()
    net.register_forward_hook(lambda _, __, logits: logits.index_fill(2, torch.tensor(0), number))
    with pytest.raises(ValueError, match=r"of the network's .* numbers are NaN or infinite"):
        evaluate(net, Pictures(ONE))
