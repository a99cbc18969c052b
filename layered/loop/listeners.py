"""Who hears a loop: its callbacks, looked up once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from layered.loop.callback import Callback, callbacks_of
from layered.loop.durations import Duration
from layered.loop.essentials import FunctionCallback
from layered.loop.events import INNER_EVENTS, check_event, event_names
from layered.loop.state import State
from layered.loop.trace import Trace, show_training_loop

Heard = tuple[tuple[Callback, Callable[[], Any], bool], ...]


class Listeners(State):
    """State that tells its callbacks about events. `learn.cbs` lists them in the order they were added."""

    _trace: Trace | None = None

    def __init__(self) -> None:
        self.cbs: list[Callback] = []
        self._listen()

    def emit(self, name: str) -> None:
        """Call whoever hears the event `name`, in ascending `order`.

        Raises:
            BadEvent: For a name that is neither in `Event` nor declared.
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
            name: tuple((cb, self._watched(name, cb, h), name in INNER_EVENTS) for cb in cbs if (h := cb.handler(name)))
            for name in event_names()
        }

    def _watched(self, event: str, cb: Callback, handler: Callable[[], Any]) -> Callable[[], Any]:
        return handler if self._trace is None else self._trace.watched(self, event, repr(cb), handler)

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
                for other in (other for other in self.cbs if other.name == cb.name):
                    setattr(self, cb.name, other)
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
                cb is w or (isinstance(w, type) and isinstance(cb, w)) or vars(cb).get("function", cb) == w
                for w in wanted
            )
        ]

    def on(
        self,
        event: str,
        function: Callable[..., Any] | None = None,
        *,
        every: int | str | Duration = 1,
        once: bool = False,
        before: int | str | Duration | None = None,
        after: int | str | Duration | None = None,
        when: Callable[[Any], Any] | None = None,
        order: float = 0,
        args: Sequence[Any] = (),
        **kwargs: Any,
    ) -> Any:
        """Call a plain function at an event: `function(learn)`, or `function()` if it takes nothing.

            @learn.on("after_batch", every="100 batches")
            def show(learn): print(learn.train_iter, learn.loss)

            handle = learn.on("after_epoch", show)      # handle.remove() ends it; so does `with learn.on(…):`

        Args:
            every: How often: "100 batches", "2 epochs", "30 s", or a whole number of times that the event is heard.
            once: The first time that it is due, and no more.
            before: No more once so much of the fit is over; a whole number: only so many first times.
            after: Not before so much of the fit is over; a whole number leaves out so many first times.
            when: Asked with the learner each time that the rest agrees.
            order: Among the callbacks; the recorder has 50.
            args: For the function, after the learner.
            kwargs: For the function, after the learner.

        Returns:
            A handle, or as a decorator the function itself.

        Raises:
            BadEvent: Before anything changes.
            BadValue: Before anything changes.
            BadArgument: Before anything changes.
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
            self.add_cbs(handle)
            return handle

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            add(function)
            return function

        return decorate if function is None else add(function)

    @contextmanager
    def trace(self) -> Iterator[Trace]:
        """Write down who changes what inside the `with`; it costs time there, and nothing elsewhere.

        with learn.trace() as trace:
            learn.fit(1)
        print(trace)
        """
        outer, self._trace = self._trace, Trace(self)
        self._listen()
        try:
            yield self._trace
        finally:
            self._trace.close()
            self._trace = outer
            self._listen()

    show_training_loop = show_training_loop
