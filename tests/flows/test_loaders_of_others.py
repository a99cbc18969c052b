"""A plain torch loader stands wherever ours does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.data import DataLoader, DataLoaders
from layered.training import Learner

X = torch.linspace(-1, 1, 40)[:, None]
ROWS = TensorDataset(X, 3 * X)


@pytest.mark.parametrize("kind", [TorchDataLoader, DataLoader])
def test_it_is_trained_on_validated_and_predicted(kind):
    torch.manual_seed(0)
    train, valid = kind(ROWS, batch_size=8, shuffle=True), kind(ROWS, batch_size=16)
    dls = DataLoaders(train, valid)
    assert [b.shape for b in dls.one_batch()] == [(8, 1), (8, 1)]
    dls.to("cpu")
    learn = Learner(dls, nn.Linear(1, 1), loss_func=nn.functional.mse_loss, lr=0.1)
    before = learn.validate()[0]
    with learn.no_bar(), learn.no_logging():
        learn.fit(3)
    assert learn.validate()[0] < before
    preds, targets = learn.get_preds()
    assert torch.equal(targets, 3 * X)
    torch.testing.assert_close(preds, learn.model(X).detach())
    again, targets = learn.get_preds(dl=kind(ROWS, batch_size=7))
    torch.testing.assert_close(again, preds)


def test_arrays_are_trained_on_in_a_few_lines():
    dls = DataLoaders.from_arrays(X.double().numpy(), 3 * X.numpy(), seed=1, bs=8)
    learn = Learner(dls, nn.Linear(1, 1), loss_func=nn.functional.mse_loss, lr=0.1)
    with learn.no_bar(), learn.no_logging():
        learn.fit(3)
    assert learn.get_preds()[0].shape == (8, 1)
    assert learn.predict(X[0])[2].shape == (1,)
