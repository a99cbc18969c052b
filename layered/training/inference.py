"""Predictions: of a whole loader, and of one item, with the pipelines of the validation set.

`predict` keeps no state on the learner: it may be called from several threads at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from layered.data.loader import DataLoader
from layered.foundation.arguments import checked, names_of
from layered.foundation.errors import BadValue, CannotTrain, EmptySource, failed
from layered.foundation.helpers import noop
from layered.foundation.pipeline import Pipeline, describe
from layered.foundation.tensors import plain_tree
from layered.foundation.tree import to_detach, to_device
from layered.loop.callback import Callback
from layered.loop.essentials import modes_of, set_modes
from layered.loop.loop import Loop
from layered.nn.losses import CrossEntropyLossFlat, default_loss


class GatherPredsCallback(Callback):
    """Keeps the predictions and targets of a validation pass, on the CPU.

    with_input   keep the inputs too
    with_loss    keep the loss of every item
    """

    def __init__(self, with_input: bool = False, with_loss: bool = False) -> None:
        self.with_input, self.with_loss = with_input, with_loss
        self.inputs: list[Any] = []
        self.preds: list[Any] = []
        self.targets: list[Any] = []
        self.losses: list[Tensor] = []

    def after_pred(self) -> None:
        learn = self.learn
        self.preds.append(to_detach(learn.pred))
        if learn.yb:
            self.targets.append(to_detach(learn.yb))
        if self.with_input:
            self.inputs.append(to_detach(learn.xb))
        if self.with_loss:
            self.losses.append(to_detach(item_losses(learn.loss_func, learn.pred, learn.yb)))


def item_losses(loss_func: Any, pred: Any, targets: Sequence[Any]) -> Tensor:
    """The loss of every item of a batch: float [batch]."""
    if not targets:
        raise BadValue("there are no targets to compute losses from", fix="test_dl(items, with_labels=True)")
    losses: Tensor
    before = getattr(loss_func, "reduction", None)
    if before is not None:
        loss_func.reduction = "none"
        try:
            losses = loss_func(pred, *targets)
        finally:
            loss_func.reduction = before
    elif inspect.isfunction(loss_func) and "reduction" in names_of(loss_func):  # such as F.cross_entropy
        losses = loss_func(pred, *targets, reduction="none")
    else:
        raise BadValue("this loss cannot be taken item by item", got=repr(loss_func), fix="a loss with a `reduction`")
    return losses.reshape(len(targets[0]), -1).mean(1)


def _concat(batches: list[Any]) -> Any:
    """Batches of the same structure as one; tuples of one element as that element."""
    example = batches[0]
    if isinstance(example, (tuple, list)):
        columns = tuple(_concat(list(column)) for column in zip(*batches, strict=True))
        return columns[0] if len(columns) == 1 else columns
    if isinstance(example, dict):
        return {k: _concat([b[k] for b in batches]) for k in example}
    return torch.cat(batches) if example.ndim else torch.stack(batches)


def activation_of(loop: Loop) -> Callable[[Any], Any]:
    """What turns the model's output into what is reported: softmax for cross-entropy, …"""
    return getattr(loop.loss_func, "activation", noop)


def decoder_of(loop: Loop) -> Callable[[Any], Any]:
    """What turns the model's output into a decision: as the loss says, else for classes the one with the largest output."""
    own: Callable[[Any], Any] | None = getattr(loop.loss_func, "decodes", None)
    if own is not None:
        return own
    usual = default_loss(loop.dls)
    return usual.decodes if isinstance(usual, CrossEntropyLossFlat) else noop


@checked
def get_preds(
    loop: Loop,
    ds_idx: int = 1,
    dl: Any = None,
    with_input: bool = False,
    with_decoded: bool = False,
    with_loss: bool = False,
    act: Callable[[Any], Any] | None = None,
    inner: bool = False,
    reorder: bool = True,
    cbs: Any = None,
) -> tuple[Any, ...]:
    """Predictions over a loader, in the order of its items: `([inputs,] preds, targets [, decoded] [, losses])`.

    ds_idx        which of the learner's loaders, with all its items: 1 validation, 0 training
    dl            a loader of any make, in place of it; targets are None where its batches have none
    with_decoded  also the decisions: class numbers, …
    with_loss     also the loss of every item
    act           in place of the loss's own activation
    inner         run inside a fit's events
    reorder       take the items of a shuffled loader in the order of its data set
    returns       plain tensors on the CPU: preds float [item, ...], targets [item, ...]
    """
    if dl is None:
        dl = loop.dls[ds_idx]
        if isinstance(dl, DataLoader):
            dl = dl.new(drop_last=False)
    if reorder and isinstance(dl, DataLoader):
        dl = dl.new(shuffle=False)
    gather = GatherPredsCallback(with_input, with_loss)
    with loop.validation_context(
        cbs=[gather, *([] if cbs is None else cbs if isinstance(cbs, list) else [cbs])], inner=inner
    ):
        loop.one_validation(dl)
    if not gather.preds:
        raise EmptySource("the loader gave no batch to predict", fix="check its items and its batch size")
    raw = _concat(gather.preds)
    preds = (act if act is not None else activation_of(loop))(raw)
    targets = _concat(gather.targets) if gather.targets else None
    res: list[Any] = [_concat(gather.inputs)] if with_input else []
    res += [preds, targets]
    if with_decoded:
        res.append(decoder_of(loop)(raw))
    if with_loss:
        res.append(torch.cat(gather.losses))
    return tuple(plain_tree(part) for part in res)


