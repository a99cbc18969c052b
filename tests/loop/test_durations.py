"""Durations are read from what people write, and what is due is due once, also after a resumed start."""

import pytest

from layered.foundation import BadValue
from layered.loop import Duration, Every
from layered.loop.durations import Moment
from layered.loop.state import State


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("500 batches", 500, "batches"),
        ("1 batch", 1, "batches"),
        ("2 Epochs", 2, "epochs"),
        ("10s", 10, "seconds"),
        ("30 min", 1800, "seconds"),
        ("1.5 h", 5400, "seconds"),
        (7, 7, "times"),
    ],
)
def test_what_people_write_is_read(text, count, unit):
    assert (Duration.of(text).count, Duration.of(text).unit) == (count, unit)
    assert Duration.of(Duration.of(text)) == Duration.of(text)


@pytest.mark.parametrize(
    "nonsense", ["", "often", "0 epochs", "-1 batch", "1.5 epochs", "3 fortnights", 0, -2, True, 2.5, None]
)
def test_nonsense_is_answered_with_examples(nonsense):
    with pytest.raises(BadValue, match=r"(?s)invalid duration.*500 batches.*30 min"):
        Duration.of(nonsense)


def due_at(every, field, values, state=None):
    state, every = state or State(), Every(every)
    due = []
    for value in values:
        setattr(state, field, value)
        if every.due(state):
            due.append(value)
    return due


def test_batches_and_epochs_are_due_when_crossed_and_once_each():
    assert due_at("4 batches", "train_iter", [1, 2, 4, 4, 4, 9, 10, 16]) == [4, 9, 16]
    assert due_at("2 epochs", "epochs_done", [0, 1, 2, 2, 3, 4]) == [2, 4]


def test_a_fit_that_was_resumed_is_due_where_the_uninterrupted_one_was():
    state = State()
    state.fit_began = Moment(batches=10, epochs=1)
    assert due_at("4 batches", "train_iter", [11, 12, 13, 16], state) == [12, 16]


def test_the_next_fit_counts_anew():
    state, every = State(), Every("3 batches")
    for _ in range(2):
        state.fit_began, due = Moment(seconds=1.0), []
        for state.train_iter in range(1, 6):
            due.append(every.due(state))
        assert due == [False, False, True, False, False]


def test_seconds_are_those_of_the_clock(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    state, every = State(), Every("10s")
    state.fit_began = Moment(seconds=100.0)
    due = []
    for now in (101.0, 110.0, 111.0, 135.0, 139.0, 140.0):
        due.append(every.due(state))
    assert due == [False, True, False, True, False, True]
