"""Who hears a loop: its callbacks, looked up once, and the contexts that change them for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from layered.foundation.helpers import noop
from layered.loop.callback import Callback, callbacks_of
from layered.loop.essentials import FunctionCallback
from layered.loop.events import INNER_EVENTS, check_event, event_names
from layered.loop.state import State

Heard = tuple[tuple[Callback, Callable[[], Any], bool], ...]


class Listeners(State):
    """State that tells its callbacks about events. `learn.cbs` lists them in the order they were added."""

    def __init__(self) -> None:
        self.cbs: list[Callback] = []
        self._listen()

    def emit(self, name: str) -> None:
        """Call whoever hears the event `name`, in ascending `order`.

        raises     BadEvent for a name that is neither in `Event` nor declared
        """
        heard = self._heard.get(name)
        if heard is None:
            check_event(name, f"emit('{name}')")
            self._listen()
            heard = self._heard[name]
        for cb, handler, inner in heard:
            if cb.run and (not inner or (cb.run_train if self.training else cb.run_valid)):
                handler()

    def _listen(self) -> None:
        """Look up who hears what, so that an event nobody hears costs nothing."""
        cbs = self.ordered_cbs()
        self._heard: dict[str, Heard] = {
            name: tuple((cb, handler, name in INNER_EVENTS) for cb in cbs if (handler := cb.handler(name)))
            for name in event_names()
        }

    def ordered_cbs(self, event: str | None = None) -> list[Callback]:
        """The callbacks (that hear `event`, if given) in the order in which they hear it."""
        return sorted((cb for cb in self.cbs if event is None or cb.handler(event)), key=lambda cb: cb.order)

    def add_cbs(self, cbs: Any) -> Self:
        """Add callbacks: instances, classes, or a list of these.

        Each is also an attribute, `learn.recorder`, unless the learner has something else of that name.
        """
        for cb in callbacks_of(cbs):
            cb.learn = self
            self.cbs.append(cb)
            if isinstance(getattr(self, cb.name, cb), Callback):
                setattr(self, cb.name, cb)
        self._listen()
        return self

    def add_cb(self, cb: Any) -> Self:
        """Add one callback, an instance or a class."""
        return self.add_cbs(cb)

    def remove_cbs(self, cbs: Any) -> Self:
        """Remove callbacks, named as instances, as classes (every instance), or as functions given to `on`."""
        for cb in self._matching(cbs):
            self.cbs.remove(cb)
            cb.learn = None
            if self.__dict__.get(cb.name) is cb:
                delattr(self, cb.name)
        self._listen()
        return self

    def remove_cb(self, cb: Any) -> Self:
        """Remove one callback: the instance, every instance of a class, or a function given to `on`."""
        return self.remove_cbs([cb])

    def _matching(self, cbs: Any) -> list[Callback]:
        wanted = list(cbs) if isinstance(cbs, Sequence) else [cbs]
        return [
            cb
            for cb in self.cbs
            if any(
                cb is w or (isinstance(w, type) and isinstance(cb, w)) or vars(cb).get("function", cb) is w
                for w in wanted
            )
        ]

    def on(self, event: str, *, every: int = 1, once: bool = False) -> Callable[[Any], Any]:
        """Decorator: call a plain function, with the learner or with nothing, at an event.

            @learn.on("after_batch", every=100)
            def show(learn): print(learn.train_iter, learn.loss)

        every      only each `every`-th time
        once       the first time only
        """
        check_event(event, f"on('{event}')")

        def add(function: Any) -> Any:
            self.add_cbs(FunctionCallback(event, function, every=every, once=once))
            return function

        return add

    @contextmanager
    def added_cbs(self, cbs: Any) -> Iterator[Self]:
        """These callbacks too, inside the `with`."""
        added = callbacks_of(cbs)
        try:
            yield self.add_cbs(added)
        finally:
            self.remove_cbs(added)

    @contextmanager
    def removed_cbs(self, cbs: Any) -> Iterator[Self]:
        """Without these callbacks (instances or classes) inside the `with`."""
        before, removed = list(self.cbs), self._matching(cbs)
        try:
            yield self.remove_cbs(removed)
        finally:
            self.add_cbs(removed)
            self.cbs.sort(key=lambda cb: before.index(cb) if cb in before else len(before))
            self._listen()

    @contextmanager
    def no_logging(self) -> Iterator[Self]:
        """No line for each epoch inside the `with`."""
        with _replaced(self, "logger", noop):
            yield self

    @contextmanager
    def no_mbar(self) -> Iterator[Self]:
        """No bar over the epochs inside the `with`."""
        with _replaced(self, "create_mbar", False):
            yield self

    @contextmanager
    def no_bar(self) -> Iterator[Self]:
        """No progress bar inside the `with`; the lines stay."""
        with self.removed_cbs([cb for cb in self.cbs if cb.name == "progress"]):
            yield self


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)
