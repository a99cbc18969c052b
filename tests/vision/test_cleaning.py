"""Cleaning by top losses: the worst files of a label, and changes on the disk that lose nothing."""

import os
import sys

import pytest
import torch
from PIL import Image

from layered.foundation import BadValue, CannotTrain, MissingDependency, NotFoundPath, UnknownName
from layered.vision import widgets as module
from layered.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    ImageDataLoaders,
    MultiCategoryBlock,
    Path,
    Resize,
    pd,
    vision_learner,
)
from layered.vision.cleaning import FileChange, clean_files, worst_files


def small_net(pretrained=False):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1))


@pytest.fixture
def folder(tmp_path):
    """Red and blue pictures; `red/wrong.png` is blue."""
    for name, colour in {"red": (220, 40, 50), "blue": (40, 60, 220)}.items():
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.new("RGB", (32, 32), tuple(c + 2 * i for c in colour)).save(tmp_path / name / f"{i}.png")
    Image.new("RGB", (32, 32), (45, 62, 218)).save(tmp_path / "red" / "wrong.png")
    return Path(tmp_path)


@pytest.fixture
def learn(folder):
    dls = ImageDataLoaders.from_folder(
        folder, valid_pct=0.25, seed=4, item_tfms=Resize(32), bs=4, num_workers=0, device="cpu"
    )
    torch.manual_seed(0)
    learn = vision_learner(dls, small_net, pretrained=False)
    with learn.no_bar(), learn.no_logging():
        learn.fit(12, 1e-2)
    return learn


def split_of(learn, name):
    return 0 if any(file.name == name for file in learn.dls.train_ds.items) else 1


def test_the_wrong_label_is_the_first(learn, folder):
    ds_idx = split_of(learn, "wrong.png")
    worst = worst_files(learn, "red", ds_idx, max_n=3)
    assert list(worst.columns) == ["file", "label", "prediction", "probability", "loss"]
    assert (worst.file[0], worst.label[0], worst.prediction[0]) == (folder / "red" / "wrong.png", "red", "blue")
    assert (set(worst.label), len(worst), worst.loss.is_monotonic_decreasing) == ({"red"}, 3, True)
    both = worst_files(learn, ds_idx=ds_idx)
    preds, targs, losses = learn.get_preds(dl=learn.dls.test_dl(list(both.file), with_labels=True), with_loss=True)
    assert both.loss.tolist() == pytest.approx(losses.tolist(), abs=1e-5)
    assert both.probability.tolist() == pytest.approx(preds.amax(1).tolist(), abs=1e-5)
    assert [str(learn.dls.vocab[i]) for i in targs.flatten()] == both.label.tolist()


def test_files_come_through_the_getters_of_a_table(folder):
    names = [f"{label}/{i}.png" for i in range(8) for label in ("red", "blue")]
    table = pd.DataFrame({"name": names, "label": list("rb") * 8, "valid": [i > 9 for i in range(16)]})
    dls = ImageDataLoaders.from_df(
        table, folder, valid_col="valid", item_tfms=Resize(32), bs=2, num_workers=0, device="cpu"
    )
    worst = worst_files(vision_learner(dls, small_net, pretrained=False))
    assert {str(file.relative_to(folder)) for file in worst.file} == set(names[10:])


def test_what_is_not_a_file_with_a_label_is_refused(learn, folder):
    with pytest.raises(UnknownName, match="did you mean 'red'"):
        worst_files(learn, "rad")
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock),
        get_x=lambda i: Image.new("RGB", (32, 32)),
        get_y=lambda i: [["a"], ["b"], ["a", "b"]][i % 3],
    )
    several = block.dataloaders(range(12), bs=4, num_workers=0, device="cpu")
    with pytest.raises(BadValue, match="several labels"):
        worst_files(vision_learner(several, small_net, pretrained=False))
    from_numbers = DataBlock(
        (ImageBlock, CategoryBlock), get_x=lambda i: Image.new("RGB", (32, 32)), get_y=lambda i: "ab"[i % 2]
    ).dataloaders(range(12), bs=4, num_workers=0, device="cpu")
    with pytest.raises(BadValue, match="not read from files"):
        worst_files(vision_learner(from_numbers, small_net, pretrained=False))


def test_items_that_were_left_out_are_noticed(folder):
    (folder / "red" / "broken.png").write_bytes(b"nothing")
    dls = ImageDataLoaders.from_folder(
        folder, valid_pct=0.5, seed=1, item_tfms=Resize(32), bs=1, num_workers=0, on_bad="skip", device="cpu"
    )
    learn = vision_learner(dls, small_net, pretrained=False)
    ds_idx = split_of(learn, "broken.png")
    with pytest.raises(CannotTrain, match="left some out"), pytest.warns(UserWarning, match="broken"):
        worst_files(learn, ds_idx=ds_idx)


