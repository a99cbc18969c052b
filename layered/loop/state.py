"""Everything that changes during a fit, in one typed place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import Path
from layered.loop.durations import Moment


class State:
    """What a loop works on. Callbacks read these fields as `self.pred` and write them as `self.learn.pred = …`.

    Other fields may be set on a loop at any time; these are the ones that the loop itself reads or writes.
    """

    # what is trained, and how
    dls: Any
    model: nn.Module
    loss_func: Callable[..., Any] | None
    opt_func: Any
    opt: Any = None
    path: Path

    # where the fit stands
    n_epoch: int = 1
    epoch_length: int | None = None  # batches in a training pass, where the fit was told
    epoch: int = 0  # of this fit, from 0
    train_iter: int = 0  # training batches done in this fit
    epochs_done: int = 0  # epochs of this fit that are over
    pct_train: float = 0.0  # fraction of the fit's training batches done, in [0, 1]
    fit_began: Moment = Moment()  # where this fit began: at the start, or where it was resumed
    epochs_started: int = 0  # training passes ever started by this loop; the key of what loaders draw
    fit_ordinal: int = 0  # fits ever called on this loop
    fit_arguments: Mapping[str, Any] = MappingProxyType({})  # what this fit was called with, for checkpoints
    restored: Any = None  # what the last fit that went on from a checkpoint has restored, as a table
    fitting: bool = False  # inside `fit`; False while only validating or predicting
    error: BaseException | None = None  # the exception that ends the fit, while `on_error` and `on_end` are heard

    peeking: bool = False  # a mock fit: loaders draw what training will not see
    nested: bool = False  # a validation pass inside a fit, between two of its batches

    # the pass and the batch at hand
    dl: Any = None
    n_inp: int | None = None  # how many parts of a batch are inputs; None is all but the last
    moves_to: torch.device | None = None  # where its batches are sent; None for a loader that does it itself
    training: bool = False  # a training pass, not a validation pass
    n_iter: int | None = None  # batches in this pass; None for a loader without length
    iter: int = 0  # of this pass, from 0
    batch: Any = None
    xb: Any = ()  # inputs: a tuple passed by position, or a dict passed by name
    yb: tuple[Any, ...] = ()  # targets
    pred: Any = None
    loss_grad: Any = None  # what is differentiated
    has_learned: bool = False  # `minimize` has been called for this batch
    learning: list[Tensor] | None = None  # the parameters that a backward pass gives gradients; None for all
    loss: Any = None  # what is reported; stays after the fit

    # what is shown
    logger: Callable[[list[Any]], None] | None = print
    create_mbar: bool = True
    final_record: list[Any] | None = None  # the losses and metrics of the last epoch or validation

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
        recorder = vars(self).get("recorder")
        if recorder is None:
            raise AttributeError("there is no smooth loss without a Recorder", name="smooth_loss", obj=self)
        return torch.tensor(recorder.smooth_loss)


def _single(parts: Any) -> Any:
    if not isinstance(parts, tuple):
        return parts
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else parts


STATE_FIELDS = frozenset(State.__annotations__) | {"x", "y", "smooth_loss"}

PASS_FIELDS = (
    "dl", "n_inp", "moves_to", "training", "n_iter", "iter", "batch", "xb", "yb", "pred", "loss_grad", "has_learned",
    "learning",
)  # fmt: skip
"""The fields of the pass at hand: back at their defaults once it is over."""
