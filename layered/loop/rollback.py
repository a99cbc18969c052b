"""What puts a loop back as it was when a fit or a pass fails, and what lets it finish doing so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from layered.loop.essentials import modes_of, set_modes
from layered.loop.optimizer_parts import Optimizers
from layered.loop.state import FIT_FIELDS, AbstractLoop
from layered.optim import GroupedOptimizer

_FIELDS = (*FIT_FIELDS, "create_mbar", "fit_ordinal", "logger", "loss_func", "nested", "peeking")


class Rollback:
    """Context manager: a fit or a pass that fails leaves its loop as it was, wherever the exception struck.

    That is its callbacks, its fields, the modes of the model and of the optimizer, the reduction of the loss, and whether
    gradients are recorded. What was learned, and what callbacks counted, stays.

    Args:
        loop: The loop to put back.
    """

    def __init__(self, loop: AbstractLoop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        loop = self.loop
        self.fields = {name: vars(loop)[name] for name in _FIELDS if name in vars(loop)}
        self.cbs = [(cb, cb.run) for cb in loop.callbacks]
        self.modes = modes_of(loop.model)
        self.reduction = getattr(loop.loss_func, "reduction", None)
        self.records_gradients = torch.is_grad_enabled()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            return
        with interrupts_held():
            loop = self.loop
            for name in _FIELDS:
                vars(loop).pop(name, None)
            vars(loop).update(self.fields)
            loop.callbacks.restore([cb for cb, _ in self.cbs])
            for cb, run in self.cbs:
                if cb.run != run:
                    cb.run = run
            set_modes(self.modes)
            if self.reduction is not None:
                loop.loss_func.reduction = self.reduction  # type: ignore[union-attr]  # it had one before
            torch.set_grad_enabled(self.records_gradients)
            if isinstance(loop.opt, (GroupedOptimizer, Optimizers)) and not loop.fitting:
                loop.opt.eval()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Inside the `with` Ctrl-C waits, so that nothing is left half put right; a second one does not wait."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    waiting: list[tuple[int, object]] = []

    def hold(number: int, frame: object) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append((number, frame))

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for number, frame in waiting:
            before(number, frame)  # type: ignore[arg-type]  # the frame that Python gave
