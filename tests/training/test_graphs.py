"""Exported graphs predict what the learner does, where neither torch nor this library is, or there is no file."""

import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from layered.foundation import BadValue, NotExportable
from layered.nn import BCEWithLogitsLossFlat
from layered.training import Learner
from layered.vision.all import (
    CropPad,
    DataBlock,
    ImageBlock,
    ImageDataLoaders,
    MultiCategoryBlock,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    RandomSplitter,
    RatioResize,
    Resize,
    aug_transforms,
    get_image_files,
)
from layered.vision.graph_inputs import image_input

BLOCKED = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "layered", "torchvision", "pandas"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
found = list(__import__(sys.argv[2]).predict(json.load(sys.stdin)))
print(json.dumps([[decision, predictions.tolist()] for decision, predictions in found]))
"""

pytestmark = pytest.mark.usefixtures("known_operators")


def by_script(file, items):
    """What the script beside an ONNX file predicts in a process without torch and this library."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(file.parent), f"{file.stem}_predict"],
        input=json.dumps(items),
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def about(file):
    return json.loads(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["layered"])


def said_by(file):
    extra = {"layered.json": ""}
    torch.export.load(file, extra_files=extra)
    return json.loads(extra["layered.json"])


@pytest.fixture
def photos(tmp_path):
    """Cut-outs of different sizes of two photographs, as cameras and editors store them."""
    from sklearn.datasets import load_sample_images

    draw = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (tmp_path / name).mkdir()
        for i in range(12):
            w, h = draw.integers(60, 400, 2)
            part = Image.fromarray(pixels).crop((20 * i, 5 * i, 20 * i + w, 5 * i + h))
            exif = Image.Exif()
            exif[274] = (1, 3, 6, 8)[i % 4]
            if i % 3:
                part.save(tmp_path / name / f"{i}.jpg", exif=exif)
            else:
                part.convert("RGBA").save(tmp_path / name / f"{i}.png")
    return tmp_path


def loaders(folder, **tfms):
    return ImageDataLoaders.from_folder(folder, valid_pct=0.5, seed=0, bs=8, num_workers=0, device="cpu", **tfms)


def net(pretrained=False):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


@pytest.mark.parametrize(
    "item_tfms",
    [
        Resize(48),
        Resize((40, 56), method="pad", pad_mode="zeros"),
        Resize((32, 20), method="squish"),
        [RandomResizedCrop(64), CropPad(61)],
        RandomCrop(75),
        [RatioResize(50), CropPad(64, pad_mode="border")],
    ],
    ids=str,
)
def test_scripts_read_images_as_learners_do(photos, item_tfms):
    dls = loaders(photos, item_tfms=item_tfms)
    given = image_input(Learner(dls, net()), dls.valid)
    batch = given.loader.one_batch()[0].numpy()
    made = given.prepare([given.source(i) for i in range(len(batch))], given.settings)["image"]
    off = np.abs(made.astype(int) - batch)
    assert off.shape == batch.shape
    assert off.mean() < 0.2
    assert np.quantile(off, 0.99) <= 1


def test_images_are_predicted_without_torch(photos, capsys):
    torch.manual_seed(0)
    dls = loaders(
        photos, item_tfms=Resize(48), batch_tfms=[*aug_transforms(size=32), Normalize.from_stats([0.5], [0.3])]
    )
    learn = Learner(dls, net(), path=photos)
    file = learn.to_onnx("photos")
    assert "equal to the learner's predictions on 12 items in batches of 1, 4, 8" in capsys.readouterr().out
    items = [str(item) for item in dls.valid_ds.items]
    for item, (decision, predictions) in zip(items, by_script(file, items), strict=True):
        label, _, expected = learn.predict(item)
        assert decision == str(label)
        assert np.abs(np.array(predictions) - expected.numpy()).max() < 2e-3
    assert about(file)["classes"] == [["china", "flower"]]
    assert about(file)["inputs"][0] == {"name": "image", "shape": ["batch", 3, 48, 48], "dtype": "uint8"}
    assert str(photos) not in json.dumps(about(file))


def test_sizes_vary_where_the_model_allows_it(photos):
    dls = loaders(photos, item_tfms=Resize(32))
    fixed = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 2))
    shapes = [
        said_by(Learner(dls, model, path=photos).to_exported("m"))["inputs"][0]["shape"] for model in (net(), fixed)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 3, 32, 32]]


