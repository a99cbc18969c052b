"""Metrics that are right for any batch size and any number of processes."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.metrics.accumulated import (
    AccumMetric as AccumMetric,
    optim_metric as optim_metric,
    skm_to_fastai as skm_to_fastai,
)
from layered.metrics.averages import (
    AvgLoss as AvgLoss,
    AvgMetric as AvgMetric,
    AvgSmoothLoss as AvgSmoothLoss,
    LossMetric as LossMetric,
    LossMetrics as LossMetrics,
    ValueMetric as ValueMetric,
    mean_of as mean_of,
)
from layered.metrics.calibration import (
    ExpectedCalibrationError as ExpectedCalibrationError,
    ExpectedCalibrationErrorMulti as ExpectedCalibrationErrorMulti,
)
from layered.metrics.class_scores import (
    BalancedAccuracy as BalancedAccuracy,
    CohenKappa as CohenKappa,
    F1Score as F1Score,
    FBeta as FBeta,
    HammingLoss as HammingLoss,
    Jaccard as Jaccard,
    MatthewsCorrCoef as MatthewsCorrCoef,
    Precision as Precision,
    Recall as Recall,
)
from layered.metrics.classification import (
    accuracy as accuracy,
    accuracy_multi as accuracy_multi,
    error_rate as error_rate,
    foreground_acc as foreground_acc,
    top_k_accuracy as top_k_accuracy,
)
from layered.metrics.detection import MeanAveragePrecision as MeanAveragePrecision
from layered.metrics.label_scores import (
    F1ScoreMulti as F1ScoreMulti,
    FBetaMulti as FBetaMulti,
    HammingLossMulti as HammingLossMulti,
    JaccardMulti as JaccardMulti,
    MatthewsCorrCoefMulti as MatthewsCorrCoefMulti,
    PrecisionMulti as PrecisionMulti,
    RecallMulti as RecallMulti,
)
from layered.metrics.metric import Metric as Metric
from layered.metrics.metric_set import mk_metric as mk_metric, register_metric as register_metric
from layered.metrics.ranking import (
    APScoreBinary as APScoreBinary,
    APScoreMulti as APScoreMulti,
    BrierScore as BrierScore,
    BrierScoreMulti as BrierScoreMulti,
    RocAuc as RocAuc,
    RocAucBinary as RocAucBinary,
    RocAucMulti as RocAucMulti,
)
from layered.metrics.regression import (
    ExplainedVariance as ExplainedVariance,
    PearsonCorrCoef as PearsonCorrCoef,
    R2Score as R2Score,
    SpearmanCorrCoef as SpearmanCorrCoef,
    exp_rmspe as exp_rmspe,
    mae as mae,
    mse as mse,
    msle as msle,
    rmse as rmse,
)
from layered.metrics.segmentation import (
    Dice as Dice,
    DiceMulti as DiceMulti,
    JaccardCoeff as JaccardCoeff,
    JaccardCoeffMulti as JaccardCoeffMulti,
)
from layered.metrics.text import (
    CorpusBLEUMetric as CorpusBLEUMetric,
    Perplexity as Perplexity,
    perplexity as perplexity,
)

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.metrics.adapted import Adapted as Adapted
from layered.metrics.averages import LossPart as LossPart
from layered.metrics.class_scores import CountScore as CountScore, ratio as ratio
from layered.metrics.counts import known_targets as known_targets, refuse_invalid_targets as refuse_invalid_targets
from layered.metrics.described import (
    described_metrics as described_metrics,
    metrics_from_described as metrics_from_described,
)
from layered.metrics.metric import Predicted as Predicted, unique_parts as unique_parts
from layered.metrics.metric_set import MetricSet as MetricSet, unique_names as unique_names
