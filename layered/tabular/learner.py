"""`tabular_learner`: a model for a table, and the learner that predicts rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor

from layered.data import DataLoaders, get_c
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    checked,
    delegates,
    describe,
    failed,
    lazy,
    learner_kinds,
    refuse_unknown,
    to_device,
)
from layered.inference import activation_of, decoder_of, evaluating, first_row, model_device
from layered.tabular.columns import check_row, listed
from layered.tabular.models.mlp import CONFIG, TabularModel, checked_range, get_emb_sz
from layered.tabular.procs import Categorify
from layered.tabular.reading import as_frame, holds_columns
from layered.tabular.table import NEEDED, Row, Tabular, table_of
from layered.training import Learner, LearnerArgs

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


@learner_kinds.register("tabular.TabularLearner")
class TabularLearner(Learner):
    """A `Learner` whose `predict` takes a row of a table."""

    _encodable: tuple[Tabular | None, bool] = (None, False)  # a table, and whether its procs encode single rows

    def predict(self, row: object, rm_type_tfms: int | None = None, with_input: bool = False) -> tuple[Any, ...]:
        """Predict one row. Levels that training did not have are '#na#', missing numbers the median of training.

        Args:
            row: A Series, a mapping, or a frame with one row.
            rm_type_tfms: Ignored; learners of other data have it.
            with_input: Put the row's tensors first.

        Returns:
            (row, decision, probabilities). The row is a `Tabular` with the row as it was understood and predicted; the
            decision is the class as a number, the labels, or the numbers that are predicted.

        Raises:
            BadValue: If columns are missing, all of which are named, or for several rows.
            CannotTrain: If the loaders have no table.
        """
        loaders = self.dls.loaders if isinstance(self.dls, DataLoaders) else []
        to = loaders[min(1, len(loaders) - 1)].dataset if loaders else None
        if not isinstance(to, Tabular):
            raise CannotTrain(
                "predict needs to know how a row becomes a batch, and these loaders do not say",
                got=f"a data set of type {type(to).__name__}",
                fix="build the loaders with TabularPandas, or TabularDataLoaders.from_df",
            )
        try:
            inputs, shown = self._encoded(to, row)
            with evaluating(self), torch.inference_mode():
                output = self.model(*to_device(inputs, model_device(self)))
                probabilities, decision = (first_row(f(output)) for f in (activation_of(self), decoder_of(self)))
            decisions = decision if isinstance(decision, tuple) else (decision,)
            targets = {}
            for target, part in zip(to.target_columns, decisions, strict=False):
                targets.update(target.columns_of([target.decode(part)]))
            names = [*to.x_names, *targets]
            values = [*shown, *(values[0] for values in targets.values())]
            cells = np.fromiter(values, dtype=object, count=len(values))[None]  # a list would be looked at cell by cell
            frame = pd.DataFrame(cells, columns=pd.Index(names, tupleize_cols=False), dtype=object, copy=False)
        except Exception as error:
            raise failed(error, f"predicting one row ({describe(row)})") from error
        res = (to.with_rows(frame, is_processed=False), decision, probabilities)
        return (inputs, *res) if with_input else res

    def _encoded(self, to: Tabular, row: object) -> tuple[tuple[Tensor, ...], list[Any]]:
        """The tensors of one row, and its inputs for display."""
        if isinstance(row, pd.Series):
            row = row.to_dict()
        if isinstance(row, Mapping) and not holds_columns(row):
            return self._encoded_row(to, row) or _encoded_table(to, as_frame(row))
        frame = as_frame(row)
        if len(frame) != 1:
            raise BadValue("predict takes one row", got=f"{len(frame)} rows", fix="learn.get_preds(dl=dls.test_dl(df))")
        return self._encoded_row(to, frame.iloc[0].to_dict()) or _encoded_table(to, frame)

    def _encoded_row(self, to: Tabular, given: Mapping[Any, Any]) -> tuple[tuple[Tensor, ...], list[Any]] | None:
        """`_encoded` without a table in between, which takes far longer than the model; None where procs need a table."""
        if self._encodable[0] is not to:
            self._encodable = (to, encodes_rows(to))
        if not self._encodable[1]:
            return None
        check_row(given, to.x_given, NEEDED)
        row = Row(to, given)
        for step in to.procs:
            step(row)
        numbers = [row.values[name] for name in to.cont_names]
        if any(map(math.isnan, numbers)):
            return None
        codes = torch.tensor([[row.values[name] for name in to.cat_names]], dtype=torch.int64)
        inputs = (codes, torch.tensor([numbers], dtype=torch.float32))[: to.n_inp]
        return inputs, [row.shown[name] for name in to.x_names]


def encodes_rows(to: Tabular) -> bool:
    """Whether all procs of a table can encode single rows, in the order and number that was meant for them."""
    kinds = [type(step) for step in to.procs]
    return (
        all(Row in kind.overloads("encodes") for kind in kinds)
        and len(set(kinds)) == len(kinds)
        and [step.order for step in to.procs] == [kind.order for kind in kinds]
        and (not to.cat_names or Categorify in kinds)
    )


def _encoded_table(to: Tabular, frame: DataFrame) -> tuple[tuple[Tensor, ...], list[Any]]:
    processed = to.test_set(frame)
    return processed.tensors[: to.n_inp], processed.decode().xs.iloc[0].tolist()


@checked
@delegates(Learner)
def tabular_learner(
    dls: DataLoaders,
    layers: Sequence[int] | None = None,
    emb_szs: Mapping[Any, int] | None = None,
    config: Mapping[str, Any] | None = None,
    n_out: int | None = None,
    y_range: tuple[float, float] | None = None,
    **learner_args: Unpack[LearnerArgs],
) -> TabularLearner:
    """A `Learner` for a table: embeddings for categories, batch norm for numbers, then an MLP.

    The body is the documentation: copy its lines to stand one floor lower.

    Args:
        dls: Loaders of a table, such as `TabularDataLoaders`.
        layers: The widths of the hidden layers; [200, 100] by default.
        emb_szs: The length of the embedding of each column: {column: length}; by default by `emb_sz_rule`.
        config: Options of the model: `tabular_config(ps=[0.1, 0.1], embed_p=0.04)`.
        n_out: Outputs; by default as many as the targets need.
        y_range: (low, high) that outputs are squeezed into.
        learner_args: See `Learner`.

    Raises:
        BadValue: If the number of outputs is unknown, or there are no inputs.
        CannotTrain: If the loaders are not of a table.
    """
    to = table_of(dls)
    if config is not None and not isinstance(config, Mapping):
        raise BadArgument("config is not a mapping", got=repr(config), fix="config=tabular_config(ps=[0.1, 0.1])")
    options = {"y_range": y_range, **(config or {})}
    refuse_unknown(options, CONFIG, "config")
    options["y_range"] = checked_range(options["y_range"])
    n_out = n_out if n_out is not None else get_c(dls)
    if n_out == 0:
        raise BadValue("the data does not say how many outputs the model needs", fix="tabular_learner(..., n_out=)")
    if not len(to.x_names):
        raise BadValue("the table has no inputs", fix="name columns in cat_names or cont_names")
    widths = [200, 100] if layers is None else listed(layers)
    model = TabularModel(get_emb_sz(to, emb_szs), len(to.cont_names), n_out, widths, **options)
    return TabularLearner(dls, model, **learner_args)
