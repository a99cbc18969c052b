"""The first thing that is not finite is named, before it can spoil the weights."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from layered.callback import MixedPrecision, StopOnNonFinite
from layered.callback.nonfinite import NonFinite
from layered.data import DataLoader
from layered.foundation import CannotTrain
from layered.loop import Callback, Loop
from layered.optim import SGD

NAN, INF = math.nan, math.inf


class Fault(nn.Module):
    """Passes on what it gets; at the third training batch it spoils the output, or only the gradient."""

    def __init__(self, output=None, gradient=None):
        super().__init__()
        self.output, self.gradient, self.count = output, gradient, 0

    def forward(self, x):
        self.count += self.training
        if self.count == 3 and self.output is not None:
            return x * self.output
        if self.count == 3 and self.gradient is not None:
            x = x.clone()
            x.register_hook(lambda grad: grad * self.gradient)
        return x


def data(bad_input=None, bad_target=None):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    y = x.sum(1, keepdim=True)
    if bad_input is not None:
        x[13, 1] = bad_input
    if bad_target is not None:
        y[13] = bad_target
    return TensorDataset(x, y)


def learner(dataset=None, fault=None, loss_func=None, cbs=StopOnNonFinite, shuffle=False) -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(fault or nn.Identity(), nn.Linear(4, 1)))
    loader = DataLoader(dataset or data(), bs=4, shuffle=shuffle)
    learn = Loop((loader, None), model, loss_func or nn.MSELoss(), SGD, lr=0.01, cbs=cbs)
    learn.logger = lambda row: None
    return learn


def spoilt_loss(pred, y):
    loss = nn.functional.mse_loss(pred, y)
    spoilt_loss.count += 1
    return loss * INF if spoilt_loss.count == 3 else loss


CASES = {
    "input 0": lambda: learner(data(bad_input=NAN)),
    "target 0": lambda: learner(data(bad_target=-INF)),
    "the output of layer '1.0' (Fault)": lambda: learner(fault=Fault(output=INF)),
    "the loss": lambda: learner(loss_func=spoilt_loss),
    "the gradient of '0.weight'": lambda: learner(fault=Fault(gradient=NAN)),
}


@pytest.mark.parametrize("culprit", CASES)
def test_the_first_culprit_is_named_with_its_batch_and_items(culprit):
    spoilt_loss.count = 0
    weights = []
    learn = CASES[culprit]()
    learn.add_cb(Callback(before_batch=lambda cb: weights.append(copy.deepcopy(dict(cb.model.state_dict())))))
    with pytest.raises(NonFinite) as caught:
        learn.fit(2)
    batch, items = (3, [13]) if culprit[:3] in ("inp", "tar") else (2, [8, 9, 10, 11])
    assert caught.value.problem == f"{culprit} is not finite, in training batch {batch} of epoch 0 (step {batch})"
    assert caught.value.got == f"items {items} of the data set"
    assert isinstance(caught.value, (CannotTrain, FloatingPointError))
    assert_close(dict(learn.model.state_dict()), weights[batch])
    assert not any(m._forward_hooks for m in learn.model.modules())


def test_items_are_named_in_a_shuffled_epoch_too():
    learn = learner(data(bad_input=NAN), shuffle=True)
    with pytest.raises(NonFinite, match=r"items \[13\]"):
        learn.fit(3)


def test_a_sound_fit_is_not_changed():
    ours, plain = learner(), learner(cbs=None)
    for learn in (ours, plain):
        learn.fit(2)
    assert_close(ours.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)
    assert not any(m._forward_hooks for m in ours.model.modules())


def test_other_loaders_have_no_names_for_their_items():
    learn = learner()
    learn.dls.train = [data(bad_input=NAN)[:]]
    with pytest.raises(NonFinite) as caught:
        learn.fit(1)
    assert caught.value.got is None


def test_batches_between_are_not_looked_at():
    learn = learner(fault=Fault(output=NAN), cbs=StopOnNonFinite(every=3))
    with pytest.raises(NonFinite, match="training batch 3 "):
        learn.fit(1)


def test_overflowing_gradients_are_left_to_the_scaler():
    learn = learner(fault=Fault(gradient=INF), cbs=[StopOnNonFinite, MixedPrecision(init_scale=4.0)])
    learn.fit(1)
    assert learn.mixed_precision.skipped == 1


def test_validation_is_not_looked_at():
    learn = learner()
    learn.dls.valid = [(torch.full((2, 3), NAN), torch.zeros(2, 1))]
    learn.fit(1)
    assert learn.validate()
