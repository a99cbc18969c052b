"""The recorder's columns and numbers are those of the formulas."""

import math
from functools import partial

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from layered.callback import ParamScheduler
from layered.data import DataLoaders
from layered.foundation import OutOfRange, UnknownName
from layered.loop import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelTrainException,
    CancelValidException,
    Checkpoint,
    Loop,
    Recorder,
    Resume,
    format_time,
)
from layered.metrics import AccumMetric, Metric
from layered.nn import CrossEntropyLossFlat, FocalLossFlat, LabelSmoothingCrossEntropyFlat, MSELossFlat, MultiTaskLoss


def batches(rows=(4, 4, 2)):
    g = torch.Generator().manual_seed(1)
    return [(x, x.sum(1, keepdim=True)) for x in (torch.randn(n, 2, generator=g) for n in rows)]


def mean_abs(pred, targ):
    return (pred - targ).abs().mean()


def learner(valid=True, recorder=None, cbs=None, metrics=mean_abs) -> Loop:
    torch.manual_seed(0)
    learn = Loop((batches(), batches() if valid else None), nn.Linear(2, 1), nn.MSELoss(), metrics=metrics, cbs=cbs)
    if recorder is not None:
        learn.remove_cb(Recorder).add_cb(recorder)
    learn.logger = lambda row: None
    return learn


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def after_loss(self):
        if self.training:
            self.seen.append(self.learn.loss.item())


def test_the_train_loss_is_smoothed_over_all_epochs_and_reset_by_each_fit():
    losses = Losses()
    learn = learner(cbs=losses)
    learn.fit(2)
    average, expected = 0.0, []
    for n, loss in enumerate(losses.seen, 1):
        average = 0.98 * average + 0.02 * loss
        expected.append(average / (1 - 0.98**n))
    assert learn.recorder.losses == pytest.approx(expected)
    assert [row[0] for row in learn.recorder.values] == pytest.approx([expected[2], expected[5]])
    assert learn.smooth_loss.item() == pytest.approx(expected[-1])
    learn.fit(1)
    assert len(learn.recorder.losses) == 3


def test_valid_loss_and_metrics_are_those_of_the_whole_set():
    learn = learner()
    learn.fit(1)
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    with torch.no_grad():
        pred = learn.model(x)
    assert learn.recorder.values[-1][1:] == pytest.approx(
        [nn.functional.mse_loss(pred, y).item(), mean_abs(pred, y).item()]
    )
    assert learn.validate() == pytest.approx(learn.recorder.values[-1][1:])
    assert learn.final_record == pytest.approx(learn.recorder.values[-1][1:])


@pytest.mark.parametrize(
    ("kwargs", "names"),
    [
        ({}, ["epoch", "train_loss", "valid_loss", "mean_abs", "time"]),
        ({"add_time": False}, ["epoch", "train_loss", "valid_loss", "mean_abs"]),
        ({"train_metrics": True}, ["epoch", "train_loss", "train_mean_abs", "valid_loss", "valid_mean_abs", "time"]),
        ({"train_metrics": True, "valid_metrics": False}, ["epoch", "train_loss", "mean_abs", "time"]),
    ],
)
def test_columns(kwargs, names):
    rows = []
    learn = learner(recorder=Recorder(**kwargs))
    learn.logger = rows.append
    learn.fit(2)
    assert learn.recorder.metric_names == names
    assert [len(row) for row in rows] == [len(names)] * 2
    assert [row[0] for row in rows] == [0, 1]
    assert all(isinstance(v, float) for row in learn.recorder.values for v in row)


def test_rates_and_batches_are_counted():
    learn = learner()
    learn.fit(2, lr=0.3)
    assert learn.recorder.lrs == [0.3] * 6
    assert learn.recorder.iters == [3, 6]


def test_without_validation_its_columns_are_none():
    learn = learner(valid=False)
    learn.fit(1)
    assert learn.recorder.values[0][1:] == [None, None]
    assert math.isfinite(learn.recorder.values[0][0])


