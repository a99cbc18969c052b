"""Modules without memory for their weights: to see what a constructor would make, or to fill from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from layered.foundation.errors import BadValue

_BY_SIZE = {torch.empty, torch.empty_strided, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}


class weightless(TorchFunctionMode):
    """Inside, tensors that are made by their size have no memory (they are on the device "meta"), such as all weights.

    Those that are made of values are real: constructors look at them, and files do not hold what is computed from them.

    most       raise BadValue when more tensors than so many are made by their size

    >>> with weightless(): layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.device
    device(type='meta')
    """

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _BY_SIZE:
            self.made += 1
            if self.made > self.most:
                raise BadValue("what is built has far too many parts", expected=f"at most {self.most} tensors")
            given["device"] = given.get("device") or "meta"
        return func(*args, **given)
