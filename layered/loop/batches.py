"""Batches as tuples, mappings and dataclasses: what is input, what is target, and the loss; and what a loop asks of loaders."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from layered.data import DataLoader, DataLoaders, as_loader, length_of
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    EmptySource,
    LayeredError,
    as_torch_expects,
    describe,
    find_device,
    losses,
    nearest,
    tensors_of,
    warn,
    whole_number,
)
from layered.loop.processes import unwrapped
from layered.loop.state import AbstractLoop
from layered.nn import ModelWithLoss, Shares, compared, loss_shares, outside_classes


def valid_of(dls: DataLoaders) -> Any:
    """The validation loader; None if there is none."""
    return dls.loaders[1] if len(dls.loaders) > 1 else None


def device_for(loader: Iterable[Any], model: nn.Module) -> torch.device | None:
    """Where the batches of a loader must be sent: to the model; None if the loader does it itself."""
    if as_loader(loader).device is not None:
        return None
    return find_device([*model.parameters(), *model.buffers()])


def iter_once(loader: Iterable[Any]) -> bool:
    """Whether a loader can be iterated over only once: a generator, or another iterator."""
    return as_loader(loader).is_exhaustible


def set_epoch(loader: Iterable[Any], epoch: int, purpose: str) -> None:
    """Tell a loader, or its sampler, which epoch it draws next, if it takes that."""
    as_loader(loader).set_epoch(epoch, purpose)


def generators_of(dls: DataLoaders) -> list[torch.Generator]:
    """The generators that the loaders draw from, each once."""
    loaders = [loader for loader in (dls.train, valid_of(dls)) if loader is not None]
    return list({id(g): g for loader in loaders for g in as_loader(loader).generators}.values())


def numbered(batches: Iterable[Any], first: int, count: int | None) -> Iterator[tuple[int, Any]]:
    """The batches with their numbers in the pass, from `first` and up to `count` of them in all."""
    return zip(itertools.count(first) if count is None else range(first, count), batches, strict=False)


def split_batch(batch: object, n_inp: int | None, model: nn.Module) -> tuple[Any, tuple[Any, ...]]:
    """Inputs and targets of a batch.

    A tuple or list: its first `n_inp` parts (all but the last, if None) are inputs, passed by position.
    A mapping: the entries that `model.forward` names are inputs, passed by name; the others are targets, and so are `labels`
    and `label`, or `start_positions` and `end_positions`, even if the model takes them to compute its own loss. So are the
    fields of a dataclass, unless forward names none of them.
    An object with its targets in `y`, such as a batch of graphs: see `split_object`.
    Anything else is the one input.
    """
    if isinstance(batch, (tuple, list)):
        cut = n_inp if n_inp is not None else max(len(batch) - 1, 1)
        return tuple(batch[:cut]), tuple(batch[cut:])
    if is_dataclass(batch) and not isinstance(batch, (Mapping, type)):
        parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
        names = _forward_names(type(unwrapped(model)).forward)
        batch = parts if names is None or not names.isdisjoint(parts) else batch
    if isinstance(batch, Mapping):
        names = _forward_names(type(unwrapped(model)).forward)
        inputs = {k: v for k, v in batch.items() if names is None or k in names}
        return inputs, tuple(v for k, v in batch.items() if k not in inputs or k in LABELS)
    return split_object(batch, model) if isinstance(batch, BatchObject) else ((batch,), ())


@runtime_checkable
class BatchObject(Protocol):
    """A batch that is one object with its targets in it, such as torch_geometric's `Batch`."""

    y: Any

    def to(self, device: Any, /) -> Any: ...


def split_object(batch: BatchObject, model: nn.Module) -> tuple[Any, tuple[Any, ...]]:
    """Inputs and targets of a batch that is one object: its `y` is the target, unless it is None.

    A model whose `forward` needs one argument gets the object. One that needs several, as in
    `forward(self, x, edge_index, batch)`, gets the attributes with the names of its arguments.

    Raises:
        CannotTrain: The object lacks one of these.
    """
    targets = () if batch.y is None else (batch.y,)
    taken = list(inspect.signature(type(unwrapped(model)).forward).parameters.values())[1:]
    by_name = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in by_name if p.default is p.empty]
    if len(needed) < 2:
        return (batch,), targets
    held = {p.name: getattr(batch, p.name, None) for p in by_name}
    if missing := [name for name in needed if held[name] is None]:
        raise CannotTrain(
            f"the batch has no {' and no '.join(missing)}, which {type(unwrapped(model)).__name__}.forward needs",
            got=f"{batch!r:.200}",
            expected=f"an object with {', '.join(needed)}",
            fix="a model of one argument: def forward(self, batch): return self.net(batch.x, batch.edge_index)",
        )
    return {name: value for name, value in held.items() if value is not None}, targets


LABELS = ("labels", "label", "start_positions", "end_positions")
"""The names of targets in a mapping that models may take as inputs too."""


@lru_cache(maxsize=64)
def _forward_names(forward: Callable[..., Any]) -> frozenset[str] | None:
    """The names that a `forward` takes; None if it takes any."""
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def own_loss(output: object) -> Any:
    """The loss that a model computed itself: `output.loss`, or `output["loss"]`; None if there is none."""
    return output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)


