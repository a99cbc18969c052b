"""Where the time and the memory of a training step go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from layered.callback import put_back
from layered.foundation import (
    BadValue,
    CannotTrain,
    checked,
    find_device,
    lazy,
    noop,
    short_bytes,
    tensors_of,
    text_table,
)
from layered.loop import Callback, CancelFitException, Checkpoint, Loop, Optimizers, iter_once, length_of

plt: Any = lazy("matplotlib.pyplot")

STAGES = ("data", "transfer", "forward", "loss", "backward", "step", "callbacks", "loop")
ENDS_WITH = {  # the event that ends a stage
    "before_batch": "transfer",
    "after_pred": "forward",
    "after_loss": "loss",
    "after_backward": "backward",
    "after_step": "step",
    "after_batch": "step",
}


@dataclass
class Profile:
    """What `profile` measured; prints as a table.

    Args:
        seconds: Of each stage, for one batch on average.
        memory: Bytes of parameters, buffers, gradients, the optimizer's state, a batch, the activations that the
            backward pass needs, and on a GPU the peak of all.
        batches: How many were measured.
    """

    seconds: dict[str, float]
    memory: dict[str, int]
    batches: int
    listeners: dict[str, float] = field(default_factory=dict)  # seconds a batch in the callbacks of each event

    @property
    def total(self) -> float:
        """Seconds a batch."""
        return sum(self.seconds.values())

    def share(self, stage: str) -> float:
        """What part of a batch's time goes to `stage`, in [0, 1]."""
        return self.seconds[stage] / self.total

    def __str__(self) -> str:
        rows = [(stage, f"{t * 1e3:.3f}", f"{100 * self.share(stage):.1f} %") for stage, t in self.seconds.items()]
        slow = {name: t for name, t in self.listeners.items() if t > 0.05 * self.seconds["callbacks"]}
        after = list(self.seconds).index("callbacks") + 1
        rows[after:after] = [
            (f"  {name}", f"{t * 1e3:.3f}", f"{100 * t / self.total:.1f} %") for name, t in slow.items()
        ]
        rows.append(("total", f"{self.total * 1e3:.3f}", f"{self.batches} batches"))
        sizes = [(what, short_bytes(size)) for what, size in self.memory.items()]
        times = text_table(("stage", "ms a batch", "share"), rows)
        return "\n".join([*times, "", *text_table(("memory", "size"), sizes)])

    __repr__ = __str__

    def plot(self, ax: Any = None) -> Any:
        """Draw the stages as bars; returns the axes."""
        ax = plt.subplots(figsize=(7, 3))[1] if ax is None else ax
        stages = list(self.seconds)[::-1]
        bars = ax.barh(stages, [self.seconds[s] * 1e3 for s in stages])
        ax.bar_label(bars, [f"{100 * self.share(s):.0f} %" for s in stages], padding=3)
        ax.set_xlabel("milliseconds a batch")
        ax.margins(x=0.12)
        return ax


@checked
def profile(learn: Loop, n_batches: int = 20, warm_up: int = 3) -> Profile:
    """Measure where the time and the memory of a training step go, in a mock fit; afterwards everything is as it was.

    "data" is the wait for the loader (the transforms of a batch included), "transfer" the way to the device, "step" the
    optimizer and clearing the gradients, "loop" what is left. On a GPU each stage is waited for, so that its time is its own.

    Args:
        n_batches: How many batches are measured, as far as an epoch has so many.
        warm_up: How many come before, unmeasured.

    Returns:
        A `Profile`: print it, or plot it.

    Examples:
        >>> from layered.testing.tiny import synth_learner
        >>> profile(synth_learner(), n_batches=4).batches
        4
    """
    if n_batches < 1 or warm_up < 0:
        raise BadValue("profile wants batches to measure", got=f"n_batches={n_batches}, warm_up={warm_up}")
    if iter_once(learn.dls.train):
        raise CannotTrain("profile would use up a generator", fix="train on a list or a DataLoader")
    available = length_of(learn.dls.train) or warm_up + n_batches
    clock = _Clock(learn, n_batches, min(warm_up, available - 1))
    with mock_fit(learn, clock), clock.watching():
        learn.fit(1)
    return clock.result()


