"""Models that compute their loss themselves, such as those that find objects."""

from __future__ import annotations

from typing import Any

from torch import nn


class ModelWithLoss(nn.Module):
    """Base of models whose `forward(*inputs, *targets)` gives a mapping with "loss", and with predictions when evaluating.

    The loop passes a batch's targets after its inputs. Without targets, as in `predict`, it calls `forward(*inputs)`. Wrap a
    model of another library in a subclass to train it with its own loss.

    Examples:
        >>> import torch
        >>> class Line(ModelWithLoss):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = nn.Parameter(torch.ones(()))
        ...     def forward(self, x, y=None):
        ...         pred = self.slope * x
        ...         return {"logits": pred} if y is None else {"logits": pred, "loss": (pred - y).square().mean()}
        >>> from layered.training import Learner
        >>> learn = Learner(([(torch.ones(2, 1), torch.zeros(2, 1))], None), Line())
        >>> with learn.no_bar(), learn.no_logging():
        ...     learn.fit(1, lr=0.1)
        >>> learn.model.slope.item() < 1
        True
    """

    forward: Any
