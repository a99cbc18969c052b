"""Threads that share a learner: a pass is right from any thread, or refused while another one trains."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.basics import Callback, DataLoader, DataLoaders, Learner
from layered.foundation import CannotTrain
from layered.loop.turns import Turns

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def make(cbs=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    rows = [(x, x.sum()[None]) for x in X]
    dls = DataLoaders(DataLoader(rows, bs=8, shuffle=True, seed=1), DataLoader(rows, bs=8))
    return Learner(dls, net, nn.MSELoss(), lr=0.1, cbs=cbs, seed=1)


def test_get_preds_from_many_threads_is_what_one_thread_gets():
    learn = make()
    loaders = [DataLoader([(x, x.sum()[None]) for x in X[i : i + 20]], bs=3) for i in range(8)]
    alone = [learn.get_preds(dl=dl)[0] for dl in loaders]
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda dl: learn.get_preds(dl=dl)[0], loaders))
        for one, other in zip(alone, together, strict=True):
            assert_close(one, other, rtol=0, atol=0)


class Paused(Callback):
    """Stops a fit in its second batch until `go` is set."""

    transient = ("reached", "go")

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def before_batch(self):
        if self.learn.training and self.learn.train_iter == 1:
            self.reached.set()
            assert self.go.wait(60)


def test_a_fit_refuses_passes_of_other_threads_and_ends_like_its_twin():
    twin = make()
    twin.fit(2)
    pause = Paused()
    learn = make(cbs=pause)
    fit = threading.Thread(target=learn.fit, args=(2,))
    fit.start()
    assert pause.reached.wait(60)
    asked = [learn.get_preds, learn.validate, lambda: learn.fit(1), lambda: next(learn.stream_preds())]
    for ask in asked:
        with pytest.raises(CannotTrain, match="training in another thread"):
            ask()
    with pytest.raises(CannotTrain, match="training in another thread"), learn.turns.of_item():
        pass
    pause.go.set()
    fit.join()
    for one, other in zip(twin.model.state_dict().values(), learn.model.state_dict().values(), strict=True):
        assert_close(one, other, rtol=0, atol=0)
    assert len(learn.get_preds()[0]) == len(X)


def test_a_callback_may_predict_within_its_own_fit():
    learn = make()
    learn.on("after_epoch", lambda learn: found.append(learn.get_preds()[0].shape))
    found = []
    learn.fit(2)
    assert found == [(64, 1), (64, 1)]


def test_a_fit_waits_for_items_that_are_being_predicted():
    turns, order = Turns(), []

    def fit():
        with turns.of_pass(fits=True):
            order.append("fit")

    with turns.of_item():
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join(0.2)
        order.append("item")
    thread.join()
    assert order == ["item", "fit"]


def test_turns_are_given_back_after_a_failure_and_not_copied():
    turns = Turns()
    with pytest.raises(KeyError), turns.of_pass(fits=True), turns.of_pass():
        raise KeyError
    assert (turns.owner, turns.depth, turns.fits, turns.guests) == (None, 0, False, 0)
    with turns.of_pass(fits=True):
        for other in (copy.deepcopy(turns), pickle.loads(pickle.dumps(turns))):
            assert (other.owner, other.depth, other.fits) == (None, 0, False)
