"""A calibrated learner says how sure it is: honest probabilities, decisions that stay, and sets that hold the truth."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from layered.basics import (
    BCEWithLogitsLossFlat,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    DataLoaders,
    FocalLossFlat,
    LabelSmoothingCrossEntropyFlat,
    Learner,
    MSELossFlat,
    RegressionBlock,
    Transform,
    TransformBlock,
    load_learner,
)
from layered.foundation import LayeredError
from layered.inference.prediction_sets import Interval
from layered.nn.calibration import MOST_SCORES, best_temperature, conformal_rank, sorted_scores
from layered.tabular.all import TabularDataLoaders, tabular_learner
from layered.training import Ensemble


class Fixed(nn.Module):
    """A model whose outputs are its inputs, scaled."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return x * self.scale


def learner(x, y, loss=None, model=None, **kwargs):
    """A learner whose validation items are given, and whose training items are others."""
    train = TensorDataset(x[:64].clone(), y[:64].clone())
    dls = DataLoaders.from_dsets(train, TensorDataset(x, y), bs=64)
    return Learner(dls, model or Fixed(), loss or nn.CrossEntropyLoss(), **kwargs)


def too_sure(count=400, classes=5, scale=3.0, seed=0):
    """Logits that are `scale` times too large for what comes true."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=g) * 1.5
    return logits * scale, torch.multinomial(logits.softmax(1), 1, generator=g).flatten()


@pytest.fixture(scope="module")
def digits():
    """A learner that has seen few digits, and digits that nobody has seen."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, valid, test = order[:300], order[300:900], order[900:]
    dls = DataLoaders.from_dsets(TensorDataset(x[train], y[train]), TensorDataset(x[valid], y[valid]), bs=32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    learn = Learner(dls, model, CrossEntropyLossFlat(), seed=0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(4, 1e-2)
    return learn, x[test], y[test]


def nll(shares, y):
    return float(F.nll_loss(shares.double().log(), y))


# -- temperature


def test_the_temperature_is_that_of_scikit_learn_and_undoes_what_was_too_sure():
    logits, y = too_sure(2000)
    found = best_temperature(logits, y, "classes")
    features = logits.numpy().astype(np.float64)
    linear = LogisticRegression(C=np.inf).fit(features, y.numpy())
    linear.coef_, linear.intercept_ = np.eye(5), np.zeros(5)
    theirs = CalibratedClassifierCV(FrozenEstimator(linear), method="temperature").fit(features, y.numpy())
    ours = torch.softmax(logits.double() / found, 1).numpy()
    assert ours == pytest.approx(theirs.predict_proba(features), abs=1e-4)
    assert found == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        CrossEntropyLossFlat(),
        LabelSmoothingCrossEntropyFlat(),
        FocalLossFlat(),
        nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0)),
    ],
    ids=lambda o: type(o).__name__,
)
def test_any_loss_of_logits_gets_the_same_temperature_and_decisions_stay(loss):
    x, y = too_sure()
    learn = learner(x, y, loss)
    plain, _, decided = learn.get_preds(with_decoded=True)
    found = learn.calibrate()
    shares, _, again = learn.get_preds(with_decoded=True)
    assert found.temperature == pytest.approx(best_temperature(x, y, "classes"), rel=1e-5)
    assert torch.equal(decided, again)
    assert torch.allclose(shares, (x / found.temperature).softmax(1), atol=1e-6)
    assert nll(shares, y) < nll(plain, y)
    assert found.nll == pytest.approx((nll(plain, y), nll(shares, y)), abs=1e-5)
    assert found.ece[1] < found.ece[0]


def test_logs_and_probabilities_are_calibrated_as_their_logits():
    x, y = too_sure()
    wanted = best_temperature(x, y, "classes")
    for outputs, loss in ((x.log_softmax(1), nn.NLLLoss()), (x.softmax(1), OwnProbabilities())):
        learn = learner(outputs, y, loss)
        assert learn.calibrate().temperature == pytest.approx(wanted, rel=1e-3)
        assert torch.allclose(learn.get_preds()[0], (x / wanted).softmax(1), atol=1e-4)


class OwnProbabilities:
    """A loss whose model gives probabilities."""

    def __call__(self, pred, y):
        return F.nll_loss(pred.log(), y)

    def activation(self, x):
        return x

    def decodes(self, x):
        return x.argmax(-1)


