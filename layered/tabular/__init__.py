"""Tables: columns of categories and numbers, prepared once, and models on them."""

from typing import TYPE_CHECKING

import layered.tabular.graph_inputs as _graph_inputs  # registers how rows enter exported graphs
import layered.tabular.show as _show  # registers how rows are shown
from layered.foundation.faces import star as _star
from layered.tabular.blocks import RowBlock as RowBlock
from layered.tabular.data import (
    TabDataLoader as TabDataLoader,
    TabularDataLoaders as TabularDataLoaders,
    TabularPandas as TabularPandas,
    TabWeightedDL as TabWeightedDL,
    class_weights as class_weights,
)
from layered.tabular.dates import (
    add_datepart as add_datepart,
    add_elapsed_times as add_elapsed_times,
    make_date as make_date,
)
from layered.tabular.importance import (
    embed_features as embed_features,
    partial_dependence as partial_dependence,
    permutation_importance as permutation_importance,
)
from layered.tabular.learner import TabularLearner as TabularLearner, tabular_learner as tabular_learner
from layered.tabular.models.mlp import (
    TabularModel as TabularModel,
    emb_sz_rule as emb_sz_rule,
    get_emb_sz as get_emb_sz,
    tabular_config as tabular_config,
)
from layered.tabular.models.ple import PiecewiseLinear as PiecewiseLinear, TabularPLE as TabularPLE
from layered.tabular.models.resnet import TabularResNet as TabularResNet
from layered.tabular.procs import Categorify as Categorify, FillMissing as FillMissing, FillStrategy as FillStrategy
from layered.tabular.reading import (
    as_frame as as_frame,
    cont_cat_split as cont_cat_split,
    df_shrink as df_shrink,
    df_shrink_dtypes as df_shrink_dtypes,
    read_table as read_table,
)
from layered.tabular.table import Tabular as Tabular, TabularProc as TabularProc

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.tabular.columns import check_columns as check_columns
from layered.tabular.data import known_arguments as known_arguments, split_columns as split_columns
from layered.tabular.graph_inputs import table_input as table_input
from layered.tabular.kinds import column_kind as column_kind, is_saved_index as is_saved_index
from layered.tabular.levels import Levels as Levels, levels_of as levels_of
from layered.tabular.models.mlp import (
    CONFIG as CONFIG,
    Sizes as Sizes,
    check_codes as check_codes,
    checked_range as checked_range,
    checked_size as checked_size,
)
from layered.tabular.reading import TableLike as TableLike, show_frame as show_frame
from layered.tabular.unread import numbers_of as numbers_of
from layered.tabular.values import Name as Name
