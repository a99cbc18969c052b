import pytest
import sklearn.metrics as sk
import torch
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.metrics import AccumMetric, RocAuc, SpearmanCorrCoef, accuracy, optim_metric, skm_to_fastai
from layered.metrics.accumulated import SETTLE_EVERY, ActivationType


def run(metric, batches):
    metric.reset()
    for batch in batches:
        metric.update(*batch)
    return metric.value


def test_a_function_of_the_whole_pass_does_not_depend_on_the_batches(batches, whole):
    def worst(pred, targ):
        return (pred - targ).abs().max()

    metric = AccumMetric(worst, dim_argmax=-1)
    assert run(metric, batches) == metric(*whole) == 1
    assert metric.name == "worst"


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        (ActivationType.No, [0.0, 2.0]),
        (ActivationType.Sigmoid, [0.5, 0.880797]),
        (ActivationType.Softmax, [0.119203, 0.880797]),
        (ActivationType.BinarySoftmax, [0.880797]),
    ],
)
def test_activations_are_applied_first(activation, wanted):
    seen = []
    metric = AccumMetric(lambda p, t: seen.append(p) or 0.0, activation=activation, flatten=False)
    metric(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))
    assert_close(seen[0].flatten(), torch.tensor(wanted))


def test_arguments_reach_the_function_as_asked():
    def f(targ, pred, scale):
        assert type(pred).__module__ == type(targ).__module__ == "numpy"
        return float((pred.astype(float) * scale + targ).sum())

    metric = AccumMetric(f, thresh=0.5, to_np=True, invert_arg=True, scale=10, name="f")
    assert metric(torch.tensor([0.2, 0.5, 0.9]), torch.tensor([1, 2, 3])) == 26


def test_an_unknown_activation_is_refused():
    with pytest.raises(BadValue, match="relu"):
        AccumMetric(accuracy, activation="relu")


def test_long_passes_are_put_together_now_and_then():
    pred, targ = torch.rand(3 * SETTLE_EVERY, 1), torch.rand(3 * SETTLE_EVERY)
    metric = AccumMetric(lambda p, t: (p * t).sum())
    for p, t in zip(pred, targ.split(1), strict=True):
        metric.update(p, t)
        assert len(metric.preds) < SETTLE_EVERY
    assert metric.value == pytest.approx((pred[:, 0] * targ).sum().item(), rel=1e-5)


def test_what_is_kept_does_not_change_with_the_batch():
    pred, targ = torch.ones(3), torch.ones(3)
    metric = AccumMetric(lambda p, t: (p + t).sum())
    metric.update(pred, targ)
    pred.zero_()
    targ.zero_()
    assert metric.value == 6


@pytest.mark.parametrize("made", [RocAuc, SpearmanCorrCoef, lambda: skm_to_fastai(sk.r2_score, is_class=False)])
def test_nan_predictions_give_nan_and_are_named(made):
    pred = torch.randn(8, 2) if made is RocAuc else torch.randn(8)
    pred[3] = torch.nan
    metric = made()
    with pytest.warns(UserWarning, match=rf"metric '{metric.name}' is nan: \d of \d+ predictions are NaN"):
        value = metric(pred, torch.tensor([0, 1] * 4))
    assert torch.tensor(value).isnan()


def test_sklearns_functions_are_given_what_they_expect():
    pred, targ = torch.randn(40, 3), torch.randint(0, 3, (40,))
    assert skm_to_fastai(sk.f1_score, average="macro")(pred, targ) == sk.f1_score(targ, pred.argmax(1), average="macro")
    yes = torch.rand(40, 3) > 0.5
    metric = skm_to_fastai(sk.f1_score, thresh=0.4, flatten=False, average="samples", zero_division=0)
    assert metric(pred, yes) == sk.f1_score(yes, pred.sigmoid() >= 0.4, average="samples", zero_division=0)
    assert metric.name == "f1_score"
    spread = skm_to_fastai(sk.max_error, is_class=False)
    assert spread(pred[:, 0], targ) == pytest.approx(sk.max_error(targ, pred[:, 0]))


def test_the_best_threshold_is_found_on_the_whole_set(batches, whole):
    def minus_square_from(pred, targ, middle):
        return -((pred - middle) ** 2).mean()

    metric = optim_metric(minus_square_from, "middle", (-3, 3), tol=1e-6, get_x=True)
    best, middle = run(metric, batches)
    assert metric.name == "opt_minus_square_from"
    assert (best, middle) == pytest.approx((-whole[0].var(correction=0).item(), whole[0].mean().item()), abs=1e-3)
    smallest = optim_metric(lambda p, t, x: (p.mean() - x) ** 2, "x", (2, 3), do_neg=False)
    assert smallest(*whole) == pytest.approx((whole[0].mean().item() - 2) ** 2, abs=0.1)
    with pytest.raises(BadArgument, match="boundz"):
        optim_metric(minus_square_from, "middle", boundz=(0, 1))


def test_ignored_targets_need_one_target_a_row():
    metric = AccumMetric(lambda p, t: 0.0, flatten=False, ignore_index=0)
    with pytest.raises(BadValue, match="one target a row"):
        metric(torch.zeros(2, 3), torch.zeros(2, 3))
