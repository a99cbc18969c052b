"""What a model gets right and wrong, from one pass over a loader; inputs are not kept but made again when they are shown."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from torch import Tensor

from layered.data import DataLoader, TfmdDL
from layered.foundation import BadValue, CannotTrain, OutOfRange, checked, describe, facts_text, lazy, verb
from layered.inference import batch_at, items_at, review, steady_loader, take_rows
from layered.loop import Loop

plt = lazy("matplotlib.pyplot")

Column = Tensor | tuple[Any, ...] | list[Any] | None
"""A row for each item; a tuple of columns if there are several targets; None if it was not kept."""

Positions = int | Iterable[int] | slice


class Interpretation:
    """What a model predicts for every item of a loader, from one pass over it.

    Losses are kept, and of predictions, targets and decisions what has at most one row of numbers per item; the others are
    None. Inputs are never kept: to show an item, it is made again, and so is its prediction if it was not kept.
    `interp[idxs]` is (inputs, preds, targs, decoded, losses) of the items at `idxs`.

    Args:
        learn: The learner that made the predictions.
        dl: The loader, in the order of its items; training items are treated as validation items, without augmentation.
        preds: Probabilities or outputs: [item, ...].
        targs: Targets: [item, ...].
        decoded: Decisions: [item, ...].
        losses: Loss of each item: float [item].
        act: In place of the loss's activation.
    """

    def __init__(
        self,
        learn: Loop,
        dl: Iterable[Any],
        preds: Column,
        targs: Column,
        decoded: Column,
        losses: Tensor,
        act: Callable[[Any], Any] | None = None,
    ) -> None:
        self.learn, self.dl, self.act, self.losses = learn, dl, act, losses
        self.preds: Any = preds
        self.targs: Any = targs
        self.decoded: Any = decoded
        self._shown: list[int] = []  # the items whose predictions were made again last
        self._shown_columns: dict[str, Any] = {}

    @classmethod
    @checked
    def from_learner(
        cls,
        learn: Loop,
        ds_idx: int = 1,
        dl: Iterable[Any] | None = None,
        act: Callable[[Any], Any] | None = None,
        keep_preds: bool = True,
    ) -> Self:
        """Predict every item of a loader once.

        Args:
            learn: The learner.
            ds_idx: Which of the learner's loaders: 1 is validation, 0 training.
            dl: Any other loader: one of the library, torch's, or a list of batches.
            act: In place of the loss's activation; called with the model's output for each batch.
            keep_preds: False keeps no predictions, which saves memory if there are thousands of classes.

        Raises:
            EmptySource: If the loader has no batches.
            BadValue: If there are no targets.
        """
        loader = steady_loader(learn, ds_idx, dl)
        return cls(learn, loader, **review(learn, loader, act=act, keep_preds=keep_preds), act=act)

    def __len__(self) -> int:
        return len(self.losses)

    def __repr__(self) -> str:
        worst = int(self.losses.argmax())
        losses = f"mean {self.losses.mean():.4g}, largest {self.losses[worst]:.4g} (item {worst})"
        columns = {name: "not kept" if o is None else describe(o) for name, o in self._kept.items()}
        return facts_text(f"{type(self).__name__} of {len(self)} items", {"losses": losses, **columns})

    def __getitem__(self, idxs: Positions) -> tuple[Any, ...]:
        positions = self._positions(idxs)
        batch, columns = batch_at(self.dl, positions), self._columns(positions)
        n_inp = getattr(self.dl, "n_inp", None) or getattr(self.learn.dls, "n_inp", None)
        inputs = batch[: n_inp or max(len(batch) - 1, 1)] if isinstance(batch, (tuple, list)) else batch
        inputs = inputs[0] if isinstance(inputs, (tuple, list)) and len(inputs) == 1 else inputs
        return inputs, columns["preds"], columns["targs"], columns["decoded"], self.losses[positions]

    def top_losses(self, k: int | None = None, largest: bool = True, items: bool = False) -> tuple[Any, ...]:
        """The largest losses, and the positions of their items.

        Args:
            k: Number of losses; all if None.
            largest: False gives the smallest.
            items: Whether to return the items too, as a third element.

        Raises:
            OutOfRange: If `k` is not positive.
        """
        if k is not None and operator.index(k) < 1:
            raise OutOfRange("k is the number of losses", got=k, expected="a whole number from 1")
        values, positions = self.losses.topk(len(self) if k is None else min(k, len(self)), largest=largest)
        return (values, positions, self.items_at(positions)) if items else (values, positions)

    def items_at(self, idxs: Positions) -> list[Any]:
        """The raw items at some positions: paths, rows of a table, ….

        Args:
            idxs: Positions of the items.

        Raises:
            CannotTrain: The loader has no access by position, or left items out.
        """
        self.check_complete()
        return items_at(self.dl, self._positions(idxs))

    def check_complete(self) -> None:
        """Refuse a loader that left items out, so that predictions are not those of the items at their positions."""
        if isinstance(self.dl, DataLoader) and self.dl.n != len(self):
            raise CannotTrain(
                "predictions cannot be matched with items, because the loader left some out",
                got=f"{len(self)} predictions for {self.dl.n} items",
                fix="leave them out of the data: on_bad='raise' names them",
            )

    def plot_top_losses(self, k: int | Sequence[int], largest: bool = True, **kwargs: Any) -> None:
        """Show the items with the largest losses.

        Args:
            k: Number of items, or which ranks: 5, or range(5, 10).
            largest: False shows the smallest losses.
            kwargs: For the function that shows items of this type: `nrows`, `ncols`, `figsize`, ….

        Raises:
            CannotTrain: If the loader does not know how its items are shown.
        """
        in_order = self.top_losses(None if isinstance(k, Iterable) else k, largest)[1]
        chosen = in_order[self._positions(k)] if isinstance(k, Iterable) else in_order
        self._show("plot_top_losses", chosen.tolist(), **kwargs)

    def show_results(self, idxs: Positions, **kwargs: Any) -> None:
        """Show items with their targets and predictions.

        Args:
            idxs: Positions of the items.
            kwargs: As for `plot_top_losses`.

        Raises:
            CannotTrain: If the loader does not know how its items are shown.
        """
        self._show("show_results", self._positions(idxs), **kwargs)

    def _show(self, name: str, positions: list[int], **kwargs: Any) -> None:
        batch = batch_at(self.dl, positions) if isinstance(self.dl, TfmdDL) else None
        if not isinstance(self.dl, TfmdDL) or not isinstance(batch, (tuple, list)):
            raise CannotTrain(
                "these loaders do not know how their items are shown",
                got=describe(self.dl),
                fix="build the loaders with a DataBlock; top_losses(k, items=True) gives the items themselves",
            )
        self.check_complete()
        count, columns = len(positions), self._columns(positions)
        x, y, samples = self.dl.show_batch(batch, max_n=count, show=False)
        outs = self.dl.decode_results(batch, columns["decoded"], count)
        if name == "show_results":
            verb(name)(x, y, samples, outs, max_n=count, **kwargs)
            return
        raws = [take_rows(columns["preds"], i) for i in range(count)]
        verb(name)(x, y, samples, outs, raws, self.losses[positions].tolist(), **kwargs)

    @property
    def _kept(self) -> dict[str, Any]:
        return {"preds": self.preds, "targs": self.targs, "decoded": self.decoded}

    def _columns(self, positions: list[int]) -> dict[str, Any]:
        """Predictions, targets and decisions of these items; made again, and remembered, if they were not kept."""
        kept = self._kept
        if all(column is not None for column in kept.values()):
            return {name: take_rows(column, positions) for name, column in kept.items()}
        if not set(positions) <= set(self._shown):
            batch = batch_at(self.dl, positions)
            self._shown_columns = review(self.learn, [batch], act=self.act, only_small=False)
            self._shown = list(positions)
        rows = [self._shown.index(position) for position in positions]
        return {name: take_rows(self._shown_columns[name], rows) for name in kept}

    def _positions(self, idxs: Positions) -> list[int]:
        if isinstance(idxs, slice):
            idxs = range(len(self))[idxs]
        chosen = [operator.index(i) for i in (idxs if isinstance(idxs, Iterable) else [idxs])]
        wrong = [i for i in chosen if not -len(self) <= i < len(self)]
        if wrong or not chosen:
            raise OutOfRange(
                f"there is no item {wrong[0]}" if wrong else "no items were given",
                got=idxs,
                expected=f"positions from 0 to {len(self) - 1}",
            )
        return [i % len(self) for i in chosen]


class RegressionInterpretation(Interpretation):
    """How far predicted numbers are from their targets."""

    @property
    def residuals(self) -> Tensor:
        """Prediction minus target: float [item, number].

        Raises:
            BadValue: If predictions and targets do not have the same number of numbers.
        """
        preds, targs = self.preds, self.targs
        if not (isinstance(preds, Tensor) and isinstance(targs, Tensor) and preds.numel() == targs.numel()):
            raise BadValue(
                "residuals need one predicted number for each target number",
                got=f"predictions {describe(preds)}, targets {describe(targs)}",
                expected="equally many numbers in both",
                fix="ClassificationInterpretation for classes; keep_preds=True if predictions were not kept",
            )
        return preds.float().reshape(len(self), -1) - targs.reshape(len(self), -1)

    def plot_residuals(self, figsize: tuple[float, float] | None = None) -> None:
        """Plot predictions against targets, and a histogram of the residuals; a row for each predicted number.

        Args:
            figsize: Width and height in inches.
        """
        residuals, actuals = self.residuals, self.targs.float().reshape(len(self), -1)
        count = residuals.shape[1]
        _, axes = plt.subplots(count, 2, figsize=figsize or (9, 4 * count), squeeze=False, layout="constrained")
        for (scatter, spread), off, actual in zip(axes, residuals.T, actuals.T, strict=True):
            scatter.scatter(actual, actual + off, s=12, alpha=0.6)
            scatter.axline((float(actual[0]), float(actual[0])), slope=1, color="grey", linewidth=1)
            scatter.set(xlabel="Actual", ylabel="Predicted", title=f"{len(self)} items")
            spread.hist(off.numpy(), bins="auto")
            spread.axvline(0, color="grey", linewidth=1)
            spread.set(xlabel="Predicted - actual", title=f"mean {off.mean():.3g}, mean size {off.abs().mean():.3g}")
