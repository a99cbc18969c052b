"""Ctrl-C, or another exception, at a line of the library; and all that a verb of the learner changes and must put back."""

import builtins
import dis
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from layered.basics import Callback
from layered.data.deferral import deferral
from layered.foundation import seeds


def state_of(learn: Any) -> dict[str, Any]:
    """All that a fit or a pass changes and puts back."""
    modules = list(learn.model.modules())
    return {
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "precision": (torch.is_autocast_enabled("cpu"), _autocast_depth(), torch.get_default_dtype(), torch.get_num_threads()),
        "callbacks": [(id(cb), cb.run) for cb in learn.cbs],
        "attributes": sorted(name for name, value in vars(learn).items() if isinstance(value, Callback)),
        "loss": (id(learn.loss_func), getattr(learn.loss_func, "reduction", None)),
        "fields": (learn.fitting, learn.nested, learn.peeking, learn.entered, learn.logger, learn.create_mbar),
        "pass": (learn.batch, learn.pred, learn.training, learn.error, learn.epoch_length),
        "turn": (learn.turns.owner, learn.turns.depth, learn.turns.fits, learn.turns.guests),
        "place": str(learn.path),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "modes": [module.training for module in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        "forwards": ["forward" in vars(module) for module in modules],
        "parameters": [(id(p), p.requires_grad, p.dtype, len(p._backward_hooks or ())) for p in learn.model.parameters()],
        "no gradients": all(p.grad is None or not p.grad.any() for p in learn.model.parameters()),
        "context": (seeds._current.get(), deferral()),
        "handlers": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
        "imports": (builtins.__import__, list(sys.meta_path)),
        "warnings": (warnings.showwarning, len(warnings.filters)),
        "streams": (sys.stdout, sys.stderr),
        "open files": sorted(file for file in map(_target, os.listdir("/proc/self/fd")) if str(learn.path) in file),
        "unfinished files": sorted(p.name for p in learn.path.rglob("*") if p.name.endswith(".tmp") or "lock" in p.name),
    }  # fmt: skip


@contextmanager
def process_kept() -> Iterator[None]:
    """What a verb changes in the process and not in its learner is put back, also where what should do so was struck.

    Context variables are not: run the verb in a context of its own.
    """
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    anomaly, autocast, depth = torch.is_anomaly_enabled(), torch.is_autocast_enabled("cpu"), _autocast_depth()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    imports, finders, streams = builtins.__import__, list(sys.meta_path), (sys.stdout, sys.stderr)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        builtins.__import__, sys.meta_path[:] = imports, finders
        sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if torch.is_inference_mode_enabled() != inference:
            torch.inference_mode(inference).__enter__()
        torch.set_grad_enabled(gradients)
        torch.set_anomaly_enabled(anomaly)
        torch.set_autocast_enabled("cpu", autocast)
        while _autocast_depth() > depth:
            torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def _autocast_depth() -> int:
    """How many contexts of autocast are open: as long as one is, its copies of the weights are kept."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _target(handle: str) -> str:
    """The file of a handle of this process; none for a folder, which is opened to be synced."""
    try:
        file = os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""
    return "" if os.path.isdir(file) else file


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


class Struck(MemoryError):
    """An exception that can come from any line."""


def fail() -> None:
    raise Struck


class Blow:
    """What happened when a verb was struck: how many lines ran, where it was struck, how it ended."""

    def __init__(self) -> None:
        self.lines, self.place, self.ended = 0, "", ""
        self.is_cleanup = False  # it was while something was being put back
        self.places: dict[tuple[str, int], list[int]] = {}  # the numbers of the lines that ran, by file and line


def _lets_through(frame: Any) -> bool:
    """Whether Python could let a signal arrive where a frame is: not between a `with`, or a `try:`, and its body or its exit.

    Signals arrive at calls and at jumps back, so none comes at a `NOP`, which is all that `try:` compiles to and which no
    `finally` covers, nor where the `__exit__` of a `with` is about to be called, with an error or with three times None.
    """
    codes = [i for i in dis.get_instructions(frame.f_code) if i.offset >= frame.f_lasti]
    due = [i for i in codes if i.opname not in ("CACHE", "SWAP")][:3]
    names = [i.opname for i in due]
    leaves_well = all(i.opname == "LOAD_CONST" and i.argval is None for i in due)
    return names[0] != "NOP" and names[:2] != ["PUSH_EXC_INFO", "WITH_EXCEPT_START"] and not leaves_well


def struck(verb: Callable[[], object], at: int, where: str = "/layered/", how: Callable[[], None] = interrupt) -> Blow:
    """Run `verb`; it is struck at line number `at` of those of the files `where`, or not at all.

    Args:
        verb: What is run.
        at: The number of the line, from 1; 0 for none, -1 for none and to note the places of all. Where Python lets nothing
            arrive, it is the next one.
        where: A part of the names of the files whose lines count.
        how: What happens at that line.
    """
    blow = Blow()

    def in_frame(frame: Any, event: str, arg: object) -> Any:
        if event == "line":
            blow.lines += 1
            if at < 0:
                blow.places.setdefault((frame.f_code.co_filename, frame.f_lineno), []).append(blow.lines)
            if 0 < at <= blow.lines and _lets_through(frame):
                blow.place = f"{frame.f_code.co_filename.rpartition('/layered/')[2]}:{frame.f_lineno}"
                sys.settrace(None)
                stack = traceback.extract_stack(frame)
                blow.is_cleanup = any("rollback.py" in at.filename or at.name == "__exit__" for at in stack)
                how()
        return in_frame

    def watch(frame: Any, event: str, arg: object) -> Any:
        return in_frame if where in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        verb()
    except (KeyboardInterrupt, Exception) as error:
        blow.ended = f"{type(error).__name__}: {error}"
    finally:
        sys.settrace(before)
    return blow
