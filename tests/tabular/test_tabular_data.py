"""Loaders of tables: recipes, batches cut from tensors, weights, and rows shown as they were."""

import numpy as np
import pandas as pd
import pytest
import torch
from people import CATS, CONTS, PROCS, people
from sklearn.utils.class_weight import compute_class_weight
from torch.testing import assert_close

from layered.data.in_memory import row_taker
from layered.foundation import BadArgument, BadValue
from layered.tabular.all import (
    CategoryBlock,
    ItemTransform,
    TabDataLoader,
    TabularDataLoaders,
    TabularPandas,
    TabWeightedDL,
    class_weights,
    first,
)
from layered.tabular.data import training_weights


def test_a_recipe_splits_columns_and_rows_by_itself():
    dls = TabularDataLoaders.from_df(people(), seed=1, bs=16, device="cpu")
    assert list(dls.cat_names) == ["city", "rooms", "age_na"]
    assert set(dls.cont_names) == {"income", "age"}
    assert (list(dls.y_names), dls.c, list(dls.vocab)) == (["buys"], 2, ["no", "yes"])
    assert (len(dls.train_ds), len(dls.valid_ds)) == (160, 40)
    assert [t.shape for t in dls.one_batch()] == [(16, 3), (16, 2), (16, 1)]


def test_validation_rows_are_those_that_are_named():
    df = people()
    dls = TabularDataLoaders.from_df(
        df, procs=PROCS, cat_names=CATS, cont_names=CONTS, y_names="buys", valid_idx=range(50)
    )
    assert dls.valid_ds.items.index.tolist() == list(range(50))
    assert dls.train_ds.items.index.tolist() == list(range(50, 200))


def test_files_make_the_loaders_of_their_frames(tmp_path):
    df = people().fillna({"city": "Oslo"})
    df.to_csv(tmp_path / "people.csv", index=False)
    kwargs = {"cat_names": CATS, "cont_names": CONTS, "y_names": "buys", "seed": 3, "bs": 200, "drop_last": False}
    ours = TabularDataLoaders.from_csv(tmp_path / "people.csv", **kwargs)
    theirs = TabularDataLoaders.from_df(df, **kwargs)
    for a, b in zip(ours.valid_ds.tensors, theirs.valid_ds.tensors, strict=True):
        assert_close(a, b)


def test_blanks_behind_commas_are_left_out_of_a_file(tmp_path):
    (tmp_path / "t.csv").write_text("k, x, y\na, 1.5, yes\nb, 2.5, no\na, 3.5, no\nb, 4.5, yes\n")
    dls = TabularDataLoaders.from_csv(tmp_path / "t.csv", seed=0, bs=1)
    assert (list(dls.vocab), list(dls.cont_names)) == (["no", "yes"], ["x"])


def test_misspelt_arguments_are_refused_before_anything_is_read():
    with pytest.raises(BadArgument, match="did you mean 'cat_names'"):
        TabularDataLoaders.from_df(None, cat_name=["city"])


def test_dates_have_to_be_taken_apart_first():
    df = people(20).assign(when=pd.Timestamp("2020-01-01"))
    with pytest.raises(BadValue, match="'when' holds dates"):
        TabularDataLoaders.from_df(df, y_names="buys")


def test_batches_are_rows_of_the_tensors_without_items_in_between(to, dls):
    assert row_taker(dls.train_ds) is not None
    seen = torch.cat([b[1] for b in dls.valid])
    assert torch.equal(seen, to.valid.tensors[1])
    order = list(dls.train.get_idxs())
    dls.train.get_idxs = lambda: order[:32]
    assert torch.equal(first(dls.train)[0], to.train.tensors[0][torch.as_tensor(np.array(order[:32]))])


def test_tensors_are_made_once_until_the_frame_is_handed_out_or_replaced(dls):
    before = dls.train_ds.tensors
    assert torch.equal(first(dls.train.new(shuffle=False))[1], before[1][:32])
    assert dls.train_ds.tensors is before
    dls.train_ds.items = dls.train_ds.items.iloc[::-1] * 0
    assert not first(dls.train.new(shuffle=False))[1].any()


def test_stages_of_ones_own_see_rows(to):
    dl = TabDataLoader(to.train, bs=4, after_item=ItemTransform(lambda row: (row[0], row[1] * 0, row[2])))
    assert first(dl)[1].abs().sum() == 0


def test_sizes_of_batches_may_be_given_by_position_and_for_validation(to):
    dls = to.dataloaders(8, val_bs=20, device="cpu")
    assert (len(first(dls.train)[0]), len(first(dls.valid)[0])) == (8, 20)
    assert TabDataLoader(to.train).bs == 16


@pytest.fixture
def rare():
    """One row in ten is of class "b"."""
    df = pd.DataFrame({"x": np.arange(1000.0), "y": np.where(np.arange(1000) % 10, "a", "b")})
    return df, TabularPandas(df, None, None, "x", "y", splits=[range(0, 1000, 1), [0, 1]])


