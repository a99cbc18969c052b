"""Callbacks: methods named after events, called as the loop fires them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from layered.foundation import (
    BadFile,
    CannotTrain,
    Stateful,
    assigned,
    assigned_by_all,
    is_constant,
    is_place_or_text,
    snake_case,
    warn,
)
from layered.loop.events import check_event, check_method
from layered.loop.kept import (
    Kinds,
    alike,
    fits,
    mark,
    restored_value,
)
from layered.loop.listeners import Cbs, Handler
from layered.loop.state import STATE_FIELDS, AbstractLoop, State

HIDDEN = ("_learn", "_as_made", "_event_functions")  # attributes that are not part of a callback's state


# To a type checker a callback has the fields of the state, which `__getattr__` reads from its loop.
if TYPE_CHECKING:
    _Reads = State
else:
    _Reads = object


class Callback(_Reads):
    """Something that happens at certain events of the training loop.

    Subclass it and name methods after events (`Event` lists them), or pass functions of one argument, the
    callback: `Callback(after_batch=lambda cb: print(cb.loss))`. Reading an attribute that the callback lacks
    reads the learner's; to change the learner write `self.learn.loss_grad = …`.

    Args:
        event_functions: Functions of the callback, by the name of the event at which they are called.

    Attributes:
        order: Callbacks run in ascending order; equal ones in the order they were added.
        run: False mutes the callback until the end of the fit.
        run_train: False mutes the events of single batches in training.
        run_valid: False mutes the events of single batches in validation.
        transient: Attributes that a checkpoint leaves out, because each fit sets them anew.
        state_kinds: The attributes that a checkpoint keeps, with their kinds (`layered.loop.kept`). A class without it keeps what
            its methods change; text and numbers that only `__init__` sets are settings, and stay as the script has them.
        unread_state: Names in older checkpoints that are left unread.

    Raises:
        BadEvent: When the class is created, for a method that looks like an event but is not one.

    Examples:
        >>> class Count(Callback):
        ...     def before_fit(self): self.count = 0
        ...     def after_batch(self): self.count += 1
        >>> Count().name
        'count'
    """

    order: float = 0
    run: bool = True
    run_train: bool = True
    run_valid: bool = True
    remove_on_fetch: ClassVar[bool] = False
    """Whether it receives no events of the predictions that `FetchPredsCallback` makes during a fit."""
    transient: ClassVar[tuple[str, ...]] = ()
    state_kinds: ClassVar[Kinds]
    unread_state: ClassVar[tuple[str, ...]] = ()
    observes: ClassVar[bool] = False
    """Whether it only watches the fit, which resumes without it too, or with other settings of it."""

    _learn: weakref.ref[AbstractLoop] | None = None
    _event_functions: Mapping[str, Callable[..., Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, attribute in vars(cls).items():
            if isinstance(attribute, FunctionType):
                check_method(name, f"{cls.__name__}.{name}")

    def __init__(self, **event_functions: Callable[..., Any]) -> None:
        for name in event_functions:
            check_event(name, f"{type(self).__name__}({name}=…)")
        if event_functions:
            self._event_functions = event_functions

    @property
    def learn(self) -> AbstractLoop:
        """The loop (mostly a `Learner`) that this callback listens to. Held weakly, so callbacks keep no model alive."""
        learn = None if self._learn is None else self._learn()
        if learn is None:
            raise CannotTrain(
                f"{type(self).__name__} belongs to no learner",
                fix="add it: Learner(…, cbs=[…]) or learn.fit(…, cbs=[…])",
            )
        return learn

    @learn.setter
    def learn(self, learn: AbstractLoop | None) -> None:
        self.bind(learn)

    def bind(self, loop: AbstractLoop | None) -> None:
        """Listen to `loop`; None lets go of it."""
        object.__setattr__(self, "_learn", None if loop is None else weakref.ref(loop))
        if "_as_made" not in vars(self):
            self.__dict__["_as_made"] = {name: (value, mark(value)) for name, value in vars(self).items()}

    def matches(self, wanted: object) -> bool:
        """Whether `remove_cbs(wanted)` means this callback: it, or its class."""
        return self is wanted or (isinstance(wanted, type) and isinstance(self, wanted))

    @property
    def name(self) -> str:
        """The class's name in snake case without "Callback": the learner's attribute for this callback."""
        stem = type(self).__name__.removesuffix("Callback") or "Callback"
        return snake_case(stem)

    def handler(self, event: str) -> Handler | None:
        """What to call at `event`; None if this callback does not listen to it."""
        hears_all = type(self).__call__ is not Callback.__call__
        return partial(self, event) if hears_all else self._own_handler(event)

    def _own_handler(self, event: str) -> Handler | None:
        if event in self._event_functions:
            return MethodType(self._event_functions[event], self)
        return getattr(self, event) if hasattr(type(self), event) else None

    def __call__(self, event: str) -> None:
        """Handle `event` now. A subclass that redefines this gets every event, and passes it on by `super().__call__(event)`."""
        handler = self._own_handler(event)
        if handler is not None:
            handler()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: the attributes of its state that changed since it was made."""
        lasts = self._lasting()
        return {
            name: value.state_dict() if isinstance(value, Stateful) else value
            for name, value in vars(self).items()
            if lasts(name) and not (is_constant(value) and self.unchanged(name))
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; what had not changed by then is as it was made.

        Parameters that the callback holds stay the same objects.

        Raises:
            BadFile: If this cannot be the state of this callback; nothing has changed.
        """
        self.check_attributes(state)
        lasts = self._lasting()
        if type(self).state_dict is Callback.state_dict:
            for name, (value, _) in vars(self).get("_as_made", {}).items():
                if name not in state and lasts(name) and is_constant(value):
                    object.__setattr__(self, name, value)
        for name, value in state.items():
            old = vars(self).get(name)
            if name in self.unread_state or not lasts(name):
                continue
            if isinstance(old, Stateful):
                old.load_state_dict(value)
            else:
                object.__setattr__(self, name, restored_value(old, value))

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse what cannot be a state of this callback; a checkpoint is checked so before anything changes.

        Override it, and call it first, where parts of the state must go together: lists of one length, shapes of the model.

        Args:
            state: What a file says that `state_dict` returned.

        Raises:
            BadFile: Naming the attribute.
        """
        kind = type(self)
        has_own_form = (
            kind.state_dict is not Callback.state_dict and kind.load_state_dict is not Callback.load_state_dict
        )
        if not has_own_form:
            self.check_attributes(state)

    def check_attributes(self, state: Mapping[str, Any]) -> None:
        """Refuse all but attributes that belong to the state of this callback, each of its kind.

        Args:
            state: Values by the name of an attribute.

        Raises:
            BadFile: Naming the attribute.
        """
        lasts, kinds = self._lasting(), _declared(type(self))
        for name, value in state.items():
            old = vars(self).get(name)
            if name in self.unread_state or (not lasts(name) and name in vars(self) and _is_same(old, value)):
                continue
            is_fitting = name not in kinds or fits(value, kinds[name])
            if (
                not lasts(name)
                or not is_fitting
                or ((name not in kinds or isinstance(old, Stateful)) and not alike(old, value))
            ):
                raise bad_state(self, f"{name} of type {type(value).__name__}")

    def catch_up(self) -> None:
        """Called where a finished fit is restored, so that no event follows: bring files up to date with it."""

    def settings(self) -> dict[str, Any]:
        """What it was made with: the attributes that are neither state nor set anew by each fit."""
        lasts = self._lasting()
        changing = {*HIDDEN, *self.transient, *assigned(type(self)), "run"}
        return {name: value for name, value in vars(self).items() if name not in changing and not lasts(name)}

    def _lasting(self) -> Callable[[object], bool]:
        """A function that says whether the attribute of a name is part of the state."""
        kind, own, kinds = type(self), vars(self), _declared(type(self))
        later = assigned(kind, _is_open) | assigned_by_all(self._event_functions.values())
        by_others = _assigned_by_others(self)
        settings = assigned_by_all(vars(base).get("__init__") for base in kind.__mro__ if "state_kinds" in vars(base))
        is_closed = "state_kinds" in vars(kind)

        def lasts(name: object) -> bool:
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("__") or name in HIDDEN:
                return False
            declared = getattr(kind, name, None)
            if name in self.transient or callable(declared) or isinstance(declared, property):
                return False
            if name in kinds or name in later or (name in by_others and not is_place_or_text(own.get(name))):
                return True
            if is_closed or name in settings:
                return False
            return "*" in later or (
                name in own and not is_constant(own[name]) and not isinstance(own[name], os.PathLike)
            )

        return lasts

    def unchanged(self, name: str) -> bool:
        """Whether attribute `name` is the same object, unchanged, as when the callback was first added to a learner."""
        made, value = vars(self).get("_as_made", {}), vars(self).get(name)
        return name in made and made[name][0] is value and (is_constant(value) or made[name][1] == mark(value))

    if not TYPE_CHECKING:  # with these a checker would accept every name

        def __getattr__(self, name: str) -> Any:
            learn = None if name.startswith("__") or self._learn is None else self._learn()
            try:
                return getattr(learn, name) if learn is not None else object.__getattribute__(self, name)
            except AttributeError:
                where = f"{type(self).__name__!r} object" + (" and its learner have" if learn is not None else " has")
                raise AttributeError(f"{where} no attribute {name!r}", name=name, obj=self) from None

        def __setattr__(self, name: str, value: object) -> None:
            if name in STATE_FIELDS and self._learn is not None:
                warn(
                    f"{type(self).__name__} sets its own '{name}', which hides the learner's: to change what the loop "
                    f"uses write self.learn.{name} = …"
                )
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in HIDDEN[:2]}

    def __repr__(self) -> str:
        return type(self).__name__


