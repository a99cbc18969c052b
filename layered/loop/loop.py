"""The training loop: a model, its data, a loss, an optimizer, and events for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import nn

from layered.data.loader import DataLoader
from layered.foundation.arguments import checked
from layered.foundation.errors import BadValue, CannotTrain, EmptySource
from layered.foundation.helpers import listify
from layered.foundation.paths import Path
from layered.foundation.pipeline import describe
from layered.foundation.tree import find_device, to_device
from layered.loop.batches import iter_once, length_of, loaders_of, numbered, own_loss, set_epoch, split_batch, valid_of
from layered.loop.callback import Callback, callbacks_of
from layered.loop.checkpoint import Saved, checkpoints_of, find_saved
from layered.loop.essentials import CastToTensor, SkipToEpoch, TrainEvalCallback, modes_of, set_modes
from layered.loop.events import BACKWARD, BATCH, EPOCH, FIT, STEP, TRAIN, VALIDATE, Phase
from layered.loop.listeners import Listeners
from layered.loop.recorder import Recorder
from layered.loop.state import PASS_FIELDS
from layered.loop.weights import load_weights, save_weights
from layered.metrics.metric import Metric, MetricSet
from layered.nn.losses import default_loss
from layered.optim.groups import GroupedOptimizer, force_train, mark_no_decay, trainable_params
from layered.optim.wrappers import OptimWrapper
from layered.optim.zoo import Adam

ESSENTIAL_CALLBACKS: tuple[type[Callback], ...] = (TrainEvalCallback, Recorder, CastToTensor)


class Loop(Listeners):
    """Trains `model` on `dls`. What happens when is in `Event`; what changes meanwhile is in `State`.

    dls          `DataLoaders`, or a tuple (train, valid) of any loaders; valid may be None
    loss_func    called as loss_func(pred, *targets); None takes the loaders' own, else the model's `output.loss`
    opt_func     called as opt_func(parameter_groups, lr=lr); a partial that holds `lr` wins over `lr`
    lr           default learning rate of `fit`, a number or a slice
    splitter     model -> parameter groups, for freezing and discriminative rates
    cbs          callbacks that stay: instances, classes, or lists of these
    metrics      functions of (pred, target), `Metric`s, or torchmetrics'
    path         where `save` puts its folder `model_dir`; the loaders' own path if None
    wd           weight decay; None leaves the optimizer's default
    wd_bn_bias   decay norm layers and biases too
    train_bn     norm layers learn even where frozen
    moms         momentum at the start, middle and end of a one-cycle fit
    default_cbs  True for modes, recorder and plain tensors; False for none; or a list of your own
    step         step(loop, batch) -> loss, in place of model(*xb), `after_pred` and loss_func
    seed         what shuffling and augmentation of our loaders depend on; None leaves theirs
    """

    _saved: Saved | None = None  # the checkpoint that this fit goes on from, until it has been restored

    @checked
    def __init__(
        self,
        dls: Any,
        model: nn.Module,
        loss_func: Callable[..., Any] | None = None,
        opt_func: Callable[..., Any] = Adam,
        lr: float | slice = 1e-3,
        splitter: Callable[[nn.Module], Any] = trainable_params,
        cbs: Any = None,
        metrics: Any = None,
        path: Any = None,
        model_dir: Any = "models",
        wd: float | None = None,
        wd_bn_bias: bool = False,
        train_bn: bool = True,
        moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
        default_cbs: bool | Sequence[Any] = True,
        *,
        step: Callable[[Any, Any], Any] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.dls, self.model = loaders_of(dls), model
        self.loss_func = loss_func if loss_func is not None else default_loss(self.dls)
        self.opt_func, self.splitter, self.step = opt_func, splitter, step
        self.lr = getattr(opt_func, "keywords", {}).get("lr", lr)
        self.wd, self.wd_bn_bias, self.train_bn, self.moms = wd, wd_bn_bias, train_bn, moms
        self.path = Path(path if path is not None else getattr(self.dls, "path", None) or ".")
        self.model_dir, self.metrics = model_dir, metrics
        for dl in (self.dls.train, valid_of(self.dls)) if seed is not None else ():
            if isinstance(dl, DataLoader):
                dl.seed = seed
        self.add_cbs(self.default_callbacks() if default_cbs is True else default_cbs or None).add_cbs(cbs)
        self.emit("after_create")

    def default_callbacks(self) -> Sequence[Any]:
        """What `default_cbs=True` adds."""
        return ESSENTIAL_CALLBACKS

    # The loop, in the order things happen.

    @checked
    def fit(
        self,
        n_epoch: int,
        lr: Any = None,
        wd: float | None = None,
        cbs: Any = None,
        reset_opt: bool = False,
        start_epoch: int = 0,
        *,
        n_iter: int | None = None,
        resume: Any = None,
        checkpoint: Any = None,
    ) -> None:
        """Train for `n_epoch` passes over the training loader, validating after each.

        lr           learning rate, a number or a slice over the parameter groups; the loop's own if None
        wd           weight decay of this and later fits
        cbs          callbacks of this fit only
        reset_opt    begin with a fresh optimizer
        start_epoch  skip the epochs before it
        n_iter       batches an epoch, for a training loader without length
        checkpoint   a folder, or a `Checkpoint`, to write to during this fit
        resume       "auto" goes on from the newest checkpoint in that folder; or another folder, or a file
        raises       BadValue, EmptySource, CannotTrain or CannotRestore, before anything changes
        """
        _check_fit(n_epoch, start_epoch, n_iter, self.dls.train)
        cbs = [*callbacks_of(cbs), *([SkipToEpoch(start_epoch)] if start_epoch else [])]
        arguments = {"n_epoch": n_epoch, "lr": repr(lr), "wd": wd, "cbs": repr(cbs)}
        arguments["batches"] = length_of(self.dls.train) if n_iter is None else n_iter
        cbs += checkpoints_of(checkpoint)
        saved = find_saved(resume, [*cbs, *self.cbs], self.fit_ordinal + 1, arguments)
        self.fit_ordinal += 1
        if saved is not None and saved.ordinal > self.fit_ordinal:
            return
        with self.added_cbs(cbs):
            if self.opt is None or reset_opt:
                self.create_opt()
            self.opt.set_hypers(lr=self.lr if lr is None else lr)
            if (wd := self.wd if wd is None else wd) is not None:
                self.opt.set_hypers(wd=wd)
            self.n_epoch, self.epoch_length, self.fit_arguments, self._saved = n_epoch, n_iter, arguments, saved
            self.fitting = True
            with self._guarded():
                if saved is not None and saved.finished:
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
        self._begin_pass(self.dls.train, training=True)
        self.within(TRAIN, self._train_batches)
        valid = valid_of(self.dls)
        if valid is not None:
            self.one_validation(valid)

    def one_validation(self, dl: Any) -> None:
        """One pass over `dl` without gradients."""
        self._begin_pass(dl, training=False)
        set_epoch(dl, self.epochs_started, "valid")
        with torch.no_grad():
            self.within(VALIDATE, self.all_batches)

    def _begin_pass(self, dl: Any, *, training: bool) -> None:
        self.dl, self.training, self.iter, self.batch = dl, training, 0, None
        self.n_iter = self.epoch_length if training and self.epoch_length is not None else length_of(dl)
        self.n_inp = getattr(dl, "n_inp", None) or getattr(self.dls, "n_inp", None)

    def _train_batches(self) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            self.epochs_started += 1
        else:
            saved.restore(self)
        set_epoch(self.dl, self.epochs_started - 1, "peek" if self.peeking else "train")
        if saved is not None:
            self.all_batches(saved.remaining(self.dl), saved.batch)
            return
        self.all_batches()
        if self.batch is None:
            raise EmptySource(
                f"the training loader gave no batch in epoch {self.epoch}",
                fix="a generator lasts for one epoch: pass a list or a DataLoader, or fit(…, n_iter=batches an epoch)",
            )

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
        self.within(BATCH, self._forward_and_learn)

    def _forward_and_learn(self) -> None:
        if self.step is None:
            self.pred = self.model(**self.xb) if isinstance(self.xb, dict) else self.model(*self.xb)
            self.emit("after_pred")
            self.loss_grad = self._compute_loss()
        else:
            self.loss_grad = self.step(self, *self.xb)
        self.loss = None if self.loss_grad is None else self.loss_grad.detach().clone()
        self.emit("after_loss")
        if self.training and self.loss_grad is not None and self._learns():
            self.within(BACKWARD, self._backward)
            self.within(STEP, self.opt.step)
            self.opt.zero_grad()

    def _compute_loss(self) -> Any:
        if self.loss_func is not None:
            return self.loss_func(self.pred, *self.yb) if self.yb else None
        loss = own_loss(self.pred)
        if loss is None and (self.training or self.yb):
            raise CannotTrain(
                "there is no loss: no loss_func was given, and the model's output has no `.loss`",
                got=f"an output of type {type(self.pred).__name__}",
                fix="Learner(dls, model, loss_func=nn.CrossEntropyLoss()), or another function of (pred, *targets)",
            )
        return loss

    def _learns(self) -> bool:
        return self.loss_grad.requires_grad or any(p.requires_grad for p in self.model.parameters())

    def _backward(self) -> None:
        self.loss_grad.backward()

    def within(self, phase: Phase, body: Callable[[], Any]) -> None:
        """`before_<phase>`, the body, `after_<phase>`; the phase's own Cancel exception cuts it short."""
        try:
            self.emit(phase.before)
            body()
        except phase.cancel:
            self.emit(phase.after_cancel)
        self.emit(phase.after)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """However the body ends, `on_end` is heard and nothing of the fit is left over; its exception is raised."""
        try:
            yield
        except BaseException as error:
            self.error = error
            if self.batch is not None:
                error.add_note(self._place())
            for name in ("on_error", "on_end"):
                try:
                    self.emit(name)
                except Exception as another:
                    error.add_note(f"then a callback failed in {name}: {another!r}")
            raise
        else:
            self.emit("on_end")
        finally:
            if self.fitting and self.opt is not None:
                self.opt.zero_grad()
            for cb in (cb for cb in self.cbs if not cb.run):
                cb.run = True
            for name in (*PASS_FIELDS, "error", "fitting", "epoch_length", "_saved"):
                self.__dict__.pop(name, None)

    def _place(self) -> str:
        """Where in the fit things stand: the pass, the batch, and what the batch is."""
        what = f"epoch {self.epoch}, {'training' if self.training else 'validation'}"
        return f"in batch {self.iter} of {what}: inputs {describe(self.xb)}, targets {describe(self.yb)}"

    # What a fit stands on.

    @property
    def metrics(self) -> list[Any]:
        """What the recorder computes over each validation pass; set it to functions, metrics, or a list of these.

        The learner has copies of its own, so that learners given the same metric object do not disturb each other.
        """
        return self.metric_set.metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        self.metric_set = MetricSet([metrics] if isinstance(metrics, Metric) else listify(metrics))

    def create_opt(self) -> None:
        """A fresh optimizer over the splitter's groups; norm layers and biases as `wd_bn_bias` and `train_bn` say."""
        groups = list(self.splitter(self.model)) or [[]]
        maker = getattr(self.opt_func, "func", self.opt_func)
        is_torchs = isinstance(maker, type) and not issubclass(maker, GroupedOptimizer)
        make = partial(OptimWrapper, opt=self.opt_func) if is_torchs else self.opt_func
        self.opt = make(groups, lr=self.lr)
        if not self.wd_bn_bias:
            mark_no_decay(self.opt, self.model)
        if self.train_bn:
            force_train(self.opt, self.model)

    @checked
    def validate(self, ds_idx: int = 1, dl: Any = None, cbs: Any = None) -> list[Any] | None:
        """The loss and the metrics over a loader: `dl`, or the `ds_idx`-th of the loaders (1 is validation)."""
        with self.validation_context(cbs):
            self.one_validation(self.dls[ds_idx] if dl is None else dl)
        return self.final_record

    @contextmanager
    def validation_context(self, cbs: Any = None, inner: bool = False) -> Iterator[Self]:
        """Silent, with `cbs` added, and between the events around an epoch (unless `inner`, or inside a fit)."""
        with self.no_logging(), self.no_mbar(), self.added_cbs(cbs):
            if inner or self.fitting:
                with self._set_aside():
                    yield self
            else:
                with self._guarded():
                    self.emit("before_fit")
                    self.emit("before_epoch")
                    yield self
                    self.emit("after_epoch")
                    self.emit("after_fit")

    @contextmanager
    def _set_aside(self) -> Iterator[None]:
        """What the fit around is doing is put aside, and back afterwards."""
        kept = {name: getattr(self, name) for name in (*PASS_FIELDS, "loss", "nested")}
        modes = modes_of(self.model)
        self.nested = True
        try:
            yield
        finally:
            vars(self).update(kept)
            set_modes(modes)

    def save(self, file: Any, with_opt: bool = True) -> Path:
        """Write the weights (and the optimizer's state) to `path/model_dir/file.layered`; returns that path.

        raises     CannotSave; what stood there before still stands
        """
        return save_weights(self, file, with_opt)

    def load(self, file: Any, with_opt: bool = True, strict: bool = True, device: Any = None) -> Self:
        """Read weights written by `save`, or a `.pth` or `.safetensors` file of anybody's.

        strict     every weight of the model must be in the file, and no other
        raises     BadFile, UnsafeFile or CannotRestore with the names that differ; the model is then unchanged
        """
        load_weights(self, file, with_opt, strict, device)
        return self


def _check_fit(n_epoch: int, start_epoch: int, n_iter: int | None, train: Any) -> None:
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
