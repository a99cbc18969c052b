"""Exports: one file that any process can load without the script behind it, and that can do no harm there."""

import copy
import json
import os
import random
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.testing import assert_close

from layered.collab.all import CollabDataLoaders, collab_learner
from layered.data import AttrGetter, ColReader, IndexSplitter, ItemGetter, MultiCategoryBlock, TransformBlock
from layered.files import read_archive, write_archive
from layered.foundation import (
    BadFile,
    BadItem,
    BadValue,
    CannotRestore,
    CannotSave,
    CannotTrain,
    EmptySource,
    LayeredError,
    NewerFormat,
    NotExportable,
    NotFoundPath,
    Pipeline,
    UnknownName,
    builders,
    functions,
    noop,
    tensor,
    transforms,
)
from layered.metrics import F1ScoreMulti, RocAucMulti, accuracy_multi
from layered.tabular.all import TabularDataLoaders, tabular_learner
from layered.vision.all import (
    CategoryBlock,
    DataBlock,
    DataLoaders,
    ImageBlock,
    ImageDataLoaders,
    Learner,
    MaskBlock,
    Normalize,
    Resize,
    Transform,
    exportable,
    get_image_files,
    load_learner,
    squeezenet1_1,
    vision_learner,
)


@exportable("tests.brighten")
def brighten(image):
    return image.point(lambda value: min(255, value + 20))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, pictures):
    """A learner with a recipe, its file, and what it predicts."""
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(
        pictures,
        valid_pct=0.25,
        seed=0,
        bs=4,
        num_workers=0,
        device="cpu",
        item_tfms=Resize(32),
        batch_tfms=Normalize(),
    )
    folder = tmp_path_factory.mktemp("exported")
    learn = vision_learner(dls, squeezenet1_1, pretrained=False, lin_ftrs=[16], path=folder)
    file = learn.export("colours.layered")
    return learn, file, learn.dls.valid_ds.items[0]


def edited(exported, tmp_path, change):
    """The exported file with its manifest changed and everything signed again, as somebody who means harm would."""
    archive = read_archive(exported[1])
    manifest, tensors = copy.deepcopy(archive.manifest), dict(archive.tensors)
    change(manifest, tensors)
    return write_archive(tmp_path / "edited.layered", manifest, tensors, kind="export")


def test_a_new_process_elsewhere_predicts_the_same_without_the_script(exported, tmp_path):
    learn, file, image = exported
    code = (
        "import sys, json, layered.vision.all\n"
        "from layered.training.loading import load_learner\n"
        "label, _, p = load_learner(sys.argv[1]).predict(sys.argv[2])\n"
        "print(json.dumps([label, p.tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(image)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    label, _, probabilities = learn.predict(image)
    assert json.loads(done.stdout) == [str(label), probabilities.tolist()]


def test_a_loaded_learner_has_the_vocabulary_and_predicts_whole_lists(exported):
    learn, file, _ = exported
    again = load_learner(file)
    assert list(again.dls.vocab) == list(learn.dls.vocab)
    files = list(learn.dls.valid_ds.items)
    assert_close(again.get_preds(dl=again.dls.test_dl(files))[0], learn.get_preds()[0])
    assert not again.model.training


def test_a_loaded_learner_exports_and_loads_again(exported, tmp_path):
    _, file, image = exported
    again = load_learner(load_learner(file).export(tmp_path / "again"))
    assert_close(again.predict(image)[2], exported[0].predict(image)[2])


def test_a_module_tree_takes_the_place_of_a_recipe(learn, tmp_path):
    file = learn.export(tmp_path / "tree.layered")
    assert next(iter(read_archive(file).manifest["model"])) == "$module"
    image = learn.dls.valid_ds.items[0]
    assert_close(load_learner(file).predict(image)[2], learn.predict(image)[2])


def test_a_model_of_unknown_classes_is_exported_as_weights_alone(learn, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))

        def forward(self, x):
            return self.layers(x)

    own = Learner(learn.dls, Own(), path=tmp_path)
    with pytest.warns(UserWarning, match="model=build"):
        file = own.export()
    image = learn.dls.valid_ds.items[0]
    with pytest.raises(CannotRestore, match="model=build"):
        load_learner(file)
    assert_close(load_learner(file, model=Own()).predict(image)[2], own.predict(image)[2])
    with pytest.raises(CannotRestore, match="do not fit"):
        load_learner(file, model=nn.Linear(2, 2))