def test_labels_have_a_threshold(photos):
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock), get_items=get_image_files, get_y=lambda o: [o.parent.name, o.suffix[1:]],
        splitter=RandomSplitter(0.5, seed=0), item_tfms=Resize(32),
    )  # fmt: skip
    dls = block.dataloaders(photos, bs=8, num_workers=0, device="cpu")
    loss = BCEWithLogitsLossFlat(thresh=0.4)
    file = Learner(dls, nn.Sequential(net(), nn.Linear(2, 4)), loss, path=photos).to_exported("labels")
    said = said_by(file)
    assert said["threshold"] == 0.4
    assert said["outputs"] == [{"name": "predictions", "dtype": "float32"}, {"name": "decisions", "dtype": "bool"}]
    assert said["classes"] == [["china", "flower", "jpg", "png"]]


def test_steps_that_no_script_can_do_are_named(photos):
    dls = loaders(photos, item_tfms=[Resize(32), lambda o: o])
    with pytest.warns(UserWarning, match="takes arrays of images that are ready for it"):
        given = image_input(Learner(dls, net()), dls.valid)
    assert given.prepare is None


class Wrong(nn.Module):
    """Predicts something else where it is traced, as code that asks for values may."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def forward(self, x):
        return self.line(x) + (1.0 if torch.compiler.is_exporting() else 0.0)


def rows(model, path, loss=None):
    torch.manual_seed(0)
    x = torch.randn(24, 3)
    batches = [(x[i : i + 8], x[i : i + 8].sum(1, keepdim=True)) for i in range(0, 24, 8)]
    return Learner((batches, batches), model, nn.MSELoss() if loss is None else loss, path=path)


def test_a_graph_that_predicts_something_else_leaves_no_file(tmp_path):
    learn = rows(Wrong(), tmp_path)
    for verb in (learn.to_exported, learn.to_onnx):
        with pytest.raises(NotExportable, match="does not predict what the learner does") as found:
            verb("wrong")
        assert "'predictions' of item" in found.value.got
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_torch_needs_torch_alone(tmp_path):
    learn = rows(nn.Linear(3, 1), tmp_path)
    file = learn.to_exported("line")
    x = torch.randn(5, 3)
    torch.testing.assert_close(torch.export.load(file).module()(x)[0], learn.model(x))
    assert said_by(file)["checked"]["batches"] == [1, 8]


class Asks(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


@torch.library.custom_op("layered_tests::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@odd.register_fake
def _(x):
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x):
        return odd(x)


def test_what_has_no_graph_is_named_with_its_layer(tmp_path):
    with pytest.raises(NotExportable, match=r"torch.export cannot trace the layer '1', Asks"):
        rows(nn.Sequential(nn.Linear(3, 1), Asks()), tmp_path).to_exported("asks")
    with pytest.raises(NotExportable, match=r"the operator layered_tests.odd.default in the layer '1', Odd"):
        rows(nn.Sequential(nn.Linear(3, 1), Odd()), tmp_path).to_onnx("odd")
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_and_learners_stay_as_they_are(tmp_path):
    learn = rows(nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5)), tmp_path)
    (tmp_path / "line_predict.py").write_text("print('mine')")
    with pytest.raises(BadValue, match="would replace"):
        learn.to_onnx("line")
    assert (tmp_path / "line_predict.py").read_text() == "print('mine')"
    learn.to_exported("other")
    learn.to_exported("other")
    assert next(learn.model.parameters()).requires_grad
    with pytest.raises(TypeError, match="quantise"):
        learn.to_onnx("other", quantise="int8")


def test_an_interrupt_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    from layered.files import disk

    def interrupted(*args):
        raise KeyboardInterrupt

    learn = rows(nn.Linear(3, 1), tmp_path)
    monkeypatch.setattr(disk, "sync", interrupted)
    for verb in (learn.to_exported, learn.to_onnx):
        with pytest.raises(KeyboardInterrupt):
            verb("line")
    assert list(tmp_path.iterdir()) == []


def test_8_bits_say_what_they_cost(photos, capsys):
    dls = loaders(photos, item_tfms=Resize(32))
    torch.manual_seed(0)
    learn = Learner(dls, net(), metrics="accuracy", path=photos)
    loss, accuracy = learn.validate()
    said = about(learn.to_onnx("small", quantize="int8"))
    assert said["int8"]["float"] == pytest.approx({"valid_loss": loss, "accuracy": accuracy}, abs=1e-5)
    assert said["int8"]["int8"] == pytest.approx({"valid_loss": loss, "accuracy": accuracy}, abs=0.2)
    assert said["int8"]["int8"] != said["int8"]["float"]
    assert "accuracy" in capsys.readouterr().out.splitlines()[-1]
    assert [x.name for x in onnxruntime.InferenceSession(photos / "small.onnx").get_outputs()] == [
        "predictions",
        "decisions",
    ]
    with pytest.raises(BadValue, match="unknown quantization"):
        learn.to_onnx("small", quantize="int4")
