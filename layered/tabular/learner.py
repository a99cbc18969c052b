"""`tabular_learner`: a model for a table, and the learner that predicts rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
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
    unknown_name,
)
from layered.inference import activation_of, decoder_of, evaluating, first_row, is_unsure, model_device
from layered.optim import Adam
from layered.tabular.columns import check_row, listed
from layered.tabular.models.mlp import CONFIG, TabularModel, checked_range, get_emb_sz
from layered.tabular.models.ple import CONFIG as PLE_CONFIG, TabularPLE
from layered.tabular.procs import Categorify
from layered.tabular.reading import as_frame, holds_columns
from layered.tabular.table import NEEDED, Row, Tabular, table_of
from layered.tabular.unread import report_unread
from layered.training import Learner, LearnerArgs

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


ARCHS = ("mlp", "ple")


@learner_kinds.register("tabular.TabularLearner")
class TabularLearner(Learner):
    """A `Learner` whose `predict` takes one row of a table. Its arguments are those of `Learner`."""

    _encodable: tuple[Tabular | None, bool] = (
        None,
        False,
    )  # a cache: a table, and whether its procs encode single rows

    def predict(
        self,
        row: object,
        rm_type_tfms: int | None = None,
        with_input: bool = False,
        *,
        strict: bool = False,
        abstain: float | None = None,
    ) -> tuple[Any, ...]:
        """Predict one row. Levels unseen in training count as '#na#'; missing numbers are filled as in training.

        A value that cannot be read as a number counts as missing, with a warning.

        Args:
            row: A Series, a mapping, or a frame with one row.
            rm_type_tfms: Ignored; accepted because learners of other data take it.
            with_input: Whether the row's tensors come first in the result.
            strict: Whether to refuse values that cannot be read as numbers, and levels unseen in training.
            abstain: The least probability of the class that is given, as for `Learner.predict`: the target and the decision are
                None where it is lower.

        Returns:
            (row, decision, probabilities). `row` is a `Tabular` with the row as it was understood, and the predicted
            targets. `decision` is the index of the class, the labels, or the predicted numbers.

        Raises:
            BadValue: If columns are missing (the message names them all), there are several rows, or, if `strict`, a value
                cannot be read.
            CannotTrain: If the learner has no loaders of a table.
        """
        loaders = self.dls.loaders if isinstance(self.dls, DataLoaders) else []
        to = loaders[min(1, len(loaders) - 1)].dataset if loaders else None
        if not isinstance(to, Tabular):
            raise CannotTrain(
                "the loaders do not define how a row becomes a batch",
                got=f"a dataset of type {type(to).__name__}",
                fix="build the loaders with TabularPandas, or TabularDataLoaders.from_df",
            )
        try:
            inputs, shown = self._encoded(to, row, strict)
            with evaluating(self), torch.inference_mode():
                output = self.model(*to_device(inputs, model_device(self)))
                probabilities, decision = (first_row(f(output)) for f in (activation_of(self), decoder_of(self)))
            decisions = decision if isinstance(decision, tuple) else (decision,)
            targets = {}
            for target, part in zip(to.target_columns, decisions, strict=False):
                targets.update(target.columns_of([target.decode(part)]))
            if is_unsure(self, decision, probabilities, abstain):
                targets, decision = {name: [None] for name in targets}, None
            names = [*to.x_names, *targets]
            values = [*shown, *(values[0] for values in targets.values())]
            cells = np.fromiter(values, dtype=object, count=len(values))[
                None
            ]  # pandas would inspect a list cell by cell
            frame = pd.DataFrame(cells, columns=pd.Index(names, tupleize_cols=False), dtype=object, copy=False)
        except Exception as error:
            raise failed(error, f"predicting one row ({describe(row)})") from error
        res = (to.with_rows(frame, is_processed=False), decision, probabilities)
        return (inputs, *res) if with_input else res

    def _encoded(self, to: Tabular, row: object, strict: bool) -> tuple[tuple[Tensor, ...], list[Any]]:
        """The tensors of one row, and its inputs for display."""
        if isinstance(row, pd.Series):
            row = row.to_dict()
        if isinstance(row, Mapping) and not holds_columns(row):
            return self._encoded_row(to, row, strict) or _encoded_table(to, as_frame(row), strict)
        frame = as_frame(row)
        if len(frame) != 1:
            raise BadValue("predict takes one row", got=f"{len(frame)} rows", fix="learn.get_preds(dl=dls.test_dl(df))")
        return self._encoded_row(to, frame.iloc[0].to_dict(), strict) or _encoded_table(to, frame, strict)

    def _encoded_row(
        self, to: Tabular, given: Mapping[Any, Any], strict: bool
    ) -> tuple[tuple[Tensor, ...], list[Any]] | None:
        """`_encoded` without building a table, which takes far longer than the model; None if the procs need a table."""
        if self._encodable[0] is not to:
            self._encodable = (to, encodes_rows(to))
        if not self._encodable[1]:
            return None
        check_row(given, to.x_given, NEEDED)
        row = Row(to, given)
        for step in to.procs:
            step(row)
        numbers = [row.values[name] for name in to.cont_names]
        if any(map(math.isnan, numbers)):  # no proc fills this number, so the table's own fill is needed
            return None
        if row.unread:
            report_unread([cells for cells in row.unread if strict or cells.is_worth_saying], strict, "the row")
        codes = torch.tensor([[row.values[name] for name in to.cat_names]], dtype=torch.int64)
        inputs = (codes, torch.tensor([numbers], dtype=torch.float32))[: to.n_inp]
        return inputs, [row.shown[name] for name in to.x_names]


def encodes_rows(to: Tabular) -> bool:
    """Whether the procs of a table can encode single rows: each has an overload for `Row`, occurs once, and has its usual order.

    With another order or number of procs, the row would not be what the table makes of it.
    """
    kinds = [type(step) for step in to.procs]
    return (
        all(Row in kind.overloads("encodes") for kind in kinds)
        and len(set(kinds)) == len(kinds)
        and [step.order for step in to.procs] == [kind.order for kind in kinds]
        and (not to.cat_names or Categorify in kinds)
    )


def _encoded_table(to: Tabular, frame: DataFrame, strict: bool) -> tuple[tuple[Tensor, ...], list[Any]]:
    """`TabularLearner._encoded` by way of a table, which works for all procs."""
    processed = to.test_set(frame, strict=strict)
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
    *,
    arch: str | None = None,
    **learner_args: Unpack[LearnerArgs],
) -> TabularLearner:
    """A `Learner` for a table: embeddings for categories and numbers, then an MLP.

    `arch="ple"` is `TabularPLE`: numbers become their positions among quantiles, targets have their own scale, and Adam adapts
    quickly (`sqr_mom=0.95`). `arch="mlp"` is `TabularModel`, with batch norm for numbers. `fit_auto` trains either as long
    as it gets better.

    The body is the documentation: copy its lines to work one floor lower.

    Args:
        dls: Loaders of a table, such as `TabularDataLoaders`.
        layers: The widths of the hidden layers; by default [200, 100] of "mlp", [96, 96] of "ple".
        emb_szs: The length of the embedding of some columns, {column: length}; `emb_sz_rule` sets the others.
        config: Options of the model: `tabular_config(ps=[0.1, 0.1], embed_p=0.04)`; those of `TabularPLE` for "ple".
        n_out: The number of outputs; by default as many as the targets need.
        y_range: (low, high) that a scaled sigmoid maps the outputs into; None leaves them unbounded.
        arch: "ple" or "mlp"; by default "mlp".
        learner_args: Arguments of `Learner`.

    Raises:
        BadArgument: For an unknown argument or option.
        UnknownName: For another `arch`.
        BadValue: If the number of outputs is unknown, or there are no inputs.
        CannotTrain: If `dls` are not loaders of a table.
    """
    to = table_of(dls)
    if config is not None and not isinstance(config, Mapping):
        raise BadArgument("config is not a mapping", got=repr(config), fix="config=tabular_config(ps=[0.1, 0.1])")
    arch = "mlp" if arch is None else arch
    if arch not in ARCHS:
        raise unknown_name("arch", arch, ARCHS)
    options = {"y_range": y_range, **(config or {})}
    refuse_unknown(options, CONFIG if arch == "mlp" else PLE_CONFIG, "config")
    options["y_range"] = checked_range(options["y_range"])
    n_out = n_out if n_out is not None else get_c(dls)
    if n_out == 0:
        raise BadValue(
            "the number of outputs is unknown: the data does not define it", fix="tabular_learner(..., n_out=)"
        )
    if not len(to.x_names):
        raise BadValue("the table has no inputs", fix="name columns in cat_names or cont_names")
    sizes, n_cont = get_emb_sz(to, emb_szs), len(to.cont_names)
    if arch == "ple":
        embedded = TabularPLE(sizes, n_cont, n_out, [96, 96] if layers is None else listed(layers), **options)
        embedded.fit(to)
        learner_args.setdefault("opt_func", partial(Adam, sqr_mom=0.95))
        return TabularLearner(dls, embedded, **learner_args)
    model = TabularModel(sizes, n_cont, n_out, [200, 100] if layers is None else listed(layers), **options)
    if n_cont:
        model.mute_constant(to.tensors[1])
    return TabularLearner(dls, model, **learner_args)
