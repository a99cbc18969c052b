"""Nested tuples, lists, mappings and dataclasses of tensors, taken as one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.foundation.lists import L


def map_tree(f: Callable[[Any], Any], tree: Any) -> Any:
    """`f` of every leaf; tuples, named tuples, lists, mappings and dataclasses keep their class."""
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(f, o) for o in tree))
    if isinstance(tree, (tuple, list, L)):
        return type(tree)(map_tree(f, o) for o in tree)
    if isinstance(tree, Mapping):
        items = {k: map_tree(f, v) for k, v in tree.items()}
        return items if type(tree) is dict else type(tree)(items)  # type: ignore[call-arg]  # UserDict and its kin
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{o.name: map_tree(f, getattr(tree, o.name)) for o in fields(tree) if o.init})
    return f(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Every leaf, from left to right."""
    if isinstance(tree, Tensor):
        yield tree
        return
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    elif is_dataclass(tree) and not isinstance(tree, type):
        tree = tuple(getattr(tree, o.name) for o in fields(tree))
    if isinstance(tree, (tuple, list, L)):
        for o in tree:
            yield from leaves(o)
    else:
        yield tree


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Every tensor of the tree."""
    return (o for o in leaves(tree) if isinstance(o, Tensor))


def find_bs(tree: Any) -> int:
    """The number of rows of a batch: the length of its first tensor (or array)."""
    if type(tree) is tuple and tree and isinstance(tree[0], Tensor) and tree[0].ndim:
        return tree[0].shape[0]
    for o in leaves(tree):
        if isinstance(o, (Tensor, np.ndarray)) and o.ndim:
            return len(o)
    return 1


def find_device(tree: Any) -> torch.device:
    """The device of the first tensor."""
    return next((o.device for o in tensors_of(tree)), torch.device("cpu"))


def to_device(tree: Any, device: torch.device | str | int | None = None, non_blocking: bool = False) -> Any:
    """Every tensor on `device` (the default device, if None); anything else as it is."""
    target = torch.device(device) if device is not None else default_device()
    return map_tree(
        lambda o: o.to(target, non_blocking=non_blocking) if isinstance(o, Tensor) and o.device != target else o, tree
    )


def to_cpu(tree: Any) -> Any:
    """Every tensor in main memory."""
    return to_device(tree, "cpu")


def to_detach(tree: Any, cpu: bool = True) -> Any:
    """Every tensor without its history, in main memory unless `cpu=False`."""
    detached = map_tree(lambda o: o.detach() if isinstance(o, Tensor) else o, tree)
    return to_cpu(detached) if cpu else detached


def to_np(tree: Any) -> Any:
    """Every tensor as a NumPy array."""
    return map_tree(lambda o: o.detach().cpu().numpy() if isinstance(o, Tensor) else o, tree)


def default_device(use: bool | None = None) -> torch.device:
    """Where batches and models go: CUDA, then MPS, then the CPU; `use=False` asks for the CPU."""
    if use is False:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
