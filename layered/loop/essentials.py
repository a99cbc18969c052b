"""The callbacks that every loop starts with, and the small ones that the loop itself adds."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar, overload, runtime_checkable

import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, function_name, nearest, plain_tree, warn
from layered.loop.callback import Callback
from layered.loop.durations import Duration, Every, Moment
from layered.loop.events import CancelEpochException, check_event
from layered.loop.kept import Count, Kinds
from layered.loop.state import AbstractLoop

AFTER_RECORDER = 55
_RECORDED = ("after_batch", "after_train", "after_validate", "after_epoch", "after_fit")
F = TypeVar("F", bound=Callable[..., Any])


@runtime_checkable
class Movable(Protocol):
    """A loss with tensors of its own, such as class weights."""

    def to(self, device: Any, /) -> object: ...


@runtime_checkable
class Resettable(Protocol):
    """A model that carries a state from batch to batch, such as a recurrent one."""

    def reset(self) -> object: ...


class TrainEvalCallback(Callback):
    """Sets the model's mode, counts batches and epochs, and puts model and loss on the loaders' device."""

    order = -10
    transient = ("is_cut",)
    state_kinds: ClassVar[Kinds] = (("pass_length", Count | None),)

    def __init__(self) -> None:
        self.pass_length: int | None = None  # batches that a training pass really had, where its loader said otherwise
        self.is_cut = False  # the training pass was cancelled

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            learn.epoch, learn.loss, learn.train_iter, learn.pct_train = 0, torch.tensor(0.0), 0, 0.0
            learn.epochs_done, learn.fit_began = 0, Moment(seconds=time.monotonic())
            self.pass_length = None
        device = learn.dls.device
        if device is not None:
            learn.model.to(device)
            if isinstance(learn.loss_func, Movable):
                learn.loss_func.to(device)
        if isinstance(learn.model, Resettable):
            learn.model.reset()

    def before_train(self) -> None:
        learn = self.learn
        learn.pct_train, self.is_cut = learn.epoch / learn.n_epoch, False
        if self.pass_length is not None:
            learn.n_iter = self.pass_length
        learn.model.train()
        learn.opt.train()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            learn.train_iter += 1
            if learn.n_iter and learn.iter < learn.n_iter:
                learn.pct_train += 1.0 / (learn.n_iter * learn.n_epoch)

    def after_cancel_train(self) -> None:
        self.is_cut = True

    def after_train(self) -> None:
        learn = self.learn
        if self.is_cut or learn.batch is None or learn.n_iter in (None, learn.iter + 1):
            return
        if self.pass_length is None:
            warn(
                f"the training loader gave {learn.iter + 1} batches instead of {learn.n_iter}, its length or n_iter: schedules "
                "count with as many from the next epoch on"
            )
        self.pass_length = learn.iter + 1

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.learn.training and self.pass_length is not None:  # in the middle of a pass that has begun without it
            self.learn.n_iter = self.pass_length

    def before_validate(self) -> None:
        learn = self.learn
        learn.model.eval()
        if learn.opt is not None:
            learn.opt.eval()

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting:
            learn.epochs_done = learn.epoch + 1

    def after_fit(self) -> None:
        learn = self.learn
        if learn.opt is not None:
            learn.opt.eval()


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module with its mode: True for training."""
    return [(module, module.training) for module in model.modules()]


