"""Where the time and the memory of a training step go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layered.callback import restores_learner
from layered.foundation import (
    BadValue,
    CannotTrain,
    Report,
    Table,
    checked,
    find_device,
    lazy,
    local_part,
    short_bytes,
    tensors_of,
)
from layered.loop import Callback, CancelFitException, Checkpoint, Loop, Optimizers, iter_once, length_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

plt = lazy("matplotlib.pyplot")

STAGES = ("data", "transfer", "forward", "loss", "backward", "step", "callbacks", "loop")
ENDS_WITH = {  # the event that ends a stage
    "before_batch": "transfer",
    "after_pred": "forward",
    "after_loss": "loss",
    "after_backward": "backward",
    "after_step": "step",
    "after_batch": "step",
}


@dataclass(repr=False)
class Profile(Report):
    """What `profile` measured: one table of times and one of memory. `to_frame()` has the times.

    Args:
        seconds: Mean seconds per batch of each stage.
        memory: Bytes of the parameters, buffers, gradients, optimizer state, one batch, and activations kept for the backward
            pass; on a GPU also the peak of everything allocated.
        batches: Number of batches measured.
        listeners: Mean seconds per batch spent in the callbacks of each event.
    """

    seconds: dict[str, float]
    memory: dict[str, int]
    batches: int
    listeners: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Mean seconds per batch."""
        return sum(self.seconds.values())

    def share(self, stage: str) -> float:
        """The fraction of a batch's time that a stage takes, in [0, 1].

        Args:
            stage: One of `STAGES`.
        """
        return self.seconds[stage] / self.total

    def records(self) -> list[dict[str, Any]]:
        return [{"stage": stage, "seconds": t, "share": self.share(stage)} for stage, t in self.seconds.items()]

    def tables(self) -> Sequence[Table]:
        def row(name: str, seconds: float) -> tuple[str, str, str]:
            return name, f"{seconds * 1e3:.3f}", f"{100 * seconds / self.total:.1f} %"

        rows = [row(stage, seconds) for stage, seconds in self.seconds.items()]
        slow = {name: t for name, t in self.listeners.items() if t > 0.05 * self.seconds["callbacks"]}
        after = list(self.seconds).index("callbacks") + 1
        rows[after:after] = [row(f"  {name}", seconds) for name, seconds in slow.items()]
        rows.append(("total", f"{self.total * 1e3:.3f}", f"{self.batches} batches"))
        sizes = [(part, short_bytes(size)) for part, size in self.memory.items()]
        return [(("stage", "ms a batch", "share"), rows), (("memory", "size"), sizes)]

    def plot(self, ax: Axes | None = None) -> None:
        """Draw the stages as bars.

        Args:
            ax: Where to draw; by default a new figure.
        """
        ax = plt.subplots(figsize=(7, 3))[1] if ax is None else ax
        stages = list(self.seconds)[::-1]
        bars = ax.barh(stages, [self.seconds[s] * 1e3 for s in stages])
        ax.bar_label(bars, [f"{100 * self.share(s):.0f} %" for s in stages], padding=3)
        ax.set_xlabel("milliseconds a batch")
        ax.margins(x=0.12)


@checked
def profile(learn: Loop, n_batches: int = 20, warm_up: int = 3) -> Profile:
    """Measure where the time and the memory of training go, in a mock fit after which everything is as it was.

    "data" is waiting for the loader (batch transforms included), "transfer" moving the batch to the device, "step" the
    optimizer and clearing gradients, "loop" the rest. On a GPU, the clock waits for each stage to finish.

    Args:
        learn: The learner to measure.
        n_batches: Number of batches to measure; fewer if an epoch is shorter.
        warm_up: Number of batches to run first, unmeasured.

    Returns:
        A `Profile`: print it, or plot it.

    Raises:
        BadValue: If there is nothing to measure.
        CannotTrain: If the training data are a generator, which measuring would use up.

    Examples:
        >>> from layered.testing.tiny import synth_learner
        >>> profile(synth_learner(), n_batches=4).batches
        4
    """
    if n_batches < 1 or warm_up < 0:
        raise BadValue(
            "profile needs at least one batch to measure",
            got=f"n_batches={n_batches}, warm_up={warm_up}",
            expected="n_batches from 1, warm_up from 0",
        )
    if iter_once(learn.dls.train):
        raise CannotTrain("profile would use up a generator", fix="train on a list or a DataLoader")
    available = length_of(learn.dls.train) or warm_up + n_batches
    clock = _Clock(learn, n_batches, min(warm_up, available - 1))
    with mock_fit(learn, clock), clock.watching():
        learn.fit(1)
    return clock.result()


