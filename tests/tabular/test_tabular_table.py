"""`TabularPandas`: what it prepares, on which rows it is fitted, how it is undone, and what it refuses."""

import io
import pickle
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from layered.foundation import BadArgument, BadValue, UnknownLabel, transforms
from layered.tabular.all import (
    Categorify,
    CategoryBlock,
    FillMissing,
    FillStrategy,
    MSELossFlat,
    MultiCategoryBlock,
    MultiTaskLoss,
    Normalize,
    RegressionBlock,
    TabularPandas,
    TabularProc,
    TransformBlock,
    cont_cat_split,
    tabular_learner,
)
from layered.tabular.columns import Column


def test_codes_and_scores_are_scikit_learns_fitted_on_the_training_rows(df, splits, to):
    train = df.iloc[splits[0]]
    rows = df.iloc[[*splits[0], *splits[1]]]
    oracle = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1).fit(
        train[CATS].astype(object).where(train[CATS].notna(), None)
    )
    wanted = oracle.transform(rows[CATS].astype(object).where(rows[CATS].notna(), None)) + 1
    wanted = np.where(np.isnan(wanted), 0, wanted)
    for i, name in enumerate(CATS):
        known = [c for c in oracle.categories_[i] if c is not None]
        assert list(to.classes[name]) == ["#na#", *known]
        assert (to.items[name].to_numpy() == np.where(rows[name].isna(), 0, wanted[:, i])).all()
    medians = train[CONTS].median()
    scaler = StandardScaler().fit(train[CONTS].fillna(medians))
    np.testing.assert_allclose(to.conts, scaler.transform(rows[CONTS].fillna(medians)), atol=1e-5)
    assert to.na_dict == {"age": medians["age"]}
    assert to.items["age_na"].tolist() == (1 + rows["age"].isna()).tolist()
    assert to.y.tolist() == (rows["buys"] == "yes").astype(int).tolist()


def test_training_rows_come_first_and_the_frame_given_stays_as_it_was(splits):
    df = people()
    before = df.copy()
    to = TabularPandas(df, PROCS, CATS, CONTS, "buys", splits=splits)
    pd.testing.assert_frame_equal(df, before)
    assert to.items.index.tolist() == [*splits[0], *splits[1]]
    assert (len(to.train), len(to.valid), to.n_subsets) == (160, 40, 2)
    assert [s.tolist() for s in to.splits] == [list(range(160)), list(range(160, 200))]
    to.train.decode(), to.dataloaders(16, device="cpu").one_batch(), to.test_set(df)
    pd.testing.assert_frame_equal(df, before)


def test_in_place_the_frame_that_was_given_is_encoded():
    df = people()
    to = TabularPandas(df, PROCS, CATS, CONTS, "buys", inplace=True)
    assert to.items["city"] is not None
    assert df["city"].dtype == np.int8
    assert df["age"].dtype == np.float32


def test_in_place_the_columns_that_are_added_are_in_the_frame_that_was_given_too():
    df = people().assign(income=lambda d: d.income.where(d.income > 10**5))
    to = TabularPandas(df.copy(), PROCS, CATS, CONTS, "buys")
    TabularPandas(df, PROCS, CATS, CONTS, "buys", inplace=True)
    pd.testing.assert_frame_equal(df[list(to.all_col_names)], to.all_cols)


@pytest.mark.parametrize("with_labels", [None, True, False])
@pytest.mark.parametrize("target", ["there", "unknown", "absent"])
@pytest.mark.filterwarnings("ignore:the targets of these rows")
def test_new_rows_are_encoded_in_the_frame_that_is_given_if_asked(to, dls, with_labels, target):
    rows = {"there": people(), "unknown": people().assign(buys="?"), "absent": people().drop(columns="buys")}[target]
    if with_labels and target != "there":
        return
    given, untouched = rows.copy(), rows.copy()
    wanted = dls.test_dl(untouched, with_labels=with_labels).dataset
    dls.test_dl(given, with_labels=with_labels, inplace=True)
    pd.testing.assert_frame_equal(untouched, rows)
    pd.testing.assert_frame_equal(given[list(wanted.all_col_names)], wanted.all_cols)
    if target != "absent" and "buys" not in wanted.items:
        pd.testing.assert_series_equal(given["buys"], rows["buys"])


LISTS = [pd.Index, pd.Series, np.array, tuple, iter, lambda names: dict.fromkeys(names).keys()]


