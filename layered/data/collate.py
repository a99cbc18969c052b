"""Samples to batches: stacked element by element, keeping what the elements mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from layered.foundation import BadValue, MixedSizes, TensorBase, map_tree, retype, tensor, with_elements


def fa_collate(samples: Sequence[Any]) -> Any:
    """Collate samples into a batch: tensors are stacked along a new first axis and keep their type.

    Tuples, lists, mappings and dataclasses are collated element by element; numbers become a tensor, text a list.

    Args:
        samples: At least one sample; all of the same structure.

    Raises:
        MixedSizes: Two samples differ in shape, length or keys; the message names both.
        BadValue: An element cannot become a tensor.

    Examples:
        >>> fa_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
        {'x': tensor([1, 2]), 'name': ['a', 'b']}
    """
    example = samples[0]
    if isinstance(example, Tensor):
        return _stack(samples)
    if isinstance(example, (tuple, list)):
        _check_alike(samples, "length", len, "pad them in before_batch=, or make tensors of equal size in item_tfms=")
        return with_elements(example, [fa_collate(column) for column in zip(*samples, strict=True)])
    if isinstance(example, Mapping):
        _check_alike(samples, "keys", _keys, "give all samples the same keys, in item_tfms= or before_batch=")
        return {key: fa_collate([s[key] for s in samples]) for key in example}
    if is_dataclass(example) and not isinstance(example, type):
        names = [field.name for field in fields(example) if field.init]
        return replace(example, **{name: fa_collate([getattr(s, name) for s in samples]) for name in names})
    if isinstance(example, (np.ndarray, np.generic)):
        return _stack([tensor(s) if isinstance(s, (np.ndarray, np.generic, int, float)) else s for s in samples])
    try:
        return default_collate(list(samples))
    except TypeError as error:
        raise _no_tensor(samples) from error


def _no_tensor(samples: Sequence[Any]) -> BadValue:
    kinds = ", ".join(sorted({type(s).__name__ for s in samples}))
    return BadValue(
        "the samples of a batch cannot become a tensor",
        got=kinds,
        expected="tensors, arrays, numbers or text, or tuples, lists and mappings of them",
        fix="return a value from the getter or transform"
        if "NoneType" in kinds
        else "convert them to tensors in item_tfms=",
    )


def _keys(sample: object) -> list[Any]:
    """The keys of a sample, to be compared and shown."""
    return sorted(sample, key=str) if isinstance(sample, Mapping) else [f"those of a {type(sample).__name__}"]


def _check_alike(samples: Sequence[Any], what: str, of: Callable[[Any], Any], fix: str) -> None:
    """Raise MixedSizes for the first sample whose `of(sample)` differs from that of sample 0."""
    found = [of(s) if isinstance(s, Sized) else type(s).__name__ for s in samples]
    odd = next((i for i, value in enumerate(found) if value != found[0]), None)
    if odd is not None:
        error = MixedSizes(
            f"the samples of a batch differ in {what}",
            got=f"{found[0]} in sample 0 and {found[odd]} in sample {odd} of the batch",
            expected=f"the same {what} for all samples",
            fix=fix,
        )
        error.rows = 0, odd
        raise error


def _stack(tensors: Sequence[Any]) -> Tensor:
    if not all(isinstance(t, Tensor) for t in tensors):
        raise _no_tensor(tensors)
    first = tensors[0]
    plain = [t.as_subclass(Tensor) for t in tensors]
    shapes = [t.shape for t in plain]
    if any(shape != shapes[0] for shape in shapes):
        other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
        error = MixedSizes(
            f"the samples of a batch cannot be stacked: {type(first).__name__} of different sizes",
            got=f"{tuple(shapes[0])} in sample 0 and {tuple(shapes[other])} in sample {other} of the batch",
            expected="the same size for all samples",
            fix="resize or pad them; for images, item_tfms=Resize(224)",
        )
        error.rows = 0, other
        raise error
    made: Tensor = retype(torch.stack(plain), first)
    for name, value in vars(first).items():
        if isinstance(value, Tensor):  # of each sample its own: where a text is padding
            setattr(made, name, _stack([getattr(t, name) for t in tensors]))
    return made


def fa_convert(sample: object) -> Any:
    """Convert the arrays of an item that is already a batch to tensors; tensors and anything else stay as they are.

    Args:
        sample: Any nesting of tuples, lists and mappings.
    """
    return map_tree(lambda o: tensor(o) if isinstance(o, (np.ndarray, np.generic)) else o, sample)


class Packed:
    """A plain tensor with its semantic type and metadata, to be sent from a worker to the parent.

    torch's worker queue shares the memory of plain tensors; a subclass would lose its attributes on the way.
    """

    __slots__ = ("data", "kind", "meta")

    def __init__(self, data: Tensor, kind: type[TensorBase], meta: dict[str, Any]) -> None:
        self.data, self.kind, self.meta = data, kind, meta

    def pin_memory(self, device: object = None) -> Packed:
        """A copy in page-locked memory; torch's loader calls this method where an object has it."""
        return Packed(self.data.pin_memory(), self.kind, self.meta)

    def open(self) -> TensorBase:
        """The tensor with its semantic type."""
        semantic = self.data.as_subclass(self.kind)
        semantic.__dict__.update(self.meta)
        return semantic


def pack(tree: object) -> Any:
    """Replace semantic tensors by `Packed` plain ones."""
    return map_tree(lambda o: Packed(o.as_plain(), type(o), o.__dict__) if isinstance(o, TensorBase) else o, tree)


def unpack_batch(tree: object) -> Any:
    """Undo `pack`."""
    return map_tree(lambda o: o.open() if isinstance(o, Packed) else o, tree)
