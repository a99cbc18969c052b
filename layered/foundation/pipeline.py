"""Transforms in order, as one: called forwards, decoded backwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from layered.foundation.errors import describe
from layered.foundation.helpers import listify
from layered.foundation.names import snake_case
from layered.foundation.transform import Transform, mk_transform


class Pipeline:
    """Compose transforms by their `order` (stable); functions and classes are made transforms.

    A member is found by its class (`pipeline.resize`); any other attribute is looked up in the members (`pipeline.vocab`).

    Args:
        funcs: A transform, a function, a list of them, or None.
        split_idx: Which split it works for: 0 training, 1 validation.

    Examples:
        >>> p = Pipeline([lambda x: x + 1, lambda x: 2 * x])
        >>> p(1)
        4
    """

    def __init__(self, funcs: Any = None, split_idx: int | None = None) -> None:
        self.split_idx = split_idx
        if isinstance(funcs, Pipeline):
            self.fs: list[Transform] = list(funcs.fs)
        else:
            given = [funcs] if callable(funcs) else listify(funcs)
            self.fs = sorted((mk_transform(f) for f in given), key=lambda f: f.order)

    def __call__(self, o: Any) -> Any:
        for i in range(len(self.fs)):
            o = self.step(i, o)
        return o

    def step(self, i: int, o: Any) -> Any:
        """What step `i` alone makes of `o`; a failure says which step it was, and what it was given."""
        try:
            return self.fs[i](o, split_idx=self.split_idx)
        except Exception as error:
            _note(error, f"in step {i + 1} of {len(self.fs)}, {self.fs[i]!r}, given {describe(o)}")
            raise

    def decode(self, o: Any, full: bool = True) -> Any:
        """Undo the steps from the last; with `full=False` only until the result can be shown."""
        for f in reversed(self.fs):
            if not full and is_showable(o):
                break
            o = f.decode(o, split_idx=self.split_idx)
        return o

    def show(self, o: Any, ctx: Any = None, **kwargs: Any) -> Any:
        """Decode until it can be shown, show every element that knows how, and return the axes."""
        o = self.decode(o, full=False)
        for element in o if type(o) is tuple else (o,):
            if hasattr(element, "show"):
                ctx = element.show(ctx=ctx, **kwargs)
        return ctx

    def setup(self, items: Any = None, train_setup: bool = False) -> None:
        """Set up each step in order on `items`; a `TfmdLists` of this pipeline gives each what the steps before it make."""
        steps, self.fs = self.fs, []
        for f in steps:
            self.add(f, items, train_setup)

    def add(self, f: Transform, items: Any = None, train_setup: bool = False) -> None:
        """Set up one more step and append it."""
        try:
            f.setup(items, train_setup)
        except Exception as error:
            _note(error, f"in the setup of {f!r}")
            raise
        self.fs.append(f)

    def for_split(self, split_idx: int | None) -> Pipeline:
        """The same steps, working for another split."""
        res = Pipeline(split_idx=split_idx)
        res.fs = self.fs
        return res

    @property
    def is_foreign(self) -> bool:
        """Whether a step runs code that is not of this library."""
        return any(f.is_foreign for f in self.fs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "fs":
            raise AttributeError(name)
        for f in self.fs:
            if snake_case(type(f).__name__) == name:
                return f
        for f in self.fs:
            if hasattr(f, name):
                return getattr(f, name)
        raise AttributeError(f"no step of {self!r} has the attribute '{name}'")

    def __getitem__(self, i: int) -> Transform:
        return self.fs[i]

    def __len__(self) -> int:
        return len(self.fs)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.fs)

    def __repr__(self) -> str:
        return "Pipeline: " + " -> ".join(repr(f) for f in self.fs)


def is_showable(o: Any) -> bool:
    """Whether `o`, or every element of the tuple `o`, has a `show` method."""
    return all(hasattr(element, "show") for element in o) if type(o) is tuple else hasattr(o, "show")


def _note(error: BaseException, text: str) -> None:
    if text not in getattr(error, "__notes__", []):
        error.add_note(text)
