"""Everything that changes during a fit, in one typed place, and what a callback may do with a loop."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from layered.data import DataLoaders
from layered.foundation import Path
from layered.loop.durations import Duration, Moment
from layered.loop.events import Phase
from layered.loop.listeners import Cbs, Listener, Listeners
from layered.loop.optimizer_parts import OptFunc, Optimizers
from layered.loop.turns import Turns
from layered.metrics import MetricSet
from layered.nn import Calibration, Meaning, Shares
from layered.optim import GroupedOptimizer

_NOT_YET: Any = None  # the value of a field before a fit has set it


class History(Protocol):
    """What the recorder keeps of a fit; see `Recorder`, which documents each field."""

    metric_names: list[str]
    add_time: bool
    hps: dict[str, list[float]]
    lrs: list[float]
    iters: list[int]
    epochs: list[int]
    values: list[list[Any]]
    log: list[Any]
    logged_names: list[str]
    numbers: dict[str, list[Any]]

    def higher_is_better(self, column: str) -> bool | None: ...
    def expect(self, names: Iterable[str]) -> None: ...
    def note(self, values: Mapping[str, Any]) -> None: ...
    def collect(self, name: str, number: float | Tensor) -> None: ...

    @property
    def step(self) -> int: ...

    @property
    def losses(self) -> list[float]: ...

    @property
    def smooth_loss(self) -> float: ...

    @property
    def history(self) -> list[dict[str, Any]]: ...


class State:
    """What a loop works on. Callbacks read these fields as `self.pred` and write them as `self.learn.pred = …`.

    Other fields may be set on a loop at any time; these are the ones that the loop itself reads or writes.
    """

    # what is trained, and how
    dls: DataLoaders
    model: nn.Module
    loss_func: Callable[..., Any] | None
    output_meaning: Meaning | None = None  # how outputs are read, where a model of another library says so
    calibration: Calibration | None = None  # of its predictions: see `calibrate`
    calibrated_for: Any = None  # the weights and the loss of the calibration
    opt_func: OptFunc | Mapping[str, OptFunc]
    opt: GroupedOptimizer | Optimizers = _NOT_YET
    made_opt: tuple[Any, Any, Any] = (
        None,
        None,
        None,
    )  # the optimizer that the loop made last, its opt_func and splitter
    path: Path
    exported: str | None = None  # the file that it was loaded from, which brings no items
    turns: Turns  # which thread uses this state

    # where the fit stands
    n_epoch: int = 1
    first_epoch: int = 0  # where the fit begins: later than 0 for a resumed one
    epoch_length: int | None = None  # batches in a training pass, if `fit(n_iter=)` set it
    valid_every: Duration = Duration(1, "epochs")  # how often this fit validates
    epoch: int = 0  # of this fit, from 0
    train_iter: int = 0  # training batches done in this fit
    epochs_done: int = 0  # epochs of this fit that are over
    pct_train: float = 0.0  # fraction of the fit's training batches done, in [0, 1]
    fit_began: Moment = Moment()  # where this fit began: at the start, or where it was resumed
    epochs_started: int = 0  # training passes ever started by this loop; the key of what loaders draw
    fit_ordinal: int = 0  # fits ever called on this loop
    fit_arguments: Mapping[str, Any] = MappingProxyType({})  # what this fit was called with, for checkpoints
    restored: Any = None  # what the last resumed fit restored from its checkpoint, as a table
    fitting: bool = False  # inside `fit`; False while only validating or predicting
    error: BaseException | None = None  # the exception that ends the fit, during `on_error` and `on_end`

    rates_are_set: bool = False  # a callback sets the learning rates of this fit

    peeking: bool = False  # a mock fit: loaders draw what training will not see
    nested: bool = False  # a validation pass inside a fit, between two of its batches
    adds_row: bool = False  # such a pass makes a row of the table

    # the current pass and batch
    dl: Any = None
    n_inp: int | None = None  # how many parts of a batch are inputs; None is all but the last
    moves_to: torch.device | None = None  # where its batches are sent; None for a loader that does it itself
    training: bool = False  # a training pass, not a validation pass
    n_iter: int | None = None  # batches in this pass; None for a loader without length
    iter: int = 0  # of this pass, from 0
    first_batch: int = 0  # the number of the first batch of a training pass: later than 0 for a resumed one
    open_pass: Callable[[Iterable[Any]], Iterator[Any]] = _NOT_YET  # gives the batches of a training pass
    batch: Any = None
    xb: Any = ()  # inputs: a tuple passed by position, or a dict passed by name
    yb: tuple[Any, ...] = ()  # targets
    pred: Any = None
    loss_grad: Tensor = _NOT_YET  # what is differentiated
    loss_shares: Shares = ()  # the parts of the loss, and what their means divide by; empty where that is not known
    shares_loss: bool = False  # whether training batches have them too; validation batches do
    reads_preds: bool = False  # somebody collects the predictions of this pass, and nothing else of it
    found_loss: bool | None = None  # whether a batch of this pass had a loss; None before the first
    has_learned: bool = False  # `minimize` has been called for this batch
    learning: list[Tensor] | None = None  # the parameters that a backward pass gives gradients; None for all
    loss: Tensor = _NOT_YET  # what is reported; stays after the fit

    # what is shown
    logger: Callable[[list[Any]], object] = print
    create_mbar: bool = True
    final_record: list[Any] | None = None  # the losses and metrics of the last epoch or validation
    recorder: History

    @property
    def x(self) -> Any:
        """The input itself if there is one, else the tuple of inputs."""
        return _single(self.xb)

    @property
    def y(self) -> Any:
        """The target itself if there is one, else the tuple of targets; None without targets."""
        return _single(self.yb)

    @property
    def smooth_loss(self) -> Tensor:
        """The training loss, exponentially smoothed (a number on the CPU; reading it waits for the device)."""
        if "recorder" not in vars(self):
            raise AttributeError("smooth_loss needs a Recorder", name="smooth_loss", obj=self)
        return torch.tensor(self.recorder.smooth_loss)


def _single(parts: object) -> Any:
    if not isinstance(parts, tuple):
        return parts
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else parts


STATE_FIELDS = frozenset(State.__annotations__) - {"recorder"} | {"x", "y", "smooth_loss"}

PASS_FIELDS = (
    "dl", "n_inp", "moves_to", "training", "n_iter", "iter", "first_batch", "open_pass", "batch", "xb", "yb", "pred",
    "loss_grad", "loss_not_reduced", "loss_shares", "found_loss", "has_learned", "learning", "reads_preds",
)  # fmt: skip
"""The fields of the current pass: back at their defaults once it is over."""

FIT_FIELDS = (
    *PASS_FIELDS,
    "error",
    "fitting",
    "epoch_length",
    "first_epoch",
    "shares_loss",
    "rates_are_set",
    "valid_every",
)
"""The fields of the current fit, likewise."""


_MACHINERY = frozenset(
    {"adds_row", "all_batches", "all_epochs", "begin_pass", "calibrated_for", "callbacks", "cast_to_tensor", "clean_names",
     "create_mbar", "default_callbacks", "do_batch", "entered", "epoch_length", "epochs_done", "epochs_started", "error",
     "exported", "final_record", "first_batch", "first_epoch", "fit_arguments", "fit_began", "fit_ordinal", "found_loss",
     "has_learned", "learning", "logging_callbacks", "loss_grad", "loss_not_reduced", "loss_shares", "made_opt",
     "metric_set", "moves_to", "n_inp", "nested", "no_mbar", "one_batch", "one_epoch", "one_validation", "open_pass",
     "ordered_cbs", "output_meaning", "peeking", "rates_are_set", "reads_preds", "recipe", "restored", "shares_loss",
     "to_detach", "train_eval", "turns", "valid_every", "within"}
)  # fmt: skip
"""Names of a loop that completion leaves out: they are for callbacks and for the loop itself."""


class AbstractLoop(State, ABC):
    """`self.learn` of a callback: the state, the settings, and what a callback may ask of the loop. `Loop` implements it."""

    callbacks: Listeners
    entered: AbstractContextManager[None] | None = None  # the block of `with learn:`, while inside
    lr: float | slice | Mapping[str, float | slice]
    splitter: Callable[[nn.Module], Any]
    step: Callable[[Any, Any], Any] | None
    metric_set: MetricSet
    wd: float | None
    wd_bn_bias: bool
    train_bn: bool
    moms: tuple[float, float, float] | None
    model_dir: str | os.PathLike[str]
    strategy: str | None = None  # how several processes share the model: see `to_distributed`

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_") and name not in _MACHINERY]

    @property
    def metrics(self) -> list[Any]:
        """What the recorder computes over each validation pass; set it to functions, metrics, or a list of these.

        The learner has copies of its own, so that learners given the same metric object do not disturb each other.
        """
        return self.metric_set.metrics

    @metrics.setter
    def metrics(self, metrics: object) -> None:
        self.metric_set = MetricSet(metrics)

    @property
    def cbs(self) -> list[Listener]:
        """The callbacks, in the order they were added."""
        return self.callbacks.all

    def ordered_cbs(self, event: str | None = None) -> list[Listener]:
        """The callbacks (that listen to `event`, if given) in the order in which they run."""
        return self.callbacks.ordered(event)

    @abstractmethod
    def add_cbs(self, cbs: Cbs) -> Self:
        """Add callbacks: instances, classes, or a list of these."""

    @abstractmethod
    def remove_cbs(self, cbs: object) -> Self:
        """Remove callbacks: instances, classes (every instance), functions given to `on`, or a list of these."""

    @abstractmethod
    def emit(self, name: str) -> None:
        """Call whoever listens to the event `name`."""

    @abstractmethod
    def within(self, phase: Phase, body: Callable[[], object]) -> None:
        """`before_<phase>`, the body, `after_<phase>`."""

    @abstractmethod
    def minimize(self, loss: Tensor, opt: str | None = None) -> Tensor:
        """Learn from a loss: its gradient and a step of the optimizer."""

    def clean_names(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """The weights of a file under the names of the model, which `load` reads; by default they have these already.

        Args:
            weights: The weights by name.
        """
        return weights

    @abstractmethod
    def all_epochs(self) -> None:
        """Every epoch of this fit."""

    @abstractmethod
    def one_validation(self, dl: Iterable[Any]) -> None:
        """One pass over `dl` without gradients."""

    @abstractmethod
    def do_batch(self) -> None:
        """What happens between the first and the last event of a batch."""

    @abstractmethod
    def one_batch(self, i: int, b: Any) -> None:
        """Batch `b`, the `i`-th of this pass."""

    @abstractmethod
    def create_opt(self) -> None:
        """A fresh optimizer."""

    @abstractmethod
    def validate(self, ds_idx: int = 1, dl: Iterable[Any] | None = None, cbs: Cbs = None) -> list[Any] | None:
        """The loss and the metrics over a loader."""

    @abstractmethod
    def save(self, file: str | os.PathLike[str], with_opt: bool = True) -> Path:
        """Write the weights."""

    @abstractmethod
    def load(
        self,
        file: str | os.PathLike[str],
        with_opt: bool = True,
        strict: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Read weights written by `save`."""
