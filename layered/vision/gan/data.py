"""What a GAN is given: noise, and the pictures shown of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from layered.data import Panel, draw_panels
from layered.foundation import TensorBase, TensorImageBase, draw_generator, functions, verb


class InvisibleTensor(TensorBase):
    """A tensor that `show_batch` leaves out, such as noise."""

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        """Draw nothing.

        Args:
            ctx: Axes, returned as they are.
            kwargs: Left unread.
        """
        return ctx


@functions.register("vision.generate_noise")
def generate_noise(fn: object, size: int = 100) -> InvisibleTensor:
    """Numbers from a normal distribution, for `get_x`: other ones in each epoch, and the same for the same seed.

    Args:
        fn: The item, left unread.
        size: How many numbers.
    """
    return InvisibleTensor(torch.randn(size, generator=draw_generator()))


@verb("show_batch").register
def show_real_images(
    x: InvisibleTensor, y: TensorImageBase, samples: Sequence[Any], max_n: int | None = None, **drawing: Any
) -> list[Any]:
    """The images of a batch, without the noise beside them.

    Args:
        x: The batch of noise.
        y: The batch of images.
        samples: The noise and the images, decoded.
        max_n: The most images.
        drawing: As for `draw_panels`.
    """
    return draw_panels([[Panel([image])] for _, image in samples[:max_n]], **drawing)


@verb("show_results").register
def show_made_images(
    x: InvisibleTensor,
    y: TensorImageBase,
    samples: Sequence[Any],
    outs: Sequence[Any],
    max_n: int | None = None,
    **drawing: Any,
) -> list[Any]:
    """What was made of noise: the images beside which it stands have nothing to do with it.

    Args:
        x: The batch of noise.
        y: The batch of images.
        samples: The noise and the images, decoded.
        outs: The images that were made, decoded.
        max_n: The most images.
        drawing: As for `draw_panels`.
    """
    return draw_panels([[Panel([image])] for (image,) in outs[:max_n]], **drawing)
