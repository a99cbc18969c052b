"""Modules without memory for their weights: to see what a constructor would make, or to fill from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_BY_SIZE = {torch.empty, torch.empty_strided, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}


class weightless(TorchFunctionMode):
    """Inside, tensors that are made by their size have no memory (they are on the device "meta"), such as all weights.

    Those that are made of values are real: constructors look at them, and files do not hold what is computed from them.

    >>> with weightless(): layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.device
    device(type='meta')
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _BY_SIZE and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)
