"""A callback cannot be misspelt, reads the learner, and is told when it hides a field of it."""

import pickle

import pytest
import torch
from torch import nn

from layered.foundation import BadEvent, CannotTrain
from layered.loop import Callback, Loop, callbacks_of


def learner(cbs=None) -> Loop:
    return Loop(([(torch.ones(2, 3), torch.ones(2, 1))], None), nn.Linear(3, 1), nn.MSELoss(), cbs=cbs)


@pytest.mark.parametrize(
    ("wrong", "right"), [("after_bacth", "after_batch"), ("befor_fit", "before_fit"), ("on_errors", "on_error")]
)
def test_a_method_that_nearly_spells_an_event_is_refused_with_the_event_meant(wrong, right):
    with pytest.raises(BadEvent, match=f"Typo.{wrong}(.|\n)*'{right}'"):
        type("Typo", (Callback,), {wrong: lambda self: None})


def test_other_methods_are_nobodys_business():
    class Fine(Callback):
        def on_improvement(self): ...
        def update(self): ...
        def _after_bacth(self): ...


def test_functions_of_the_callback_may_stand_in_for_methods():
    seen = []
    cb = Callback(after_batch=lambda cb: seen.append(cb.train_iter))
    learner(cb).fit(2)
    assert seen == [1, 2]
    with pytest.raises(BadEvent, match="after_batch"):
        Callback(after_bach=print)


def test_reads_fall_through_to_the_learner_and_own_attributes_win():
    class Own(Callback):
        lr = 5

    cb = Own()
    learn = learner(cb)
    assert cb.model is learn.model
    assert cb.lr == 5
    with pytest.raises(AttributeError, match="'nothing'"):
        cb.nothing
    with pytest.raises(AttributeError, match="'model'"):
        Callback().model


def test_a_write_that_hides_a_field_of_the_learner_is_told():
    class Shadow(Callback):
        def after_pred(self):
            self.pred = self.pred * 2

    with pytest.warns(UserWarning, match=r"self\.learn\.pred"):
        learner(Shadow).fit(1)


def test_a_callback_without_learner_says_so():
    with pytest.raises(CannotTrain, match="belongs to no learner"):
        Callback().learn


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SaveModelCallback", "save_model"),
        ("CSVLogger", "csv_logger"),
        ("Callback", "callback"),
        ("LRFinder", "lr_finder"),
    ],
)
def test_the_name_is_the_class_in_snake_case(name, expected):
    assert type(name, (Callback,), {})().name == expected


def test_what_cbs_accepts():
    class A(Callback): ...

    a = A()
    assert callbacks_of(None) == []
    assert callbacks_of([a, A, (Callback(),)])[0] is a
    assert len(callbacks_of([a, A, (Callback(),)])) == 3
    with pytest.raises(CannotTrain, match="not a callback"):
        callbacks_of(3)


def test_a_callback_pickles_without_its_learner():
    cb = Callback()
    learner(cb)
    cb.note = 3
    again = pickle.loads(pickle.dumps(cb))
    assert again.note == 3
    with pytest.raises(CannotTrain):
        again.learn


def test_a_callback_never_replaces_a_field_of_its_learner():
    class Model(Callback): ...

    learn = learner(Model)
    assert isinstance(learn.model, nn.Linear)
    learn.remove_cb(Model)
    assert isinstance(learn.model, nn.Linear)


def test_a_callback_may_hear_all_events_and_pass_them_on():
    class All(Callback):
        heard = ()

        def __call__(self, event_name):
            self.heard = (*self.heard, event_name)
            super().__call__(event_name)

        def after_fit(self):
            self.heard = (*self.heard, "its own")

    class Some(All):
        def __call__(self, event_name):
            if event_name.startswith("after"):
                super().__call__(event_name)

    for kind, first in ((All, "after_create"), (Some, "after_create")):
        cb = kind()
        batches = [(torch.ones(2, 1), torch.ones(2, 1))]
        learn = Loop((batches, batches), nn.Linear(1, 1), nn.MSELoss(), cbs=cb)
        learn.logger = lambda row: None
        learn.fit(1)
        assert cb.heard[0] == first
        assert cb.heard[cb.heard.index("after_fit") + 1] == "its own"
        assert ("before_epoch" in cb.heard) == (kind is All)
    cb = All(after_epoch=lambda cb: seen.append(cb.epoch))
    seen = []
    learn = Loop((batches, None), nn.Linear(1, 1), nn.MSELoss(), cbs=cb)
    learn.logger = lambda row: None
    learn.fit(1)
    assert (seen, "after_epoch" in cb.heard) == ([0], True)


def test_a_name_is_no_callback():
    with pytest.raises(CannotTrain, match="not a callback"):
        callbacks_of("early")