def test_a_model_that_was_changed_is_not_exported_by_its_recipe(exported, tmp_path):
    learn = load_learner(exported[1])
    learn.model[1][5] = nn.GELU()  # no weight tells the difference
    with pytest.warns(UserWarning, match="model=build"):
        file = learn.export(tmp_path / "changed.layered")
    with pytest.raises(CannotRestore, match="how to build it"):
        load_learner(file)


def test_an_export_does_not_say_where_the_pictures_were(pictures, tmp_path):
    files = get_image_files(pictures)
    rows = pd.DataFrame({"file": [f.relative_to(pictures) for f in files], "label": [f.parent.name for f in files]})
    dls = ImageDataLoaders.from_df(rows, pictures, bs=4, item_tfms=Resize(32))
    file = vision_learner(dls, squeezenet1_1, pretrained=False, path=tmp_path).export()
    assert str(Path(pictures).parent).encode() not in file.read_bytes()
    assert len(read_archive(file).manifest["data"]["left_out"]) == 2


def test_functions_that_find_labels_are_left_out_and_listed(pictures, tmp_path):
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=lambda f: f.parent.name, item_tfms=Resize(32)
    )
    learn = vision_learner(block.dataloaders(pictures, bs=4), squeezenet1_1, pretrained=False, path=tmp_path)
    file = learn.export()
    assert ["lambda" in name for name in read_archive(file).manifest["data"]["left_out"]] == [True]
    image = get_image_files(pictures)[0]
    assert_close(load_learner(file).predict(image)[2], learn.predict(image)[2])


def test_a_function_that_predicting_needs_must_have_a_name(pictures, tmp_path, learn):
    def with_function(function):
        dls = ImageDataLoaders.from_folder(
            pictures, valid_pct=0.25, bs=4, item_tfms=[function, Resize(32)], num_workers=0
        )
        return Learner(dls, learn.model, path=tmp_path)

    with pytest.raises(NotExportable, match=r"lambda a def, with @exportable"):
        with_function(lambda image: image).export()
    assert not list(tmp_path.glob("*export*"))
    named = with_function(brighten)
    image = get_image_files(pictures)[0]
    assert_close(load_learner(named.export()).predict(image)[2], named.predict(image)[2])
    functions._items.pop("tests.brighten")
    try:
        with pytest.raises(UnknownName, match="define or import it first, with @exportable"):
            load_learner(tmp_path / "export.layered")
    finally:
        functions.add("tests.brighten", brighten)


def test_a_transform_of_ones_own_must_be_registered(dls, learn, tmp_path):
    class Dim(Transform):
        def __init__(self, by):
            self.by = by

        def encodes(self, x: torch.Tensor):
            return x * self.by

    learn.dls.add_tfms([Dim(0.5)], "after_batch")
    with pytest.raises(NotExportable, match=r"move Dim out of the function.*@exportable"):
        learn.export()
    transforms.add("tests.Dim", Dim)
    try:
        image = dls.valid_ds.items[0]
        assert_close(load_learner(learn.export()).predict(image)[2], learn.predict(image)[2])
    finally:
        transforms._items.pop("tests.Dim")


@pytest.mark.parametrize("loss_func", [F.cross_entropy, nn.CrossEntropyLoss()], ids=["function", "module"])
def test_a_loss_without_activation_predicts_the_same_after_loading(learn, tmp_path, loss_func):
    learn.loss_func = loss_func
    image = learn.dls.valid_ds.items[0]
    again = load_learner(learn.export()).predict(image)
    assert again[0] == learn.predict(image)[0]
    assert_close(again[2], learn.predict(image)[2])


def test_labels_that_are_numbers_come_back_as_numbers(learn, pictures, tmp_path):
    files = get_image_files(pictures)
    labels = np.arange(len(files)) % 3 * 10
    dls = ImageDataLoaders.from_lists(pictures, files, labels, bs=4, item_tfms=Resize(32), num_workers=0)
    own = Learner(dls, learn.model, path=tmp_path)
    again = load_learner(own.export())
    assert list(again.dls.vocab) == [0, 10, 20]
    assert again.predict(files[0])[0] == own.predict(files[0])[0]


