"""How often a fit validates: after so many epochs, or in the middle of them after so many batches."""

from __future__ import annotations

from layered.foundation import BadValue
from layered.loop.batches import valid_of
from layered.loop.callback import Callback
from layered.loop.contexts import set_aside
from layered.loop.durations import Duration
from layered.loop.state import AbstractLoop


class ValidateEvery(Callback):
    """Sets how often a fit validates; `fit(valid_every=)` adds it.

    Args:
        every: A number of epochs, "2 epochs" or "500 batches".

    Raises:
        BadValue: For another duration.
    """

    order = -100  # the batch that validation comes before has not begun for the other callbacks
    state_kinds = ()

    def __init__(self, every: int | str | Duration) -> None:
        duration = Duration.of(every)
        if duration.unit == "seconds":
            raise BadValue(
                "valid_every must be a number of epochs or batches",
                got=repr(every),
                expected="2, '2 epochs' or '500 batches'",
            )
        self.every = Duration(duration.count, "batches" if duration.unit == "batches" else "epochs")

    def before_fit(self) -> None:
        if self.learn.fitting:
            self.learn.valid_every = self.every

    def before_batch(self) -> None:
        learn = self.learn
        is_between = learn.training and learn.iter > 0 and self.every.unit == "batches"
        if is_between and learn.train_iter % self.every.count == 0 and (valid := valid_of(learn.dls)) is not None:
            with set_aside(learn):
                learn.adds_row = True
                learn.one_validation(valid)

    def __repr__(self) -> str:
        return f"ValidateEvery('{self.every}')"


def validating(every: int | str | Duration) -> list[Callback]:
    """What `fit(valid_every=)` adds."""
    callback = ValidateEvery(every)
    return [] if callback.every == Duration(1, "epochs") else [callback]


def validates_after_epoch(loop: AbstractLoop) -> bool:
    """Whether the epoch whose training pass is over ends with validation."""
    done = loop.epoch + 1 if loop.valid_every.unit == "epochs" else loop.train_iter
    return done % loop.valid_every.count == 0
