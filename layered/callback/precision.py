"""Mixed precision: the model computes in half precision where that is safe; parameters and losses stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, CannotTrain, map_tree, names_of, refuse_unknown
from layered.loop import Callback, CancelStepException, Count, Loop

LoopT = TypeVar("LoopT", bound=Loop)


class AMPMode(StrEnum):
    """The half precision to compute in.

    Attributes:
        FP16: More digits and a small range: the loss is scaled up before the backward pass, so that gradients do not underflow.
        BF16: The range of float32 with fewer digits: needs no scaling.
    """

    FP16 = "fp16"
    BF16 = "bf16"


DTYPES = {AMPMode.FP16: torch.float16, AMPMode.BF16: torch.bfloat16}


class MixedPrecision(Callback):
    """Runs the model under `torch.autocast` on whatever device it is; predictions are float32 for the loss.

    Under FP16 gradients are unscaled before the step (and before they are clipped); if they have overflowed, the step is skipped
    and the scale is lowered. The scale is part of checkpoints. `skipped` counts the skipped steps.

    Args:
        amp_mode: `AMPMode.FP16` or `AMPMode.BF16`, or their values "fp16" and "bf16".
        scaler: For FP16: arguments of `torch.amp.GradScaler`, such as `init_scale` or `growth_interval`.

    Raises:
        BadValue: `amp_mode` is unknown.
        BadArgument: The scaler has no such argument, or there are any under BF16.
        CannotTrain: When a fit begins: the device has no autocast, or there is another MixedPrecision.

    Source: Micikevicius et al. 2018, arXiv:1710.03740

    Examples:
        >>> MixedPrecision("bf16"), MixedPrecision(init_scale=256.0).scaler_args
        (MixedPrecision(bf16), {'init_scale': 256.0})
    """

    order = 10
    transient = ("_autocast", "_paused")
    state_kinds = (("scaler", dict[str, float] | None), ("skipped", Count))

    def __init__(self, amp_mode: AMPMode | str = AMPMode.FP16, **scaler: Any) -> None:
        if amp_mode not in list(AMPMode):
            raise BadValue("unknown half precision", got=repr(amp_mode), expected="AMPMode.FP16 or AMPMode.BF16")
        self.amp_mode = AMPMode(amp_mode)
        refuse_unknown(scaler, names_of(torch.amp.GradScaler.__init__) - {"device"}, "MixedPrecision")
        if scaler and self.amp_mode is AMPMode.BF16:
            raise BadArgument("bf16 needs no loss scaling", got=", ".join(scaler), fix="leave these arguments out")
        self.scaler_args = scaler
        self.scaler: torch.amp.GradScaler | None = None
        self.skipped = 0
        self._autocast, self._paused = ExitStack(), ExitStack()

    def before_fit(self) -> None:
        learn = self.learn
        if any(isinstance(cb, MixedPrecision) and cb is not self for cb in learn.cbs):
            raise CannotTrain(
                "there are two MixedPrecision callbacks",
                fix="learn.to_bf16() or learn.to_fp16() replaces an existing one",
            )
        kind = _kind(learn.model)
        if not torch.amp.is_autocast_available(kind):
            raise CannotTrain(
                f"torch has no mixed precision on '{kind}'",
                fix="learn.to_fp32(), or use another device: learn.to('cuda')",
            )
        if learn.fitting:
            self.skipped = 0
            if self.amp_mode is AMPMode.FP16:
                self.scaler = torch.amp.GradScaler(kind, **self.scaler_args)

    def autocast(self) -> torch.autocast:
        """A context in which the model computes in half precision."""
        return torch.autocast(_kind(self.learn.model), DTYPES[self.amp_mode])

    def before_batch(self) -> None:
        self._autocast.enter_context(self.autocast())

    def after_pred(self) -> None:
        learn = self.learn
        self._autocast.close()
        learn.pred = map_tree(_float, learn.pred)

    def after_loss(self) -> None:
        learn = self.learn
        if learn.step is None:  # a custom step may compute more after this loss
            self._autocast.close()
        if learn.training and self.scaler is not None and learn.loss_grad is not None:
            learn.loss_grad = self.scaler.scale(learn.loss_grad)

    def before_backward(self) -> None:
        self._paused.enter_context(torch.autocast(_kind(self.learn.model), enabled=False))

    def after_backward(self) -> None:
        self._paused.close()

    def before_step(self) -> None:
        if self.scaler is None:
            return
        probe = _Probe(self.learn.opt.param_groups)
        self.scaler.step(probe)  # type: ignore[arg-type]  # the scaler only uses groups and step
        self.scaler.update()
        if not probe.stepped:
            self.skipped += 1
            raise CancelStepException

    def _close(self) -> None:
        self._paused.close()
        self._autocast.close()

    after_batch = after_cancel_batch = after_cancel_train = after_cancel_validate = _close
    after_cancel_epoch = after_cancel_fit = on_error = on_end = _close

    def __repr__(self) -> str:
        return f"MixedPrecision({self.amp_mode.value})"


class _Probe:
    """Stands in for the optimizer: the scaler unscales its gradients, and calls `step` if all of them are finite."""

    def __init__(self, param_groups: list[dict[str, Any]]) -> None:
        self.param_groups, self.stepped = param_groups, False

    def step(self) -> None:
        self.stepped = True


def _kind(model: nn.Module) -> str:
    """The type of device that `model` is on."""
    return next((p.device.type for p in model.parameters()), "cpu")


def _float(x: object) -> object:
    return x.float() if isinstance(x, Tensor) and x.dtype in DTYPES.values() else x


def to_fp16(loop: LoopT, **scaler: Any) -> LoopT:
    """Train in mixed precision with float16 from now on; returns the loop.

    Args:
        loop: The learner.
        scaler: Arguments of `torch.amp.GradScaler`.
    """
    return _use(loop, lambda: MixedPrecision(AMPMode.FP16, **scaler))


def to_bf16(loop: LoopT) -> LoopT:
    """Train in mixed precision with bfloat16 from now on; returns the loop.

    Args:
        loop: The learner.
    """
    return _use(loop, lambda: MixedPrecision(AMPMode.BF16))


def to_fp32(loop: LoopT) -> LoopT:
    """Return to training in full precision; returns the loop.

    Args:
        loop: The learner.
    """
    return loop.remove_cbs(MixedPrecision)


def _use(loop: LoopT, make: Callable[[], MixedPrecision]) -> LoopT:
    new = make()
    return loop.remove_cbs(MixedPrecision).add_cb(new)
