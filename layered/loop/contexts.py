"""What a `with` changes about a loop for a while, and how a fit ends."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from layered.foundation import BadValue, CannotTrain, describe, names_of, noop
from layered.loop.callback import callbacks_of
from layered.loop.essentials import modes_of, set_modes
from layered.loop.listeners import Listeners
from layered.loop.state import PASS_FIELDS


class Contexts(Listeners):
    """The `with` blocks of a loop."""

    _entered: Any = None  # the block of `with learn:`, while inside

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
    def loss_not_reduced(self) -> Iterator[Self]:
        """The loss of every item in place of their mean, inside the `with`.

        Raises:
            BadValue: For a loss without a `reduction`, as attribute or argument.
        """
        loss_func = self.loss_func
        if hasattr(loss_func, "reduction"):
            with _replaced(loss_func, "reduction", "none"):
                yield self
        elif inspect.isroutine(loss_func) and "reduction" in names_of(loss_func):  # such as F.cross_entropy
            with _replaced(self, "loss_func", partial(loss_func, reduction="none")):
                yield self
        else:
            raise BadValue(
                "this loss cannot be taken item by item", got=repr(loss_func), fix="a loss with a `reduction`"
            )

    def __enter__(self) -> Self:
        """`with learn:` fires before_fit and before_epoch, and at its end after_epoch and after_fit: for passes by hand."""
        if self._entered is not None:
            raise CannotTrain("`with learn:` does not nest")
        self._entered = self._as_epoch()
        try:
            self._entered.__enter__()
        except BaseException:
            self._entered = None
            raise
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        entered, self._entered = self._entered, None
        return entered.__exit__(kind, error, traceback)

    @contextmanager
    def validation_context(self, cbs: Any = None, inner: bool = False) -> Iterator[Self]:
        """Silent, with `cbs` added, and between the events around an epoch (unless `inner`, or inside a fit)."""
        with self.no_logging(), self.no_mbar(), self.added_cbs(cbs):
            if inner or self.fitting or self._entered is not None:
                with self._set_aside():
                    yield self
            else:
                with self._as_epoch():
                    yield self

    @contextmanager
    def _as_epoch(self) -> Iterator[None]:
        with self._guarded():
            self.emit("before_fit")
            self.emit("before_epoch")
            yield
            self.emit("after_epoch")
            self.emit("after_fit")

    @contextmanager
    def _set_aside(self) -> Iterator[None]:
        """What the fit around is doing is put aside, and back afterwards."""
        kept = {name: getattr(self, name) for name in (*PASS_FIELDS, "loss", "nested")}
        modes = modes_of(self.model)
        self.nested = True
        try:
            yield
        finally:
            vars(self).update(kept)
            set_modes(modes)
            if self.training and self.opt is not None:
                self.opt.train()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A fit that counts among those of this loop if it comes to its end: one that fails can be called again, to go on."""
        self.fit_ordinal += 1
        try:
            yield
        except BaseException:
            self.fit_ordinal -= 1
            raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """However the body ends, `on_end` is heard and nothing of the fit is left over; its exception is raised."""
        grave: BaseException | None = None
        try:
            yield
        except BaseException as error:
            self.error = error
            if self.batch is not None:
                error.add_note(self._place())
            for name in ("on_error", "on_end"):
                for another in self._emit_to_all(name):
                    error.add_note(f"then a callback failed in {name}: {another!r}")
                    if isinstance(error, SystemExit) or not isinstance(another, Exception):  # notes are not shown then
                        grave = grave or another
            if grave is not None:
                raise grave from error
            raise
        else:
            for another in self._emit_to_all("on_end"):
                raise another
        finally:
            if self.fitting and self.opt is not None:
                self.opt.zero_grad()
            for cb in (cb for cb in self.cbs if not cb.run):
                cb.run = True
            for name in (*PASS_FIELDS, "error", "fitting", "epoch_length", "_saved"):
                self.__dict__.pop(name, None)

    def _emit_to_all(self, name: str) -> list[BaseException]:
        """Tell every callback of an event, also those after one that fails; returns what failed."""
        failures: list[BaseException] = []
        for cb, handler, _ in self._heard[name]:
            if cb.run:
                try:
                    handler()
                except BaseException as error:
                    failures.append(error)
        return failures

    def _place(self) -> str:
        """Where in the fit things stand: the pass, the batch, and what the batch is."""
        what = f"epoch {self.epoch}, {'training' if self.training else 'validation'}"
        return f"in batch {self.iter} of {what}: inputs {describe(self.xb)}, targets {describe(self.yb)}"


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


class ShortTraceback:
    """An exception that leaves the `with` shows where the loop was entered and where it was, not the phases in between."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None or traceback is None:
            return
        frames = [traceback]
        while (after := frames[-1].tb_next) is not None and after.tb_frame.f_code.co_filename.startswith(_LOOP_FOLDER):
            frames.append(after)
        told = [frame for frame in frames if frame.tb_frame.f_code.co_name not in ("within", "emit")] or frames
        for frame in (told[-1], told[0]) if len(told) > 1 else told:
            after = TracebackType(after, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        error.__traceback__ = after


_LOOP_FOLDER = str(Path(__file__).parent)
