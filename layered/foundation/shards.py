"""Sharded tensors, each process holding a part: torch's `DTensor`, which FSDP2 makes of parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def is_sharded(x: object) -> bool:
    """Whether a tensor is spread over processes.

    Args:
        x: Anything.

    Examples:
        >>> is_sharded(torch.zeros(2))
        False
    """
    return has_sharded([x])


def has_sharded(tensors: Iterable[object]) -> bool:
    """Whether one of the tensors is sharded.

    Args:
        tensors: Tensors; in a process that has never sharded any, they are not looked at.
    """
    dtensor = sys.modules.get("torch.distributed.tensor")  # imported by whatever shards; costly to import
    return dtensor is not None and any(issubclass(kind, dtensor.DTensor) for kind in set(map(type, tensors)))


def local_part(x: Tensor) -> Tensor:
    """The part of a tensor in this process, sharing its memory; all of a tensor that is not sharded.

    Args:
        x: A tensor.
    """
    if not is_sharded(x):
        return x
    sharded: Any = x
    with torch.no_grad():
        part: Tensor = sharded.to_local()
    return part


@torch.no_grad()
def full_tensor(x: Tensor) -> Tensor:
    """The whole of a tensor. Of a sharded one it is a collective call: all processes must make it.

    Args:
        x: A tensor.
    """
    sharded: Any = x
    whole: Tensor = sharded.full_tensor() if is_sharded(x) else x
    return whole


@torch.no_grad()
def shard_like(x: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, sharded as another one is over the processes; unchanged where that is not sharded.

    Args:
        x: The same in each process.
        own: A tensor of its shape.
    """
    sharded: Any = own
    if not is_sharded(own) or is_sharded(x):
        return x
    mesh, (placement,) = sharded.device_mesh, sharded.placements
    parts = x.to(own.device).chunk(mesh.size(), placement.dim)
    rank = mesh.get_local_rank()
    part = parts[rank] if rank < len(parts) else parts[0].narrow(placement.dim, 0, 0)
    placed: Tensor = sys.modules["torch.distributed.tensor"].DTensor.from_local(
        part.clone(), mesh, sharded.placements, run_check=False, shape=own.shape, stride=own.stride()
    )
    return placed
