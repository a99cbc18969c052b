"""Plain functions as callbacks: what `learn.on` makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from layered.foundation.errors import BadArgument, nearest
from layered.loop.callback import Callback
from layered.loop.durations import Duration, Every


class FunctionCallback(Callback):
    """Calls a plain function at one event; the arguments are those of `learn.on`.

    It is also the handle of what it listens for: `handle.remove()`, `learn.remove_cb(handle)`, or a `with` block, at the
    end of which it is removed.

    raises     BadArgument where the function cannot be called with these arguments, with or without the learner
    """

    def __init__(
        self,
        event: str,
        function: Callable[..., Any],
        *,
        every: int | str | Duration = 1,
        once: bool = False,
        before: int | str | Duration | None = None,
        after: int | str | Duration | None = None,
        when: Callable[[Any], Any] | None = None,
        order: float = 0,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.args, self.kwargs = function, tuple(args), dict(kwargs or {})
        self.every, self.once, self.when, self.order = Every(every), once, when, order
        self.before = None if before is None else Duration.of(before)
        self.after = None if after is None else Duration.of(after)
        self.takes_learner = _takes_learner(function, self.args, self.kwargs)
        super().__init__(**{event: FunctionCallback.call})

    def call(self) -> None:
        """The event is heard once more: call the function if it is due."""
        learn = self.learn
        if not self.every.due(learn) or not self._in_time(learn) or (self.when is not None and not self.when(learn)):
            return
        if self.once:
            self.remove()
        self.function(*([learn] if self.takes_learner else []), *self.args, **self.kwargs)

    def _in_time(self, learn: Any) -> bool:
        earlier = self.every.heard - 1
        return (self.after is None or self.after.passed(learn, earlier) >= self.after.count) and (
            self.before is None or self.before.passed(learn, earlier) < self.before.count
        )

    def remove(self) -> None:
        """Listen no more."""
        learn = None if self._learn is None else self._learn()
        if learn is not None:
            learn.remove_cb(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__) + "()"


def _takes_learner(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the learner comes before the other arguments: it does where a parameter would be left without a value."""
    if not callable(function):
        raise BadArgument("only a function can be called at an event", got=repr(function))
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
        expected=f"{getattr(function, '__name__', function)}{signature}, the learner first or not at all",
        fix=f"did you mean '{near[0]}'?" if near else None,
    )