def test_loaders_without_pipelines_export_the_model_alone(tmp_path):
    x = torch.randn(8, 2)
    dls = DataLoaders.from_dsets(torch.utils.data.TensorDataset(x, x.sum(1)), bs=4)
    learn = Learner(dls, nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), loss_func=nn.MSELoss(), path=tmp_path)
    again = load_learner(learn.export())
    assert_close(again.get_preds(dl=[(x,)])[0], learn.get_preds(dl=[(x,)])[0])


def test_asked_for_a_pickle_it_opens_the_file_beside_it_and_says_so(exported):
    with pytest.warns(UserWarning, match=r"colours\.layered"):
        load_learner(exported[1].with_suffix(".pkl"))
    with pytest.raises(NotFoundPath, match="working directory"):
        load_learner("nowhere.pkl")
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(NotFoundPath, match="working directory"):
            load_learner(name)
    names = {"old_habit.pkl": "old_habit.layered", "acc_0.97": "acc_0.97.layered", "plain": "plain.layered"}
    for given, written in names.items():
        assert exported[0].export(given).name == written
        with pytest.warns(UserWarning, match=re.escape(written)):
            load_learner(exported[1].parent / given)


def test_a_folder_that_cannot_be_written_is_named_and_the_old_file_stands(exported, tmp_path, monkeypatch):
    file = exported[0].export(tmp_path / "kept.layered")
    before = file.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotSave, match="free some space"):
        exported[0].export(file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["kept.layered"]
    with pytest.raises(CannotSave, match="part of the path is a file"):
        exported[0].export(file / "below.layered")


# Files that were damaged, or made by somebody who means harm.


def test_damaged_files_are_refused(exported, tmp_path):
    raw = exported[1].read_bytes()
    draw = np.random.default_rng(1)
    cuts = [raw[:n] for n in (0, 1, 8, 100, len(raw) // 2, len(raw) - 1)]
    flips = []
    for at in draw.integers(0, len(raw), 12):
        flips.append(raw[:at] + bytes([raw[at] ^ (1 << int(draw.integers(8)))]) + raw[at + 1 :])
    file = tmp_path / "damaged.layered"
    for data in [*cuts, *flips, b"\x80\x04cposix\nsystem\n(S'touch gotcha'\ntR."]:
        file.write_bytes(data)
        with pytest.raises(BadFile):
            load_learner(file)


def test_a_newer_format_says_how_to_go_on(exported, tmp_path):
    file = tmp_path / "newer.layered"
    file.write_bytes(exported[1].read_bytes().replace(b'"format":"2"', b'"format":"9"'))
    with pytest.raises(NewerFormat, match="pip install -U"):
        load_learner(file)


TIMM = {"source": "timm", "n_out": 3}
LSTM = {"input_size": 1, "hidden_size": 1, "bias": True, "batch_first": True, "dropout": 0.0, "bidirectional": True}
HOSTILE = {
    "a command as a builder": ("model", "$builder", "os.system"),
    "a class as a builder": ("model", "$builder", "subprocess.Popen"),
    "a hub's name": ("model", "args", {**TIMM, "arch": "hf-hub:someone/something"}),
    "a folder's name": ("model", "args", {**TIMM, "arch": "local-dir:/etc"}),
    "another torchvision function": ("model", "args", "arch", "get_model_weights"),
    "a torchvision model of another task": ("model", "args", "arch", "lraspp_mobilenet_v3_large"),
    "a builder inside a builder": ("model", "args", {**TIMM, "source": "registered", "arch": "vision.model"}),
    "an unknown source": ("model", "args", "source", "hub"),
    "weights from the network": ("model", "args", "weights", "DEFAULT"),
    "weights from this disk": ("model", "args", "weights", "/etc/passwd"),
    "trained weights": ("model", "args", "pretrained", True),
    "a typo": ("model", "args", "n_outt", 3),
    "a billion outputs": ("model", "args", "n_out", 10**9),
    "a billion channels": ("model", "args", "n_in", 10**9),
    "a huge head": ("model", "args", "lin_ftrs", [10**9] * 20),
    "a million layers": ("model", "args", "lin_ftrs", [1] * 10**6),
    "layers without end": ("model", {"$module": "torch.LSTM", "args": {**LSTM, "num_layers": 10**12}}),
    "a number too large": ("model", "args", "n_out", 10**30),
    "negative outputs": ("model", "args", "n_out", -3),
    "half an output": ("model", "args", "n_out", 0.5),
    "a name for outputs": ("model", "args", "n_out", "os.system"),
    "a huge cut": ("model", "args", "cut", 10**9),
    "an unregistered function": ("data", "columns", 0, "pipeline", "$pipeline", 0, "$function_transform", "os.system"),
    "an unregistered transform": ("data", "after_item", "$pipeline", 0, "$transform", "Popen"),
    "a transform's typo": ("data", "after_item", "$pipeline", 0, "args", "sise", 3),
    "a labeller that is run": (
        "data",
        "columns",
        1,
        "getters",
        [{"$function": "parent_label", "args": []}, "os.system"],
    ),
    "a pattern without end": (
        "data",
        "columns",
        1,
        "getters",
        [{"$value": "RegexLabeller", "args": {"pat": "(" * 10**5}}],
    ),
    "fitting what is not fitted": ("data", "after_item", "$pipeline", 0, "fitted", {"__class__": 3}),
    "an unknown loss": ("loss", "$loss", "eval"),
    "a tensor that is not there": ("data", "after_batch", {"$tensor": "nothing"}),
    "an array of objects": ("data", "after_batch", {"$array": "model.0.0.0.weight", "dtype": "O", "shape": [3]}),
    "an unknown tag": ("data", "after_batch", {"$exec": "1"}),
    "thousands of columns": ("data", "columns", [{"name": "a", "pipeline": None}] * 2000),
    "no columns": ("data", "columns", None),
    "a text for the model": ("model", "torch.hub"),
    "a list for the data": ("data", []),
}


def put(tree, *path):
    """Put the last of `path` where the keys and positions before it lead."""
    *keys, last, value = path
    for key in keys:
        tree = tree[key]
    tree[last] = value


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
def test_what_a_file_asks_for_is_looked_up_never_done(exported, tmp_path, path):
    file = edited(exported, tmp_path, lambda manifest, _: put(manifest, *path))
    with pytest.raises(LayeredError):
        load_learner(file)


def no_labels(manifest, _):
    manifest["data"]["columns"][1]["pipeline"]["$pipeline"][0]["fitted"]["vocab"]["args"]["items"] = []


def other_target(manifest, _):
    manifest["data"]["columns"][1]["pipeline"]["$pipeline"][0].update({"$transform": "MultiCategorize", "args": {}})


def other_loss(manifest, _):
    manifest["loss"] = {"$loss": "BCEWithLogitsLossFlat", "args": {}}


@pytest.mark.parametrize("change", [no_labels, other_target, other_loss])
def test_a_prediction_that_the_file_cannot_decode_is_our_error(exported, tmp_path, change):
    again = load_learner(edited(exported, tmp_path, change))
    with pytest.raises((BadItem, BadValue), match="predicting one item"):
        again.predict(exported[2])


@pytest.mark.parametrize(
    "procs", [None, {"$pipeline": []}, {"$value": "vocab", "args": {"items": [], "add_na": False}}]
)
def test_a_table_without_its_procs_is_our_error(tmp_path, procs):
    ratings = pd.DataFrame({"user": [1, 2, 3, 1], "item": list("abca"), "rating": [1.0, 2.0, 3.0, 4.0]})
    dls = CollabDataLoaders.from_df(ratings, bs=2, device="cpu", seed=0)
    archive = read_archive(collab_learner(dls, 2, path=tmp_path).export("ratings"))
    archive.manifest["data"]["args"]["procs"] = procs
    with pytest.raises(LayeredError):
        load_learner(write_archive(tmp_path / "edited.layered", archive.manifest, archive.tensors, kind="export"))


def test_a_row_that_the_file_cannot_decode_is_our_error(tmp_path):
    people = pd.DataFrame({"job": list("abab") * 3, "paid": list("yn") * 6})
    dls = TabularDataLoaders.from_df(people, cat_names=["job"], y_names="paid", bs=4, device="cpu", seed=0)
    archive = read_archive(tabular_learner(dls, [4], path=tmp_path).export("people"))
    (target,) = archive.manifest["data"]["args"]["targets"]
    target["steps"]["$pipeline"][0]["fitted"]["vocab"]["args"]["items"] = []
    again = load_learner(write_archive(tmp_path / "edited.layered", archive.manifest, archive.tensors, kind="export"))
    with pytest.raises((BadItem, BadValue), match="predicting one row"):
        again.predict({"job": "a"})


SPITE = [
    None, True, -1, 0, 10**9, 10**30, 1e308, float("nan"), "", "os.system", "antigravity", "hf-hub:a/b", "/etc/passwd", [], {},
    [0] * 1000, ["antigravity"], {"$function": "os.system"}, {"$transform": "antigravity", "args": {}},
    {"$tensor": "model.0.0.0.weight"}, {"$tensor": "antigravity"}, {"$floats": "model.0.0.0.weight"}, {"$antigravity": 1},
    {"$dict": [[[], 1]]}, {"$module": "torch.Linear", "args": {"in_features": 10**6, "out_features": 10**6}},
]  # fmt: skip


def places(tree, path=()):
    """All places in nested dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_hundreds_of_edited_files_end_in_our_errors_and_touch_nothing(exported, learn, tmp_path):
    draw = random.Random(7)
    for number in range(200):
        source = exported[1] if number % 2 else learn.export(tmp_path / "tree.layered")
        archive = read_archive(source)
        manifest = copy.deepcopy(archive.manifest)
        for _ in range(draw.choice((1, 1, 2))):
            put(manifest, *draw.choice(list(places(manifest))), draw.choice(SPITE))
        write_archive(tmp_path / f"{number}.layered", manifest, archive.tensors, kind="export")
    command = [sys.executable, Path(__file__).with_name("load_watched.py"), exported[1], tmp_path]
    env = {k: v for k, v in os.environ.items() if k != "PYTORCH_NVML_BASED_CUDA_CHECK"}  # lightning sets it
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loaded"] + found["refused"] == 201
    assert found["foul"] == []


def test_another_librarys_learner_is_refused_with_the_lines_that_convert_it(tmp_path):
    (tmp_path / "export.pkl").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05other\x8c\x01L\x93.")
    torch.save({"model": {}, "opt": {}}, tmp_path / "weights.pth")
    for name in ("export.pkl", "weights.pth"):
        with pytest.raises(BadFile, match=r"torch\.save\(\{'model': learn\.model\.state_dict\(\)\}"):
            load_learner(tmp_path / name)


def test_an_export_says_that_it_holds_no_data(tmp_path, dls):
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    learn.export("x")
    again = load_learner(tmp_path / "x.layered")
    for use in (again.validate, again.get_preds, lambda: again.fit(1), lambda: again.fine_tune(1), again.show_results):
        with pytest.raises(EmptySource, match=r"(?s)an export holds no data.*'x.layered'.*test_dl\(items\)"):
            use()
    items = list(dls.valid_ds.items)[:4]
    preds, targets = again.get_preds(dl=again.dls.test_dl(items))
    assert (len(preds), targets) == (4, None)
    again.dls = dls
    assert again.validate() == pytest.approx(learn.validate())


@exportable("tests.folder_name")
def folder_name(file):
    return file.parent.name


def lists(pictures, files, **kwargs):
    return ImageDataLoaders.from_lists(pictures, files, [f.parent.name for f in files], **kwargs)


def by_attribute(pictures, files, item_tfms, **kwargs):
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, item_tfms=item_tfms,
                      get_y=[Pipeline([AttrGetter("parent"), AttrGetter("name")])])  # fmt: skip
    return block.dataloaders(pictures, **kwargs)


LABELLED = {  # what makes loaders, and whether their items are pairs
    "parent_label": (lambda path, files, **kw: ImageDataLoaders.from_folder(path, valid_pct=0.3, **kw), False),
    "a pattern": (
        lambda path, files, **kw: ImageDataLoaders.from_path_re(path, files, r"/([^/]+)/[^/]+$", **kw),
        False,
    ),
    "a pattern of the name": (
        lambda path, files, **kw: ImageDataLoaders.from_name_re(path, files, "^(.)", **kw),
        False,
    ),
    "a def": (lambda path, files, **kw: ImageDataLoaders.from_path_func(path, files, folder_name, **kw), False),
    "an attribute": (by_attribute, False),
    "lists": (lists, True),
}


@pytest.mark.parametrize("name", LABELLED)
def test_a_loaded_learner_labels_new_items_as_before(pictures, tmp_path, name):
    make, are_pairs = LABELLED[name]
    files = get_image_files(pictures)
    dls = make(pictures, files, bs=4, item_tfms=Resize(16), num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    items = [(f, f.parent.name) for f in files] if are_pairs else files
    expected = learn.validate(dl=dls.test_dl(items, with_labels=True))
    again = load_learner(learn.export("once"))
    for loaded in (again, load_learner(again.export("twice"))):
        assert loaded.validate(dl=loaded.dls.test_dl(items, with_labels=True)) == pytest.approx(expected)
        assert not loaded.dls.test_dl(files).one_batch()[1:]


def test_rows_are_labelled_by_their_columns_after_loading(tmp_path):
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.5] * 4, "labels": ["x", "x y", "", "y"]})
    block = DataBlock((TransformBlock(tensor), TransformBlock(tensor), MultiCategoryBlock), n_inp=2,
                      get_x=[ColReader("a"), ColReader("b")], get_y=ColReader("labels", label_delim=" "),
                      splitter=IndexSplitter([1]))  # fmt: skip
    dls = block.dataloaders(rows, bs=2, num_workers=0)

    class Sum(nn.Module):
        def forward(self, a, b):
            return torch.stack([a + b, a - b], 1)

    with pytest.warns(UserWarning, match="model=build"):
        file = Learner(dls, Sum(), path=tmp_path).export()
    again = load_learner(file, model=Sum())
    found, expected = (one.test_dl(rows, with_labels=True).one_batch() for one in (again.dls, dls))
    for column, wanted in zip(found, expected, strict=True):
        assert_close(column, wanted)


def test_a_labeller_without_a_name_is_named_with_the_line_that_gives_the_labels(pictures, tmp_path):
    files = get_image_files(pictures)
    dls = ImageDataLoaders.from_name_func(
        pictures, files, lambda name: name[:1], bs=4, item_tfms=Resize(16), num_workers=0
    )
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    again = load_learner(learn.export())
    for loaded in (again, load_learner(again.export("twice"))):
        with pytest.raises(CannotTrain, match=r"(?s)what finds the target.*lambda.*list\(zip\(files, labels\)\)"):
            loaded.dls.test_dl(files, with_labels=True)
        test = loaded.dls.test_dl(list(zip(files, [f.name[:1] for f in files], strict=True)), with_labels=True)
        assert loaded.validate(dl=test) == pytest.approx(learn.validate(dl=dls.test_dl(files, with_labels=True)))


def test_masks_are_given_as_files_beside_their_images(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(tmp_path / f"{i}_mask.png")
    block = DataBlock((ImageBlock, MaskBlock(["a", "b"])), get_y=lambda f: f.with_name(f"{f.stem}_mask.png"),
                      splitter=IndexSplitter([0, 1]))  # fmt: skip
    files = [tmp_path / f"{i}.png" for i in range(4)]
    dls = block.dataloaders(files, bs=2, num_workers=0)
    learn = Learner(dls, nn.Conv2d(3, 2, 1), path=tmp_path)
    again = load_learner(learn.export())
    pairs = [(f, f.with_name(f"{f.stem}_mask.png")) for f in files]
    expected = learn.validate(dl=dls.test_dl(files, with_labels=True))
    assert again.validate(dl=again.dls.test_dl(pairs, with_labels=True)) == pytest.approx(expected)
    assert again.predict(files[0])[0].shape == (8, 8)


def test_a_labeller_that_the_loading_process_lacks_does_not_keep_it_from_predicting(pictures, tmp_path):
    files = get_image_files(pictures)
    dls = ImageDataLoaders.from_path_func(pictures, files, folder_name, bs=4, item_tfms=Resize(16), num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    file = learn.export()
    functions._items.pop("tests.folder_name")
    try:
        again = load_learner(file)
        assert_close(again.predict(files[0])[2], learn.predict(files[0])[2])
        with pytest.raises(CannotTrain, match="folder_name"):
            again.dls.test_dl(files, with_labels=True)
    finally:
        functions.add("tests.folder_name", folder_name)


def test_rows_whose_files_are_below_a_folder_are_given_as_pairs(pictures, tmp_path):
    files = get_image_files(pictures)
    rows = pd.DataFrame({"file": [f.relative_to(pictures) for f in files], "label": [f.parent.name for f in files]})
    dls = ImageDataLoaders.from_df(rows, pictures, bs=4, item_tfms=Resize(16), num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    again = load_learner(learn.export())
    with pytest.raises(CannotTrain, match=r"what finds the input.*"):
        again.dls.test_dl(rows, with_labels=True)
    test = again.dls.test_dl(list(zip(files, rows.label, strict=True)), with_labels=True)
    assert again.validate(dl=test) == pytest.approx(learn.validate(dl=dls.test_dl(rows, with_labels=True)))


def test_an_exported_table_is_validated_on_new_rows(tmp_path):
    rows = pd.DataFrame({"x": [float(i % 7) for i in range(40)], "y": ["p", "q"] * 20})
    dls = TabularDataLoaders.from_df(rows, cont_names=["x"], y_names="y", bs=8)
    learn = tabular_learner(dls, metrics=["accuracy", "roc_auc"], path=tmp_path)
    learn.export("x")
    again = load_learner(tmp_path / "x.layered")
    with pytest.raises(EmptySource, match="an export holds no data"):
        again.validate()
    tests = [one.dls.test_dl(rows, with_labels=True) for one in (again, learn)]
    found = again.validate(dl=tests[0])
    assert found == pytest.approx(learn.validate(dl=tests[1]))
    assert len(found) == 3


READ_BY = {
    "probabilities": (nn.BCELoss(), nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())),
    "probabilities in a lambda": (
        lambda pred, target: F.binary_cross_entropy(pred, target),
        nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()),
    ),
    "logits of labels": (nn.MultiLabelSoftMarginLoss(), nn.Linear(4, 3)),
    "lambda": (lambda pred, target: F.binary_cross_entropy_with_logits(pred, target.float()), nn.Linear(4, 3)),
    "squares": (nn.MSELoss(), nn.Linear(4, 3)),
}


@pytest.mark.parametrize("name", READ_BY)
def test_outputs_are_read_the_same_after_loading_whatever_the_loss(tmp_path, name):
    loss_func, model = READ_BY[name]
    labels = [["x"], ["x", "y"], [], ["z", "y"]] * 2
    rows = [torch.tensor([float(i), 0.0, 1.0, -float(i)]) for i in range(8)]
    dblock = DataBlock((TransformBlock, MultiCategoryBlock), get_items=noop,
                       getters=[ItemGetter(0), ItemGetter(1)], splitter=IndexSplitter([0, 1]))  # fmt: skip
    dls = dblock.dataloaders(list(zip(rows, labels, strict=True)), bs=2, num_workers=0)
    metrics = [partial(accuracy_multi, thresh=0.6), F1ScoreMulti(), RocAucMulti()]
    learn = Learner(dls, model, loss_func=loss_func, metrics=metrics, path=tmp_path)
    again = load_learner(learn.export(), model=model)
    for theirs, ours in zip(again.predict(rows[3]), learn.predict(rows[3]), strict=True):
        assert list(theirs) == list(ours)
    assert again.metric_set.names == learn.metric_set.names
    with pytest.raises(CannotTrain, match=r"loss .* is not known"):
        again.validate(dl=learn.dls.valid)
    again.loss_func = loss_func
    assert again.validate(dl=learn.dls.valid) == pytest.approx(learn.validate(), nan_ok=True)


@pytest.mark.parametrize("builder", ["vision.model", "vision.unet", "vision.detector"])
@pytest.mark.parametrize("weights", ["DEFAULT", "/etc/passwd"])
def test_a_recipe_neither_reads_nor_downloads_weights(builder, weights, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    args = {"n_classes": 2} if builder == "vision.detector" else {"n_out": 2}
    more = {"act": "torch.ReLU"} if builder == "vision.unet" else {}
    for source, arch in (("torchvision", "resnet18"), ("timm", "resnet10t")):
        with pytest.raises(BadFile, match="gives 'weights' to its architecture"):
            builders.get(builder)(source=source, arch=arch, arch_args={"weights": weights}, **args, **more)
