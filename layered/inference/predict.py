"""Predictions for a whole loader and for one item, through the pipelines of the validation set.

`predict` stores nothing on the learner, so that several threads may call it at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader as TorchDataLoader, DistributedSampler, RandomSampler

from layered.data import DataLoader, TfmdDL, Together, as_dataset, as_loader, as_loaders, get_c
from layered.foundation import (
    BadValue,
    CannotTrain,
    EmptySource,
    checked,
    default_loss_for,
    default_losses,
    describe,
    failed,
    item_results,
    map_tree,
    noop,
    output_scores,
    plain_tree,
    rank_and_world,
    to_detach,
    to_device,
)
from layered.inference.abstaining import is_unsure
from layered.inference.calibrated import calibration_of
from layered.inference.gathering import GatherPredsCallback, merged, reordered, single
from layered.loop import (
    VALIDATE,
    Callback,
    Cbs,
    Loop,
    call_model,
    callbacks_of,
    check_has_items,
    gathered,
    modes_of,
    set_epoch,
    set_modes,
    split_batch,
)
from layered.nn import Meaning, default_loss, meaning, own_meaning

_END = object()


def activation_of(loop: Loop, default: Callable[[Any], Any] = noop) -> Callable[[Any], Any]:
    """The function from the model's output to predictions, such as softmax for classes: see `layered.nn.meaning`.

    Args:
        loop: The learner.
        default: For outputs of unknown meaning.
    """
    found = meaning_for(loop).activation
    return default if found is noop else found


def decoder_of(loop: Loop) -> Callable[[Any], Any]:
    """The function from the model's output to a decision in the form of the targets: see `layered.nn.meaning`."""
    activation, decodes, _ = uncalibrated_meaning(loop)
    return lambda output: decodes(activation(output))


def pick_of(loop: Loop) -> Callable[[Sequence[Any], Tensor], Sequence[Tensor]] | None:
    """What picks the results of each item from an output, where it holds more: see `item_results`."""
    kinds = as_dataset(as_loader(loop.dls.train).dataset).target_kinds
    return item_results.get(str(kinds[0])) if len(kinds) == 1 and kinds[0] in item_results else None


def meaning_for(loop: Loop) -> Meaning:
    """How the outputs of a learner's model are read, with its calibration: see `layered.nn.meaning`."""
    found, calibration = uncalibrated_meaning(loop), calibration_of(loop)
    if calibration is None or calibration.of == "numbers":
        return found
    return found._replace(activation=partial(calibration.activate, found.activation))


def uncalibrated_meaning(loop: Loop) -> Meaning:
    """How the outputs of a learner's model are read, whether it is calibrated or not."""
    own = own_meaning(loop.loss_func)
    if own is not None:
        return own
    if loop.loss_func is None and loop.output_meaning is not None:
        return loop.output_meaning
    usual = default_loss(loop.dls)
    if usual is not None:
        return meaning(loop.loss_func, [usual], loop.model, get_c(loop.dls))
    dataset = as_dataset(as_loader(loop.dls.train).dataset)
    if dataset.target_kinds or dataset.columns:
        each = [default_loss_for(kind) if kind in default_losses else None for kind in dataset.target_kinds]
        return meaning(loop.loss_func, each, loop.model)
    labels = dataset.class_labels()
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
        return meaning(loop.loss_func, (), loop.model)
    return meaning(loop.loss_func, [default_loss_for("category")], loop.model, 1 + int(labels.max()))


