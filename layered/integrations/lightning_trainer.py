"""What `self.trainer` of a LightningModule is in a learner."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from layered.foundation import rank_and_world
from layered.loop import AbstractLoop, length_of


class Fitting(Protocol):
    """What the view is of: the callback that trains a LightningModule."""

    steps: int
    watched: dict[str, float]

    @property
    def learn(self) -> AbstractLoop: ...
    @property
    def optimizer(self) -> Any: ...


class FitView:
    """Where a fit stands, by the names that a Trainer has.

    Args:
        fit: The callback of the learner.
    """

    __slots__ = ("_fit",)

    def __init__(self, fit: Fitting) -> None:
        self._fit = fit

    @property
    def current_epoch(self) -> int:
        """The epoch of this fit, from 0."""
        return self._fit.learn.epoch

    @property
    def global_step(self) -> int:
        """How many steps the optimizer has done in this fit."""
        return self._fit.steps

    @property
    def max_epochs(self) -> int:
        """The epochs of this fit."""
        return self._fit.learn.n_epoch

    @property
    def num_training_batches(self) -> float:
        """The batches of a training pass; infinity for a loader without length."""
        learn = self._fit.learn
        count = learn.epoch_length if learn.epoch_length is not None else length_of(learn.dls.train)
        return float("inf") if count is None else count

    @property
    def estimated_stepping_batches(self) -> float:
        """The training batches of this fit."""
        return self.num_training_batches * self.max_epochs

    @property
    def training(self) -> bool:
        """Whether this is a training pass."""
        return self._fit.learn.training

    @property
    def validating(self) -> bool:
        """Whether this is a validation pass that is not part of a fit."""
        return not self._fit.learn.fitting

    @property
    def sanity_checking(self) -> bool:
        """False: there is no pass before the first epoch."""
        return False

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The last value of each name that was logged."""
        return {name: torch.tensor(value) for name, value in self._fit.watched.items()}

    @property
    def optimizers(self) -> list[Any]:
        """The optimizer, in a list."""
        return [self._fit.optimizer]

    @property
    def datamodule(self) -> Any:
        """The LightningDataModule that the learner was given; None if it has other loaders."""
        return getattr(self._fit.learn.dls, "datamodule", None)

    @property
    def logger(self) -> None:
        """None: loggers are callbacks of the learner."""

    @property
    def loggers(self) -> list[Any]:
        """None."""
        return []

    @property
    def global_rank(self) -> int:
        """The number of this process."""
        return rank_and_world()[0]

    local_rank = global_rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return rank_and_world()[1]

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the first process."""
        return rank_and_world()[0] == 0

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(sorted(one for one in dir(type(self)) if not one.startswith("_")))
        raise AttributeError(
            f"self.trainer.{name}: in a learner the trainer is the learner, and has for a LightningModule only {known}. "
            "What else a Trainer does is a callback of the learner, or an argument of its fit",
            name=name,
            obj=self,
        )
