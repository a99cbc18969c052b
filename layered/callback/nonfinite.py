"""Finding where NaN and infinity come from: the first tensor of a batch that is not finite, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layered.callback.precision import MixedPrecision
from layered.data import DataLoader
from layered.foundation import CannotTrain, full_tensor, tensors_of
from layered.loop import AbstractLoop, Callback


class NonFinite(CannotTrain, FloatingPointError):
    """A tensor of a training batch contains NaN or infinity.

    Fix: the message names the tensor and the items. Look at these, lower the learning rate, or clip gradients.
    """


class StopOnNonFinite(Callback):
    """Ends the fit with an error at the first training batch in which something is not finite, and names it.

    Checks inputs and targets, the output of each layer, the loss, and the gradient of each parameter, in this order, before the
    optimizer steps: the weights are those from before the batch. Waits for the device once a batch.

    The error names the tensor, the epoch and batch, and with our `DataLoader` the items of the batch (only those with bad rows,
    if an input or target is bad). Gradients that overflow under fp16 are left to the scaler.

    Args:
        every: Check only every so many batches.

    Raises:
        NonFinite: During the fit; a CannotTrain and FloatingPointError.
    """

    order = 8
    run_valid = False
    transient = ("found", "hooks")
    observes = True
    state_kinds = ()

    def __init__(self, every: int = 1) -> None:
        self.every = every
        # in the order of computation: a name, and whether the tensor is finite
        self.found: list[tuple[str, Tensor]] = []
        self.hooks: list[Any] = []

    def before_fit(self) -> None:
        if self.learn.fitting:
            self._remove()
            leaves = [(n, m) for n, m in self.learn.model.named_modules() if next(m.children(), None) is None]
            self.hooks = [module.register_forward_hook(self._hook(name)) for name, module in leaves]

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            self._look(
                f"the output of layer '{name}' ({type(module).__name__})" if name else "the model's output", output
            )

        return hook

    def before_batch(self) -> None:
        learn = self.learn
        self.found = []
        for kind, parts in (("input", learn.xb), ("target", learn.yb)):
            named = parts.items() if isinstance(parts, Mapping) else enumerate(parts)
            for name, part in named:
                self._look(f"{kind} {name}", part)

    def after_loss(self) -> None:
        self._look("the loss", self.learn.loss)

    def after_backward(self) -> None:
        learn = self.learn
        scaled = any(isinstance(cb, MixedPrecision) and cb.scaler is not None for cb in learn.cbs)
        for name, p in () if scaled else learn.model.named_parameters():
            self._look(f"the gradient of '{name}'", p.grad)
        self._judge()

    def _look(self, name: str, tree: object) -> None:
        learn = self.learn
        if learn.training and learn.iter % self.every == 0:
            floats = [t for t in tensors_of(tree) if t.is_floating_point() or t.is_complex()]
            self.found += [(name, full_tensor(torch.isfinite(t.detach()).all())) for t in floats]

    def _judge(self) -> None:
        """Wait for the device, and raise for the first tensor that is not finite."""
        found, self.found = self.found, []
        if not found:
            return
        device = found[-1][1].device
        finite = torch.stack([flag.to(device) for _, flag in found]).tolist()
        if not all(finite):
            learn, name = self.learn, found[finite.index(False)][0]
            raise NonFinite(
                f"{name} is not finite, in training batch {learn.iter} of epoch {learn.epoch} (step {learn.train_iter})",
                got=_items(learn),
                fix=_FIXES.get(
                    name.split()[0], "check the layers and values before it, use a smaller lr, or add GradientClip()"
                ),
            )

    def _remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.found = [], []

    def on_end(self) -> None:
        self._remove()


_FIXES = dict.fromkeys(("input", "target"), "check these items, and the transforms that make batches of them")


def _items(learn: AbstractLoop) -> str | None:
    """The items of the current batch, where the loader knows them; if inputs or targets are bad, only theirs."""
    plan = learn.dl.present if isinstance(learn.dl, DataLoader) and learn.dl.indexed else None
    if plan is None:
        return None
    items = plan.listed()
    rows = {row for t in tensors_of((learn.xb, learn.yb)) if t.ndim and len(t) == len(items) for row in _bad_rows(t)}
    return f"items {[items[row] for row in sorted(rows)] or items} of the data set"


def _bad_rows(x: Tensor) -> list[int]:
    if not x.is_floating_point():
        return []
    rows: list[int] = (~torch.isfinite(x.reshape(len(x), -1)).all(1)).nonzero().flatten().tolist()
    return rows
