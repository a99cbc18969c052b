"""What trains when: parameter groups that are unfrozen one after the other, batch norm that stays as it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from layered.foundation import BadValue, warn
from layered.loop import Callback, Duration, Optimizers
from layered.optim import GroupedOptimizer

bn_types = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""The layers that keep running statistics of their batches."""


def set_bn_eval(m: nn.Module, use_eval: bool = True) -> None:
    """Switch the batch norm layers whose weights are frozen.

    Args:
        m: A model.
        use_eval: To evaluation mode; False to training mode.

    Examples:
        >>> layer = nn.BatchNorm1d(2).requires_grad_(False)
        >>> set_bn_eval(nn.Sequential(layer)); layer.training
        False
    """
    for layer in m.modules():
        if isinstance(layer, bn_types) and not any(p.requires_grad for p in layer.parameters()):
            layer.train(not use_eval)


class BnFreeze(Callback):
    """Keeps batch norm layers in frozen parameter groups as they are: neither statistics nor weights change.

    This also holds where `train_bn=True` (the default) would train their weights. Parameters in no group count as frozen.

    Args:
        all_layers: Freeze all batch norm layers, whatever their group.
    """

    order = -5
    transient = ("held",)
    state_kinds = ()

    def __init__(self, all_layers: bool = False) -> None:
        self.all_layers = all_layers
        self.held: list[Tensor] = []  # weights that would train, and are frozen for the fit

    def before_train(self) -> None:
        self._release()
        for layer in self._layers():
            layer.eval()
            self.held += [p.requires_grad_(False) for p in layer.parameters() if p.requires_grad]

    def _layers(self) -> Iterator[nn.Module]:
        learn = self.learn
        learning = {p for opt in _each(learn.opt) for plist in opt.param_lists[opt.frozen_idx :] for p in plist}
        for layer in learn.model.modules():
            if isinstance(layer, bn_types):
                own = list(layer.parameters())
                if self.all_layers or (own and not any(p in learning for p in own)):
                    yield layer

    def _release(self) -> None:
        for p in self.held:
            p.requires_grad_(True)
        self.held = []

    after_fit = on_end = _release


def epochs_or_batches(every: str) -> tuple[int, str]:
    """Parse a number of epochs or batches.

    Args:
        every: Such as "1 epoch" or "50 batches".

    Raises:
        BadValue: It is in another unit.

    Examples:
        >>> epochs_or_batches("50 batches")
        (50, 'batches')
    """
    duration = Duration.of(every)
    if duration.unit not in ("epochs", "batches"):
        raise BadValue(
            "every must be a number of epochs or batches", got=repr(every), expected="'1 epoch' or '50 batches'"
        )
    return int(duration.count), duration.unit


class GradualUnfreezing(Callback):
    """Starts with only the last parameter group and unfreezes one more at regular intervals.

    When the fit ends, groups are frozen as they were before it. Each unfreezing clears the optimizer's statistics.

    Args:
        every: The interval: "1 epoch" or "50 batches".

    Raises:
        BadValue: `every` is in another unit.

    Source: Howard & Ruder 2018, arXiv:1801.06146, section 3.3
    """

    transient = ("frozen_before",)
    state_kinds = ()

    def __init__(self, every: str = "1 epoch") -> None:
        self.every = every
        self.count, self.unit = epochs_or_batches(every)
        self.frozen_before: Any = None

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting and not learn.peeking:
            self.frozen_before = learn.opt.frozen_idx
            if all(len(opt.param_lists) == 1 for opt in _each(learn.opt)):
                warn(
                    "GradualUnfreezing has nothing to unfreeze: there is only one parameter group. Give the learner a splitter."
                )

    def before_epoch(self) -> None:
        if self.unit == "epochs":
            self._unfreeze(self.learn.epoch)

    def before_batch(self) -> None:
        learn = self.learn
        if self.unit == "batches" and learn.training:
            self._unfreeze(learn.train_iter)

    def _unfreeze(self, done: int) -> None:
        for opt in () if self.frozen_before is None else _each(self.learn.opt):
            frozen = max(len(opt.param_lists) - 1 - done // self.count, 0)
            if frozen != opt.frozen_idx:
                opt.freeze_to(frozen)

    def after_fit(self) -> None:
        before, self.frozen_before = self.frozen_before, None
        if before is not None and before != self.learn.opt.frozen_idx:
            self.learn.opt.freeze_to(before)

    on_error = after_fit

    def __repr__(self) -> str:
        return f"GradualUnfreezing('{self.every}')"


def _each(opt: GroupedOptimizer | Optimizers) -> list[GroupedOptimizer]:
    """The optimizers of a loop: one or several."""
    return list(opt.opts.values()) if isinstance(opt, Optimizers) else [opt]
