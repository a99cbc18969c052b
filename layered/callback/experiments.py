"""Logging a fit to an experiment tracker: TensorBoard, Weights & Biases, MLflow, Trackio, and whatever `accelerate` knows."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from torch import Tensor

from layered.callback.logging import CSVLogger, JSONLogger, LoggerCallback, MetricLogger
from layered.callback.provenance import as_json, describe_configuration
from layered.callback.records import why_ended
from layered.callback.trackers import RUN_ID, Media, OpenRun, Tracker, check_tracker, flat, open_run
from layered.files import parse_json, read_whole, real_path, saving
from layered.foundation import BadArgument, BadFile, OutOfRange, masked, rank_and_world, warn, whole_number
from layered.loop import Callback, Checkpoint, Count, Kinds, ResumedFit, callbacks_of

OF_VALIDATION = ("valid_", "val_")  # how the names of values of validation passes begin
SEND_EVERY = 2.0  # seconds: reading a loss waits for the device


class ExperimentLogger(LoggerCallback):
    """Logs a fit to an experiment tracker, named as `accelerate` does: "tensorboard", "wandb", "mlflow", "trackio", ….

    Each training batch has `batch/loss` and `batch/lr` (a number for each parameter group, if there are several), each epoch the
    row of the table by name. The step is the number of training batches done. The configuration of the learner is stored as
    hyper-parameters, without secrets, and how the fit ended as the state of the run. Of several processes only the first logs,
    with the losses of its own share of the batches.

    A run belongs to a learner: further fits continue its curves, and so does a resumed fit, in the run that it began, without
    logging again what had been logged before it was interrupted. A run that the script has opened itself is used and left open.
    If the tracker fails during the fit, that is said once, and training goes on.

    Args:
        tracker: The name of a tracker, or a tracker of `accelerate` (`GeneralTracker`); one that is started is left open.
        project: The project that the run belongs to: of MLflow the experiment, of TensorBoard a folder.
        config: Hyper-parameters to store besides those of the learner.
        every: Log the values of every so many training batches.
        folder: Where trackers that write files put them; the folder "runs" of the learner's `path` if None.
        settings: Further arguments of the tracker, such as `tags=` or `mode="offline"` of wandb.

    Raises:
        UnknownName: There is no such tracker.
        MissingDependency: A package is not installed.
        CannotTrain: When a fit begins: the tracker did not start.

    Examples:
        >>> import tempfile
        >>> from layered.testing.tiny import synth_learner
        >>> learn = synth_learner(path=tempfile.mkdtemp(), loggers=ExperimentLogger("tensorboard", project="lines"))
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(2)
        >>> [folder.name for folder in (learn.path / "runs").iterdir()]
        ['lines']
    """

    transient: ClassVar[tuple[str, ...]] = (
        "logged", "is_live", "is_continued", "open", "waiting", "sent", "note", "next_time", "reached", "is_warned", "stored",
    )  # fmt: skip
    state_kinds: ClassVar[Kinds] = (("run_id", Annotated[str, RUN_ID] | None), ("before", Count))

    def __init__(
        self,
        tracker: str | Tracker,
        project: str = "layered",
        *,
        config: Mapping[str, Any] | None = None,
        every: int = 1,
        folder: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(tracker, str):
            check_tracker(tracker)
        elif isinstance(tracker, type) or not isinstance(tracker, Tracker):
            raise _not_a_logger(tracker)
        if not (whole_number(every) or 0) >= 1:
            raise OutOfRange("every must be a number of batches", got=repr(every), expected="a whole number from 1")
        self.tracker, self.project, self.config, self.every = tracker, project, dict(config or {}), every
        self.folder, self.settings_of_tracker = folder, settings
        self.logged = 0
        self.run_id: str | None = None  # of the tracker; further fits continue it
        self.before = 0  # training batches of earlier fits in this run
        self.reached = 0  # those up to now
        self.is_live = False  # during a fit, until the tracker fails
        self.is_continued = False  # this fit was interrupted, and goes on
        self.open: OpenRun | None = None
        self.stored: dict[str, Any] = {}  # the configuration that the run has
        self.waiting: dict[int, dict[str, Any]] = {}  # values by step that have not been sent yet
        self.sent: tuple[int, set[str]] = (-1, set())  # the last step that was sent, and which values of it
        self.note: pathlib.Path | None = None  # where that is written, for a resumed fit
        self.next_time = 0.0
        self.is_warned = False  # that there is no place for texts and pictures

    def begin(self, columns: list[str]) -> None:
        learn = self.learn
        resumed, checkpoint = learn.callbacks.get(ResumedFit), learn.callbacks.get(Checkpoint)
        self.before, self.waiting, self.sent, self.next_time = self.reached, {}, (-1, set()), 0.0
        self.note, self.open, self.is_live = self._place_of_note(), None, True
        self.is_continued = resumed is not None or bool(checkpoint and checkpoint.starts_over and self._recall())
        if resumed is not None:
            self.reached = -1
            self._recall()  # its run opens when the checkpoint has been restored
        else:
            self._open()

    def after_batch(self) -> None:
        learn = self.learn
        if not self.is_live or not learn.training:
            return
        done = self.before + len(learn.recorder.lrs)
        if done == self.reached or learn.loss is None:  # cancelled before there was a loss
            return
        self.reached = done
        if done % self.every == 0:
            rates = [hyper["lr"] for hyper in learn.opt.hypers]
            named = {"lr": rates[0]} if len(rates) == 1 else {f"lr_{i}": rate for i, rate in enumerate(rates)}
            self.add({"loss": learn.loss.mean(), **named}, "batch/")
        if time.monotonic() >= self.next_time:
            self.send(done)
            self.next_time = time.monotonic() + SEND_EVERY

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        numbers = self.learn.recorder.numbers
        added = {name for name in numbers if not name.startswith(OF_VALIDATION)}  # when they were logged
        self.add({name: value for name, value in metrics.items() if name not in added})

    def add(self, values: Mapping[str, Any], prefix: str = "") -> None:
        """Log values at the current step.

        Args:
            values: Numbers or media by name; None is left out.
            prefix: Of the names.
        """
        if self.is_live:
            named = {prefix + name: value for name, value in values.items() if value is not None}
            self.waiting.setdefault(self.before + self.learn.recorder.step, {}).update(named)

    def send(self, before: int | None = None) -> None:
        """Send the values that are waiting.

        Args:
            before: Only those of steps before this one, to which no more is added.
        """
        if not self.is_live or not self.waiting:
            return
        if self.open is None:  # of a resumed fit
            self._attempt("started", self._open)
        for step in sorted(step for step in self.waiting if before is None or step < before):
            values = self.waiting.pop(step)
            if self.open is not None and self.is_live:
                self._attempt("logged to", partial(self._send_step, step, values))

    def _send_step(self, step: int, values: Mapping[str, Any]) -> None:
        last, names = self.sent
        due = {k: v for k, v in values.items() if step > last or (step == last and k not in names)}
        if not due or self.open is None:
            return
        media = {name: value.value for name, value in due.items() if isinstance(value, Media)}
        if numbers := flat({name: _plain(value) for name, value in due.items() if name not in media}):
            self.open.tracker.log(numbers, step=step)
        for name, value in media.items():
            self._send_media(self.open, name, value, step)
        self.sent = step, {*due, *(names if step == last else ())}
        self._write_note()

    def _send_media(self, to: OpenRun, name: str, value: Any, step: int) -> None:
        if to.service.media is not None:
            to.service.media(to.tracker, name, value, step)
        elif not self.is_warned:
            self.is_warned = True
            warn(f"{self._name} is given no texts and pictures, such as '{name}'")

    def _attempt(self, what: str, job: Callable[[], object]) -> None:
        """Do what may fail without harm to the fit, which is said once."""
        try:
            job()
        except Exception as error:
            self.is_live = False
            warn(f"{self._name} could not be {what}; training goes on without it: {_described(error)}")

    def _open(self) -> None:
        learn = self.learn
        folder = real_path(learn.path, "runs") if self.folder is None else real_path(self.folder)
        self.open = open_run(self.tracker, self.project, folder, self.run_id, self.settings_of_tracker)
        if self.run_id is not None and self.open.run_id != self.run_id:
            warn(f"{self._name} cannot continue the run {self.run_id}; a new one begins")
        self.run_id = self.open.run_id
        self._write_note()
        if self.open.is_new:
            self.stored = flat(as_json(self.config) | describe_configuration(learn))
        elif not self.is_continued:
            self.stored |= flat({f"fit_{learn.fit_ordinal}": as_json(dict(learn.fit_arguments))})
        else:
            return
        try:
            self.open.tracker.store_init_configuration(self.stored)
        except Exception as error:
            warn(f"{self._name} did not take the configuration of the learner: {_described(error)}")

    def on_end(self) -> None:
        learn = self.learn
        self.send()
        if self.open is not None:
            opened, how = self.open, why_ended(learn.error)[0]
            self._attempt("ended", partial(opened.end, how))
            if self.note is not None and learn.error is None:
                with saving(self.note):
                    self.note.unlink(missing_ok=True)
        self.open, self.note, self.is_live, self.waiting = None, None, False, {}

    def state_dict(self) -> dict[str, Any]:
        self.send()  # what a checkpoint counts as done has been logged
        return super().state_dict()

    def catch_up(self) -> None:
        self.note = self._place_of_note()
        if rank_and_world()[0] == 0 and self._recall():  # it was killed between its last checkpoint and its end
            self.is_live = self.is_continued = True
            self._attempt("started", self._open)

    def _place_of_note(self) -> pathlib.Path | None:
        checkpoint, resumed = self.learn.callbacks.get(Checkpoint), self.learn.callbacks.get(ResumedFit)
        if checkpoint is None and resumed is None:
            return None
        folder = checkpoint.place if checkpoint is not None else resumed.saved.file.parent  # type: ignore[union-attr]
        name = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        return folder / f".layered-log-{name}-fit{self.learn.fit_ordinal}"

    def _write_note(self) -> None:
        """Write in place what was sent last: a line that is never shorter than the one before."""
        if self.note is None or self.learn.callbacks.get(Checkpoint) is None:
            return
        step, names = self.sent
        text = json.dumps({"run": self.run_id, "before": self.before, "step": step, "names": sorted(names)})
        with saving(self.note):
            file = os.open(self.note, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(file, text.encode().ljust(os.fstat(file).st_size), 0)
            finally:
                os.close(file)

    def _recall(self) -> bool:
        """Read what an interrupted attempt at this fit has sent; False if it left nothing."""
        try:
            text = b"" if self.note is None else read_whole(self.note, missing_ok=True)
            found: Any = parse_json(text, "the note") if text.strip() else {}
            run, before, step, names = found["run"], found["before"], found["step"], found["names"]
        except (BadFile, LookupError, TypeError):
            return False
        if (run is not None and not RUN_ID(str(run))) or type(before) is not int or type(step) is not int:
            return False
        self.run_id, self.before, self.sent = run, before, (step, set(map(str, names)))
        return True

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins a run of its own."""
        return super().__getstate__() | {"run_id": None, "before": 0, "reached": 0, "open": None, "stored": {}}

    @property
    def _name(self) -> str:
        return f"the tracker '{self.tracker if isinstance(self.tracker, str) else self.tracker.name}'"

    def __repr__(self) -> str:
        shown = repr(self.tracker if isinstance(self.tracker, str) else self.tracker.name)
        return f"ExperimentLogger({shown}, project={self.project!r})"


