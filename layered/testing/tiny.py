"""Tiny data and learners for tests: a noisy line, learned in milliseconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from layered.data import DataLoaders
from layered.nn import MSELossFlat
from layered.training import Learner


class RegModel(nn.Module):
    """y = a * x + b, with parameters a and b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.a + self.b


def synth_dls(a: float = 2.0, b: float = 3.0, bs: int = 16, n_train: int = 10, n_valid: int = 2) -> DataLoaders:
    """Loaders of points on the line a * x + b with noise; the points are the same in every call.

    Args:
        a: The slope.
        b: The offset.
        bs: The batch size.
        n_train: The number of training batches.
        n_valid: The number of validation batches.
    """
    noise = torch.Generator().manual_seed(0)

    def points(count: int) -> TensorDataset:
        x = torch.randn(count, 1, generator=noise)
        return TensorDataset(x, a * x + b + 0.1 * torch.randn(count, 1, generator=noise))

    return DataLoaders.from_dsets(points(bs * n_train), points(bs * n_valid), bs=bs, device="cpu", seed=0)


def synth_learner(n_train: int = 10, n_valid: int = 2, lr: float = 1e-3, **learner_args: object) -> Learner:
    """A learner of `RegModel` on `synth_dls`.

    Args:
        n_train: The number of training batches.
        n_valid: The number of validation batches.
        lr: The learning rate.
        learner_args: Further arguments of `Learner`.

    Examples:
        >>> learn = synth_learner(lr=0.1)
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(1)
        >>> len(learn.recorder.losses)
        10
    """
    args = {"loss_func": MSELossFlat(), "lr": lr, **learner_args}
    return Learner(synth_dls(n_train=n_train, n_valid=n_valid), RegModel(), **args)  # type: ignore[arg-type]
