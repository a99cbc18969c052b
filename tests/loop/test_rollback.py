"""An interrupt at any line of a fit or a pass leaves the learner as it was."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from striking import state_of, struck
from torch import nn

from layered.basics import Callback, DataLoader, DataLoaders, GradientAccumulation, Learner, MCDropoutCallback, accuracy
from layered.loop.rollback import interrupts_held

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def learn(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    rows = [(x, int(x.sum() > 0)) for x in X]
    dls = DataLoaders(DataLoader(rows, bs=8, shuffle=True, seed=1), DataLoader(rows, bs=8))
    return Learner(dls, net, nn.CrossEntropyLoss(), lr=0.1, metrics=accuracy, seed=1, path=tmp_path)


VERBS = {
    "fit": lambda learn: learn.fit(1, cbs=GradientAccumulation(16), checkpoint=learn.path / "run"),
    "get_preds": lambda learn: learn.get_preds(with_loss=True, cbs=MCDropoutCallback()),
    "validate": lambda learn: learn.validate(),
}


@pytest.mark.parametrize("name", VERBS)
def test_an_interrupt_at_any_line_leaves_the_learner_as_it_was(learn, name, capsys):
    learn.fit(1)
    total = struck(lambda: VERBS[name](learn), 0).lines
    at_its_end = [module.training for module in learn.model.modules()]
    for at in range(1, total, total // 40):
        learn.model.train()
        before = state_of(learn)
        struck(lambda: VERBS[name](learn), at)
        after = state_of(learn)
        if after["modes"] == at_its_end:  # struck when the verb was done
            before["modes"] = at_its_end
        assert after == before, f"Ctrl-C at line {at} of {total}"


def test_an_interrupt_at_any_line_of_the_turns_leaves_them_open_to_every_thread(learn):
    learn.fit(1)

    def item():
        with learn.turns.of_item():
            pass

    for verb in (learn.validate, item):
        for at in range(1, struck(verb, 0, "/loop/turns.py").lines + 1):
            struck(verb, at, "/loop/turns.py")
            assert (learn.turns.owner, learn.turns.depth, learn.turns.guests) == (None, 0, 0), f"Ctrl-C at line {at}"
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(learn.validate).result(30) is not None, f"Ctrl-C at line {at}"


@pytest.mark.parametrize("event", ["on_end", "after_fit", "after_validate", "before_fit", "after_pred"])
def test_a_callback_that_fails_late_leaves_the_learner_as_it_was(learn, event):
    def fail(self):
        raise KeyError(event)

    learn.fit(1)
    late = type("Late", (Callback,), {event: fail})()
    learn.model.train()
    before = state_of(learn)
    for verb in VERBS.values():
        with pytest.raises(KeyError, match=event), learn.added_cbs(late):
            verb(learn)
        assert state_of(learn) == before


def test_a_second_interrupt_does_not_wait():
    done = []

    def cleanup():
        with interrupts_held():
            for part in ("first", "second"):
                signal.raise_signal(signal.SIGINT)
                done.append(part)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            cleanup()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["first"]