@checked
def predict(loop: Loop, item: Any, rm_type_tfms: int | None = None, with_input: bool = False) -> tuple[Any, ...]:
    """The decoded target, the decision as a tensor, and the probabilities (or outputs) for one item.

    item          what the inputs are made from: a path, an image, bytes, a row; several inputs as a tuple
    rm_type_tfms  how many leading transforms it has behind it; judged by its type if not given
    with_input    put the decoded input first
    raises        BadItem where no batch, or no prediction, can be made of the item; ours keep their class
    """
    dl = loop.dls.loaders[min(1, len(loop.dls.loaders) - 1)]
    dataset = dl.dataset
    if not hasattr(dataset, "test_set"):
        raise CannotTrain(
            "predict needs to know how an item becomes a batch, and these loaders do not say",
            got=f"a data set of type {type(dataset).__name__}",
            fix="build the loaders with a DataBlock, or use get_preds(dl=[(x,)])",
        )
    sample = dataset.test_set([item], rm_type_tfms)[0]
    try:
        batch = dl.create_batch(dl.before_batch([dl.after_item(sample if isinstance(sample, tuple) else (sample,))]))
        batch = dl.after_batch(to_device(batch, _model_device(loop)))
        with _evaluating(loop), torch.inference_mode():
            output = loop.model(*plain_tree(batch))
            probabilities, decision = (to_detach(f(output))[0] for f in (activation_of(loop), decoder_of(loop)))
    except Exception as error:
        raise failed(error, f"predicting one item ({describe(item)})") from error
    target = decode_target(dl, decision)
    res = (target, decision, probabilities)
    return (_single(decode_input(dl, batch)), *res) if with_input else res


@contextmanager
def _evaluating(loop: Loop) -> Iterator[None]:
    """The model in evaluation mode; afterwards as it was, if a fit is running."""
    modes = modes_of(loop.model) if loop.fitting else None
    if loop.model.training:
        loop.model.eval()
    try:
        yield
    finally:
        if modes is not None:
            set_modes(modes)


def _model_device(loop: Loop) -> torch.device:
    return next((p.device for p in loop.model.parameters()), torch.device("cpu"))


def decode_target(dl: Any, decision: Any) -> Any:
    """A decision as the target's own type: a `Category`, …"""
    columns = dl.dataset.tls[dl.dataset.n_inp :] if hasattr(dl.dataset, "tls") else []
    parts = decision if isinstance(decision, tuple) else (decision,)
    parts = Pipeline.decode(dl.after_item, Pipeline.decode(dl.after_batch, tuple(parts)))
    decoded = tuple(tl.decode(part, full=False) for tl, part in zip(columns, parts, strict=False)) or parts
    return _single(decoded)


def decode_input(dl: Any, batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a batch of one, decoded."""
    decoded = dl.decode_batch(batch, max_n=1)[0]
    return tuple(decoded)


def _single(parts: Any) -> Any:
    return parts[0] if isinstance(parts, tuple) and len(parts) == 1 else parts


def show_results(
    loop: Loop, ds_idx: int = 1, dl: Any = None, max_n: int = 9, shuffle: bool = True, **kwargs: Any
) -> Any:
    """Show items of a loader with their targets and predictions.

    shuffle    choose them at random, otherwise the first
    """
    if dl is None:
        dl = loop.dls[ds_idx].new(shuffle=shuffle, drop_last=False)
    batch = dl.one_batch()
    decoded = get_preds(loop, dl=[batch], with_decoded=True)[-1]
    return dl.show_results(batch, decoded, max_n=max_n, **kwargs)
