"""One pass over a loader that keeps little of each item: losses, small predictions and targets, no inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from layered.foundation import BadValue, output_scores, plain_tree, tensors_of
from layered.inference.gathering import KeptColumn, targets_of
from layered.inference.predict import activation_of, decoder_of, no_prediction_batch
from layered.loop import Callback, Loop
from layered.nn import per_sample_loss

COLUMNS = ("preds", "targs", "decoded", "losses")

Watch = Callable[[Any, Any, Any], None]


class Review(Callback):
    """Keeps the loss of each item of a validation pass, and its prediction, target and decision if they are small.

    After the pass `columns` contains what was kept, by name; None for what was not.

    Args:
        loop: The learner.
        act: Turns the model's output into the prediction; by default the activation of the loss.
        keep_preds: Keep the predictions.
        only_small: Keep only values of at most one row of numbers per item; False keeps all.
        watch: Called with the predictions, targets and decisions of each batch.
    """

    run_train = False
    state_kinds = ()

    def __init__(
        self,
        loop: Loop,
        act: Callable[[Any], Any] | None = None,
        keep_preds: bool = True,
        only_small: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.act = act or activation_of(loop, output_scores)
        self.decode = decoder_of(loop)
        self.keep_preds, self.only_small, self.watch = keep_preds, only_small, watch
        self.kept = {name: KeptColumn() for name in COLUMNS}
        self.columns: dict[str, Any] = {}

    def after_loss(self) -> None:
        learn = self.learn
        targets = targets_of(learn)
        if learn.loss_func is None:
            losses = logit_losses(learn.pred, targets)
        else:
            losses = per_sample_loss(learn.loss_func, learn.pred, targets, one_by_one=True)
        preds, targs = plain_tree(self.act(learn.pred)), plain_tree(targets[0] if len(targets) == 1 else targets)
        decoded = as_decisions(plain_tree(output_scores(self.decode(learn.pred))), targs)
        if self.watch is not None:
            self.watch(preds, targs, decoded)
        for name, values in zip(COLUMNS, (preds, targs, decoded, losses), strict=True):
            if (name != "preds" or self.keep_preds) and (not self.only_small or is_small(values)):
                self.kept[name].add(values)

    def after_validate(self) -> None:
        self.columns = {name: column.take() for name, column in self.kept.items()}


def review(loop: Loop, dl: Iterable[Any], **settings: Any) -> dict[str, Any]:
    """Make one pass over a loader, and return the columns that `Review` keeps.

    Args:
        loop: The learner.
        dl: A loader of any library.
        settings: As for `Review`.

    Raises:
        EmptySource: The loader has no batches.
        BadValue: The batches have no targets, or the loss cannot be computed per item.
    """
    seen = Review(loop, **settings)
    with loop.validation_context(cbs=seen):
        loop.one_validation(dl)
    if seen.columns["losses"] is None:
        raise no_prediction_batch(dl)
    return seen.columns


def is_small(values: object) -> bool:
    """Whether a batch has at most one row of numbers for each item."""
    return all(t.ndim <= 2 for t in tensors_of(values))


def logit_losses(output: object, targets: tuple[Any, ...]) -> Tensor:
    """The cross-entropy of each sample, from the `logits` of a model that computes its loss itself.

    Raises:
        BadValue: The output has no logits, or they do not match the targets.
    """
    scores = output_scores(output)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or targets[0].shape != scores.shape[:1]:
        raise BadValue(
            "cannot compute per-sample losses: the model computes its own, reduced loss",
            expected="logits [batch, class] and labels [batch]",
            fix="give the learner a loss_func with a `reduction`",
        )
    return F.cross_entropy(scores.float(), targets[0].long(), reduction="none")


def as_decisions(decoded: object, targets: object) -> Any:
    """The argmax of class scores that no loss decodes, recognized by the shape and dtype of the targets; other decisions
    unchanged."""
    if not isinstance(decoded, Tensor) or not isinstance(targets, Tensor):
        return decoded
    if not decoded.is_floating_point() or targets.is_floating_point() or decoded.ndim != targets.ndim + 1:
        return decoded
    axis = 1 if decoded.shape[2:] == targets.shape[1:] else -1
    return decoded.argmax(axis) if decoded.shape[axis] > 1 else decoded
