"""Everything that is not about one kind of data: floors 0 to 4 under one name, for notebooks.

from layered.basics import *
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import string
import time
import warnings
import zipfile
from array import array
from collections import Counter, defaultdict
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.callback.gradients import GradientAccumulation, GradientClip
from layered.callback.progress import ProgressCallback
from layered.callback.rate_finder import LRFinder, minimum, slide, steep, valley
from layered.callback.schedule import ParamScheduler
from layered.callback.tracking import (
    EarlyStoppingCallback,
    ReduceLROnPlateau,
    SaveModelCallback,
    TerminateOnNaNCallback,
    TrackerCallback,
)
from layered.data.block import CategoryBlock, DataBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from layered.data.catalog import URLs, untar_data
from layered.data.collate import fa_collate, fa_convert
from layered.data.conversions import IntToFloatTensor, Normalize, ToTensor, broadcast_vec
from layered.data.datasets import Datasets, TfmdLists
from layered.data.encodings import (
    Categorize,
    Category,
    CategoryMap,
    EncodedMultiCategorize,
    MultiCategorize,
    MultiCategory,
    OneHotEncode,
    RegressionSetup,
    get_c,
)
from layered.data.labellers import ColReader, RegexLabeller, parent_label
from layered.data.loader import DataLoader, SkipItemException
from layered.data.loader_set import DataLoaders, TfmdDL
from layered.data.sources import (
    AttrGetter,
    FileGetter,
    ImageGetter,
    ItemGetter,
    get_files,
    get_image_files,
    get_text_files,
    image_extensions,
)
from layered.data.splitters import (
    ColSplitter,
    EndSplitter,
    FileSplitter,
    FuncSplitter,
    GrandparentSplitter,
    IndexSplitter,
    MaskSplitter,
    RandomSplitter,
    RandomSubsetSplitter,
    TrainTestSplitter,
)
from layered.foundation.dispatch import typedispatch
from layered.foundation.display import get_grid, show_image, show_images, show_title, show_titled_image, subplots
from layered.foundation.errors import LayeredError
from layered.foundation.helpers import defaults, fastuple, first, ifnone, listify, noop, range_of, true, using_attr
from layered.foundation.lists import L, coll_repr
from layered.foundation.optional import lazy
from layered.foundation.paths import Path
from layered.foundation.pipeline import Pipeline
from layered.foundation.registry import register_function, transforms
from layered.foundation.seeds import draw, draw_batch, no_random, set_seed
from layered.foundation.tensors import (
    TensorBase,
    TensorCategory,
    TensorImage,
    TensorImageBase,
    TensorImageBW,
    TensorMask,
    TensorMultiCategory,
    TitledFloat,
    TitledInt,
    TitledStr,
    TitledTensorScalar,
    tensor,
)
from layered.foundation.transform import DisplayedTransform, InplaceTransform, ItemTransform, RandTransform, Transform
from layered.foundation.tree import default_device, to_cpu, to_detach, to_device, to_np
from layered.loop.callback import Callback
from layered.loop.checkpoint import Checkpoint
from layered.loop.essentials import CastToTensor, TrainEvalCallback
from layered.loop.events import (
    CancelBackwardException,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelStepException,
    CancelTrainException,
    CancelValidException,
    event,
)
from layered.loop.recorder import Recorder
from layered.metrics.accumulated import AccumMetric
from layered.metrics.classification import (
    F1Score,
    FBeta,
    Precision,
    Recall,
    accuracy,
    accuracy_multi,
    error_rate,
    top_k_accuracy,
)
from layered.metrics.metric import AvgMetric, Metric, mk_metric
from layered.metrics.regression import R2Score, exp_rmspe, mae, mse, msle, rmse
from layered.nn.hooks import Hook, Hooks, hook_output, hook_outputs, model_sizes, num_features_model, total_params
from layered.nn.init import apply_init, cond_init, init_default
from layered.nn.layers import (
    AdaptiveConcatPool2d,
    BatchNorm,
    ConvLayer,
    Embedding,
    Flatten,
    Identity,
    Lambda,
    LinBnDrop,
    Module,
    NormType,
    PoolType,
    ResizeBatch,
    SigmoidRange,
    View,
    sequential,
    sigmoid_range,
)
from layered.nn.losses import (
    BaseLoss,
    BCELossFlat,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    FocalLoss,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    MSELossFlat,
)
from layered.nn.summary import module_summary
from layered.optim.groups import norm_bias_params, params, trainable_params
from layered.optim.optimizer import Optimizer
from layered.optim.schedules import (
    SchedCos,
    SchedExp,
    SchedLin,
    SchedNo,
    SchedPoly,
    annealer,
    combine_scheds,
    combined_cos,
)
from layered.optim.wrappers import OptimWrapper
from layered.optim.zoo import SGD, Adam, AdamW, RMSProp
from layered.training.inference import GatherPredsCallback
from layered.training.interpret import ClassificationInterpretation, Interpretation
from layered.training.learner import Learner
from layered.training.loading import load_learner

pd, plt, matplotlib = lazy("pandas"), lazy("matplotlib.pyplot"), lazy("matplotlib")

__all__ = [
    "SGD",
    "AccumMetric",
    "Adam",
    "AdamW",
    "AdaptiveConcatPool2d",
    "AttrGetter",
    "AvgMetric",
    "BCELossFlat",
    "BCEWithLogitsLossFlat",
    "BaseLoss",
    "BatchNorm",
    "Callback",
    "CancelBackwardException",
    "CancelBatchException",
    "CancelEpochException",
    "CancelFitException",
    "CancelStepException",
    "CancelTrainException",
    "CancelValidException",
    "CastToTensor",
    "Categorize",
    "Category",
    "CategoryBlock",
    "CategoryMap",
    "Checkpoint",
    "ClassificationInterpretation",
    "ColReader",
    "ColSplitter",
    "ConvLayer",
    "Counter",
    "CrossEntropyLossFlat",
    "DataBlock",
    "DataLoader",
    "DataLoaders",
    "Datasets",
    "DisplayedTransform",
    "EarlyStoppingCallback",
    "Embedding",
    "EncodedMultiCategorize",
    "EndSplitter",
    "F",
    "F1Score",
    "FBeta",
    "FileGetter",
    "FileSplitter",
    "Flatten",
    "FocalLoss",
    "FocalLossFlat",
    "FuncSplitter",
    "GatherPredsCallback",
    "GradientAccumulation",
    "GradientClip",
    "GrandparentSplitter",
    "Hook",
    "Hooks",
    "Identity",
    "ImageGetter",
    "IndexSplitter",
    "InplaceTransform",
    "IntToFloatTensor",
    "Interpretation",
    "ItemGetter",
    "ItemTransform",
    "L",
    "L1LossFlat",
    "LRFinder",
    "LabelSmoothingCrossEntropy",
    "LabelSmoothingCrossEntropyFlat",
    "Lambda",
    "LayeredError",
    "Learner",
    "LinBnDrop",
    "MSELossFlat",
    "MaskSplitter",
    "Metric",
    "Module",
    "MultiCategorize",
    "MultiCategory",
    "MultiCategoryBlock",
    "NormType",
    "Normalize",
    "OneHotEncode",
    "OptimWrapper",
    "Optimizer",
    "ParamScheduler",
    "Path",
    "Pipeline",
    "PoolType",
    "Precision",
    "ProgressCallback",
    "R2Score",
    "RMSProp",
    "RandTransform",
    "RandomSplitter",
    "RandomSubsetSplitter",
    "Recall",
    "Recorder",
    "ReduceLROnPlateau",
    "RegexLabeller",
    "RegressionBlock",
    "RegressionSetup",
    "ResizeBatch",
    "SaveModelCallback",
    "SchedCos",
    "SchedExp",
    "SchedLin",
    "SchedNo",
    "SchedPoly",
    "SigmoidRange",
    "SimpleNamespace",
    "SkipItemException",
    "Tensor",
    "TensorBase",
    "TensorCategory",
    "TensorImage",
    "TensorImageBW",
    "TensorImageBase",
    "TensorMask",
    "TensorMultiCategory",
    "TerminateOnNaNCallback",
    "TfmdDL",
    "TfmdLists",
    "TitledFloat",
    "TitledInt",
    "TitledStr",
    "TitledTensorScalar",
    "ToTensor",
    "TrackerCallback",
    "TrainEvalCallback",
    "TrainTestSplitter",
    "Transform",
    "TransformBlock",
    "URLs",
    "View",
    "accuracy",
    "accuracy_multi",
    "annealer",
    "apply_init",
    "array",
    "broadcast_vec",
    "coll_repr",
    "combine_scheds",
    "combined_cos",
    "cond_init",
    "default_device",
    "defaultdict",
    "defaults",
    "draw",
    "draw_batch",
    "error_rate",
    "event",
    "exp_rmspe",
    "fa_collate",
    "fa_convert",
    "fastuple",
    "first",
    "get_c",
    "get_files",
    "get_grid",
    "get_image_files",
    "get_text_files",
    "hook_output",
    "hook_outputs",
    "ifnone",
    "image_extensions",
    "init_default",
    "listify",
    "load_learner",
    "mae",
    "math",
    "matplotlib",
    "minimum",
    "mk_metric",
    "model_sizes",
    "module_summary",
    "mse",
    "msle",
    "nn",
    "no_random",
    "noop",
    "norm_bias_params",
    "np",
    "num_features_model",
    "os",
    "params",
    "parent_label",
    "partial",
    "pd",
    "plt",
    "random",
    "range_of",
    "re",
    "register_function",
    "rmse",
    "sequential",
    "set_seed",
    "show_image",
    "show_images",
    "show_title",
    "show_titled_image",
    "shutil",
    "sigmoid_range",
    "slide",
    "steep",
    "string",
    "subplots",
    "tensor",
    "time",
    "to_cpu",
    "to_detach",
    "to_device",
    "to_np",
    "top_k_accuracy",
    "torch",
    "total_params",
    "trainable_params",
    "transforms",
    "true",
    "typedispatch",
    "untar_data",
    "using_attr",
    "valley",
    "warnings",
    "zipfile",
]
