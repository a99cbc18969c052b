"""A mask, boxes and points in one sample: they move together, are shown together, and are learnt by several losses."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.insight import Interpretation
from layered.vision.all import (
    BBoxBlock,
    BBoxLblBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    Learner,
    MaskBlock,
    MSELossFlat,
    MultiTaskLoss,
    PointBlock,
    RandomResizedCrop,
    RandomSplitter,
    Resize,
    TensorMask,
    TensorPoint,
    aug_transforms,
    load_learner,
)


def item(i):
    """A grey picture with a white square, its mask, its box and its centre."""
    draws = np.random.default_rng(i)
    (left, top), side = draws.integers(20, 50, 2), int(draws.integers(12, 24))
    mask = np.zeros((96, 96), np.uint8)
    mask[top : top + side, left : left + side] = 1
    image = Image.fromarray(np.repeat(80 + 150 * mask[..., None], 3, -1).astype(np.uint8))
    return image, mask, [[left, top, left + side, top + side]], ["square"], [(left + side / 2, top + side / 2)]


ITEMS = [item(i) for i in range(12)]
GETTERS = [lambda o: o[1], lambda o: o[2], lambda o: o[3], lambda o: o[4]]


def loaders(blocks, getters, **tfms):
    made = DataBlock(
        (ImageBlock, *blocks), get_x=lambda o: o[0], get_y=getters, n_inp=1, splitter=RandomSplitter(seed=0), **tfms
    )
    return made.dataloaders(ITEMS, bs=4, num_workers=0, device="cpu", seed=0)


class TwoHeads(nn.Module):
    """A class for each pixel, and a point."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.mask = nn.Sequential(nn.Conv2d(8, 2, 1), nn.Upsample(scale_factor=2))
        self.point = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(512, 2))

    def forward(self, x):
        maps = self.body(x)
        return self.mask(maps), self.point(maps)


def test_all_of_them_move_together():
    blocks = MaskBlock(["back", "square"]), BBoxBlock, BBoxLblBlock, PointBlock
    dls = loaders(
        blocks,
        GETTERS,
        item_tfms=RandomResizedCrop(96, min_scale=0.8, ratio=(1, 1)),
        batch_tfms=aug_transforms(max_rotate=0, max_warp=0),
    )
    _, masks, boxes, labels, points = dls.one_batch()
    for mask, box, label, point in zip(
        masks.as_plain(), boxes.as_plain(), labels.tolist(), points.as_plain(), strict=True
    ):
        assert label == [1]
        rows, columns = mask.nonzero().unbind(1)
        inside = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        assert_close((box[0] + 1) * 48, inside.float(), atol=1.5, rtol=0)
        assert_close((point[0] + 1) * 48, (inside[:2] + inside[2:]) / 2, atol=1.5, rtol=0)
    axes = dls.show_batch(max_n=1)
    assert axes is None or len(axes) == 1
    plt.close("all")


def test_a_model_with_an_output_for_each_learns_from_several_losses(tmp_path):
    dls = loaders((MaskBlock(["back", "square"]), PointBlock), [GETTERS[0], GETTERS[3]], item_tfms=Resize(32))
    losses = [CrossEntropyLossFlat(axis=1), MSELossFlat()]
    torch.manual_seed(0)
    learn = Learner(dls, TwoHeads(), MultiTaskLoss(losses, weights=[1, 10]), path=tmp_path)
    learn.fit(3, 1e-2)
    first, *_, last = learn.recorder.history
    assert last["valid_loss"] < first["valid_loss"]
    (scores, points), (masks, targets), each = learn.get_preds(act=lambda pred: pred, with_loss=True)
    by_hand = nn.functional.cross_entropy(scores, masks) + 10 * nn.functional.mse_loss(points, targets.flatten(1))
    assert last["valid_loss"] == pytest.approx(by_hand.item(), rel=1e-5)
    assert each.mean().item() == pytest.approx(by_hand.item(), rel=1e-5)
    mask, point = learn.predict(ITEMS[0][0])[0]
    assert (type(mask), type(point)) == (TensorMask, TensorPoint)
    learn.predict(ITEMS[0][0])[0].show()
    learn.show_results()
    Interpretation.from_learner(learn).plot_top_losses(2)
    assert len(plt.gcf().axes) == 6
    plt.close("all")
    with pytest.warns(UserWarning, match="how to build the model"):
        file = learn.export()
    loaded = load_learner(file, model=TwoHeads())
    assert_close(loaded.predict(ITEMS[0][0])[0][1], point)


def test_outputs_and_losses_have_to_match():
    loss = MultiTaskLoss([MSELossFlat(), MSELossFlat()])
    with pytest.raises(BadValue, match="do not match the losses"):
        loss(torch.zeros(2, 4), torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(BadValue, match="one loss, one size"):
        MultiTaskLoss([MSELossFlat()], [1, 2])