@checked
def get_preds(
    loop: Loop,
    ds_idx: int = 1,
    dl: Iterable[Any] | None = None,
    with_input: bool = False,
    with_decoded: bool = False,
    with_loss: bool = False,
    act: Callable[[Any], Any] | None = None,
    inner: bool = False,
    reorder: bool = True,
    cbs: Cbs = None,
    save_preds: str | os.PathLike[str] | None = None,
    save_targs: str | os.PathLike[str] | None = None,
    with_preds: bool = True,
    with_targs: bool = True,
    concat_dim: int = 0,
) -> tuple[Any, ...]:
    """Predictions over a loader, in the order of its items: `([inputs,] preds, targets [, decoded] [, losses])`.

    `stream_preds` yields the same batch by batch.

    Args:
        loop: The learner.
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of any library, in place of `ds_idx`; without targets in its batches, those returned are None.
        with_input: Also return the inputs, first.
        with_decoded: Also return the decisions: class numbers, ….
        with_loss: Also return the loss of each item.
        act: Replaces the activation of the loss; called with the model's output for each batch.
        inner: Run within the events of the current fit.
        reorder: Return the items of a shuffled or sorted loader in the order of its data set.
        cbs: Callbacks for this pass only.
        save_preds: Write the predictions to a file batch by batch, instead of keeping them in memory: a folder, for
            its `preds.npy`, or a file `….npy`. The tensor that is returned reads from it.
        save_targs: Write the targets to a file, likewise.
        with_preds: False returns None in their place.
        with_targs: False returns None in their place.
        concat_dim: The axis along which batches of predictions are joined.

    Of several processes, all of which must call it, each predicts its share; all return the whole. A loader of another library
    is predicted whole by each.

    Returns:
        Plain tensors on the CPU: preds float [item, ...], targets [item, ...]. Outputs with several parts keep their
            structure (tuple, dict); rows that differ in shape become a list with one tensor per item.

    Raises:
        EmptySource: The loader has no batches.
        CannotSave: A file cannot be written; incomplete files are removed.
    """
    is_written = save_preds is not None or save_targs is not None
    dl, order = in_order(loop, ds_idx, dl, reorder, natural=is_written)
    rank, world = rank_and_world()
    is_divided = world > 1 and reorder and not is_written and concat_dim == 0 and (loader_size(dl) or 0) >= world
    if is_divided:
        dl, order = share_of(dl, rank, world)
    if rank > 0:
        save_preds = save_targs = None
    gather = GatherPredsCallback(
        with_input, with_loss, save_preds, save_targs, with_preds, with_targs, concat_dim,
        act=activation_of(loop, output_scores) if act is None else act, decode=decoder_of(loop) if with_decoded else None,
        pick=pick_of(loop),
    )  # fmt: skip
    try:
        with loop.validation_context(cbs=[*callbacks_of(cbs), gather], inner=inner):
            loop.one_validation(dl)
            if not gather.count:
                raise no_prediction_batch(dl)
            parts = gather.all_tensors()
    finally:
        gather.discard()
    if is_divided:
        every = gathered((parts, order))
        parts, order = merged([part for part, _ in every]), merged([positions for _, positions in every])
    return reordered(parts, torch.as_tensor(np.asarray(order)).argsort(stable=True)) if order else parts


@checked
def stream_preds(
    loop: Loop,
    ds_idx: int = 1,
    dl: Iterable[Any] | None = None,
    with_input: bool = False,
    with_decoded: bool = False,
    with_loss: bool = False,
    act: Callable[[Any], Any] | None = None,
    inner: bool = False,
    reorder: bool = True,
    cbs: Cbs = None,
) -> Iterator[tuple[Any, ...]]:
    """The results of `get_preds`, batch by batch: only one batch is in memory.

        for preds, targets in learn.stream_preds(dl=dl):
            write(preds)

    The learner is busy until the iterator ends or is closed; only `predict` may be called meanwhile.

    Args:
        loop: The learner.
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of any library, in place of `ds_idx`.
        with_input: Also yield the inputs, first.
        with_decoded: Also yield the decisions: class numbers, ….
        with_loss: Also yield the loss of each item.
        act: Replaces the activation of the loss; called with the model's output for each batch.
        inner: Run within the events of the current fit.
        reorder: Yield the items of a shuffled or sorted loader in the order of its data set.
        cbs: Callbacks for this pass only.

    Raises:
        EmptySource: The loader has no batches.
        CannotTrain: The learner ran another pass in between.
    """
    dl, _ = in_order(loop, ds_idx, dl, reorder, natural=True)
    gather = GatherPredsCallback(
        with_input,
        with_loss,
        act=activation_of(loop, output_scores) if act is None else act,
        decode=decoder_of(loop) if with_decoded else None,
        pick=pick_of(loop),
    )
    with loop.validation_context(cbs=[*callbacks_of(cbs), gather], inner=inner):
        for _ in _batch_by_batch(loop, dl):
            if gather.preds.batches:
                yield gather.all_tensors()
    if not gather.count:
        raise no_prediction_batch(dl)


