"""The events of the training loop, the phases they delimit, and the exceptions that cut a phase short."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import StrEnum, auto

from layered.foundation import BadEvent, nearest


class Event(StrEnum):
    """What callbacks can listen to, in the order of the loop, which reads:

        after_create                          # once, when the loop has been made
        before_fit
        for epoch in range(n_epoch):
            before_epoch
            before_train
            for batch in dls.train:
                before_batch
                pred = model(*xb);                        after_pred
                loss = loss_grad = loss_func(pred, *yb);  after_loss
                before_backward; loss_grad.backward();    after_backward
                before_step;     opt.step();              after_step
                opt.zero_grad()
                after_batch
            after_train
            before_validate
            for batch in dls.valid:
                before_batch; pred; after_pred; loss; after_loss; after_batch
            after_validate
            after_epoch
        after_fit
        on_end                                # always, however the fit ended

    Each phase (fit, epoch, train, validate, batch, backward, step) runs from its `before_` to its `after_`.
    `Cancel<Phase>Exception` raised inside it skips the rest, fires `after_cancel_<phase>`, then `after_<phase>`.
    Any other exception skips to `on_error`, which sees it as `learn.error`, then `on_end`, and is raised again.

    Members are strings: `Event.before_fit == "before_fit"`; `event` is the same enum by its known name.
    """

    after_create = auto()
    before_fit = auto()
    before_epoch = auto()
    before_train = auto()
    before_batch = auto()
    after_pred = auto()
    after_loss = auto()
    before_backward = auto()
    after_cancel_backward = auto()
    after_backward = auto()
    before_step = auto()
    after_cancel_step = auto()
    after_step = auto()
    after_cancel_batch = auto()
    after_batch = auto()
    after_cancel_train = auto()
    after_train = auto()
    before_validate = auto()
    after_cancel_validate = auto()
    after_validate = auto()
    after_cancel_epoch = auto()
    after_epoch = auto()
    after_cancel_fit = auto()
    after_fit = auto()
    on_error = auto()
    on_end = auto()


event = Event

INNER_EVENTS = frozenset(
    name
    for name in list(Event)[list(Event).index(Event.before_batch) : list(Event).index(Event.after_batch) + 1]
    if name is not Event.after_cancel_step
)
"""The events of one batch: those that a callback's `run_train` and `run_valid` switch off."""

_declared: dict[str, None] = dict.fromkeys(str(name) for name in Event)


def declare_event(name: str) -> str:
    """Make `name` an event that callbacks may listen to and `learn.emit(name)` may fire; returns the name.

    Args:
        name: A name that a method can have.

    Raises:
        BadEvent: For what no method can be called.

    Examples:
        >>> declare_event("after_generator")
        'after_generator'
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise BadEvent("invalid name for an event", got=repr(name), expected="a name such as 'after_generator'")
    _declared[name] = None
    return name


def event_names() -> tuple[str, ...]:
    """The names of all events, in the order of the loop, then those declared by the user."""
    return tuple(_declared)


def check_event(name: str, where: str) -> None:
    """Refuse a `name` that the loop will never fire.

    Raises:
        BadEvent: With the nearest event.
    """
    if name not in _declared:
        near = nearest(name, _declared, 1)
        raise BadEvent(
            f"{where} is not a training event",
            got=name,
            fix=(f"did you mean '{near[0]}'? If not, " if near else "")
            + f"call declare_event('{name}') first, or rename it",
        )


def check_method(name: str, where: str) -> None:
    """Refuse a callback's method `name` that looks like an event but is not one: `after_bacth`, `befor_fit`."""
    if name in _declared or name.startswith("_"):
        return
    looks = name.startswith(("before_", "after_"))
    if looks or difflib.get_close_matches(name, _declared, n=1, cutoff=0.85):
        check_event(name, where)


class CancelBatchException(Exception):
    """Skip the rest of this batch, its step and `zero_grad` included."""


class CancelBackwardException(Exception):
    """Skip the backward pass of this batch."""


class CancelStepException(Exception):
    """Skip the optimizer's step of this batch; the gradients are still cleared."""


class CancelTrainException(Exception):
    """End this epoch's training pass; validation follows."""


class CancelValidException(Exception):
    """End this epoch's validation pass."""


class CancelEpochException(Exception):
    """End this epoch."""


class CancelFitException(Exception):
    """End the fit."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the loop between two events, and the exception that ends it early."""

    name: str
    cancel: type[Exception]
    before: str = field(init=False)
    after_cancel: str = field(init=False)
    after: str = field(init=False)

    def __post_init__(self) -> None:
        for edge in ("before", "after_cancel", "after"):
            object.__setattr__(self, edge, str(Event[f"{edge}_{self.name}"]))


FIT = Phase("fit", CancelFitException)
EPOCH = Phase("epoch", CancelEpochException)
TRAIN = Phase("train", CancelTrainException)
VALIDATE = Phase("validate", CancelValidException)
BATCH = Phase("batch", CancelBatchException)
BACKWARD = Phase("backward", CancelBackwardException)
STEP = Phase("step", CancelStepException)
