"""Callbacks: methods named after events, called as the loop fires them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from layered.data import Stateful
from layered.foundation import BadFile, CannotTrain, snake_case, warn
from layered.loop.events import check_event, check_method
from layered.loop.listeners import Cbs, Handler
from layered.loop.state import STATE_FIELDS, AbstractLoop, State

HIDDEN = ("_learn", "_as_made", "_event_functions")  # attributes that are not part of a callback's state
MARKED = 1000  # how many items of a collection, or bytes of an array, `mark` looks at


def is_constant(value: object) -> bool:
    """Whether a value cannot change in place."""
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, type, FunctionType))


def mark(value: object, depth: int = 3, inside: bool = False) -> Any:
    """A summary of a value that differs once the value was changed in place.

    Numbers, strings, tensors and collections are summarised by content, other objects by identity and their attributes.

    Args:
        value: Anything.
        depth: How many levels of collections to look into.
        inside: The value is an attribute of such an object: only its identity counts.
    """
    if is_constant(value):
        return value if value == value else "nan"
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes() if value.nbytes < MARKED else None
    if depth and isinstance(value, (list, tuple, set, frozenset, deque)):
        return len(value), tuple(mark(part, depth - 1, inside) for part in islice(value, MARKED))
    if depth and isinstance(value, Mapping):
        return len(value), tuple((mark(k, 0), mark(v, depth - 1, inside)) for k, v in islice(value.items(), MARKED))
    if inside or isinstance(value, (State, Stateful)):
        return id(value)
    return id(value), mark(getattr(value, "__dict__", None), depth, inside=True)


_CONTENTS = ((str,), (Mapping,), (set, frozenset), (list, tuple, deque, Tensor, np.ndarray))


def check_state(cb: Callback, name: str, value: object) -> None:
    """Refuse a name that cannot be set, and a collection or text where the callback has another kind of content.

    Raises:
        BadFile: For either.
    """
    declared = getattr(type(cb), name, None)
    is_of_class = callable(declared) or isinstance(declared, property)
    old = vars(cb).get(name)
    is_number = isinstance(old, (int, float)) and isinstance(value, (Mapping, set, frozenset))
    kind = next((kinds for kinds in _CONTENTS if isinstance(old, kinds)), None)
    fits = kind is None or value is None or isinstance(value, kind) or isinstance(old, Stateful)
    if not name.isidentifier() or name in HIDDEN or is_of_class or is_number or not fits:
        raise BadFile(
            f"the file has a state that {type(cb).__name__} cannot have",
            got=f"{name} of type {type(value).__name__}"[:200],
        )


def restored_value(old: object, new: object) -> object:
    """`new`; but an existing parameter stays and gets the values, because a model or an optimizer holds it too."""
    if isinstance(old, nn.Parameter) and isinstance(new, Tensor) and old.shape == new.shape:
        with torch.no_grad():
            old.copy_(new)
        return old
    if (
        isinstance(old, (list, tuple))
        and isinstance(new, (list, tuple))
        and type(old) is type(new)
        and len(old) == len(new)
    ):
        return type(new)(map(restored_value, old, new))
    if isinstance(old, dict) and isinstance(new, dict) and type(old) is type(new) is dict:
        return {name: restored_value(old.get(name), value) for name, value in new.items()}
    return new


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
        """What a checkpoint keeps of this callback: attributes that changed since it was made, without `transient`."""
        return {
            name: value.state_dict() if isinstance(value, Stateful) else value
            for name, value in vars(self).items()
            if self._lasts(name) and not (is_constant(value) and self.unchanged(name))
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; what had not changed by then is as it was made.

        Parameters that the callback holds stay the same objects.

        Raises:
            BadFile: If this cannot be the state of this callback; nothing has changed.
        """
        for name, value in state.items():
            check_state(self, name if isinstance(name, str) else "", value)
        if type(self).state_dict is Callback.state_dict:
            for name, (value, _) in vars(self).get("_as_made", {}).items():
                if name not in state and self._lasts(name) and is_constant(value):
                    object.__setattr__(self, name, value)
        for name, value in state.items():
            old = vars(self).get(name)
            if isinstance(old, Stateful):
                old.load_state_dict(value)
            else:
                object.__setattr__(self, name, restored_value(old, value))

    def _lasts(self, name: str) -> bool:
        """Whether attribute `name` belongs in a checkpoint."""
        return name not in self.transient and name not in HIDDEN

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