def bad_state(cb: Callback, got: str) -> BadFile:
    """The error for a state in a file that is not one of this callback.

    Args:
        cb: The callback.
        got: What is wrong with it.
    """
    return BadFile(f"the file has a state that {type(cb).__name__} cannot have", got=got[:200])


def _is_open(kind: type) -> bool:
    """Whether a class of callbacks leaves it to its code what its state is."""
    return "state_kinds" not in vars(kind) and kind is not Callback


def _declared(kind: type) -> dict[str, Any]:
    """The attributes that a class and its bases declare as their state, with their kinds."""
    return {name: one for base in reversed(kind.__mro__) for name, one in vars(base).get("state_kinds", ())}


def _assigned_by_others(cb: Callback) -> frozenset[str]:
    """The attributes that the code of the other callbacks of a loop assigns, of whatever object."""
    loop = None if cb._learn is None else cb._learn()
    others = [other for other in ([] if loop is None else loop.cbs) if other is not cb and isinstance(other, Callback)]
    names = [assigned(type(other), _is_open) for other in others]
    functions = [f for other in others for f in (*other._event_functions.values(), vars(other).get("function"))]
    return assigned_by_all(functions).union(*names) - {"*"}


def _is_same(old: object, value: object) -> bool:
    try:
        return type(old) is type(value) and bool(old == value)
    except (RuntimeError, ValueError):  # of several elements
        return False


