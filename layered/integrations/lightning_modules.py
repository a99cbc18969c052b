"""A LightningModule, of lightning or pytorch_lightning, trained by its own methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue, CannotTrain, find_bs, warn
from layered.integrations.lightning_methods import (
    CALLED,
    LEFT_OUT,
    STEPS,
    check_trainable,
    lightning_base,
    own_methods,
    positions_taken,
    set_up,
)
from layered.integrations.lightning_optimizers import Schedule, read_optimizers
from layered.integrations.lightning_trainer import FitView
from layered.integrations.logged import Logged, Parts
from layered.integrations.logged_names import names_logged
from layered.loop import (
    AbstractLoop,
    Callback,
    CancelTrainException,
    Count,
    Kinds,
    Recorder,
    bad_state,
    call_model,
    fits,
    split_batch,
)
from layered.optim import OptimWrapper

_LOSS_NAMES = ("val_loss", "valid_loss")


class LightningFit(Callback):
    """Trains a LightningModule: calls its steps and hooks, makes its optimizer, steps its schedules, and notes what it logs.

    A learner has one where its model is a LightningModule. Of `training_step` and `validation_step` the loss is the one that
    they return; a `validation_step` that returns none has the loss that it logs as "val_loss". What `self.log` is given makes
    a column of the table: the mean of the epoch where `on_epoch` is set, as it is by default in validation, else the last value.

    Each fit calls `configure_optimizers` anew, as Lightning's does.

    Args:
        module: The LightningModule.

    Raises:
        BadArgument: It optimizes by hand, or has no `training_step`.
    """

    order = 45  # before the recorder, which has 50
    transient = ("outputs", "running", "is_skipped", "is_said", "loss_logged", "schedules", "train_log", "valid_log")
    state_kinds: ClassVar[Kinds] = (("steps", Count), ("watched", dict[str, float]))

    def __init__(self, module: Any) -> None:
        self.module = module
        base: Any = lightning_base(module)
        self.own = own_methods(module, STEPS | CALLED | LEFT_OUT)
        check_trainable(module, self.own)
        self.logs = names_logged(type(module), base)
        self.steps = 0  # of the optimizer in this fit
        self.watched: dict[str, float] = {}  # the last value of each name
        self.outputs, self.running = None, ""  # of the last step, and which method of the module runs
        self.schedules: list[Schedule] = []
        self.is_skipped = self.is_said = False
        self.train_log, self.valid_log = Logged(), Logged()
        self.loss_logged: Any = None  # of this validation batch

    def begin(self, given: Mapping[str, object]) -> None:
        """Take the place of the learner's step and optimizer.

        Args:
            given: What the learner was made with.

        Raises:
            BadArgument: It was given a rate beside the optimizer of the module.
        """
        learn = self.learn
        with self._attached():
            if getattr(learn.dls, "source", None) is not self.module:  # else it was set up for its loaders
                set_up(self.module)
            self.module.configure_model()
        learn.step = self.step
        if given["opt_func"] is not None:
            return
        if given["lr"] is not None:
            raise BadArgument(
                "the rate of a LightningModule is that of configure_optimizers",
                got=f"lr={given['lr']}",
                fix=f"set it there; or leave configure_optimizers out: Learner(dls, model, opt_func='adam', lr={given['lr']})",
            )
        learn.opt_func = self.make_optimizer

    def make_optimizer(self, groups: object = None, lr: object = None) -> torch.optim.Optimizer:
        """What `configure_optimizers` makes; its rates become those of the learner.

        Args:
            groups: Unused, since the module decides.
            lr: Likewise.
        """
        with self._attached():
            opt, self.schedules = read_optimizers(self.module.configure_optimizers())
        self.learn.lr = [group["lr"] for group in opt.param_groups]  # type: ignore[assignment]  # one for each group
        return opt

    # -- the steps

    def step(self, loop: AbstractLoop, batch: Any) -> Any:
        """The loss of a batch, by `training_step` or `validation_step`; where predictions are read, those of the model.

        Args:
            loop: The learner.
            batch: The batch.
        """
        if loop.training:
            self.outputs = self._run("training_step", batch, loop.iter)
            return _loss_in(self.outputs)
        if loop.reads_preds or len(loop.metric_set):
            loop.pred = self._predicted(loop, batch)
        if loop.reads_preds or "validation_step" not in self.own:
            return None
        self.loss_logged = None
        self.outputs = self._run("validation_step", batch, loop.iter)
        loss = _loss_in(self.outputs)
        return self.loss_logged if loss is None else loss

    def _predicted(self, loop: AbstractLoop, batch: Any) -> Any:
        if loop.reads_preds and "predict_step" in self.own:
            return self._run("predict_step", batch, loop.iter)
        if "forward" not in self.own:
            raise CannotTrain(
                f"{type(self.module).__name__} does not say how it predicts",
                got="neither forward nor predict_step",
                expected="def forward(self, x): return self.net(x)",
            )
        with self._attached():
            return call_model(loop.model, split_batch(batch, loop.n_inp, loop.model)[0])

    def _run(self, name: str, *args: Any) -> Any:
        """Call a method of the module, with as many of the arguments as it takes."""
        method, self.running = getattr(self.module, name), name
        with self._attached():
            return method(*args[: positions_taken(method.__func__, len(args))])

    def _hook(self, name: str, *args: Any) -> Any:
        return self._run(name, *args) if name in self.own else None

    @contextmanager
    def _attached(self) -> Iterator[None]:
        """Inside the `with` the module has a trainer, and what it logs comes here."""
        parts = [part for part in self.module.modules() if lightning_base(part) is not None]
        view = FitView(self)
        for part in parts:
            part.trainer = view
            part.log, part.optimizers, part.lr_schedulers = self.log, self._optimizers, self._lr_schedulers
        try:
            yield
        finally:
            for part in parts:
                part.trainer = None
                del part.log, part.optimizers, part.lr_schedulers

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """What `self.log` of the module does. Values of an epoch are of all processes; other arguments are for Lightning alone.

        Args:
            name: The name of the value.
            value: A number, a tensor of one, or a metric of torchmetrics.
            prog_bar: Unused.
            logger: Unused.
            on_step: Whether the value of a batch counts; without `on_epoch`, the last one of an epoch is kept.
            on_epoch: Whether values of batches are combined into one for the epoch; by default outside of training steps.
            reduce_fx: How: "mean", "sum", "min", "max", or a function.
            enable_graph: Unused.
            sync_dist: Unused.
            sync_dist_group: Unused.
            add_dataloader_idx: Unused.
            batch_size: Weight of the value in the mean; by default the size of the batch.
            metric_attribute: Unused.
            rank_zero_only: Unused.
        """
        is_of_batch = "step" in self.running or "batch" in self.running or "back" in self.running
        is_valid = "validation" in self.running
        if on_epoch is None:
            on_epoch = is_valid or not is_of_batch
        if batch_size is None:
            batch_size = find_bs(self.learn.yb or self.learn.xb) if is_of_batch else 1
        (self.valid_log if is_valid else self.train_log).add(name, value, reduce_fx if on_epoch else "last", batch_size)
        if is_valid and name in _LOSS_NAMES and isinstance(value, Tensor):
            self.loss_logged = value

    def _optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.optimizer

    def _lr_schedulers(self) -> Any:
        found = [one.scheduler for one in self.schedules]
        return found[0] if len(found) == 1 else found or None

    @property
    def optimizer(self) -> Any:
        """The optimizer as the module made it."""
        opt = self.learn.opt
        return opt.opt if isinstance(opt, OptimWrapper) else opt

    # -- the events

    def before_fit(self) -> None:
        learn = self.learn
        self.train_log, self.valid_log, self.is_said = Logged(), Logged(), False
        if not learn.fitting:
            return
        self.steps, self.watched = 0, {}
        if self.schedules and not learn.peeking and learn.fit_arguments["lr"] != "None":
            raise BadValue(
                "the rates of this LightningModule follow the schedule of its configure_optimizers",
                got=f"fit(…, lr={learn.fit_arguments['lr']})",
                fix="leave out lr=, or set the rate in configure_optimizers",
            )
        if left := sorted(self.own & LEFT_OUT):
            warn(f"{type(self.module).__name__} defines {', '.join(left)}, which a learner does not call")
        if learn.callbacks.get(Recorder) is not None:
            learn.recorder.expect(self.logs)
        self._hook("on_fit_start")
        self._hook("on_train_start")

    def before_train(self) -> None:
        self._hook("on_train_epoch_start")

    def before_validate(self) -> None:
        if not self.learn.reads_preds:
            self.valid_log = Logged()
            self._hook("on_validation_start")
            self._hook("on_validation_epoch_start")

    def before_batch(self) -> None:
        learn = self.learn
        if learn.training and self._hook("on_train_batch_start", learn.batch, learn.iter) == -1:
            raise CancelTrainException
        if not learn.training and not learn.reads_preds:
            self._hook("on_validation_batch_start", learn.batch, learn.iter)

    def before_backward(self) -> None:
        self._hook("on_before_zero_grad", self.optimizer)
        self._hook("on_before_backward", self.learn.loss_grad)

    def after_backward(self) -> None:
        self._hook("on_after_backward")

    def before_step(self) -> None:
        self._hook("on_before_optimizer_step", self.optimizer)

    def after_cancel_step(self) -> None:
        self.is_skipped = True

    def after_step(self) -> None:
        if not self.is_skipped:
            self.steps += 1
            self._step_schedules("step", self.steps)
        self.is_skipped = False

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            outputs = {"loss": self.outputs} if isinstance(self.outputs, Tensor) else self.outputs
            self._hook("on_train_batch_end", outputs, learn.batch, learn.iter)
        elif not learn.reads_preds:
            self._hook("on_validation_batch_end", self.outputs, learn.batch, learn.iter)

    def after_validate(self) -> None:
        if not self.learn.reads_preds:
            self._hook("on_validation_epoch_end")
            self._hook("on_validation_end")
            self._note(self.valid_log)

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting:
            self._hook("on_train_epoch_end")
            self._note(self.train_log)
            self._step_schedules("epoch", learn.epoch + 1)

    def after_fit(self) -> None:
        if self.learn.fitting:
            self._hook("on_train_end")
            self._hook("on_fit_end")

    def on_end(self) -> None:
        learn = self.learn
        if learn.fitting and learn.opt_func == self.make_optimizer:
            learn.opt_func = self.make_optimizer  # another object, so that the next fit makes its optimizer with it

    def _note(self, log: Logged) -> None:
        values = log.take()
        self.watched |= values
        if self.learn.callbacks.get(Recorder) is not None:
            self.learn.recorder.note(values)

    def _step_schedules(self, interval: str, count: int) -> None:
        learn = self.learn
        due = [one for one in self.schedules if one.interval == interval]
        if not due or learn.peeking:
            return
        if learn.rates_are_set:
            if not self.is_said:
                warn("the schedule of configure_optimizers is left out: another one sets the rates of this fit")
            self.is_said = True
            return
        for one in due:
            one.step(count, self._values() if one.reduce_on_plateau else {})

    def _values(self) -> dict[str, float]:
        """What a schedule may watch: columns of the table, and what was logged."""
        learn = self.learn
        row = (
            zip(learn.recorder.metric_names, learn.recorder.log, strict=False) if learn.callbacks.get(Recorder) else ()
        )
        return {name: value for name, value in row if isinstance(value, float)} | self.watched

    # -- checkpoints

    def state_dict(self) -> dict[str, Any]:
        scheduled = [one.scheduler.state_dict() for one in self.schedules]
        return {**super().state_dict(), "scheduled": scheduled, "logged": self.train_log.parts}

    def check_state(self, state: Mapping[str, Any]) -> None:
        self.check_attributes({name: value for name, value in state.items() if name not in ("scheduled", "logged")})
        scheduled = state.get("scheduled", [])
        if not fits(scheduled, list[dict[str, Any]]) or len(scheduled) != len(self.schedules):
            raise bad_state(self, f"other schedules than the {len(self.schedules)} of configure_optimizers")
        if not fits(state.get("logged", {}), Parts):
            raise bad_state(self, "logged")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        super().load_state_dict({name: value for name, value in state.items() if name not in ("scheduled", "logged")})
        for schedule, kept in zip(self.schedules, state.get("scheduled", ()), strict=False):
            schedule.scheduler.load_state_dict(kept)
        self.train_log.parts = dict(state.get("logged", {}))

    def __repr__(self) -> str:
        return f"LightningFit({type(self.module).__name__})"


def _loss_in(outputs: Any) -> Any:
    """The loss that a step returned: the output itself, or its entry "loss"."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
