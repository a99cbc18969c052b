"""State outside `state_dict`: counters, tensors and generators that models, losses, data sets and transforms hold."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import CellType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from layered.data import DataLoader, as_loader
from layered.files import encode_tree
from layered.foundation import (
    GENERATORS,
    CannotSave,
    Held,
    Slot,
    Stateful,
    assigned,
    content,
    function_name,
    generator_state,
    is_own_code,
    is_place_or_text,
    leaves,
    own_vars,
    set_generator_state,
    tensors_of,
    warn,
)
from layered.loop.batches import generators_of, valid_of
from layered.loop.processes import unwrapped
from layered.loop.resume.snapshot import Packed
from layered.loop.state import AbstractLoop

OUTSIDE, AT_START = "outside", "outside_at_start"  # of a checkpoint: as it is now, and as its pass began
CACHED = 1 << 24  # bytes from which a table that grows is taken for a cache
_NOT_DATA = ("model.", "loss_func.", "step.", "valid.")


class Outside:
    """What objects outside of the loop hold that has changed since a fit began, whatever it is.

    Args:
        loop: The loop, whose fit begins.
    """

    def __init__(self, loop: AbstractLoop) -> None:
        held = held_of(loop)
        self.contents = held.contents()
        self.known = {id(owner): owner for owner in (*held.owners.values(), *(s.owner for s in held.slots.values()))}
        self.caches: set[str] = set()  # places that were said to be taken for caches

    def pack(self, loop: AbstractLoop, name: str = OUTSIDE) -> tuple[Packed, dict[str, Any]]:
        """What has changed, to be written to a checkpoint, and a summary of what every place holds.

        Args:
            loop: The loop.
            name: What the names of tensors begin with.

        Raises:
            CannotSave: Naming a place whose value cannot be restored from a file.
        """
        held, packed, tensors, contents = held_of(loop), dict[str, Any](), dict[str, Tensor](), dict[str, Any]()
        for place, slot in held.slots.items():
            contents[place] = content(slot.value)
            before = self.contents.get(place)
            if contents[place] == before or self._is_new(held, place, slot):
                continue
            value = _state(slot)
            try:
                if not _may_set(held, slot, value):
                    raise _cannot_keep(place, slot)
                if _is_cache(before, value) and sum(x.nbytes for x in tensors_of(value)) > CACHED:
                    raise _cannot_keep(place, slot)
                part: dict[str, Tensor] = {}
                packed[place] = encode_tree(value, part, f"{name}.{place}")
                tensors |= part
            except CannotSave:
                if not _is_cache(before, value):
                    raise _cannot_keep(place, slot) from None
                self._say_cache(place)
        return (packed, tensors), contents

    def _is_new(self, held: Held, place: str, slot: Slot) -> bool:
        """Whether an object was made during the fit; one that may change since then cannot be restored."""
        if place in self.contents or id(slot.owner) in self.known:
            return False
        if slot.name in held.opened or isinstance(slot.value, GENERATORS):
            raise _cannot_keep(place, slot, made_later=True)
        return True

    def _say_cache(self, place: str) -> None:
        if place not in self.caches:
            self.caches.add(place)
            warn(f"{place} only grows, and is taken for a cache: checkpoints leave it out")


def held_of(loop: AbstractLoop) -> Held:
    """The places that may hold state outside `state_dict`: of the data, the model, the loss, and the function of a step.

    Args:
        loop: The loop.
    """
    loaders = {"train": loop.dls.train, "valid": valid_of(loop.dls)}
    roots = {name: dl for name, dl in loaders.items() if _has_own_state(dl)}
    roots |= {"model": unwrapped(loop.model), "loss_func": loop.loss_func, "step": loop.step}
    samplers = [sampler for dl in loaders.values() if dl is not None for sampler in as_loader(dl).samplers]
    tensors = [*unwrapped(loop.model).parameters(), *unwrapped(loop.model).buffers()]
    tensors += loop.loss_func.state_dict().values() if isinstance(loop.loss_func, nn.Module) else []
    streams = [dl.dataset for dl in loaders.values() if isinstance(dl, DataLoader) and not dl.indexed]
    foreign = [as_loader(dl).dataset for dl in loaders.values() if dl is not None and not isinstance(dl, DataLoader)]
    streams += [
        data for data in foreign if isinstance(data, IterableDataset)
    ]  # they begin anew where a pass is replayed
    of_streams = [stream for stream in streams if isinstance(stream, Stateful)]
    others = (loop, loop.dls, loop.opt, *loop.cbs, *loop.metrics)
    kept = (*others, *of_streams, *generators_of(loop.dls), *samplers, *tensors)
    held = Held({name: root for name, root in roots.items() if root is not None}, kept)
    for cb in loop.cbs:
        held.opened |= assigned(type(cb), lambda kind: is_own_code(kind.__module__)) - {"*"}
    return held


def _has_own_state(dl: Any) -> bool:
    """Whether a loader may hold state that it does not keep itself, as a list of batches does not."""
    is_plain = dl is None or isinstance(dl, (list, tuple))
    return not is_plain and (isinstance(dl, DataLoader) or not as_loader(dl).keeps_position)


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether what the training loader may draw from has changed, so that its pass is restored by replaying it.

    Args:
        before: The second result of `Outside.pack` as the pass began.
        now: The same, now.
    """
    return any(now[place] != before.get(place) for place in now if not place.startswith(_NOT_DATA))


