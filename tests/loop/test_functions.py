"""Plain functions hear events: how often, how long, with which arguments, and until they are removed."""

from functools import partial

import pytest
import torch
from torch import nn

from layered.callback import lr_find
from layered.foundation import BadArgument, BadEvent, BadValue
from layered.loop import Loop, declare_event


def learner(count=5, **kwargs) -> Loop:
    batches = [(torch.ones(2, 1), torch.ones(2, 1))] * count
    learn = Loop((batches, batches[:2]), nn.Linear(1, 1), nn.MSELoss(), **kwargs)
    learn.logger = lambda row: None
    return learn


@pytest.mark.parametrize(
    ("event", "when", "expected"),
    [
        ("before_batch", {"every": 3}, [2, 5, 6, 9]),  # every third time that it is heard, validation included
        ("after_batch", {"every": "4 batches"}, [4, 8]),
        ("after_epoch", {"every": "2 epochs"}, [10]),
        ("after_step", {"before": 3}, [0, 1, 2]),
        ("after_step", {"after": 8}, [8, 9]),
        ("after_batch", {"after": "6 batches", "before": "9 batches"}, [6, 7, 8]),
        ("before_epoch", {"after": "1 epoch"}, [5]),
        ("after_step", {"every": 2, "after": 4, "once": True}, [5]),
        ("after_step", {"when": lambda learn: learn.iter == 4}, [4, 9]),
        ("before_fit", {}, [0]),
    ],
)
def test_when_a_function_is_called(event, when, expected):
    learn, heard = learner(), []
    learn.on(event, lambda learn: heard.append(learn.train_iter), **when)
    learn.fit(2)
    assert heard == expected


def test_by_the_clock(monkeypatch):
    now, heard = 0.0, []
    monkeypatch.setattr("time.monotonic", lambda: now)
    learn = learner()

    @learn.on("before_step")
    def time_goes_on():
        nonlocal now
        now += 4.0

    learn.on("after_step", lambda: heard.append(now), every="10s", order=1)
    learn.fit(1)
    assert heard == [12.0, 20.0]


def test_functions_take_nothing_the_learner_or_arguments_too():
    learn, calls = learner(1), []

    def record(*args, **kwargs):
        calls.append((args, kwargs))

    def wants(learn, a, b=0):
        record(learn, a, b)

    learn.on("after_fit", lambda: record())
    learn.on("after_fit", lambda x=3: record(x))
    learn.on("after_fit", lambda learn: record(learn))
    learn.on("after_fit", wants, args=[1], b=2)
    learn.on("after_fit", partial(wants, b=5), args=(4,))
    learn.on("after_fit", lambda word: record(word), args=("no learner",))
    learn.fit(1)
    expected = [(), (3,), (learn,), (learn, 1, 2), (learn, 4, 5), ("no learner",)]
    assert [args for args, _ in calls] == expected


def test_arguments_that_do_not_fit_are_refused_before_anything_changes():
    learn = learner()
    before = list(learn.cbs)
    with pytest.raises(BadArgument, match="did you mean 'every'"):
        learn.on("after_batch", evry=3)(lambda learn: None)
    with pytest.raises(BadArgument, match="not a function"):
        learn.on("after_batch", 3)
    with pytest.raises(BadArgument, match="cannot be called"):
        learn.on("after_batch", lambda a, b, c: None)
    with pytest.raises(BadValue, match="500 batches"):
        learn.on("after_batch", every="now and then")
    with pytest.raises(BadEvent, match="after_batch"):
        learn.on("after_bach")
    assert learn.cbs == before


def test_looking_for_a_rate_counts_for_nothing():
    learn, heard = learner(), []
    learn.on("after_step", lambda learn: heard.append(learn.train_iter), every=4)
    learn.on("after_batch", lambda learn: heard.append(-learn.train_iter), every="3 batches")
    lr_find(learn, num_it=10, show_plot=False)
    heard.clear()
    learn.fit(1)
    assert heard == [-3, 3]


class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1


@pytest.mark.parametrize("how", ["remove", "remove_cb", "remove_cb of the function", "with"])
def test_a_function_listens_until_it_is_removed(how):
    learn, counter = learner(2), Counter()
    handle = learn.on("after_step", counter.add)
    if how == "with":
        with handle:
            learn.fit(1)
    else:
        learn.fit(1)
        if how == "remove":
            handle.remove()
            handle.remove()
        else:
            learn.remove_cb(handle if how == "remove_cb" else counter.add)
    learn.fit(1)
    assert counter.count == 2
    assert handle not in learn.cbs


def test_events_of_ones_own_are_heard_every_so_often():
    declare_event("after_round")
    learn, heard = learner(4), []
    learn.on("after_step", lambda learn: learn.emit("after_round"))
    learn.on("after_round", lambda learn: heard.append(learn.train_iter), every=2)
    learn.fit(1)
    assert heard == [1, 3]


@pytest.mark.parametrize("name", ["after fit", "", 3])
def test_an_event_has_a_name_that_a_method_can_have(name):
    with pytest.raises(BadEvent, match="name"):
        declare_event(name)


def test_functions_at_the_end_of_an_epoch_see_its_values():
    learn, seen = learner(), []
    learn.on("after_epoch", lambda learn: seen.append(learn.recorder.values[-1][1]))
    learn.on("after_train", lambda learn: seen.append(len(learn.recorder.losses)))
    learn.on("after_epoch", lambda learn: seen.append(len(learn.recorder.values)), order=0)
    learn.fit(2)
    losses = [row[1] for row in learn.recorder.values]
    assert seen == [5, 0, losses[0], 10, 1, losses[1]]


def test_a_search_prunes_a_trial_by_the_usual_line():
    class Pruned(Exception):
        pass

    class Trial:
        def __init__(self):
            self.reported = []

        def report(self, value, step):
            self.reported.append((step, value))

        def should_prune(self):
            return len(self.reported) == 2

    learn, trial = learner(), Trial()

    @learn.on("after_epoch")
    def prune(learn):
        trial.report(learn.recorder.values[-1][1], step=learn.epoch)
        if trial.should_prune():
            raise Pruned

    with pytest.raises(Pruned):
        learn.fit(5)
    assert trial.reported == [(i, row[1]) for i, row in enumerate(learn.recorder.values)]


def test_a_fit_is_resumed_though_a_function_to_be_called_once_has_been(tmp_path):
    def fresh(calls, crash_at=None):
        def crash():
            if learn.epoch == crash_at:
                raise KeyboardInterrupt

        learn = learner()
        learn.on("after_epoch", lambda: calls.append(("once", learn.epoch)), once=True)
        learn.on("after_epoch", lambda: calls.append(("third", learn.epoch)), every=3)
        learn.on("before_train", crash)
        return learn

    calls = []
    with pytest.raises(KeyboardInterrupt):
        fresh(calls, crash_at=2).fit(4, checkpoint=tmp_path)
    fresh(calls).fit(4, checkpoint=tmp_path, resume="auto")
    assert calls == [("once", 0), ("third", 2)]
