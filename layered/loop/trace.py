"""Who does what in a fit: what each callback changes, as it happens, and who listens to which event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from layered.foundation import Report, Table, describe, tensors_of
from layered.loop.events import Event, event_names
from layered.loop.listeners import Handler, Listener
from layered.loop.state import AbstractLoop, State

THE_LOOP = "the loop"
SHORT = 32  # characters of a value in a table


@dataclass
class Change:
    """One attribute that one writer set during one event; `old` is from the first time, `new` from the last."""

    event: str
    writer: str
    name: str
    old: str
    new: str
    count: int = 1


class Trace(Report):
    """The changes of a learner while `with learn.trace() as trace:` runs: print it, iterate over it, or take `rows`.

    It records attributes of the learner that are set, its tensors that are written in place, hyper-parameters (`opt.lr`), the
    weights and the gradients of the model, and its mode. What changes between two handlers is the loop's own doing, listed
    under the next event.

    Examples:
        >>> from torch import nn
        >>> from layered.loop import Callback, Loop
        >>> change = Callback(before_fit=lambda cb: setattr(cb.learn, "n_epoch", 5))
        >>> loop = Loop(([], None), nn.Linear(1, 1), default_cbs=False, cbs=change)
        >>> with loop.trace() as trace: loop.emit("before_fit")
        >>> [(row.event, row.writer, row.name, row.old, row.new) for row in trace]
        [('before_fit', 'Callback', 'n_epoch', '1', '5')]
    """

    def __init__(self, loop: State) -> None:
        self._changes: dict[tuple[str, str, str], Change] = {}
        self._seen = _snapshot(loop)

    @property
    def rows(self) -> list[Change]:
        """Every change, in the order in which they were first seen."""
        return list(self._changes.values())

    def watched(self, loop: State, event: str, writer: str, handler: Handler) -> Handler:
        """`handler`, with a look at the loop before and after."""

        def handle() -> None:
            self._look(loop, event, THE_LOOP)
            try:
                handler()
            finally:
                self._look(loop, event, writer)

        return handle

    def _look(self, loop: State, event: str, writer: str) -> None:
        old, self._seen = self._seen, _snapshot(loop)
        for name in [*self._seen, *(name for name in old if name not in self._seen)]:
            default = (getattr(type(loop), name), None) if hasattr(type(loop), name) else _UNSET
            before, now = old.get(name, default), self._seen.get(name, default)
            if not _same(before, now):
                change = self._changes.get((event, writer, name))
                if change is None:
                    self._changes[event, writer, name] = Change(event, writer, name, _short(before), _short(now))
                else:
                    change.new, change.count = _short(now), change.count + 1

    def close(self) -> None:
        """Let go of what was looked at; the rows stay."""
        self._seen = {}

    def __iter__(self) -> Iterator[Change]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._changes)

    def records(self) -> list[dict[str, Any]]:
        return [asdict(change) for change in self.rows]

    def tables(self) -> Sequence[Table]:
        rows = [(c.event, _cut(c.writer), c.name, c.old, c.new, c.count) for c in self.rows]
        return [(("event", "who", "what", "old", "new", "times"), rows)]


_UNSET: tuple[Any, Any] = (None, None)


def _snapshot(loop: State) -> dict[str, tuple[Any, Any]]:
    """What can change, by name: the value, and a mark that differs once it was written in place."""
    seen = {
        name: (value, _marks(value))
        for name, value in vars(loop).items()
        if not name.startswith("_") and name not in ("callbacks", "model", "opt", "dls")
    }
    model, opt = vars(loop).get("model"), vars(loop).get("opt")
    if model is not None:
        parameters = list(model.parameters())
        grads = [p.grad for p in parameters if p.grad is not None]
        seen["model"] = model, None
        seen["model.training"] = model.training, None
        seen["weights"] = f"{len(parameters)} tensors", tuple(p._version for p in parameters)
        seen["gradients"] = f"{len(grads)} tensors" if grads else None, (_marks(grads), [id(g) for g in grads])
    if opt is not None:
        seen["opt"] = opt, None
        for i, hyper in enumerate(opt.hypers):
            where = "opt" if len(opt.hypers) == 1 else f"opt[{i}]"
            seen.update({f"{where}.{name}": (value, None) for name, value in hyper.items()})
    return seen


def _marks(value: object) -> Any:
    if not isinstance(value, (Tensor, tuple, list, Mapping)):
        return None
    return tuple(t._version for t in tensors_of(value) if not t.is_inference())


def _same(before: tuple[Any, Any], now: tuple[Any, Any]) -> bool:
    (a, a_mark), (b, b_mark) = before, now
    plain = isinstance(a, (bool, int, float, str)) and type(a) is type(b)
    return (a is b or (plain and a == b)) and a_mark == b_mark and (before is _UNSET) == (now is _UNSET)


def _short(seen: tuple[Any, Any]) -> str:
    value = seen[0]
    if seen is _UNSET:
        return "unset"
    if isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else ""
    text = text or (repr(value) if isinstance(value, (int, type(None))) else describe(value))
    return _cut(" ".join(text.split()))


def _cut(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


_DEPTHS = {"fit": 0, "epoch": 1, "train": 2, "validate": 2, "batch": 3, "pred": 4, "loss": 4, "backward": 4, "step": 4}


@contextmanager
def trace(loop: AbstractLoop) -> Iterator[Trace]:
    """Record who changes what inside the `with`; it costs time there, and nothing elsewhere.

    with learn.trace() as trace:
        learn.fit(1)
    print(trace)
    """
    listeners, seen = loop.callbacks, Trace(loop)

    def watched(event: str, cb: Listener, handler: Handler) -> Handler:
        return seen.watched(loop, event, repr(cb), handler)

    outer = listeners.wrap
    try:
        listeners.wrap = watched
        listeners.refresh()
        yield seen
    finally:
        seen.close()
        listeners.wrap = outer
        listeners.refresh()


def show_training_loop(loop: AbstractLoop) -> None:
    """Print the events of the loop in their order, each with the callbacks that listen to it, in theirs."""
    usual = [name for name in Event if not name.startswith(("after_cancel", "on_", "after_create"))]
    for name in event_names():
        heard = [repr(cb) for cb in loop.callbacks.ordered(name)]
        if heard or name in usual:
            depth = _DEPTHS.get(name.rpartition("_")[2], 0) if name in list(Event) else 0
            print(f"{'  ' * depth + name:<31}{', '.join(heard)}".rstrip())
