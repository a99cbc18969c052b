"""What a batch may look like, and what a loader may be: tuples, mappings, our loaders and anybody's."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, CannotTrain, EmptySource, describe
from layered.loop.processes import unwrapped


class LoaderPair:
    """A training and a validation loader of any make: torch's `DataLoader`, a list of batches, a generator.

    Args:
        valid: None trains without validation.

    Examples:
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


def generators_of(dls: Any) -> list[torch.Generator]:
    """The generators that foreign loaders draw from, if they are their own; each once."""
    found = {}
    for loader in (dls.train, valid_of(dls)):
        for owner in (loader, *samplers_of(loader)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def samplers_of(loader: Any) -> list[Any]:
    """The samplers of a loader like torch's."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return [owner for owner in owners if owner is not None]


def numbered(batches: Iterable[Any], first: int, count: int | None) -> Iterator[tuple[int, Any]]:
    """The batches with their numbers in the pass, from `first` and up to `count` of them in all."""
    return zip(itertools.count(first) if count is None else range(first, count), batches, strict=False)


def split_batch(batch: Any, n_inp: int | None, model: nn.Module) -> tuple[Any, tuple[Any, ...]]:
    """Inputs and targets of a batch.

    A tuple or list: its first `n_inp` parts (all but the last, if None) are inputs, passed by position.
    A mapping: the entries that `model.forward` names are inputs, passed by name; the others are targets. So are the
    fields of a dataclass, unless forward names none of them.
    Anything else is the one input.
    """
    if isinstance(batch, (tuple, list)):
        cut = n_inp if n_inp is not None else max(len(batch) - 1, 1)
        return tuple(batch[:cut]), tuple(batch[cut:])
    if is_dataclass(batch) and not isinstance(batch, Mapping):
        parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
        names = _forward_names(type(unwrapped(model)).forward)
        batch = parts if names is None or not names.isdisjoint(parts) else batch
    if isinstance(batch, Mapping):
        names = _forward_names(type(unwrapped(model)).forward)
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


def loss_of(loss_func: Callable[..., Any] | None, pred: Any, yb: tuple[Any, ...], training: bool) -> Any:
    """The loss of a batch: by `loss_func`, else the model's own; None where there are no targets.

    Raises:
        CannotTrain: Where there ought to be a loss and is none.
    """
    if loss_func is not None:
        return loss_func(pred, *yb) if yb else None
    loss = own_loss(pred)
    if loss is None and (training or yb):
        raise CannotTrain(
            "there is no loss: no loss_func was given, and the model's output has no `.loss`",
            got=f"an output of type {type(pred).__name__}",
            fix="Learner(dls, model, loss_func=nn.CrossEntropyLoss()), or another function of (pred, *targets)",
        )
    return loss


def reported(loss: object) -> Any:
    """A copy of a loss without its history; None stays None.

    Raises:
        CannotTrain: For what is no tensor.
    """
    if loss is None:
        return None
    if not isinstance(loss, Tensor):
        raise CannotTrain("the loss is no tensor", got=describe(loss), fix="return one from loss_func or step")
    return loss.detach().clone()


def check_fit(n_epoch: int, start_epoch: int, n_iter: int | None, train: Any) -> None:
    """Refuse the arguments of a fit that make no sense, before anything changes."""
    for name, value in (("n_epoch", n_epoch), ("start_epoch", start_epoch), ("n_iter", n_iter)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise BadValue(f"{name} is a number of epochs or batches", got=repr(value), expected="an integer >= 0")
    if length_of(train) == 0:
        raise EmptySource(
            "the training loader has no batch",
            fix="use a batch size of at most the number of items, or drop_last=False",
        )
    if n_epoch > 1 and n_iter is None and iter_once(train):
        raise CannotTrain(
            "a generator lasts for one epoch",
            got=f"n_epoch={n_epoch}",
            fix="fit(1), a list, or n_iter=batches an epoch",
        )


def no_batch(epoch: int, n_iter: int | None) -> EmptySource:
    """The error for a training pass without a batch, of a fit that was told its length or not."""
    return EmptySource(
        f"the training loader gave no batch in epoch {epoch}",
        fix="a generator lasts for one epoch: pass a list or a DataLoader, or fit(…, n_iter=batches an epoch)"
        if n_iter is None
        else f"it has run out before {epoch + 1} epochs of {n_iter} batches: fewer epochs, or more batches",
    )
