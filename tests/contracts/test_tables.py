"""Every callback that the library ships keeps the contract on a learner of a table too."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_callbacks import MAKERS

from layered.foundation import CannotTrain
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularPandas, tabular_config, tabular_learner
from layered.testing import check_callback, check_resuming

MIXING = {"CutMix", "MixUp"}  # which need floats: categories cannot be mixed


def table_learner(**args):
    """Four batches of a mixed table, and a model in two groups with batch norm and dropout."""
    draw = np.random.default_rng(0)
    df = pd.DataFrame({"k": draw.choice(["a", "b"], 20), "x": draw.normal(size=20), "y": ["no", "yes"] * 10})
    df.loc[3, "x"] = np.nan
    to = TabularPandas(df, [Categorify, FillMissing, Normalize], "k", "x", "y", splits=[range(16), range(16, 20)])
    torch.manual_seed(0)
    return tabular_learner(
        to.dataloaders(4, device="cpu", seed=0),
        [8],
        config=tabular_config(ps=0.1),
        lr=0.05,
        splitter=lambda m: [[*m.embeds.parameters(), *m.bn_cont.parameters()], [*m.layers.parameters()]],
        **args,
    )


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in MIXING])
def test_every_callback_keeps_the_contract_on_a_table(name):
    check_callback(MAKERS[name], table_learner)


@pytest.mark.parametrize("name", sorted(MIXING))
def test_what_mixes_pictures_says_that_categories_cannot_be_mixed(name, tmp_path):
    learn = table_learner(path=tmp_path)
    with learn.no_bar(), learn.no_logging(), pytest.raises(CannotTrain, match="categories and words cannot be mixed"):
        learn.fit(1, cbs=MAKERS[name]())


@pytest.mark.parametrize("name", ["EMACallback", "GradientAccumulation", "MixedPrecision", "ParamScheduler"])
def test_a_fit_on_a_table_is_resumed_where_it_was_cut_short(name):
    check_resuming(MAKERS[name], table_learner)
