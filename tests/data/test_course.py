"""Cells as courses write them: tokens to numbers, pairs of images, tables, all shown and undone."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch

from layered.data import (
    Categorize,
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    Datasets,
    GrandparentSplitter,
    ItemGetter,
    MultiCategoryBlock,
    RandomSplitter,
    RegexLabeller,
    RegressionBlock,
    TfmdLists,
    TransformBlock,
    decode_at,
    get_files,
    parent_label,
    show_at,
)
from layered.foundation import (
    InplaceTransform,
    ItemTransform,
    L,
    Path,
    Self,
    TensorImage,
    TitledStr,
    Transform,
    fastuple,
    noop,
    range_of,
    tensor,
    typedispatch,
    using_attr,
)

TEXTS = ["good film", "bad film", "good plot", "bad plot", "film film"]
HERE = {"num_workers": 0, "device": "cpu"}


class Words(Transform):
    def encodes(self, text: str):
        return L(text.split())

    def decodes(self, words):
        return TitledStr(" ".join(words))


class Numbers(Transform):
    def setups(self, texts):
        self.vocab = L(word for text in texts for word in text).unique(sort=True)
        self.o2i = self.vocab.val2idx()

    def encodes(self, words):
        return tensor([self.o2i.get(word, -1) for word in words])

    def decodes(self, numbers):
        return L(self.vocab[int(i)] for i in numbers)


def sentiment(text):
    return text.split()[0]


def test_a_decorated_function_leaves_other_types_alone():
    @Transform
    def f(x: int):
        return x + 1

    assert f((1, 2.5, "a")) == (2, 2.5, "a")


def test_a_transform_that_is_fitted_is_undone():
    class NormalizeMean(Transform):
        def setups(self, items):
            self.mean = sum(items) / len(items)

        def encodes(self, x):
            return x - self.mean

        def decodes(self, x):
            return x + self.mean

    tfm = NormalizeMean()
    tfm.setup([1, 2, 3, 4, 5])
    assert tfm.mean == 3
    assert tfm(2) == -1
    assert tfm.decode(tfm(2)) == 2


def test_one_inverse_for_all_overloads_is_written_once():
    class Flip(Transform):
        def encodes(self, x: int):
            return -x

        def encodes(self, x: float):  # noqa: F811
            return 1 - x

        decodes = encodes

    flip = Flip()
    for x in (3, 0.25):
        assert flip(x) != x
        assert flip.decode(flip(x)) == x

    class Half(Flip):
        def encodes(self, x: str):
            return x.upper()

    assert Half()("a") == "A"
    assert Half().decode(Half()(3)) == 3
    assert Half().decode("A") == "A"


def test_texts_become_numbers_and_are_shown_and_undone(capsys):
    tls = TfmdLists(TEXTS, [Words, Numbers], splits=[[0, 1, 2], [3, 4]])
    assert tls.vocab == ["bad", "film", "good", "plot"]
    t = tls[0]
    assert t.tolist() == [2, 1]
    assert tls.decode(t) == "good film"
    tls.show(t)
    assert capsys.readouterr().out == "good film\n"
    assert isinstance(tls.tfms.numbers, Numbers)
    assert tls.tfms.vocab is tls.tfms.numbers.vocab
    assert [t.tolist() for t in tls.valid] == [[0, 3], [1, 1]]


def test_the_vocabulary_comes_from_the_training_items_only():
    tls = TfmdLists([*TEXTS, "unseen word"], [Words, Numbers], splits=[range_of(4), [4, 5]])
    assert "unseen" not in tls.vocab
    assert tls.valid[1].tolist() == [-1, -1]


def test_texts_and_their_labels(capsys):
    x_tfms, y_tfms = [Words(), Numbers()], [sentiment, Categorize()]
    dsets = Datasets(TEXTS[:4], [x_tfms, y_tfms], splits=[[0, 1], [2, 3]])
    x, y = dsets.valid[0]
    assert (x.tolist(), int(y)) == ([2, -1], 1)
    t = dsets.train[0]
    assert dsets.decode(t) == ("good film", "good")
    dsets.show(t)
    show_at(dsets.train, 1)
    assert capsys.readouterr().out == "good film\ngood\nbad film\nbad\n"
    assert decode_at(dsets, 3)[1] == "bad"
    assert dsets.vocab == [["bad", "film", "good"], ["bad", "good"]]
    dls = dsets.dataloaders(bs=2, shuffle=False, **HERE)
    x, y = dls.one_batch()
    assert (x.shape, y.tolist()) == ((2, 2), [1, 0])


class Pair(fastuple):
    """Two images and whether they show the same."""

    def show(self, ctx=None, **kwargs):
        first, second, same = self
        return f"{tuple(first.shape)} {tuple(second.shape)} {bool(same)}"


class PairUp(Transform):
    def __init__(self, files, label_func, splits):
        self.labels = files.map(label_func).unique()
        self.by_label = {label: L(f for f in files if label_func(f) == label) for label in self.labels}
        self.label_func = label_func
        self.valid = {f: self._draw(f) for f in files[splits[1]]}

    def encodes(self, f):
        other, same = self.valid.get(f, self._draw(f))
        return Pair(self._open(f), self._open(other), same)

    def _open(self, f):
        return TensorImage(torch.full((3, 2, 2), float(f.stem)))

    def _draw(self, f):
        same = random.random() < 0.5
        label = self.label_func(f)
        if not same:
            label = random.choice(L(o for o in self.labels if o != label))
        return random.choice(self.by_label[label]), same


def pairs():
    files = L(Path(f"{label}/{i}.jpg") for label in ("cat", "dog") for i in range(6))
    splits = RandomSplitter(seed=42)(files)
    return TfmdLists(files, PairUp(files, parent_label, splits), splits=splits)


def test_pairs_of_images_stay_pairs_through_transforms_and_batches():
    class Brighter(Transform):
        def encodes(self, x: TensorImage):
            return x + 100

    tls = pairs()
    assert type(tls[0]) is Pair
    assert tls.show(tls.valid[0]).startswith("(3, 2, 2) (3, 2, 2)")
    valid = tls.valid[0]
    assert torch.equal(valid[1], tls.valid[0][1])
    dls = tls.dataloaders(bs=4, after_item=[Brighter()], **HERE)
    batch = dls.one_batch()
    assert type(batch) is Pair
    first, second, same = batch
    assert first.shape == second.shape == (4, 3, 2, 2)
    assert type(first) is TensorImage
    assert same.dtype is torch.bool
    assert first.min() >= 100
    assert second.min() >= 100


def test_a_type_of_ones_own_is_shown_by_a_function_of_ones_own():
    seen = []

    @typedispatch
    def show_batch(x: Pair, y, samples, ctxs=None, max_n=6, nrows=None, ncols=2, figsize=None, **kwargs):
        seen.append((len(x[0]), max_n, ncols))
        return ctxs

    dls = pairs().dataloaders(bs=4, **HERE)
    dls.show_batch(max_n=3, ncols=1)
    dls.valid.show_batch(dls.valid.one_batch())
    assert seen == [(4, 3, 1), (len(dls.valid.one_batch()[0]), 9, 2)]


def test_a_whole_tuple_is_given_to_an_item_transform_and_changed_in_place_by_another():
    class Same(ItemTransform):
        def encodes(self, xy):
            x, y = xy
            return x, y, x == y

    class Double(InplaceTransform):
        def encodes(self, x: torch.Tensor):
            x *= 2

    x = torch.ones(2)
    assert Double()(x) is x
    assert x.tolist() == [2, 2]
    assert Datasets([1], [[noop], [noop]]).dataloaders(bs=1, after_item=[Same], **HERE).one_batch()[2].tolist() == [
        True
    ]


def test_files_of_folders(tmp_path):
    for name in ("train/cat/1.txt", "train/dog/2.txt", "valid/cat/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = get_files(tmp_path)
    assert files.map(Self.parent.name()) == ["cat", "dog", "cat"]
    assert files.map(using_attr(RegexLabeller(r"(\d)\.txt$"), "name")) == ["1", "2", "3"]
    dsets = DataBlock(
        blocks=(TransformBlock, CategoryBlock),
        get_items=get_files,
        splitter=GrandparentSplitter(),
        get_x=Self.read_text(),
        get_y=parent_label,
    ).datasets(tmp_path)
    assert dsets.train[0] == ("train/cat/1.txt", 0)
    assert dsets.valid[0] == ("valid/cat/3.txt", 0)
    masked = files[files.map(parent_label).map(lambda label: label == "cat")]
    assert len(masked) == 2


FRAME = pd.DataFrame(
    {
        "fname": ["1.jpg", "2.jpg", "3.jpg"],
        "labels": ["chair cup", "cup", ""],
        "is_valid": [False, False, True],
        "y": [1, 0, 1],
    }
)


def test_a_table_of_files_and_labels():
    def get_x(row):
        return Path("train") / row["fname"]

    def get_y(row):
        return row["labels"].split(" ") if row["labels"] else []

    def splitter(frame):
        return frame.index[~frame["is_valid"]].tolist(), frame.index[frame["is_valid"]].tolist()

    x, y = DataBlock().datasets(pd.concat([FRAME, FRAME])).train[0]
    assert x.fname == y.fname
    assert x.fname in set(FRAME.fname)
    dblock = DataBlock(blocks=(TransformBlock, MultiCategoryBlock), splitter=splitter, get_x=get_x, get_y=get_y)
    dsets = dblock.datasets(FRAME)
    x, y = dsets.train[0]
    assert (x, y.tolist()) == (Path("train/1.jpg"), [1, 1])
    assert torch.where(dsets.train[1][1] == 1.0)[0].tolist() == [1]
    assert dsets.vocab == ["chair", "cup"]
    same = DataBlock(
        blocks=(TransformBlock, MultiCategoryBlock),
        splitter=ColSplitter(),
        get_x=ColReader("fname", pref="train/"),
        get_y=ColReader("labels", label_delim=" "),
    ).datasets(FRAME)
    assert [y.tolist() for _, y in same] == [y.tolist() for _, y in dsets]


class Rows:
    """A map-style data set that offers the least: a length, and items by an `int`."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        assert type(i) is int
        return self.rows[i % len(self.rows)]