def callbacks_of(cbs: Cbs) -> list[Callback]:
    """Callbacks from what `cbs=` accepts: None, an instance, a class (instantiated), or any collection of these.

    Examples:
        >>> callbacks_of([Callback, None])
        [Callback]
    """
    if cbs is None:
        return []
    if isinstance(cbs, Callback):
        return [cbs]
    if isinstance(cbs, type) and issubclass(cbs, Callback):
        return [cbs()]
    if isinstance(cbs, Iterable) and not isinstance(cbs, str):
        return [cb for part in cbs for cb in callbacks_of(part)]
    raise CannotTrain(
        "not a callback",
        got=repr(cbs),
        expected="a Callback, a Callback class, or a list of these",
        fix="for a plain function use @learn.on('after_batch')",
    )


L = TypeVar("L", bound=AbstractLoop)


def add_cbs(loop: L, cbs: Cbs) -> L:
    """Add callbacks: instances, classes, or a list of these.

    Each is also an attribute, `learn.recorder`, unless the learner has something else of that name.
    """
    loop.callbacks.add(callbacks_of(cbs))
    return loop


def remove_cbs(loop: L, cbs: object) -> L:
    """Remove callbacks: instances, classes (every instance), functions given to `on`, or a list of these."""
    loop.callbacks.remove(loop.callbacks.matching(cbs))
    return loop
