"""The states of callbacks and random generators as data: those of this process, and where other processes differ."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from layered.files import encode_tree
from layered.foundation import (
    CannotSave,
    get_random_states,
    is_sharded,
    rank_and_world,
    set_random_states,
    tensors_of,
)
from layered.loop.batches import generators_of
from layered.loop.listeners import Listener
from layered.loop.processes import gathered
from layered.loop.state import AbstractLoop

Packed: TypeAlias = tuple[Any, dict[str, Tensor]]  # what `encode_tree` returns, and the tensors it refers to

_CHANGING = (
    random.Random,
    torch.Generator,
    np.random.Generator,
    np.random.RandomState,
)  # in place, which `mark` cannot detect


def _changes(value: object) -> bool:
    """Whether a value can change in place undetected, so that it cannot be left out of a checkpoint."""
    dataclass = getattr(value, "__dataclass_params__", None)
    return isinstance(value, _CHANGING) or (dataclass is not None and not dataclass.frozen)


def pack_callback(cb: Listener, where: str) -> Packed:
    """The state of a callback, without what cannot be written but is unchanged since the callback was made."""
    res: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in cb.state_dict().items():
        part: dict[str, Tensor] = {}
        try:
            res[name] = encode_tree(value, part, f"{where}.{name}")
        except CannotSave:
            if not cb.unchanged(name) or _changes(value):
                raise
        tensors.update(part)
    return res, tensors


def own_parts(parts: Mapping[str, Any]) -> dict[str, Packed]:
    """Parts of a state that may differ between processes, each packed by itself."""
    packed: dict[str, Packed] = {}
    for name, part in parts.items():
        tensors: dict[str, Tensor] = {}
        packed[name] = encode_tree(part, tensors, name), tensors
    return packed


def transient_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The non-persistent buffers of a model, by name."""
    kept = model.state_dict().keys()
    return {name: x for name, x in model.named_buffers() if name not in kept}


def restore_buffers(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Restore buffers by name, in place because others may hold them too, unless the shape differs."""
    for name, buffer in buffers.items():
        old, (parent, _, leaf) = model.get_buffer(name), name.rpartition(".")
        if old.shape == buffer.shape:
            old.detach().copy_(buffer)
        else:
            setattr(model.get_submodule(parent), leaf, buffer.to(old))


def random_states(loop: AbstractLoop) -> dict[str, Any]:
    """The states of the global generators and of those that belong to the loaders."""
    return {**get_random_states(), "loader": [generator.get_state() for generator in generators_of(loop.dls)]}


def restore_random_states(loop: AbstractLoop, states: Mapping[str, Any]) -> None:
    """Restore what `random_states` returned."""
    set_random_states({**get_random_states(), **states})
    for generator, state in zip(generators_of(loop.dls), states.get("loader", ()), strict=False):
        generator.set_state(state)


def states_of_others(parts: Mapping[str, Packed], random_states: object) -> list[Packed]:
    """For each rank but 0: its random states, and those of its `parts` that differ from rank 0's.

    A collective call: all processes must make it.
    """
    if rank_and_world()[1] == 1:
        return []
    digests = {name: _digest(packed) for name, packed in parts.items()}
    of_first = gathered(digests)[0]
    tensors: dict[str, Tensor] = {}
    own = {"random": encode_tree(random_states, tensors, "random"), "parts": {}}
    for name, (state, used) in parts.items():
        if digests[name] != of_first.get(name):
            own["parts"][name] = state
            tensors.update({place: x for place, x in used.items() if not is_sharded(x)})
    return gathered((own, tensors))[1:]


def digest(batch: object) -> str:
    """A digest of the tensors in a batch.

    Args:
        batch: The batch.
    """
    found = hashlib.blake2b(digest_size=16)
    for x in tensors_of(batch):
        found.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _digest(packed: Packed) -> str:
    """A digest of a state that does not depend on which device of a kind it is on."""
    state, tensors = packed
    digest = hashlib.blake2b(re.sub(r"cuda:\d+", "cuda", json.dumps(state)).encode(), digest_size=16)
    for x in (x for x in tensors.values() if not is_sharded(x)):  # which the file holds as a whole
        digest.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