def all_bytes(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.png"))}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(folder):
    before = all_bytes(folder)
    changes = [
        [folder / "red/1.png"],
        {folder / "red/2.png": folder / "blue", str(folder / "red/3.png"): folder / "new/one"},
    ]
    planned = clean_files(*changes, dry_run=True)
    assert planned == [
        FileChange(folder / "red/1.png", None),
        FileChange(folder / "red/2.png", folder / "blue/2_1.png"),
        FileChange(folder / "red/3.png", folder / "new/one/3.png"),
    ]
    assert all_bytes(folder) == before
    assert not (folder / "new").exists()
    assert clean_files(*changes) == planned
    after = all_bytes(folder)
    gone, moved = before.pop("red/1.png"), {"red/2.png": "blue/2_1.png", "red/3.png": "new/one/3.png"}
    assert gone
    assert after == {moved.get(name, name): content for name, content in before.items()}


def test_namesakes_of_the_same_run_get_different_names(folder):
    before = all_bytes(folder)
    clean_files(
        move={
            folder / "red/1.png": folder / "all",
            folder / "blue/1.png": folder / "all",
            folder / "red/2.png": folder / "red",
        }
    )
    after = all_bytes(folder)
    assert (after["all/1.png"], after["all/1_1.png"]) == (before["red/1.png"], before["blue/1.png"])
    assert after["red/2.png"] == before["red/2.png"]
    assert len(after) == len(before)


def test_a_file_that_appears_meanwhile_is_not_overwritten(folder, monkeypatch):
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    before = all_bytes(folder)
    with pytest.raises(OSError, match="could not write"):
        clean_files(move={folder / "red/1.png": folder / "blue"})
    assert all_bytes(folder) == before


def test_nothing_changes_if_one_change_cannot_be_made(folder):
    before = all_bytes(folder)
    for wrong, match in [
        ((folder / "red/1.png", folder / "red/x.png"), "does not exist"),
        ((folder / "red",), "does not exist"),
    ]:
        with pytest.raises(NotFoundPath, match=match):
            clean_files(wrong)
    with pytest.raises(BadValue, match="two changes of one file"):
        clean_files([folder / "red/1.png"], {folder / "blue" / ".." / "red/1.png": folder / "blue"})
    assert all_bytes(folder) == before


def test_without_ipywidgets_the_extra_is_named(monkeypatch, learn):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for make in (
        lambda: module.ImageClassifierCleaner(learn),
        module.ImagesCleaner,
        module.carousel,
        lambda: module.VBox,
    ):
        with pytest.raises(MissingDependency, match=r"layered-learn\[widgets\]"):
            make()


def menu(cleaner, i):
    return cleaner.row.children[i].children[1]


def test_the_widget_offers_what_the_course_uses(learn, folder):
    pytest.importorskip("ipywidgets")
    namespace = {}
    exec("from layered.vision.widgets import *", namespace)
    cleaner = namespace["ImageClassifierCleaner"](learn)
    assert cleaner.label_menu.options == ("blue", "red")
    cleaner.split_menu.value = ("Train", "Valid")[split_of(learn, "wrong.png")]
    cleaner.label_menu.value = "red"
    assert cleaner.fns[0] == folder / "red/wrong.png"
    assert menu(cleaner, 0).options == ("<Keep>", "<Delete>", "blue", "red")
    menu(cleaner, 0).value = "blue"
    menu(cleaner, 1).value = menu(cleaner, 2).value = "<Delete>"
    menu(cleaner, 2).value = "<Keep>"
    second = cleaner.fns[1]
    assert (list(cleaner.delete()), list(cleaner.change())) == ([1], [(0, "blue")])

    cleaner.label_menu.value = "blue"  # what was chosen for red is not forgotten
    assert (list(cleaner.delete()), list(cleaner.change())) == ([], [])
    planned = cleaner.clean(dry_run=True)
    assert set(planned) == {FileChange(second, None), FileChange(folder / "red/wrong.png", folder / "blue/wrong.png")}
    assert cleaner.clean() == planned
    assert ((folder / "blue/wrong.png").exists(), second.exists()) == (True, False)
    cleaner.label_menu.value = "red"
    assert not {second, folder / "red/wrong.png"} & set(cleaner.fns)
    assert not cleaner.choices
    assert isinstance(cleaner.widget, namespace["VBox"])


def test_a_label_that_is_not_the_name_of_the_folder_is_not_changed_by_moving(learn, folder):
    pytest.importorskip("ipywidgets")
    table = pd.DataFrame({"name": [f"red/{i}.png" for i in range(8)], "label": list("rb") * 4})
    dls = ImageDataLoaders.from_df(
        table, folder, valid_pct=0.5, seed=1, item_tfms=Resize(32), bs=2, num_workers=0, device="cpu"
    )
    cleaner = module.ImageClassifierCleaner(vision_learner(dls, small_net, pretrained=False), max_n=2, opts=["later"])
    assert len(cleaner.fns) <= 2
    cleaner.choices = {folder / "red/7.png": "later"}
    assert cleaner.clean() == []
    assert len(cleaner.choices) == 1
    shown = menu(cleaner, 0)
    shown.value = "r" if cleaner.label_menu.value == "b" else "b"
    with pytest.raises(BadValue, match="not called after its label"):
        cleaner.clean()


def test_a_row_of_images_of_any_files(folder):
    widgets = pytest.importorskip("ipywidgets")
    cleaner = module.ImagesCleaner(height=16, max_n=3)
    cleaner.set_fns([folder / "red/gone.png", *(folder / "red").ls()])
    assert len(cleaner.fns) == 3
    thumb = cleaner.row.children[0].children[0]
    assert isinstance(thumb, widgets.Image)
    assert bytes(thumb.value[:4]) == b"\x89PNG"
    assert menu(cleaner, 0).options == ("<Keep>", "<Delete>")
    assert module.carousel([thumb], width="50%").layout.width == "50%"
    assert len(module.widget(Image.new("L", (2, 2)), "text").outputs) == 2
