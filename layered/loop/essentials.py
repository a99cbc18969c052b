"""The callbacks that every loop starts with, and the small ones that the loop itself makes."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation.tensors import plain_tree
from layered.loop.callback import Callback
from layered.loop.durations import Moment
from layered.loop.events import CancelEpochException


class TrainEvalCallback(Callback):
    """Sets the model's mode, counts batches and epochs, and puts model and loss on the loaders' device."""

    order = -10
    transient = ("modes",)

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            learn.epoch, learn.loss, learn.train_iter, learn.pct_train = 0, torch.tensor(0.0), 0, 0.0
            learn.epochs_done, learn.fit_began = 0, Moment(seconds=time.monotonic())
        self.modes = modes_of(learn.model)
        device = getattr(learn.dls, "device", None)
        if device is not None:
            learn.model.to(device)
            if isinstance(learn.loss_func, nn.Module) or hasattr(learn.loss_func, "to"):
                learn.loss_func.to(device)
        if hasattr(learn.model, "reset"):
            learn.model.reset()

    def before_train(self) -> None:
        learn = self.learn
        learn.pct_train = learn.epoch / learn.n_epoch
        learn.model.train()
        learn.opt.train()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            learn.train_iter += 1
            if learn.n_iter:
                learn.pct_train += 1.0 / (learn.n_iter * learn.n_epoch)

    def before_validate(self) -> None:
        learn = self.learn
        learn.model.eval()
        if learn.opt is not None:
            learn.opt.eval()

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting:
            learn.epochs_done = learn.epoch + 1

    def after_fit(self) -> None:
        learn = self.learn
        if learn.opt is not None:
            learn.opt.eval()

    def on_error(self) -> None:
        set_modes(self.modes)

    def on_end(self) -> None:
        self.modes = []


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module with its mode: True for training."""
    return [(module, module.training) for module in model.modules()]


def set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Put back what `modes_of` gave."""
    for module, training in modes:
        module.training = training


class CastToTensor(Callback):
    """Takes the meaning off inputs and targets, after the callbacks that use it and before the model."""

    order = 9

    def before_batch(self) -> None:
        learn = self.learn
        if not _is_plain(learn.xb):
            learn.xb = plain_tree(learn.xb)
        if not _is_plain(learn.yb):
            learn.yb = plain_tree(learn.yb)


def _is_plain(parts: Any) -> bool:
    """Whether these are plain tensors already, as from most loaders; said without a walk through the tree."""
    return type(parts) is tuple and all(type(part) is Tensor for part in parts)


class SkipToEpoch(Callback):
    """Cancels the epochs before `epoch`; they still count."""

    order = 70

    def __init__(self, epoch: int) -> None:
        self.skip_to = epoch

    def before_epoch(self) -> None:
        if self.learn.epoch < self.skip_to:
            raise CancelEpochException

    def __repr__(self) -> str:
        return f"SkipToEpoch({self.skip_to})"
