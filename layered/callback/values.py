"""`learn.log`: a value of a step or a callback, on its way to the table and the trackers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from torch import Tensor

from layered.callback.experiments import OF_VALIDATION, ExperimentLogger
from layered.callback.trackers import Media
from layered.foundation import BadArgument, BadValue, CannotTrain, describe, lazy
from layered.loop import AbstractLoop, Recorder

figures, images = lazy("matplotlib.figure"), lazy("PIL.Image")
_TAKEN = ("time", "step")


def log(loop: AbstractLoop, name: str, value: Any) -> None:
    """Log a value by name, from inside a step or a callback of a fit.

    Trackers (`loggers=`) get it at the step of the current batch. A number is a column of the table too, from the first row that
    has it: the mean of what is logged under the name until the row of the epoch is made. In a validation pass the name begins
    with `valid_`, unless it begins with that or `val_` anyway, and trackers get the mean. In passes outside of a fit, and in
    trials such as `lr_find`, nothing is logged.

    Args:
        loop: The learner.
        name: Such as "grad_norm", or "norms/head".
        value: A number, or a tensor of one; for trackers also a text, a figure of matplotlib or an image of Pillow.

    Raises:
        CannotTrain: There is no fit.
        BadValue: The table has a column of this name.
        BadArgument: It is none of these values, or the name is not a text.

    Examples:
        >>> from layered.loop import Callback
        >>> from layered.testing.tiny import synth_learner
        >>> learn = synth_learner(n_train=2)
        >>> slope = Callback(after_batch=lambda cb: cb.learn.log("slope", cb.model.a) if cb.training else None)
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=slope)
        >>> list(learn.recorder.history[0])
        ['epoch', 'train_loss', 'valid_loss', 'slope']
    """
    if not loop.fitting and loop.dl is None:
        raise CannotTrain(
            "there is no fit to log a value of",
            got=f"log('{name}', …) outside of it",
            fix="call it from inside a step or a callback",
        )
    if not isinstance(name, str) or not name:
        raise BadArgument("a value is logged by a name", got=repr(name), expected="a text such as 'grad_norm'")
    is_nested = loop.nested and not loop.adds_row
    recorder = loop.callbacks.get(Recorder)
    if not loop.fitting or loop.peeking or is_nested or recorder is None:
        return
    if recorder.is_validating and not name.startswith(OF_VALIDATION):
        name = f"valid_{name}"
    if name in _TAKEN or (name in recorder.metric_names and name not in recorder.logged_names):
        raise BadValue(f"the table has a column '{name}' already", fix=f"learn.log('own_{name}', …)")
    kept = _kept(name, value)
    if not isinstance(kept, Media):
        recorder.collect(name, kept)
        if recorder.is_validating:  # all its batches are one step, which the row ends
            return
    for cb in loop.cbs:
        if isinstance(cb, ExperimentLogger):
            cb.add({name: kept})


def _kept(name: str, value: Any) -> Any:
    """A value as it waits to be sent: a number, a tensor that later code leaves alone, or a medium."""
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().clone().reshape(())
    if isinstance(value, str):
        return Media(value)
    if isinstance(value, figures.Figure):
        file = io.BytesIO()
        value.savefig(file, format="png")
        return Media(np.asarray(images.open(file).convert("RGB")))
    if isinstance(value, images.Image):
        return Media(np.asarray(value.convert("RGB")))
    raise BadArgument(
        f"'{name}' is not a value that can be logged",
        got=describe(value),
        expected="a number, a tensor of one number, a text, a figure or an image",
        fix=f"learn.log('{name}', x.float().mean())" if isinstance(value, Tensor) else None,
    )
