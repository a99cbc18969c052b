import math

import pytest
import sklearn.metrics as sk
import torch

from layered.metrics import ExplainedVariance, PearsonCorrCoef, R2Score, SpearmanCorrCoef, mae, mk_metric, mse, rmse


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


def test_correlation_keeps_its_precision_far_from_zero():
    gen = torch.Generator().manual_seed(0)
    targ = torch.rand(1000, generator=gen).double() + 1e8
    pred = 3 * targ + torch.rand(1000, generator=gen)
    metric = PearsonCorrCoef()
    for batch in zip(pred.split(7), targ.split(7), strict=True):
        metric.update(*batch)
    centred = [x - x.mean() for x in (pred, targ)]
    wanted = (centred[0] @ centred[1]) / (centred[0].norm() * centred[1].norm())
    assert metric.value == pytest.approx(wanted.item(), abs=1e-6)


def test_what_is_undefined_is_nan():
    one, constant = torch.ones(1), torch.ones(3)
    for metric in (R2Score(), ExplainedVariance(), PearsonCorrCoef(), SpearmanCorrCoef()):
        assert math.isnan(metric(one, one)), metric
    assert math.isnan(PearsonCorrCoef()(constant, torch.arange(3)))
    assert math.isnan(mse(torch.tensor([1.0, torch.nan]), constant[:2]))


def test_errors_are_summed_in_full_precision():
    pred, targ = torch.full((5000,), 300.0).half(), torch.zeros(5000).half()
    for metric, wanted in ((mse, 90000), (mae, 300), (rmse, 300)):
        assert mk_metric(metric)(pred, targ) == pytest.approx(wanted, rel=1e-6)


def test_losses_made_of_them_can_be_differentiated():
    pred = torch.tensor([1.0, 3.0], requires_grad=True)
    mse(pred, torch.zeros(2)).backward()
    assert pred.grad.tolist() == [1.0, 3.0]
    metric = mk_metric(mse)
    metric.update(pred, torch.zeros(2))
    assert not metric.total.requires_grad
