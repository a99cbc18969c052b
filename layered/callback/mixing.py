"""Mixing each sample of a training batch, and its target, with another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from layered.data import DataLoader
from layered.foundation import CannotTrain, OutOfRange, as_torch_expects, key_of, plain, retype
from layered.loop import Callback, SharedRows, gathered, loss_of
from layered.nn import NoneReduce


def reduce_loss(loss: Tensor, reduction: str = "mean") -> Tensor:
    """The mean or the sum of a loss, or the loss itself.

    Args:
        loss: An unreduced loss.
        reduction: "mean", "sum", or anything else for the loss itself.

    Examples:
        >>> reduce_loss(torch.tensor([1.0, 3.0]), "sum")
        tensor(4.)
    """
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


class MixHandler(Callback):
    """Base of the callbacks that mix a training batch with a shuffled copy of itself.

    A subclass defines `draw_mix`, which draws the shares, and `mix`, which mixes an input. Numeric targets are mixed by `lam`.
    For classes (the loss has `y_int`, or targets are integers) the loss is mixed: lam * loss(pred, target) + (1 - lam) *
    loss(pred, target of the partner), sample by sample if `lam` differs. Metrics of training batches use the sample's own target.
    Draws are keyed by the loader's seed, the epoch and the batch, so a resumed fit sees the same mixes. Several processes mix
    the whole batch, and send each other the samples that this takes.

    Args:
        alpha: The shares are drawn from Beta(alpha, alpha): the larger, the more even the mix.

    Raises:
        OutOfRange: `alpha` is not above 0.
        CannotTrain: During the fit: a batch has not exactly one target, or inputs are not floats.
        BadValue: During the fit: a per-sample loss is needed, and the loss has no `reduction`.
    """

    run_valid = False
    transient: ClassVar[tuple[str, ...]] = ("lam", "partners", "mixes_loss")
    state_kinds = ()

    def __init__(self, alpha: float = 0.5) -> None:
        if not alpha > 0:
            raise OutOfRange(
                "alpha, the parameter of a Beta distribution, must be positive", got=alpha, expected="more than 0"
            )
        self.alpha = alpha
        self.lam: Any = None  # the share that a sample keeps: a number, or one for each sample [batch]
        self.partners: Any = None  # the targets of the samples mixed in
        self.mixes_loss = False

    def draw_mix(self, rng: np.random.Generator, rows: int) -> None:
        """Draw `self.lam`, and whatever else the mix of a batch depends on.

        Args:
            rng: The generator of this batch.
            rows: Number of samples.
        """
        raise NotImplementedError(f"{type(self).__name__} needs draw_mix(self, rng, rows)")

    def mix(self, x: Tensor, partners: Tensor) -> Tensor:
        """Mix an input; may correct `self.lam`.

        Args:
            x: One input, [batch, ...].
            partners: Its shuffled copy.
        """
        raise NotImplementedError(f"{type(self).__name__} needs mix(self, x, partners)")

    def before_batch(self) -> None:
        learn = self.learn
        target = self._target()
        keys_and_counts = gathered((self._key(), len(target)))
        rng, rows = np.random.default_rng(keys_and_counts[0][0]), SharedRows([count for _, count in keys_and_counts])
        self.draw_mix(rng, rows.total)
        order = rng.permutation(rows.total)
        if np.ndim(self.lam):
            self.lam = self.lam[rows.own]

        def shuffled(x: Tensor) -> Tensor:
            return rows.permuted(x, order)

        xb = learn.xb
        if isinstance(xb, Mapping):
            learn.xb = {name: self._mix_input(x, len(target), shuffled) for name, x in xb.items()}
        else:
            learn.xb = tuple(self._mix_input(x, len(target), shuffled) for x in xb)
        self.partners = shuffled(target)
        self.mixes_loss = getattr(learn.loss_func, "y_int", not target.is_floating_point())
        if not self.mixes_loss:
            learn.yb = (self._blend(target, self.partners),)

    def after_loss(self) -> None:
        learn = self.learn
        if not self.mixes_loss:
            return
        if np.ndim(self.lam) == 0:
            shared = learn.shares_loss
            other, others = loss_of(learn.loss_func, learn.pred, (self.partners,), training=True, shared=shared)
            learn.loss_grad = self._blend(learn.loss_grad, other)
            shares = [(self.lam * loss, count) for loss, count in learn.loss_shares]
            learn.loss_shares = [*shares, *((loss - self.lam * loss, count) for loss, count in others)]
        else:
            rows, context = len(self.partners), NoneReduce(learn.loss_func)
            with context as unreduced:
                each = (as_torch_expects(learn.loss_func, learn.pred, (y,)) for y in (learn.yb[0], self.partners))
                own, other = (unreduced(learn.pred, *y).reshape(rows, -1) for y in each)
            learn.loss_grad = reduce_loss(self._blend(own, other), context.reduction)
            learn.loss_shares = ()
        learn.loss = learn.loss_grad.detach().clone()

    def after_batch(self) -> None:
        self.lam = self.partners = None

    def _target(self) -> Tensor:
        yb = self.learn.yb
        if len(yb) == 1 and isinstance(yb[0], Tensor):
            return plain(yb[0])
        name = type(self).__name__
        raise CannotTrain(
            f"{name} mixes inputs and exactly one target",
            got=f"{len(yb)} targets" if len(yb) != 1 else f"a target of type {type(yb[0]).__name__}",
            fix=f"train without {name}, or write a MixHandler for these targets",
        )

    def _key(self) -> int:
        learn = self.learn
        seed = learn.dl.seed if isinstance(learn.dl, DataLoader) else None
        pass_key = torch.initial_seed() if seed is None else seed, "peek" if learn.peeking else "train"
        return key_of(type(self).__name__, *pass_key, learn.epochs_started, learn.iter, 0) % (1 << 64)

    def _mix_input(self, x: object, rows: int, shuffled: Callable[[Tensor], Tensor]) -> Any:
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim and len(x) == rows:
            return retype(self.mix(plain(x), shuffled(plain(x))), x)
        raise CannotTrain(
            f"{type(self).__name__} mixes only floating-point inputs with a row for each sample",
            got=f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
            expected=f"floats [{rows}, ...]",
            fix="convert images to floats (IntToFloatTensor); categories and words cannot be mixed",
        )

    def _blend(self, own: Tensor, other: Tensor) -> Tensor:
        """lam * own + (1 - lam) * other, of numbers [batch, ...] or of one number."""
        dtype = own.dtype if own.is_floating_point() else torch.float32
        lam = torch.as_tensor(self.lam, dtype=dtype).to(own.device, non_blocking=True)
        return torch.lerp(other.to(dtype), own.to(dtype), lam.reshape(-1, *[1] * (own.ndim - 1)) if lam.ndim else lam)


class MixUp(MixHandler):
    """Trains on lam * x + (1 - lam) * (x of another sample of the batch), with lam >= 1/2 drawn for each sample.

    Args:
        alpha: The larger of lam and 1 - lam is used, with lam drawn from Beta(alpha, alpha).

    Source: Zhang et al. 2018, arXiv:1710.09412
    """

    state_kinds = ()

    def __init__(self, alpha: float = 0.4) -> None:
        super().__init__(alpha)

    def draw_mix(self, rng: np.random.Generator, rows: int) -> None:
        lam = rng.beta(self.alpha, self.alpha, rows)
        self.lam = np.maximum(lam, 1 - lam)

    def mix(self, x: Tensor, partners: Tensor) -> Tensor:
        return self._blend(x, partners)


class CutMix(MixHandler):
    """Trains on images with a box pasted in from another image of the batch: the same box for all of them.

    Args:
        alpha: lam is drawn from Beta(alpha, alpha). The sides of the box are sqrt(1 - lam) of the image's; its centre is drawn
            uniformly, and it is cut off at the borders; lam is then the share of pixels that stayed.

    Raises:
        CannotTrain: Inputs are not images [batch, channel, height, width].

    Source: Yun et al. 2019, arXiv:1905.04899
    """

    transient = (*MixHandler.transient, "centre")
    state_kinds = ()

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)
        self.centre: Any = None

    def draw_mix(self, rng: np.random.Generator, rows: int) -> None:
        self.lam, self.centre = rng.beta(self.alpha, self.alpha), rng.random(2)

    def mix(self, x: Tensor, partners: Tensor) -> Tensor:
        if x.ndim != 4:
            raise CannotTrain(
                "CutMix needs images",
                got=f"inputs {list(x.shape)}",
                expected="[batch, channel, height, width]",
            )
        side = np.sqrt(1 - self.lam)
        (top, bottom), (left, right) = (_span(n, side, c) for n, c in zip(x.shape[-2:], self.centre, strict=True))
        mixed = x.clone()
        mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
        self.lam = 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])
        return mixed


def _span(length: int, share: float, centre: float) -> tuple[int, int]:
    """Where a stretch of `share` of the length begins and ends, around `centre` in [0, 1), cut off at the ends."""
    half, middle = int(length * share) // 2, int(length * centre)
    return max(middle - half, 0), min(middle + half, length)
