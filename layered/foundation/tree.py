"""Trees: nested tuples, lists, mappings and dataclasses whose leaves are tensors or anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from layered.foundation.errors import BadArgument
from layered.foundation.launched import launched
from layered.foundation.lists import L
from layered.foundation.types import Device, is_named_tuple

T = TypeVar("T")


def map_tree(f: Callable[[Any], Any], tree: object) -> Any:
    """A tree of the same shape with `f` of every leaf; tuples, lists, mappings and dataclasses keep their class.

    Args:
        f: What to do with a leaf.
        tree: A tree; anything that is not a container is a leaf.

    Examples:
        >>> map_tree(str, {"a": (1, [2])})
        {'a': ('1', ['2'])}
    """
    if isinstance(tree, Tensor):
        return f(tree)
    if is_named_tuple(tree):
        return type(tree)(*(map_tree(f, o) for o in tree))
    if isinstance(tree, (tuple, list, L)):
        return type(tree)(map_tree(f, o) for o in tree)
    if isinstance(tree, Mapping):
        items = {k: map_tree(f, v) for k, v in tree.items()}
        return items if type(tree) is dict else type(tree)(items)  # type: ignore[call-arg]  # such as UserDict
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{o.name: map_tree(f, getattr(tree, o.name)) for o in fields(tree) if o.init})
    return f(tree)


def leaves(tree: object) -> Iterator[Any]:
    """Every leaf, from left to right.

    Args:
        tree: A tree; anything that is not a container is a leaf.
    """
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


def tensors_of(tree: object) -> Iterator[Tensor]:
    """Every tensor in a tree, from left to right.

    Args:
        tree: A tree.
    """
    return (o for o in leaves(tree) if isinstance(o, Tensor))


def output_scores(output: object) -> Any:
    """The scores in a model's output: its `logits`, if it has a part of that name, else the output itself.

    Args:
        output: What a model returned.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return output if logits is None else logits


def find_bs(tree: object) -> int:
    """The batch size: the length of the first tensor or array that has an axis; 1 if there is none.

    Args:
        tree: A batch.
    """
    # Nearly every batch is a tuple of tensors: no generator for those.
    if type(tree) is tuple and tree and isinstance(tree[0], Tensor) and tree[0].ndim:
        return tree[0].shape[0]
    for o in leaves(tree):
        if isinstance(o, (Tensor, np.ndarray)) and o.ndim:
            return len(o)
    return 1


def find_device(tree: object) -> torch.device:
    """The device of the first tensor; the CPU if there is none.

    Args:
        tree: A tree.
    """
    return next((o.device for o in tensors_of(tree)), torch.device("cpu"))


@runtime_checkable
class Movable(Protocol):
    """An object of another library that holds tensors, such as a graph: `batch.to("cuda")` is one that holds them there."""

    def to(self, device: Any, /) -> Any: ...
    def cpu(self) -> Any: ...


@lru_cache(maxsize=256)
def _moves(kind: Any) -> bool:
    return issubclass(kind, Movable) and not issubclass(kind, torch.nn.Module)


def to_device(tree: T, device: Device | None = None, non_blocking: bool = False) -> T:
    """The tree with every tensor, and every object that can be moved as a tensor is, on `device`; other leaves stay.

    Args:
        tree: A tree.
        device: Where to; the default device if None.
        non_blocking: Do not wait for copies from pinned memory to the GPU.
    """
    target = torch.device(device) if device is not None else default_device()

    def move(o: Any) -> Any:
        if isinstance(o, Tensor):
            return o.to(target, non_blocking=non_blocking) if o.device != target else o
        return o.to(target) if _moves(type(o)) else o  # type: ignore[arg-type]  # a class is hashable

    moved: T = map_tree(move, tree)
    return moved


def to_cpu(tree: T) -> T:
    """The tree with every tensor in main memory.

    Args:
        tree: A tree.
    """
    return to_device(tree, "cpu")


def to_detach(tree: T, cpu: bool = True) -> T:
    """The tree with every tensor cut off from the graph that computed it.

    Args:
        tree: A tree.
        cpu: Also move the tensors to main memory.
    """
    detached: T = map_tree(lambda o: o.detach() if isinstance(o, Tensor) else o, tree)
    return to_cpu(detached) if cpu else detached


def to_np(tree: object) -> Any:
    """The tree with every tensor as a NumPy array.

    Args:
        tree: A tree.
    """
    return map_tree(lambda o: o.detach().cpu().numpy() if isinstance(o, Tensor) else o, tree)


def available_device(device: Device) -> torch.device:
    """A device of this machine.

    Args:
        device: "cuda", "cuda:1", `torch.device("cpu")`, ….

    Raises:
        BadArgument: The machine does not have it, or there is no device of that name.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise BadArgument(
            f"this machine has no device '{device}'",
            got=str(error).splitlines()[0],
            fix=f"to('{default_device().type}'), or to(default_device()), which takes a GPU where there is one",
        ) from error
    return found


def default_device(use: bool | None = None) -> torch.device:
    """Where batches and models go by default: CUDA where there is one, else MPS, else the CPU.

    Of several GPUs it is the current one or, in a process that `torchrun` or its like has started, that of its local rank.

    Args:
        use: False asks for the CPU.
    """
    if use is False:
        return torch.device("cpu")
    if torch.cuda.is_available():
        found = launched()
        current = torch.cuda.current_device() if found is None else found.local_rank % torch.cuda.device_count()
        return torch.device("cuda", current)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
