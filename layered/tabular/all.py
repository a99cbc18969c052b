"""Everything for tables: the middle floors and the tabular application.

from layered.tabular.all import *
"""

from __future__ import annotations

import layered.tabular.show  # registers how rows are shown
from layered import basics
from layered.basics import *
from layered.tabular.data import TabDataLoader, TabularDataLoaders, TabularPandas, TabWeightedDL, class_weights
from layered.tabular.dates import add_datepart, add_elapsed_times, make_date
from layered.tabular.frames import as_frame, cont_cat_split, df_shrink, df_shrink_dtypes, read_table
from layered.tabular.importance import embed_features, partial_dependence, permutation_importance
from layered.tabular.learner import TabularLearner, tabular_learner
from layered.tabular.models.mlp import TabularModel, emb_sz_rule, get_emb_sz, tabular_config
from layered.tabular.models.resnet import TabularResNet
from layered.tabular.procs import Categorify, FillMissing, FillStrategy
from layered.tabular.tasks import MultiTaskLoss
from layered.tabular.types import Tabular, TabularProc

__all__ = [
    *basics.__all__,
    "Categorify",
    "FillMissing",
    "FillStrategy",
    "MultiTaskLoss",
    "TabDataLoader",
    "TabWeightedDL",
    "Tabular",
    "TabularDataLoaders",
    "TabularLearner",
    "TabularModel",
    "TabularPandas",
    "TabularProc",
    "TabularResNet",
    "add_datepart",
    "add_elapsed_times",
    "as_frame",
    "class_weights",
    "cont_cat_split",
    "df_shrink",
    "df_shrink_dtypes",
    "emb_sz_rule",
    "embed_features",
    "get_emb_sz",
    "make_date",
    "partial_dependence",
    "permutation_importance",
    "read_table",
    "tabular_config",
    "tabular_learner",
]
