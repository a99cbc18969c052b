"""What a model gets right and wrong: one pass over a loader, of which little is kept; what is shown is made again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from torch import Tensor

from layered.foundation import BadValue, CannotTrain, OutOfRange, checked, describe, lazy, verb
from layered.inference import batch_at, items_at, review, steady_loader, take_rows
from layered.loop import Loop

plt = lazy("matplotlib.pyplot")


class Interpretation:
    """What a model says of every item of a loader, from one pass over it.

    Kept are the losses, and of the others what has at most one row of numbers an item; else they are None. Inputs are never
    kept: an item that is shown is made again. If its prediction was not kept, that is made again too, when it is first shown.
    `interp[idxs]` gives (inputs, preds, targs, decoded, losses) of the items at `idxs`.

    Args:
        dl: The loader, in the order of its items; training items are seen as validation items are, not augmented.
        losses: Float [item].
        preds: [item, ...]: probabilities, or outputs.
        targs: [item, ...].
        decoded: [item, ...]: decisions.
        act: In place of the loss's activation.
    """

    def __init__(
        self,
        learn: Loop,
        dl: Any,
        preds: Any,
        targs: Any,
        decoded: Any,
        losses: Tensor,
        act: Callable[[Any], Any] | None = None,
    ) -> None:
        self.learn, self.dl, self.act = learn, dl, act
        self.preds, self.targs, self.decoded, self.losses = preds, targs, decoded, losses
        self._shown: list[int] = []  # the items whose predictions were made again last
        self._shown_columns: dict[str, Any] = {}

    @classmethod
    @checked
    def from_learner(
        cls,
        learn: Loop,
        ds_idx: int = 1,
        dl: Any = None,
        act: Callable[[Any], Any] | None = None,
        keep_preds: bool = True,
    ) -> Self:
        """Predict the learner's loader `ds_idx` (1 is validation, 0 training), or `dl`, once.

        Args:
            dl: A loader of any make: ours, torch's, a list of batches.
            act: In place of the loss's activation; called with the model's output for each batch.
            keep_preds: False keeps no predictions, to save memory where there are thousands of classes.

        Raises:
            EmptySource: For a loader without batches.
            BadValue: Where there are no targets.
        """
        dl = steady_loader(learn, ds_idx, dl)
        return cls(learn, dl, **review(learn, dl, act=act, keep_preds=keep_preds), act=act)

    def __len__(self) -> int:
        return len(self.losses)

    def __getitem__(self, idxs: Any) -> tuple[Any, ...]:
        positions = self._positions(idxs)
        batch, columns = batch_at(self.dl, positions), self._columns(positions)
        n_inp = getattr(self.dl, "n_inp", None) or getattr(self.learn.dls, "n_inp", None)
        inputs = batch[: n_inp or max(len(batch) - 1, 1)] if isinstance(batch, (tuple, list)) else batch
        inputs = inputs[0] if isinstance(inputs, (tuple, list)) and len(inputs) == 1 else inputs
        return inputs, columns["preds"], columns["targs"], columns["decoded"], self.losses[positions]

    def top_losses(self, k: int | None = None, largest: bool = True, items: bool = False) -> tuple[Any, ...]:
        """The `k` largest (smallest) losses, all if None, and the positions of their items; with `items`, the items too."""
        if k is not None and operator.index(k) < 1:
            raise OutOfRange("k is how many losses there shall be", got=k, expected="a whole number from 1")
        values, positions = self.losses.topk(len(self) if k is None else min(k, len(self)), largest=largest)
        return (values, positions, items_at(self.dl, positions.tolist())) if items else (values, positions)

    def plot_top_losses(self, k: int | Sequence[int], largest: bool = True, **kwargs: Any) -> Any:
        """Show the items with the largest (smallest) losses.

        Args:
            k: How many, or which ranks: 5, or range(5, 10).
            kwargs: For the body of the verb `plot_top_losses` that shows such items: `nrows`, `ncols`, `figsize`, ….

        Raises:
            CannotTrain: For a loader that does not know how its items are shown.
        """
        in_order = self.top_losses(None if isinstance(k, Iterable) else k, largest)[1]
        chosen = in_order[self._positions(k)] if isinstance(k, Iterable) else in_order
        return self._show("plot_top_losses", chosen.tolist(), **kwargs)

    def show_results(self, idxs: int | Sequence[int] | slice, **kwargs: Any) -> Any:
        """Show the items at `idxs` with targets and predictions; `kwargs` as for `plot_top_losses`."""
        return self._show("show_results", self._positions(idxs), **kwargs)

    def _show(self, name: str, positions: list[int], **kwargs: Any) -> Any:
        batch = batch_at(self.dl, positions) if hasattr(self.dl, "decode_results") else None
        if not isinstance(batch, (tuple, list)):
            raise CannotTrain(
                "items can be shown by loaders that know how they were made",
                got=describe(self.dl),
                fix="build the loaders with a DataBlock; top_losses(k, items=True) gives the items themselves",
            )
        if self.dl.n != len(self):
            raise CannotTrain(
                "items were left out of the pass, so it is not known which are which",
                got=f"{len(self)} predictions for {self.dl.n} items",
                fix="leave them out of the data: on_bad='raise' names them",
            )
        count, columns = len(positions), self._columns(positions)
        x, y, samples = self.dl.show_batch(batch, max_n=count, show=False)
        outs = self.dl.decode_results(batch, columns["decoded"], count)
        if name == "show_results":
            return verb(name)(x, y, samples, outs, max_n=count, **kwargs)
        raws = [take_rows(columns["preds"], i) for i in range(count)]
        return verb(name)(x, y, samples, outs, raws, self.losses[positions].tolist(), **kwargs)

    def _columns(self, positions: list[int]) -> dict[str, Any]:
        """Predictions, targets and decisions of these items; made again, and remembered, if they were not kept."""
        kept = {"preds": self.preds, "targs": self.targs, "decoded": self.decoded}
        if all(column is not None for column in kept.values()):
            return {name: take_rows(column, positions) for name, column in kept.items()}
        if not set(positions) <= set(self._shown):
            batch = batch_at(self.dl, positions)
            self._shown_columns = review(self.learn, [batch], act=self.act, only_small=False)
            self._shown = list(positions)
        rows = [self._shown.index(position) for position in positions]
        return {name: take_rows(self._shown_columns[name], rows) for name in kept}

    def _positions(self, idxs: Any) -> list[int]:
        if isinstance(idxs, slice):
            idxs = range(len(self))[idxs]
        chosen = [operator.index(i) for i in (idxs if isinstance(idxs, Iterable) else [idxs])]
        wrong = [i for i in chosen if not -len(self) <= i < len(self)]
        if wrong or not chosen:
            raise OutOfRange(
                f"there is no item {wrong[0]}" if wrong else "no item was asked for",
                got=idxs,
                expected=f"positions from 0 to {len(self) - 1}",
            )
        return [i % len(self) for i in chosen]


class RegressionInterpretation(Interpretation):
    """How far off predicted numbers are."""

    @property
    def residuals(self) -> Tensor:
        """Prediction minus target: float [item, number].

        Raises:
            BadValue: Where predictions and targets are not as many numbers.
        """
        preds, targs = self.preds, self.targs
        if not (isinstance(preds, Tensor) and isinstance(targs, Tensor) and preds.numel() == targs.numel()):
            raise BadValue(
                "residuals are the differences of predicted numbers and target numbers",
                got=f"predictions {describe(preds)}, targets {describe(targs)}",
                expected="as many numbers in both",
                fix="ClassificationInterpretation for classes; keep_preds=True where predictions were not kept",
            )
        return preds.float().reshape(len(self), -1) - targs.reshape(len(self), -1)

    def plot_residuals(self, figsize: tuple[float, float] | None = None) -> Any:
        """Predictions over targets, beside how the residuals are spread; a row for each number. Returns the figure."""
        residuals, actuals = self.residuals, self.targs.float().reshape(len(self), -1)
        count = residuals.shape[1]
        fig, axes = plt.subplots(count, 2, figsize=figsize or (9, 4 * count), squeeze=False, layout="constrained")
        for (scatter, spread), off, actual in zip(axes, residuals.T, actuals.T, strict=True):
            scatter.scatter(actual, actual + off, s=12, alpha=0.6)
            scatter.axline((float(actual[0]), float(actual[0])), slope=1, color="grey", linewidth=1)
            scatter.set(xlabel="Actual", ylabel="Predicted", title=f"{len(self)} items")
            spread.hist(off.numpy(), bins="auto")
            spread.axvline(0, color="grey", linewidth=1)
            spread.set(xlabel="Predicted - actual", title=f"mean {off.mean():.3g}, mean size {off.abs().mean():.3g}")
        return fig
