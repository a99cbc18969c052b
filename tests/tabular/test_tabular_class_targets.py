"""Classes of any kind train, are exported, and are predicted by the name that they print as."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from layered.foundation import BadValue
from layered.tabular.all import Categorify, CategoryBlock, Normalize, TabularPandas, load_learner, tabular_learner

X = np.arange(60) % 3 * 10.0
DAYS = ["2020-01-01", "2020-01-02", "2020-01-03"]
CLASSES = {  # the class of rows with x = 0, 10 and 20, and how it prints
    "midnights": (pd.to_datetime(DAYS), DAYS),
    "moments": (pd.to_datetime(DAYS) + pd.Timedelta(hours=3), [f"{day} 03:00:00" for day in DAYS]),
    "dates": ([datetime.date(2020, 1, i) for i in (1, 2, 3)], DAYS),
    "periods": (pd.period_range("2020-01", periods=3, freq="M"), ["2020-01", "2020-02", "2020-03"]),
    "time spans": (pd.to_timedelta([1, 2, 10], unit="D"), ["1 days", "2 days", "10 days"]),
    "intervals": (pd.interval_range(0, 3), ["(0, 1]", "(1, 2]", "(2, 3]"]),
    "bytes": ([b"a", b"b", b"c"], ["a", "b", "c"]),
    "decimals": ([Decimal("0.5"), Decimal(1), Decimal(2)], [0.5, 1, 2]),
}


def learner(target, path, block=None):
    df = pd.DataFrame({"x": X, "y": target})
    splits = (range(48), range(48, 60))
    torch.manual_seed(0)
    to = TabularPandas(df, [Categorify, Normalize], None, "x", "y", block, splits)
    return tabular_learner(to.dataloaders(8, device="cpu"), [8], path=path, lr=0.05), df


def check(learn, df, names, path):
    """The learner learns which class follows from x, and still knows it when it is loaded."""
    with learn.no_bar(), learn.no_logging():
        learn.fit(6)
    learn.export()
    loaded = load_learner(path / "export.layered")
    assert list(learn.dls.vocab) == list(loaded.dls.vocab) == list(names)
    assert loaded.dls.test_dl(df).dataset.tensors[-1][:, 0].tolist() == [0, 1, 2] * 20
    for i, name in enumerate(names):
        row, decision, _ = loaded.predict({"x": 10.0 * i})
        assert (int(decision), row.items.y[0]) == (i, str(name))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("as_categorical", [False, True])
def test_classes_of_any_kind_are_learnt_exported_and_named(kind, as_categorical, tmp_path):
    classes, names = CLASSES[kind]
    target = pd.Series(list(classes) * 20)
    block = CategoryBlock() if isinstance(names[0], float) else None  # numbers are a regression by default
    check(*learner(target.astype("category") if as_categorical else target, tmp_path, block), names, tmp_path)


def test_parts_of_a_distribution_are_classes_in_their_order(tmp_path):
    parts = pd.qcut(pd.Series(X - 100), 3, duplicates="drop")
    check(*learner(parts, tmp_path), parts.cat.categories.astype(str), tmp_path)


def test_a_vocabulary_that_is_given_is_of_any_kind_too(tmp_path):
    days = pd.to_datetime(DAYS)
    check(*learner(list(days) * 20, tmp_path, CategoryBlock(vocab=list(days))), DAYS, tmp_path)


def test_too_few_outputs_for_classes_are_named(tmp_path):
    learn, _ = learner(list("abc") * 20, tmp_path)
    one = tabular_learner(learn.dls, [4], n_out=1)
    with one.no_bar(), pytest.raises(BadValue) as caught:
        one.fit(1)
    assert "check the number of outputs of the model (n_out)" in str(caught.value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e31])
def test_numbers_to_predict_that_cannot_be_reached_are_named_with_what_helps(value):
    df = pd.DataFrame({"x": X, "y": X}).astype(float)
    df.loc[7, "y"] = value
    with pytest.raises(BadValue, match="'y' of 1 row is not finite, or beyond") as caught:
        TabularPandas(df, Normalize, None, "x", "y")
    assert "at 7" in caught.value.got
    cure = caught.value.fix.removeprefix("leave those rows out: ").partition(", before")[0]
    assert len(TabularPandas(eval(cure, {"df": df}), Normalize, None, "x", "y")) == 59
