"""Fits and passes end early where they are told to, and go on from there."""

import pytest
import torch
from torch import nn

from layered.callback import ShortEpochCallback, StopWhen, TimeLimit, fit_one_cycle, lr_find
from layered.data import DataLoader
from layered.foundation import BadValue, OutOfRange
from layered.loop import Loop

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


def learner(cbs=None) -> Loop:
    torch.manual_seed(0)
    dl = DataLoader(torch.utils.data.TensorDataset(X, X.sum(1, keepdim=True)), bs=4, shuffle=True, seed=1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1))
    learn = Loop((dl, dl.new(shuffle=False)), model, nn.MSELoss(), cbs=cbs)
    learn.logger = lambda row: None
    return learn


class Clock:
    """A second a look."""

    def __init__(self):
        self.now = 0

    def monotonic(self):
        self.now += 1
        return self.now


@pytest.mark.parametrize(("after", "batches"), [("batch", 7), ("epoch", 30)])
def test_a_fit_ends_when_its_time_is_over(monkeypatch, capsys, after, batches):
    monkeypatch.setattr("layered.callback.limits.time", Clock())
    learn = learner(TimeLimit(f"{7 if after == 'batch' else 3} sec", after))
    learn.fit(5)
    assert learn.train_iter == batches
    assert "limit" in capsys.readouterr().out


@pytest.mark.parametrize("after", ["batch", "epoch"])
def test_a_fit_that_time_ended_goes_on_from_there_bit_for_bit(monkeypatch, tmp_path, after):
    whole = learner()
    fit_one_cycle(whole, 3)
    monkeypatch.setattr("layered.callback.limits.time", Clock())
    for seconds in (13, 100):
        learn = learner(TimeLimit(f"{seconds if after == 'batch' else seconds // 12} sec", after))
        fit_one_cycle(learn, 3, checkpoint=tmp_path, resume="auto")
        assert (learn.train_iter == 30) == (seconds == 100)
    assert [r[:2] for r in learn.recorder.values] == [r[:2] for r in whole.recorder.values]
    for ours, theirs in zip(learn.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("limit", ["3 epochs", "soon", 30, "0 min"])
def test_what_is_no_time_is_refused(limit):
    with pytest.raises(BadValue):
        TimeLimit(limit)
    with pytest.raises(BadValue, match="after"):
        TimeLimit("1 h", "step")


@pytest.mark.parametrize(
    ("pct", "short_valid", "batches"),
    [(0.01, True, (1, 1)), (0.3, True, (3, 3)), (0.25, False, (3, 10)), (1, True, (10, 10))],
)
def test_short_epochs_take_a_fraction_of_the_batches(pct, short_valid, batches):
    counts = {True: 0, False: 0}
    learn = learner(ShortEpochCallback(pct, short_valid))

    @learn.on("after_batch")
    def count(learn):
        counts[learn.training] += 1

    learn.fit(2)
    assert (counts[True], counts[False]) == (2 * batches[0], 2 * batches[1])
    counts[False] = 0
    learn.validate()
    assert counts[False] == 10
    assert lr_find(learn, num_it=12, show_plot=False).valley > 0
    with pytest.raises(OutOfRange):
        ShortEpochCallback(0)


def test_a_search_stops_a_trial_by_the_metrics_of_its_epochs(capsys):
    told = []

    def is_bad(metrics):
        told.append(metrics)
        return metrics["epoch"] == 1

    learn = learner()
    learn.metrics = lambda pred, targ: (pred - targ).abs().mean()
    learn.fit(5, cbs=StopWhen(is_bad))
    assert [list(metrics) for metrics in told] == [["epoch", "train_loss", "valid_loss", "<lambda>"]] * 2
    assert [list(metrics.values())[1:] for metrics in told] == learn.recorder.values
    assert "after epoch 1" in capsys.readouterr().out

    class Pruned(Exception):
        pass

    def prune(metrics):
        raise Pruned

    with pytest.raises(Pruned):
        learn.fit(2, cbs=StopWhen(prune))


def test_many_short_trials_leave_nothing_behind():
    import gc
    import weakref

    models = []
    for _ in range(20):
        learn = learner(StopWhen(lambda metrics: True))
        learn.fit(3)
        models.append(weakref.ref(learn.model))
        del learn
    gc.collect()
    assert [ref() for ref in models] == [None] * 20