def test_metrics_can_be_set_later_and_in_the_older_way():
    class Older(Metric):
        def reset(self):
            self.rows = 0

        def accumulate(self, learn):
            self.rows += len(learn.y)

        @property
        def value(self):
            return self.rows

    learn = learner()
    learn.metrics = [Older()]
    learn.fit(1)
    assert learn.recorder.metric_names[3] == "older"
    assert learn.recorder.values[0][2] == 10


def test_no_loss_is_read_from_the_device_batch_by_batch(monkeypatch):
    learn, reads = learner(valid=False), []
    for name in ("item", "tolist", "__float__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, original=original, name=name):
            reads.append(name)
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, spy)
    learn.fit(3)
    assert reads == ["tolist"] * 3


def test_validation_reads_the_device_as_often_for_many_batches_as_for_few(monkeypatch):
    counts = []
    for rows in ((4,), (4, 4, 2, 4, 4)):
        learn, reads = Loop((batches((4,)), batches(rows)), nn.Linear(2, 1), nn.MSELoss(), metrics=mean_abs), []
        learn.logger = lambda row: None
        with monkeypatch.context() as patched:
            for name in ("item", "tolist", "__float__", "__bool__", "cpu", "numpy"):
                original = getattr(torch.Tensor, name)
                spy = lambda self, *args, original=original, name=name: reads.append(name) or original(self, *args)
                patched.setattr(torch.Tensor, name, spy)
            learn.fit(1)
        counts.append(len(reads))
    assert counts[0] == counts[1]


def test_more_validation_batches_than_are_kept_on_the_device_count_alike(monkeypatch):
    whole = learner().validate()
    monkeypatch.setattr("layered.loop.recorder.SETTLE_EVERY", 2)
    assert learner().validate() == pytest.approx(whole)


def test_the_history_is_plain_data_and_a_frame():
    learn = learner()
    assert learn.recorder.history == []
    assert learn.recorder.to_frame().empty
    learn.fit(3, start_epoch=1)
    history, values = learn.recorder.history, learn.recorder.values
    assert [list(row) for row in history] == [["epoch", "train_loss", "valid_loss", "mean_abs"]] * 2
    assert [[row["epoch"], *list(row.values())[1:]] for row in history] == [[1, *values[0]], [2, *values[1]]]
    frame = learn.recorder.to_frame()
    assert frame.index.tolist() == [1, 2]
    assert frame["mean_abs"].tolist() == [row[2] for row in values]


def test_there_is_no_smooth_loss_before_the_first_batch():
    learn = learner()
    assert math.isnan(learn.recorder.smooth_loss)
    assert learn.smooth_loss.isnan()


@pytest.mark.parametrize("beta", [1.0, -0.1])
def test_a_smoothing_that_makes_no_sense_is_refused(beta):
    with pytest.raises(OutOfRange, match="beta"):
        Recorder(beta=beta)


@pytest.fixture
def agg():
    import matplotlib

    matplotlib.use("agg")
    yield
    matplotlib.pyplot.close("all")


def test_schedules_and_metrics_are_plotted_by_name(agg):
    learn = learner(recorder=Recorder(train_metrics=True))
    learn.fit(2, cbs=ParamScheduler({"lr": lambda pos: 0.1 - 0.05 * pos, "mom": lambda pos: 0.9}))
    learn.recorder.plot_sched()
    axes = plt.gcf().axes
    assert [ax.get_ylabel() for ax in axes] == ["lr", "mom"]
    assert axes[0].get_lines()[0].get_ydata() == pytest.approx(learn.recorder.hps["lr"])
    learn.recorder.plot_sched("lr", figsize=(3, 2))
    assert len(plt.gcf().axes) == 1
    with pytest.raises(UnknownName, match="mom"):
        learn.recorder.plot_sched("mon")
    learn.recorder.plot_metrics(figsize=(4, 2))
    axes = plt.gcf().axes
    assert [ax.get_ylabel() for ax in axes] == ["loss", "mean_abs"]
    train, valid = axes[1].get_lines()
    assert list(train.get_ydata()) == [row[1] for row in learn.recorder.values]
    assert list(valid.get_ydata()) == [row[3] for row in learn.recorder.values]