@pytest.mark.parametrize("form", LISTS)
def test_names_of_columns_may_come_in_anything_like_a_list(df, form):
    to = TabularPandas(df, PROCS, form(CATS), form(CONTS), form(["buys"]))
    pd.testing.assert_frame_equal(to.items, TabularPandas(df, PROCS, CATS, CONTS, "buys").items)
    assert [list(o) for o in cont_cat_split(df, dep_var=form(["buys", "age"]))] == [["income"], ["city", "rooms"]]


def test_whole_numbers_that_no_proc_made_floats_stay_what_they_are(df, splits):
    ids = df.assign(id=1141007520 + np.arange(len(df)))
    to = TabularPandas(ids, [Categorify, FillMissing], CATS, ["id", "age"], "buys", splits=splits)
    assert to.xs["id"].tolist() == ids["id"].iloc[to.items.index].tolist()
    assert to.test_set(ids).xs["id"].tolist() == ids["id"].tolist()
    assert to.tensors[1].dtype == torch.float32


def test_only_a_table_with_splits_has_validation_rows(df, to):
    whole = TabularPandas(df, PROCS, CATS, CONTS, "buys")
    assert (hasattr(to, "valid"), hasattr(whole, "valid"), hasattr(whole, "train")) == (True, False, True)
    with pytest.raises(BadValue, match="there is no split 1"):
        _ = whole.valid


def test_decoding_gives_the_rows_back(df, to):
    decoded = to.decode().items
    rows = df.loc[decoded.index]
    assert (decoded["city"] == rows["city"].fillna("#na#")).all()
    assert (decoded["rooms"] == rows["rooms"]).all()
    assert (decoded["buys"] == rows["buys"]).all()
    np.testing.assert_allclose(decoded["income"], rows["income"], atol=0.1)
    there = rows["age"].notna()
    np.testing.assert_allclose(decoded["age"][there], rows["age"][there], atol=1e-4)
    row = to.decode_row(to.items.iloc[7])
    pd.testing.assert_series_equal(to.decode_row(to.iloc[7]), row, check_names=False, check_dtype=False, rtol=1e-6)
    assert (row["city"], row["buys"]) == (decoded["city"].iloc[7], decoded["buys"].iloc[7])


def test_columns_are_found_by_their_role(to):
    assert list(to.cat_names) == ["city", "rooms", "age_na"]
    assert list(to.x_names) == ["city", "rooms", "age_na", "age", "income"]
    assert list(to.all_col_names) == [*to.x_names, "buys"]
    assert list(to.xs.columns) == list(to.x_names)
    assert list(to.ys.columns) == list(to.targ.columns) == ["buys"]
    assert (list(to.cats.columns), list(to.conts.columns)) == (list(to.cat_names), list(to.cont_names))
    assert list(to.all_cols.columns) == list(to.all_col_names)
    assert len(to.iloc[:5]) == 5
    assert len(to.iloc[3]) == 1
    assert to.loc[to.items.index[0], "buys"] == to.y.iloc[0]
    assert len(to.subset(1)) == len(to.valid)
    copied = to.copy()
    copied["rooms"] = 0
    assert (to["rooms"] != 0).all()


def test_batches_are_codes_numbers_and_targets(to):
    codes, numbers, target = to.train.tensors
    assert (codes.dtype, numbers.dtype, target.dtype) == (torch.int64, torch.float32, torch.int64)
    assert (codes.shape, numbers.shape, target.shape) == ((160, 3), (160, 2), (160, 1))
    assert (codes.numpy() == to.train.cats).all().all()
    assert (numbers.numpy() == to.train.conts).all().all()


def test_columns_in_reverse_order_of_the_frame_make_batches(df):
    to = TabularPandas(df, PROCS, ["rooms", "city"], ["income", "age"][::-1], "buys")
    assert [t.shape for t in to.dataloaders(8, device="cpu").one_batch()] == [(8, 3), (8, 2), (8, 1)]


def test_a_pandas_categorical_keeps_its_order_and_levels_nobody_has():
    df = pd.DataFrame({"size": pd.Categorical(["M", "S", "M"], ["S", "M", "L"], ordered=True), "y": [1.0, 2.0, 3.0]})
    assert list(TabularPandas(df, Categorify, "size", None, "y").classes["size"]) == ["#na#", "S", "M", "L"]


