"""The errors of the library, and what words their messages: the problem, what was given, what was expected, how to fix it.

Each class also subclasses the built-in exception that people catch, so `except ValueError` keeps working.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from layered.foundation.types import is_frame
from layered.foundation.visible import visible


class LayeredError(Exception):
    """Base of all errors of the library.

    The four parts are attributes too, so that code need not parse the message.

    Args:
        problem: One line: what is wrong, with the names and values involved.
        got: What was given.
        expected: What would have been accepted.
        fix: What to type instead.

    Examples:
        >>> print(LayeredError("the 'valid' split is empty", got="0 items", fix="use valid >= 0.025"))
        the 'valid' split is empty
          got      0 items
          fix      use valid >= 0.025
    """

    def __init__(self, problem: str, *, got: object = None, expected: object = None, fix: object = None) -> None:
        self.problem, self.got, self.expected, self.fix = visible(problem), got, expected, fix
        super().__init__(self.problem)

    def __str__(self) -> str:
        parts = (("got", self.got), ("expected", self.expected), ("fix", self.fix))
        return "\n".join(
            [self.problem, *(f"  {name:<8} {visible(str(part))}" for name, part in parts if part is not None)]
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, self.got, self.expected, self.fix)


def _rebuild(kind: type[LayeredError], problem: str, got: object, expected: object, fix: object) -> LayeredError:
    return kind(problem, got=got, expected=expected, fix=fix)


class BadArgument(LayeredError, TypeError):
    """An argument that does not exist or has the wrong type.

    Fix: the message has the nearest name, or the type that is expected; `help(function)` lists the arguments.
    """


class BadValue(LayeredError, ValueError):
    """An argument of the right type with an invalid value.

    Fix: `expected` says which values are valid.
    """


class OutOfRange(BadValue):
    """A number outside its range.

    Fix: `expected` has the bounds.
    """


class UnknownName(LayeredError, KeyError):
    """A name that is not registered.

    Fix: the message has the nearest names: of columns, metrics, architectures, checks, data sets, ….
    """


class NotFoundPath(LayeredError, FileNotFoundError):
    """A file or folder that does not exist.

    Fix: check the path; relative ones start at the working directory.
    """


class MissingDependency(LayeredError, ImportError):
    """An optional package that is needed and not installed.

    Fix: the message has the line that installs it, such as `pip install 'layered-learn[text]'`.
    """


class EmptySource(LayeredError, ValueError):
    """A data source without any items.

    Fix: check the folder and its extensions, or the table: the message says what was found instead.
    """


class EmptySplit(LayeredError, ValueError):
    """A splitter produced a split without any items.

    Fix: hold out a larger share, check the names of the folders, or say that nothing is to be held out (`valid_pct=0`).
    """


class BadItem(LayeredError, RuntimeError):
    """An item that could not be processed; the message names the stage and the item, and the cause is chained.

    Fix: run the step that is named on the item that is named, or leave such items out with `on_bad="skip"`.
    """


class WorkerFailed(LayeredError, RuntimeError):
    """A worker process of a loader that died or did not answer in time.

    Fix: try the items that are named with `num_workers=0`; a worker that was killed has often run out of memory.
    """


class BadImage(BadItem, OSError):
    """An image file that cannot be decoded.

    Fix: replace or delete the file, or leave such files out with `on_bad="skip"`; `verify_images` finds all of them.
    """


class MixedSizes(LayeredError, ValueError):
    """Samples of different sizes that cannot be stacked into one batch.

    Fix: bring them to one size, as `item_tfms=Resize(224)` does, or pad them.

    Attributes:
        rows: The places in the batch of two that differ.
    """

    rows: tuple[int, ...] = ()


class UnknownLabel(LayeredError, KeyError):
    """A label that is missing from the vocabulary, which is fitted on the training items.

    Fix: have each label among the training items (another seed, `stratify=`), or give the whole vocabulary:
    `CategoryBlock(vocab=[…])`.
    """


class AmbiguousDispatch(LayeredError, TypeError):
    """Two overloads that match a type equally well.

    Fix: write one for the type itself.
    """


class BadEvent(LayeredError, AttributeError):
    """A callback method or event that the loop never fires.

    Fix: the message has the nearest event; an event of your own is declared by `declare_event`.
    """


class CannotTrain(LayeredError, RuntimeError):
    """A fit that cannot start or continue: no loss, no optimizer, no data, or parts that do not match.

    Fix: the message says which part is missing, and how it is given. The learner is as it was, and may be tried again.
    """


class BadFile(LayeredError, ValueError):
    """A file that is truncated, altered or of another kind than its name says.

    Fix: copy or download it again. Nothing of it was used.
    """


class NewerFormat(BadFile):
    """A file in a newer version of the format than this library reads.

    Fix: `pip install -U layered-learn`, or update the package that wrote it.
    """


class UnsafeFile(BadFile):
    """A file that could only be read by running code from it, or an archive that would write outside its folder.

    Fix: where it was made, save its tensors alone; the message has the line. `load_pickle(file,
    trust=True)` runs the code of a pickle whose maker you trust.
    """


class NotExportable(LayeredError, TypeError):
    """A part of a learner that cannot be stored as data.

    Fix: give a lambda or a function of your own a name with `exportable`, and define it in every program that opens the file.
    """


class CannotSave(LayeredError, OSError):
    """A file that could not be written; the previous one, if any, is intact.

    Fix: free space, or choose a folder that may be written to.
    """


class CannotRestore(LayeredError, RuntimeError):
    """A checkpoint or weights file that does not restore everything it should.

    Fix: call `fit` as before, or say what may differ: `resume=Resume("auto", allow=[…])`, with the words of the
    message. Nothing has changed.
    """


class Offline(LayeredError, ConnectionError):
    """The network is needed, but is unavailable or switched off by LAYERED_OFFLINE.

    Fix: unset it, call again to resume a download, or put the file where the message says.
    """


class NoSuchAttribute(AttributeError):
    """An attribute that neither an object nor what it passes lookups on to has; the message suggests the nearest name.

    The name is searched for when the message is read: `hasattr` raises this error too, and must stay cheap.

    Args:
        name: The attribute that was asked for.
        owners: The object that was asked, then those it passes lookups on to.
    """

    def __init__(self, name: str, *owners: object) -> None:
        super().__init__(name)
        self.missing, self.owners = name, owners

    def __str__(self) -> str:
        kinds = [type(owner).__name__ for owner in self.owners]
        problem = f"neither {kinds[0]} nor its {' nor its '.join(kinds[1:])} has '{self.missing}'"
        near = nearest(self.missing, {name for o in self.owners for name in dir(o) if not name.startswith("_")}, 1)
        return problem + (f"; did you mean '{near[0]}'?" if near else "")


def warn(message: str) -> None:
    """Warn at the line of the user's code that led here, however deep in the library that is noticed.

    Args:
        message: What to warn of.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "layered":
        level, frame = level + 1, frame.f_back
    warnings.warn(visible(message), stacklevel=level)


