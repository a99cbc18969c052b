"""Optimising towards flat minima: the gradient is taken where the loss nearby is highest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from layered.callback.freezing import bn_types
from layered.callback.precision import MixedPrecision
from layered.foundation import CannotTrain, OutOfRange, full_tensor, local_part
from layered.loop import Callback, average_gradients, call_model, loss_of


class SAM(Callback):
    """Sharpness-aware minimisation: a second forward and backward pass at `weights + rho * gradient / |gradient|`.

    The optimizer then steps from the original weights with the gradient found there. Each batch costs two passes; the reported
    loss and prediction are those of the first. With gradient accumulation, each batch climbs by itself; several
    processes climb together, by the gradient of all their rows. Other callbacks get `after_pred` and `after_loss` of both
    passes. Batch norm counts only the first pass.

    Args:
        rho: How far to climb: the norm of the perturbation.
        adaptive: Measure it relative to the size of each weight (ASAM); use a `rho` about ten times larger.

    Raises:
        OutOfRange: `rho` is not above 0.
        CannotTrain: When a fit begins: the learner has a custom `step=`.

    Source: Foret et al. 2021, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600 for `adaptive`
    """

    order = 5
    run_valid = False
    transient = ("gathered", "backward_done")
    state_kinds = ()

    def __init__(self, rho: float = 0.05, adaptive: bool = False) -> None:
        if not rho > 0:
            raise OutOfRange("rho must be positive", got=rho, expected="more than 0")
        self.rho, self.adaptive = rho, adaptive
        self.gathered: list[Tensor | None] = []  # gradients accumulated over earlier batches
        self.backward_done = True

    def before_fit(self) -> None:
        if self.learn.step is not None:
            raise CannotTrain(
                "SAM runs the model and the loss a second time, which it cannot do inside a custom step=",
                fix="train without step=, or climb inside it",
            )

    def before_backward(self) -> None:
        self.backward_done = True
        self.gathered = [None if p.grad is None else p.grad.clone() for p in self.learn.model.parameters()]

    def after_cancel_backward(self) -> None:
        self.backward_done = False

    def after_backward(self) -> None:
        gathered, self.gathered = self.gathered, []
        if not self.backward_done:
            return
        learn = self.learn
        params = list(learn.model.parameters())
        for p, before in zip(params, gathered, strict=True):
            if p.grad is not None and before is not None:
                p.grad = p.grad - before  # the gradient of this batch alone decides where to climb
        average_gradients(params)
        found = [(p, p.grad) for p in params if p.grad is not None]
        for p, before in zip(params, gathered, strict=True):
            p.grad = before
        kept = [p.detach().clone() for p, _ in found]
        loss, pred = learn.loss, learn.pred
        try:
            self._climb(found)
            with _statistics_held(learn.model):
                self._second_pass()
        finally:
            with torch.no_grad():
                for (p, _), old in zip(found, kept, strict=True):
                    p.copy_(old)
            learn.loss, learn.pred = loss, pred

    @torch.no_grad()
    def _climb(self, found: list[tuple[nn.Parameter, Tensor]]) -> None:
        sizes = [p.abs() if self.adaptive else None for p, _ in found]
        scaled = [g if size is None else g * size for (_, g), size in zip(found, sizes, strict=True)]
        length = self.rho / (full_tensor(nn.utils.get_total_norm(scaled)) + 1e-12)
        for (p, _), direction, size in zip(found, scaled, sizes, strict=True):
            step = direction if size is None else direction * size
            local_part(p).add_(local_part(step) * length.to(p.device))

    def _second_pass(self) -> None:
        learn = self.learn
        with self._autocast():
            learn.pred = call_model(learn.model, learn.xb, learn.yb)
        learn.emit("after_pred")
        learn.loss_grad, learn.loss_shares = loss_of(
            learn.loss_func, learn.pred, learn.yb, learn.training, learn.shares_loss
        )
        learn.loss = learn.loss_grad.detach()
        learn.emit("after_loss")
        torch.autograd.backward(learn.loss_grad)

    def _autocast(self) -> AbstractContextManager[object]:
        precision = next((cb for cb in self.learn.cbs if isinstance(cb, MixedPrecision)), None)
        return nullcontext() if precision is None else precision.autocast()


@contextmanager
def _statistics_held(model: nn.Module) -> Iterator[None]:
    """Batch norm in training mode normalises by its batch, but does not update its running statistics."""
    layers = [m for m in model.modules() if isinstance(m, bn_types) and m.track_running_stats and m.training]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
