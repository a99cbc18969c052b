"""Layers, initialization, losses, hooks, and models as data."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.nn.attention import (
    PooledSelfAttention2d as PooledSelfAttention2d,
    SelfAttention as SelfAttention,
    SimpleSelfAttention as SimpleSelfAttention,
)
from layered.nn.convolution import (
    BatchNorm as BatchNorm,
    BatchNorm1dFlat as BatchNorm1dFlat,
    ConvLayer as ConvLayer,
    InstanceNorm as InstanceNorm,
    LinBnDrop as LinBnDrop,
    NormType as NormType,
    PixelShuffle_ICNR as PixelShuffle_ICNR,
    SimpleCNN as SimpleCNN,
)
from layered.nn.hooks import (
    Hook as Hook,
    Hooks as Hooks,
    children_and_parameters as children_and_parameters,
    dummy_eval as dummy_eval,
    flatten_model as flatten_model,
    has_children as has_children,
    has_params as has_params,
    hook_output as hook_output,
    hook_outputs as hook_outputs,
    in_channels as in_channels,
    model_sizes as model_sizes,
    num_features_model as num_features_model,
    requires_grad as requires_grad,
    total_params as total_params,
)
from layered.nn.init import (
    apply_init as apply_init,
    apply_leaf as apply_leaf,
    cond_init as cond_init,
    icnr_init as icnr_init,
    init_default as init_default,
    init_linear as init_linear,
    norm_types as norm_types,
    trunc_normal_ as trunc_normal_,
)
from layered.nn.layers import (
    Debugger as Debugger,
    Embedding as Embedding,
    Flatten as Flatten,
    Identity as Identity,
    Lambda as Lambda,
    Mish as Mish,
    MishJit as MishJit,
    Module as Module,
    ParameterModule as ParameterModule,
    PartialLambda as PartialLambda,
    ResizeBatch as ResizeBatch,
    SigmoidRange as SigmoidRange,
    Swish as Swish,
    SwishJit as SwishJit,
    TimeDistributed as TimeDistributed,
    View as View,
    inplace_relu as inplace_relu,
    mish as mish,
    module as module,
    sequential as sequential,
    sigmoid as sigmoid,
    sigmoid_ as sigmoid_,
    sigmoid_range as sigmoid_range,
    swish as swish,
    vleaky_relu as vleaky_relu,
)
from layered.nn.losses import (
    BaseLoss as BaseLoss,
    BCELossFlat as BCELossFlat,
    BCEWithLogitsLossFlat as BCEWithLogitsLossFlat,
    CrossEntropyLossFlat as CrossEntropyLossFlat,
    DiceLoss as DiceLoss,
    FocalLoss as FocalLoss,
    FocalLossFlat as FocalLossFlat,
    L1LossFlat as L1LossFlat,
    LabelSmoothingCrossEntropy as LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat as LabelSmoothingCrossEntropyFlat,
    MSELossFlat as MSELossFlat,
)
from layered.nn.multitask import MultiTaskLoss as MultiTaskLoss
from layered.nn.pooling import (
    AdaptiveAvgPool as AdaptiveAvgPool,
    AdaptiveConcatPool1d as AdaptiveConcatPool1d,
    AdaptiveConcatPool2d as AdaptiveConcatPool2d,
    AvgPool as AvgPool,
    MaxPool as MaxPool,
    PoolFlatten as PoolFlatten,
    PoolType as PoolType,
    adaptive_pool as adaptive_pool,
)
from layered.nn.reductions import NoneReduce as NoneReduce
from layered.nn.residual import (
    Cat as Cat,
    MergeLayer as MergeLayer,
    ProdLayer as ProdLayer,
    ResBlock as ResBlock,
    SEBlock as SEBlock,
    SEModule as SEModule,
    SeparableBlock as SeparableBlock,
    SequentialEx as SequentialEx,
    SEResNeXtBlock as SEResNeXtBlock,
)
from layered.nn.summary import module_summary as module_summary

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.nn.calibration import (
    Calibration as Calibration,
    as_logits as as_logits,
    best_temperature as best_temperature,
    class_surprise as class_surprise,
    outputs_read_as as outputs_read_as,
    probabilities as probabilities,
    sorted_scores as sorted_scores,
    surprise as surprise,
)
from layered.nn.describe import describe_module as describe_module, rebuild_module as rebuild_module
from layered.nn.hooks import undisturbed as undisturbed
from layered.nn.layers import RecordedSequential as RecordedSequential
from layered.nn.losses import default_loss as default_loss, outside_classes as outside_classes
from layered.nn.maps import (
    channels_first as channels_first,
    named_module as named_module,
    not_compiled as not_compiled,
    places as places,
)
from layered.nn.outputs import (
    Meaning as Meaning,
    meaning as meaning,
    own_meaning as own_meaning,
)
from layered.nn.reductions import (
    compared as compared,
    per_sample_loss as per_sample_loss,
    reduction_of as reduction_of,
)
from layered.nn.shares import (
    Shares as Shares,
    combined as combined,
    counted as counted,
    how_batches_combine as how_batches_combine,
    is_built_in as is_built_in,
    loss_shares as loss_shares,
)
from layered.nn.summary import Summary as Summary
from layered.nn.surgery import (
    adapt_first_layer as adapt_first_layer,
    body_weights as body_weights,
    cut_model as cut_model,
    has_pool_type as has_pool_type,
    input_weights as input_weights,
    report_left_out as report_left_out,
)
from layered.nn.with_loss import ModelWithLoss as ModelWithLoss