def test_an_empty_recorder_plots_nothing_and_does_not_fail(agg):
    recorder = learner().recorder
    recorder.plot_loss()
    recorder.plot_sched()
    recorder.plot_metrics()


def test_plots_show_what_was_recorded(agg):
    learn = learner()
    learn.fit(3)
    learn.recorder.plot_loss(skip_start=2, show_epochs=True)
    train, valid = plt.gca().get_lines()[:2]
    assert list(train.get_xdata()) == list(range(2, 9))
    assert list(valid.get_ydata()) == [row[1] for row in learn.recorder.values]


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (61.9, "01:01"), (3600, "1:00:00")])
def test_times_read_like_a_clock(seconds, text):
    assert format_time(seconds) == text


def test_a_recorder_for_one_fit_leaves_that_of_the_learner_in_place():
    learn = learner()
    own = learn.recorder
    passing = Recorder(train_metrics=True)
    learn.fit(1, cbs=passing)
    assert learn.recorder is own
    assert len(own.losses) == len(passing.losses) == 3
    assert "train_mean_abs" in passing.metric_names
    learn.fit(2)
    assert len(own.losses) == 6
    assert len(passing.losses) == 3


class Largest:
    """A metric that is not ours, and names no state."""

    def reset(self):
        self.largest, self.sums = -math.inf, []

    def update(self, pred, targ):
        self.largest = max(self.largest, pred.max().item())
        self.sums.append(pred.sum())

    def compute(self):
        return self.largest + sum(self.sums)


