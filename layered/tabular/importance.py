"""What a model of a table relies on (permutation importance, partial dependence), and its embeddings for other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from layered.foundation import Array, BadArgument, BadValue, checked, lazy
from layered.inference import decoder_of
from layered.tabular.columns import check_columns, listed
from layered.tabular.models.mlp import Inputs
from layered.tabular.reading import TableLike, as_frame
from layered.tabular.table import Tabular, table_of
from layered.tabular.values import Name
from layered.training import Learner

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")
sk_metrics = lazy("sklearn.metrics")
mstats = lazy("scipy.stats.mstats")

Score = Callable[[Any, Any], float]
ROWS_AT_ONCE = 4096  # batch size for predictions: larger than for training, as no gradients are kept


@checked
def permutation_importance(
    learn: Learner,
    df: TableLike,
    scoring: Score | None = None,
    n_repeats: int = 5,
    seed: int = 0,
    features: Sequence[Any] | None = None,
) -> Any:
    """How much worse predictions get when the values of one column are shuffled among the rows.

    Args:
        learn: A trained learner of a table with a single target.
        df: Rows with their targets, preferably not those of training.
        scoring: A function `scoring(targets, decisions)` whose result is larger for better predictions; by default
            accuracy for classes, R² for numbers.
        n_repeats: How often each column is shuffled.
        seed: The seed of the shuffles.
        features: The columns to shuffle; all inputs by default.

    Returns:
        A frame with a row for each column, the most important first: `feature`, `importance_mean` and
            `importance_std` (the drop of the score), as scikit-learn's function of that name computes them.

    Raises:
        BadValue: For a column that is not an input, fewer than two rows, or several targets.
        CannotTrain: If `learn` is not a learner of a table.

    Source: Breiman 2001
    """
    frame, to = as_frame(df).reset_index(drop=True), learner_table(learn)
    names = to.x_given if features is None else listed(features)
    for name in names:
        _check_input(to, name)
    check_columns(frame, [*names, *to.y_names], "which importance is computed from")
    if len(frame) < 2 or n_repeats < 1:
        raise BadValue(
            "there is nothing to shuffle",
            got=f"{len(frame)} rows, n_repeats={n_repeats}",
            expected="at least 2 rows and n_repeats >= 1",
        )
    scoring = scoring if scoring is not None else _default_scoring(to)
    baseline = _score(learn, frame, scoring)
    draw = np.random.default_rng(seed)
    rows = []
    for name in names:
        drops = []
        for _ in range(n_repeats):
            shuffled = frame[name].iloc[draw.permutation(len(frame))].reset_index(drop=True)
            drops.append(baseline - _score(learn, _with_column(frame, name, shuffled), scoring))
        rows.append((name, float(np.mean(drops)), float(np.std(drops))))
    res = pd.DataFrame(rows, columns=["feature", "importance_mean", "importance_std"])
    return res.sort_values("importance_mean", ascending=False, kind="stable", ignore_index=True)


@checked
def partial_dependence(
    learn: Learner, df: TableLike, feature: Name, grid: Sequence[Any] | None = None, grid_resolution: int = 100
) -> Any:
    """The mean prediction over all rows when one column is set to the same value in each, for a grid of values.

    Args:
        learn: A trained learner of a table with a single target.
        df: The rows; targets are not needed.
        feature: The input column to vary.
        grid: The values to set; by default the levels of a categorical column, or the distinct values of a continuous
            one, at most `grid_resolution` of them.
        grid_resolution: If a continuous column has more distinct values than this, the grid is this many evenly spaced
            values from its 5 % to its 95 % quantile, as in scikit-learn.

    Returns:
        A frame with a row for each value: `value`, then a column for each output, named after its class or target.

    Raises:
        BadValue: For a column that is not an input, no rows, no values to set, or several targets.
        CannotTrain: If `learn` is not a learner of a table.

    Source: Friedman 2001
    """
    frame, to = as_frame(df), learner_table(learn)
    _check_input(to, feature)
    values = _grid(to, frame, feature, grid_resolution) if grid is None else listed(grid)
    if not len(frame) or not values:
        raise BadValue(
            f"there are no rows to average over, or there is no value of {feature!r} to set",
            got=f"{len(frame)} rows, {len(values)} values",
            fix="give rows in which the column is not missing, or grid=[...]",
        )
    means = [_outputs(learn, _with_column(frame, feature, value)).mean(0) for value in values]
    labels = list(to.vocab) if to.target_kinds == ["category"] else list(to.y_names)
    columns = labels if len(labels) == len(means[0]) else list(range(len(means[0])))
    res = pd.DataFrame(np.stack(means), columns=pd.Index(columns, tupleize_cols=False))
    res.insert(0, "value", pd.Series(values, dtype=object).infer_objects())
    return res


@checked
def embed_features(learn: Learner, df: TableLike) -> Any:
    """Features for other models, such as trees: categories replaced by their trained embeddings, numbers as prepared.

    Args:
        learn: A trained learner whose model is a `TabularModel` or `TabularResNet`.
        df: The rows; targets are not needed.

    Returns:
        A frame of float32 with the index of `df`: `<column>_emb0`, `<column>_emb1`, … for each categorical column,
            then the continuous columns in standard scores.

    Raises:
        BadArgument: If the model has no embeddings.
        BadValue: If `df` lacks columns.
        CannotTrain: If `learn` is not a learner of a table.

    Source: Guo & Berkhahn 2016, arXiv:1604.06737
    """
    to = learner_table(learn).test_set(as_frame(df))
    model = learn.model
    if not isinstance(model, Inputs):
        raise BadArgument(
            "the model has no embeddings", got=type(model).__name__, expected="TabularModel, TabularResNet"
        )
    embeds = [embed.weight.detach().cpu() for embed in model.embeds if isinstance(embed, nn.Embedding)]
    codes, numbers = to.tensors[0], to.conts.to_numpy(np.float32)
    parts, names = [], []
    with torch.inference_mode():
        for i, name in enumerate(to.cat_names):
            table = embeds[i]
            parts.append(table[codes[:, i].cpu()].numpy())
            names += [f"{name}_emb{k}" for k in range(table.shape[1])]
    data = np.concatenate([*parts, numbers], axis=1)
    return pd.DataFrame(data, columns=pd.Index([*names, *to.cont_names], tupleize_cols=False), index=to.items.index)


def learner_table(learn: object) -> Tabular:
    """The training rows of a learner.

    Raises:
        CannotTrain: If it is not a learner of a table.
    """
    return table_of(learn.dls if isinstance(learn, Learner) else None)


def _check_input(to: Tabular, name: Name) -> None:
    if name not in to.x_given:
        raise BadValue(f"{name!r} is not an input of the model", expected=", ".join(map(repr, to.x_given)))


def _with_column(frame: DataFrame, name: Name, values: Any) -> DataFrame:
    """A copy of the frame with one column replaced."""
    res = frame.copy()
    res[name] = values
    return res


def _outputs(learn: Learner, frame: DataFrame) -> Array:
    """Predictions [row, output]."""
    preds, _ = _predicted(learn, frame, with_labels=False)
    return preds.reshape(len(preds), -1).numpy()


def _predicted(learn: Learner, frame: DataFrame, with_labels: bool) -> tuple[torch.Tensor, Any]:
    """(predictions, targets) of the rows; the targets are None without labels."""
    with learn.no_bar(), learn.no_logging():
        preds, targets = learn.get_preds(dl=learn.dls.test_dl(frame, with_labels=with_labels, bs=ROWS_AT_ONCE))[:2]
    if not isinstance(preds, torch.Tensor):
        raise BadValue("only models with a single target are supported", got=f"{len(preds)} targets")
    return preds, targets


def _score(learn: Learner, frame: DataFrame, scoring: Score) -> float:
    preds, targets = _predicted(learn, frame, with_labels=True)
    decisions = decoder_of(learn)(preds)
    return float(scoring(targets.reshape(decisions.shape).numpy(), decisions.numpy()))


def _default_scoring(to: Tabular) -> Score:
    is_regression = to.target_kinds == ["regression"]
    score: Score = sk_metrics.r2_score if is_regression else sk_metrics.accuracy_score
    return score


def _grid(to: Tabular, frame: DataFrame, feature: Name, resolution: int) -> list[Any]:
    """The default grid of a column: its levels, distinct values, or quantiles."""
    if feature in to.cat_names:
        return list(to.classes[feature])[1:]  # the first is '#na#'
    column = frame[feature].dropna().astype(float)
    distinct = np.unique(column)
    if len(distinct) <= resolution:
        return distinct.tolist()  # type: ignore[no-any-return]
    low, high = mstats.mquantiles(column, (0.05, 0.95))
    return np.linspace(low, high, resolution).tolist()  # type: ignore[no-any-return]
