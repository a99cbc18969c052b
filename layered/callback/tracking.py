"""Callbacks that watch a value: stop when it is NaN or stops improving, lower the rate, save the best model."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np

from layered.callback.logging import check_column, columns_of
from layered.callback.progress import say
from layered.files import saving
from layered.foundation import BadArgument, BadValue, OutOfRange, Path, describe, warn, whole_number
from layered.loop import SUFFIX, Callback, CancelFitException, Count, Kinds, Numbers, any_process, bad_state

Comparison: TypeAlias = Callable[[Any, Any], Any]
SavedFile: TypeAlias = Annotated[str, re.compile(rf".*_\d+(-\d+)?{re.escape(SUFFIX)}", re.ASCII | re.DOTALL).fullmatch]


class TerminateOnNaNCallback(Callback):
    """Ends the fit at the first loss that is not finite, with a warning that says where. Waits for the device at each batch.

    Several processes end together.
    """

    order = -9
    state_kinds = ()

    def after_batch(self) -> None:
        learn = self.learn
        loss = 0.0 if learn.loss is None else float(learn.loss.mean())
        if any_process(not math.isfinite(loss)):
            warn(f"the loss is {loss} in epoch {learn.epoch}, batch {learn.iter}: ending the fit")
            raise CancelFitException


class TrackerCallback(Callback):
    """Watches a column of the table: `best` is its best value so far, `new_best` whether the last epoch gave it.

    Epochs without a value, because their validation was skipped, do not count.

    Args:
        monitor: Name of the column.
        comp: Which values are better: "min", "max", or a function `comp(new, best)` such as `np.less`. By default as the metric
            declares by `higher_is_better`; smaller for losses.
        min_delta: The least difference that counts as an improvement.
        reset_on_fit: Forget the best when a fit begins.

    Raises:
        BadArgument: `comp` does not tell which of two numbers is better.
        UnknownName: When a fit begins: the table has no such column.
        BadValue: When a fit begins: it is not known which values are better, or without validation data there are none.
    """

    order = 60
    transient: ClassVar[tuple[str, ...]] = ("comp",)
    state_kinds: ClassVar[Kinds] = (
        ("best", float | None),
        ("best_epoch", Count | None),
        ("new_best", bool),
        ("seen", Count),
        ("value", Numbers),
    )
    unread_state: ClassVar[tuple[str, ...]] = ("column",)
    compares = True

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Comparison | str | None = None,
        min_delta: float = 0.0,
        reset_on_fit: bool = True,
    ) -> None:
        self.monitor, self.asked = monitor, _comparison(comp)
        self.min_delta, self.reset_on_fit = min_delta, reset_on_fit
        self.comp: Comparison = self.asked or operator.lt
        self.best: float | None = None
        self.best_epoch: int | None = None  # of this fit
        self.new_best = False
        self.idx = self.seen = 0
        self.value: Any = None

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking:
            self.run = False
            return
        self.seen, self.best_epoch, self.value = 0, None, None
        if self.reset_on_fit:
            self.best = None
        if self.compares:
            check_column(learn, self.monitor, type(self).__name__)
            self.idx = columns_of(learn)[1:].index(self.monitor)
            self.comp = self.asked or self._default_comparison()

    def _default_comparison(self) -> Comparison:
        upwards = self.learn.recorder.higher_is_better(self.monitor)
        if upwards is None:
            made = f"{type(self).__name__}(monitor='{self.monitor}', comp="
            raise BadValue(
                f"cannot tell whether larger or smaller values of '{self.monitor}' are better",
                expected="a metric that declares `higher_is_better`, or comp=",
                fix=f"{made}'max') if larger is better, {made}'min') if smaller is",
            )
        return operator.gt if upwards else operator.lt

    def after_validate(self) -> None:
        if self.learn.adds_row:  # validation in the middle of a training pass
            self.after_epoch()

    def after_epoch(self) -> None:
        self.look()

    def after_fit(self) -> None:
        if self.compares and self.seen and self.best is None and self.value is None:
            warn(f"{type(self).__name__} saw no value of '{self.monitor}' in this fit: its validation was skipped")

    def look(self) -> bool:
        """Compare the value of the row that the table has just got with the best; False if it got none, or one without a value.

        NaN is never an improvement.
        """
        values = self.learn.recorder.values
        self.new_best = False
        if len(values) == self.seen:
            return False
        self.seen = len(values)
        value = self.value = values[-1][self.idx]
        if value is None:
            return False
        if not isinstance(value, (int, float)):
            raise BadValue(
                f"{type(self).__name__} watches '{self.monitor}', which is not one number",
                got=describe(value),
                fix="give the learner one of its numbers, metric[1], or another metric",
            )
        sign = 1 if self.comp(*_APART) else -1
        if not math.isnan(value) and (self.best is None or self.comp(value - sign * self.min_delta, self.best)):
            self.best, self.best_epoch, self.new_best = value, self.learn.epoch, True
        return True


_APART = 1e6, 1.0  # so far apart that any tolerance of a comparison is smaller
_KNOWN: dict[Any, Comparison] = {
    "min": operator.lt, "max": operator.gt, min: operator.lt, max: operator.gt, np.minimum: operator.lt, np.maximum: operator.gt,
}  # fmt: skip


def _comparison(comp: Comparison | str | None) -> Comparison | None:
    """What `comp=` accepts, as a function of (new, best)."""
    if comp is None:
        return None
    try:
        made = _KNOWN.get(comp, comp)
        tells = bool(made(*_APART)) != bool(made(*reversed(_APART)))  # type: ignore[operator]
    except Exception:
        tells = False
    if not tells:
        raise BadArgument(
            "comp does not tell which of two numbers is better",
            got=repr(comp),
            expected="'min', 'max', or a function comp(new, best) that returns whether new is better, such as np.less",
        )
    return made  # type: ignore[return-value]


class EarlyStoppingCallback(TrackerCallback):
    """Ends the fit after `patience` epochs without improvement.

    Args:
        monitor: Name of the column.
        comp: Which values are better: "min", "max", or a function `comp(new, best)` such as `np.less`. By default as the metric
            declares by `higher_is_better`; smaller for losses.
        min_delta: The least difference that counts as an improvement.
        patience: Number of epochs, at least 1.
        reset_on_fit: Forget the best when a fit begins.
    """

    order = 63
    state_kinds = (("wait", Count),)

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Comparison | str | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.patience, self.wait = _checked_patience(patience), 0

    def before_fit(self) -> None:
        self.wait = 0
        super().before_fit()

    def after_epoch(self) -> None:
        if not self.look():
            return
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            say(self.learn, f"{self._standstill()}: early stopping")
            raise CancelFitException

    def _standstill(self) -> str:
        if self.best is None:
            return f"{self.monitor} was NaN from the start"
        if self.best_epoch is None:
            return "No improvement in this fit"
        return f"No improvement since epoch {self.best_epoch}"


class ReduceLROnPlateau(TrackerCallback):
    """Divides the learning rates by `factor` after `patience` epochs without improvement.

    Args:
        monitor: Name of the column.
        comp: Which values are better: "min", "max", or a function `comp(new, best)` such as `np.less`. By default as the metric
            declares by `higher_is_better`; smaller for losses.
        min_delta: The least difference that counts as an improvement.
        patience: Number of epochs, at least 1.
        factor: Divisor.
        min_lr: The rates never go below this.
        reset_on_fit: Forget the best when a fit begins.
    """

    order = 62
    state_kinds = (("wait", Count),)

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Comparison | str | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        factor: float = 10.0,
        min_lr: float = 0,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.patience, self.factor, self.min_lr, self.wait = _checked_patience(patience), factor, min_lr, 0

    def before_fit(self) -> None:
        self.wait = 0
        super().before_fit()

    def after_epoch(self) -> None:
        if not self.look():
            return
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            for hyper in self.learn.opt.hypers:
                hyper["lr"] = max(hyper["lr"] / self.factor, self.min_lr)
            self.wait = 0


class SaveModelCallback(TrackerCallback):
    """Saves the best model under `fname` and loads it when the fit ends.

    The location of the files is not restored from a checkpoint: a resumed fit uses the learner's current path.

    Args:
        monitor: Name of the column.
        comp: Which values are better: "min", "max", or a function `comp(new, best)` such as `np.less`. By default as the metric
            declares by `higher_is_better`; smaller for losses.
        min_delta: The least difference that counts as an improvement.
        fname: Name of the weights file.
        every_epoch: Save `fname_<epoch>` after every epoch instead, or after every so many, whatever its values.
        at_end: Save when the fit ends instead of loading the best.
        with_opt: Save the optimizer's state too.
        reset_on_fit: Forget the best when a fit begins.
        keep: Save the best so many epochs, as `fname_<epoch>`, instead of only the best; a worse file is removed only when the
            better one is on disk. `kept` lists (value, epoch, path), best first. If validation comes in the middle of
            epochs, the names are `fname_<epoch>-<batches done>`.

    Raises:
        BadValue: `keep` is not a positive number, or is combined with `every_epoch`; when a fit begins: another
            SaveModelCallback writes to the same files.
    """

    order = 61
    state_kinds = (("kept", list[tuple[float, Count, SavedFile]]), ("best_file", str | None))
    unread_state = ("column", "fname")

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Comparison | str | None = None,
        min_delta: float = 0.0,
        fname: str = "model",
        every_epoch: bool | int = False,
        at_end: bool = False,
        with_opt: bool = False,
        reset_on_fit: bool = True,
        *,
        keep: int | None = None,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        best = None if keep is None else whole_number(keep) or 0
        if best is not None and (best < 1 or every_epoch):
            raise BadValue(
                "keep must be a number of epochs",
                got=f"keep={keep!r}, every_epoch={every_epoch}",
                expected="a whole number from 1, without every_epoch",
            )
        self.fname, self.every_epoch, self.at_end, self.with_opt = fname, every_epoch, at_end, with_opt
        self.keep, self.compares = best, not every_epoch
        self.kept: list[tuple[float, int, str]] = []
        self.best_file: str | None = None

    def before_fit(self) -> None:
        super().before_fit()
        if self.run:
            others = [cb for cb in self.learn.cbs if isinstance(cb, SaveModelCallback) and cb is not self]
            if any(self._written() & other._written() for other in others):
                raise BadValue(
                    "two SaveModelCallbacks write to the same files, so that each would load what the other has saved",
                    got=f"fname='{self.fname}' in both",
                    fix="give each a name of its own: SaveModelCallback(fname='other')",
                )
            self.kept, self.best_file = [], None

    def _written(self) -> set[tuple[str, str]]:
        """What it calls its files: by the name alone, with the epoch, or both."""
        has_epoch = self.every_epoch is not False or self.keep is not None
        parts = ["epoch"] * has_epoch + ["alone"] * (self.at_end or not has_epoch)
        return {(str(self.fname), part) for part in parts}

    def check_state(self, state: Mapping[str, Any]) -> None:
        super().check_state(state)
        if len(state.get("kept", ())) > (self.keep or 0):
            raise bad_state(self, f"{len(state['kept'])} files kept, of {self.keep}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.kept = [
            (float(value), int(epoch), self._file(Path(path).stem.rpartition("_")[2]))
            for value, epoch, path in self.kept
        ]
        if self.best_file is not None:
            self.best_file = self.kept[0][2] if self.kept else self._file()

    def _file(self, tag: str = "") -> str:
        """Where `learn.save` puts the file of an epoch, or of the best."""
        name = f"{self.fname}_{tag}" if tag else self.fname
        return str(self.learn.path / self.learn.model_dir / f"{name}{SUFFIX}")

    def after_epoch(self) -> None:
        learn = self.learn
        if self.every_epoch:
            is_new = len(learn.recorder.values) != self.seen
            self.seen = len(learn.recorder.values)
            if is_new and not learn.nested and learn.epoch % int(self.every_epoch) == 0:
                learn.save(f"{self.fname}_{learn.epoch}", with_opt=self.with_opt)
        elif not self.look():
            return
        elif self.keep is not None:
            self._rank()
        elif self.new_best:
            say(learn, f"Better model found at epoch {learn.epoch} with {self.monitor} value: {self.best}.")
            self.best_file = str(learn.save(self.fname, with_opt=self.with_opt))

    def _rank(self) -> None:
        """Save this epoch if it is among the best, and remove the file that no longer is."""
        learn = self.learn
        better = [k for k in self.kept if not math.isnan(k[0]) and not self.comp(self.value, k[0])]
        if len(better) == self.keep:
            return
        tag = f"{learn.epoch}-{learn.train_iter}" if learn.nested else f"{learn.epoch}"
        path = str(learn.save(f"{self.fname}_{tag}", with_opt=self.with_opt))
        ranked = [*better, (self.value, learn.epoch, path), *self.kept[len(better) :]]
        self.kept, dropped = ranked[: self.keep], ranked[self.keep :]
        self.best_file = self.kept[0][2]
        for _, _, worse in dropped:
            with saving(worse):
                Path(worse).unlink(missing_ok=True)

    def after_fit(self) -> None:
        super().after_fit()
        if self.at_end:
            self.learn.save(self.fname, with_opt=self.with_opt)
        elif self.best_file is not None:
            self.learn.load(Path(self.best_file).absolute(), with_opt=self.with_opt)
        self.best_file = None  # a fit that is cancelled before it begins has none


def _checked_patience(patience: int) -> int:
    count = whole_number(patience) or 0
    if count < 1:
        raise OutOfRange("patience must be a number of epochs", got=repr(patience), expected="a whole number from 1")
    return count
