"""`tabular_learner`: a model for a table, and the learner that predicts rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.data import Normalize, get_c
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    checked,
    describe,
    failed,
    lazy,
    learner_kinds,
    refuse_unknown,
    to_device,
)
from layered.inference import activation_of, decoder_of, evaluating, first_row, model_device
from layered.optim import Adam, trainable_params
from layered.tabular.columns import check_row, listed, number_of
from layered.tabular.frames import as_frame, holds_columns
from layered.tabular.models.mlp import CONFIG, TabularModel, checked_range, get_emb_sz
from layered.tabular.procs import Categorify, FillMissing
from layered.tabular.table import NEEDED, OWN_PROCS, Tabular, table_of
from layered.training import Learner


class RowEncoder:
    """Encodes single rows as the procs of `to` do; for procs of this library only (`fits`).

    Args:
        to: A processed table; its rows are not kept.
    """

    def __init__(self, to: Tabular) -> None:
        self.names, self.conts = to.x_given, list(to.cont_names)
        by_type = {type(step): step for step in to.procs}
        fill, normalize, encode = (by_type.get(kind) for kind in (FillMissing, Normalize, Categorify))
        known = {**fill.fills, **fill.na_dict} if isinstance(fill, FillMissing) else {}
        self.fills = [known.get(name, to.fills.get(name, 0.0)) for name in self.conts]
        is_scaled = normalize is not None
        self.mean = np.array([normalize.mean[n] if is_scaled else 0.0 for n in self.conts])  # type: ignore[union-attr]
        self.std = np.array([normalize.std[n] if is_scaled else 1.0 for n in self.conts])  # type: ignore[union-attr]
        flags = {fill.flag_of(n): n for n in fill.na_dict} if isinstance(fill, FillMissing) and fill.add_col else {}
        self.cats = (
            [(flags.get(name, name), name in flags, encode.levels(name)) for name in to.cat_names]
            if isinstance(encode, Categorify)
            else []
        )

    @staticmethod
    def fits(to: Tabular) -> bool:
        """Whether the procs of `to` are such that rows can be encoded one by one."""
        kinds = [type(step) for step in to.procs]
        orders = [step.order for step in to.procs]
        return (
            all(kind in OWN_PROCS for kind in kinds)
            and len(set(kinds)) == len(kinds)
            and orders == [kind.order for kind in kinds]
            and (not to.cat_names or Categorify in kinds)
        )

    def __call__(self, row: Mapping[Any, Any]) -> tuple[Tensor, Tensor, list[Any]]:
        """Codes int64 [1, category], numbers float32 [1, number], and the values as they were understood, for display."""
        check_row(row, self.names, NEEDED)
        raw = {name: number_of(row[name]) for name in self.conts}
        codes, shown = [], []
        for name, is_flag, levels in self.cats:
            code = levels.code(math.isnan(raw[name]) if is_flag else row[name])
            codes.append(code)
            shown.append(levels.vocab.items[code])
        numbers = [fill if math.isnan(raw[n]) else raw[n] for n, fill in zip(self.conts, self.fills, strict=True)]
        scaled = ((np.array(numbers) - self.mean) / self.std).astype(np.float32)
        return torch.tensor([codes], dtype=torch.int64), torch.from_numpy(scaled)[None], [*shown, *numbers]


pd = lazy("pandas")


@learner_kinds.register("tabular.TabularLearner")
class TabularLearner(Learner):
    """A `Learner` whose `predict` takes a row of a table."""

    _encoder: tuple[Any, RowEncoder | None] = (None, None)

    def predict(self, row: Any, rm_type_tfms: int | None = None, with_input: bool = False) -> tuple[Any, ...]:
        """(row, decision, probabilities) of one row: a Series, a mapping, a frame with one row.

        decision      the class as a number, the labels, or the numbers that are predicted
        Levels that training did not have are '#na#', numbers that are missing the median of training.

        Args:
            row: As it was understood and predicted, decoded: a `Tabular` with one row, `row.show()`, `row.items`.
            with_input: Put the row's tensors first.

        Raises:
            BadValue: Naming all columns that are missing, or for several rows.
        """
        to = getattr(self.dls[len(getattr(self.dls, "loaders", ())) > 1], "dataset", None)
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

    def _encoded(self, to: Tabular, row: Any) -> tuple[tuple[torch.Tensor, ...], list[Any]]:
        """The tensors of one row, and its inputs for display."""
        encoder = self._row_encoder(to)
        if isinstance(row, pd.Series):
            row = row.to_dict()
        if encoder is not None and isinstance(row, Mapping) and not holds_columns(row):
            codes, numbers, shown = encoder(row)
            return (codes, numbers)[: to.n_inp], shown
        frame = as_frame(row)
        if len(frame) != 1:
            raise BadValue("predict takes one row", got=f"{len(frame)} rows", fix="learn.get_preds(dl=dls.test_dl(df))")
        if encoder is not None:
            return self._encoded(to, frame.iloc[0].to_dict())
        processed = to.test_set(frame)
        return processed.tensors[: to.n_inp], processed.decode().xs.iloc[0].tolist()

    def _row_encoder(self, to: Tabular) -> RowEncoder | None:
        if self._encoder[0] is not to:
            self._encoder = (to, RowEncoder(to) if RowEncoder.fits(to) else None)
        return self._encoder[1]


@checked
def tabular_learner(
    dls: Any,
    layers: Sequence[int] | None = None,
    emb_szs: Mapping[Any, int] | None = None,
    config: Mapping[str, Any] | None = None,
    n_out: int | None = None,
    y_range: tuple[float, float] | None = None,
    loss_func: Callable[..., Any] | None = None,
    opt_func: Callable[..., Any] = Adam,
    lr: float | slice = 1e-3,
    splitter: Callable[[nn.Module], Any] = trainable_params,
    cbs: Any = None,
    metrics: Any = None,
    path: Any = None,
    model_dir: Any = "models",
    wd: float | None = None,
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
) -> TabularLearner:
    """A `Learner` for a table: embeddings for categories, batch norm for numbers, then an MLP.

    loss_func … moms  see `Learner`

    The body is the documentation: copy its lines to stand one floor lower.

    Args:
        layers: The widths of the hidden layers; [200, 100] by default.
        emb_szs: How many numbers stand for the levels of a column: {column: numbers}; by default by `emb_sz_rule`.
        config: Options of the model: `tabular_config(ps=[0.1, 0.1], embed_p=0.04)`.
        n_out: Outputs; by default as many as the targets need.
        y_range: (low, high) that outputs are squeezed into.

    Raises:
        BadValue: Where the number of outputs cannot be told, or there are no inputs.
    """
    table_of(dls)
    if config is not None and not isinstance(config, Mapping):
        raise BadArgument("config is no mapping", got=repr(config), fix="config=tabular_config(ps=[0.1, 0.1])")
    options = {"y_range": y_range, **(config or {})}
    refuse_unknown(options, CONFIG, "config")
    options["y_range"] = checked_range(options["y_range"])
    n_out = n_out if n_out is not None else get_c(dls)
    if n_out == 0:
        raise BadValue("the data does not say how many outputs the model needs", fix="tabular_learner(..., n_out=)")
    if not len(dls.x_names):
        raise BadValue("the table has no inputs", fix="name columns in cat_names or cont_names")
    widths = [200, 100] if layers is None else listed(layers)
    model = TabularModel(get_emb_sz(dls, emb_szs), len(dls.cont_names), n_out, widths, **options)
    return TabularLearner(
        dls, model, loss_func, opt_func, lr, splitter, cbs, metrics, path, model_dir, wd, wd_bn_bias, train_bn, moms
    )  # fmt: skip
