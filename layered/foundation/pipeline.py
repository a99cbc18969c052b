"""Transforms composed: applied in order, undone in reverse order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard

from layered.foundation.errors import describe, notes, unknown_name
from layered.foundation.helpers import listify
from layered.foundation.names import snake_case
from layered.foundation.transform import ItemTransform, Transform, mk_transform


class Showable(Protocol):
    """An object that can be shown, on axes `ctx` or by itself; it returns the axes."""

    def show(self, ctx: Any = None, **kwargs: Any) -> Any: ...


def _has_show(o: object) -> TypeGuard[Showable]:
    return hasattr(o, "show")


class Pipeline:
    """Transforms in the sequence of their `order`; those of equal order stay as given.

    A step is an attribute under the name of its class (`pipeline.resize`); any other attribute is that of the first
    step that has it (`pipeline.vocab`). `pipeline[0]`, `pipeline["resize"]` and `pipeline[Resize]` are steps too.

    Args:
        funcs: Transforms, classes of transforms and functions, alone or in a list; or another pipeline; or None.
        split_idx: The split that it is applied to: 0 training, 1 validation, None both.

    Examples:
        >>> p = Pipeline([lambda x: x + 1, lambda x: 2 * x])
        >>> p(1)
        4
    """

    def __init__(self, funcs: object = None, split_idx: int | None = None) -> None:
        self.split_idx = split_idx
        if isinstance(funcs, Pipeline):
            self.fs: list[Transform] = list(funcs.fs)
        else:
            given = [funcs] if callable(funcs) else listify(funcs)
            self.fs = sorted((mk_transform(f) for f in given), key=lambda f: f.order)

    def __call__(self, o: object) -> Any:
        for i in range(len(self.fs)):
            o = self.step(i, o)
        return o

    def step(self, i: int, o: object) -> Any:
        """Apply step `i` alone; an exception gets a note that names the step and what it was given."""
        try:
            return self.fs[i](o, split_idx=self.split_idx)
        except Exception as error:
            each = "each element of " if isinstance(o, tuple) and not isinstance(self.fs[i], ItemTransform) else ""
            _note(error, f"in step {i + 1} of {len(self.fs)}, {self.fs[i]!r}, given {each}{describe(o)}")
            raise

    def decode(self, o: object, full: bool = True) -> Any:
        """Undo the steps from the last to the first; with `full=False`, only until the result can be shown."""
        for f in reversed(self.fs):
            if not full and is_showable(o):
                break
            o = f.decode(o, split_idx=self.split_idx)
        return o

    def show(self, o: object, ctx: object = None, **kwargs: object) -> Any:
        """Decode `o` until it can be shown, show each element that has a `show` method, and return the axes."""
        o = self.decode(o, full=False)
        for element in o if type(o) is tuple else (o,):
            if _has_show(element):
                ctx = element.show(ctx=ctx, **kwargs)
        return ctx

    def setup(self, items: object = None, train_setup: bool = False) -> None:
        """Fit the steps in order. `items` is a `TfmdLists` of this pipeline: each step sees what those before it make."""
        steps, self.fs = self.fs, []
        for f in steps:
            self.add(f, items, train_setup)

    def add(self, f: Transform, items: object = None, train_setup: bool = False) -> None:
        """Fit one more step to `items` and append it."""
        try:
            f.setup(items, train_setup)
        except Exception as error:
            _note(error, f"in the setup of {f!r}")
            raise
        self.fs.append(f)

    def for_split(self, split_idx: int | None) -> Pipeline:
        """A pipeline of the same steps for another split."""
        res = Pipeline(split_idx=split_idx)
        res.fs = self.fs
        return res

    @property
    def is_foreign(self) -> bool:
        """Whether a step runs code from outside the library."""
        return any(f.is_foreign for f in self.fs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "fs":
            raise AttributeError(name)
        if (found := self._named(name)) is not None:
            return found
        for f in self.fs:
            if hasattr(f, name):
                return getattr(f, name)
        raise AttributeError(f"no step of {self!r} has an attribute '{name}'")

    def _named(self, name: str) -> Transform | None:
        return next((f for f in self.fs if snake_case(type(f).__name__) == name), None)

    def __getitem__(self, step: int | str | type[Transform]) -> Transform:
        if not isinstance(step, (str, type)):
            return self.fs[step]
        found = self._named(step) if isinstance(step, str) else next((f for f in self.fs if isinstance(f, step)), None)
        if found is None:
            name = step if isinstance(step, str) else snake_case(step.__name__)
            raise unknown_name("step", name, [snake_case(type(f).__name__) for f in self.fs])
        return found

    def __len__(self) -> int:
        return len(self.fs)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.fs)

    def __repr__(self) -> str:
        return "Pipeline: " + " -> ".join(repr(f) for f in self.fs)


def is_showable(o: object) -> bool:
    """Whether an object, or every element of a tuple, has a `show` method.

    Args:
        o: Anything.
    """
    return all(map(_has_show, o)) if type(o) is tuple else _has_show(o)


def _note(error: BaseException, text: str) -> None:
    if text not in notes(error):  # a pipeline inside a pipeline has noted it already
        error.add_note(text)