def share_of_rare(dls):
    return torch.cat([b[2] for b in dls.train]).float().mean().item()


def test_epochs_may_be_balanced_or_drawn_by_weight(rare):
    df, to = rare
    assert share_of_rare(to.dataloaders(50, seed=0)) == pytest.approx(0.1)
    three_sigma = 3 * (0.25 / 1000) ** 0.5
    weights = np.where(df.y == "b", 9.0, 1.0)
    for kwargs in ({"weights": "balanced"}, {"weights": weights}, {"dl_type": TabWeightedDL, "weights": weights}):
        assert share_of_rare(to.dataloaders(50, seed=0, **kwargs)) == pytest.approx(0.5, abs=three_sigma)
    assert share_of_rare(to.dataloaders(50, seed=0, weights="oversample")) == pytest.approx(0.5, abs=three_sigma)
    dl = TabWeightedDL(to.train, bs=50, wgts=(df.y == "b").to_numpy(float))
    assert torch.cat([b[2] for b in dl]).unique().tolist() == [1]


def test_weights_for_all_rows_of_the_frame_follow_the_split():
    df = pd.DataFrame({"x": np.arange(10.0), "y": list("ab") * 5})
    to = TabularPandas(df, None, None, "x", "y", splits=[[9, 3, 4, 7], [0, 1]])
    dls = to.dataloaders(4, weights=np.arange(10) == 7)
    assert set(torch.cat([b[1] for b in dls.train]).flatten().tolist()) == {7.0}
    with pytest.raises(BadValue, match="number of weights does not match"):
        to.dataloaders(4, weights=[1.0, 2.0])


def test_weights_of_classes_are_scikit_learns(rare):
    df, to = rare
    wanted = compute_class_weight("balanced", classes=np.array(["a", "b"]), y=df.y.to_numpy())
    assert_close(class_weights(to).numpy(), wanted.astype(np.float32))
    assert_close(class_weights(to.dataloaders(8)).numpy(), wanted.astype(np.float32))


def test_batches_are_shown_as_the_rows_they_come_from(dls, capsys):
    df = people()
    dls.valid.show_batch(max_n=4)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["city", "rooms", "age_na", "age", "income", "buys"]
    assert len(shown) == 5
    frame = dls.valid.decoded(dls.valid.one_batch(), 4).items
    rows = df.loc[dls.valid_ds.items.index[:4]]
    assert frame.buys.tolist() == rows.buys.tolist()
    assert frame.city.tolist() == rows.city.fillna("#na#").tolist()
    samples = dls.valid.decode_batch(dls.valid.one_batch(), max_n=2)
    assert samples[0][0]["rooms"] == rows.rooms.iloc[0]
    assert samples[1][2] == rows.buys.iloc[1]


def test_whole_numbers_as_classes_are_shown_as_themselves(shown):
    df = pd.DataFrame({"x": np.arange(8.0), "y": [3, 7] * 4})
    dls = TabularPandas(df, None, None, "x", "y", CategoryBlock()).dataloaders(8, shuffle=False, device="cpu")
    assert dls.show_batch() is None
    assert shown[0].y.tolist() == ["3", "7"] * 4


def test_processed_rows_make_a_test_loader_as_they_are(to, dls):
    again = dls.test_dl(to.valid)
    assert torch.equal(first(again)[0], to.valid.tensors[0][:32])
    plain = dls.test_dl(to.valid.items, process=False)
    assert torch.equal(first(plain)[1], to.valid.tensors[1][:32])


def test_loaders_say_what_table_they_load(dls):
    text = repr(dls)
    assert text.startswith("TabularDataLoaders")
    for fact in (
        "city, rooms, age_na",
        "age, income",
        "buys (category)",
        "FillMissing() -> Categorify() -> Normalize()",
    ):
        assert fact in text
        assert fact.replace(">", "&gt;") in dls._repr_html_()
    assert len(text.splitlines()[-6:]) == 6
    assert text.splitlines()[-6].split() == list(dls.all_col_names)


def test_splits_and_weights_with_labels_name_rows_of_the_frame():
    df = pd.DataFrame({"x": np.arange(20.0), "y": 0.0}).sample(frac=1, random_state=0)
    early, late = df.index[df.x < 15], df.index[df.x >= 15]
    for how in ({"valid_idx": late}, {"splits": (early, late)}, {"splits": (df.x < 15, df.x >= 15)}):
        dls = TabularDataLoaders.from_df(df, procs=[], cont_names="x", y_names="y", bs=4, **how)
        assert sorted(dls.valid.dataset.items.x) == [15, 16, 17, 18, 19]
    to = TabularPandas(df, None, None, "x", "y", splits=(early, late))
    weights = pd.Series(np.arange(20.0), index=range(20))  # the weight of a row is its label, which is its x
    assert training_weights(to, weights).tolist() == to.train.items.x.tolist()
    with pytest.raises(BadValue, match="to_numpy"):
        training_weights(to, weights.rename(lambda label: label + 3))
