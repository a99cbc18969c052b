"""What the tests of loaders send to workers, which may have to import it."""

from __future__ import annotations

import random

import numpy as np
import torch

from layered.foundation import RandTransform, TensorBase, Transform, draw_batch


def noisy(x):
    """Draws from all three global generators, as code of others does."""
    return torch.tensor([float(x), random.random(), np.random.rand(), float(torch.rand(()))])


@Transform
def decorated(x: int):
    return torch.tensor([float(x), random.random()])


class Shift(RandTransform):
    """Draws from the ticket of the sample."""

    def before_call(self, x, split_idx):
        self.by = self.draw()

    def encodes(self, x: torch.Tensor):
        return x + self.by


class BatchNoise(RandTransform):
    """Draws a row for each sample of the batch."""

    def encodes(self, x: torch.Tensor):
        return x + draw_batch(len(x), size=tuple(x.shape[1:]))


class ShiftAlways(Shift):
    """The same outside training."""

    split_idx = None


class NoiseAlways(BatchNoise):
    """The same outside training."""

    split_idx = None


class Marked(TensorBase):
    """A semantic tensor of a user."""


def jumbled(samples):
    """A user's `before_batch` that draws from a global generator."""
    return random.sample(samples, len(samples))


class Numbers(torch.utils.data.Dataset):
    """A torch data set whose items draw from a global generator."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return noisy(i)


class OddError(Exception):
    """Cannot be unpickled: it is built with two arguments and keeps one."""

    def __init__(self, a, b):
        super().__init__(a)
