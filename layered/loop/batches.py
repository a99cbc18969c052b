"""What a batch may look like, and what a loader may be: tuples, mappings, our loaders and anybody's."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from layered.foundation.errors import CannotTrain


class LoaderPair:
    """A training and a validation loader of any make: torch's `DataLoader`, a list of batches, a generator.

    valid      None trains without validation

    >>> LoaderPair([1, 2], None).train
    [1, 2]
    """

    def __init__(self, train: Iterable[Any], valid: Iterable[Any] | None = None) -> None:
        self.train, self.valid = train, valid

    def __getitem__(self, index: int) -> Iterable[Any] | None:
        return (self.train, self.valid)[index]


def loaders_of(dls: Any) -> Any:
    """`dls` itself if it has `train` and `valid`, or a `LoaderPair` of the tuple (train, valid)."""
    if hasattr(dls, "loaders") or (hasattr(dls, "train") and hasattr(dls, "valid")):
        return dls
    if isinstance(dls, tuple) and 1 <= len(dls) <= 2:
        return LoaderPair(*dls)
    raise CannotTrain(
        "these are no loaders to train with",
        got=type(dls).__name__,
        expected="DataLoaders, an object with .train and .valid, or a tuple (train, valid) of any loaders",
        fix="pass (train_loader, None) to train without validation",
    )


def valid_of(dls: Any) -> Any:
    """The validation loader, or None where there is none."""
    loaders = getattr(dls, "loaders", None)
    return dls.valid if loaders is None or len(loaders) > 1 else None


def length_of(loader: Any) -> int | None:
    """The number of batches of a loader, or None if it does not say."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def iter_once(loader: Any) -> bool:
    """Whether a loader can be iterated over once only: a generator, or another iterator."""
    return isinstance(loader, Iterator)


def set_epoch(loader: Any, epoch: int, purpose: str) -> None:
    """Tell a loader, or its sampler, which epoch it draws next; a loader that takes no such news is left alone."""
    for taker in (
        loader,
        getattr(loader, "sampler", None),
        getattr(getattr(loader, "batch_sampler", None), "sampler", None),
    ):
        tell = getattr(taker, "set_epoch", None)
        if tell is not None:
            takes_purpose = "purpose" in inspect.signature(tell).parameters
            tell(epoch, purpose) if takes_purpose else tell(epoch)
            return


def numbered(batches: Iterable[Any], first: int, count: int | None) -> Iterator[tuple[int, Any]]:
    """The batches with their numbers in the pass, from `first` and up to `count` of them in all."""
    return zip(itertools.count(first) if count is None else range(first, count), batches, strict=False)


def split_batch(batch: Any, n_inp: int | None, model: nn.Module) -> tuple[Any, tuple[Any, ...]]:
    """Inputs and targets of a batch.

    A tuple or list: its first `n_inp` parts (all but the last, if None) are inputs, passed by position.
    A mapping: the entries that `model.forward` names are inputs, passed by name; the others are targets.
    Anything else is the one input.
    """
    if isinstance(batch, (tuple, list)):
        cut = n_inp if n_inp is not None else max(len(batch) - 1, 1)
        return tuple(batch[:cut]), tuple(batch[cut:])
    if isinstance(batch, Mapping):
        names = _forward_names(type(model).forward)
        if names is None:
            return dict(batch), ()
        return {k: v for k, v in batch.items() if k in names}, tuple(v for k, v in batch.items() if k not in names)
    return (batch,), ()


@lru_cache(maxsize=64)
def _forward_names(forward: Callable[..., Any]) -> frozenset[str] | None:
    """The names that a `forward` takes; None if it takes any."""
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def own_loss(output: Any) -> Any:
    """The loss that a model computed itself: `output.loss`, or `output["loss"]`; None if there is none."""
    return output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
