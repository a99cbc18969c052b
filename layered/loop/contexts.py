"""Context managers of the loop: what changes for the length of a `with`, and how a fit ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from layered.foundation import BadValue, CannotTrain, describe, noop
from layered.loop.callback import callbacks_of
from layered.loop.essentials import modes_of, set_modes
from layered.loop.events import CancelBatchException
from layered.loop.listeners import Cbs
from layered.loop.lost import naming_lost
from layered.loop.optimizer_parts import Optimizers
from layered.loop.rollback import Rollback, interrupts_held
from layered.loop.state import FIT_FIELDS, PASS_FIELDS, AbstractLoop
from layered.nn import NoneReduce

L = TypeVar("L", bound=AbstractLoop)


@contextmanager
def added_cbs(loop: L, cbs: Cbs) -> Iterator[L]:
    """With these callbacks too, inside the `with`."""
    added = callbacks_of(cbs)
    try:
        with loop.turns.of_pass():
            loop.callbacks.passing += added
            loop.add_cbs(added)
        yield loop
    finally:
        with interrupts_held(), loop.turns.of_pass(waits=True):
            loop.remove_cbs(added)
            loop.callbacks.passing = [cb for cb in loop.callbacks.passing if not any(cb is one for one in added)]


@contextmanager
def removed_cbs(loop: L, cbs: object) -> Iterator[L]:
    """Without these callbacks (instances or classes) inside the `with`."""
    with loop.turns.of_pass():
        before, removed = list(loop.cbs), loop.callbacks.matching(cbs)
    try:
        with loop.turns.of_pass():
            loop.remove_cbs(removed)
        yield loop
    finally:
        with interrupts_held(), loop.turns.of_pass(waits=True):
            loop.add_cbs(cb for cb in removed if cb not in loop.cbs)
            loop.cbs.sort(key=lambda cb: before.index(cb) if cb in before else len(before))
            loop.callbacks.refresh()


@contextmanager
def no_logging(loop: L) -> Iterator[L]:
    """No line for each epoch inside the `with`."""
    with _set_in_turn(loop, "logger", noop):
        yield loop


@contextmanager
def no_mbar(loop: L) -> Iterator[L]:
    """No bar over the epochs inside the `with`."""
    with _set_in_turn(loop, "create_mbar", False):
        yield loop


@contextmanager
def no_bar(loop: L) -> Iterator[L]:
    """No progress bar inside the `with`; the lines stay."""
    with removed_cbs(loop, [cb for cb in loop.cbs if cb.name == "progress"]):
        yield loop


@contextmanager
def loss_not_reduced(loop: L) -> Iterator[L]:
    """Per-sample losses in place of their mean, inside the `with`.

    Raises:
        BadValue: For a loss without a `reduction`, as attribute or argument.
    """
    with loop.turns.of_pass(), NoneReduce(loop.loss_func) as unreduced, replaced(loop, "loss_func", unreduced):
        yield loop


@contextmanager
def validation_context(loop: L, cbs: Cbs = None, inner: bool = False) -> Iterator[L]:
    """Silent, with `cbs` added, and between the events around an epoch (unless `inner`, or inside a fit).

    Args:
        cbs: Callbacks of this validation only.
        inner: The events around an epoch have fired already.
    """
    with naming_lost(), loop.turns.of_pass(), Rollback(loop):
        is_inside = inner or loop.fitting or loop.entered is not None
        around = set_aside if is_inside else as_epoch
        with no_logging(loop), no_mbar(loop), added_cbs(loop, cbs), around(loop):
            yield loop


def enter(loop: L) -> L:
    """`with learn:` fires before_fit and before_epoch, and at its end after_epoch and after_fit: for passes by hand."""
    if loop.entered is not None:
        raise CannotTrain("`with learn:` does not nest")
    loop.entered = as_epoch(loop)
    try:
        loop.entered.__enter__()
    except BaseException:
        loop.entered = None
        raise
    return loop


def leave(
    loop: AbstractLoop, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
) -> bool | None:
    """The end of `with learn:`, however its body ended."""
    assert loop.entered is not None
    entered, loop.entered = loop.entered, None
    return entered.__exit__(kind, error, traceback)


@contextmanager
def as_epoch(loop: AbstractLoop) -> Iterator[None]:
    """Between the events around an epoch of a fit."""
    with loop.turns.of_pass(), Rollback(loop), guarded(loop):
        loop.emit("before_fit")
        loop.emit("before_epoch")
        yield
        loop.emit("after_epoch")
        loop.emit("after_fit")


@contextmanager
def set_aside(loop: AbstractLoop) -> Iterator[None]:
    """Set aside the pass of a surrounding fit, and restore it afterwards."""
    kept = {name: getattr(loop, name) for name in (*PASS_FIELDS, "loss", "nested", "adds_row")}
    modes = modes_of(loop.model)
    try:
        loop.nested, loop.adds_row = True, False
        yield
    finally:
        vars(loop).update(kept)
        set_modes(modes)
        if loop.training and loop.opt is not None:
            loop.opt.train()


@contextmanager
def one_optimizer(loop: AbstractLoop, name: str) -> Iterator[None]:
    """With one of several optimizers as `loop.opt`: only its parameters get gradients and are stepped.

    A `CancelBatchException` ends its turn, not the batch.

    Raises:
        BadValue: Where the loop has a single optimizer.
    """
    opts = loop.opt
    if not isinstance(opts, Optimizers):
        raise BadValue(
            "there is a single optimizer, which has no name",
            got=f"minimize(loss, '{name}')",
            fix=f"minimize(loss), or opt_func={{'{name}': Adam, …}}",
        )
    try:
        loop.opt = opts[name]
        loop.learning = [p for plist in loop.opt.param_lists for p in plist if p.requires_grad]
        yield
    except CancelBatchException:
        pass
    finally:
        loop.opt, loop.learning = opts, None


@contextmanager
def guarded(loop: AbstractLoop) -> Iterator[None]:
    """However the body ends, `on_end` fires and nothing of the fit is left over; its exception is raised."""
    fatal: BaseException | None = None
    try:
        yield
    except BaseException as error:
        with interrupts_held():
            loop.error = error
            if loop.batch is not None:
                error.add_note(_position(loop))
            if "more than 1 value per channel" in str(error):  # torch's batch norm
                error.add_note("batch norm needs at least two samples: drop_last=True, or a larger bs")
            for name in ("on_error", "on_end"):
                for another in _emit_to_all(loop, name):
                    error.add_note(f"then a callback failed in {name}: {another!r}")
                    # Python shows no notes of a SystemExit, and an exit or interrupt must not become a note.
                    if isinstance(error, SystemExit) or not isinstance(another, Exception):
                        fatal = fatal or another
        if fatal is not None:
            raise fatal from error
        raise
    else:
        with interrupts_held():
            failures = _emit_to_all(loop, "on_end")
        for another in failures:
            raise another
    finally:
        with interrupts_held():
            if loop.fitting and loop.opt is not None:
                loop.opt.zero_grad()
            for cb in (cb for cb in loop.cbs if not cb.run):
                cb.run = True
            for name in FIT_FIELDS:
                vars(loop).pop(name, None)


def _emit_to_all(loop: AbstractLoop, name: str) -> list[BaseException]:
    """Fire an event for every callback, also for those after one that fails; returns the failures."""
    failures: list[BaseException] = []
    for cb, handler, _ in loop.callbacks.handlers[name]:
        if cb.run:
            try:
                handler()
            except BaseException as error:
                failures.append(error)
    return failures


def _position(loop: AbstractLoop) -> str:
    """Where the fit stands: the pass, the batch, and the shapes of the batch."""
    pass_ = f"epoch {loop.epoch}, {'training' if loop.training else 'validation'}"
    return f"in batch {loop.iter} of {pass_}: inputs {describe(loop.xb)}, targets {describe(loop.yb)}"


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Context manager: an attribute has another value inside."""
    old = getattr(owner, name)
    try:
        setattr(owner, name, value)
        yield
    finally:
        setattr(owner, name, old)


@contextmanager
def _set_in_turn(loop: AbstractLoop, name: str, value: object) -> Iterator[None]:
    """`replaced`, but not in the middle of what another thread does with the loop, which restores what it found."""
    with loop.turns.of_pass():
        old = getattr(loop, name)
    try:
        with loop.turns.of_pass():
            setattr(loop, name, value)
        yield
    finally:
        with interrupts_held(), loop.turns.of_pass(waits=True):
            setattr(loop, name, old)


class ShortTraceback:
    """An exception that leaves the `with` shows where the loop was entered and where it was, not the phases in between."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None or traceback is None:
            return
        frames = [traceback]
        while (after := frames[-1].tb_next) is not None and after.tb_frame.f_code.co_filename.startswith(_LOOP_FOLDER):
            frames.append(after)
        shown = [frame for frame in frames if frame.tb_frame.f_code.co_name not in ("within", "emit")] or frames
        for frame in (shown[-1], shown[0]) if len(shown) > 1 else shown:
            after = TracebackType(after, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        error.__traceback__ = after


_LOOP_FOLDER = str(Path(__file__).parent)