def test_levels_that_only_validation_rows_have_are_missing():
    df = pd.DataFrame({"k": ["b", "a", "z"], "n": [5, 4, 9], "y": [1.0, 2.0, 3.0]})
    to = TabularPandas(df, Categorify, ["k", "n"], None, "y", splits=[[0, 1], [2]])
    assert (list(to.classes["k"]), list(to.classes["n"])) == (["#na#", "a", "b"], ["#na#", 4, 5])
    assert to.valid.xs.to_numpy().tolist() == [[0, 0]]


def test_levels_of_mixed_kinds_and_of_dates_are_levels_too():
    df = pd.DataFrame(
        {"k": ["b", 2, 1.5, True, None], "d": pd.to_datetime(["2020-01-02", "2020-01-01"] * 2 + [None]), "y": range(5)}
    )
    to = TabularPandas(df, Categorify, ["k", "d"], None, "y")
    assert len(to.classes["k"]) == 5
    assert to.cats.to_numpy()[4].tolist() == [0, 0]
    assert to.test_set(df.drop(columns="y")).cats.to_numpy().tolist() == to.cats.to_numpy().tolist()


@pytest.mark.parametrize(
    ("strategy", "wanted"), [(FillStrategy.median, 3.0), (FillStrategy.mode, 1.0), (FillStrategy.constant, -1.0)]
)
def test_gaps_are_filled_by_the_strategy(strategy, wanted):
    df = pd.DataFrame({"x": [1.0, 1.0, np.nan, 5.0, 5.5, np.inf], "y": range(6)})
    to = TabularPandas(df, FillMissing(strategy, fill_vals={"x": -1}), None, "x", "y")
    assert to.items["x"][2] == to.items["x"][5] == to.na_dict["x"] == wanted
    assert to.items["x_na"].tolist() == [False, False, True, False, False, True]
    assert "x_na" not in TabularPandas(df, FillMissing(strategy, add_col=False), None, "x", "y").items


@pytest.mark.parametrize("kind", ["int64", "Int64", "float32", "boolean", "string", "object"])
def test_continuous_columns_may_be_stored_in_any_way(kind):
    values = [True, False, True] if kind == "boolean" else [3, 1, 2]
    column = pd.Series([str(v) for v in values] if kind in ("string", "object") else values).astype(kind)
    to = TabularPandas(pd.DataFrame({"x": column, "y": [1.0, 2.0, 3.0]}), None, None, "x", "y")
    assert to.conts["x"].tolist() == [float(v) for v in values]


# -- targets

Y = pd.DataFrame(
    {"x": [0.0, 1.0, 2.0, 3.0], "kind": list("abab"), "code": [3, 1, 3, 1], "price": [1.5, 2.5, 3.5, 4.5],
     "hot": [1, 0, 1, 1], "big": [0, 0, 1, 1], "tags": [["p"], ["p", "q"], [], ["q"]]}
)  # fmt: skip


def targets_of(y_names, y_block=None):
    to = TabularPandas(Y, None, None, "x", y_names, y_block)
    return to, to.tensors[2:]


def test_text_is_a_class_and_whole_numbers_are_one_if_the_block_says_so():
    to, (target,) = targets_of("kind")
    assert (to.c, list(to.vocab), to.target_kinds, target.flatten().tolist()) == (
        2,
        ["a", "b"],
        ["category"],
        [0, 1, 0, 1],
    )
    to, (target,) = targets_of("code")
    assert (to.target_kinds, target.dtype, target.flatten().tolist()) == (["regression"], torch.float32, [3, 1, 3, 1])
    for block in (CategoryBlock(), CategoryBlock):
        to, (target,) = targets_of("code", block)
        assert (list(to.vocab), target.flatten().tolist()) == ([1, 3], [1, 0, 1, 0])


def test_several_numbers_are_one_regression():
    for block in (None, RegressionBlock(2), RegressionBlock()):
        to, (target,) = targets_of(["price", "code"], block)
        assert (to.c, target.tolist()[0], type(to.loss_func)) == (2, [1.5, 3.0], MSELossFlat)


def test_labels_as_columns_of_zeros_and_ones_or_as_lists():
    to, (target,) = targets_of(["hot", "big"], MultiCategoryBlock(encoded=True, vocab=["hot", "big"]))
    assert (to.c, target.tolist()) == (2, [[1, 0], [0, 0], [1, 1], [1, 1]])
    to, (target,) = targets_of("tags", MultiCategoryBlock())
    assert (to.c, list(to.vocab), target.tolist()) == (2, ["p", "q"], [[1, 0], [1, 1], [0, 0], [0, 1]])


