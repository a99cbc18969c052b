"""A loop holds its callbacks: they are found by class, and neither keeps the other alive."""

import gc
import weakref

import pytest
import torch
from torch import nn

from layered.foundation import CannotTrain
from layered.loop import Callback, Checkpoint, Loop, Recorder, ResumedFit
from layered.testing.tiny import synth_learner
from layered.training import Learner


def loop(cbs=None):
    torch.manual_seed(0)
    batches = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(6)]
    learn = Loop((batches, None), nn.Linear(2, 1), loss_func=nn.MSELoss(), cbs=cbs)
    learn.logger = lambda row: None
    return learn


def test_a_callback_is_found_by_its_class():
    learn = loop()
    assert learn.callbacks[Recorder] is learn.recorder
    assert learn.callbacks.get(Checkpoint) is None
    assert list(learn.callbacks) == learn.cbs
    assert len(learn.callbacks) == 3
    with pytest.raises(CannotTrain, match="has no Checkpoint"):
        learn.callbacks[Checkpoint]


def test_a_dropped_loop_is_freed_at_once():
    gc.collect()
    gc.disable()
    try:
        learn = loop()
        learn.fit(1)
        gone = weakref.ref(learn)
        del learn
        assert gone() is None
    finally:
        gc.enable()


def test_the_later_of_two_callbacks_of_a_name_is_the_attribute_until_it_is_removed():
    class Twin(Callback):
        pass

    first, second = Twin(), Twin()
    learn = loop([first, second])
    assert learn.twin is second
    learn.remove_cb(second)
    assert learn.twin is first
    learn.remove_cbs(Twin)
    assert not hasattr(learn, "twin")


def test_a_callback_hides_no_attribute_of_the_loop():
    class Model(Callback):
        pass

    learn = loop(Model)
    assert isinstance(learn.model, nn.Linear)
    learn.remove_cb(Model)
    assert isinstance(learn.model, nn.Linear)


def test_resuming_is_a_callback_for_the_length_of_the_fit(tmp_path):
    seen = []

    class Probe(Callback):
        is_first = True

        def after_batch(self):
            seen.append((self.learn.train_iter, self.learn.callbacks.get(ResumedFit) is not None))
            if self.is_first and self.learn.train_iter == 5:
                raise KeyboardInterrupt

    first, second = Probe(), Probe()
    second.is_first = False
    with pytest.raises(KeyboardInterrupt):
        loop().fit(2, cbs=first, checkpoint=Checkpoint(tmp_path, every="2 batches", background=False))
    learn = loop()
    learn.fit(2, cbs=second, checkpoint=Checkpoint(tmp_path, every="2 batches"), resume="auto")
    assert seen[:5] == [(i, False) for i in range(1, 6)]
    assert seen[5:] == [(i, True) for i in range(5, 13)]
    assert learn.callbacks.get(ResumedFit) is None


def test_completion_offers_the_verbs_and_leaves_out_the_machinery():
    learn = synth_learner()
    names = dir(learn)
    verbs = {name for name, value in vars(Learner).items() if callable(value) and not name.startswith("_")}
    assert verbs - {"default_callbacks", "logging_callbacks"} <= set(names)
    assert {"fit", "validate", "save", "load", "recorder", "loss", "pred", "xb", "dls", "model"} <= set(names)
    assert not {name for name in names if name.startswith("_")} | ({"begin_pass", "moves_to"} & set(names))
    assert len(names) <= 100
