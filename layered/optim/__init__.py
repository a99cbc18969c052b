"""Optimizers: statistics, then steps, over slabs of parameters; recipes, groups and schedules."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.optim.annealing import (
    SchedCos as SchedCos,
    SchedExp as SchedExp,
    SchedLin as SchedLin,
    SchedNo as SchedNo,
    SchedPoly as SchedPoly,
    annealer as annealer,
    combine_scheds as combine_scheds,
    combined_cos as combined_cos,
    sched_cos as sched_cos,
    sched_exp as sched_exp,
    sched_lin as sched_lin,
    sched_no as sched_no,
    sched_poly as sched_poly,
    warm_up as warm_up,
)
from layered.optim.groups import (
    norm_bias_params as norm_bias_params,
    params as params,
    trainable_params as trainable_params,
)
from layered.optim.muon import Muon as Muon
from layered.optim.optimizer import Optimizer as Optimizer
from layered.optim.schedule_free import ScheduleFree as ScheduleFree
from layered.optim.stats import (
    average_grad as average_grad,
    average_sqr_grad as average_sqr_grad,
    debias as debias,
    larc_layer_lr as larc_layer_lr,
    step_stat as step_stat,
    sum_sqr_grad as sum_sqr_grad,
)
from layered.optim.steppers import (
    adagrad_step as adagrad_step,
    adam_step as adam_step,
    l2_reg as l2_reg,
    lamb_step as lamb_step,
    larc_step as larc_step,
    lion_step as lion_step,
    lookahead_step as lookahead_step,
    momentum_step as momentum_step,
    qhadam_step as qhadam_step,
    radam_step as radam_step,
    rms_prop_step as rms_prop_step,
    sgd_step as sgd_step,
    weight_decay as weight_decay,
)
from layered.optim.wrappers import OptimWrapper as OptimWrapper
from layered.optim.zoo import (
    SGD as SGD,
    Adagrad as Adagrad,
    Adam as Adam,
    AdamW as AdamW,
    Lamb as Lamb,
    Larc as Larc,
    Lion as Lion,
    Lookahead as Lookahead,
    QHAdam as QHAdam,
    RAdam as RAdam,
    RMSProp as RMSProp,
    ranger as ranger,
)

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.optim.groups import (
    GroupedOptimizer as GroupedOptimizer,
    HyperValue as HyperValue,
    as_groups as as_groups,
    discriminative as discriminative,
    force_train as force_train,
    mark_no_decay as mark_no_decay,
)
from layered.optim.hypers import pytorch_hp_map as pytorch_hp_map
from layered.optim.names import optimizer_named as optimizer_named