def check_outside(loop: AbstractLoop, kept: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """For each place in a checkpoint, whether it can be restored; nothing changes.

    Args:
        loop: The loop.
        kept: Values by place.
    """
    held = held_of(loop)
    for place, value in kept.items():
        slot = _slot(held, place)
        if slot is None:
            yield f"{OUTSIDE}.{place}", False, "missing now"
        else:
            is_fit = _takes(held, slot, value)
            yield f"{OUTSIDE}.{place}", is_fit, type(value).__name__ if is_fit else "not of its kind"


def restore_outside(loop: AbstractLoop, kept: Mapping[str, Any]) -> None:
    """Restore what `check_outside` has accepted.

    Args:
        loop: The loop.
        kept: Values by place.
    """
    held = held_of(loop)
    for place, value in kept.items():
        slot = _slot(held, place)
        if slot is not None and _takes(held, slot, value):
            _put(slot, copy.deepcopy(value))  # what is restored may change, and be restored again


def _takes(held: Held, slot: Slot, value: object) -> bool:
    return _is_alike(slot, value) and _may_set(held, slot, value)


def _slot(held: Held, place: str) -> Slot | None:
    """A place in the current objects, which may lack the attribute so far."""
    owner, _, name = place.rpartition(".")
    if place in held.slots or owner not in held.owners:
        return held.slots.get(place)
    of = held.owners[owner]
    attributes = own_vars(of)
    is_free = attributes is not None and not hasattr(type(of), name) and name in assigned(type(of), _is_specific)
    return Slot(of, name, (attributes or {}).get(name)) if is_free else None


def _state(slot: Slot) -> Any:
    if isinstance(slot.value, GENERATORS):
        return generator_state(slot.value)
    return slot.value.state_dict() if slot.name is None else slot.value


def _may_set(held: Held, slot: Slot, value: object) -> bool:
    """Whether a file may change this: what code assigns outside of `__init__`, or what changes in place and names no file."""
    if slot.name is None or isinstance(slot.value, GENERATORS):
        return True
    by_own_code = assigned(_class_of(slot.owner), _is_specific)
    if slot.name in by_own_code:
        return True
    if any(is_place_or_text(leaf) for leaf in leaves(value)):
        return False
    is_open = not {slot.name, "*"}.isdisjoint(held.opened) or "*" in by_own_code
    return is_open or isinstance(slot.owner, (dict, CellType)) or isinstance(slot.value, _IN_PLACE)


def _is_specific(kind: type) -> bool:
    return kind is not nn.Module  # whose methods set whatever they are given


def _class_of(owner: object) -> type:
    return owner if isinstance(owner, type) else type(owner)


_IN_PLACE = (Tensor, np.ndarray, list, dict, set)


def _is_alike(slot: Slot, value: object) -> bool:
    """Whether a value may take the place of the present one."""
    old = slot.value
    if isinstance(old, GENERATORS) or slot.name is None or old is None or value is None:
        return True
    if isinstance(old, (bool, int, float)):
        return isinstance(value, (bool, int, float))
    return isinstance(value, type(old)) or isinstance(old, type(value))


def _put(slot: Slot, value: Any) -> None:
    """Restore a value, in place where others may hold the same object."""
    old = slot.value
    if isinstance(old, GENERATORS):
        set_generator_state(old, value)
    elif slot.name is None:
        old.load_state_dict(value)
    elif isinstance(old, Tensor) and isinstance(value, Tensor) and (old.shape, old.dtype) == (value.shape, value.dtype):
        with torch.no_grad():
            old.detach().copy_(value)
    elif (
        isinstance(old, np.ndarray)
        and isinstance(value, np.ndarray)
        and old.shape == value.shape
        and old.flags.writeable
    ):
        old[...] = value
    elif isinstance(old, list) and isinstance(value, list):
        old[:] = value
    elif isinstance(old, (dict, set)) and type(old) is type(value):
        old.clear()
        old.update(value)
    else:
        slot.set(value)


def _is_cache(before: object, value: object) -> bool:
    """Whether a table or list has only become longer."""
    if not isinstance(value, (dict, list)) or not isinstance(before, tuple):
        return False
    return before[0] is type(value) and bool(before[1] < len(value))


def _cannot_keep(place: str, slot: Slot, made_later: bool = False) -> CannotSave:
    owner, kind = slot.owner, type(slot.owner)
    if isinstance(owner, nn.Module):
        fix = (
            f"hold tensors by register_buffer, or give {kind.__name__} the methods get_extra_state and set_extra_state"
        )
    elif own_vars(owner) is not None:
        fix = f"give {function_name(kind)} the methods state_dict and load_state_dict"
    else:
        fix = "hold it in an object with the methods state_dict and load_state_dict"
    later = "is made" if made_later else "changes"
    return CannotSave(
        f"{place} {later} during the fit, and a checkpoint cannot restore it",
        got=type(slot.value).__qualname__,
        expected="numbers, tensors, arrays, generators, and lists or dicts of these, made before the fit",
        fix=fix,
    )