def _batch_by_batch(loop: Loop, dl: Iterable[Any]) -> Iterator[None]:
    """`loop.one_validation(dl)`, paused after each batch."""
    try:
        with torch.no_grad():
            loop.begin_pass(dl, training=False)
            set_epoch(dl, loop.epochs_started, "valid")
            loop.emit(VALIDATE.before)
            batches = iter(dl)
        for i in itertools.count():
            with torch.no_grad():  # released while paused, or it would apply to the caller's code
                batch = next(batches, _END)
                if batch is _END:
                    break
                loop.all_batches([batch], i)
            yield
            if loop.dl is not dl:
                raise CannotTrain(
                    "the learner ran another pass while its predictions were streamed",
                    fix="exhaust the iterator, or call its close(), before you fit, validate or predict other loaders",
                )
    except VALIDATE.cancel:
        loop.emit(VALIDATE.after_cancel)
    loop.emit(VALIDATE.after)


def loader_of(loop: Loop, ds_idx: int) -> Any:
    """One of the learner's loaders.

    Args:
        loop: The learner.
        ds_idx: Its position: 0 training, 1 validation.

    Raises:
        BadValue: The learner has no such loader.
    """
    try:
        dl = loop.dls[ds_idx]
    except IndexError:
        dl = None
    if dl is None:
        raise BadValue(
            f"the learner has no loader {ds_idx}", expected="0 for training, 1 for validation", fix="pass one: dl=…"
        )
    check_has_items(loop, dl)
    return dl


def no_prediction_batch(dl: object) -> EmptySource:
    """The error for a pass over a loader without batches."""
    return EmptySource(
        "the loader has no batches to predict", got=describe(dl), fix="check its items and its batch size"
    )


def in_order(loop: Loop, ds_idx: int, dl: Iterable[Any] | None, reorder: bool, natural: bool) -> tuple[Any, list[Any]]:
    """A loader over all items in the order of the data set, and a list that receives their order if it differs.

    Args:
        loop: The learner.
        ds_idx: Which of the learner's loaders: 1 validation, 0 training.
        dl: A loader, in place of `ds_idx`.
        reorder: False keeps the order of the loader.
        natural: Override a custom order (by length, …) too, so that results need no reordering afterwards.
    """
    found = loader_of(loop, ds_idx) if dl is None else dl
    order: list[Any] = []
    if isinstance(found, DataLoader) and found.world > 1:
        found = found.new(share=(0, 1))
    samplers = RandomSampler, DistributedSampler
    is_shuffled = isinstance(found, TorchDataLoader) and type(found.sampler) in samplers
    if is_shuffled and type(found) is TorchDataLoader and type(found.batch_sampler) is BatchSampler:
        return (_unshuffled(found), order) if reorder else (found, order)
    if not isinstance(found, DataLoader):
        return found, order
    if not reorder:
        return (found.new(drop_last=False) if dl is None else found), order
    ordered = found.new(drop_last=False, shuffle=False)
    ordered = ordered if natural else ordered.in_any_order()
    if ordered.all_default("get_idxs"):
        return ordered, order
    if natural:
        return ordered.new(get_idxs=lambda: np.arange(ordered.n or 0)), order
    get_idxs = ordered.get_idxs

    def recorded() -> Any:
        order[:] = get_idxs()
        return order

    return ordered.new(get_idxs=recorded), order


def loader_size(dl: object) -> int | None:
    """The items of a loader of this library that gives access to each; None for any other."""
    return dl.n if isinstance(dl, DataLoader) and dl.indexed else None


