"""Finding objects: torchvision's detectors learn, predict, show and are exported as any model, from boxes that move."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from torch import nn
from torch.testing import assert_close
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from layered.foundation import BadArgument, BadValue, CannotRestore, CannotTrain, Offline, UnknownName, builders
from layered.insight import Interpretation
from layered.vision.all import (
    BBoxBlock,
    BBoxLblBlock,
    Callback,
    CategoryBlock,
    DataBlock,
    GradientAccumulation,
    ImageBlock,
    IndexSplitter,
    LabeledBBox,
    MeanAveragePrecision,
    Normalize,
    RandomResizedCrop,
    RandomSplitter,
    Recorder,
    Resize,
    aug_transforms,
    detection_learner,
    load_learner,
    resnet18,
)
from layered.vision.detection import DetectionLoss, detector_split
from layered.vision.models.detectors import Detector, create_detector, detector_names

CLASSES = ("ball", "box")


def scene(i):
    """A piece of a photograph with 0 to 3 balls and boxes pasted on it, and where they are."""
    draws = np.random.default_rng(i)
    top, left = draws.integers(0, 360), draws.integers(0, 570)
    image = Image.fromarray(load_sample_images().images[0][top : top + 64, left : left + 64])
    pen, boxes, labels = ImageDraw.Draw(image), [], []
    for _ in range(i % 4):
        (x, y), r = draws.uniform(12, 52, 2), draws.uniform(8, 12)
        labels.append(CLASSES[draws.integers(2)])
        boxes.append([x - r, y - r, x + r, y + r])
        if labels[-1] == "ball":
            pen.ellipse(boxes[-1], fill=(240, 80, 20))
        else:
            pen.rectangle(boxes[-1], fill=(20, 80, 240))
    return image, boxes, labels


ITEMS = [scene(i) for i in range(16)]


def block(*targets, **changes):
    args = {
        "get_x": lambda o: o[0],
        "get_y": [lambda o: o[1], lambda o: o[2]],
        "n_inp": 1,
        "splitter": RandomSplitter(seed=0),
    }
    return DataBlock((ImageBlock, *(targets or (BBoxBlock, BBoxLblBlock))), **args | changes)


def loaders(*targets, items=ITEMS, bs=4, **changes):
    return block(*targets, **changes).dataloaders(items, bs=bs, num_workers=0, device="cpu", seed=0)


def tiny_body():
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, 4, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )
    body.out_channels = 32
    return body


@builders.register("test.tiny_fcos")
def tiny_fcos(num_classes):
    return detection.FCOS(tiny_body(), num_classes, anchor_generator=AnchorGenerator(((8,),), ((1.0,),)))


@builders.register("test.tiny_rcnn")
def tiny_rcnn(num_classes):
    return detection.FasterRCNN(
        tiny_body(), num_classes, rpn_anchor_generator=AnchorGenerator(((20,),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 4, 2), box_batch_size_per_image=32, rpn_pre_nms_top_n_test=50,
    )  # fmt: skip


PARTS = {
    tiny_fcos: ["classification", "bbox_regression", "bbox_ctrness"],
    tiny_rcnn: ["loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"],
}


def make(dls, arch=tiny_fcos, **args):
    learn = detection_learner(dls, arch, pretrained=False, **args)
    learn.logger = print
    return learn


@pytest.fixture(autouse=True)
def quiet(capsys):
    yield
    plt.close("all")


@pytest.mark.parametrize("arch", PARTS)
def test_the_losses_are_those_of_the_detector_by_hand(arch):
    dls = loaders()
    torch.manual_seed(0)
    learn = make(dls, arch, train_bn=True)
    images, boxes, labels = dls.one_batch()
    theirs = copy.deepcopy(learn.model.detector).train()
    targets = [
        {"boxes": (b + 1) * 32, "labels": n}
        for b, n in ((b[n > 0], n[n > 0]) for b, n in zip(boxes.as_plain(), labels.as_plain(), strict=True))
    ]
    torch.manual_seed(1)
    by_hand = theirs(list(images.as_plain()), targets)
    torch.manual_seed(1)
    out = learn.model.train()(images, boxes, labels)
    assert_close(out["losses"], by_hand)
    assert list(by_hand) == PARTS[arch] or set(by_hand) == set(PARTS[arch])
    assert_close(out["loss"], sum(by_hand.values()))


@pytest.mark.parametrize("arch", PARTS)
def test_evaluation_gives_the_detections_and_the_loss_of_each_image(arch):
    torch.manual_seed(0)
    model = make(loaders(), arch).model.eval()
    batch = [o.as_plain() for o in loaders(bs=8).one_batch()]
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    with torch.no_grad():
        whole = model(*batch)
        assert torch.equal(torch.get_rng_state(), state)
        assert [m.training for m in model.modules()] == modes
        theirs = model.detector(list(batch[0]))
        for i, one in enumerate(theirs):
            alone = model(*(o[i : i + 1] for o in batch))
            for name, losses in whole["losses"].items():
                assert_close(losses[i], alone["losses"][name][0])
            count = len(one["scores"])
            assert_close((whole["boxes"][i, :count] + 1) * 32, one["boxes"])
            assert torch.equal(whole["labels"][i, :count], one["labels"])
            assert not whole["scores"][i, count:].any()
            assert not whole["boxes"][i, count:].any()
        assert_close(whole["loss"], sum(whole["losses"].values()).mean())
        assert "loss" not in model(batch[0])


@pytest.mark.parametrize("arch", PARTS)
def test_a_fit_shows_the_parts_of_the_loss_and_learns(arch, tmp_path):
    dls = loaders(item_tfms=RandomResizedCrop(64, min_scale=0.6), batch_tfms=aug_transforms())
    learn = make(dls, arch, metrics=MeanAveragePrecision(), seed=0)
    learn.fit_one_cycle(4, 1e-2)
    first, *_, last = learn.recorder.history
    assert list(first)[3:] == [*PARTS[arch], "map"]
    assert last["train_loss"] < first["train_loss"]
    assert last["valid_loss"] == pytest.approx(sum(last[name] for name in PARTS[arch]), rel=1e-5)
    for bs in (1, 3):
        other = learn.dls.valid.new(bs=bs)
        assert list(learn.validate(dl=other)) == pytest.approx(list(last.values())[2:], rel=1e-5)


def test_a_small_model_finds_what_it_has_seen():
    dls = loaders(items=ITEMS[:8] * 2, splitter=IndexSplitter(range(8, 16)), bs=8)
    torch.manual_seed(0)
    learn = make(dls, metrics=MeanAveragePrecision(0.5), seed=0)
    learn.fit_one_cycle(60, 2e-2)
    assert learn.recorder.history[-1]["map_50"] > 0.8
    boxes, _ = learn.predict(ITEMS[3][0])[0]
    assert isinstance(boxes, LabeledBBox)
    assert sorted(boxes.lbl) == sorted(ITEMS[3][2])


@pytest.fixture(scope="module")
def fitted():
    learn = make(loaders(batch_tfms=aug_transforms()), min_score=0.05, seed=0)
    learn.fit(1)
    return learn


def test_predictions_come_in_the_form_of_the_targets(fitted):
    preds, (boxes, labels), (found, kinds), losses = fitted.get_preds(with_decoded=True, with_loss=True)
    assert set(preds) == {"boxes", "labels", "scores"}
    assert len(preds["scores"]) == len(boxes) == len(labels) == len(found) == len(kinds) == len(losses) == 3
    assert losses.mean().item() == pytest.approx(fitted.validate()[0], rel=1e-5)
    assert ((preds["scores"][0] >= 0.05) == (kinds[0] > 0)).all()
    assert MeanAveragePrecision()(preds, boxes, labels) >= 0
    without = fitted.get_preds(dl=fitted.dls.test_dl([ITEMS[0]]))
    assert without[1] is None
    both, *_ = fitted.get_preds(with_input=True)
    assert both.shape == (3, 3, 64, 64)  # the images alone


def test_samples_and_results_are_shown(fitted, tmp_path):
    fitted.dls.show_batch()
    fitted.show_results()
    interp = Interpretation.from_learner(fitted)
    interp.plot_top_losses(2)
    assert len(plt.gcf().axes) == 6
    fitted.predict(ITEMS[3][0])[0].show()
    fitted.summary()


def test_an_export_finds_the_same(fitted, tmp_path):
    fitted.path = tmp_path
    loaded = load_learner(fitted.export())
    assert repr(loaded.model) == repr(fitted.model)
    theirs, ours = (learn.predict(ITEMS[2][0]) for learn in (fitted, loaded))
    assert_close(ours[2], theirs[2])
    assert list(ours[0][0].lbl) == list(theirs[0][0].lbl)


class Fails(Callback):
    """An error in the second epoch."""

    fails = True

    def after_batch(self):
        if self.fails and self.epoch == 1 and self.training:
            raise ZeroDivisionError


def test_a_resumed_fit_is_the_undisturbed_one(tmp_path, monkeypatch):
    def run(name, **args):
        torch.manual_seed(0)
        learn = make(loaders(batch_tfms=aug_transforms()), tiny_rcnn, seed=0, metrics=MeanAveragePrecision())
        learn.fit(2, 1e-3, checkpoint=tmp_path / name, **args)
        return learn

    whole = run("whole")
    with pytest.raises(ZeroDivisionError):
        run("cut", cbs=Fails())
    monkeypatch.setattr(Fails, "fails", False)
    resumed = run("cut", cbs=Fails(), resume="auto")
    assert resumed.recorder.history == whole.recorder.history
    assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_gradients_may_be_accumulated():
    learn = make(loaders(), cbs=GradientAccumulation(8))
    learn.fit(1)


def test_metrics_of_training_have_no_detections():
    learn = make(loaders(), metrics=MeanAveragePrecision())
    learn.remove_cb(Recorder)
    learn.add_cb(Recorder(train_metrics=True))
    with pytest.raises(BadArgument, match="predictions are of another kind"):
        learn.fit(1)


def test_objects_of_one_kind_need_no_labels():
    learn = make(loaders(BBoxBlock, get_y=lambda o: o[1]), metrics="map_50", min_score=0.01)
    learn.fit(1)
    assert learn.model.detector.head.classification_head.num_classes == 2
    learn.show_results()
    Interpretation.from_learner(learn).plot_top_losses(2)
    learn.predict(ITEMS[1][0])[0].show()


def test_images_without_any_box_are_learnt_as_background():
    empty = [(image, [], []) for image, *_ in ITEMS[:8]]
    for arch in PARTS:
        learn = make(loaders(BBoxBlock, BBoxLblBlock(CLASSES), items=empty), arch)
        learn.fit(1)
        assert np.isfinite(learn.recorder.history[-1]["valid_loss"])


def test_normalisation_happens_once():
    assert make(loaders()).model.detector.transform.image_std == [0.229, 0.224, 0.225]
    normalised = loaders(batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3))
    assert make(normalised).model.detector.transform.image_std == [1.0] * 3
    assert make(loaders(), normalize=False).model.detector.transform.image_mean == [0.0] * 3


@pytest.mark.parametrize(
    ("targets", "changes", "problem", "fix"),
    [
        ((CategoryBlock,), {"get_y": lambda o: len(o[1])}, "learns from boxes", "BBoxBlock, BBoxLblBlock"),
        ((BBoxBlock, CategoryBlock), {"get_y": [lambda o: o[1], lambda o: 1]}, "learns from boxes", "n_inp=1"),
        ((BBoxBlock, BBoxLblBlock(CLASSES, add_na=False)), {}, "class 0 of a detector is the background", "add_na=True"),
    ],
)  # fmt: skip
def test_other_targets_are_refused_with_the_block_that_fits(targets, changes, problem, fix):
    with pytest.raises(BadValue, match=problem) as caught:
        make(loaders(*targets, **changes))
    assert fix in caught.value.fix


def test_wrong_architectures_and_arguments_are_named():
    dls = loaders()
    with pytest.raises(BadArgument, match="learns from more than boxes"):
        make(dls, detection.maskrcnn_resnet50_fpn)
    with pytest.raises(UnknownName, match="fasterrcnn_resnet50_fpm"):
        make(dls, "fasterrcnn_resnet50_fpm")
    with pytest.raises(BadArgument, match="metrcs"):
        make(dls, "ssdlite320_mobilenet_v3_large", metrcs="map")
    with pytest.raises(CannotTrain, match="learns from boxes"):
        create_detector(tiny_fcos, 3, pretrained=False).train()(torch.zeros(1, 3, 64, 64))


def test_trained_weights_need_a_download(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Offline, match="ssdlite320"):
        detection_learner(loaders(), "ssdlite320_mobilenet_v3_large")


def test_weights_of_other_classes_are_loaded_but_for_the_last_layers(tmp_path):
    theirs = create_detector(tiny_fcos, 5, pretrained=False).detector
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    with pytest.warns(UserWarning, match=r"2 tensors .* left out: head.classification_head.cls_logits.weight"):
        learn = detection_learner(loaders(), tiny_fcos, weights=tmp_path / "weights.pth")
    ours = learn.model.detector
    assert_close(ours.head.regression_head.state_dict(), theirs.head.regression_head.state_dict())
    learn.model.train()
    assert [m.training for m in ours.backbone] == [True, False, True, True, False, True]  # the statistics of norms stay
    assert_close(ours.backbone[0].weight, theirs.backbone[0].weight)
    body, rest = learn.splitter(learn.model)
    assert not any(p.requires_grad for p in body if p.ndim > 1)  # norms learn
    assert all(p.requires_grad for p in rest)
    with pytest.warns(UserWarning, match="left out"):
        of_body = detection_learner(
            loaders(), tiny_fcos, weights={**theirs.backbone.state_dict(), "fc.weight": torch.ones(2)}
        )
    assert_close(of_body.model.detector.backbone[0].weight, theirs.backbone[0].weight)
    with pytest.raises(CannotRestore, match="do not fit"):
        detection_learner(loaders(), tiny_fcos, weights={"fc.weight": torch.ones(2)})


def test_a_model_of_ones_own_is_trained_as_a_whole():
    model = detection_learner(loaders(), tiny_fcos).model
    assert all(p.requires_grad for p in model.parameters())
    assert not model.fixed_norms


def test_any_body_becomes_a_detector(tmp_path):
    learn = make(loaders(item_tfms=Resize(96)), resnet18, path=tmp_path)
    assert [level[2] for level in learn.model.detector.backbone.levels] == [8, 16, 32]
    groups = detector_split(learn.model)
    assert sum(map(len, groups)) == len(list(learn.model.parameters()))
    xb = learn.dls.one_batch()
    loaded = load_learner(learn.export())
    with torch.no_grad():
        assert_close(loaded.model.eval()(xb[0]), learn.model.eval()(xb[0]))


def test_detectors_of_torchvision_are_known_by_name():
    names = detector_names()
    assert {"fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"} <= set(
        names
    )
    model = create_detector("ssdlite320_mobilenet_v3_large", 3, pretrained=False)
    assert isinstance(model, Detector)
    out = model.train()(
        torch.rand(2, 3, 96, 64), torch.tensor([[[-0.5, -0.5, 0.5, 0.5]], [[0.0] * 4]]), torch.tensor([[1], [0]])
    )
    assert out["loss"].isfinite()
    assert (
        create_detector("ssdlite320_mobilenet_v3_large", 3, pretrained=False, score_thresh=0.2).detector.score_thresh
        == 0.2
    )


def test_decisions_leave_out_low_scores():
    pred = {"boxes": torch.ones(1, 2, 4), "labels": torch.tensor([[3, 4]]), "scores": torch.tensor([[0.7, 0.3]])}
    boxes, labels = DetectionLoss(0.5).decodes(pred)
    assert labels.tolist() == [[3, 0]]
    assert not boxes[0, 1].any()
    with pytest.raises(BadValue, match="min_score"):
        DetectionLoss(50)