class Foreign:
    """A table of another library: columns by name, and a way to pandas."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return FRAME[i] if isinstance(i, str) else FRAME.iloc[[i]]

    def to_pandas(self):
        return FRAME


DICTS = FRAME.to_dict("records")


@pytest.mark.parametrize(
    "source",
    [FRAME, FRAME.set_index("fname", drop=False), Foreign(), DICTS, Rows(DICTS), list(FRAME.itertuples()), iter(DICTS)],
    ids=["frame", "indexed", "foreign", "dicts", "rows", "named tuples", "iterator"],
)
def test_a_table_may_come_in_many_forms(source):
    dsets = DataBlock(
        (TransformBlock, CategoryBlock),
        splitter=lambda items: ([0, 1], [2]),
        get_x=ColReader("fname"),
        get_y=ColReader("y"),
    ).datasets(source)
    assert list(dsets) == [("1.jpg", 1), ("2.jpg", 0), ("3.jpg", 1)]
    assert repr(dsets.vocab) == "[0, 1]"


ARRAY = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "source",
    [ARRAY, torch.tensor(ARRAY), ARRAY.tolist(), torch.utils.data.TensorDataset(torch.tensor(ARRAY))],
    ids=["array", "tensor", "lists", "torch data set"],
)
def test_numbers_may_come_in_many_forms(source):
    def row(o):
        return o[0] if len(o) == 1 else o

    dsets = DataBlock(
        (TransformBlock, RegressionBlock),
        splitter=RandomSplitter(0.25, seed=1),
        get_x=lambda o: tensor(row(o))[:2],
        get_y=lambda o: row(o)[2],
    ).datasets(source)
    x, y = dsets[1]
    assert (x.tolist(), float(y)) == ([3.0, 4.0], 5.0)
    assert dsets.c == 1
    assert len(list(dsets.train)) == 3


def test_pairs_of_a_torch_data_set_are_told_apart_by_getters():
    source = torch.utils.data.TensorDataset(torch.arange(6.0), torch.arange(6) % 2)
    for first, second in ((ItemGetter(0), ItemGetter(1)), (lambda pair: pair[0], lambda pair: pair[1])):
        dsets = DataBlock((TransformBlock, CategoryBlock), getters=[first, second]).datasets(source)
        assert dsets[3] == (3.0, 1)
        assert repr(dsets.vocab) == "[0, 1]"


def test_columns_of_one_source_may_be_several_outputs():
    made = DataBlock(
        (TransformBlock, RegressionBlock(2), CategoryBlock),
        n_inp=1,
        get_x=ItemGetter("x"),
        get_y=[ColReader(["y", "z"]), ColReader("k")],
    )
    dsets = made.datasets([{"x": i, "y": i, "z": -i, "k": "ab"[i % 2]} for i in range(10)])
    x, numbers, label = dsets[3]
    assert (x, numbers.tolist(), int(label)) == (3, [3.0, -3.0], 1)
    assert dsets.c == 4


def test_a_transform_may_name_the_loss_for_its_target():
    class Distance(Transform):
        loss_func = staticmethod(torch.nn.functional.l1_loss)

        def encodes(self, x: int):
            return tensor(float(x))

    assert Datasets([1, 2], [[noop], [Distance()]]).loss_func is torch.nn.functional.l1_loss


def test_a_million_items_stay_what_they_are():
    items = range(1_000_000)
    calls = []

    def watched(i):
        calls.append(i)
        return i

    dsets = Datasets(items, [[watched], [lambda i: -i]], splits=[range(900_000), range(900_000, 1_000_000)])
    assert dsets.train.tls[0].items.all_items is items
    assert dsets[999_999] == (999_999, -999_999)
    assert dsets.valid[0] == (900_000, -900_000)
    assert calls == [999_999, 900_000]
    vocab = Datasets(items, [[lambda i: i % 3, Categorize()]], splits=[range(1_000_000), []]).vocab
    assert vocab == [0, 1, 2]
