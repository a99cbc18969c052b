"""Confusion matrices: which classes a model takes for which, for items and for pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from layered.data import class_vocab
from layered.foundation import BadValue, Report, Table, checked, describe, ignored_target, lazy, one_line, plot_label
from layered.inference import review, steady_loader
from layered.insight.interpret import Interpretation
from layered.insight.reliability import plot_reliability
from layered.loop import Loop
from layered.metrics import known_targets, refuse_invalid_targets

plt = lazy("matplotlib.pyplot")
sk_metrics = lazy("sklearn.metrics")

Matrix = np.ndarray[Any, np.dtype[Any]]

READABLE = 60  # names and numbers of more classes than this would overlap in a drawing


def _in_a_row(column: Any) -> Any:
    """Rows that differ in length, such as the labels of words, one after the other."""
    is_of_rows = isinstance(column, list) and all(isinstance(row, Tensor) for row in column)
    return torch.cat([row.flatten() for row in column]) if is_of_rows else column


class ConfusionInterpretation(Interpretation):
    """Base of the interpretations that have a confusion matrix."""

    def confusion_matrix(self) -> Matrix:
        """How often each class (row) was predicted as each class (column): int64 [class, class]."""
        raise NotImplementedError

    @property
    def vocab(self) -> list[Any]:
        """The names of the classes; empty if they have none."""
        vocab = class_vocab(self.dl)
        return [] if vocab is None else list(vocab)

    def _names(self, count: int) -> list[Any]:
        return [*self.vocab, *range(len(self.vocab), count)]

    def plot_confusion_matrix(
        self,
        normalize: bool = False,
        title: str = "Confusion matrix",
        cmap: str = "Blues",
        norm_dec: int = 2,
        plot_txt: bool = True,
        **figure: Any,
    ) -> None:
        """Draw the confusion matrix.

        Args:
            normalize: Show fractions of each actual class in place of counts.
            title: Title of the figure.
            cmap: Name of a matplotlib colour map.
            norm_dec: Decimals of the fractions.
            plot_txt: Write the numbers into the cells; left out, like the names, where there are more than 60
                classes.
            figure: For matplotlib's figure: `figsize`, `dpi`.
        """
        matrix = self.confusion_matrix().astype(float)
        if normalize:
            matrix /= matrix.sum(1, keepdims=True).clip(min=1)
        names = [plot_label(name) for name in self._names(len(matrix))] if len(matrix) <= READABLE else []
        beside = min(0.09 * max(map(len, names), default=0), 4.0)  # inches for the names
        side = min(max(3.0, 0.55 * len(matrix) + 0.5), 0.55 * READABLE) + 1.0 + beside
        fig = plt.figure(**{"figsize": (side, side), **figure})
        ax = fig.add_subplot()
        ax.imshow(matrix, interpolation="nearest", cmap=cmap)
        ax.set(title=title, ylabel="Actual", xlabel="Predicted")
        if names:
            ax.set_xticks(range(len(names)), names, rotation=90)
            ax.set_yticks(range(len(names)), names)
        if plot_txt and len(matrix) <= READABLE:
            middle = matrix.max() / 2
            for (row, column), value in np.ndenumerate(matrix):
                text = f"{value:.{norm_dec}f}" if normalize else f"{value:.0f}"
                color = "white" if value > middle else "black"
                ax.text(column, row, text, ha="center", va="center", color=color)
        fig.tight_layout()

    @checked
    def most_confused(self, min_val: int = 1) -> list[tuple[Any, Any, int]]:
        """The mistakes made at least `min_val` times, most frequent first: (actual, predicted, count).

        Args:
            min_val: Smallest count that is listed.
        """
        rows, columns, counts = self._pairs()
        mistakes = (rows != columns) & (counts >= max(min_val, 1))
        rows, columns, counts = rows[mistakes], columns[mistakes], counts[mistakes]
        names = self._names(1 + int(max(rows.max(initial=0), columns.max(initial=0))))
        order = np.argsort(-counts, kind="stable")
        return [(names[rows[i]], names[columns[i]], int(counts[i])) for i in order]

    def _pairs(self) -> tuple[Matrix, Matrix, Matrix]:
        """Actual class, predicted class and count of each pair that occurs, in the order of the classes."""
        matrix = self.confusion_matrix()
        rows, columns = matrix.nonzero()
        return rows, columns, matrix[rows, columns]


class ClassificationInterpretation(ConfusionInterpretation):
    """Which classes a model takes for which.

    If items have several labels, there is a matrix for each label: `label_matrices`.
    """

    def confusion_matrix(self) -> Matrix:
        """How many items of each class (row) were predicted as each class (column): int64 [class, class].

        Raises:
            BadValue: If items have several labels, several targets, or no classes.
        """
        actual, predicted, count = self._classes()
        matrix: Matrix = torch.bincount(actual * count + predicted, minlength=count * count).numpy()
        return matrix.reshape(count, count)

    def label_matrices(self) -> Matrix:
        """For items with several labels, a matrix for each label: int64 [label, 2, 2].

        A row for items without the label and one for items with it; a column for not predicted and one for predicted.

        Raises:
            BadValue: If each item has one class.
        """
        if not self._has_several_labels():
            raise BadValue("each item has one class", fix="confusion_matrix()")
        actual, predicted = self.targs.long(), self.decoded.long()
        cells = torch.arange(actual.shape[1]) * 4 + actual * 2 + predicted
        matrices: Matrix = torch.bincount(cells.flatten(), minlength=4 * actual.shape[1]).numpy()
        return matrices.reshape(-1, 2, 2)

    def print_classification_report(self) -> None:
        """Print scikit-learn's report: precision, recall and F1 of each class or label."""
        if self._has_several_labels():
            actual, predicted, count = self.targs.long(), self.decoded.long(), self.targs.shape[1]
        else:
            actual, predicted, count = self._classes()
        names = [one_line(str(name)) for name in self._names(count)]
        print(
            sk_metrics.classification_report(
                actual, predicted, labels=list(range(count)), target_names=names, zero_division=0
            )
        )

    def plot_reliability(self, bins: int = 10, figsize: tuple[float, float] | None = None) -> None:
        """Draw how often decisions are right over how sure the model is of them: a reliability diagram.

        Below the diagonal the model is surer than it is right; `learn.calibrate()` mends that. Of several labels, it is how often
        a label applies over its probability.

        Args:
            bins: The number of bins of equal width.
            figsize: Width and height in inches.

        Raises:
            BadValue: Predictions are not probabilities, or were not kept.
        """
        plot_reliability(self.preds, self.targs, self._has_several_labels(), bins, figsize)

    def _pairs(self) -> tuple[Matrix, Matrix, Matrix]:
        actual, predicted, count = self._classes()
        cells, counts = (actual * count + predicted).unique(return_counts=True)  # type: ignore[no-untyped-call]
        return (cells // count).numpy(), (cells % count).numpy(), counts.numpy()

    def _has_several_labels(self) -> bool:
        targs, decoded = self.targs, self.decoded
        both = isinstance(targs, Tensor) and isinstance(decoded, Tensor) and targs.shape == decoded.shape
        return both and targs.ndim == 2 and targs.shape[1] > 1 and decoded.dtype is torch.bool

    def _classes(self) -> tuple[Tensor, Tensor, int]:
        """Actual and predicted classes, int64 [item] each (of what the loss counts), and the number of classes."""
        targs, decoded = _in_a_row(self.targs), _in_a_row(self.decoded)
        if self._has_several_labels():
            raise BadValue(
                "items with several labels have no confusion matrix",
                fix="label_matrices(), print_classification_report()",
            )
        if isinstance(targs, tuple) or isinstance(decoded, tuple):
            raise BadValue(
                "a confusion matrix is of one target, and there are several",
                got=f"targets {describe(targs)}, decisions {describe(decoded)}",
                fix="ClassificationInterpretation(learn, dl, preds[0], targs[0], decoded[0], losses)",
            )
        both = isinstance(targs, Tensor) and isinstance(decoded, Tensor)
        if not both or decoded.is_floating_point() or targs.numel() != decoded.numel():
            raise BadValue(
                "the decisions are not classes to compare with the targets",
                got=f"decisions {describe(decoded)}, targets {describe(targs)}",
                expected="an index for each item in both",
                fix="a loss_func that decodes, such as CrossEntropyLossFlat; RegressionInterpretation for numbers; "
                "SegmentationInterpretation for masks",
            )
        actual, predicted = targs.flatten().long(), decoded.flatten().long()
        if (ignored := ignored_target(self.learn and self.learn.loss_func)) is not None:
            actual, predicted = actual[actual != ignored], predicted[actual != ignored]
        count = max(len(self.vocab), int(predicted.max()) + 1, 2 if decoded.dtype is torch.bool else 1)
        if not self.vocab and isinstance(self.preds, Tensor) and self.preds.ndim == 2:
            count = max(count, self.preds.shape[1])
        count = max(count, int(actual.max()) + 1) if not self.vocab else count
        refuse_invalid_targets(((actual < 0) | (actual >= count)).sum(), count)
        return actual, predicted, count


class SegmentationInterpretation(ConfusionInterpretation):
    """Which pixels a model gets right and wrong; only losses and counts of pixels are kept.

    Attributes:
        matrix: int64 [class, class]: how many pixels of each class (row) were predicted as each class (column).
    """

    matrix: Matrix

    @classmethod
    @checked
    def from_learner(
        cls,
        learn: Loop,
        ds_idx: int = 1,
        dl: Iterable[Any] | None = None,
        act: Callable[[Any], Any] | None = None,
        keep_preds: bool = False,
        ignore_index: int | None = None,
    ) -> Self:
        """Predict every item of a loader once.

        Args:
            learn: The learner.
            ds_idx: Which of the learner's loaders: 1 is validation, 0 training.
            dl: Any other loader.
            act: In place of the loss's activation; called with the model's output for each batch.
            keep_preds: Whether to keep the predictions, if they are at most one row of numbers per item.
            ignore_index: Pixels with this target do not count; by default those that the loss ignores.

        Raises:
            EmptySource: If the loader has no batches.
            BadValue: If the decisions are not classes of the pixels of the targets.
        """
        loader = steady_loader(learn, ds_idx, dl)
        ignored = ignored_target(learn.loss_func) if ignore_index is None else ignore_index
        counts = PixelCounts(len(class_vocab(loader) or ()), ignored)
        columns = review(learn, loader, act=act, keep_preds=keep_preds, watch=counts.add)
        interp = cls(learn, loader, **columns, act=act)
        interp.matrix = counts.matrix()
        return interp

    def confusion_matrix(self) -> Matrix:
        """How many pixels of each class (row) were predicted as each class (column): int64 [class, class]."""
        return self.matrix.copy()

    def scores(self) -> PixelScores:
        """Accuracy, overlap and Dice of each class."""
        return PixelScores(self.matrix, self._names(len(self.matrix)))


class PixelCounts:
    """Counts pairs of actual and predicted class, over batches of masks.

    Args:
        classes: Least number of classes; 0 if not known.
        ignore_index: Pixels with this target do not count; None counts all.
    """

    def __init__(self, classes: int, ignore_index: int | None) -> None:
        self.classes, self.ignore_index = classes, ignore_index
        self.counts: Any = 0

    def add(self, preds: object, targs: object, decoded: object) -> None:
        """Count the pixels of a batch.

        Args:
            preds: Scores [batch, class, height, width], or anything else.
            targs: int [batch, height, width].
            decoded: int [batch, height, width].

        Raises:
            BadValue: If the decisions are not classes of the same pixels as the targets.
        """
        if (
            not isinstance(targs, Tensor)
            or not isinstance(decoded, Tensor)
            or decoded.is_floating_point()
            or decoded.numel() != targs.numel()
        ):
            raise BadValue(
                "the decisions are not classes of the same pixels as the targets",
                got=f"decisions {describe(decoded)}, targets {describe(targs)}",
                expected="[batch, height, width] of class numbers in both",
                fix="loss_func=CrossEntropyLossFlat(axis=1), and a model whose masks are as large as the targets",
            )
        if isinstance(self.counts, int):
            scored = preds.shape[1] if isinstance(preds, Tensor) and preds.ndim == targs.ndim + 1 else 0
            self.classes = max(self.classes, scored, 2)
        known = known_targets(targs.flatten(), self.classes, self.ignore_index)
        rows = self.classes + 2  # the last two count invalid targets, and ignored ones
        cells = known * self.classes + decoded.flatten()
        self.counts = self.counts + torch.bincount(cells, minlength=rows * self.classes).view(rows, self.classes)

    def matrix(self) -> Matrix:
        """The counts of actual (row) and predicted (column) class: int64 [class, class].

        Raises:
            BadValue: If there were invalid targets.
        """
        refuse_invalid_targets(self.counts[-2].sum(), self.classes)
        matrix: Matrix = self.counts[:-2].cpu().numpy()
        return matrix


@dataclass(frozen=True, repr=False)
class PixelScores(Report):
    """How well each class of a confusion matrix is found.

    Scores are float64 [class] in [0, 1], nan for a class that does not occur.

    Args:
        matrix: int64 [class, class], actual classes as rows.
        names: Names of the classes.

    Examples:
        >>> PixelScores(np.array([[6, 2], [0, 2]]), ["ground", "road"])
        ======================================
        class   pixels  accuracy  IoU    Dice
        ======================================
        ground  8       0.750     0.750  0.857
        road    2       1.000     0.500  0.667
        mean            0.875     0.625  0.762
        ======================================
        80.0 % of 10 pixels are right
    """

    matrix: Matrix
    names: Sequence[Any]

    @property
    def pixels(self) -> Matrix:
        """The number of pixels of each class."""
        return self.matrix.sum(1)  # type: ignore[no-any-return]

    @property
    def overall(self) -> float:
        """The fraction of all pixels that are right."""
        return float(self.matrix.trace() / max(1, self.matrix.sum()))

    @property
    def accuracy(self) -> Matrix:
        """The fraction of the pixels of each class that is found."""
        return _share(self.matrix.diagonal(), self.pixels)

    @property
    def iou(self) -> Matrix:
        """Intersection over union: the pixels in both masks over those in either."""
        hits = self.matrix.diagonal()
        return _share(hits, self.pixels + self.matrix.sum(0) - hits)

    @property
    def dice(self) -> Matrix:
        """Twice the pixels in both masks over the sum of the pixels in each."""
        return _share(2 * self.matrix.diagonal(), self.pixels + self.matrix.sum(0))

    def records(self) -> list[dict[str, Any]]:
        columns = zip(self.names, self.pixels, self.accuracy, self.iou, self.dice, strict=True)
        return [dict(zip(("class", "pixels", "accuracy", "iou", "dice"), row, strict=True)) for row in columns]

    def tables(self) -> Sequence[Table]:
        columns = self.accuracy, self.iou, self.dice
        means = [column[~np.isnan(column)].mean() if self.pixels.any() else np.nan for column in columns]
        rows = [
            (name, pixels, *(f"{score:.3f}" for score in scores))
            for name, pixels, *scores in [*zip(self.names, self.pixels, *columns, strict=True), ("mean", "", *means)]
        ]
        return [(("class", "pixels", "accuracy", "IoU", "Dice"), rows)]

    def notes(self) -> Sequence[str]:
        return [f"{100 * self.overall:.1f} % of {self.pixels.sum()} pixels are right"]


def _share(part: Matrix, whole: Matrix) -> Matrix:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)  # type: ignore[no-any-return]
