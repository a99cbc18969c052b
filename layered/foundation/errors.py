"""Every error a user can meet: what went wrong, what was got, what was expected, and how to mend it.

Each class also subclasses the built-in exception that people catch, so `except ValueError` keeps working.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class LayeredError(Exception):
    """Base of all errors of the library.

    The four parts are attributes too, so code need not parse the message.

    Args:
        problem: One line: what is wrong, with the names and values at hand.
        got: What came in.
        expected: What would have been right.
        fix: What to type instead.

    Examples:
        >>> print(LayeredError("the 'valid' split is empty", got="0 items", fix="use valid >= 0.025"))
        the 'valid' split is empty
          got      0 items
          fix      use valid >= 0.025
    """

    def __init__(self, problem: str, *, got: object = None, expected: object = None, fix: object = None) -> None:
        self.problem, self.got, self.expected, self.fix = problem, got, expected, fix
        super().__init__(problem)

    def __str__(self) -> str:
        parts = (("got", self.got), ("expected", self.expected), ("fix", self.fix))
        return "\n".join([self.problem, *(f"  {name:<8} {text}" for name, text in parts if text is not None)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, self.got, self.expected, self.fix)


def _rebuild(kind: type[LayeredError], problem: str, got: object, expected: object, fix: object) -> LayeredError:
    return kind(problem, got=got, expected=expected, fix=fix)


def warn(message: str) -> None:
    """Warn of something, at the line of the user's code that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "layered":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


class BadArgument(LayeredError, TypeError):
    """A call with an argument that does not exist or has the wrong type."""


class BadValue(LayeredError, ValueError):
    """An argument of the right type whose value makes no sense here."""


class OutOfRange(BadValue):
    """A number outside its range."""


class UnknownName(LayeredError, KeyError):
    """A name that stands in no registry."""


class NotFoundPath(LayeredError, FileNotFoundError):
    """A file or folder that is not there."""


class MissingDependency(LayeredError, ImportError):
    """An optional package that is needed now and is not installed."""


class EmptySource(LayeredError, ValueError):
    """A source of data without a single item."""


class EmptySplit(LayeredError, ValueError):
    """A splitter produced a split with no items in it."""


class BadItem(LayeredError, RuntimeError):
    """One item could not be made; the message names the stage and the item, the cause is chained."""


class BadImage(BadItem, OSError):
    """An image file that cannot be decoded."""


class MixedSizes(LayeredError, ValueError):
    """Samples of different sizes that cannot be stacked into one batch.

    Attributes:
        rows: The places in the batch of two that differ.
    """

    rows: tuple[int, ...] = ()


class UnknownLabel(LayeredError, KeyError):
    """A label that the vocabulary, fitted on the training items, does not hold."""


class AmbiguousDispatch(LayeredError, TypeError):
    """Two overloads that fit equally well."""


class BadEvent(LayeredError, AttributeError):
    """A callback method or event name that the loop will never fire."""


class CannotTrain(LayeredError, RuntimeError):
    """A fit that cannot start or go on: no loss, no optimizer, no data, or parts that do not fit together."""


class BadFile(LayeredError, ValueError):
    """A file that is truncated, edited or not what its name says."""


class NewerFormat(BadFile):
    """A file written by a newer version of the format than this library reads."""


class UnsafeFile(BadFile):
    """A file that could only be read by running code from it."""


class NotExportable(LayeredError, TypeError):
    """A part of a learner that cannot be written down as data."""


class CannotSave(LayeredError, OSError):
    """A file that could not be written; whatever stood there before still stands."""


class CannotRestore(LayeredError, RuntimeError):
    """A checkpoint that does not restore everything it should."""


class Offline(LayeredError, ConnectionError):
    """The network is needed and is not there, or is switched off by LAYERED_OFFLINE."""


def failed(error: Exception, stage: str) -> LayeredError:
    """`error` as it is told to the user: which stage it stopped, in which step, and why. Ours keep their class.

    Args:
        stage: What was being done, with the item: "making item 3 ('a.png')".
    """
    steps = [note for note in getattr(error, "__notes__", []) if note.startswith("in ")]
    stage = ", ".join([stage, *steps[:1]])
    if isinstance(error, LayeredError):
        return type(error)(f"{error.problem}, when {stage}", got=error.got, expected=error.expected, fix=error.fix)
    return BadItem(
        f"failed {stage}",
        got=f"{type(error).__name__}: {error}",
        fix="run that step on that item by hand; the cause stands above",
    )


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, best first.

    Examples:
        >>> nearest("resnt18", ["resnet18", "resnet34", "vgg16"], 1)
        ['resnet18']
    """
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.5)


def unknown_name(what: str, name: str, names: Iterable[str], *, fix: str | None = None) -> UnknownName:
    """The error for a `name` that is no `what`, with the nearest of `names` (or all of a few) as the fix."""
    known = sorted(names)
    near = nearest(name, known)
    hint = "did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else fix
    return UnknownName(
        f"there is no {what} named '{name}'",
        expected="one of " + ", ".join(known) if len(known) <= 12 else f"one of {len(known)} names",
        fix=hint,
    )


def refuse_unknown(given: Mapping[str, object] | Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keyword arguments that `where` does not know, naming the nearest that it does.

    Raises:
        BadArgument: (a TypeError) for the first unknown name.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = nearest(name, names)
            raise BadArgument(
                f"{where} got an unknown argument '{name}'",
                expected=", ".join(names) or "no keyword arguments",
                fix=f"did you mean '{near[0]}'?" if near else f"remove '{name}'",
            )


class NoSuchAttribute(AttributeError):
    """Names who was asked, and the nearest name that one of them has. That is looked for when the message is read, not when
    `hasattr` only asks.
    """

    def __init__(self, name: str, *owners: Any) -> None:
        super().__init__(name)
        self.missing, self.owners = name, owners

    def __str__(self) -> str:
        kinds = [type(owner).__name__ for owner in self.owners]
        problem = f"neither {kinds[0]} nor its {' nor its '.join(kinds[1:])} has '{self.missing}'"
        near = nearest(self.missing, {name for o in self.owners for name in dir(o) if not name.startswith("_")}, 1)
        return problem + (f"; did you mean '{near[0]}'?" if near else "")


def describe(o: Any) -> str:
    """What `o` is, in a few words: its type, and its shape, size or text.

    Examples:
        >>> describe((1, "a"))
        "(int 1, str 'a')"
    """
    if type(o) in (tuple, list):
        shown = ", ".join(describe(element) for element in o[:4])
        brackets = "()" if type(o) is tuple else "[]"
        return f"{brackets[0]}{shown}{', …' if len(o) > 4 else ''}{brackets[1]}"
    kind = type(o).__name__
    if isinstance(o, np.generic):
        return f"{kind} {o}"
    if hasattr(o, "iloc") and getattr(o, "ndim", None) == 1:
        cells = ", ".join(f"{name}={value!r}" for name, value in o.iloc[:3].to_dict().items())
        return f"row {cells}{', …' if len(o) > 3 else ''}"
    if hasattr(o, "shape"):
        dtype = f" {str(o.dtype).removeprefix('torch.')}" if hasattr(o, "dtype") else ""
        return f"{kind} {'×'.join(map(str, o.shape)) or 'scalar'}{dtype}"
    if hasattr(o, "size") and isinstance(o.size, tuple):
        return f"{kind} {'×'.join(map(str, o.size))}"
    text = repr(o)
    text = text if len(text) <= 60 else f"{text[:20]}…{text[-39:]}"  # of a path, the end says most
    return text if text.startswith(f"{kind}(") else f"{kind} {text}"