class Total(nn.Module):
    """The like, with what it has seen in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def reset(self):
        self.total.zero_()

    def update(self, pred, targ):
        self.total += pred.sum()

    def compute(self):
        return self.total


class Older(Metric):
    """The older way, with a function among its attributes."""

    def __init__(self):
        self.func = mean_abs
        self.reset()

    def reset(self):
        self.means = []

    def accumulate(self, learn):
        self.means.append(self.func(learn.pred, *learn.yb).item())

    @property
    def value(self):
        return sum(self.means)


class Stop(Callback):
    order = 2000

    def after_batch(self):
        if self.training and self.train_iter == 4:
            raise KeyboardInterrupt


def test_a_resumed_epoch_has_the_training_metrics_of_all_its_batches(tmp_path):
    def make(cbs=None):
        whole = AccumMetric(lambda pred, targ: (pred - targ).abs().max())
        return learner(
            recorder=Recorder(train_metrics=True), cbs=cbs, metrics=[mean_abs, whole, Largest(), Total(), Older()]
        )

    def fit(learn, folder, **kwargs):
        learn.fit(2, checkpoint=Checkpoint(tmp_path / folder, "2 batches"), **kwargs)
        return learn

    whole = fit(make(), "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(make(Stop), "cut")
    again = fit(make(), "cut", resume=Resume("auto", allow="arguments"))
    assert again.restored.where == "epoch 1, batch 1"
    assert again.recorder.values == whole.recorder.values


class OwnModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(weight=WEIGHT)

    def forward(self, pred, target):
        return self.inner(pred, target)


WEIGHT = torch.tensor([0.5, 1.0, 7.0])
OF_CLASSES = {
    "weights": CrossEntropyLossFlat(WEIGHT),
    "torch's weights": nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    "ignored": nn.CrossEntropyLoss(ignore_index=0),
    "both, smoothed": CrossEntropyLossFlat(WEIGHT, ignore_index=1, label_smoothing=0.2),
    "smoothing": LabelSmoothingCrossEntropyFlat(weight=WEIGHT),
    "focal": FocalLossFlat(weight=WEIGHT),
    "sum": nn.CrossEntropyLoss(WEIGHT, reduction="sum"),
    "partial": partial(nn.functional.cross_entropy, weight=WEIGHT, ignore_index=2),
    "partial sum": partial(nn.functional.cross_entropy, reduction="sum"),
    "nll": lambda pred, target: nn.functional.nll_loss(pred.log_softmax(-1), target, WEIGHT),
    "lambda": lambda pred, target: nn.functional.cross_entropy(pred, target, WEIGHT, ignore_index=2),
    "module": OwnModule(),
    "per sample": lambda pred, target: nn.functional.cross_entropy(pred, target, reduction="none").mean(),
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_the_validation_loss_does_not_depend_on_how_the_set_is_split(name):
    loss, g = OF_CLASSES[name], torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 2, generator=g), torch.randint(3, (24,), generator=g)
    model = nn.Linear(2, 3)
    with torch.no_grad():
        expected = loss(model(x), y).item()
    for sizes in ([24], [1] * 24, [7, 1, 9, 1, 1, 5]):
        loader = list(zip(x.split(sizes), y.split(sizes), strict=True))
        assert Loop((loader, loader), model, loss).validate() == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(WEIGHT, ignore_index=-1),
        CrossEntropyLossFlat(WEIGHT, axis=1, ignore_index=-1),
        lambda pred, target: nn.functional.cross_entropy(pred, target, ignore_index=-1),
    ],
)
def test_positions_of_sequences_of_different_lengths_count_alike(loss):
    g = torch.Generator().manual_seed(0)
    model = nn.Conv1d(2, 3, 1)
    loader = [
        (torch.randn(n, 2, length, generator=g), torch.randint(-1, 3, (n, length), generator=g))
        for n, length in ((4, 2), (1, 9), (3, 5))
    ]
    with torch.no_grad():
        pred = torch.cat([model(x).movedim(1, -1).flatten(0, 1) for x, _ in loader])
    expected = loss(pred, torch.cat([y.flatten() for _, y in loader])).item()
    assert Loop((loader, loader), model, loss).validate() == [pytest.approx(expected, rel=1e-5)]


def test_each_loss_of_several_targets_counts_by_itself():
    g = torch.Generator().manual_seed(0)
    x, y, z = torch.randn(12, 2, generator=g), torch.randint(3, (12,), generator=g), torch.randn(12, 1, generator=g)
    loss = MultiTaskLoss([nn.CrossEntropyLoss(WEIGHT, ignore_index=1), MSELossFlat()], [3, 1], [2.0, 0.5])
    model = nn.Linear(2, 4)
    with torch.no_grad():
        expected = loss(model(x), y, z).item()
    loader = list(zip(x.split([5, 1, 6]), y.split([5, 1, 6]), z.split([5, 1, 6]), strict=True))
    loaders = DataLoaders(loader, loader)
    loaders.n_inp = 1
    assert Loop(loaders, model, loss).validate() == [pytest.approx(expected, rel=1e-5)]


def test_a_validation_set_whose_targets_are_all_ignored_has_no_loss():
    loader = [(torch.randn(4, 2), torch.full((4,), -100))]
    assert Loop((loader, loader), nn.Linear(2, 3), nn.CrossEntropyLoss()).validate() == [None]


def test_a_loss_that_is_not_finite_is_left_out_of_later_ones():
    bad = {1: math.nan, 4: math.inf}
    losses = Losses()

    class Spoil(Callback):
        order = 40

        def after_loss(self):
            if self.training and self.train_iter in bad:
                self.learn.loss = self.learn.loss * 0 + bad[self.train_iter]

    learn = learner(cbs=[losses, Spoil()])
    learn.fit(2)
    average, count = 0.0, 0
    for i, (loss, smooth) in enumerate(zip(losses.seen, learn.recorder.losses, strict=True)):
        if i in bad:
            assert smooth != smooth or math.isinf(smooth)
            continue
        average, count = 0.98 * average + 0.02 * loss, count + 1
        assert smooth == pytest.approx(average / (1 - 0.98**count))
    assert all(math.isfinite(row[0]) for row in learn.recorder.values)


@pytest.mark.parametrize("order", [-50, 100])
@pytest.mark.parametrize("cancelled", ["before_validate", "before_batch"])
def test_a_cancelled_validation_repeats_no_numbers(order, cancelled):
    class Skip(Callback):
        def skip(self):
            if self.epoch and not self.training:
                raise CancelValidException

    Skip.order = order
    setattr(Skip, cancelled, Skip.skip)
    learn = learner(cbs=Skip())
    learn.fit(3)
    assert [[v is None for v in row] for row in learn.recorder.values] == [[False] * 3, *[[False, True, True]] * 2]


def test_a_metric_without_state_has_no_value_either_where_it_saw_nothing():
    class Old(Metric):
        def reset(self):
            self.total, self.count = 0.0, 0

        def accumulate(self, learn):
            self.total, self.count = self.total + 1.0, self.count + 1

        @property
        def value(self):
            return self.total / self.count

    def skip(cb):
        if cb.epoch == 1:
            raise CancelValidException

    learn = learner(metrics=Old(), cbs=Callback(before_validate=skip))
    learn.fit(2)
    assert [row[2] for row in learn.recorder.values] == [1.0, None]


def test_a_cancelled_training_pass_has_no_loss():
    def skip(cb):
        if cb.epoch == 1:
            raise CancelTrainException

    for order in (-50, 100):
        cb = Callback(before_train=skip)
        cb.order = order
        learn = learner(cbs=cb, recorder=Recorder(train_metrics=True))
        learn.fit(3)
        assert [row[0] is None for row in learn.recorder.values] == [False, True, False]
        assert [row[1] is None for row in learn.recorder.values] == [False, True, False]


def test_a_batch_that_is_cancelled_before_its_prediction_is_not_counted():
    def skip(cb):
        if cb.iter == 1:
            raise CancelBatchException

    learn, seen = learner(cbs=Callback(before_batch=skip)), []
    learn.on("after_loss", lambda: seen.append((learn.training, float(learn.loss), len(learn.yb[0]))))
    learn.fit(1)
    valid = [(loss, n) for training, loss, n in seen if not training]
    assert [n for _, n in valid] == [4, 2]
    assert learn.recorder.values[0][1] == pytest.approx(sum(loss * n for loss, n in valid) / 6)
    assert len(learn.recorder.losses) == len(learn.recorder.lrs) == 2
    pairs = [(learn.model(x), y) for i, (x, y) in enumerate(batches()) if i != 1]
    gaps = torch.cat([(p - y).abs() for p, y in pairs])
    assert learn.recorder.values[0][2] == pytest.approx(gaps.mean().item(), rel=1e-5)


@pytest.mark.parametrize("order", [-50, 100])
def test_epochs_that_are_cancelled_as_they_begin_make_no_row(order):
    def skip(cb):
        if cb.epoch in (0, 2):
            raise CancelEpochException

    cb = Callback(before_epoch=skip)
    cb.order = order
    learn = learner(cbs=cb)
    learn.fit(4)
    assert learn.recorder.epochs == [1, 3]
    assert len({tuple(row) for row in learn.recorder.values}) == 2


@pytest.mark.parametrize("name", ["epoch", "train_loss", "valid_loss", "time", "step"])
@pytest.mark.parametrize("train_metrics", [False, True])
def test_a_metric_hides_no_other_column(name, train_metrics):
    names = {name: mean_abs, "loss": mean_abs}
    plain, learn = learner(recorder=Recorder()), learner(recorder=Recorder(train_metrics=train_metrics), metrics=names)
    plain.fit(2)
    learn.fit(2)
    columns = learn.recorder.metric_names
    assert len(set(columns)) == len(columns)
    ours, theirs = learn.recorder.history[-1], plain.recorder.history[-1]
    assert [ours[n] for n in ("epoch", "train_loss", "valid_loss")] == [
        theirs[n] for n in ("epoch", "train_loss", "valid_loss")
    ]
    metric = f"valid_{name}" if train_metrics else f"{name}_2"
    assert ours[metric] == theirs["mean_abs"] == learn.recorder.to_frame()[metric].iloc[-1]