def test_targets_of_several_kinds_are_several_targets():
    to, targets = targets_of(["kind", "price"])
    assert (to.c, to.target_kinds, [t.shape for t in targets]) == (3, ["category", "regression"], [(4, 1), (4, 1)])
    assert isinstance(to.loss_func, MultiTaskLoss)
    to, targets = targets_of(["kind", "code"], [CategoryBlock(), CategoryBlock()])
    assert (to.c, [list(v) for v in to.vocab]) == (4, [["a", "b"], [1, 3]])
    assert targets_of(["kind", "code"], CategoryBlock())[0].target_kinds == ["category"] * 2


def test_a_table_may_have_no_target_and_a_block_without_transforms_takes_numbers_as_they_are():
    assert TabularPandas(Y, None, None, "x").tensors[0].shape == (4, 0)
    assert targets_of("price", TransformBlock())[1][0].tolist() == [[1.5], [2.5], [3.5], [4.5]]


def test_labels_that_only_validation_rows_have_are_settled_before_training():
    df = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": list("abca")})
    args = (df, None, None, "x", "y")
    with pytest.raises(UnknownLabel, match="'c' is not in the vocabulary"):
        TabularPandas(*args, splits=[[0, 1], [2, 3]])
    with pytest.warns(UserWarning, match="left out.*'c'"):
        to = TabularPandas(*args, CategoryBlock(unseen="drop"), splits=[[0, 1], [2, 3]])
    assert to.valid.items["x"].tolist() == [4.0]
    assert list(TabularPandas(*args, CategoryBlock(unseen="extend"), splits=[[0, 1], [2, 3]]).vocab) == ["a", "b", "c"]
    assert TabularPandas(*args, CategoryBlock(add_na=True), splits=[[0, 1], [2, 3]]).valid.y.tolist() == [0, 1]


# -- procs of one's own


@transforms.register("test.Shifted")
class Shifted(TabularProc):
    """Income over its smallest in training."""

    order = 50
    fits = ("low",)

    def setups(self, to):
        self.low = float(to.conts["income"].min())

    def encodes(self, to):
        to.conts = to.conts - [0, self.low]

    def decodes(self, to):
        to.conts = to.conts.add([0, self.low])


def test_a_proc_of_ones_own_is_fitted_on_training_rows_and_undone(df, splits):
    to = TabularPandas(df, [Categorify, Shifted, FillMissing], CATS, CONTS, "buys", splits=splits)
    low = df["income"].iloc[splits[0]].min()
    assert to.procs.low == to.procs.shifted.low == low
    np.testing.assert_allclose(to.conts["income"], df.loc[to.items.index, "income"] - low)
    np.testing.assert_allclose(to.decode().conts["income"], df.loc[to.items.index, "income"])


def test_whole_numbers_that_miss_some_are_no_codes():
    df = pd.DataFrame({"n": pd.array([1, None, 2], dtype="Int64"), "x": [1.0, 2.0, 3.0]})
    with pytest.raises(BadValue, match="'n' is not encoded"):
        TabularPandas(df, None, "n", "x").tensors
    assert TabularPandas(df.dropna(), None, "n", "x").tensors[0].tolist() == [[1], [2]]


class Bands(TabularProc):
    """Computes with what categorical columns and the target hold, before they become codes."""

    def encodes(self, to):
        to.items["age"] = to.items["age"] // 10
        to.items["city"] = to.items["city"] + "!"
        to.items["y"] = to.items["y"].replace("b", "a")


@pytest.mark.parametrize("splits", [None, [[4, 2, 0, 1], [3]]])
def test_a_proc_of_ones_own_sees_columns_as_they_were_given(splits):
    df = pd.DataFrame({"age": [11, 25, 13, 28, 31], "city": list("uvuvu"), "x": [0.5, 1, 2, 3, 4], "y": list("abcbb")})
    to = TabularPandas(df, [Bands, Categorify], ["age", "city"], ["x"], "y", splits=splits)
    order = [0, 1, 2, 3, 4] if splits is None else [*splits[0], *splits[1]]
    assert list(to.classes["age"]) == ["#na#", 1, 2, 3]
    assert list(to.classes["city"]) == ["#na#", "u!", "v!"]
    assert to.items["age"].tolist() == [[1, 2, 1, 2, 3][i] for i in order]
    assert to.items["y"].tolist() == [[0, 0, 2, 0, 0][i] for i in order]


