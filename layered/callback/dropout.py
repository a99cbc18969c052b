"""Dropout that stays on in validation: several predictions of one model, whose spread measures uncertainty."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from layered.loop import Callback


class MCDropoutCallback(Callback):
    """Keeps dropout on in validation and prediction passes; everything else is in evaluation mode.

    Calling `get_preds(cbs=MCDropoutCallback())` several times gives samples of the predictions, whose spread measures
    uncertainty. Dropout layers are torch's, and those of any class with "Dropout" in its name.

    Source: Gal & Ghahramani 2016, arXiv:1506.02142
    """

    transient = ("layers",)
    state_kinds = ()

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []

    def before_validate(self) -> None:
        modules = self.learn.model.modules()
        is_dropout = (m for m in modules if isinstance(m, _DropoutNd) or "Dropout" in type(m).__name__)
        self.layers = [m.train() for m in is_dropout if not m.training]

    def after_validate(self) -> None:
        for layer in self.layers:
            layer.eval()
        self.layers = []

    on_end = after_validate
