"""The losses of a generator and of a critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from layered.foundation import noop
from layered.vision.models.gan import GANModule

LossFunc = Callable[..., Tensor]


def _as_target(output: Tensor, target: Tensor) -> Tensor:
    """One number an item, float, in the shape of an output with several an item."""
    return target.reshape(-1, *[1] * (output.ndim - 1)).expand_as(output).float()


class AdaptiveLoss(nn.Module):
    """A loss of a critic that scores several parts of each image: the target of the image is that of all its parts.

    Args:
        crit: The loss, such as BCEWithLogitsLossFlat().

    Examples:
        >>> AdaptiveLoss(nn.MSELoss())(torch.zeros(2, 9), torch.tensor([1, 0]))
        tensor(0.5000)
    """

    def __init__(self, crit: LossFunc) -> None:
        super().__init__()
        self.crit = crit

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.crit(output, _as_target(output, target))


def accuracy_thresh_expand(y_pred: Tensor, y_true: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """The share of the parts of images that a critic takes for what the image is.

    Args:
        y_pred: Scores: [batch, part].
        y_true: 1 for real images, 0 for made ones: [batch].
        thresh: From where on a part counts as real.
        sigmoid: Apply the sigmoid to the scores first.

    Examples:
        >>> accuracy_thresh_expand(torch.tensor([[3.0, -3.0], [-1.0, -2.0]]), torch.tensor([1, 0]))
        tensor(0.7500)
    """
    scores = y_pred.sigmoid() if sigmoid else y_pred
    return ((scores > thresh) == _as_target(scores, y_true).bool()).float().mean()


class GANLoss:
    """The losses of both parts of a GAN.

    Args:
        gen_loss_func: gen_loss_func(fake_pred, output, target): what the critic says of what the generator has made, that, and
            what it was to be.
        crit_loss_func: crit_loss_func(real_pred, fake_pred).
        gan_model: The generator and the critic.
    """

    activation = decodes = staticmethod(noop)

    def __init__(self, gen_loss_func: LossFunc, crit_loss_func: LossFunc, gan_model: GANModule) -> None:
        self.gen_loss_func, self.crit_loss_func, self.gan_model = gen_loss_func, crit_loss_func, gan_model

    def generator(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of the generator.

        Args:
            output: What it has made.
            target: What it was to be.
        """
        return self.gen_loss_func(self.gan_model.critic(output), output, target)

    def critic(self, real_pred: Tensor, input: Tensor) -> Tensor:
        """The loss of the critic.

        Args:
            real_pred: Its scores for real images.
            input: What the generator makes images from.
        """
        with torch.no_grad():
            fake = self.gan_model.generator(input)
        return self.crit_loss_func(real_pred, self.gan_model.critic(fake))

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.generator(output, target)

    def to(self, device: torch.device | str) -> Self:
        """Move what the losses hold.

        Args:
            device: Where to.
        """
        for loss in (self.gen_loss_func, self.crit_loss_func):
            if isinstance(loss, nn.Module):
                loss.to(device)
        return self


class _GeneratorLoss(nn.Module):
    """`weights[0]` times the critic's loss of taking `output` for real, plus `weights[1]` times a loss of its own."""

    def __init__(self, loss_gen: LossFunc, loss_crit: LossFunc, weights: tuple[float, float]) -> None:
        super().__init__()
        self.loss_gen, self.loss_crit, self.weights = loss_gen, loss_crit, weights

    def forward(self, fake_pred: Tensor, output: Tensor, target: Tensor) -> Tensor:
        ones = fake_pred.new_ones(len(fake_pred))
        return self.weights[0] * self.loss_crit(fake_pred, ones) + self.weights[1] * self.loss_gen(output, target)


class _CriticLoss(nn.Module):
    """The mean of the losses for real and for made images."""

    def __init__(self, loss_crit: LossFunc) -> None:
        super().__init__()
        self.loss_crit = loss_crit

    def forward(self, real_pred: Tensor, fake_pred: Tensor) -> Tensor:
        ones, zeros = real_pred.new_ones(len(real_pred)), fake_pred.new_zeros(len(fake_pred))
        return (self.loss_crit(real_pred, ones) + self.loss_crit(fake_pred, zeros)) / 2


def gan_loss_from_func(
    loss_gen: LossFunc, loss_crit: LossFunc, weights_gen: tuple[float, float] | None = None
) -> tuple[LossFunc, LossFunc]:
    """The losses of a generator and of a critic, from a loss of images and a loss of real (1) against made (0).

    Args:
        loss_gen: loss_gen(output, target), of images.
        loss_crit: loss_crit(scores, target), with a target of [batch].
        weights_gen: Weights of the critic's loss and of `loss_gen` in the generator's; (1, 1) by default.
    """
    return _GeneratorLoss(loss_gen, loss_crit, weights_gen or (1.0, 1.0)), _CriticLoss(loss_crit)