def share_of(dl: Any, rank: int, world: int) -> tuple[Any, list[Any]]:
    """A loader over the items that one of several processes predicts, and a list that receives their positions.

    Args:
        dl: A loader over all items, in a fixed order.
        rank: The process.
        world: The number of processes.
    """
    positions: list[Any] = []
    get_idxs = dl.get_idxs

    def own() -> Any:
        positions[:] = list(get_idxs())[rank::world]
        return positions

    return dl.new(get_idxs=own, n=len(range(rank, dl.n, world))), positions


def _unshuffled(dl: TorchDataLoader[Any]) -> TorchDataLoader[Any]:
    """A shuffled loader of torch, over all items in their order."""
    return TorchDataLoader(
        dl.dataset,
        batch_size=dl.batch_size,
        num_workers=dl.num_workers,
        collate_fn=dl.collate_fn,
        pin_memory=dl.pin_memory,
        timeout=dl.timeout,
        worker_init_fn=dl.worker_init_fn,
        multiprocessing_context=dl.multiprocessing_context,
        generator=dl.generator,
    )


class FetchPredsCallback(Callback):
    """Predicts a loader after each validation pass of a fit; `preds` holds the latest result of `get_preds`.

    No event of these predictions reaches callbacks with `remove_on_fetch`, such as the recorder.

    Args:
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of any library, in place of `ds_idx`.
        with_input: Put the inputs first.
        with_decoded: Add the decisions: class numbers, ….
        cbs: Callbacks for these passes only.
        reorder: Return the items of a shuffled or sorted loader in the order of its data set.
    """

    remove_on_fetch = True
    transient = ("preds",)
    observes = True
    state_kinds = ()

    def __init__(
        self,
        ds_idx: int = 1,
        dl: Iterable[Any] | None = None,
        with_input: bool = False,
        with_decoded: bool = False,
        cbs: Cbs = None,
        reorder: bool = True,
    ) -> None:
        self.ds_idx, self.given, self.with_input, self.with_decoded = ds_idx, dl, with_input, with_decoded
        self.cbs_of_pass, self.reorder = callbacks_of(cbs), reorder
        self.preds: tuple[Any, ...] | None = None

    def after_validate(self) -> None:
        learn = self.learn
        if learn.nested or learn.peeking or not learn.fitting:
            return
        assert isinstance(learn, Loop)
        with learn.removed_cbs([cb for cb in learn.cbs if isinstance(cb, Callback) and cb.remove_on_fetch]):
            self.preds = get_preds(
                learn, self.ds_idx, self.given, self.with_input, self.with_decoded,
                inner=True, reorder=self.reorder, cbs=self.cbs_of_pass,
            )  # fmt: skip


@checked
def predict(
    loop: Loop,
    item: object,
    rm_type_tfms: int | None = None,
    with_input: bool = False,
    *,
    abstain: float | None = None,
) -> tuple[Any, ...]:
    """Predict one item: `(decoded target, decision as a tensor, probabilities or outputs)`.

    Args:
        loop: The learner.
        item: The source of the inputs: a path, an image, bytes, a row; several inputs as a tuple.
        rm_type_tfms: How many leading transforms to skip; by default judged by the type of the item.
        with_input: Put the decoded input first.
        abstain: Give None in place of target and decision where the most probable class is less probable than this; by default
            what `calibrate(abstain=)` was given, if anything. 0 always gives a class.

    Raises:
        CannotTrain: The loaders cannot make a batch of a new item, or another thread trains.
        OutOfRange: `abstain` is not a number in [0, 1].
        BadArgument: `abstain` is given to a learner of something else than one class.
        BadItem: The item cannot be transformed or predicted; errors of this library keep their class.
    """
    with loop.turns.of_item():
        shown, target, decision, shares = _predict(loop, item, rm_type_tfms, with_input)
        is_silent = is_unsure(loop, decision, shares, abstain)
        return (*shown, None, None, shares) if is_silent else (*shown, target, decision, shares)


