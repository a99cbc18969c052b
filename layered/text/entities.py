"""How well entities, such as names of several words, are found: by labels of words "B-PER", "I-PER", "O"."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from layered.data import class_vocab
from layered.foundation import BadArgument, BadValue, plain
from layered.metrics import CountScore, Metric, ratio, register_metric
from layered.text.types import IGNORED


class EntityCounts(Metric):
    """How many entities were found, predicted and true: int64 [3]. See `EntityF1`.

    Args:
        vocab: The labels, in order; by default those of the learner.
    """

    state = ("counts",)
    counts: Any  # int64 [3]

    def __init__(self, vocab: Sequence[str] | None = None) -> None:
        self.vocab = vocab

    def identity(self) -> Hashable:
        return type(self), None if self.vocab is None else tuple(self.vocab)

    def accumulate(self, learn: Any) -> None:
        (targ,) = learn.yb
        self._count(self.prediction(learn), targ, class_vocab(learn.dls) if self.vocab is None else self.vocab)

    def update(self, pred: Tensor, targ: Tensor) -> None:
        self._count(pred, targ, self.vocab)

    def _count(self, pred: Tensor, targ: Tensor, vocab: Sequence[Any] | None) -> None:
        if vocab is None:
            raise BadArgument("the labels of entities are not known", fix='EntityF1(["B-PER", "I-PER", "O"])')
        pred, targ = plain(pred), plain(targ)
        if targ.ndim != 2 or pred.shape[:-1] != targ.shape:
            raise BadValue(
                "predictions and targets are not those of words",
                got=f"{list(pred.shape)} and {list(targ.shape)}",
                expected="[text, token, class] and [text, token]",
                fix="TokenCategoryBlock for the target",
            )
        begins, kinds = (column.to(targ.device, non_blocking=True) for column in _parts_of(vocab))
        counts = targ != IGNORED
        found, true = (_spans(o, counts, begins, kinds) for o in (pred.argmax(-1), targ.clamp(min=0)))
        right = found[0] & true[0] & (found[1] == true[1]) & (found[2] == true[2])
        self.counts = self.counts + torch.stack([o.count_nonzero() for o in (right, found[0], true[0])])

    def compute(self) -> Any:
        return self.counts


def _parts_of(vocab: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Whether each label begins an entity, bool [class], and the number of its kind, -1 outside of entities, int64 [class]."""
    begins, kinds, numbers = list[bool](), list[int](), dict[str, int]()
    for label in vocab:
        place, _, kind = str(label).partition("-")
        if label not in ("O", "#na#") and place not in ("B", "I"):
            raise BadValue(
                "the labels are not those of entities",
                got=f"the label {label!r}",
                expected='"O", and "B-" or "I-" with a kind: "B-PER", "I-PER"',
                fix="metrics=accuracy, for labels that each stand for one word",
            )
        begins.append(place == "B")
        kinds.append(numbers.setdefault(kind, len(numbers)) if place in ("B", "I") else -1)
    return torch.tensor(begins), torch.tensor(kinds)


def _spans(labels: Tensor, counts: Tensor, begins: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where entities begin, bool [text, token]; of what kind they are; and before which token they end.

    One begins at "B-", and at an "I-" that no label of its kind stands before.

    Args:
        labels: int64 [text, token].
        counts: Which tokens stand for words: bool [text, token].
        begins: bool [class].
        kinds: int64 [class].
    """
    length = labels.shape[1]
    time = torch.arange(length, device=labels.device)
    kind = torch.where(counts, kinds[labels], -1)
    last = torch.where(counts, time, -1).cummax(1).values  # the word that a token belongs to
    before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)
    kind_before = torch.where(before >= 0, kind.gather(1, before.clamp(min=0)), -1)
    starts = (kind >= 0) & (begins[labels] | (kind != kind_before))
    breaks = counts & (starts | (kind < 0))
    following = torch.where(breaks, time, length).flip(1).cummin(1).values.flip(1)
    ends = torch.cat([following[:, 1:], torch.full_like(following[:, :1], length)], 1)
    return starts, kind, ends


class EntityScore(CountScore):
    """Base of scores of entities.

    Args:
        vocab: The labels, in order; by default those of the learner.
    """

    def __init__(self, vocab: Sequence[str] | None = None) -> None:
        super().__init__(EntityCounts(vocab))


class EntityPrecision(EntityScore):
    """The share of the predicted entities that are true ones: see `EntityF1`.

    Args:
        vocab: The labels, in order; by default those of the learner.
    """

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return ratio(hits, predicted)


class EntityRecall(EntityScore):
    """The share of the true entities that are predicted: see `EntityF1`.

    Args:
        vocab: The labels, in order; by default those of the learner.
    """

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return ratio(hits, actual)


class EntityF1(EntityScore):
    """The harmonic mean of precision and recall of entities, over all kinds together.

    An entity is right if its first word, its last word and its kind are. It goes from "B-PER", or an "I-PER" that does not go on
    with one of its kind, over the "I-PER" that follow (BIO, IOB2). What is undefined counts as 0.

    Args:
        vocab: The labels, in order; by default those of the learner.

    Examples:
        >>> labels = ["B-LOC", "B-PER", "I-PER", "O"]
        >>> true, found = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 2, 3, 3]])
        >>> round(EntityF1(labels)(torch.eye(4)[found], true), 4)
        0.6667
    """

    def of_counts(self, hits: Tensor, predicted: Tensor, actual: Tensor) -> Any:
        return ratio(2 * hits, predicted + actual)


register_metric("entity_f1", EntityF1)
register_metric("entity_precision", EntityPrecision)
register_metric("entity_recall", EntityRecall)
