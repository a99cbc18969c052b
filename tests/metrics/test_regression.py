import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from layered.metrics.metric import mk_metric
from layered.metrics.regression import R2Score, exp_rmspe, mae, mse, msle, rmse

ORACLES = {
    "mse": (mse, sk.mean_squared_error),
    "mae": (mae, sk.mean_absolute_error),
    "msle": (msle, sk.mean_squared_log_error),
    "rmse": (rmse, sk.root_mean_squared_error),
    "r2_score": (R2Score(), sk.r2_score),
    "exp_rmspe": (exp_rmspe, lambda t, p: np.sqrt(np.mean(((np.exp(t) - np.exp(p)) / np.exp(t)) ** 2))),
}


@pytest.mark.parametrize("size", [1, 7, 64, 100])
@pytest.mark.parametrize("name", ORACLES)
def test_values_are_sklearns_for_any_batch_size(name, size):
    ours, theirs = ORACLES[name]
    gen = torch.Generator().manual_seed(0)
    targ = torch.rand(100, generator=gen)
    pred = targ + torch.rand(100, generator=gen)
    metric = mk_metric(ours).clone()
    for p, t in zip(pred[:, None].split(size), targ.split(size), strict=True):
        metric.update(p, t)
    assert metric.name == name
    assert metric.value == pytest.approx(theirs(targ.numpy(), pred.numpy()), rel=1e-6)
    assert float(ours(pred, targ)) == pytest.approx(metric.value, rel=1e-6)


def test_r2_keeps_its_precision_far_from_zero():
    gen = torch.Generator().manual_seed(0)
    targ = torch.rand(1000, generator=gen).double() + 1e8
    pred = targ + torch.rand(1000, generator=gen)
    one, other = R2Score(), R2Score()
    one.update(pred[:300], targ[:300])
    other.update(pred[300:], targ[300:])
    one.merge(other)
    assert one.value == pytest.approx(sk.r2_score(targ.numpy(), pred.numpy()), rel=1e-6)
    one.merge(R2Score())
    assert one.value == pytest.approx(sk.r2_score(targ.numpy(), pred.numpy()), rel=1e-6)


@pytest.mark.parametrize("pred", [[2.0, 2.0], [2.0, 3.0]])
def test_r2_of_constant_targets_is_sklearns(pred):
    targ = torch.tensor([2.0, 2.0])
    assert R2Score()(torch.tensor(pred), targ) == sk.r2_score(targ, pred)


def test_whole_numbers_are_fine_as_targets():
    assert mse(torch.tensor([1.0, 2.0]), torch.tensor([1, 4])) == 2
    assert rmse(torch.tensor([1.0, 2.0]), torch.tensor([1, 4])) == pytest.approx(2**0.5)
