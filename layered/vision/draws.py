"""Random numbers for batch transforms: one for each image, independent of batch size, worker and device.

Draws are made on the CPU and copied to the device as one small tensor, so nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from layered.foundation import BadValue, TensorMask, current_tickets, draw_batch

Draw = float | Sequence[float] | Tensor | Callable[[Tensor], float | Sequence[float] | Tensor] | None
"""One number for all images, one for each, a function that returns them for a batch, or None to draw at random."""


def num_images(x: Tensor) -> int:
    """The number of images in a batch; 1 for a single image.

    Args:
        x: [batch, channel, height, width], a mask [batch, height, width], or one image or mask without the batch axis.
    """
    return len(x) if x.ndim > (2 if isinstance(x, TensorMask) else 3) else 1


def given_or_drawn(x: Tensor, draw: Draw, low: float, high: float, batch: bool = False) -> Tensor:
    """One number for each image, given by `draw` or uniform in [low, high): float32 [batch].

    Args:
        x: The batch, which sets how many.
        draw: The numbers, if they are given: see `Draw`.
        low: Lower end of the range to draw from.
        high: Upper end, exclusive.
        batch: Draw one number for the whole batch.
    """
    count = num_images(x)
    if draw is None:
        return draw_batch(count, low, high, same=batch)
    values = torch.as_tensor(draw(x) if callable(draw) else draw, dtype=torch.float32)
    if values.ndim and len(values) < count:
        raise BadValue("draw= has too few numbers", got=len(values), expected=f"{count}, one for each image")
    return values[:count] if values.ndim else values.expand(count)


def mask_tensor(values: Tensor, p: float = 0.5, neutral: float = 0.0, batch: bool = False) -> Tensor:
    """Keep `values` for a random share of the images: float32 [batch].

    Args:
        values: A number for each image, [batch].
        p: Share of the images that keep theirs.
        neutral: The number for all others, which changes nothing.
        batch: Draw once for the whole batch.

    Examples:
        >>> mask_tensor(torch.ones(3), p=0.0)
        tensor([0., 0., 0.])
    """
    if p >= 1.0:
        return values
    chosen = draw_batch(len(values), same=batch) < p
    return torch.where(chosen, values, torch.tensor(neutral))


class DeterministicDraw:
    """Numbers that are given in turn, one for all images of a batch, as the `draw=` of a batch transform.

    In a loader the number of the batch in its epoch decides, so that a resumed run goes on as it would have; by hand, the
    number of the call.

    Args:
        vals: The numbers, in order.

    Examples:
        >>> draw = DeterministicDraw([0.5, 2])
        >>> [draw(torch.zeros(2, 3, 8, 8)).tolist() for _ in range(3)]
        [[0.5, 0.5], [2.0, 2.0], [0.5, 0.5]]
    """

    def __init__(self, vals: Sequence[float]) -> None:
        self.vals, self.calls = list(vals), 0

    def __call__(self, x: Tensor) -> Tensor:
        place = current_tickets().place
        if place is None:
            place, self.calls = self.calls, self.calls + 1
        return torch.full((len(x),), float(self.vals[place % len(self.vals)]))