@contextmanager
def mock_fit(learn: Loop, *cbs: Callback) -> Iterator[None]:
    """A fit inside is silent, has these callbacks too, and leaves nothing changed behind."""
    with ExitStack() as stack:
        for context in (put_back(learn), learn.no_logging(), learn.no_mbar(), learn.no_bar()):
            stack.enter_context(context)
        stack.enter_context(learn.removed_cbs(Checkpoint))
        stack.enter_context(learn.added_cbs(cbs))
        yield


class _Clock(Callback):
    """Reads the time between the stages of each batch, and the sizes of what is in memory."""

    order = 1000

    def __init__(self, learn: Loop, n_batches: int, warm_up: int) -> None:
        super().__init__()
        self.n_batches, self.warm_up = n_batches, warm_up
        self.seconds, self.listeners = dict.fromkeys(STAGES, 0.0), defaultdict[str, float](float)
        self.memory: dict[str, int] = {}
        self.measured = 0
        self.saved: dict[int, int] = {}  # bytes of what the backward pass needs, by address
        device = find_device(list(learn.model.parameters()))
        self.on_gpu = device is not None and device.type == "cuda"
        self.wait: Callable[[], Any] = torch.cuda.synchronize if self.on_gpu else noop
        self.last = perf_counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the context lasts, the learner's batches and events are timed."""
        learn: Any = self.learn
        emit, one_batch = learn.emit, learn.one_batch

        def timed_emit(name: str) -> None:
            self.mark(ENDS_WITH.get(name, "loop"))
            emit(name)
            self.listeners[name] += self.mark("callbacks")

        def timed_batch(i: int, b: Any) -> None:
            self.mark("data")
            one_batch(i, b)
            self.mark("loop")

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        learn.emit, learn.one_batch = timed_emit, timed_batch
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.note_saved, lambda kept: kept):
                yield
        finally:
            del learn.emit, learn.one_batch

    def note_saved(self, tensor: Tensor) -> Tensor:
        """Count what autograd keeps of the first batch."""
        if not self.memory:
            storage = tensor.untyped_storage()
            self.saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def mark(self, stage: str) -> float:
        """The time since the last mark belongs to `stage`."""
        self.wait()
        now = perf_counter()
        spent = now - self.last
        self.seconds[stage] += spent
        self.last = perf_counter()
        return spent

    def after_step(self) -> None:
        if not self.memory:
            params = list(self.model.parameters())
            opts = self.opt.opts.values() if isinstance(self.opt, Optimizers) else [self.opt]
            known = {t.untyped_storage().data_ptr() for t in (*params, *tensors_of(self.batch))}
            self.memory = {
                "parameters": _bytes(params),
                "buffers": _bytes(self.model.buffers()),
                "gradients": _bytes(p.grad for p in params if p.grad is not None),
                "optimizer state": _bytes(t for opt in opts for state in opt.state.values() for t in tensors_of(state)),
                "batch": _bytes(tensors_of(self.batch)),
                "activations": sum(size for address, size in self.saved.items() if address not in known),
            }

    def after_batch(self) -> None:
        if not self.training:
            return
        self.measured = self.train_iter - self.warm_up
        if self.measured == 0:
            self.seconds, self.listeners = dict.fromkeys(STAGES, 0.0), defaultdict(float)
        if self.measured == self.n_batches:
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelFitException

    def result(self) -> Profile:
        """What was seen, for one batch."""
        count = self.measured
        if self.on_gpu:
            self.memory["peak"] = torch.cuda.max_memory_allocated()
        slowest_first = sorted(self.listeners.items(), key=lambda item: -item[1])
        listeners = {name: spent / count for name, spent in slowest_first}
        return Profile({s: t / count for s, t in self.seconds.items()}, self.memory, self.measured, listeners)


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
