"""`fit_auto`: what it holds out, when it ends, what it leaves, and what it refuses."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchLoader, TensorDataset

from layered.basics import (
    Callback,
    CrossEntropyLossFlat,
    DataBlock,
    DataLoaders,
    EndSplitter,
    GroupSplitter,
    Learner,
    RegressionBlock,
    TimeLimit,
    Transform,
    TransformBlock,
    accuracy,
)
from layered.data import divide_items
from layered.foundation import BadArgument, BadValue, CannotRestore, CannotTrain, OutOfRange, UnknownName
from layered.tabular.all import TabularDataLoaders, tabular_learner


def classes(count=300, bs=20, **args):
    """Points of three classes, one of them rare, that overlap."""
    draw = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * (count // 2) + [1] * (count * 2 // 5) + [2] * (count // 10))
    x = torch.randn(count, 4, generator=draw) + nn.functional.one_hot(y, 4) * 2
    return DataLoaders.from_dsets(*[TensorDataset(x, y)] * 2, bs=bs, device="cpu", **args)


def learner(dls=None, width=8, **args):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
    return Learner(classes() if dls is None else dls, model, CrossEntropyLossFlat(), metrics=accuracy, **args)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("LAYERED_QUIET", "1")


def test_the_held_out_items_have_the_same_share_of_each_class():
    dls = classes()
    parts = divide_items(dls.train, dls.valid, 0.2)
    labels = dls.train.dataset.tensors[1]
    assert np.bincount(labels[parts.positions]).tolist() == [30, 24, 6]
    kept = torch.cat([y for _, y in parts.train.new(drop_last=False, shuffle=False)])
    assert torch.bincount(kept).tolist() == [120, 96, 24]


def test_the_seed_of_the_run_alone_decides_what_is_held_out():
    def drawn(seed, **args):
        torch.manual_seed(seed)
        dls = classes(**args)
        return divide_items(dls.train, dls.valid, 0.1).positions.tolist()

    assert drawn(1) == drawn(1, bs=7) != drawn(2)


def test_the_weights_of_items_stay_with_them():
    weights = np.arange(300) % 7 + 1.0
    dls = classes(weights=weights)
    parts = divide_items(dls.train, None, 0.1)
    kept = np.setdiff1d(np.arange(300), parts.positions)
    assert_close(parts.train.chooser.weights, weights[kept])
    assert len(parts.held) == 2


def test_it_ends_with_the_weights_that_were_best_for_the_held_out_items():
    learn = learner()
    parts = divide_items(learn.dls.train, learn.dls.valid, 0.1)
    report = learn.fit_auto(epochs=40)
    history = [row["held_out_loss"] for row in learn.recorder.history]
    assert report.best == min(history) == history[report.best_epoch]
    assert learn.validate(dl=parts.held)[0] == pytest.approx(report.best)
    assert (report.held_out, report.items, report.lr_found) == (30, 300, True)
    assert len(history) == report.epochs


def test_the_validation_items_decide_nothing():
    one, other = learner(), learner()
    other.dls.valid.dataset = TensorDataset(torch.randn(9, 4), torch.zeros(9).long())
    assert one.fit_auto(6) == other.fit_auto(6)
    assert_close(one.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)


def test_a_learner_without_validation_items_has_held_out_ones():
    dls = classes()
    learn = learner(DataLoaders(dls.train))
    assert learn.fit_auto(3).best is not None


def test_a_metric_can_be_watched():
    learn = learner()
    report = learn.fit_auto(8, monitor="accuracy")
    assert report.best == max(row["held_out_accuracy"] for row in learn.recorder.history) > 0.6
    with pytest.raises(UnknownName, match="acuracy"):
        learn.fit_auto(1, monitor="acuracy")


def test_it_stops_by_itself_and_does_not_overfit():
    torch.manual_seed(3)
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))  # nothing to learn
    dls = DataLoaders.from_dsets(*[TensorDataset(x, y)] * 2, bs=8, device="cpu")
    learn = learner(dls, width=256)
    report = learn.fit_auto(300, held_out=0.3)
    assert report.epochs < 100
    assert report.best < 1.3  # an overfitted model is sure of what it has only memorized


def test_the_loaders_and_callbacks_are_as_before():
    learn = learner()
    dls, cbs = learn.dls, list(learn.cbs)
    learn.fit_auto(2)
    assert (learn.dls, learn.cbs) == (dls, cbs)
    assert len(learn.dls.train.dataset) == 300


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_fit_that_ends_by_an_exception_leaves_the_best_weights_and_nothing_else(error):
    learn = learner()
    parts = divide_items(learn.dls.train, learn.dls.valid, 0.1)
    dls, cbs = learn.dls, list(learn.cbs)

    def fail(cb):
        if cb.training and cb.epoch == 4:
            raise error

    with pytest.raises(error):
        learn.fit_auto(9, lr=0.01, cbs=Callback(after_batch=fail))
    assert (learn.dls, learn.cbs) == (dls, cbs)
    best = min(row["held_out_loss"] for row in learn.recorder.history)
    assert learn.validate(dl=parts.held)[0] == pytest.approx(best)


def test_a_fit_that_fails_at_once_leaves_the_weights_as_they_were():
    learn = learner()
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}

    def fail(cb):
        if cb.training and cb.iter == 3:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        learn.fit_auto(9, lr=0.01, cbs=Callback(after_batch=fail))
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)


def test_a_frozen_body_is_trained_after_the_head():
    learn = learner(splitter=lambda m: [[*m[0].parameters()], [*m[2].parameters()]])
    learn.freeze()
    frozen, rates = [], []

    def look(cb):
        if cb.training:
            frozen.append(cb.learn.opt.frozen_idx)
            rates.append([h["lr"] for h in cb.learn.opt.hypers])

    learn.fit_auto(2, lr=0.01, cbs=Callback(before_step=look))
    assert frozen == [1] * 13 + [0] * 26
    assert rates[-1][0] == pytest.approx(rates[-1][1] / 100)
    learn.freeze()
    learn.fit_auto(1, lr=0.01, freeze_epochs=0)
    assert learn.opt.frozen_idx == 1


def test_a_resumed_fit_equals_the_undisturbed_one_bit_for_bit(tmp_path):
    def run(cbs=None, **args):
        learn = learner(seed=5)
        try:
            return learn, learn.fit_auto(9, cbs=cbs, **args)
        except ZeroDivisionError:
            return learn, None

    def fail(cb):
        if cb.training and cb.epoch == 5 and cb.iter == 4:
            raise ZeroDivisionError

    whole, report = run(cbs=Callback(), checkpoint=tmp_path / "whole")
    run(cbs=Callback(after_batch=fail), checkpoint=tmp_path / "cut")
    resumed, again = run(cbs=Callback(), checkpoint=tmp_path / "cut", resume="auto")
    assert again == report
    assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert resumed.recorder.values == whole.recorder.values
    run(cbs=Callback(after_batch=fail), checkpoint=tmp_path / "cut2")
    with pytest.raises(CannotRestore, match="60 of 300 items"):
        run(cbs=Callback(), checkpoint=tmp_path / "cut2", resume="auto", held_out=0.2)


def test_a_time_limit_ends_it_with_the_best_weights():
    learn = learner()
    report = learn.fit_auto(50, lr=0.01, cbs=TimeLimit("0.001 sec", after="epoch"))
    assert (report.epochs, report.best_epoch) == (1, 0)


def test_tables_and_groups():
    df = load_diabetes(as_frame=True).frame
    df["person"] = np.arange(len(df)) // 3
    names = [name for name in df if name not in ("target", "person")]
    dls = TabularDataLoaders.from_df(df, cont_names=names, y_names="target", seed=0, bs=32)
    parts = divide_items(dls.train, dls.valid, GroupSplitter("person", 0.2, seed=1))
    people = dls.train.dataset.items["person"].to_numpy()
    held = set(people[parts.positions])
    assert not held & set(np.delete(people, parts.positions))
    report = tabular_learner(dls).fit_auto(3, held_out=GroupSplitter("person", 0.2, seed=1))
    assert report.held_out == len(parts.positions)


def test_held_out_items_are_transformed_as_for_validation():
    class Noise(Transform):
        split_idx = 0

        def encodes(self, x: float):
            return x + 1000.0

    block = DataBlock(
        (TransformBlock(item_tfms=Noise), RegressionBlock), get_x=float, get_y=float, splitter=EndSplitter(0.2)
    )
    dls = block.dataloaders(list(range(50)), bs=4, num_workers=0)
    parts = divide_items(dls.train, dls.valid, 0.25)
    assert (parts.train.one_batch()[0] >= 1000).all()
    assert all((x < 1000).all() for x, _ in parts.held)


def test_a_loader_of_other_items_may_be_given():
    data = classes().train.dataset
    torch_loader = TorchLoader(data, batch_size=20, shuffle=True)
    learn = learner(DataLoaders(torch_loader))
    with pytest.raises(CannotTrain, match="held_out=loader"):
        learn.fit_auto(2)
    report = learn.fit_auto(2, held_out=TorchLoader(data, batch_size=50))
    assert (report.items, report.best_epoch is not None) == (None, True)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"held_out": 1.5}, BadValue, "between 0 and 1"),
        ({"held_out": 0}, BadValue, "between 0 and 1"),
        ({"held_out": 0.001}, BadValue, "too few"),
        ({"held_out": 0.97}, BadValue, "do not fill a batch"),
        ({"held_out": "a tenth"}, BadArgument, "share"),
        ({"epochs": 0}, OutOfRange, "epochs"),
        ({"patience": 0}, OutOfRange, "patience"),
        ({"lr": 1e30}, CannotTrain, "not finite from the start"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_changes(args, error, message):
    learn = learner()
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    with pytest.raises(error, match=message):
        learn.fit_auto(**args)
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)


def test_the_report_says_what_was_done():
    learn = learner()
    text = repr(learn.fit_auto(2))
    assert "fit_auto trained for 2 epochs" in text
    assert "30 items of 300 training items (10%)" in text
    assert "found" in text