@pytest.mark.parametrize("splits", [None, [[4, 2, 0, 1], [3]]])
def test_without_categorify_columns_stay_as_they_are(splits):
    df = pd.DataFrame({"n": np.array([3, 1, 2, 0, 1]), "city": list("uvuvu"), "x": [0.5, 1, 2, np.nan, 4]})
    to = TabularPandas(df, FillMissing(add_col=False), ["n", "city"], ["x"], splits=splits)
    order = [0, 1, 2, 3, 4] if splits is None else [*splits[0], *splits[1]]
    assert to.items["n"].dtype == df["n"].dtype
    assert to.items["city"].dtype == df["city"].dtype
    pd.testing.assert_frame_equal(to.items[["n", "city"]], df[["n", "city"]].iloc[order])


def test_what_a_setup_raises_is_heard(df):
    class Broken(TabularProc):
        def setups(self, to):
            raise AttributeError("my own mistake")

    with pytest.raises(AttributeError, match="my own mistake"):
        TabularPandas(df, [Broken], CATS, None, "buys")


def test_procs_hold_no_rows_and_those_of_one_table_do_not_change_with_another(df):
    given = [Categorify(), FillMissing(), Normalize()]
    to = TabularPandas(df, given, CATS, CONTS, "buys")
    means = dict(to.means)
    TabularPandas(df.assign(income=df.income * 2), given, CATS, CONTS, "buys")
    assert to.means == given[2].means == means
    size = len(pickle.dumps(to.procs))
    assert len(pickle.dumps(TabularPandas(people(5000), given, CATS, CONTS, "buys").procs)) < size + 200


def test_tables_survive_pickling(to):
    again = pickle.loads(pickle.dumps(to))
    pd.testing.assert_frame_equal(again.items, to.items)
    assert again.test_set(people()[:3]).xs.equals(to.test_set(people()[:3]).xs)


# -- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cat_names": ["town"]}, "no column 'town'"),
        ({"cat_names": ["age"]}, "'age' occurs more than once"),
        ({"cont_names": ["buys"]}, "'buys' occurs more than once"),
        ({"cont_names": ["city"], "cat_names": []}, "'city' contains non-numeric values"),
        ({"y_block": [CategoryBlock(), CategoryBlock()]}, "number of blocks does not match"),
        ({"splits": [[0, 1], [999]]}, "a position that is out of range"),
        ({"splits": [[], [0]]}, "no rows to train on"),
        ({"splits": [[0], [1]]}, "only one class"),
    ],
)
def test_mistakes_are_named(df, change, message):
    args = {"procs": PROCS, "cat_names": CATS, "cont_names": CONTS, "y_names": "buys", **change}
    with pytest.raises(BadValue, match=message):
        TabularPandas(df, **args)


def test_more_mistakes_are_named(df, to):
    with pytest.raises(BadArgument, match="did you mean 'cat_names'"):
        TabularPandas(df, PROCS, cat_name=CATS)
    with pytest.raises(BadArgument, match="not a table"):
        TabularPandas("people.csv", PROCS)
    with pytest.raises(BadArgument, match="procs must be transforms"):
        TabularPandas(df, ["Categorify"], CATS)
    with pytest.raises(BadValue, match="1 training row has no 'buys'"):
        TabularPandas(df.assign(buys=["no", None, *["yes"] * 198]), PROCS, CATS, CONTS, "buys")
    with pytest.raises(BadValue, match="numbers are missing in 10 rows, in 'age'"):
        TabularPandas(df, Categorify, CATS, CONTS, "buys").dataloaders(8).one_batch()
    with pytest.raises(BadValue, match="'city' is not encoded"):
        TabularPandas(df, FillMissing, CATS, CONTS, "buys").dataloaders(8).one_batch()
    with pytest.raises(BadValue, match="already processed"):
        to.process()
    with pytest.raises(BadValue, match="add_datepart"):
        TabularPandas(df.assign(d=pd.Timestamp("2020-01-01")), PROCS, None, ["d"], "buys")
    with pytest.raises(BadValue, match="several columns named 'city'"):
        TabularPandas(pd.concat([df, df[["city"]]], axis=1), PROCS, CATS, CONTS, "buys")
    with pytest.raises(BadValue, match="overwrite the column 'age_na'"):
        TabularPandas(df.assign(age_na=1), PROCS, [*CATS, "age_na"], CONTS, "buys")