def set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Restore what `modes_of` returned."""
    for module, training in modes:
        module.training = training


class CastToTensor(Callback):
    """Makes inputs and targets plain tensors, after the callbacks that use their types and before the model."""

    order = 9
    state_kinds = ()

    def before_batch(self) -> None:
        learn = self.learn
        if not _is_plain(learn.xb):
            learn.xb = plain_tree(learn.xb)
        if not _is_plain(learn.yb):
            learn.yb = plain_tree(learn.yb)


def _is_plain(parts: object) -> bool:
    """Whether these are plain tensors already, as from most loaders, found without walking the tree."""
    return type(parts) is tuple and all(type(part) is Tensor for part in parts)


class SkipToEpoch(Callback):
    """Cancels the epochs before `epoch`; they still count.

    Args:
        epoch: The first epoch that is not skipped, from 0.
    """

    order = 70
    state_kinds = ()

    def __init__(self, epoch: int) -> None:
        self.skip_to = epoch

    def before_epoch(self) -> None:
        if self.learn.epoch < self.skip_to:
            raise CancelEpochException

    def __repr__(self) -> str:
        return f"SkipToEpoch({self.skip_to})"


def skipping(start_epoch: int) -> list[Callback]:
    """What `fit(start_epoch=)` adds."""
    return [SkipToEpoch(start_epoch)] if start_epoch else []


class FunctionCallback(Callback):
    """Calls a plain function at one event; the arguments are those of `learn.on`.

    It is also the handle of the registration: end it with `handle.remove()`, `learn.remove_cb(handle)`, or a `with` block.

    Raises:
        BadArgument: If the function cannot be called with these arguments, with or without the learner.
    """

    observes = True
    state_kinds = (("every", dict[str, Count]), ("is_spent", bool))

    def __init__(
        self,
        event: str,
        function: Callable[..., Any],
        *,
        every: int | str | Duration = 1,
        once: bool = False,
        before: int | str | Duration | None = None,
        after: int | str | Duration | None = None,
        when: Callable[[Any], object] | None = None,
        order: float | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.args, self.kwargs = function, tuple(args), dict(kwargs or {})
        self.every, self.once, self.when = Every(every), once, when
        self.order = order if order is not None else AFTER_RECORDER if event in _RECORDED else 0
        self.is_spent = False  # it was to be called once, and has been
        self.before = None if before is None else Duration.of(before)
        self.after = None if after is None else Duration.of(after)
        self.takes_learner = _takes_learner(function, self.args, self.kwargs)
        super().__init__(**{event: FunctionCallback.call})

    def call(self) -> None:
        """The event fired: call the function if it is due."""
        learn = self.learn
        if (
            self.is_spent
            or not self.every.due(learn)
            or not self._in_time(learn)
            or (self.when is not None and not self.when(learn))
        ):
            return
        self.is_spent = self.once
        self.function(*([learn] if self.takes_learner else []), *self.args, **self.kwargs)

    def _in_time(self, learn: AbstractLoop) -> bool:
        earlier = self.every.heard - 1
        return (self.after is None or self.after.passed(learn, earlier) >= self.after.count) and (
            self.before is None or self.before.passed(learn, earlier) < self.before.count
        )

    def remove(self) -> None:
        """Stop listening."""
        learn = None if self._learn is None else self._learn()
        if learn is not None:
            learn.remove_cbs([self])

    def matches(self, wanted: object) -> bool:
        return super().matches(wanted) or self.function == wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return function_name(self.function) + "()"


@overload
def on(
    loop: AbstractLoop, event: str, function: None = None, *, every: int | str | Duration = 1, once: bool = False,
    before: int | str | Duration | None = None, after: int | str | Duration | None = None,
    when: Callable[[Any], object] | None = None, order: float | None = None, args: Sequence[Any] = (), **kwargs: Any,
) -> Callable[[F], F]: ...  # fmt: skip


@overload
def on(
    loop: AbstractLoop, event: str, function: Callable[..., Any], *, every: int | str | Duration = 1, once: bool = False,
    before: int | str | Duration | None = None, after: int | str | Duration | None = None,
    when: Callable[[Any], object] | None = None, order: float | None = None, args: Sequence[Any] = (), **kwargs: Any,
) -> FunctionCallback: ...  # fmt: skip


def on(
    loop: AbstractLoop,
    event: str,
    function: Callable[..., Any] | None = None,
    *,
    every: int | str | Duration = 1,
    once: bool = False,
    before: int | str | Duration | None = None,
    after: int | str | Duration | None = None,
    when: Callable[[Any], object] | None = None,
    order: float | None = None,
    args: Sequence[Any] = (),
    **kwargs: Any,
) -> Any:
    """Call a plain function at an event: `function(learn)`, or `function()` if it takes nothing.

        @learn.on("after_batch", every="100 batches")
        def show(learn): print(learn.train_iter, learn.loss)

        handle = learn.on("after_epoch", show)      # handle.remove() ends it; so does `with learn.on(…):`

    Args:
        event: The name of an event: see `Event`.
        function: What to call; without it, `on` is a decorator.
        every: How often: "100 batches", "2 epochs", "30 s", or a whole number: every so many times that the event fires.
        once: Call it only the first time that it is due, in all fits.
        before: Stop once this much of the fit is over; a whole number: only the first so many times.
        after: Start once this much of the fit is over; a whole number skips the first so many times.
        when: A function of the learner, asked each time that the other conditions hold.
        order: Its place among the callbacks; the recorder has 50. By default 55 for what happens when a batch, a pass, an epoch
            or the fit is over, so that their values are there, and 0 for other events.
        args: Passed to the function after the learner.
        kwargs: Passed to the function by name.

    Returns:
        A handle, or as a decorator the function itself.

    Raises:
        BadEvent: For an unknown event.
        BadValue: For an invalid duration.
        BadArgument: If the function cannot be called with these arguments.
    """
    check_event(event, f"on('{event}')")
    for duration in (every, before, after):
        if duration is not None:
            Duration.of(duration)

    def add(function: Callable[..., Any]) -> FunctionCallback:
        handle = FunctionCallback(
            event, function, every=every, once=once, before=before, after=after, when=when, order=order,
            args=args, kwargs=kwargs,
        )  # fmt: skip
        loop.add_cbs(handle)
        return handle

    def decorate(function: F) -> F:
        add(function)
        return function

    return decorate if function is None else add(function)


def _takes_learner(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the learner is passed before the other arguments: if a parameter would otherwise be left without a value."""
    if not callable(function):
        raise BadArgument("not a function to call at an event", got=repr(function))
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins have none
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return True
    for takes in (False, True):
        try:
            signature.bind(*([None] if takes else []), *args, **kwargs)
        except TypeError:
            continue
        return takes
    unknown = [name for name in kwargs if name not in signature.parameters]
    near = nearest(unknown[0], ("every", "once", "before", "after", "when", "order", "args"), 1) if unknown else []
    raise BadArgument(
        "the function cannot be called with these arguments",
        got=", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]) or "none",
        expected=f"{function_name(function)}{signature}, the learner first or not at all",
        fix=f"did you mean '{near[0]}'?" if near else None,
    )