def loss_of(
    loss_func: Callable[..., Any] | None, pred: object, yb: tuple[Any, ...], training: bool, shared: bool = False
) -> tuple[Any, Shares]:
    """The loss of a batch, by `loss_func`, else the model's own, and its shares, if `shared`.

    None where there are no targets, unless the loss takes the prediction alone.

    Raises:
        CannotTrain: If a loss is needed and there is none.
    """
    if loss_func is not None and (yb or _judges_alone(loss_func)):
        pred = compared(loss_func, pred)
        yb = as_torch_expects(loss_func, pred, yb)
        try:
            return loss_shares(loss_func, pred, yb) if shared else (loss_func(pred, *yb), ())
        except (RuntimeError, IndexError) as error:
            if (clearer := _unfit_targets(error, pred, yb)) is None:
                raise
            raise clearer from error
    if loss_func is not None:
        return None, ()
    loss = own_loss(pred)
    if loss is None and (training or yb):
        raise CannotTrain(
            "no loss_func was given, and the model's output has no `.loss`",
            got=f"an output of type {type(pred).__name__}",
            fix="Learner(dls, model, loss_func=nn.CrossEntropyLoss()), or another function of (pred, *targets)",
        )
    is_of_classes = len(yb) == 1 and isinstance(yb[0], Tensor) and not yb[0].is_floating_point()
    return loss, [(loss, (yb[0] != IGNORED).sum())] if loss is not None and shared and is_of_classes else ()


IGNORED = -100
"""The target that torch's losses ignore, and those of models that compute their own."""


def _judges_alone(loss_func: Callable[..., Any]) -> bool:
    """Whether a loss is a function of the prediction and nothing else."""
    try:
        signature = inspect.signature(loss_func.forward if isinstance(loss_func, nn.Module) else loss_func)
    except (TypeError, ValueError):  # built in, and without a signature
        return False
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) == 1 and not any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())


def reported(loss: object) -> Any:
    """A copy of a loss without its history; None stays None.

    Raises:
        CannotTrain: If it is not a tensor.
    """
    if loss is None:
        return None
    if not isinstance(loss, Tensor):
        raise CannotTrain("the loss is not a tensor", got=describe(loss), fix="return one from loss_func or step")
    return loss.detach().clone()


def checked_count(name: str, value: object) -> int:
    """An argument of a fit that is a number of epochs or batches, as Python's `int`."""
    count = whole_number(value)
    if count is None or count < 0:
        raise BadValue(f"{name} must be a number of epochs or batches", got=repr(value), expected="an integer >= 0")
    return count


def check_fit(n_epoch: int, n_iter: int | None, train: Iterable[Any]) -> None:
    """Refuse a fit that makes no sense, before anything changes."""
    if length_of(train) == 0:
        raise EmptySource(
            "the training loader has no batches",
            fix="use a batch size of at most the number of items, or drop_last=False",
        )
    if n_iter is not None and (length := length_of(train)) is not None and n_iter > length:
        warn(f"n_iter={n_iter} is more than the {length} batches of the training loader: an epoch has {length}")
    if n_epoch > 1 and n_iter is None and iter_once(train):
        raise CannotTrain(
            "a generator lasts for one epoch",
            got=f"n_epoch={n_epoch}",
            fix="fit(1), a list, or n_iter=batches an epoch",
        )


def call_model(model: nn.Module, inputs: Any, targets: tuple[Any, ...] = ()) -> Any:
    """The output of a model.

    Args:
        model: The model.
        inputs: A tuple, or a dict by name.
        targets: Passed after the inputs to a `ModelWithLoss`, and to no other model.

    Raises:
        CannotTrain: An error of torch, where the inputs show what it comes from.
    """
    if targets and isinstance(inputs, tuple) and isinstance(unwrapped(model), ModelWithLoss):
        inputs = (*inputs, *targets)
    try:
        return model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        if (clearer := _explained(error, inputs, model)) is None:
            raise
        raise clearer from error


def _explained(error: Exception, inputs: Any, model: nn.Module) -> CannotTrain | None:
    if "more than 1 value per channel when training" in str(error):
        return CannotTrain(
            "batch normalization cannot train on a batch of a single sample",
            got=f"inputs {describe(inputs)}",
            expected="at least 2 samples in every training batch",
            fix="drop_last=True in the training loader, or a batch size that leaves no rest of 1",
        )
    if "targets should not be none" in str(error).lower():  # torchvision's detectors
        return CannotTrain(
            f"{type(unwrapped(model)).__name__} computes its losses from targets, which it is given only by a step",
            got=f"inputs {describe(inputs)}",
            fix="step=detect, as in docs/other_models.md; or detection_learner(dls, model) for images with boxes",
        )
    floats = [x.dtype for x in tensors_of(inputs) if x.is_floating_point()]
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if torch.float64 in floats and own == torch.float32 and "type" in str(error):
        return CannotTrain(
            "the inputs are float64 and the model is float32",
            got=f"inputs {describe(inputs)}",
            fix="make the inputs float32: x.float(), or array.astype('float32'); or the model float64: learn.model.double()",
        )
    if re.search(r"Kernel size can't be greater|Output size is too small|got input_size", str(error)):
        return CannotTrain(
            "the inputs are too small for this model: a layer has no pixels left",
            got=f"inputs {describe(inputs)}",
            fix="larger images: item_tfms=Resize(224)",
        )
    parts = inputs.values() if isinstance(inputs, dict) else inputs
    if isinstance(error, TypeError) and any(isinstance(part, list) and [*tensors_of(part)] for part in parts):
        return CannotTrain(
            "the model was given lists in place of tensors: lists are collated element by element",
            got=f"inputs {describe(inputs)}",
            fix="make each item an array: np.array(x, dtype='float32')",
        )
    return None


