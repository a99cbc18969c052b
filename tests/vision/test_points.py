"""Points: read in any form, scaled to their image, moved with it, predicted, shown, exported; wrong ones are refused."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadItem, BadValue, MixedSizes
from layered.insight import Interpretation
from layered.vision.all import (
    ColReader,
    CropPad,
    DataBlock,
    EndSplitter,
    FlipItem,
    ImageBlock,
    L,
    Learner,
    PILImage,
    PointBlock,
    PointScaler,
    RandomSplitter,
    Resize,
    Rotate,
    TensorImage,
    TensorPoint,
    Zoom,
    aug_transforms,
    load_learner,
    mae,
    rmse,
    tensor,
    vision_learner,
)


def picture(width=60, height=40):
    return PILImage.create(Image.new("RGB", (width, height)))


@pytest.fixture
def items():
    """Photographs with three points in each."""
    draws = np.random.default_rng(0)
    photos = [Image.fromarray(o).resize((60, 40)) for o in load_sample_images().images]
    return [(photos[i % 2], draws.uniform(2, 38, (3, 2)).tolist()) for i in range(12)]


def block(**changes):
    args = {
        "get_x": lambda o: o[0],
        "get_y": lambda o: o[1],
        "item_tfms": Resize(32),
        "splitter": RandomSplitter(seed=0),
    }
    return DataBlock((ImageBlock, PointBlock), **args | changes)


def loaders(items, bs=4, **changes):
    return block(**changes).dataloaders(items, bs=bs, num_workers=0, device="cpu")


@pytest.mark.parametrize(
    "source",
    [
        [(1, 2), (3, 4)], ((1, 2), (3, 4)), [[1, 2], [3, 4]], [1, 2, 3, 4], L([1, 2], [3, 4]), np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=np.int64), torch.tensor([[1, 2], [3, 4]]), torch.tensor([1.0, 2, 3, 4]),
        pd.Series([1, 2, 3, 4]), pd.DataFrame([[1, 2], [3, 4]]), TensorPoint([[1.0, 2], [3, 4]]),
    ],
)  # fmt: skip
def test_points_are_read_in_any_form(source):
    points = TensorPoint.create(source)
    assert type(points) is TensorPoint
    assert points.dtype is torch.float32
    assert points.tolist() == [[1, 2], [3, 4]]


def test_one_point_may_be_a_pair():
    assert TensorPoint.create((1, 2)).tolist() == [[1, 2]]
    files = [f"{i}_10_20.png" for i in range(10)]
    dls = loaders(files, get_x=lambda name: picture(), get_y=lambda name: tuple(map(int, name[:-4].split("_")[1:])))
    assert dls.one_batch()[1].shape == (4, 1, 2)
    assert dls.c == 2
    table = pd.DataFrame({"x": [10.0] * 10, "y": 20.0})
    dls = loaders(table, get_x=lambda row: picture(), get_y=ColReader(["x", "y"]), item_tfms=None)
    assert_close(dls.one_batch()[1].as_plain(), torch.tensor([[2 * 10 / 60 - 1, 0.0]]).expand(4, 1, 2))


@pytest.mark.parametrize("source", [[1, 2, 3], [[1, 2, 3]], "middle", [(1, None)], [(1, np.nan)], [(1, 2), (3,)], {}])
def test_what_makes_no_points_is_refused(source):
    with pytest.raises(BadValue, match="TensorPoint cannot be made of this") as caught:
        TensorPoint.create(source)
    assert caught.value.fix


def test_points_are_scaled_by_their_own_image_and_come_back_in_pixels():
    for width, height in ((60, 40), (31, 77)):
        given = TensorPoint.create([(0, 0), (width, height), (10, 20.5)])
        image, points = PointScaler()((picture(width, height), given))
        wanted = 2 * torch.tensor([[0, 0], [width, height], [10, 20.5]]) / torch.tensor([width, height]) - 1
        assert_close(points.as_plain(), wanted)
        _, back = PointScaler().decode((image, points))
        assert_close(back.as_plain(), given.as_plain())
        assert back.img_size == (width, height)
    other = TensorPoint.create((300, 200), img_size=(600, 400))
    assert_close(PointScaler()((picture(), other))[1].as_plain(), torch.zeros(1, 2))
    assert_close(PointScaler(y_first=True)((picture(), TensorPoint.create((10, 60))))[1].tolist(), [[1.0, -0.5]])
    assert PointScaler(do_scale=False)((picture(), TensorPoint.create((0.5, 0.25))))[1].tolist() == [[0.5, 0.25]]
    with pytest.raises(BadValue, match="the sample has none"):
        PointScaler()((TensorPoint.create((1, 2)),))


def test_points_outside_their_image_are_refused_or_kept(items):
    for outside, got in (((70, 20), "x from 70"), ((20, -9), "y from -9"), ((20, 60), "PointScaler(y_first=True)")):
        wrong = [(image, [outside]) for image, _ in items]
        with pytest.raises(BadValue, match="points lie outside their image, when transforming item") as caught:
            loaders(wrong, item_tfms=None).one_batch()
        assert got in str(caught.value)
    batch = loaders([(image, [(90, 20)]) for image, _ in items], item_tfms=PointScaler(keep_outside=True)).one_batch()
    assert_close(batch[1].as_plain(), torch.tensor([2.0, 0.0]).expand(4, 1, 2))
    kept = Zoom(2.0, 2.0, p=1.0, draw_x=0.0, draw_y=0.0)(
        (TensorImage(torch.zeros(1, 3, 9, 9)), TensorPoint([[[0.5, 0]]]))
    )
    assert_close(kept[1].as_plain(), torch.tensor([[[2.0, 1.0]]]), atol=0.3, rtol=0)  # moved on, beyond the border


def test_annotations_of_the_stored_pixels_of_a_turned_photograph_are_refused_where_that_shows():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(file, "png", exif=exif)
    image = PILImage.create(file.getvalue())
    assert image.size == (40, 60)
    assert_close(PointScaler()((image, TensorPoint.create((20, 60))))[1].tolist(), [[0.0, 1.0]])  # as it is seen
    with pytest.raises(BadValue, match="as it is stored"):
        PointScaler()((image, TensorPoint.create((60, 20))))


def test_items_with_other_numbers_of_points_are_named(items):
    items[5] = (items[5][0], items[5][1][:2])
    with pytest.raises(BadValue, match=r"differ in their number of points, when making the target of item 5") as caught:
        list(loaders(items, splitter=EndSplitter(0.2)).train.new(shuffle=False))
    assert "2 points; 3" in caught.value.got
    assert not isinstance(caught.value, MixedSizes)


def test_transforms_need_the_image_that_points_lie_in():
    for tfm in (FlipItem(p=1.0), Resize(8), CropPad(9), Rotate(p=1.0)):
        with pytest.raises(BadValue, match="needs the image that a TensorPoint lies in"):
            tfm(TensorPoint([[0.0, 0.0]]), split_idx=0)
    pair = TensorImage(torch.zeros(3, 4, 4)), TensorPoint([[0.5, 0.0]])  # no image of PIL, so nothing moves
    assert FlipItem(p=1.0)(pair, split_idx=0)[1].tolist() == [[0.5, 0.0]]


class Middle(nn.Module):
    """Predicts the same three points for each image."""

    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(torch.tensor([0.0, 0.0, -0.5, 0.5, 1.0, -1.0]))

    def forward(self, x):
        return self.at.expand(len(x), 6)


def test_points_are_predicted_in_pixels_of_the_picture_that_the_model_saw(items):
    dls = loaders(items, item_tfms=None)
    learn = Learner(dls, Middle())
    points, decision, raw = learn.predict(items[0][0])
    assert type(points) is TensorPoint
    assert points.img_size == (60, 40)
    assert_close(points.as_plain(), torch.tensor([[30.0, 20], [15, 30], [60, 0]]))
    assert decision.shape == raw.shape == (6,)
    image, again, *_ = learn.predict(items[0][0], with_input=True)
    assert_close(again.as_plain(), points.as_plain())
    assert learn.predict(items[0][0].resize((120, 40)))[0].tolist() == [[60, 20], [30, 30], [120, 0]]
    again.show(ctx=image.show())
    assert len(points.show().collections) == 1
    preds, targets = learn.get_preds()
    assert preds.shape == (2, 6)
    assert targets.shape == (2, 3, 2)
    assert_close(torch.tensor(learn.validate()[0]), (preds - targets.flatten(1)).square().mean())


def test_a_learner_of_points_knows_its_outputs_and_its_loss(items, tmp_path):
    dls = loaders(items, batch_tfms=aug_transforms(size=32))
    learn = vision_learner(dls, small, pretrained=False, y_range=(-1, 1), metrics=[rmse, mae], path=tmp_path, cut=-1)
    assert dls.c == 6
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, 1e-2)
    loss, root, _ = learn.validate()
    assert root == pytest.approx(loss**0.5, rel=1e-4)
    (preds,) = learn.get_preds()[:1]
    assert preds.abs().max() <= 1
    learn.export("points.layered")
    exported = load_learner(tmp_path / "points.layered")
    assert_close(exported.predict(items[0][0])[0].as_plain(), learn.predict(items[0][0])[0].as_plain())
    learn.show_results()
    dls.show_batch()
    Interpretation.from_learner(learn).plot_top_losses(2)
    learn.loss_func = nn.MSELoss()
    assert learn.validate()[0] == pytest.approx(loss, rel=1e-4)


def small(pretrained=False):
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


def test_points_are_drawn_on_the_picture_without_changing_its_frame(items):
    image = items[0][0]
    ax = PILImage.create(image).show()
    frame = ax.get_xlim(), ax.get_ylim()
    TensorPoint([[100.0, 100.0], [0.5, 0.5]]).show(ctx=ax)
    assert (ax.get_xlim(), ax.get_ylim()) == frame
    assert_close(tensor(ax.collections[0].get_offsets()[1]), torch.zeros(2))  # imshow centres the first pixel on 0
    TensorPoint(torch.rand(200, 2) * 30, img_size=(60, 40)).show()


def test_the_audit_and_the_summary_read_points(items, capsys):
    dls = loaders(items)
    dls.check()
    block().summary(items)
    assert "PointScaler" in capsys.readouterr().out


def test_bad_items_can_be_skipped(items):
    items[3] = (items[3][0], [(999, 999)] * 3)
    dls = block(splitter=lambda items: ([0, 1, 2, 3], [4, 5])).dataloaders(
        items, bs=4, num_workers=0, on_bad="skip", shuffle=False
    )
    assert len(dls.train.one_batch()[1]) == 3
    with pytest.raises((BadItem, BadValue), match="item 3"):
        block(splitter=lambda items: ([0, 1, 2, 3], [4, 5])).dataloaders(items, bs=4, num_workers=0).one_batch()
