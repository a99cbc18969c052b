"""Event dispatch: which callbacks run at which event, looked up once whenever the callbacks change."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from layered.foundation import CannotTrain
from layered.loop.events import INNER_EVENTS, check_event, event_names

C = TypeVar("C")
Handler: TypeAlias = Callable[[], object]


class Listener(Protocol):
    """What a loop needs of a callback: `Callback` has all of it."""

    run: bool
    run_train: bool
    run_valid: bool

    @property
    def order(self) -> float: ...

    @property
    def name(self) -> str: ...

    def bind(self, loop: Any) -> None: ...

    def matches(self, wanted: object) -> bool: ...

    def handler(self, event: str) -> Handler | None: ...

    def unchanged(self, name: str) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def check_state(self, state: Mapping[str, Any]) -> None: ...


Cbs: TypeAlias = "Listener | type[Listener] | Iterable[Cbs] | None"
"""What `cbs=` accepts: callbacks, callback classes, or any nesting of collections of these."""


class Listeners:
    """The callbacks of a loop, in the order they were added: `learn.callbacks`.

    `learn.callbacks[Recorder]` is the callback of that class, typed; `get` gives None where there is none.

    Args:
        loop: What the callbacks are bound to. Held weakly, so that a loop that is dropped is freed at once.
    """

    def __init__(self, loop: object) -> None:
        self._loop = weakref.ref(loop)
        self.all: list[Listener] = []
        self.passing: list[Listener] = []  # those of them that are there for the length of a `with` or a fit
        self.wrap: Callable[[str, Listener, Handler], Handler] | None = None  # how a trace watches handlers
        self.refresh()

    def refresh(self) -> None:
        """Look up who listens to what, so that an event nobody listens to costs one look into a dict."""
        ordered = self.ordered()
        self.handlers: dict[str, tuple[tuple[Listener, Handler, bool], ...]] = {
            event: tuple(
                (cb, handler if self.wrap is None else self.wrap(event, cb, handler), event in INNER_EVENTS)
                for cb in ordered
                if (handler := cb.handler(event)) is not None
            )
            for event in event_names()
        }

    def declared(self, event: str) -> tuple[tuple[Listener, Handler, bool], ...]:
        """Who listens to an event that was declared after the last `refresh`.

        Raises:
            BadEvent: For a name that is neither in `Event` nor declared.
        """
        check_event(event, f"emit('{event}')")
        self.refresh()
        return self.handlers[event]

    def ordered(self, event: str | None = None) -> list[Listener]:
        """The callbacks (that listen to `event`, if given) in the order in which they run."""
        return sorted((cb for cb in self.all if event is None or cb.handler(event)), key=lambda cb: cb.order)

    def add(self, cbs: Iterable[Listener]) -> None:
        """Add callbacks; each is also an attribute of the loop, unless that has something else of its name."""
        loop = self._loop()
        for cb in cbs:
            cb.bind(loop)
            self.all.append(cb)
            held = getattr(loop, cb.name, cb)
            if any(held is one for one in self.all):
                setattr(loop, cb.name, cb)
        self.refresh()

    def remove(self, cbs: Iterable[Listener]) -> None:
        """Remove callbacks; where one hid another of its name, that is the loop's attribute again."""
        loop = self._loop()
        for cb in list(cbs):
            if vars(loop).get(cb.name) is cb:
                delattr(loop, cb.name)
                for other in (other for other in self.all if other.name == cb.name and other is not cb):
                    setattr(loop, cb.name, other)
            cb.bind(None)
            self.all.remove(cb)  # last: one whose removal was interrupted can be removed again
        self.refresh()

    def restore(self, before: Sequence[Listener]) -> None:
        """Make these the callbacks again, in this order: those added since are removed, those missing are added."""
        self.remove([cb for cb in self.all if not any(cb is kept for kept in before)])
        self.add([cb for cb in before if not any(cb is held for held in self.all)])
        self.all[:] = before
        self.refresh()

    def matching(self, wanted: object) -> list[Listener]:
        """Those named by `wanted`: instances, classes (every instance), functions given to `on`, or a list of these."""
        names = list(wanted) if isinstance(wanted, Sequence) else [wanted]
        return [cb for cb in self.all if any(cb.matches(name) for name in names)]

    def get(self, kind: type[C]) -> C | None:
        """The first callback of a class, or None."""
        return next((cb for cb in self.all if isinstance(cb, kind)), None)

    def __getitem__(self, kind: type[C]) -> C:
        cb = self.get(kind)
        if cb is None:
            raise CannotTrain(
                f"the learner has no {kind.__name__}",
                got=f"callbacks {self.all}",
                fix=f"add one: Learner(…, cbs=[{kind.__name__}(…)])",
            )
        return cb

    def __iter__(self) -> Iterator[Listener]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __repr__(self) -> str:
        return f"Listeners({self.all})"


def by_name(cbs: Iterable[Listener]) -> dict[str, Listener]:
    """Callbacks by name; a second one of a name is `name#2`."""
    res: dict[str, Listener] = {}
    for cb in cbs:
        count = sum(1 for other in res.values() if other.name == cb.name)
        res[cb.name if not count else f"{cb.name}#{count + 1}"] = cb
    return res
