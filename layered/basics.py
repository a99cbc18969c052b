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
from layered.data.column import TfmdLists
from layered.data.conversions import IntToFloatTensor, Normalize, ToTensor, broadcast_vec
from layered.data.datasets import Datasets, decode_at, show_at
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
from layered.nn.activations import (
    Mish,
    MishJit,
    SigmoidRange,
    Swish,
    SwishJit,
    inplace_relu,
    mish,
    sigmoid,
    sigmoid_,
    sigmoid_range,
    swish,
    vleaky_relu,
)
from layered.nn.attention import PooledSelfAttention2d, SelfAttention, SimpleSelfAttention
from layered.nn.convolution import BatchNorm, BatchNorm1dFlat, ConvLayer, InstanceNorm, LinBnDrop, NormType, SimpleCNN
from layered.nn.hooks import Hook, Hooks, dummy_eval, hook_output, hook_outputs, model_sizes, num_features_model
from layered.nn.init import apply_init, apply_leaf, cond_init, init_default, init_linear, norm_types, trunc_normal_
from layered.nn.layers import (
    Debugger,
    Embedding,
    Flatten,
    Identity,
    Lambda,
    Module,
    ParameterModule,
    PartialLambda,
    ResizeBatch,
    TimeDistributed,
    View,
    module,
    sequential,
)
from layered.nn.losses import (
    BaseLoss,
    BCELossFlat,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    DiceLoss,
    FocalLoss,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    MSELossFlat,
    NoneReduce,
)
from layered.nn.pooling import (
    AdaptiveAvgPool,
    AdaptiveConcatPool1d,
    AdaptiveConcatPool2d,
    AvgPool,
    MaxPool,
    PoolFlatten,
    PoolType,
    adaptive_pool,
)
from layered.nn.residual import (
    Cat,
    MergeLayer,
    ProdLayer,
    ResBlock,
    SEBlock,
    SEModule,
    SeparableBlock,
    SequentialEx,
    SEResNeXtBlock,
)
from layered.nn.summary import module_summary
from layered.nn.upsampling import PixelShuffle_ICNR, icnr_init
from layered.nn.walking import (
    children_and_parameters,
    flatten_model,
    has_children,
    has_params,
    in_channels,
    requires_grad,
    total_params,
)
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
    "AdaptiveAvgPool",
    "AdaptiveConcatPool1d",
    "AdaptiveConcatPool2d",
    "AttrGetter",
    "AvgMetric",
    "AvgPool",
    "BCELossFlat",
    "BCEWithLogitsLossFlat",
    "BaseLoss",
    "BatchNorm",
    "BatchNorm1dFlat",
    "Callback",
    "CancelBackwardException",
    "CancelBatchException",
    "CancelEpochException",
    "CancelFitException",
    "CancelStepException",
    "CancelTrainException",
    "CancelValidException",
    "CastToTensor",
    "Cat",
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
    "Debugger",
    "DiceLoss",
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
    "InstanceNorm",
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
    "MaxPool",
    "MergeLayer",
    "Metric",
    "Mish",
    "MishJit",
    "Module",
    "MultiCategorize",
    "MultiCategory",
    "MultiCategoryBlock",
    "NoneReduce",
    "NormType",
    "Normalize",
    "OneHotEncode",
    "OptimWrapper",
    "Optimizer",
    "ParamScheduler",
    "ParameterModule",
    "PartialLambda",
    "Path",
    "Pipeline",
    "PixelShuffle_ICNR",
    "PoolFlatten",
    "PoolType",
    "PooledSelfAttention2d",
    "Precision",
    "ProdLayer",
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
    "ResBlock",
    "ResizeBatch",
    "SEBlock",
    "SEModule",
    "SEResNeXtBlock",
    "SaveModelCallback",
    "SchedCos",
    "SchedExp",
    "SchedLin",
    "SchedNo",
    "SchedPoly",
    "SelfAttention",
    "SeparableBlock",
    "SequentialEx",
    "SigmoidRange",
    "SimpleCNN",
    "SimpleNamespace",
    "SimpleSelfAttention",
    "SkipItemException",
    "Swish",
    "SwishJit",
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
    "TimeDistributed",
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
    "adaptive_pool",
    "annealer",
    "apply_init",
    "apply_leaf",
    "array",
    "broadcast_vec",
    "children_and_parameters",
    "coll_repr",
    "combine_scheds",
    "combined_cos",
    "cond_init",
    "default_device",
    "defaultdict",
    "defaults",
    "draw",
    "draw_batch",
    "dummy_eval",
    "error_rate",
    "event",
    "exp_rmspe",
    "fa_collate",
    "fa_convert",
    "fastuple",
    "first",
    "flatten_model",
    "get_c",
    "get_files",
    "get_grid",
    "get_image_files",
    "get_text_files",
    "has_children",
    "has_params",
    "hook_output",
    "hook_outputs",
    "icnr_init",
    "ifnone",
    "image_extensions",
    "in_channels",
    "init_default",
    "init_linear",
    "inplace_relu",
    "listify",
    "load_learner",
    "mae",
    "math",
    "matplotlib",
    "minimum",
    "mish",
    "mk_metric",
    "model_sizes",
    "module",
    "module_summary",
    "mse",
    "msle",
    "nn",
    "no_random",
    "noop",
    "norm_bias_params",
    "norm_types",
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
    "requires_grad",
    "rmse",
    "sequential",
    "set_seed",
    "show_image",
    "show_images",
    "show_title",
    "show_titled_image",
    "shutil",
    "sigmoid",
    "sigmoid_",
    "sigmoid_range",
    "slide",
    "steep",
    "string",
    "subplots",
    "swish",
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
    "trunc_normal_",
    "typedispatch",
    "untar_data",
    "using_attr",
    "valley",
    "vleaky_relu",
    "warnings",
    "zipfile",
]