def _unfit_targets(error: Exception, pred: object, yb: tuple[Any, ...]) -> LayeredError | None:
    """What is wrong with the targets that a function of torch's losses refused, where their form shows it; else None."""
    if len(yb) != 1 or not isinstance(pred, Tensor) or not isinstance(yb[0], Tensor) or yb[0].is_floating_point():
        return None
    target, reason = yb[0], str(error)
    if isinstance(error, IndexError):
        return outside_classes("the loss", pred, target) if "out of bounds" in reason else None
    if "target" in reason and target.ndim == pred.ndim > 1 and target.shape[1] == 1 < pred.shape[1]:
        fix = "loss_func=nn.CrossEntropyLoss(), which takes them so; in a function of your own, target.squeeze(1)"
    elif "type" in reason and target.shape == pred.shape:
        fix = "loss_func=nn.BCEWithLogitsLoss(), which takes them so; in a function of your own, target.float()"
    else:
        return None
    return CannotTrain(
        "the loss cannot compare predictions and targets of these forms",
        got=f"predictions {describe(pred)}, targets {describe(target)}",
        fix=fix,
    )


def check_has_items(loop: AbstractLoop, loader: Iterable[Any]) -> None:
    """Refuse an empty loader of a learner that was loaded from an export.

    Raises:
        EmptySource: With what takes its place.
    """
    is_empty = length_of(loader) == 0 or (isinstance(loader, DataLoader) and loader.n == 0)
    if loop.exported is not None and is_empty:
        raise EmptySource(
            f"an export holds no data, and this learner comes from '{loop.exported}'",
            expected="items to train, validate or predict",
            fix="learn.get_preds(dl=learn.dls.test_dl(items)); to train or validate, set learn.dls to loaders made as before",
        )


def check_model(model: object) -> None:
    """Refuse what is not a module.

    Raises:
        BadArgument: With the instance in place of the class.
    """
    if not isinstance(model, nn.Module):
        name = model.__name__ if isinstance(model, type) else None
        raise BadArgument(
            "the model must be a module",
            got=f"the class {name}" if name else describe(model),
            expected="an nn.Module",
            fix=f"make one: {name}(…)" if name else "for a function f: a module whose forward calls it",
        )


def check_loss_func(loss_func: object) -> None:
    """Refuse what is not a function of (pred, *targets).

    Raises:
        BadArgument: With the instance in place of the class, and the loss of that name.
    """
    if isinstance(loss_func, type):
        fix, got = f"loss_func={loss_func.__name__}()", f"the class {loss_func.__name__}"
    elif isinstance(loss_func, str):
        known = {_bare(name): name for name in losses.names()}
        near = nearest(_bare(loss_func), known, 1)
        fix, got = f"loss_func={known[near[0]]}()" if near else "loss_func=F.cross_entropy", repr(loss_func)
    elif loss_func is None or callable(loss_func):
        return
    else:
        fix, got = "loss_func=CrossEntropyLossFlat()", describe(loss_func)
    raise BadArgument("loss_func must be a loss, called as loss_func(pred, *targets)", got=got, fix=fix)


def _bare(name: str) -> str:
    """What tells the names of losses apart."""
    return name.lower().replace("_", "").removesuffix("flat").removesuffix("loss")


def no_loss(loop: AbstractLoop) -> CannotTrain:
    """The error for an epoch in which no training batch had a loss."""
    if loop.step is not None:
        got, fix = "a step that returned None for each batch", "return the loss from step, or call loop.minimize(loss)"
    else:
        got = f"batches without targets: inputs {describe(loop.xb)}"
        fix = "make batches (inputs, targets) or {…, 'labels': targets}; a loss without targets is a function of one argument"
    return CannotTrain(f"no training batch of epoch {loop.epoch} had a loss, so nothing was learned", got=got, fix=fix)


def no_training_batch(epoch: int, n_iter: int | None) -> EmptySource:
    """The error for a training pass without a batch; `n_iter` is its length, if `fit` was given one."""
    return EmptySource(
        f"the training loader gave no batch in epoch {epoch}",
        fix="a generator lasts for one epoch: pass a list or a DataLoader, or fit(…, n_iter=batches an epoch)"
        if n_iter is None
        else f"it ran out before {epoch + 1} epochs of {n_iter} batches: ask for fewer epochs, or supply more batches",
    )