def failed(error: Exception, stage: str) -> LayeredError:
    """The error to show for one that stopped a stage: it names the stage and, from the notes of `error`, the step.

    Args:
        error: What was raised. A `LayeredError` keeps its class; anything else becomes a `BadItem`.
        stage: What was being done to which item: "making item 3 ('a.png')".
    """
    steps = [note for note in notes(error) if note.startswith("in ")]
    stage = ", ".join([stage, *steps[:1]])
    if isinstance(error, LayeredError):
        return type(error)(f"{error.problem}, when {stage}", got=error.got, expected=error.expected, fix=error.fix)
    return BadItem(
        f"failed {stage}",
        got=in_words(error),
        fix="run that step on that item by hand; the cause is shown above",
    )


def in_words(error: BaseException) -> str:
    """The class and the text of an exception, also of one whose text cannot be made.

    Args:
        error: Any exception.

    Examples:
        >>> in_words(ValueError("too long"))
        'ValueError: too long'
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def notes(error: BaseException) -> list[str]:
    """What was added to an exception with `add_note`; before the first note it lacks the attribute.

    Args:
        error: Any exception.
    """
    found: list[str] = getattr(error, "__notes__", [])
    return found


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most similar to `name`, best first; those that differ too much are left out.

    Args:
        name: What was typed.
        names: What exists.
        count: The most names to return.

    Examples:
        >>> nearest("resnt18", ["resnet18", "resnet34", "vgg16"], 1)
        ['resnet18']
    """
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.5)


def unknown_name(what: str, name: str, names: Iterable[str], *, fix: str | None = None) -> UnknownName:
    """The error for a name that does not exist, suggesting the nearest ones that do.

    Args:
        what: What is looked up, for the message: "transform".
        name: The name that was asked for.
        names: Those that exist; up to twelve are listed.
        fix: What to do if none is similar.
    """
    known = sorted(names)
    near = nearest(name, known)
    hint = "did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else fix
    return UnknownName(
        f"there is no {what} named '{name}'",
        expected="one of " + ", ".join(known) if len(known) <= 12 else f"one of {len(known)} names",
        fix=hint,
    )


def refuse_unknown(given: Mapping[str, object] | Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keyword arguments that a function does not have, suggesting the nearest that it has.

    Args:
        given: The keywords of the call.
        known: The keywords that exist.
        where: What was called, for the message: "Learner".

    Raises:
        BadArgument: A keyword is unknown; it is also a TypeError.
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


def describe(o: object) -> str:
    """An object in a few words, for messages: its type, and its shape, size or text.

    Args:
        o: Anything; the first four elements of a tuple or list are described in turn.

    Examples:
        >>> describe((1, "a"))
        "(int 1, str 'a')"
    """
    if type(o) is tuple or type(o) is list:
        shown = ", ".join(describe(element) for element in o[:4])
        brackets = "()" if type(o) is tuple else "[]"
        return f"{brackets[0]}{shown}{', …' if len(o) > 4 else ''}{brackets[1]}"
    kind = type(o).__name__
    if isinstance(o, np.generic):
        return f"{kind} {o}"
    if is_frame(o) and getattr(o, "ndim", None) == 1:
        cells = ", ".join(f"{name}={value!r}" for name, value in o.iloc[:3].to_dict().items())
        return f"row {cells}{', …' if len(o) > 3 else ''}"
    if hasattr(o, "shape"):
        dtype = f" {str(o.dtype).removeprefix('torch.')}" if hasattr(o, "dtype") else ""
        return f"{kind} {'×'.join(map(str, o.shape)) or 'scalar'}{dtype}"
    if hasattr(o, "size") and isinstance(o.size, tuple):
        return f"{kind} {'×'.join(map(str, o.size))}"
    text = repr(o)
    text = text if len(text) <= 60 else f"{text[:20]}…{text[-39:]}"  # the end of a path says most
    return text if text.startswith(f"{kind}(") else f"{kind} {text}"
