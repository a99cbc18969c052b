"""Samples to batches: stacked element by element, keeping what the elements mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from layered.foundation.errors import MixedSizes
from layered.foundation.tensors import TensorBase, retype, tensor
from layered.foundation.tree import map_tree


def fa_collate(samples: Sequence[Any]) -> Any:
    """One batch of a list of samples: tensors are stacked along a new first axis and keep their type.

    Tuples, lists and mappings are collated element by element; numbers become a tensor.
    raises     MixedSizes, with the two samples, where tensors differ in shape
    """
    example = samples[0]
    if isinstance(example, Tensor):
        return _stack(samples)
    if isinstance(example, (tuple, list)):
        if len({len(s) for s in samples}) > 1:
            lengths = [len(s) for s in samples]
            raise MixedSizes("the samples of a batch differ in length", got=lengths, fix="pad them in before_batch=")
        elements = [fa_collate(column) for column in zip(*samples, strict=True)]
        return type(example)(*elements) if hasattr(example, "_fields") else type(example)(elements)
    if isinstance(example, Mapping):
        return {key: fa_collate([s[key] for s in samples]) for key in example}
    if isinstance(example, (np.ndarray, np.generic)):
        return _stack([tensor(s) for s in samples])
    return default_collate(list(samples))


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    shapes = [tuple(t.shape) for t in tensors]
    if any(shape != shapes[0] for shape in shapes):
        other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
        error = MixedSizes(
            f"the samples of a batch cannot be stacked: {type(first).__name__} of different sizes",
            got=f"{shapes[0]} in sample 0 and {shapes[other]} in sample {other} of the batch",
            expected="one size for all",
            fix="add a transform that makes them equal, for images item_tfms=Resize(224)",
        )
        error.rows = 0, other
        raise error
    stacked = torch.stack([t.as_subclass(Tensor) for t in tensors])
    return retype(stacked, first)  # type: ignore[no-any-return]  # a tensor stays one


def fa_convert(sample: Any) -> Any:
    """Arrays and numbers of an already batched item to tensors, keeping what is one."""
    return map_tree(lambda o: tensor(o) if isinstance(o, (np.ndarray, np.generic)) else o, sample)


class Packed:
    """A plain tensor and the meaning it had, for the way from a worker to the parent."""

    __slots__ = ("data", "kind", "meta")

    def __init__(self, data: Tensor, kind: type[TensorBase], meta: dict[str, Any]) -> None:
        self.data, self.kind, self.meta = data, kind, meta

    def pin_memory(self, device: Any = None) -> Packed:
        """The same in page-locked memory, as torch's loader asks for it."""
        return Packed(self.data.pin_memory(), self.kind, self.meta)

    def open(self) -> TensorBase:
        """The tensor with its meaning."""
        semantic = self.data.as_subclass(self.kind)
        semantic.__dict__.update(self.meta)
        return semantic


def pack(tree: Any) -> Any:
    """Semantic tensors as plain ones with a tag."""
    return map_tree(lambda o: Packed(o.as_plain(), type(o), o.__dict__) if isinstance(o, TensorBase) else o, tree)


def unpack(tree: Any) -> Any:
    """Undo `pack`."""
    return map_tree(lambda o: o.open() if isinstance(o, Packed) else o, tree)
