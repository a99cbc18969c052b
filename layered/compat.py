"""Habits of other libraries, switched on by hand; importing this patches nothing."""

from __future__ import annotations

from torch import Tensor

from layered.foundation import pca


def patch_tensors() -> None:
    """Give every tensor the method `pca`, for code that says `x.pca(2)` in place of `pca(x, 2)`. Doing so again changes nothing.

    Examples:
        >>> patch_tensors()
        >>> Tensor([[1.0, 1.0], [4.0, 5.0], [7.0, 9.0]]).pca(1).shape
        torch.Size([3, 1])
        >>> del Tensor.pca  # as it was
    """
    Tensor.pca = pca  # type: ignore[attr-defined]
