"""The training loop: a model, its data, a loss, an optimizer, and events for everything else."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from layered.data import DataLoader, DataLoaders, as_loader, as_loaders
from layered.foundation import Path, checked, to_detach, to_device
from layered.loop import contexts
from layered.loop.batches import (
    call_model,
    check_has_items,
    check_loss_func,
    check_model,
    device_for,
    loss_of,
    no_loss,
    no_training_batch,
    numbered,
    reported,
    set_epoch,
    split_batch,
    valid_of,
)
from layered.loop.callback import Callback, add_cbs, callbacks_of, remove_cbs
from layered.loop.contexts import ShortTraceback, one_optimizer
from layered.loop.essentials import CastToTensor, TrainEvalCallback, on
from layered.loop.events import BACKWARD, BATCH, EPOCH, STEP, TRAIN, VALIDATE, Phase
from layered.loop.fit import fit
from layered.loop.listeners import Cbs, Listeners
from layered.loop.optimizer_parts import OptFunc, checked_opt_func, create_opt, lr_of, usual_optimizer
from layered.loop.processes import join_processes, unwrapped
from layered.loop.recorder import Recorder
from layered.loop.resume.weights import load_weights, save_weights
from layered.loop.sharding import distrib_ctx, to_distributed
from layered.loop.state import FIT_FIELDS, AbstractLoop
from layered.loop.trace import show_training_loop, trace
from layered.loop.turns import Turns
from layered.loop.valid_every import validates_after_epoch
from layered.nn import default_loss
from layered.optim import Adam, trainable_params

ESSENTIAL_CALLBACKS: tuple[type[Callback], ...] = (TrainEvalCallback, Recorder, CastToTensor)


class Loop(AbstractLoop):
    """Trains `model` on `dls`. What happens when is in `Event`; what changes meanwhile is in `State`.

    The arguments are those of `Learner`.
    """

    @checked
    def __init__(
        self,
        dls: DataLoaders | tuple[Iterable[Any], Iterable[Any] | None] | object,
        model: nn.Module,
        loss_func: Callable[..., Any] | None = None,
        opt_func: OptFunc | str | Mapping[str, OptFunc | str] = usual_optimizer,
        lr: float | slice | None = None,
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
        strategy: str | None = None,
        loggers: Any = None,
    ) -> None:
        join_processes()
        check_model(model)
        check_loss_func(loss_func)
        is_usual = opt_func is usual_optimizer
        given = {"loss_func": loss_func, "opt_func": None if is_usual else opt_func, "lr": lr, "step": step}
        opt_func = checked_opt_func(Adam if is_usual else opt_func)
        self.callbacks, self.turns = Listeners(self), Turns()
        self.model = model
        self.dls = as_loaders(self._adopt_data(dls))
        self.loss_func = loss_func if loss_func is not None else default_loss(self.dls)
        self.opt_func, self.splitter, self.step = opt_func, splitter, step
        self.lr = lr_of(opt_func, 1e-3 if lr is None else lr)
        self.wd, self.wd_bn_bias, self.train_bn, self.moms = wd, wd_bn_bias, train_bn, moms
        self.path = Path(self.dls.path if path is None else path)
        self.model_dir, self.metrics = model_dir, metrics
        for dl in self.dls.loaders[:2] if seed is not None else ():
            if isinstance(dl, DataLoader):
                dl.seed = seed
        self.to_distributed(strategy)
        self.add_cbs(self.default_callbacks() if default_cbs is True else default_cbs or None).add_cbs(cbs)
        self.add_cbs(self.logging_callbacks(loggers))
        self._adopt_model(given)
        self.emit("after_create")

    def _adopt_data(self, dls: object) -> object:
        """The loaders of an object of another library that makes them; here anything as it is.

        Args:
            dls: What the loop was given.
        """
        return dls

    def _adopt_model(self, given: Mapping[str, object]) -> None:
        """Prepare for the model, where it is one of another library; here there is nothing to prepare.

        Args:
            given: What the loop was made with, None for what was left out.
        """

    def default_callbacks(self) -> Cbs:
        """What `default_cbs=True` adds."""
        return ESSENTIAL_CALLBACKS

    def logging_callbacks(self, loggers: Any) -> Cbs:
        """What `loggers=` adds: here callbacks only."""
        return callbacks_of(loggers)

    # The loop, in the order things happen.

    fit = fit

    def all_epochs(self) -> None:
        """Every epoch of this fit."""
        for epoch in range(self.first_epoch, self.n_epoch):
            self.epoch = epoch
            self.within(EPOCH, self.one_epoch)

    def one_epoch(self) -> None:
        """One training pass and, if there is a validation loader and it is due, one validation pass."""
        self.begin_pass(self.dls.train, training=True)
        self.within(TRAIN, self._train_batches)
        if (valid := valid_of(self.dls)) is not None and validates_after_epoch(self):
            self.one_validation(valid)

    def _train_batches(self) -> None:
        self.epochs_started += 1
        set_epoch(self.dl, self.epochs_started - 1, "peek" if self.peeking else "train")
        self.all_batches(self.open_pass(self.dl), self.first_batch)
        if self.batch is None and self.first_batch == 0:
            raise no_training_batch(self.epoch, self.epoch_length)
        if self.found_loss is False and self.first_batch == 0:
            raise no_loss(self)

    def one_validation(self, dl: Iterable[Any]) -> None:
        """One pass over `dl` without gradients."""
        self.begin_pass(dl, training=False)
        set_epoch(dl, self.epochs_started, "valid")
        with torch.no_grad(), ShortTraceback():
            self.within(VALIDATE, self.all_batches)

    def begin_pass(self, dl: Iterable[Any], *, training: bool) -> None:
        """Set the fields of a pass over `dl`, before its first event."""
        loader = as_loader(dl)
        lengths = [length for length in (loader.length, self.epoch_length if training else None) if length is not None]
        self.first_batch, self.open_pass = 0, iter
        self.dl, self.training, self.iter, self.batch = dl, training, 0, None
        self.found_loss, self.reads_preds = None, False
        self.n_iter = min(lengths, default=None)
        self.n_inp = loader.n_inp or self.dls.n_inp

    def all_batches(self, batches: Iterable[Any] | None = None, first: int = 0) -> None:
        """Every batch of this pass, or these, numbered from `first`."""
        self.moves_to = device_for(self.dl, self.model)
        limit = self.epoch_length if self.training else None
        for i, b in numbered(self.dl if batches is None else batches, first, limit):
            self.one_batch(i, b)

    def one_batch(self, i: int, b: Any) -> None:
        """Batch `b`, the `i`-th of this pass: from inputs to prediction, loss and, in training, an optimizer step."""
        self.iter, self.has_learned = i, False
        self.batch = b if self.moves_to is None else to_device(b, self.moves_to, non_blocking=True)
        self.xb, self.yb = split_batch(self.batch, self.n_inp, self.model)
        if self.step is not None:
            self.xb = (self.batch,)
        self.within(BATCH, self.do_batch)

    def do_batch(self) -> None:
        """What is done with a batch between its first and its last event."""
        self.has_learned = False
        if self.step is None:
            model = self.model if self.training else unwrapped(self.model)
            self.pred = call_model(model, self.xb, self.yb)
            self.emit("after_pred")
            shared = self.shares_loss or not self.training
            loss, self.loss_shares = loss_of(self.loss_func, self.pred, self.yb, self.training, shared)
        else:
            self.pred = None
            loss = self.step(self, *self.xb)
        if not self.has_learned:
            self.minimize(loss)
        elif loss is not None:
            self.loss = reported(loss)

    def minimize(self, loss: Tensor, opt: str | None = None) -> Tensor:
        """Learn from a loss: its gradient and a step of the optimizer, with their events. Outside training, only note it.

        Args:
            loss: A tensor with its history; None for nothing to learn from.
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
        self.found_loss = bool(self.found_loss) or self.loss_grad is not None
        if self.training and self.loss_grad is not None and self._learns():
            self.within(BACKWARD, lambda: torch.autograd.backward(self.loss_grad, inputs=self.learning))
            self.within(STEP, self.opt.step)
            self.opt.zero_grad()
        return self.loss

    def _learns(self) -> bool:
        return self.loss_grad.requires_grad or any(p.requires_grad for p in self.model.parameters())

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

    add_cb = add_cbs = add_cbs
    remove_cb = remove_cbs = remove_cbs
    on = on
    trace = trace
    show_training_loop = show_training_loop
    added_cbs = contexts.added_cbs
    removed_cbs = contexts.removed_cbs
    no_logging = contexts.no_logging
    no_mbar = contexts.no_mbar
    no_bar = contexts.no_bar
    loss_not_reduced = contexts.loss_not_reduced
    to_distributed = to_distributed
    distrib_ctx = distrib_ctx
    validation_context = contexts.validation_context
    __enter__ = contexts.enter
    __exit__ = contexts.leave
    save = save_weights
    load = load_weights
    to_detach = staticmethod(to_detach)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles consist of: all but the fit that is going on, and its callbacks."""
        left_out, held = {*FIT_FIELDS, "entered", "nested"}, {id(cb) for cb in self.cbs}
        lasting = {name: value for name, value in vars(self).items() if name not in left_out and id(value) not in held}
        return lasting | {"callbacks": [cb for cb in self.cbs if cb not in self.callbacks.passing]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.callbacks = Listeners(self)
        self.callbacks.add(state["callbacks"])

    def __copy__(self) -> Self:
        """A learner that trains by itself, on the same loaders; `copy.deepcopy` copies these too."""
        return copy.deepcopy(self, {id(shared): shared for shared in (self.dls, *self.dls.loaders)})

    def create_opt(self) -> None:
        """Make a fresh optimizer (or several) over the splitter's groups."""
        self.opt = create_opt(
            self.model, self.opt_func, self.lr, self.splitter, wd_bn_bias=self.wd_bn_bias, train_bn=self.train_bn
        )
        self.made_opt = self.opt, self.opt_func, self.splitter

    @checked
    def validate(self, ds_idx: int = 1, dl: Iterable[Any] | None = None, cbs: Cbs = None) -> list[Any] | None:
        """The loss and the metrics over a loader.

        Args:
            ds_idx: Which of the loaders: 1 is validation.
            dl: A loader to take in its place.
            cbs: Callbacks of this validation only.
        """
        given = self.dls[ds_idx] if dl is None else dl
        check_has_items(self, given)
        with self.validation_context(cbs):
            self.one_validation(given)
        return self.final_record
