"""Every metric gives scikit-learn's number (or a formula's) however the data are cut, or shared out over processes."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
from torch import distributed
from torch.nn import functional as F

from layered import basics
from layered.loop.processes import merge_metrics
from layered.metrics import Metric, MetricSet, mk_metric
from layered.metrics.metric_set import metric_names

IGNORED = 7
ROWS = 100


def data(kind, rows=ROWS, seed=0):
    """Predictions and targets of one kind."""
    g = torch.Generator().manual_seed(seed)
    if kind in ("two", "several"):
        classes = 2 if kind == "two" else 6
        pred, targ = torch.randn(rows, classes, generator=g), torch.randint(0, classes, (rows,), generator=g)
        targ[:classes] = torch.arange(classes)
        pred[torch.arange(0, rows, 2), targ[::2]] += 1
        return pred, targ
    if kind == "labels":
        targ = (torch.rand(rows, 3, generator=g) > 0.6).float()
        targ[:2] = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        return torch.randn(rows, 3, generator=g) + targ, targ
    if kind == "numbers":
        targ = torch.rand(rows, generator=g) * 2
        return (targ + torch.rand(rows, generator=g))[:, None], targ
    if kind in ("masks", "two masks"):
        classes = 3 if kind == "masks" else 2
        targ = torch.randint(0, classes, (rows, 3, 4), generator=g)
        targ[::3] = 0
        return torch.randn(rows, classes, 3, 4, generator=g) + F.one_hot(targ, classes).movedim(-1, 1), targ
    targ = torch.randint(0, 5, (rows, 9), generator=g)
    return torch.randn(rows, 9, 5, generator=g) + 2 * F.one_hot(targ, 5), targ


def soft(p):
    return torch.softmax(torch.as_tensor(p), 1).numpy()


def sig(p):
    return torch.sigmoid(torch.as_tensor(p)).numpy()


def best(p):
    return p.argmax(1)


def by_class(score, **kwargs):
    """The oracle of a score of decisions."""
    return lambda p, t: score(t.ravel(), best(p).ravel(), **kwargs)


def by_label(score, **kwargs):
    return lambda p, t: score(t, sig(p) >= 0.5, **kwargs)


def of_numbers(score):
    return lambda p, t: score(t.ravel(), p.ravel())


def bleu(p, t):
    """Clipped matches of runs, counted one by one."""
    shares = []
    for n in range(1, 5):
        same = total = 0
        for guess, truth in zip(p.argmax(-1), t, strict=True):
            runs = [tuple(guess[i : i + n]) for i in range(len(guess) - n + 1)]
            theirs = [tuple(truth[i : i + n]) for i in range(len(truth) - n + 1)]
            total += len(runs)
            same += sum(min(runs.count(run), theirs.count(run)) for run in set(runs))
        shares.append(same / total)
    return math.prod(shares) ** 0.25


def in_foreground(p, t):
    return (best(p) == t)[t != 0].mean()


def cross_entropy(p, t):
    return sk.log_loss(t.ravel(), soft(p.reshape(-1, p.shape[-1])), labels=range(p.shape[-1]))


def calibration_error(confidence, right, bins=15):
    """The distance of confidence from the share that is right, bin by bin."""
    places = np.clip(np.ceil(confidence.astype(np.float64) * bins) - 1, 0, bins - 1)
    shares = [((places == i).mean(), confidence[places == i], right[places == i]) for i in set(places)]
    return sum(weight * abs(sure.mean(dtype=np.float64) - good.mean()) for weight, sure, good in shares)


class Case(NamedTuple):
    metric: Callable
    kind: str
    oracle: Callable
    can_ignore: bool = True


B = basics
macro = {"average": "macro", "zero_division": 0}
CASES = {
    "accuracy": Case(lambda ignore_index=None: of(B.accuracy, ignore_index), "several", by_class(sk.accuracy_score)),
    "error_rate": Case(lambda ignore_index=None: of(B.error_rate, ignore_index), "several", by_class(sk.zero_one_loss)),
    "top_k_accuracy": Case(
        lambda ignore_index=None: of(B.top_k_accuracy, ignore_index),
        "several",
        lambda p, t: sk.top_k_accuracy_score(t, p, k=5, labels=range(6)),
    ),
    "accuracy_multi": Case(
        lambda: mk_metric(B.accuracy_multi), "labels", lambda p, t: sk.accuracy_score(t.ravel(), p.ravel() > 0), False
    ),
    "foreground_acc": Case(lambda ignore_index=None: of(B.foreground_acc, ignore_index), "masks", in_foreground),
    "mse": Case(lambda: mk_metric(B.mse), "numbers", of_numbers(sk.mean_squared_error), False),
    "mae": Case(lambda: mk_metric(B.mae), "numbers", of_numbers(sk.mean_absolute_error), False),
    "msle": Case(lambda: mk_metric(B.msle), "numbers", of_numbers(sk.mean_squared_log_error), False),
    "rmse": Case(lambda: B.rmse, "numbers", of_numbers(sk.root_mean_squared_error), False),
    "exp_rmspe": Case(
        lambda: B.exp_rmspe, "numbers", of_numbers(lambda t, p: np.mean((1 - np.exp(p) / np.exp(t)) ** 2) ** 0.5), False
    ),
    "R2Score": Case(B.R2Score, "numbers", of_numbers(sk.r2_score), False),
    "ExplainedVariance": Case(B.ExplainedVariance, "numbers", of_numbers(sk.explained_variance_score), False),
    "PearsonCorrCoef": Case(B.PearsonCorrCoef, "numbers", of_numbers(lambda t, p: np.corrcoef(t, p)[0, 1]), False),
    "SpearmanCorrCoef": Case(
        B.SpearmanCorrCoef, "numbers", of_numbers(lambda t, p: scipy.stats.spearmanr(t, p).statistic), False
    ),
    "Precision": Case(B.Precision, "two", by_class(sk.precision_score)),
    "Recall": Case(B.Recall, "two", by_class(sk.recall_score)),
    "F1Score": Case(B.F1Score, "two", by_class(sk.f1_score)),
    "FBeta": Case(partial(B.FBeta, 2.0), "two", by_class(sk.fbeta_score, beta=2.0)),
    "Jaccard": Case(B.Jaccard, "two", by_class(sk.jaccard_score)),
    "F1Score macro": Case(partial(B.F1Score, average="macro"), "several", by_class(sk.f1_score, **macro)),
    "BalancedAccuracy": Case(B.BalancedAccuracy, "several", by_class(sk.balanced_accuracy_score)),
    "CohenKappa": Case(B.CohenKappa, "several", by_class(sk.cohen_kappa_score)),
    "CohenKappa quadratic": Case(
        partial(B.CohenKappa, weights="quadratic"), "several", by_class(sk.cohen_kappa_score, weights="quadratic")
    ),
    "HammingLoss": Case(B.HammingLoss, "several", by_class(sk.hamming_loss)),
    "MatthewsCorrCoef": Case(B.MatthewsCorrCoef, "several", by_class(sk.matthews_corrcoef)),
    "RocAuc": Case(B.RocAuc, "several", lambda p, t: sk.roc_auc_score(t, soft(p), multi_class="ovr")),
    "RocAucBinary": Case(B.RocAucBinary, "two", lambda p, t: sk.roc_auc_score(t, soft(p)[:, 1])),
    "APScoreBinary": Case(B.APScoreBinary, "two", lambda p, t: sk.average_precision_score(t, soft(p)[:, 1])),
    "BrierScore": Case(B.BrierScore, "two", lambda p, t: sk.brier_score_loss(t, soft(p)[:, 1])),
    "BrierScore several": Case(
        B.BrierScore, "several", lambda p, t: ((soft(p) - np.eye(p.shape[1])[t]) ** 2).sum(1).mean()
    ),
    "PrecisionMulti": Case(B.PrecisionMulti, "labels", by_label(sk.precision_score, **macro), False),
    "RecallMulti": Case(B.RecallMulti, "labels", by_label(sk.recall_score, **macro), False),
    "F1ScoreMulti": Case(B.F1ScoreMulti, "labels", by_label(sk.f1_score, **macro), False),
    "FBetaMulti": Case(partial(B.FBetaMulti, 0.5), "labels", by_label(sk.fbeta_score, beta=0.5, **macro), False),
    "JaccardMulti": Case(B.JaccardMulti, "labels", by_label(sk.jaccard_score, **macro), False),
    "HammingLossMulti": Case(B.HammingLossMulti, "labels", by_label(sk.hamming_loss), False),
    "MatthewsCorrCoefMulti": Case(
        B.MatthewsCorrCoefMulti, "labels", lambda p, t: sk.matthews_corrcoef(t.ravel(), p.ravel() >= 0), False
    ),
    "RocAucMulti": Case(B.RocAucMulti, "labels", lambda p, t: sk.roc_auc_score(t, sig(p)), False),
    "APScoreMulti": Case(B.APScoreMulti, "labels", lambda p, t: sk.average_precision_score(t, sig(p)), False),
    "ExpectedCalibrationError": Case(
        B.ExpectedCalibrationError, "several", lambda p, t: calibration_error(soft(p).max(1), best(p) == t)
    ),
    "ExpectedCalibrationErrorMulti": Case(
        B.ExpectedCalibrationErrorMulti, "labels", lambda p, t: calibration_error(sig(p).ravel(), t.ravel() > 0), False
    ),
    "BrierScoreMulti": Case(B.BrierScoreMulti, "labels", lambda p, t: ((sig(p) - t) ** 2).mean(), False),
    "Dice": Case(B.Dice, "two masks", by_class(sk.f1_score)),
    "DiceMulti": Case(B.DiceMulti, "masks", by_class(sk.f1_score, average="macro")),
    "JaccardCoeff": Case(B.JaccardCoeff, "two masks", by_class(sk.jaccard_score)),
    "JaccardCoeffMulti": Case(B.JaccardCoeffMulti, "masks", by_class(sk.jaccard_score, average="macro")),
    "Perplexity": Case(B.Perplexity, "texts", lambda p, t: np.exp(cross_entropy(p, t))),
    "perplexity": Case(lambda: B.perplexity, "texts", lambda p, t: np.exp(cross_entropy(p, t)), False),
    "CorpusBLEUMetric": Case(B.CorpusBLEUMetric, "texts", bleu, False),
    "AccumMetric": Case(
        lambda ignore_index=None: B.AccumMetric(sk.f1_score, -1, to_np=True, invert_arg=True, ignore_index=ignore_index),
        "two",
        by_class(sk.f1_score),
    ),
    "AvgMetric": Case(lambda: B.AvgMetric(row_mean), "numbers", lambda p, t: np.abs(p[:, 0] - t).mean(), False),
    "skm_to_fastai": Case(lambda: B.skm_to_fastai(sk.zero_one_loss), "several", by_class(sk.zero_one_loss), False),
    "optim_metric": Case(
        lambda: B.optim_metric(minus_square_from, "middle", (-2, 2), tol=1e-6), "numbers", lambda p, t: -np.var(p),
        False,
    ),
}  # fmt: skip
NO_PREDICTIONS = {"AvgLoss", "AvgSmoothLoss", "LossMetric", "LossMetrics", "ValueMetric"}
OBJECTS = {"MeanAveragePrecision"}  # of which test_average_precision has the cases
HELPERS = {"Metric", "mk_metric", "mean_of", "register_metric"}


def of(func, ignore_index):
    return mk_metric(partial(func, ignore_index=ignore_index))


def row_mean(pred, targ):
    return (pred[:, 0] - targ).abs().mean()


def minus_square_from(pred, targ, middle):
    return -((pred - middle) ** 2).mean()


def fed(metric, pred, targ, size):
    metric = metric.clone()
    for p, t in zip(pred.split(size), targ.split(size), strict=True):
        metric.update(p, t)
    return metric.value


def oracle(case, pred, targ):
    return case.oracle(pred.double().numpy(), targ.numpy())


each = pytest.mark.parametrize("name", CASES)


def test_no_exported_metric_is_missing_from_this_table():
    ours = {n for n in basics.__all__ if is_metric(getattr(basics, n))}
    assert len(ours) > 50
    assert ours - {name.partition(" ")[0] for name in CASES} == NO_PREDICTIONS | HELPERS | OBJECTS


def is_metric(item):
    return isinstance(item, Metric) or getattr(item, "__module__", "").startswith("layered.metrics.")


@each
@pytest.mark.parametrize("size", [1, 7, 64, ROWS])
def test_the_value_is_that_of_the_whole_set(name, size):
    case = CASES[name]
    pred, targ = data(case.kind)
    wanted = oracle(case, pred, targ)
    assert math.isfinite(wanted)
    assert fed(case.metric(), pred, targ, size) == pytest.approx(wanted, abs=1e-6, rel=1e-6)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_predictions_of_other_precision_are_compared_in_full(name, dtype):
    case = CASES[name]
    pred, targ = data(case.kind)
    pred = pred.to(dtype)
    if name == "AvgMetric":
        pytest.skip("the precision of a function given by the user is its own")
    assert fed(case.metric(), pred, targ, 7) == pytest.approx(oracle(case, pred, targ), abs=2e-6, rel=2e-6)


@each
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool, torch.float32])
def test_targets_of_any_type_count_the_same(name, dtype):
    case = CASES[name]
    pred, targ = data(case.kind)
    if dtype == torch.bool and case.kind not in ("two", "labels", "two masks"):
        pytest.skip("more than two values")
    if name in ("AccumMetric", "skm_to_fastai") and dtype == torch.float32:
        pytest.skip("the function of the user sees what the loader gives")
    targ = targ.round() if case.kind == "numbers" else targ
    wanted = fed(case.metric(), pred, targ, 7)
    assert fed(case.metric(), pred, targ.to(dtype), 7) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kind in ("two", "several", "numbers")])
def test_targets_may_have_a_trailing_axis(name):
    case = CASES[name]
    pred, targ = data(case.kind)
    if name == "AvgMetric":
        pytest.skip("a function given by the user sees what the loader gives")
    assert fed(case.metric(), pred, targ[:, None], 7) == fed(case.metric(), pred, targ, 7)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.can_ignore])
@pytest.mark.parametrize("size", [1, 7, ROWS])
def test_ignored_targets_do_not_count(name, size):
    case = CASES[name]
    pred, targ = data(case.kind)
    kept = torch.arange(ROWS) % 3 > 0
    kept[:6] = True
    marked = targ.clone()
    marked[~kept] = IGNORED
    wanted = oracle(case, pred[kept], targ[kept])
    assert fed(case.metric(ignore_index=IGNORED), pred, marked, size) == pytest.approx(wanted, abs=1e-6, rel=1e-6)


@each
def test_a_batch_is_taken_in_without_waiting_for_the_device(name):
    """Tensors on the meta device hold no numbers, so whatever reads one fails."""
    metric = CASES[name].metric().clone()
    for _ in range(2):
        metric.update(*(x.to("meta") for x in data(CASES[name].kind, 9)))
    assert metric.has_data


@each
def test_nothing_seen_has_no_value(name):
    metric = CASES[name].metric().clone()
    assert metric.value is None
    pred, targ = data(CASES[name].kind)
    metric.update(pred, targ)
    metric.reset()
    assert metric.value is None


@each
@pytest.mark.filterwarnings("ignore")
def test_one_row_has_a_value_or_is_nan(name):
    case = CASES[name]
    pred, targ = data(case.kind)
    assert isinstance(fed(case.metric(), pred[:1], targ[:1], 1), float)


def test_names_stand_for_metrics_of_this_table():
    pred = {kind: data(kind) for kind in ("two", "several", "labels", "numbers", "masks", "two masks", "texts")}
    of_name = {
        name: kind
        for kind, names in {
            "two": "average_precision average_precision_score",
            "numbers": "mae mse msle rmse exp_rmspe r2 r2_score explained_variance explained_variance_score "
            "pearson pearsonr spearman spearmanr",
            "masks": "foreground_acc iou dice_multi jaccard_coeff_multi",
            "two masks": "dice jaccard_coeff",
            "texts": "bleu corpus_bleu perplexity",
        }.items()
        for name in names.split()
    }
    of_learners = {
        "map",
        "map_50",
        "map_75",
        "entity_f1",
        "entity_precision",
        "entity_recall",
    }  # have tests of their own
    of_choices = {name for name in metric_names if "@" in name or name.endswith("_at_k")}  # in tests/collab
    for name in set(metric_names) - of_learners - of_choices:
        kind = of_name.get(name, "labels" if "_multi" in name else "several")
        assert isinstance(mk_metric(name)(*pred[kind]), float), name


def shared_set():
    """All metrics in one set for each kind of data, with the small data that two processes share."""
    sets = []
    for kind in ("two", "several", "labels", "numbers", "masks", "two masks", "texts"):
        made = {name: case.metric() for name, case in CASES.items() if case.kind == kind}
        sets.append((MetricSet(made), *data(kind, 11)))
    return sets


def values_of(rank, world):
    found = {}
    for metrics, pred, targ in shared_set():
        metrics.reset()
        for start in range(0, 11, 6):
            mine = slice(start + rank, min(start + 6, 11), world)
            loss = loss_of(pred[mine], targ[mine])
            metrics.accumulate(SimpleNamespace(pred=pred[mine], yb=(targ[mine],), loss=loss, loss_func=None))
        merge_metrics(metrics.metrics)
        found |= dict(zip(metrics.names, metrics.values, strict=True))
    return found


def loss_of(pred, targ):
    return F.cross_entropy(pred.flatten(0, 1), targ.flatten()) if pred.ndim == 3 else torch.tensor(0.0)


@pytest.mark.filterwarnings("ignore")
def test_two_and_four_processes_give_what_one_gives(tmp_path):
    command = [sys.executable, "-W", "ignore", __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(4)]
    one = values_of(0, 1)
    assert [process.wait(120) for process in processes] == [0] * 4
    assert one.keys() == CASES.keys()
    for world in (2, 4):
        for rank in range(world):
            found = json.loads((tmp_path / f"{rank}-of-{world}.json").read_text())
            assert found == pytest.approx(one, abs=1e-6, nan_ok=True)


if __name__ == "__main__":
    folder, rank = sys.argv[1], int(sys.argv[2])
    for world in (2, 4):
        if rank < world:
            meet, timeout = f"file://{folder}/meet-{world}", timedelta(seconds=60)
            distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world, timeout=timeout)
            with open(f"{folder}/{rank}-of-{world}.json", "w") as file:
                json.dump(values_of(rank, world), file)
            distributed.barrier()
            distributed.destroy_process_group()
