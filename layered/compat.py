"""Habits of other libraries that change other people's classes: off until a function here is called."""

from __future__ import annotations

from torch import Tensor

from layered.foundation import pca


def patch_tensors() -> None:
    """Add the method `pca` to every tensor, for code that calls `x.pca(2)` rather than `pca(x, 2)`.

    Examples:
        >>> patch_tensors()
        >>> Tensor([[1.0, 1.0], [4.0, 5.0], [7.0, 9.0]]).pca(1).shape
        torch.Size([3, 1])
        >>> del Tensor.pca  # as it was
    """
    Tensor.pca = pca  # type: ignore[attr-defined]