def test_half_precision_is_calibrated_in_float32():
    x, y = too_sure()
    learn = learner(x.bfloat16(), y, CrossEntropyLossFlat(), Fixed(1.0).bfloat16())
    found = learn.calibrate()
    assert found.are_logits
    assert found.temperature == pytest.approx(best_temperature(x.bfloat16().float(), y, "classes"), rel=1e-4)
    assert learn.get_preds()[0].dtype == torch.float32


def test_a_single_output_is_that_of_the_second_class():
    x, y = too_sure(classes=2)
    z = x[:, 1:] - x[:, :1]
    learn = learner(z, y.float()[:, None], nn.BCEWithLogitsLoss())
    two = learner(x, y)
    assert learn.calibrate().temperature == pytest.approx(two.calibrate().temperature, rel=1e-3)
    assert learn.get_preds()[0][:, 0] == pytest.approx(two.get_preds()[0][:, 1], abs=1e-4)


def test_labels_share_one_temperature():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(500, 3, generator=g)
    y = torch.bernoulli(z.sigmoid(), generator=g)
    learn = learner(z * 4, y, BCEWithLogitsLossFlat())
    found = learn.calibrate()
    assert found.of == "labels"
    assert found.temperature == pytest.approx(4, rel=0.2)
    assert torch.equal(learn.get_preds(with_decoded=True)[2], z > 0)
    with pytest.raises(LayeredError, match="several labels"):
        learn.predict_sets()
    with pytest.raises(LayeredError, match="threshold"):
        learner(z * 4, y, BCEWithLogitsLossFlat(thresh=0.2)).calibrate()


# -- sets and intervals


def test_ranks_are_those_of_the_formula_and_too_few_items_are_refused():
    for count in (9, 19, 100, 999):
        for alpha in (0.1, 0.2, 0.5):
            assert conformal_rank(count, alpha) == math.ceil(round((count + 1) * (1 - alpha), 6))
    with pytest.raises(LayeredError) as refused:
        conformal_rank(18, 0.05)
    assert "at least 19" in str(refused.value)
    assert conformal_rank(19, 0.05) == 19
    for wrong in (0, 1, 5, -0.1, True, "a", math.nan):
        with pytest.raises(LayeredError, match="alpha"):
            conformal_rank(100, wrong)


@pytest.mark.parametrize(("count", "alpha"), [(19, 0.1), (50, 0.2), (99, 0.05)])
def test_the_coverage_of_exchangeable_scores_is_exactly_that_of_theory(count, alpha):
    g = np.random.default_rng(0)
    trials = 20_000
    scores = np.sort(g.random((trials, count)), 1)
    bound = scores[:, conformal_rank(count, alpha) - 1]
    coverage = (g.random(trials) <= bound).mean()
    theory = conformal_rank(count, alpha) / (count + 1)
    assert theory >= 1 - alpha - 1e-9
    assert abs(coverage - theory) < 4 * math.sqrt(theory * (1 - theory) / trials)


def test_many_scores_are_thinned_towards_larger_sets():
    scores = torch.rand(50_000, 1, generator=torch.Generator().manual_seed(0))
    kept, ranks = sorted_scores(scores)
    assert len(kept) == len(ranks) == MOST_SCORES
    assert ranks[-1] == 50_000
    exact = scores.double().sort(0).values[:, 0]
    for alpha in (0.01, 0.1, 0.5):
        rank = conformal_rank(50_000, alpha)
        found = kept[torch.searchsorted(ranks, rank), 0]
        assert exact[rank - 1] <= found <= exact[min(rank + 9, 49_999)]


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.2])
def test_sets_of_unseen_digits_hold_the_truth_as_often_as_asked(digits, alpha):
    learn, x, y = digits
    learn.calibrate()
    sets = learn.predict_sets(dl=[(x, y)], alpha=alpha)
    coverage = np.mean([int(t) in found for t, found in zip(y, sets, strict=True)])
    spread = math.sqrt(alpha * (1 - alpha) * (1 / len(y) + 1 / 600))
    assert coverage > 1 - alpha - 2 * spread
    assert all(list(found.values()) == sorted(found.values(), reverse=True) and found for found in sets)


def test_calibrated_probabilities_of_unseen_digits_are_no_worse(digits):
    learn, x, y = digits
    learn.calibration = None
    plain = learn.get_preds(dl=[(x, y)])[0]
    learn.calibrate()
    assert nll(learn.get_preds(dl=[(x, y)])[0], y) <= nll(plain, y) + 0.005


