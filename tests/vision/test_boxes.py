"""Boxes: any number in an image, moved and cut off with it, padded in batches, shown with names; wrong ones are refused."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.testing import assert_close
from torchvision import tv_tensors
from torchvision.transforms import v2

from layered.foundation import BadFile, BadItem, BadValue, NotFoundPath
from layered.vision.all import (
    BBoxBlock,
    BBoxLblBlock,
    BoxLabels,
    CategoryBlock,
    CropPad,
    DataBlock,
    Flip,
    ImageBlock,
    LabeledBBox,
    PILImage,
    PointScaler,
    RandomSplitter,
    Resize,
    TensorBBox,
    TensorImage,
    TensorMultiCategory,
    TensorPoint,
    Zoom,
    aug_transforms,
    bb_pad,
    clip_remove_empty,
    get_annotations,
    resnet18,
    vision_learner,
)
from layered.vision.torchvision_transforms import adapt_torchvision


@pytest.fixture
def items():
    """Photographs with 0 to 3 labelled boxes each."""
    draws = np.random.default_rng(0)
    photos = [Image.fromarray(o).resize((90, 60)) for o in load_sample_images().images]
    res = []
    for i in range(12):
        corner, size = draws.uniform(2, 30, (i % 4, 2)), draws.uniform(10, 25, (i % 4, 2))
        res.append((photos[i % 2], np.concatenate((corner, corner + size), 1).tolist(), ["cat", "dog", "owl"][: i % 4]))
    return res


def block(**changes):
    args = {
        "get_x": lambda o: o[0],
        "get_y": [lambda o: o[1], lambda o: o[2]],
        "n_inp": 1,
        "item_tfms": Resize(48, "squish"),
        "splitter": RandomSplitter(seed=0),
    }
    return DataBlock((ImageBlock, BBoxBlock, BBoxLblBlock), **args | changes)


def loaders(items, bs=4, **changes):
    return block(**changes).dataloaders(items, bs=bs, num_workers=0, device="cpu")


def test_boxes_are_padded_to_the_most_in_a_batch(items):
    dls = loaders(items, splitter=lambda items: (list(range(4)), list(range(4, 12))))
    assert list(dls.vocab) == ["#na#", "cat", "dog", "owl"]
    _, boxes, labels = dls.train.new(shuffle=False).one_batch()
    assert (type(boxes), type(labels)) == (TensorBBox, TensorMultiCategory)
    assert (boxes.shape, labels.tolist()) == ((4, 3, 4), [[0, 0, 0], [1, 0, 0], [1, 2, 0], [1, 2, 3]])
    wanted = 2 * torch.tensor(items[3][1]) / torch.tensor([90, 60, 90, 60]) - 1
    assert_close(boxes[3].as_plain(), wanted)
    assert not boxes[0].any()


def test_samples_come_back_in_pixels_without_padding(items):
    dls = loaders(items, splitter=lambda items: (list(range(4)), list(range(4, 12))))
    batch = dls.train.new(shuffle=False).one_batch()
    for (image, boxes, labels), item in zip(dls.train.decode_batch(batch), items, strict=False):
        assert (type(image), type(boxes), type(labels)) == (TensorImage, LabeledBBox, BoxLabels)
        assert list(labels) == list(boxes.lbl) == item[2]
        assert boxes.bbox.img_size == (48, 48)
        wanted = torch.tensor(item[1]).reshape(-1, 4) * torch.tensor([48 / 90, 48 / 60] * 2)
        assert_close(boxes.bbox.as_plain(), wanted, atol=1e-3, rtol=0)
    dls.show_batch()
    dls.show_results(batch, tuple(batch[1:]))


def test_boxes_that_leave_the_picture_are_gone_with_their_labels(items):
    image = PILImage.create(items[0][0])
    boxes, labels = (
        TensorBBox.create([[0, 0, 20, 20], [40, 20, 60, 40], [70, 40, 90, 60]]),
        TensorMultiCategory([1, 2, 3]),
    )
    scaled = PointScaler()((image, boxes, labels))
    _, one, label = CropPad(40)(scaled)  # x from 25 to 65, y from 10 to 50
    assert (one.shape, label.tolist()) == ((1, 4), [2])
    assert_close(one.as_plain(), torch.tensor([[-0.25, -0.5, 0.75, 0.5]]))
    _, two, left = CropPad((60, 64))(scaled)  # x from 13 to 77
    assert left.tolist() == [1, 2, 3]
    assert_close(two[0].as_plain(), torch.tensor([-1, -1, 2 * 7 / 64 - 1, 2 * 20 / 60 - 1]))
    assert_close(two[2].as_plain(), torch.tensor([2 * 57 / 64 - 1, 2 * 40 / 60 - 1, 1, 1]))


def test_in_a_batch_they_become_padding():
    images, labels = TensorImage(torch.zeros(1, 3, 64, 64)), TensorMultiCategory([[5, 6, 7, 0]])
    boxes = TensorBBox([[[-0.9, -0.9, -0.8, -0.8], [-0.2, -0.2, 0.3, 0.4], [0.0, 0.0, 0.9, 0.9], [0.0, 0, 0, 0]]])
    move = Zoom(2.0, 2.0, p=1.0, draw_x=0.5, draw_y=0.5, align_corners=False)
    _, moved, kept = move((images, boxes, labels), split_idx=0)
    assert kept.tolist() == [[0, 6, 7, 0]]
    assert_close(moved.as_plain(), torch.tensor([[[0.0] * 4, [-0.4, -0.4, 0.6, 0.8], [0, 0, 1, 1], [0.0] * 4]]))
    few = images[0], TensorBBox([[0.0, 0, 1, 1]]), TensorMultiCategory([3])
    padded, _ = bb_pad([few, (images[0], boxes[0], labels[0])], pad_idx=-1)
    assert padded[2].tolist() == [3, -1, -1]
    _, _, kept = Zoom(9.0, 9.0, p=1.0, draw_x=0.0, draw_y=0.0)((images, padded[1][None], padded[2][None]), split_idx=0)
    assert kept.tolist() == [[-1, -1, -1]]
    mirrored = Flip(p=1.0)((images, boxes), split_idx=0)[1]  # without labels
    assert_close(mirrored[0, 1].as_plain(), torch.tensor([-0.3, -0.2, 0.2, 0.4]))


def test_a_batch_may_have_no_boxes_at_all(items):
    bare = [(image, [], []) for image, _, _ in items[:-1]] + items[-1:]
    dls = loaders(bare, splitter=lambda items: ([11, *range(4)], [5, 6, 7]), batch_tfms=aug_transforms())
    images, boxes, labels = dls.valid.one_batch()
    assert (boxes.shape, labels.shape) == ((3, 0, 4), (3, 0))
    assert [len(sample[1].lbl) for sample in dls.valid.decode_batch((images, boxes, labels))] == [0, 0, 0]
    dls.valid.show_batch()


def test_boxes_may_come_without_labels(items):
    dls = DataBlock(
        (ImageBlock, BBoxBlock), get_x=lambda o: o[0], get_y=lambda o: o[1], item_tfms=Resize(48)
    ).dataloaders(items, bs=4, num_workers=0)
    assert type(dls.one_batch()[1]) is TensorBBox
    dls.show_batch()


@pytest.mark.parametrize(
    ("boxes", "problem", "hint"),
    [
        ([[30, 10, 20, 20]], "a box is empty or inverted", "x + w"),
        ([[30, 10, 30, 20]], "a box is empty or inverted", "x + w"),
        ([[200, 10, 230, 20]], "boxes lie outside their image", "keep_outside"),
        ([[10, 10, 20, 80]], "boxes lie outside their image", "keep_outside"),
        ([[10, 10, 20]], "TensorBBox cannot be made of this", "get_y"),
        ([[10, 10, 20, float("nan")]], "TensorBBox cannot be made of this", "get_y"),
        ([[10, 10, 20, 20]] * 2, "boxes and labels differ in number", "get_y=[boxes_of, labels_of]"),
    ],
)  # fmt: skip
def test_wrong_boxes_are_refused_with_item_stage_and_fix(items, boxes, problem, hint):
    wrong = [(image, boxes, ["cat"]) for image, _, _ in items]
    with pytest.raises(
        (BadValue, BadItem), match=rf"{problem}, when (transforming|making the target 0 of) item \d"
    ) as caught:
        loaders(wrong).one_batch()
    assert hint in str(caught.value.fix)


def test_boxes_beyond_the_border_are_cut_off_where_that_is_wanted(items):
    wide = [(image, [[-30, 10, 45, 30], [95, 10, 99, 20]], ["cat", "dog"]) for image, _, _ in items]
    _, boxes, labels = loaders(wide, item_tfms=[Resize(48, "squish"), PointScaler(keep_outside=True)]).one_batch()
    assert labels.tolist() == [[1]] * 4
    assert_close(boxes.as_plain(), torch.tensor([-1, 2 * 10 / 60 - 1, 0, 0]).expand(4, 1, 4))


def test_any_number_of_workers_makes_the_same_batches(items):
    made = [
        list(block(batch_tfms=aug_transforms()).dataloaders(items, bs=4, num_workers=n, seed=3, device="cpu").train)
        for n in (0, 2)
    ]
    for one, other in zip(*made, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_close(a.as_plain(), b.as_plain())
            assert type(a) is type(b)


def test_what_clips_and_pads_works_on_its_own():
    boxes, labels = torch.tensor([[-2.0, 0, 0, 2], [1.0, 0, 3, 1], [0.1, 0.1, 0.2, 0.2]]), torch.tensor([1, 2, 3])
    clipped, kept = clip_remove_empty(boxes, labels)
    assert_close(clipped, torch.tensor([[-1.0, 0, 0, 1], [0.1, 0.1, 0.2, 0.2]]))
    assert kept.tolist() == [1, 3]


def test_transforms_of_torchvision_are_given_their_own_types():
    seen = []

    class Look(v2.Transform):
        def transform(self, inpt, params):
            seen.append(inpt)
            return inpt

    boxes, points = TensorBBox([[-1.0, -1, 0, 1], [0.5, 0.5, 1, 1]]), TensorPoint([[0.0, 0.0]])
    sample = PILImage.create(Image.new("RGB", (40, 20))), boxes, TensorMultiCategory([1, 2]), points
    made = adapt_torchvision(Look(), "after_item")(sample, split_idx=0)
    _, theirs, spots = seen
    assert isinstance(theirs, tv_tensors.BoundingBoxes)
    assert (theirs.canvas_size, theirs.format.name) == ((20, 40), "XYXY")
    assert theirs.tolist() == [[0, 0, 20, 20], [30, 15, 40, 20]]
    assert isinstance(spots, tv_tensors.KeyPoints)
    assert spots.tolist() == [[19.5, 9.5]]
    assert_close(made[1].as_plain(), boxes.as_plain())
    assert_close(made[3].as_plain(), points.as_plain())
    assert [type(o) for o in made] == [PILImage, TensorBBox, TensorMultiCategory, TensorPoint]
    turned = adapt_torchvision(v2.ConvertBoundingBoxFormat("CXCYWH"), "after_item")(sample, split_idx=0)
    assert_close(turned[1].as_plain(), boxes.as_plain())  # whatever form it leaves them in
    with pytest.raises(BadValue, match="changed the number of boxes"):
        adapt_torchvision(v2.SanitizeBoundingBoxes(min_size=15, labels_getter=None), "after_item")(sample, split_idx=0)


def test_annotations_of_coco_are_read(tmp_path):
    annotations = {
        "images": [
            {"id": 7, "file_name": "b.jpg"},
            {"id": 3, "file_name": "a.jpg"},
            {"id": 9, "file_name": "none.jpg"},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 3, "category_id": 5, "bbox": [1, 2, 10, 20]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 6]},
            {"image_id": 3, "category_id": 1, "bbox": [3.5, 4, 1, 1]},
            {"image_id": 3, "category_id": 1, "bbox": [3, 4, 0, 8], "iscrowd": 0},
            {"image_id": 7, "category_id": 5, "bbox": [0, 0, 90, 60], "iscrowd": 1},
            {"image_id": 9, "category_id": 5, "bbox": [0, 0, 90, 60], "iscrowd": 1},
        ],
    }
    file = tmp_path / "train.json"
    file.write_text(json.dumps(annotations))
    with pytest.warns(UserWarning, match="1 box without an area"):
        names, labelled = get_annotations(file, prefix="train/")
    assert names == ["train/a.jpg", "train/b.jpg"]
    assert labelled == [([[1, 2, 11, 22], [3.5, 4, 4.5, 5]], ["dog", "cat"]), ([[0, 0, 5, 6]], ["cat"])]
    for text in ('{"images": []}', '{"images": [{"id": 1}]}', "[" * 100_000, '{"ima', "[1]", "\x00"):
        file.write_text(text)
        with pytest.raises(BadValue, match="annotations of COCO"):
            get_annotations(file)
    for place, error in ((tmp_path / "none.json", NotFoundPath), (tmp_path, BadFile)):
        with pytest.raises(error, match=place.name):
            get_annotations(place)


def test_image_models_say_what_they_are_for(items):
    with pytest.raises(BadValue, match="these targets are boxes") as caught:
        vision_learner(loaders(items), resnet18, pretrained=False)
    assert "detection_learner(dls" in caught.value.fix


def test_a_drawn_box_has_its_name_and_the_frame_stays(items):
    ax = PILImage.create(items[0][0]).show()
    frame = ax.get_xlim(), ax.get_ylim()
    LabeledBBox(TensorBBox.create([[0, 0, 300, 20], [1, 1, 9, 9]]), ["price: $5", "b"]).show(ctx=ax)
    assert (ax.get_xlim(), ax.get_ylim()) == frame
    assert len(ax.patches) == len(ax.texts) == 2
    assert LabeledBBox(TensorBBox([[1.0, 1, 9, 9]], img_size=(20, 10)), ["a"]).show().get_xlim() == (-0.5, 19.5)


def test_blocks_can_stand_beside_labels(items):
    both = DataBlock(
        (ImageBlock, BBoxBlock, BBoxLblBlock, CategoryBlock),
        get_x=lambda o: o[0],
        get_y=[lambda o: o[1], lambda o: o[2], lambda o: len(o[1]) % 2],
        n_inp=1,
        item_tfms=Resize(48),
    )
    dls = both.dataloaders(items, bs=4, num_workers=0)
    assert dls.one_batch()[3].shape == (4,)
    dls.show_batch()


@pytest.mark.parametrize(
    ("name", "number"), [(["cat"], "1"), ("cat", "NaN"), ("cat", "Infinity"), ("cat", "1" + "0" * 400)]
)
def test_annotations_without_sense_are_refused(tmp_path, name, number):
    box = f'{{"image_id": 1, "category_id": 1, "bbox": [{number}, 1, 2, 2]}}'
    told = json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": name}]})
    (tmp_path / "coco.json").write_text(f'{told[:-1]}, "annotations": [{box}]}}')
    with pytest.raises(BadValue, match="annotations of COCO"):
        get_annotations(tmp_path / "coco.json")


def test_a_pipe_of_annotations_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "coco.json")
    with pytest.raises(BadFile, match="a pipe or a device"):
        get_annotations(tmp_path / "coco.json")
