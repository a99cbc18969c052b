"""Average precision of found objects: the numbers of COCO's own program, for any split into batches."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.metrics import MeanAveragePrecision, MetricSet, unique_parts

SIX = [
    MeanAveragePrecision(),
    MeanAveragePrecision(0.5),
    MeanAveragePrecision(0.75),
    MeanAveragePrecision(size="small"),
    MeanAveragePrecision(size="medium"),
    MeanAveragePrecision(size="large"),
]


def scenes(seed, images=24):
    """Real boxes with labels and crowds, and found ones near them or anywhere, on a grid of quarters; scores have ties."""
    draws, made = np.random.default_rng(seed), []
    for _ in range(images):
        n = draws.integers(0, 9)
        corner, size = draws.uniform(0, 160, (n, 2)), np.exp(draws.uniform(2, 5.3, (n, 2)))
        real, kinds, crowd = np.concatenate((corner, corner + size), 1), draws.integers(1, 4, n), draws.random(n) < 0.15
        which = draws.permutation(np.repeat(np.arange(n), draws.integers(0, 4, n)))
        found = real[which] + draws.normal(0, 0.15, (len(which), 4)) * np.tile(size[which], 2)
        wrong = draws.uniform(0, 160, (draws.integers(0, 5), 2))
        found = np.concatenate((found, np.concatenate((wrong, wrong + draws.uniform(5, 60, wrong.shape)), 1)))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        guessed = np.concatenate((kinds[which], draws.integers(1, 4, len(wrong))))
        guessed = np.where(draws.random(len(found)) < 0.9, guessed, draws.integers(1, 4, len(found)))
        parts = real, kinds, crowd, found, guessed, draws.random(len(found)).round(2)
        types = torch.float32, torch.int64, torch.bool, torch.float32, torch.int64, torch.float32
        rounded = [np.round(o * 4) / 4 if o.ndim == 2 else o for o in parts]
        made.append([torch.tensor(o, dtype=t) for o, t in zip(rounded, types, strict=True)])
    return made


EXPECTED = {
    0: (
        [0.133053131, 0.397124284, 0.035546958, 0.136999320, 0.143518040, 0.184566016],
        [0.121663070, 0.112395492, 0.165100832],
    ),
    1: (
        [0.148133104, 0.386157230, 0.065735697, 0.132556016, 0.196691940, 0.390594059],
        [0.127204733, 0.162611146, 0.154583432],
    ),
    2: (
        [0.150080895, 0.417641987, 0.061289406, 0.144193697, 0.180793945, 0.251925193],
        [0.164084571, 0.150065212, 0.136092903],
    ),
    3: (
        [0.088427302, 0.289222679, 0.017915991, 0.082627210, 0.117534609, 0.172057206],
        [0.081224063, 0.090785610, 0.093272232],
    ),
}  # of pycocotools 2.0.11: AP, at 0.5, at 0.75, of small, medium and large objects; and of each class


def batch(made):
    real, kinds, crowd, found, guessed, scores = zip(*made, strict=True)
    return {"boxes": found, "labels": guessed, "scores": scores}, real, kinds, crowd


@pytest.mark.parametrize("seed", EXPECTED)
def test_it_is_the_number_of_the_reference_however_images_are_cut_into_batches(seed):
    made, (six, each) = scenes(seed), EXPECTED[seed]
    metrics = MetricSet([*SIX, MeanAveragePrecision(average=None), MeanAveragePrecision()[2]])
    assert len(unique_parts(metrics)) == 1  # they keep the boxes once
    assert metrics.names[:4] == ["map", "map_50", "map_75", "map_small"]
    for cut in (1, 7, 24):
        metrics.reset()
        for i in range(0, 24, cut):
            metrics.update(*batch(made[i : i + cut]))
        *values, per_class, second = metrics.values
        assert_close(
            torch.tensor(values, dtype=torch.float64), torch.tensor(six, dtype=torch.float64), atol=1e-8, rtol=0
        )
        assert math.isnan(per_class[0])  # the background
        assert_close(per_class[1:], torch.tensor(each, dtype=torch.float64), atol=1e-8, rtol=0)
        assert second == per_class[2]


def test_what_processes_have_seen_is_merged():
    made = scenes(0)
    shares = [MeanAveragePrecision() for _ in range(2)]
    for share, some in zip(shares, (made[:10], made[10:]), strict=True):
        share.update(*batch(some))
    shares[0].merge(shares[1])
    assert shares[0].value == pytest.approx(EXPECTED[0][0][0], abs=1e-8)


def found(*rows):
    """One image's found boxes: (label, score, left, top, right, bottom)."""
    table = torch.tensor(rows).reshape(1, -1, 6)
    return {"boxes": table[..., 2:], "labels": table[..., 0].long(), "scores": table[..., 1]}