def _described(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {error}")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value


def logging_callbacks(loggers: object) -> list[Callback]:
    """The callbacks that `loggers=` of a learner stands for.

    Args:
        loggers: The name of a tracker, or "csv" or "json" for a file; a tracker of `accelerate`; anything with a method
            `log(metrics, step)`; a callback; None; or a list of these.

    Raises:
        BadArgument: It is none of them.

    Examples:
        >>> logging_callbacks(["csv", None])
        [CSVLogger]
    """
    if loggers is None:
        return []
    if isinstance(loggers, str):
        files = {"csv": CSVLogger, "json": JSONLogger}
        return [files[loggers]() if loggers in files else ExperimentLogger(loggers)]
    if isinstance(loggers, Callback) or (isinstance(loggers, type) and issubclass(loggers, Callback)):
        return callbacks_of(loggers)
    if isinstance(loggers, type):
        raise _not_a_logger(loggers)
    if isinstance(loggers, Tracker):
        return [ExperimentLogger(loggers)]
    if isinstance(loggers, MetricLogger):
        return [LoggerCallback(loggers)]
    if isinstance(loggers, Iterable):
        return [cb for one in loggers for cb in logging_callbacks(one)]
    raise _not_a_logger(loggers)


def _not_a_logger(got: object) -> BadArgument:
    return BadArgument(
        "not a logger",
        got=repr(got),
        expected="the name of a tracker ('wandb', 'mlflow', 'tensorboard', …), 'csv', 'json', a tracker of accelerate, or "
        "anything with a method log(metrics, step)",
        fix="loggers='tensorboard'",
    )