def test_intervals_hold_the_truth_of_new_rows_and_are_named():
    df = load_diabetes(as_frame=True).frame
    df["half"] = df.target / 2 + 3 * np.random.default_rng(0).normal(size=len(df))
    df = df.sample(frac=1, random_state=0).reset_index(drop=True)
    known, new = df[:300], df[300:]
    dls = TabularDataLoaders.from_df(
        known, y_names=["target", "half"], y_block=RegressionBlock(), valid_idx=list(range(150, 300)), bs=32
    )
    learn = tabular_learner(dls, loss_func=nn.MSELoss(), seed=0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(5, 1e-2)
    assert learn.calibrate().temperature == 1
    sets = learn.predict_sets(new, alpha=0.2)
    for name in ("target", "half"):
        inside = np.mean([t in found[name] for t, found in zip(new[name], sets, strict=True)])
        assert inside > 0.8 - 2 * math.sqrt(0.2 * 0.8 * (1 / len(new) + 1 / 150))
    assert learn.predict_set(new.iloc[0], alpha=0.2)["half"].width == pytest.approx(sets[0]["half"].width, rel=1e-5)
    middle = learn.predict(new.iloc[0])[2]
    assert sum(learn.predict_set(new.iloc[0], alpha=0.2)["target"]) / 2 == pytest.approx(float(middle[0]), rel=1e-4)


def test_intervals_are_in_the_units_of_the_targets():
    class Thousands(Transform):
        def encodes(self, o: float):
            return o / 1000

        def decodes(self, o):
            return o * 1000

    block = DataBlock(
        (TransformBlock, TransformBlock(type_tfms=[Thousands(), lambda o: torch.tensor([o])])),
        get_x=lambda i: torch.tensor([float(i)]),
        get_y=lambda i: 1000.0 * (i % 5),
    )
    learn = Learner(block.dataloaders(range(100), bs=10), Fixed(0.0), MSELossFlat())
    learn.calibrate()
    low, high = learn.predict_set(3, alpha=0.3)
    assert high in (2000, 3000, 4000)
    assert low == -high


# -- abstaining


def test_predict_gives_no_class_below_a_confidence():
    wine = load_wine(as_frame=True).frame
    dls = TabularDataLoaders.from_df(wine, y_names="target", y_block=CategoryBlock(), bs=16, seed=0)
    learn = tabular_learner(dls, seed=0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
    row, decision, shares = learn.predict(wine.iloc[0])
    confidence = float(shares.max())
    assert decision is not None
    assert row.items.target.iloc[0] is not None
    row, decision, _ = learn.predict(wine.iloc[0], abstain=confidence + 1e-4)
    assert decision is None
    assert row.items.target.iloc[0] is None
    assert learn.predict(wine.iloc[0], abstain=confidence - 1e-4)[1] is not None
    learn.calibrate(abstain=1.0)
    assert learn.predict(wine.iloc[0])[1] is None
    assert learn.predict(wine.iloc[0], abstain=0)[1] is not None
    with pytest.raises(LayeredError, match="confidence"):
        learn.predict(wine.iloc[0], abstain=80)


# -- kept and dropped


def test_training_drops_a_calibration_and_weights_that_are_back_keep_it(digits, tmp_path):
    learn, x, y = digits
    with learn.no_bar(), learn.no_logging():
        learn.path = tmp_path
        learn.calibrate()
        before = learn.get_preds(dl=[(x, y)])[0]
        saved = learn.save("before")
        with torch.no_grad():
            learn.model[0].weight.mul_(2)
        learn.load(saved)
        assert torch.equal(learn.get_preds(dl=[(x, y)])[0], before)
        learn.fit(1, 1e-3)
        with pytest.warns(UserWarning, match="calibration is dropped"):
            shares = learn.get_preds(dl=[(x, y)])[0]
        assert learn.calibration is None
        assert torch.allclose(shares, learn.model(x).softmax(1), atol=1e-6)
        with pytest.raises(LayeredError, match="not calibrated"):
            learn.predict_sets()


@pytest.mark.parametrize("change", ["loss", "model", "weights", "fused"])
def test_another_model_or_loss_has_no_calibration(change):
    x, y = too_sure()
    learn = learner(x, y)
    learn.calibrate()
    if change == "loss":
        learn.loss_func = LabelSmoothingCrossEntropyFlat()
    elif change == "model":
        learn.model = Fixed(2.0)
    elif change == "weights":
        with torch.no_grad():
            learn.model.scale.mul_(2)
    else:
        learn.model.scale.grad = torch.ones(())
        torch.optim.AdamW(learn.model.parameters(), fused=True).step()  # counts no version
    with pytest.warns(UserWarning, match="calibration is dropped"):
        learn.get_preds()


def test_an_export_has_the_calibration(digits, tmp_path):
    learn, x, y = digits
    found = learn.calibrate(abstain=0.4)
    assert "temperature" in repr(found).splitlines()[0]
    assert "below a confidence of 0.4" in repr(found)
    again = load_learner(learn.export(tmp_path / "digits"))
    assert vars(again.calibration).keys() == vars(found).keys()
    assert str(again.calibration) == str(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(again.get_preds(dl=[(x, y)])[0], learn.get_preds(dl=[(x, y)])[0])
    assert again.predict_sets(dl=[(x, y)], alpha=0.03) == learn.predict_sets(dl=[(x, y)], alpha=0.03)
    learn.calibration = None
    plain = load_learner(learn.export(tmp_path / "plain"))
    with pytest.raises(LayeredError, match="not calibrated") as refused:
        plain.predict_sets(dl=[(x, y)])
    assert "learn.calibrate(dl=" in str(refused.value)
    plain.calibrate(dl=[(x, y)])
    assert plain.predict_sets(dl=[(x, y)])


def test_graphs_and_ensembles_are_calibrated(digits, tmp_path):
    learn, x, y = digits
    learn.calibrate()
    wanted = learn.get_preds(dl=[(x, y)])[0]
    program = torch.export.load(learn.to_exported(tmp_path / "digits")).module()
    assert torch.allclose(program(x)[0], wanted, atol=1e-5)
    assert torch.equal(program(x)[1], wanted.argmax(1))
    both = Ensemble([learn, learn])
    assert both.get_preds(x[:5]) == pytest.approx(wanted[:5], abs=1e-6)


# -- careless users


def refusal(learn, match, **kwargs):
    with pytest.raises(LayeredError, match=match):
        learn.calibrate(**kwargs)
    assert learn.calibration is None


def test_what_cannot_be_calibrated_is_refused_with_the_reason():
    x, y = too_sure()
    learn = learner(x, y)
    refusal(learn, "training items", dl=learn.dls.train)
    refusal(learn, "training items", dl=learn.dls.train.new(shuffle=False))
    refusal(learn, "no targets", dl=[(x,)])
    refusal(learn, "not finite", dl=[(torch.where(torch.arange(400)[:, None] == 7, math.nan, x), y)])
    refusal(learn, "all items are of one class", dl=[(x, torch.zeros_like(y))])
    refusal(learn, "not a class of the model", dl=[(x, torch.where(torch.arange(400) == 7, -100, y))])
    refusal(learn, "confidence", abstain=80)
    refusal(Learner((learn.dls.train, None), Fixed(), nn.CrossEntropyLoss()), "no validation items")
    refusal(learner(x[:, :, None, None].expand(-1, -1, 2, 2), y[:, None, None].expand(-1, 2, 2)), "not pixels")
    refusal(learner(x, x.softmax(1)), "share of each class")
    refusal(learner(x, y, loss=nn.CrossEntropyLoss(), model=Fixed(-1.0)), "say nothing")
    refusal(learner(x[:, :1], x[:, 0], nn.MSELoss()), "abstain", abstain=0.5)
    with pytest.raises(LayeredError, match="not calibrated"):
        learn.predict_sets()


def test_a_model_that_is_always_right_keeps_its_temperature():
    _, y = too_sure()
    learn = learner(F.one_hot(y).float(), y)
    with pytest.warns(UserWarning, match="stays 1"):
        assert learn.calibrate().temperature == 1
    assert learn.predict_sets()[0] == {int(y[0]): pytest.approx(learn.get_preds()[0][0].max())}


def test_a_class_without_calibration_items_is_no_error():
    x, y = too_sure()
    seen = y != 3
    learn = learner(x[seen], y[seen])
    learn.calibrate()
    assert len(learn.predict_sets(dl=[(x, y)])) == len(y)


def test_copies_have_the_calibration():
    x, y = too_sure()
    learn = learner(x, y)
    found = learn.calibrate()
    again = copy.deepcopy(learn)
    assert again.calibration is not None
    assert pickle.loads(pickle.dumps(found)).temperature == found.temperature
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(again.get_preds()[0], learn.get_preds()[0])


def test_an_interval_unpacks_and_contains():
    low, high = Interval(1.0, 3.0)
    assert (low, high) == (1, 3)
    assert 3.0 in Interval(1.0, 3.0)
    assert 3.1 not in Interval(1.0, 3.0)
