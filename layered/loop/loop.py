"""The training loop: a model, its data, a loss, an optimizer, and events for everything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layered.data import DataLoader
from layered.foundation import Path, checked, find_device, noop, rank_and_world, to_detach, to_device, warn
from layered.loop.batches import (
    check_fit,
    length_of,
    loaders_of,
    loss_of,
    no_batch,
    numbered,
    reported,
    set_epoch,
    split_batch,
    valid_of,
)
from layered.loop.callback import Callback, add_cbs, callbacks_of, remove_cbs
from layered.loop.contexts import (
    ShortTraceback,
    added_cbs,
    counted,
    enter,
    guarded,
    leave,
    loss_not_reduced,
    no_bar,
    no_logging,
    no_mbar,
    one_optimizer,
    removed_cbs,
    validation_context,
)
from layered.loop.essentials import CastToTensor, SkipToEpoch, TrainEvalCallback, on
from layered.loop.events import BACKWARD, BATCH, EPOCH, FIT, STEP, TRAIN, VALIDATE, Phase
from layered.loop.listeners import Cbs, Listeners
from layered.loop.optimizers import OptFunc, Rate, create_opt, lr_of, set_spread
from layered.loop.processes import callbacks_of_processes, unwrapped
from layered.loop.recorder import Recorder
from layered.loop.resume.checkpoint import Checkpoint, checkpoints_of, folder_of
from layered.loop.resume.finding import Resuming, find_saved
from layered.loop.resume.weights import load_weights, save_weights
from layered.loop.state import AbstractLoop
from layered.loop.trace import show_training_loop, trace
from layered.metrics import MetricSet
from layered.nn import default_loss
from layered.optim import Adam, trainable_params

ESSENTIAL_CALLBACKS: tuple[type[Callback], ...] = (TrainEvalCallback, Recorder, CastToTensor)


class Loop(AbstractLoop):
    """Trains `model` on `dls`. What happens when is in `Event`; what changes meanwhile is in `State`.

    Args:
        dls: `DataLoaders`, or a tuple (train, valid) of any loaders; valid may be None.
        loss_func: Called as loss_func(pred, *targets); None takes the loaders' own, else the model's `output.loss`.
        opt_func: Called as opt_func(parameter_groups, lr=lr); a partial that holds `lr` wins over `lr`. A dict gives
            parts of the model, named as its submodules, optimizers of their own: {"gen": Adam, "critic": SGD}.
        lr: Default learning rate of `fit`, a number or a slice.
        splitter: Model -> parameter groups, for freezing and discriminative rates.
        cbs: Callbacks that stay: instances, classes, or lists of these.
        metrics: Functions of (pred, target), `Metric`s, or torchmetrics'.
        path: Where `save` puts its folder `model_dir`; the loaders' own path if None.
        wd: Weight decay; None leaves the optimizer's default.
        wd_bn_bias: Decay norm layers and biases too.
        train_bn: Norm layers learn even where frozen.
        moms: Momentum at the start, middle and end of a one-cycle fit.
        default_cbs: True for modes, recorder and plain tensors; False for none; or a list of your own.
        step: step(loop, batch) -> loss, in place of model(*xb), `after_pred` and loss_func; it may learn from several
            losses by itself with `loop.minimize`, and then returns what is to be reported.
        seed: What shuffling and augmentation of our loaders depend on; None leaves theirs.
    """

    @checked
    def __init__(
        self,
        dls: Any,
        model: nn.Module,
        loss_func: Callable[..., Any] | None = None,
        opt_func: OptFunc | Mapping[str, OptFunc] = Adam,
        lr: float | slice = 1e-3,
        splitter: Callable[[nn.Module], Any] = trainable_params,
        cbs: Cbs = None,
        metrics: object = None,
        path: str | os.PathLike[str] | None = None,
        model_dir: str | os.PathLike[str] = "models",
        wd: float | None = None,
        wd_bn_bias: bool = False,
        train_bn: bool = True,
        moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
        default_cbs: bool | Cbs = True,
        *,
        step: Callable[..., Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self.callbacks = Listeners(self)
        self.dls, self.model = loaders_of(dls), model
        self.loss_func = loss_func if loss_func is not None else default_loss(self.dls)
        self.opt_func, self.splitter, self.step = opt_func, splitter, step
        self.lr = lr_of(opt_func, lr)
        self.wd, self.wd_bn_bias, self.train_bn, self.moms = wd, wd_bn_bias, train_bn, moms
        self.path = Path(path if path is not None else getattr(self.dls, "path", None) or ".")
        self.model_dir, self.metrics = model_dir, metrics
        for dl in (self.dls.train, valid_of(self.dls)) if seed is not None else ():
            if isinstance(dl, DataLoader):
                dl.seed = seed
        chosen = self.default_callbacks() if default_cbs is True else None if default_cbs is False else default_cbs
        self.add_cbs(chosen).add_cbs(cbs)
        self.emit("after_create")

    def default_callbacks(self) -> Cbs:
        """What `default_cbs=True` adds."""
        return ESSENTIAL_CALLBACKS

    # The loop, in the order things happen.

    @checked
    def fit(
        self,
        n_epoch: int,
        lr: Rate | None = None,
        wd: float | None = None,
        cbs: Cbs = None,
        reset_opt: bool = False,
        start_epoch: int = 0,
        *,
        n_iter: int | None = None,
        resume: Resuming = None,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    ) -> None:
        """Train for `n_epoch` passes over the training loader, validating after each.

        Args:
            lr: Learning rate, a number or a slice over the parameter groups; the loop's own if None. With several
                optimizers also a dict by name.
            wd: Weight decay of this and later fits.
            cbs: Callbacks of this fit only.
            reset_opt: Begin with a fresh optimizer.
            start_epoch: Skip the epochs before it.
            n_iter: Batches an epoch, for a training loader without length.
            checkpoint: A folder, or a `Checkpoint`, to write to during this fit.
            resume: "auto" goes on from the newest checkpoint in that folder; or another folder, or a file.

        Raises:
            BadValue: Before anything changes.
            EmptySource: Before anything changes.
            CannotTrain: Before anything changes.
            CannotRestore: Before anything changes.
        """
        check_fit(n_epoch, start_epoch, n_iter, self.dls.train)
        added = [*callbacks_of(cbs), *([SkipToEpoch(start_epoch)] if start_epoch else [])]
        arguments = {"n_epoch": n_epoch, "lr": repr(lr), "wd": wd, "cbs": repr(added)}
        arguments["batches"] = length_of(self.dls.train) if n_iter is None else n_iter
        added += [*checkpoints_of(checkpoint), *callbacks_of_processes()]
        saved = find_saved(resume, folder_of([*added, *self.cbs]), self.fit_ordinal + 1, arguments)
        if saved is not None and saved.ordinal > self.fit_ordinal + 1:
            self.fit_ordinal += 1
            warn(
                f"fit {self.fit_ordinal} is done, but what it left is not in the folder: until fit {saved.ordinal} goes on from "
                f"{saved.file} the learner is as it was made"
            )
            return
        with added_cbs(self, added):
            if self.opt is None or reset_opt:
                self.create_opt()
            if saved is not None:
                saved.check(self)
                if self.logger is not noop and rank_and_world()[0] == 0:
                    print(f"going on from {saved.file}: {saved.where}")
            set_spread(self.opt, "lr", self.lr if lr is None else lr)
            if (wd := self.wd if wd is None else wd) is not None:
                self.opt.set_hypers(wd=wd)
            self.n_epoch, self.epoch_length, self.fit_arguments, self._saved = n_epoch, n_iter, arguments, saved
            self.fitting = True
            with counted(self), guarded(self), ShortTraceback():
                if saved is not None and saved.finished and saved.epoch >= n_epoch:
                    saved.restore(self)
                else:
                    self.within(FIT, self._epochs)

    def _epochs(self) -> None:
        saved = self._saved
        if saved is not None and saved.batch == 0:
            saved.restore(self)
            self._saved = None
        for epoch in range(0 if saved is None else saved.epoch, self.n_epoch):
            self.epoch = epoch
            self.within(EPOCH, self.one_epoch)

    def one_epoch(self) -> None:
        """One training pass and, if there is a validation loader, one validation pass."""
        self.begin_pass(self.dls.train, training=True)
        self.within(TRAIN, self._train_batches)
        valid = valid_of(self.dls)
        if valid is not None:
            self.one_validation(valid)

    def _train_batches(self) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            self.epochs_started += 1
        else:
            saved.restore(self)
        set_epoch(self.dl, self.epochs_started - 1, "peek" if self.peeking else "train")
        if saved is not None:
            self.all_batches(saved.remaining(self), saved.batch)
            return
        self.all_batches()
        if self.batch is None:
            raise no_batch(self.epoch, self.epoch_length)

    def one_validation(self, dl: Iterable[Any]) -> None:
        """One pass over `dl` without gradients."""
        self.begin_pass(dl, training=False)
        set_epoch(dl, self.epochs_started, "valid")
        with torch.no_grad(), ShortTraceback():
            self.within(VALIDATE, self.all_batches)

    def begin_pass(self, dl: Iterable[Any], *, training: bool) -> None:
        """Set the fields of a pass over `dl`, before its first event."""
        self.dl, self.training, self.iter, self.batch = dl, training, 0, None
        self.n_iter = self.epoch_length if training and self.epoch_length is not None else length_of(dl)
        self.n_inp = getattr(dl, "n_inp", None) or getattr(self.dls, "n_inp", None)

    def all_batches(self, batches: Iterable[Any] | None = None, first: int = 0) -> None:
        """Every batch of this pass, or these, numbered from `first`."""
        placed = getattr(self.dl, "device", None) is not None
        self.moves_to = None if placed else find_device([*self.model.parameters(), *self.model.buffers()])
        limit = self.epoch_length if self.training else None
        for i, b in numbered(self.dl if batches is None else batches, first, limit):
            self.one_batch(i, b)

    def one_batch(self, i: int, b: Any) -> None:
        """Batch `b`, the `i`-th of this pass: from inputs to prediction, loss and, in training, an optimizer step."""
        self.iter = i
        self.batch = b if self.moves_to is None else to_device(b, self.moves_to, non_blocking=True)
        self.xb, self.yb = split_batch(self.batch, self.n_inp, self.model) if self.step is None else ((self.batch,), ())
        self.within(BATCH, self.do_batch)

    def do_batch(self) -> None:
        """What is done with a batch between its first and its last event."""
        self.has_learned = False
        if self.step is None:
            model = self.model if self.training else unwrapped(self.model)
            self.pred = model(**self.xb) if isinstance(self.xb, dict) else model(*self.xb)
            self.emit("after_pred")
            loss = loss_of(self.loss_func, self.pred, self.yb, self.training)
        else:
            loss = self.step(self, *self.xb)
        if not self.has_learned:
            self.minimize(loss)
        elif loss is not None:
            self.loss = reported(loss)

    def minimize(self, loss: Tensor, opt: str | None = None) -> Tensor:
        """Learn from a loss: its gradient and a step of the optimizer, with their events. Outside training, only note it.

        Args:
            opt: The name of one of several optimizers: it alone is stepped, from gradients of its parameters alone.

        Returns:
            The loss as reported, without its history; None if there is none.
        """
        if opt is not None:
            with one_optimizer(self, opt):
                self.minimize(loss)
            return self.loss
        self.has_learned, self.loss_grad = True, loss
        self.loss = reported(loss)
        self.emit("after_loss")
        if self.training and self.loss_grad is not None and self._learns():
            self.within(BACKWARD, self._backward)
            self.within(STEP, self.opt.step)
            self.opt.zero_grad()
        return self.loss

    def _learns(self) -> bool:
        return self.loss_grad.requires_grad or any(p.requires_grad for p in self.model.parameters())

    def _backward(self) -> None:
        torch.autograd.backward(self.loss_grad, inputs=self.learning)

    def within(self, phase: Phase, body: Callable[[], Any]) -> None:
        """`before_<phase>`, the body, `after_<phase>`; the phase's own Cancel exception cuts it short."""
        try:
            self.emit(phase.before)
            body()
        except phase.cancel:
            self.emit(phase.after_cancel)
        self.emit(phase.after)

    def emit(self, name: str) -> None:
        """Call whoever listens to the event `name`, in ascending `order`.

        Raises:
            BadEvent: For a name that is neither in `Event` nor declared.
        """
        heard = self.callbacks.handlers.get(name)
        if heard is None:
            heard = self.callbacks.declared(name)
        for cb, handler, inner in heard:
            if cb.run and (not inner or (cb.run_train if self.training else cb.run_valid)):
                handler()

    # Callbacks, and what changes for the length of a `with`.

    add_cb = add_cbs = add_cbs
    remove_cb = remove_cbs = remove_cbs
    added_cbs = added_cbs
    removed_cbs = removed_cbs
    on = on
    trace = trace
    show_training_loop = show_training_loop
    no_logging = no_logging
    no_mbar = no_mbar
    no_bar = no_bar
    loss_not_reduced = loss_not_reduced
    validation_context = validation_context
    __enter__ = enter
    __exit__ = leave

    # What a fit stands on.

    @property
    def metrics(self) -> list[Any]:
        """What the recorder computes over each validation pass; set it to functions, metrics, or a list of these.

        The learner has copies of its own, so that learners given the same metric object do not disturb each other.
        """
        return self.metric_set.metrics

    @metrics.setter
    def metrics(self, metrics: object) -> None:
        self.metric_set = MetricSet(metrics)

    def create_opt(self) -> None:
        """A fresh optimizer (or several) over the splitter's groups; norm layers and biases as the settings say."""
        self.opt = create_opt(
            self.model, self.opt_func, self.lr, self.splitter, wd_bn_bias=self.wd_bn_bias, train_bn=self.train_bn
        )

    @checked
    def validate(self, ds_idx: int = 1, dl: Iterable[Any] | None = None, cbs: Cbs = None) -> list[Any] | None:
        """The loss and the metrics over a loader: `dl`, or the `ds_idx`-th of the loaders (1 is validation)."""
        with self.validation_context(cbs):
            self.one_validation(self.dls[ds_idx] if dl is None else dl)
        return self.final_record

    save = save_weights
    load = load_weights
    to_detach = staticmethod(to_detach)
