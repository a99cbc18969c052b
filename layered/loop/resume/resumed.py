"""How a fit resumes: a callback that restores a checkpoint at the events where the loop would start from the beginning."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import IterableDataset

from layered.data import DataLoader, as_loader
from layered.foundation import Stateful, noop, rank_and_world, warn
from layered.loop.callback import Callback
from layered.loop.resume.restoring import Saved
from layered.loop.state import AbstractLoop


class ResumedFit(Callback):
    """Restores a checkpoint when a fit begins, or when the interrupted training pass begins; `fit(resume=)` adds it.

    It runs after all other callbacks of an event: they start as for a new fit or pass, and what the file has of them
    then replaces what they started with.

    Args:
        saved: The checkpoint.
    """

    order = math.inf
    observes = True
    state_kinds = ()

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self.is_restored = False
        self.begun: list[
            tuple[Any, Any]
        ] = []  # streams, which begin each pass where they were put; and their own beginning
        self.unseeded: DataLoader | None = None  # depends on torch's seed again once the interrupted pass is over

    def check(self) -> None:
        """Refuse a checkpoint that does not fit the loop, before anything changes; say where the fit resumes."""
        learn = self.learn
        self.saved.check(learn)
        if learn.logger is not noop and rank_and_world()[0] == 0:
            print(f"resuming from {self.saved.file}: {self.saved.where}")

    def restores_end(self) -> bool:
        """Restore what the fit left, if the checkpoint was written at its end; the fit has then nothing to do."""
        is_over = self.saved.finished and self.saved.epoch >= self.learn.n_epoch
        if is_over:
            self.saved.restore(self.learn)
            for cb in self.learn.cbs:
                if isinstance(cb, Callback):
                    cb.catch_up()
        return is_over

    def before_fit(self) -> None:
        self.learn.first_epoch = self.saved.epoch
        if self.saved.batch == 0:
            self._restore()

    def before_train(self) -> None:
        if not self.is_restored:
            self._restore()
            self.learn.epochs_started -= 1  # the file counts this pass already, and the loop is about to count it
            self.learn.first_batch, self.learn.open_pass = self.saved.batch, self._remaining

    def _restore(self) -> None:
        self.is_restored = True
        self.saved.restore(self.learn)

    def _remaining(self, loader: Any) -> Any:
        if self.saved.cancels is not None:
            self.learn.iter = self.saved.batch - 1
            raise self.saved.cancels
        is_unseeded = isinstance(loader, DataLoader) and loader.seed is None
        self.begun = [(stream, copy.deepcopy(stream.state_dict())) for stream in _streams_of(loader)]
        batches = self.saved.remaining(self.learn)
        if is_unseeded and loader.seed == torch.initial_seed():
            self.unseeded = loader
        return batches

    def after_train(self) -> None:
        for stream, state in self.begun:
            stream.load_state_dict(state)
        self.begun = []
        if self.unseeded is not None:
            self.unseeded.seed = None
            self.unseeded = None

    on_end = after_train


def _streams_of(loader: Any) -> list[Any]:
    """The streams with a state that a loader of another library reads, or is."""
    if isinstance(loader, DataLoader):
        return []
    parts = (loader, as_loader(loader).dataset)
    return [part for part in parts if isinstance(part, IterableDataset) and isinstance(part, Stateful)]


def skips(loop: AbstractLoop, resumed: Sequence[ResumedFit]) -> bool:
    """Whether a later fit of the script has a checkpoint, so that this one is not run; then it counts as done."""
    later = [cb.saved for cb in resumed if cb.saved.ordinal > loop.fit_ordinal + 1]
    if later:
        loop.fit_ordinal += 1
        warn(
            f"fit {loop.fit_ordinal} is done, but the state it left is not in the folder: until fit {later[0].ordinal} "
            f"resumes from {later[0].file}, the learner is as it was made"
        )
    return bool(later)
