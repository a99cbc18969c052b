"""Standard scores of numbers of any scale, as scikit-learn's scaler makes them."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close

from layered.tabular.all import FillMissing, Normalize, TabularPandas, tabular_learner

ROWS, TRAIN = 200, 160
SPLITS = (range(TRAIN), range(TRAIN, ROWS))


def columns_of_many_scales(draw):
    noise = draw.normal(size=ROWS)
    varying = {f"times {scale:g}": noise * scale for scale in (1e-30, 1e-12, 1e-7, 1.0, 1e12, 1e29)}
    varying |= {f"near {mean:g}": mean + noise * 1e-8 * mean for mean in (1e-12, 1.0, 1e9)}
    constant = {f"only {value:g}": np.full(ROWS, value) for value in (0.0, 0.1, 5.0, -1e9 / 3)}
    constant |= {
        "whole": np.full(ROWS, 3),
        "but for rounding": 1e9 + noise * 1e-6,
        "with gaps": np.where(noise > 0, np.nan, 2),
    }
    return varying, constant


def test_scores_are_those_of_scikit_learn_for_any_scale():
    varying, constant = columns_of_many_scales(np.random.default_rng(0))
    df = pd.DataFrame({**varying, **constant, "y": 0.0})
    df.loc[TRAIN:, list(constant)] += 1
    names = [*varying, *constant]
    with pytest.warns(UserWarning, match="nothing can be learned from the numbers of 'only 0', .*'with gaps'"):
        to = TabularPandas(df, [FillMissing, Normalize], None, names, "y", splits=SPLITS, reduce_memory=False)
    filled = df[names].fillna(2)
    scaler = StandardScaler().fit(filled[:TRAIN])
    np.testing.assert_allclose(to.items[names].to_numpy(float), scaler.transform(filled), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(list(to.stds.values()), scaler.scale_, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:nothing can be learned")
@pytest.mark.parametrize("other", [6.0, 5000.0])
def test_another_value_of_a_constant_column_changes_no_prediction(other):
    draw = np.random.default_rng(0)
    df = pd.DataFrame({"x": draw.normal(size=ROWS), "z": 5.0}).assign(y=lambda d: 2 * d.x)
    to = TabularPandas(df, [Normalize], None, ["x", "z"], "y", splits=SPLITS)
    learn = tabular_learner(to.dataloaders(32, device="cpu"), [8])
    with learn.no_bar(), learn.no_logging():
        learn.fit(30, 1e-2)
    wanted = learn.get_preds(dl=learn.dls.test_dl(df))[0]
    assert_close(learn.get_preds(dl=learn.dls.test_dl(df.assign(z=other)))[0], wanted)


@pytest.mark.parametrize(
    ("target", "message"),
    [(lambda noise: 1e9 + noise, r"df\['y'\] -= df\['y'\].mean"), (lambda noise: 0 * noise + 3, "it is 3 in all")],
)
def test_a_target_that_no_model_can_learn_is_said(target, message):
    noise = np.random.default_rng(0).normal(size=ROWS)
    df = pd.DataFrame({"x": noise, "y": target(noise)})
    with pytest.warns(UserWarning, match=message):
        TabularPandas(df, Normalize, None, "x", "y", splits=SPLITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1e-12, 1.0, 1e9):
            TabularPandas(df.assign(y=noise * scale), Normalize, None, "x", "y", splits=SPLITS)