def real(*rows):
    table = torch.tensor(rows).reshape(1, -1, 5)
    return table[..., 1:], table[..., 0].long()


ONE = (1, 0.0, 0.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("there", "guesses", "value"),
    [
        (real(ONE), found((1, 0.5, 0.0, 0.0, 10.0, 10.0)), 1.0),
        (real(ONE), found((2, 0.5, 0.0, 0.0, 10.0, 10.0)), 0.0),  # of another class
        (real(ONE), found((1, 0.5, 0.0, 0.0, 10.0, 20.0)), 0.1),  # an overlap of exactly 0.5 counts at 0.5 alone
        (real(ONE), found(), 0.0),
        (real(ONE, (2, 0.0, 0.0, 4.0, 4.0)), found((1, 0.5, 0.0, 0.0, 10.0, 10.0)), 0.5),  # the mean over classes
        # the second finds the same again, after which precision is 1/2: but all was found before
        (real(ONE), found((1, 0.9, 0.0, 0.0, 10.0, 10.0), (1, 0.8, 0.0, 0.0, 10.0, 10.0)), 1.0),
        (real(ONE), found((1, 0.9, 50.0, 50.0, 60.0, 60.0), (1, 0.8, 0.0, 0.0, 10.0, 10.0)), 0.5),
        # half of the objects are found, so precision is 1 at 51 of 101 recalls
        (real(ONE, (1, 50.0, 50.0, 60.0, 60.0)), found((1, 0.9, 0.0, 0.0, 10.0, 10.0)), 51 / 101),
    ],
)  # fmt: skip
def test_worked_by_hand(there, guesses, value):
    assert MeanAveragePrecision()(guesses, *there) == pytest.approx(value)


def test_images_and_classes_without_objects():
    metric = MeanAveragePrecision()
    assert math.isnan(metric(found((1, 0.9, 0.0, 0.0, 10.0, 10.0)), *real()))
    assert math.isnan(metric(found(), *real()))
    two = {name: torch.cat((o, torch.zeros_like(o))) for name, o in found((1, 0.5, 0.0, 0.0, 10.0, 10.0)).items()}
    padded = [torch.cat((o, torch.zeros_like(o))) for o in real(ONE)]
    assert metric(two, *padded) == 1.0  # the second image has nothing but padding
    wrong = {
        **two,
        "labels": torch.tensor([[1], [1]]),
        "scores": torch.tensor([[0.5], [0.9]]),
        "boxes": two["boxes"] + 1,
    }
    wrong["boxes"][0] -= 1
    assert metric(wrong, *padded) == 0.5  # there, the best one is wrong


def test_objects_of_one_kind_need_no_labels():
    guesses = found((1, 0.5, 0.0, 0.0, 10.0, 10.0))
    assert MeanAveragePrecision()(guesses, real(ONE)[0]) == 1.0


def test_boxes_in_a_crowd_count_neither_as_right_nor_as_wrong():
    there, labels = real(ONE, (1, 20.0, 20.0, 90.0, 90.0))
    guesses = found((1, 0.9, 25.0, 25.0, 40.0, 40.0), (1, 0.8, 50.0, 50.0, 60.0, 60.0), (1, 0.7, 0.0, 0.0, 10.0, 10.0))
    assert MeanAveragePrecision()(guesses, there, labels, torch.tensor([[False, True]])) == 1.0
    assert MeanAveragePrecision()(guesses, there, labels) < 0.5


def test_any_threshold_may_be_asked_for():
    guesses = found((1, 0.5, 0.0, 0.0, 10.0, 30.0))
    assert MeanAveragePrecision(iou=0.3)(guesses, *real(ONE)) == 1.0
    assert MeanAveragePrecision(iou=0.35)(guesses, *real(ONE)) == 0.0


def test_wrong_arguments_and_batches_are_named():
    with pytest.raises(BadValue, match="unknown size"):
        MeanAveragePrecision(size="tiny")
    with pytest.raises((BadValue, BadArgument), match="iou"):
        MeanAveragePrecision(iou=50)
    with pytest.raises(BadArgument, match="predictions are of another kind"):
        MeanAveragePrecision()(torch.zeros(2, 3), *real(ONE))
    with pytest.raises(BadValue, match="another number of images"):
        MeanAveragePrecision()(found(), torch.zeros(2, 1, 4), torch.zeros(2, 1))
