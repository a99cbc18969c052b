"""Loaders that choose which items make an epoch: by weight, or a part of them."""

from __future__ import annotations

from typing import Any

from layered.data.choosers import Part, Weights
from layered.data.tfmd_loader import TfmdDL
from layered.foundation.errors import BadValue


class WeightedDL(TfmdDL):
    """A loader whose epochs are drawn with replacement, each item with a chance in proportion to its weight.

    wgts       a number for each item, or "balanced", or "oversample": see `weights` of `DataLoader`, which any loader takes

    >>> dl = WeightedDL([10, 20], bs=8, wgts=[0, 1])
    >>> next(iter(dl))
    tensor([20, 20])
    """

    def __init__(
        self, dataset: Any, bs: int | None = 64, wgts: Weights | None = None, shuffle: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(dataset, bs=bs, shuffle=shuffle, **{"weights": wgts, **kwargs})


class PartialDL(TfmdDL):
    """A loader whose epochs are `partial_n` of the items, chosen anew each time; all of them where it is not shuffled.

    >>> len(PartialDL(list(range(100)), bs=8, partial_n=20))
    3
    """

    def __init__(
        self, dataset: Any, bs: int | None = 64, partial_n: int | None = None, shuffle: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(dataset, bs=bs, shuffle=shuffle, **kwargs)
        if partial_n is not None:
            if partial_n < 1 or not shuffle or self.n is None:
                raise BadValue(
                    "partial_n is how many of the items make a shuffled epoch",
                    got=f"partial_n={partial_n} of {self.n} items, shuffle={shuffle}",
                    fix="a number from 1, and shuffle=True",
                )
            self.chooser = Part(self.n, min(partial_n, self.n))
