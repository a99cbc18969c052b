"""Callbacks: schedules, the rate finder, precision, mixing, tracking, logging, inspection."""

from typing import TYPE_CHECKING

from layered.callback.averaging import EMACallback as EMACallback, SWACallback as SWACallback
from layered.callback.dropout import MCDropoutCallback as MCDropoutCallback
from layered.callback.experiments import ExperimentLogger as ExperimentLogger
from layered.callback.freezing import (
    BnFreeze as BnFreeze,
    GradualUnfreezing as GradualUnfreezing,
    bn_types as bn_types,
    set_bn_eval as set_bn_eval,
)
from layered.callback.gradients import GradientAccumulation as GradientAccumulation, GradientClip as GradientClip
from layered.callback.inspection import (
    ActivationStats as ActivationStats,
    GradientStats as GradientStats,
    HookCallback as HookCallback,
)
from layered.callback.limits import (
    ShortEpochCallback as ShortEpochCallback,
    StopWhen as StopWhen,
    TimeLimit as TimeLimit,
)
from layered.callback.logging import CSVLogger as CSVLogger, JSONLogger as JSONLogger, LoggerCallback as LoggerCallback
from layered.callback.mixing import (
    CutMix as CutMix,
    MixHandler as MixHandler,
    MixUp as MixUp,
    reduce_loss as reduce_loss,
)
from layered.callback.nonfinite import StopOnNonFinite as StopOnNonFinite
from layered.callback.precision import AMPMode as AMPMode, MixedPrecision as MixedPrecision
from layered.callback.progress import ProgressCallback as ProgressCallback, ShowGraphCallback as ShowGraphCallback
from layered.callback.pruning import OptunaPruner as OptunaPruner
from layered.callback.rate_finder import (
    LRFinder as LRFinder,
    SuggestionMethod as SuggestionMethod,
    minimum as minimum,
    slide as slide,
    steep as steep,
    valley as valley,
)
from layered.callback.recompute import ActivationCheckpointing as ActivationCheckpointing
from layered.callback.records import Record as Record, RunRecord as RunRecord, read_record as read_record
from layered.callback.recurrent import (
    ModelResetter as ModelResetter,
    RNNCallback as RNNCallback,
    RNNRegularizer as RNNRegularizer,
    TruncatedBPTT as TruncatedBPTT,
    rnn_cbs as rnn_cbs,
)
from layered.callback.schedule import ParamScheduler as ParamScheduler, TorchScheduler as TorchScheduler
from layered.callback.sharpness import SAM as SAM
from layered.callback.speed import ChannelsLast as ChannelsLast
from layered.callback.tracking import (
    EarlyStoppingCallback as EarlyStoppingCallback,
    ReduceLROnPlateau as ReduceLROnPlateau,
    SaveModelCallback as SaveModelCallback,
    TerminateOnNaNCallback as TerminateOnNaNCallback,
    TrackerCallback as TrackerCallback,
)
from layered.callback.trials import OverfitOneBatch as OverfitOneBatch
from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.callback.experiments import logging_callbacks as logging_callbacks
from layered.callback.precision import to_bf16 as to_bf16, to_fp16 as to_fp16, to_fp32 as to_fp32
from layered.callback.progress import batch_bar as batch_bar, say as say, steps_bar as steps_bar
from layered.callback.provenance import as_json as as_json, describe_run as describe_run
from layered.callback.rate_finder import lr_find as lr_find, restores_learner as restores_learner
from layered.callback.schedule import (
    FitArgs as FitArgs,
    OneCycleArgs as OneCycleArgs,
    fit_flat_cos as fit_flat_cos,
    fit_one_cycle as fit_one_cycle,
    fit_sgdr as fit_sgdr,
)
from layered.callback.speed import (
    compile_model as compile_model,
    to_channelslast as to_channelslast,
    to_contiguous as to_contiguous,
    uncompile as uncompile,
)
from layered.callback.trials import (
    dry_run as dry_run,
    losses_on_one_batch as losses_on_one_batch,
    overfit as overfit,
)
from layered.callback.values import log as log