# -- looking


def test_a_table_says_its_sizes_roles_procs_and_first_rows(to):
    lines = repr(to).splitlines()
    assert lines[0] == "TabularPandas: 160 training and 40 validation rows, processed"
    assert [line.split(maxsplit=1) for line in lines[1:5]] == [
        ["categorical", "city, rooms, age_na"],
        ["continuous", "age, income"],
        ["target", "buys (category)"],
        ["procs", "FillMissing() -> Categorify() -> Normalize()"],
    ]
    assert lines[5].split() == list(to.all_col_names)
    assert len(lines) == 11
    page = to._repr_html_()
    assert page.count("<tr") == 4 + 6
    assert "160 training and 40 validation rows" in page


def test_a_table_of_many_columns_is_shown_in_part():
    df = pd.DataFrame(np.zeros((2, 60)), columns=[f"<x{i}>" for i in range(60)])
    to = TabularPandas(df, None, None, list(df.columns))
    assert "<x0>, <x1>" in repr(to)
    assert "and 50 more" in repr(to)
    assert "&lt;x0&gt;" in to._repr_html_()
    assert max(map(len, repr(to).splitlines())) < 300


# -- reading columns once


@pytest.mark.parametrize("inplace", [False, True])
def test_each_column_is_read_once(monkeypatch, inplace):
    reads = []

    def counted(name):
        read = getattr(Column, name).func
        prop = cached_property(lambda self: (reads.append((name, self)), read(self))[1])
        prop.__set_name__(Column, name)
        return prop

    df = people().assign(age=lambda d: d.age.astype(object))
    for name in ("reading", "factorized"):
        monkeypatch.setattr(Column, name, counted(name))
    opened = []
    init = Column.__init__
    monkeypatch.setattr(
        Column, "__init__", lambda self, source, rows=None: (opened.append(source), init(self, source, rows))[1]
    )
    TabularPandas(df, PROCS, CATS, CONTS, "buys", inplace=inplace)
    given = [source.name for source in opened if isinstance(source, pd.Series)]
    assert sorted(given) == sorted([*CATS, *CONTS, "buys"])
    assert len(reads) == len({(name, id(column)) for name, column in reads})


def test_a_proc_that_changes_the_frame_is_followed_by_procs_that_see_the_change(df, splits):
    class Plus(TabularProc):
        order = -1

        def encodes(self, to):
            to.items["age"] = to.items["age"] + 1
            to.items["city"] = to.items["city"].replace("Rome", "Roma")

    to = TabularPandas(df, [Plus, *PROCS], CATS, CONTS, "buys", splits=splits)
    plain = TabularPandas(df, PROCS, CATS, CONTS, "buys", splits=splits)
    assert to.means["age"] == pytest.approx(plain.means["age"] + 1)
    assert list(to.classes["city"]) == ["#na#", "Bonn", "Oslo", "Roma"]
    np.testing.assert_allclose(to.conts, plain.conts, atol=1e-6)


@pytest.mark.parametrize("procs", [[Categorify, Normalize], [Normalize], [Categorify, Normalize, FillMissing]])
def test_a_missing_number_of_one_row_is_filled_as_in_a_table(procs):
    df = people().assign(age=lambda d: d.age.fillna(40.0))
    to = TabularPandas(df, procs, CATS if Categorify in procs else None, CONTS, "buys")
    learn = tabular_learner(to.dataloaders(32, device="cpu"), [4])
    row = {"city": "Rome", "rooms": 1, "age": None, "income": 5}
    for single, table in zip(learn.predict(row, with_input=True)[0], to.test_set(row).tensors, strict=True):
        assert torch.equal(single, table)
    assert learn.predict(row)[0].items["age"][0] == pytest.approx(df.age.median(), abs=1e-4)


@pytest.mark.parametrize(("least", "is_shown"), [(10, True), (10_000_000, False)])
def test_preparing_a_large_table_shows_a_bar_that_disappears(monkeypatch, least, is_shown):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("layered.tabular.table.LARGE", least)
    df = pd.DataFrame({"x": np.arange(20.0), "y": range(20)})
    to = TabularPandas(df, [Categorify, Normalize], None, "x", "y")
    assert ("Preparing the table" in terminal.getvalue()) == is_shown
    assert not terminal.getvalue().split("\r")[-1].strip()
    to.test_set(df)
    assert (terminal.getvalue().count("[0/2") == 2) == is_shown