@contextmanager
def mock_fit(learn: Loop, *cbs: Callback) -> Iterator[None]:
    """Context in which a fit is silent, writes no checkpoints, and leaves nothing changed.

    Args:
        learn: The learner.
        cbs: Callbacks of that fit.
    """
    with ExitStack() as stack:
        for context in (restores_learner(learn), learn.no_logging(), learn.no_mbar(), learn.no_bar()):
            stack.enter_context(context)
        stack.enter_context(learn.removed_cbs(Checkpoint))
        stack.enter_context(learn.added_cbs(cbs))
        yield


class _Clock(Callback):
    """Measures the time between the stages of each batch, and the sizes of tensors in memory."""

    order = 1000

    def __init__(self, learn: Loop, n_batches: int, warm_up: int) -> None:
        super().__init__()
        self.n_batches, self.warm_up = n_batches, warm_up
        self.seconds, self.listeners = dict.fromkeys(STAGES, 0.0), defaultdict[str, float](float)
        self.memory: dict[str, int] = {}
        self.measured = 0
        self.saved: dict[int, int] = {}  # bytes of the storages that the backward pass needs, by address
        device = find_device(list(learn.model.parameters()))
        self.on_gpu = device is not None and device.type == "cuda"
        self.last = perf_counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which the learner's batches and events are timed: its methods are shadowed by attributes of the object."""
        learn: Any = self.learn
        emit, one_batch = learn.emit, learn.one_batch

        def timed_emit(name: str) -> None:
            self.mark(ENDS_WITH.get(name, "loop"))
            emit(name)
            self.listeners[name] += self.mark("callbacks")

        def timed_batch(i: int, b: object) -> None:
            self.mark("data")
            one_batch(i, b)
            self.mark("loop")

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            learn.emit, learn.one_batch = timed_emit, timed_batch
            with torch.autograd.graph.saved_tensors_hooks(self.note_saved, lambda kept: kept):
                yield
        finally:
            for name in ("emit", "one_batch"):
                vars(learn).pop(name, None)

    def note_saved(self, tensor: Tensor) -> Tensor:
        """Count what autograd keeps for the first batch."""
        if not self.memory:
            storage = tensor.untyped_storage()
            self.saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def mark(self, stage: str) -> float:
        """Add the time since the last mark to `stage`, and return it."""
        if self.on_gpu:  # kernels run asynchronously: without waiting, their time would fall into a later stage
            torch.cuda.synchronize()
        now = perf_counter()
        spent = now - self.last
        self.seconds[stage] += spent
        self.last = perf_counter()  # read anew, so that the bookkeeping above is in no stage
        return spent

    def after_step(self) -> None:
        if not self.memory:
            params = list(self.model.parameters())
            opts = self.opt.opts.values() if isinstance(self.opt, Optimizers) else [self.opt]
            known = {local_part(t).untyped_storage().data_ptr() for t in (*params, *tensors_of(self.batch))}
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
        """The means over the measured batches."""
        count = self.measured
        if self.on_gpu:
            self.memory["peak"] = torch.cuda.max_memory_allocated()
        slowest_first = sorted(self.listeners.items(), key=lambda item: -item[1])
        listeners = {name: spent / count for name, spent in slowest_first}
        return Profile({s: t / count for s, t in self.seconds.items()}, self.memory, self.measured, listeners)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
