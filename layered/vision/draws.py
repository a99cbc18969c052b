"""What a batch transform draws: one number for each image, the same whatever batch, worker or device it comes in.

Draws are made in main memory and sent to the device as one small tensor: nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadValue, TensorMask, draw_batch

Draw = float | Sequence[float] | Tensor | Callable[[Any], Any] | None
"""A number for all images, one number for each, a function from the batch to such numbers, or None: draw them."""


def num_images(x: Tensor) -> int:
    """How many images there are in [batch, channel, height, width] (masks: [batch, height, width]), or in one of them."""
    return len(x) if x.ndim > (2 if isinstance(x, TensorMask) else 3) else 1


def given_or_drawn(x: Tensor, draw: Draw, low: float, high: float, batch: bool = False) -> Tensor:
    """float32 [batch]: what `draw` says, else uniform in [low, high).

    Args:
        batch: One number for all images of the batch.
    """
    count = num_images(x)
    if draw is None:
        return draw_batch(count, low, high, same=batch)
    values = torch.as_tensor(draw(x) if callable(draw) else draw, dtype=torch.float32)
    if values.ndim and len(values) < count:
        raise BadValue("draw= has too few numbers", got=len(values), expected=f"{count}, one for each image")
    return values[:count] if values.ndim else values.expand(count)


def mask_tensor(values: Tensor, p: float = 0.5, neutral: float = 0.0, batch: bool = False) -> Tensor:
    """`values` for a share `p` of the images, `neutral` for the others: float32 [batch]."""
    if p >= 1.0:
        return values
    chosen = draw_batch(len(values), same=batch) < p
    return torch.where(chosen, values, torch.tensor(neutral))