def _predict(loop: Loop, item: object, rm_type_tfms: int | None, with_input: bool) -> tuple[list[Any], Any, Any, Any]:
    dl = as_loaders(loop.dls).loaders[:2][-1]
    dataset = as_dataset(as_loader(dl).dataset)
    items = dataset.test_set([item], rm_type_tfms) if isinstance(dl, TfmdDL) else None
    if items is None:
        raise CannotTrain(
            "these loaders cannot make a batch of a new item, as predict needs",
            got=f"a data set of type {type(as_loader(dl).dataset).__name__}",
            fix="build the loaders with a DataBlock, or use get_preds(dl=[(x,)])",
        )
    try:
        maker = dl.batch_maker(items)
        batch = maker.stages.after_batch(to_device(maker.make_one(), model_device(loop)))
        inputs, _ = split_batch(batch, len(batch) if isinstance(batch, (tuple, list)) else None, loop.model)
        with evaluating(loop), torch.inference_mode():
            output = call_model(loop.model, plain_tree(inputs))
            results = [to_detach(f(output)) for f in (activation_of(loop), decoder_of(loop))]
            probabilities, decision = map(first_row, results)
        whole = batch if isinstance(batch, tuple) else (batch,)
        targets = dl.decode_target(decision if isinstance(decision, tuple) else (decision,), whole)
        target = targets[0] if len(targets) == 1 else Together(targets)
        if (pick := pick_of(loop)) is not None:
            probabilities, decision = (pick(whole, result)[0] for result in results)
        shown = [single(tuple(dl.decode_batch(whole, max_n=1)[0]))] if with_input else []
    except Exception as error:
        clearer = failed(error, f"predicting one item ({describe(item)})")
        if isinstance(item, list) and all(isinstance(part, (str, os.PathLike)) for part in item):
            clearer.fix = "for several items: learn.get_preds(dl=learn.dls.test_dl(items))"
        raise clearer from error
    return shown, target, decision, probabilities


def first_row(tree: object) -> Any:
    """The results for the only item of a batch."""
    return map_tree(lambda o: o[0] if isinstance(o, Tensor) and o.ndim else o, to_detach(tree))


_switching = threading.RLock()


@contextmanager
def evaluating(loop: Loop) -> Iterator[None]:
    """Context manager: puts the model into evaluation mode; during a fit, restores its modes afterwards.

    A lock guards the switch. It is held throughout for a stateful model (one with a `reset`), which serves one thread at a
    time.

    Raises:
        CannotTrain: Another thread trains the model.
    """
    model = loop.model
    with loop.turns.of_item():
        with _switching:
            modes = modes_of(model) if loop.fitting else None
            if model.training:
                model.eval()
        try:
            with _switching if hasattr(model, "reset") else nullcontext():
                yield
        finally:
            if modes is not None:
                set_modes(modes)


def model_device(loop: Loop) -> torch.device:
    """The device of the model's parameters; the CPU for a model without parameters."""
    return next((p.device for p in loop.model.parameters()), torch.device("cpu"))


def show_results(
    loop: Loop, ds_idx: int = 1, dl: Iterable[Any] | None = None, max_n: int = 9, shuffle: bool = True, **kwargs: Any
) -> None:
    """Show items of a loader with their targets and predictions.

    Args:
        loop: The learner.
        ds_idx: Which of the learner's loaders: 1 validation, 0 training.
        dl: A loader, in place of `ds_idx`.
        max_n: The largest number of items.
        shuffle: Choose them at random; False shows the first ones.
        kwargs: For the function that shows this type of data: `figsize`, ….

    Raises:
        CannotTrain: The loader cannot show its items.
    """
    shown = loader_of(loop, ds_idx) if dl is None else dl
    if not isinstance(shown, TfmdDL):
        raise CannotTrain(
            "this loader cannot show its items: it has no transforms to decode them",
            got=f"a loader of type {type(shown).__name__}",
            fix="build the loaders with a DataBlock",
        )
    if dl is None:
        shown = shown.new(shuffle=shuffle, drop_last=False)
    batch = shown.one_batch()
    gather = GatherPredsCallback(with_preds=False, with_targs=False, decode=decoder_of(loop))
    with loop.validation_context(cbs=[gather]):
        loop.one_validation([batch])
        *_, decoded = gather.all_tensors()
    shown.show_results(batch, decoded, max_n=max_n, **kwargs)
