"""The card of a model says what is so: counted again from the data, and intervals compared with scipy's."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from layered.foundation import TensorCategory
from layered.metrics import mae, mk_metric
from layered.tabular.all import TabularDataLoaders, accuracy, tabular_learner
from layered.testing.tiny import synth_learner
from layered.training import Learner, load_learner
from layered.training.intervals import interval, wilson

EVIL = "<script>|`x`"


@pytest.fixture
def kinds():
    return np.where(np.random.default_rng(0).normal(size=80) > 0, EVIL, "small")


@pytest.fixture
def learn(tmp_path, kinds):
    size = (kinds == EVIL) + np.random.default_rng(1).normal(size=80)
    table = pd.DataFrame({"size": size, "kind": kinds})
    torch.manual_seed(0)
    dls = TabularDataLoaders.from_df(table, y_names="kind", splits=(range(60), range(60, 80)), bs=20, device="cpu")
    learn = tabular_learner(dls, layers=[4], metrics=[accuracy, "f1"], path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, 0.05)
    return learn


def cells(card, first):
    """The cells of the line of a table that begins with some text."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", card, re.MULTILINE)
    return [cell.strip() for cell in line.split(" | ")]


def test_it_has_the_data_the_metrics_and_the_settings(learn, kinds):
    card = learn.card(about="For a test.", limits="- For nothing else.", licence="mit", name="hf://me/x@v1")
    head = ['library_name: "layered"', 'tags: ["layered"]', 'pipeline_tag: "tabular-classification"', 'license: "mit"']
    assert card.split("\n---\n")[0].split("\n") == ["---", *head]
    assert "\n# me/x\n" in card
    assert "For a test." in card
    assert "- For nothing else." in card
    assert cells(card, "training") == ["60"]
    assert cells(card, "validation") == ["20"]
    assert cells(card, "small") == [str((kinds[:60] == "small").sum()), str((kinds[60:] == "small").sum())]
    assert cells(card, r"\<script\>\|\`x\`") == [str((kinds[:60] == EVIL).sum()), str((kinds[60:] == EVIL).sum())]
    with learn.no_bar():
        loss, share, *_ = learn.validate()
    assert cells(card, "loss")[0] == f"{loss:.4g}"
    low, high = stats.binomtest(round(share * 20), 20).proportion_ci(method="wilson")
    assert cells(card, "accuracy") == [f"{share:.4g}", f"{low:.4g} to {high:.4g} (Wilson)"]
    assert cells(card, "f1_score")[1].endswith("(bootstrap)")
    assert "last fit" in card
    assert 'from layered.tabular.all import load_learner\n\nlearn = load_learner("hf://me/x@v1")' in card
    assert "<script>" not in card


def test_making_it_changes_nothing_of_the_learner(learn):
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    values, training = list(learn.recorder.values), learn.model.training
    assert learn.card() == learn.card()
    torch.testing.assert_close(dict(learn.model.state_dict()), before)
    assert (learn.recorder.values, learn.model.training) == (values, training)


def test_secrets_and_folders_stay_at_home(learn, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "sesame-open-1234")
    learn.fit_arguments = {**learn.fit_arguments, "note": "sesame-open-1234", "file": "'/home/ada/pets/cat.png'"}
    card = learn.card()
    assert "sesame" not in card
    assert "/home/ada" not in card


def test_what_is_not_known_is_said(learn):
    again = load_learner(learn.export("x.layered"))
    card = again.card()
    assert "loaded without its data" in card
    assert "Not measured" in card
    assert "it was not in this process" in card
    alone = synth_learner(metrics=mae)
    assert "20" not in cells(alone.card(), "training")
    assert cells(alone.card(), "mae")[1].endswith("(bootstrap)")
    assert Learner(alone.dls, alone.model, alone.loss_func).card()


def test_wilsons_interval_is_that_of_scipy():
    for right, count in ((0, 5), (3, 7), (10, 10), (950, 1000)):
        found = stats.binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right / count, count) == pytest.approx((found.low, found.high))


def test_the_bootstrap_interval_is_near_that_of_scipy_and_refuses_what_it_cannot_draw():
    rng = np.random.default_rng(0)
    outputs, targets = torch.tensor(rng.normal(size=(300, 1))), torch.tensor(rng.normal(size=(300, 1)))
    errors = (outputs - targets).abs().numpy().ravel()
    low, high, how = interval(mk_metric("mae"), errors.mean(), outputs, [targets])
    found = stats.bootstrap((errors,), np.mean, method="percentile", rng=rng).confidence_interval
    assert how == "bootstrap"
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.02)
    assert interval(mk_metric("mae"), 9.0, outputs, [targets]) is None  # the pass said something else
    assert interval(mk_metric("mae"), errors.mean(), [outputs], [targets]) is None
    ones = TensorCategory(torch.ones(30, dtype=torch.long))
    assert interval(mk_metric("roc_auc"), 0.5, torch.randn(30, 2), [ones]) is None
