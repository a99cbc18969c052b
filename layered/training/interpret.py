"""What a model gets right and wrong: predictions over a loader, kept as numbers; inputs are made again when they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from layered.data.loader import DataLoader
from layered.foundation.dispatch import verb
from layered.foundation.optional import lazy
from layered.loop.loop import Loop
from layered.training.inference import get_preds

plt = lazy("matplotlib.pyplot")
sk_metrics = lazy("sklearn.metrics")


class Interpretation:
    """Predictions, targets, decisions and losses of a loader; no inputs are kept.

    dl         the loader, in the order of its items
    preds      float [item, ...]: probabilities, or outputs
    targs      [item, ...]
    decoded    [item, ...]: decisions
    losses     float [item]
    """

    def __init__(self, learn: Loop, dl: Any, preds: Any, targs: Any, decoded: Any, losses: Tensor) -> None:
        self.learn, self.dl = learn, dl
        self.preds, self.targs, self.decoded, self.losses = preds, targs, decoded, losses

    @classmethod
    def from_learner(cls, learn: Loop, ds_idx: int = 1, dl: Any = None, act: Any = None) -> Self:
        """Predict loader `ds_idx` (1 is validation) of the learner, or `dl`, once."""
        if dl is None:
            dl = learn.dls[ds_idx]
        if isinstance(dl, DataLoader):
            dl = dl.new(shuffle=False, drop_last=False)
        return cls(learn, dl, *get_preds(learn, dl=dl, with_decoded=True, with_loss=True, act=act))

    def top_losses(self, k: int | None = None, largest: bool = True, items: bool = False) -> tuple[Any, ...]:
        """The `k` largest (smallest) losses and the positions of their items; with `items`, the items too."""
        count = len(self.losses) if k is None else min(k, len(self.losses))
        values, positions = self.losses.topk(count, largest=largest)
        if not items:
            return values, positions
        return values, positions, [self.dl.dataset.items[int(i)] for i in positions]

    def plot_top_losses(self, k: int | Sequence[int], largest: bool = True, **kwargs: Any) -> Any:
        """Show the items with the largest losses; `k` is how many, or which ranks."""
        ranks = range(k) if isinstance(k, int) else k
        positions = self.top_losses(max(ranks) + 1, largest)[1][list(ranks)]
        return self._show("plot_top_losses", positions.tolist(), **kwargs)

    def show_results(self, idxs: Sequence[int], **kwargs: Any) -> Any:
        """Show the items at `idxs` with targets and predictions."""
        return self._show("show_results", list(idxs), **kwargs)

    def _show(self, name: str, positions: list[int], **kwargs: Any) -> Any:
        batch = self._batch(positions)
        x, y, samples = self.dl.show_batch(batch, max_n=len(positions), show=False)
        decoded = (*batch[: self.dl.n_inp], self.decoded[positions])
        outs = self.dl.decode_batch(decoded, max_n=len(positions)).map(lambda o: tuple(o[self.dl.n_inp :]))
        if name == "show_results":
            return verb(name)(x, y, samples, outs, max_n=len(positions), **kwargs)
        return verb(name)(x, y, samples, outs, self.preds[positions], self.losses[positions].tolist(), **kwargs)

    def _batch(self, positions: list[int]) -> Any:
        some = self.dl.new(num_workers=0, bs=len(positions), n=len(positions))
        some.get_idxs = lambda: positions
        return some.one_batch()


class ClassificationInterpretation(Interpretation):
    """Which classes are taken for which."""

    @property
    def vocab(self) -> list[str]:
        """The names of the classes."""
        vocab = getattr(self.dl, "vocab", None)
        return [str(v) for v in vocab] if vocab is not None else [str(i) for i in range(self.preds.shape[-1])]

    def confusion_matrix(self) -> np.ndarray[Any, Any]:
        """How many items of each class (row) were taken for each class (column): int64 [class, class]."""
        count = len(self.vocab)
        cells = self.targs.flatten().long() * count + self.decoded.flatten().long()
        matrix: np.ndarray[Any, Any] = torch.bincount(cells, minlength=count * count).reshape(count, count).numpy()
        return matrix

    def plot_confusion_matrix(
        self,
        normalize: bool = False,
        title: str = "Confusion matrix",
        cmap: str = "Blues",
        norm_dec: int = 2,
        plot_txt: bool = True,
        **figure: Any,
    ) -> Any:
        """Draw the confusion matrix and return its figure.

        normalize  shares of each actual class, with `norm_dec` decimals, in place of counts
        figure     for matplotlib's figure: `figsize`, `dpi`
        """
        matrix = self.confusion_matrix().astype(float)
        if normalize:
            matrix /= matrix.sum(1, keepdims=True).clip(min=1)
        names = self.vocab
        side = max(4.0, 0.55 * len(names) + 1.5)
        fig = plt.figure(**{"figsize": (side, side), **figure})
        ax = fig.add_subplot()
        ax.imshow(matrix, interpolation="nearest", cmap=cmap)
        ax.set_title(title)
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
        if plot_txt:
            middle = matrix.max() / 2
            for (row, column), value in np.ndenumerate(matrix):
                text = f"{value:.{norm_dec}f}" if normalize else f"{value:.0f}"
                color = "white" if value > middle else "black"
                ax.text(column, row, text, ha="center", va="center", color=color)
        ax.set_ylabel("Actual")
        ax.set_xlabel("Predicted")
        fig.tight_layout()
        return fig

    def most_confused(self, min_val: int = 1) -> list[tuple[str, str, int]]:
        """(actual, predicted, how often), most frequent first, for mistakes made at least `min_val` times."""
        matrix = self.confusion_matrix()
        np.fill_diagonal(matrix, 0)
        found = [
            (self.vocab[row], self.vocab[column], int(n)) for (row, column), n in np.ndenumerate(matrix) if n >= min_val
        ]
        return sorted(found, key=lambda mistake: -mistake[2])

    def print_classification_report(self) -> None:
        """scikit-learn's report: precision, recall and F1 of each class."""
        labels = list(range(len(self.vocab)))
        print(sk_metrics.classification_report(self.targs, self.decoded, labels=labels, target_names=self.vocab))
