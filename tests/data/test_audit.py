"""`dls.check()`: every fault that is put in is found, healthy data are left in peace, and nothing is disturbed."""

from __future__ import annotations

import os
import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_wine
from torch.utils.data import DataLoader as TorchDataLoader, IterableDataset, TensorDataset, random_split

from layered.catalog import URLs, untar_data
from layered.data import (
    CategoryBlock,
    ColReader,
    DataBlock,
    DataLoader,
    DataLoaders,
    FuncSplitter,
    GrandparentSplitter,
    IndexSplitter,
    MultiCategoryBlock,
    RegressionBlock,
    TransformBlock,
    get_image_files,
    parent_label,
)
from layered.foundation import BadArgument, BadValue, UnknownName


def never(*args):
    raise AssertionError("an item was made")


def of_files(folder):
    """Loaders over files in train/<label> and valid/<label>, whose items cannot be made."""
    block = DataBlock(
        blocks=(TransformBlock(type_tfms=never), CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=GrandparentSplitter(),
    )
    dsets = block.datasets(folder)
    return dsets.dataloaders(bs=2, num_workers=0, drop_last=False)


@pytest.fixture
def folder(tmp_path):
    """Six training and four validation images, all different, of two classes."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 3), ("valid", 2)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.bmp")
    return tmp_path


def of_frame(frame, n_train, y="y", block=CategoryBlock, **kwargs):
    """Loaders over rows: column `x` to learn from, column `y` to learn."""
    valid = range(n_train, len(frame))
    block = DataBlock(
        blocks=(TransformBlock, block),
        get_x=ColReader("x"),
        get_y=ColReader(y),
        splitter=IndexSplitter(valid),
        **kwargs,
    )
    return block.dataloaders(frame, bs=2, num_workers=0)


def of_tensors(x, y, n_train):
    sets = [TensorDataset(x[part], y[part]) for part in (slice(0, n_train), slice(n_train, None))]
    return DataLoaders.from_dsets(*sets, bs=2, device="cpu")


def found(dls, **kwargs):
    """The findings as (level, split), with what they say joined."""
    check = dls.check(show=False, **kwargs)
    return [(f.level, f.split) for f in check.findings], " ".join(f.what for f in check.findings)


# healthy data


def test_the_bundled_images_are_found_healthy(tmp_path):
    dls = of_files(untar_data(URLs.FASHION_TINY, base=tmp_path))
    check = dls.check(show=False)
    assert [f for f in check.findings if f.level != "info"] == []
    assert check.ok
    assert [(row["split"], row["items"], row["classes"], row["smallest"], row["largest"]) for row in check.rows] == [
        ("train", 1500, 10, 150, 150),
        ("valid", 500, 10, 50, 50),
    ]


def test_a_table_of_scikit_learn_is_found_healthy():
    frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=0, ignore_index=True)
    block = DataBlock(
        blocks=(TransformBlock, CategoryBlock), get_y=ColReader("target"), splitter=IndexSplitter(range(140, 178))
    )
    dls = block.dataloaders(frame, bs=16, num_workers=0)
    check = dls.check(show=False)
    assert check.findings == []
    wanted = frame.target[:140].value_counts()
    assert (check.rows[0]["smallest"], check.rows[0]["largest"]) == (wanted.min(), wanted.max())


def test_plain_tensors_are_found_healthy():
    numbers = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 3, generator=numbers), torch.randn(100, 1, generator=numbers)
    check = of_tensors(x, y, 80).check(show=False)
    assert check.findings == []
    assert (check.rows[0]["low"], check.rows[1]["high"]) == (y[:80].min().item(), y[80:].max().item())


# leaks


def test_the_same_file_under_another_name_in_both_splits_is_an_error(folder):
    shutil.copy(folder / "train/cat/0.bmp", folder / "valid/dog/copy.bmp")
    check = of_files(folder).check(show=False)
    (finding,) = check.findings
    assert (finding.level, finding.split) == ("error", "train, valid")
    assert "1 of 5 items of valid" in finding.what
    assert finding.examples == (f"{folder / 'valid/dog/copy.bmp'} = {folder / 'train/cat/0.bmp'}",)
    assert not check.ok


@pytest.mark.parametrize("sample", [None, 10])
def test_a_file_is_compared_though_no_other_of_its_split_has_its_size(folder, sample):
    for i, file in enumerate(sorted(folder.rglob("*.bmp"))):
        file.write_bytes(file.read_bytes() + bytes(i))
    shutil.copy(folder / "train/dog/1.bmp", folder / "valid/cat/copy.bmp")
    assert found(of_files(folder), sample=sample)[0] == [("error", "train, valid")]


def test_files_of_one_size_that_differ_in_a_byte_are_different(folder):
    sizes = {os.path.getsize(file) for file in folder.rglob("*.bmp")}
    assert len(sizes) == 1
    assert found(of_files(folder))[0] == []


def test_repeats_inside_a_split_are_information(folder):
    shutil.copy(folder / "train/cat/0.bmp", folder / "train/cat/again.bmp")
    check = of_files(folder).check(show=False)
    assert [(f.level, f.split) for f in check.findings] == [("info", "train")]
    assert [row["repeats"] for row in check.rows] == [1, 0]
    assert check.ok


def test_equal_rows_in_both_splits_are_an_error_whatever_their_other_columns():
    frame = pd.DataFrame({"x": [1.5, 2.5, 3.5, 4.5, 2.5, 6.5], "y": list("ababba"), "id": range(6)})
    assert found(of_frame(frame, 4))[0] == [("error", "train, valid")]
    whole = DataBlock(splitter=IndexSplitter([4, 5])).dataloaders(frame, bs=2, num_workers=0)
    assert "train, valid" not in found(whole)[1]
    again = pd.concat([frame[:4], frame[2:4]])
    whole = DataBlock(splitter=IndexSplitter([4, 5])).dataloaders(again, bs=2, num_workers=0)
    assert ("error", "train, valid") in found(whole)[0]


def test_equal_tensors_in_both_splits_are_an_error_and_named():
    x = torch.arange(20.0).reshape(10, 2)
    x[9] = x[3]
    dls = of_tensors(x, torch.tensor([0, 1] * 5), 6)
    (finding,) = dls.check(show=False).findings
    assert finding.examples == ("item 3 = item 3",)


@pytest.mark.parametrize("kind", [list, str, bytes, np.array, torch.tensor, tuple])
def test_items_of_any_plain_kind_are_compared(kind):
    values = [[1, 2], [3, 4], [5, 6], [7, 8], [3, 4], [9, 0]]
    items = [repr(v) if kind is str else kind(v) for v in values]
    dls = DataBlock(blocks=(TransformBlock,), splitter=IndexSplitter([4, 5])).dataloaders(items, bs=2, num_workers=0)
    assert found(dls)[0] == [("error", "train, valid")]


def test_a_number_is_not_the_text_of_it():
    items = [1, 2, 3, 4, "1", 1.0]
    dls = DataBlock(blocks=(TransformBlock,), splitter=IndexSplitter([4, 5])).dataloaders(items, bs=2, num_workers=0)
    assert found(dls)[0] == []


def test_tensors_that_know_their_number_of_inputs_are_compared_by_all_of_them():
    class Kept(TensorDataset):
        n_inp = 2

    x, y = torch.arange(6.0)[:, None], torch.tensor([0, 1, 0])
    train, valid = Kept(x[:3], x[:3], y), Kept(x[:3], x[3:], y)
    assert found(DataLoaders.from_dsets(train, valid, bs=1, device="cpu"))[0] == []
    assert found(DataLoaders.from_dsets(train, train, bs=1, device="cpu"))[0] == [("error", "train, valid")]


def test_a_sample_finds_a_share_of_what_leaks():
    x = torch.arange(1000.0)[:, None]
    dls = of_tensors(torch.cat([x, x]), torch.tensor([0.0, 1.0] * 1000), 1000)
    check = dls.check(sample=100, show=False)
    (finding,) = check.findings
    assert "100 of 100" in finding.what
    assert [row["repeats"] for row in check.rows] == [None, None]
    assert "repeats" not in str(check)


def test_the_same_rows_of_one_torch_set_are_seen_through_its_subsets():
    base = TensorDataset(torch.arange(10.0)[:, None], torch.tensor([0, 1] * 5))
    train, valid = random_split(base, [6, 4], generator=torch.Generator().manual_seed(0))
    dls = DataLoaders(TorchDataLoader(train), TorchDataLoader(valid))
    assert "error" not in dict(found(dls)[0])
    valid.indices[0] = train.indices[0]
    (finding,) = [f for f in dls.check(show=False).findings if f.level == "error"]
    assert finding.examples == (f"item {train.indices[0]} = item {train.indices[0]}",)


def test_a_group_in_both_splits_is_an_error():
    frame = pd.DataFrame({"x": range(6), "y": list("ababab"), "who": list("ppqqqr")})
    (finding,) = of_frame(frame, 4).check(groups="who", show=False).findings
    assert (finding.level, finding.examples) == ("error", ("q",))
    assert of_frame(frame, 4).check(groups=lambda row: row["x"], show=False).findings == []
    with pytest.raises(UnknownName, match="who"):
        of_frame(frame, 4).check(groups="whom", show=False)
    with pytest.raises(BadArgument, match="have none"):
        of_tensors(torch.zeros(4, 1), torch.zeros(4), 2).check(groups=len, show=False)


# targets


def test_a_class_that_only_validation_has_is_an_error():
    frame = pd.DataFrame({"x": range(8), "y": list("ababab") + list("ac")})
    levels, what = found(of_frame(frame, 6, block=CategoryBlock(vocab=["a", "b", "c"])))
    assert ("error", "valid") in levels
    assert ("warning", "train") in levels
    assert "a model cannot learn it" in what
    y = torch.tensor([0, 1, 0, 1, 0, 1, 0, 2])
    assert ("error", "valid") in found(of_tensors(torch.arange(8.0)[:, None], y, 6))[0]


def test_a_class_of_the_vocabulary_that_nobody_has_is_a_warning():
    frame = pd.DataFrame({"x": range(8), "y": list("abababab")})
    dls = of_frame(frame, 6, block=CategoryBlock(vocab=["a", "b", "c"]))
    (finding,) = dls.check(show=False).findings
    assert (finding.level, finding.split, finding.examples) == ("warning", "train", ("'c'",))


def test_a_class_without_validation_items_is_information():
    frame = pd.DataFrame({"x": range(8), "y": list("ababcbab")})
    (finding,) = of_frame(frame, 6).check(show=False).findings
    assert (finding.level, finding.split, finding.examples) == ("info", "valid", ("'c'",))


def test_strong_imbalance_is_a_warning_and_weak_is_not():
    for rare, expected in ((2, [("warning", "train")]), (6, [])):
        y = torch.tensor([0] * 50 + [1] * rare + [0, 1])
        assert found(of_tensors(torch.arange(float(len(y)))[:, None], y, len(y) - 2))[0] == expected


def test_one_class_or_one_number_alone_is_an_error():
    x = torch.arange(10.0)[:, None]
    for y in (torch.ones(10, dtype=torch.int64), torch.full((10, 1), 0.5)):
        levels, what = found(of_tensors(x, y, 6))
        assert levels == [("error", "train"), ("warning", "valid")]
        assert "every target is" in what


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_numbers_that_are_missing_are_an_error(bad):
    frame = pd.DataFrame({"x": range(6), "y": pd.Series([0.5, bad, 1.5, 2.5, 3.5, 4.5], dtype=object)})
    check = of_frame(frame, 4, block=RegressionBlock(1)).check(show=False)
    assert [(f.level, f.split) for f in check.findings] == [("error", "train")]
    assert [row["missing"] for row in check.rows] == [1, 0]
    y = torch.tensor([0.5, float("nan") if bad is None else bad, 1.5, 2.5, 3.5, 4.5])
    assert found(of_tensors(torch.arange(6.0)[:, None], y, 4))[0] == [("error", "train")]


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_labels_that_are_missing_are_an_error_unless_they_are_a_class(bad):
    frame = pd.DataFrame({"x": range(6), "y": pd.Series(["a", bad, "b", "a", "b", "a"], dtype=object)})
    assert found(of_frame(frame, 4, block=CategoryBlock(vocab=["a", "b"])))[0] == [("error", "train")]
    assert found(of_frame(frame, 4, block=CategoryBlock(add_na=True)))[0] == []


def test_several_labels_an_item_are_counted_one_by_one():
    frame = pd.DataFrame({"x": range(4), "y": ["a b", "b", "a", "c b"]})
    block = DataBlock(
        blocks=(TransformBlock, MultiCategoryBlock(vocab=["a", "b", "c"])),
        get_x=ColReader("x"),
        get_y=ColReader("y", label_delim=" "),
        splitter=IndexSplitter([3]),
    )
    check = block.dataloaders(frame, bs=2, num_workers=0).check(show=False)
    assert (check.rows[0]["classes"], check.rows[0]["smallest"], check.rows[0]["largest"]) == (2, 2, 2)
    assert ("error", "valid") in [(f.level, f.split) for f in check.findings]


def test_zeros_and_ones_for_each_label_are_counted_too():
    frame = pd.DataFrame({"x": range(4), "a": [1, 0, 1, 1], "b": [1, 1, 0, 1]})
    block = DataBlock(
        blocks=(TransformBlock, MultiCategoryBlock(encoded=True, vocab=["a", "b"])),
        get_x=ColReader("x"),
        get_y=ColReader(["a", "b"]),
        splitter=IndexSplitter([3]),
    )
    check = block.dataloaders(frame, bs=2, num_workers=0).check(show=False)
    assert check.findings == []
    assert (check.rows[0]["classes"], check.rows[0]["smallest"], check.rows[0]["largest"]) == (2, 2, 2)


def test_a_label_that_cannot_be_read_is_an_error_that_names_the_item(folder):
    def grumpy(file):
        return float("bad" if file.name == "1.bmp" and file.parent.parent.name == "valid" else 1)

    block = DataBlock(
        blocks=(TransformBlock, RegressionBlock(1)),
        get_items=get_image_files,
        get_y=grumpy,
        splitter=GrandparentSplitter(),
    )
    levels, what = found(block.dataloaders(folder, bs=2, num_workers=0))
    assert ("error", "valid") in levels
    assert "item" in what
    assert "validation items" in what


# what cannot be checked


class Drawing(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return never()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([1, 2])


@pytest.mark.parametrize("dataset", [Drawing(), Stream()])
def test_of_a_set_with_code_of_its_own_it_is_said_that_it_cannot_be_checked(dataset):
    check = DataLoaders(TorchDataLoader(dataset), DataLoader([1, 2], bs=1)).check(show=False)
    (finding,) = check.findings
    assert (finding.level, finding.split) == ("info", "train")
    assert type(dataset).__name__ in finding.what
    assert check.ok


def test_loaders_that_are_lists_of_batches_are_left_in_peace():
    check = DataLoaders([(torch.zeros(2), torch.zeros(2))]).check(show=False)
    assert [(f.level, f.split) for f in check.findings] == [("info", "train")]


def test_items_that_nothing_can_tell_apart_are_said_to_be_so():
    dls = DataBlock(blocks=(TransformBlock,), splitter=IndexSplitter([1])).dataloaders(
        [object(), object()], bs=1, num_workers=0
    )
    levels, what = found(dls)
    assert levels == [("info", "train"), ("info", "valid")]
    assert "object cannot be compared" in what


def test_pairs_in_a_list_are_inputs_and_targets():
    pairs = [(float(i), i % 2) for i in range(6)]
    check = DataLoaders(DataLoader(pairs[:4], bs=2), DataLoader(pairs[2:], bs=2)).check(show=False)
    assert [(f.level, f.split) for f in check.findings] == [("error", "train, valid")]
    assert check.rows[0]["classes"] == 2


# manners


def test_nothing_moves_on_and_no_generator_is_touched(folder):
    def lazy_label(file):
        random.random(), np.random.rand(), torch.rand(1)
        return file.parent.name

    block = DataBlock(
        blocks=(TransformBlock, CategoryBlock),
        get_items=get_image_files,
        get_y=lazy_label,
        splitter=FuncSplitter(lambda file: file.parent.parent.name == "valid"),
    )
    dls = block.dataloaders(folder, bs=2, num_workers=0)
    before = dict(vars(dls.train)), random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    dls.check(show=False)
    after = dict(vars(dls.train)), random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after


def test_only_files_of_equal_size_are_read(folder, monkeypatch):
    for i, file in enumerate(sorted(folder.rglob("*.bmp"))):
        file.write_bytes(file.read_bytes() + bytes(i))
    opened = []
    real = open
    dls = of_files(folder)
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: opened.append(args[0]) or real(*args, **kwargs))
    assert dls.check(show=False).findings == []
    assert opened == []


def test_it_prints_once_or_not_at_all(folder, capsys):
    dls = of_files(folder)
    check = dls.check()
    assert capsys.readouterr().out == f"{check}\n"
    dls.check(show=False)
    assert capsys.readouterr().out == ""
    assert "nothing found" in str(check)
    assert repr(check) == str(check)


def test_rows_are_plain_and_a_frame_and_html_is_safe(folder):
    shutil.copy(folder / "train/cat/0.bmp", folder / "valid/dog/<b>.bmp")
    check = of_files(folder).check(show=False)
    assert check.to_frame().to_dict("records") == pd.DataFrame(check.rows).to_dict("records")
    assert "&lt;b&gt;" in check._repr_html_()
    assert "<b>" not in check._repr_html_()


@pytest.mark.parametrize("sample", [0, -1, 1.5, True])
def test_a_sample_is_a_count(folder, sample):
    with pytest.raises(BadValue, match="number of items"):
        of_files(folder).check(sample=sample)


def test_a_misspelt_argument_is_refused_with_the_name_that_was_meant(folder):
    with pytest.raises(BadArgument, match="did you mean 'sample'"):
        of_files(folder).check(sampel=3)
