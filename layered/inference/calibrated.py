"""Whether a learner's calibration is still that of its weights and its loss."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import is_sharded, warn
from layered.loop import Loop, unwrapped
from layered.nn import Calibration


class CalibratedFor:
    """The weights and the loss that a calibration was found for.

    Weights are compared by a digest of their bytes, which is computed only where torch has counted a change of a tensor, or a fit
    has begun.

    Args:
        loop: The learner, as it is now.
    """

    def __init__(self, loop: Loop) -> None:
        self.loss_func = loop.loss_func
        self.digest = digest_of(unwrapped(loop.model))
        self._seen = _versions(loop)

    def fits(self, loop: Loop) -> bool:
        """Whether a learner has these weights and this loss.

        Args:
            loop: The learner.
        """
        if loop.loss_func is not self.loss_func:
            return False
        seen = _versions(loop)
        if seen != self._seen:
            if digest_of(unwrapped(loop.model)) != self.digest:
                return False
            self._seen = seen
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_seen": None}  # of tensors of this process


def _versions(loop: Loop) -> object:
    """What tells cheaply that weights may have changed; torch's fused optimizers count no version, hence a few values."""
    model = unwrapped(loop.model)
    tensors = [*model.parameters(), *model.buffers()]
    head = next((_own(x).flatten()[:4].tolist() for x in reversed(list(model.parameters()))), [])
    return loop.fit_ordinal, head, [(weakref.ref(x), 0 if x.is_inference() else x._version) for x in tensors]


def _own(x: Tensor) -> Tensor:
    """What this process has of a tensor."""
    own: Tensor = x.to_local() if is_sharded(x) else x  # type: ignore[attr-defined]  # a DTensor
    return own.detach()


def digest_of(model: nn.Module) -> str:
    """A digest of all weights of a model; of a sharded one, of the part that this process has.

    Args:
        model: The model.
    """
    found = hashlib.blake2b(digest_size=16)
    for x in model.state_dict().values():
        if isinstance(x, Tensor):
            found.update(_own(x).cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def calibration_of(loop: Loop) -> Calibration | None:
    """The calibration of a learner. One of other weights, or of another loss, is dropped with a warning.

    Args:
        loop: The learner.
    """
    calibration, calibrated_for = loop.calibration, loop.calibrated_for
    if calibration is None or (calibrated_for is not None and calibrated_for.fits(loop)):
        return calibration
    loop.calibration = loop.calibrated_for = None
    warn(
        "the calibration is dropped, because the weights or the loss have changed: probabilities are those of the network "
        "as it is, and predict_set needs a new learn.calibrate()"
    )
    return None


def set_calibration(loop: Loop, calibration: Calibration | None) -> None:
    """Give a learner a calibration of its weights and loss as they are now.

    Args:
        loop: The learner.
        calibration: None for no calibration.
    """
    loop.calibration = calibration
    loop.calibrated_for = None if calibration is None else CalibratedFor(loop)
