"""Parameter groups of one block each, for any body: `splitter=block_groups`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from layered.foundation import L
from layered.integrations import TimmBody, TimmMaps, timm_groups
from layered.nn import SequentialEx
from layered.optim import params

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_groups(m: nn.Module) -> L:
    """A splitter with a group for each block of the body, the first layers first, and one for the head.

    A block is what the architecture repeats: a residual block, a transformer's layer, or a convolution with its norm.
    timm's models say themselves what their blocks are; in others they are the parts of nested sequences.

    Args:
        m: `Sequential(body, head)`, a `DynamicUnet`, or any other model, whose last layer is then the last group.

    Examples:
        >>> from torchvision.models import resnet18
        >>> [len(group) for group in block_groups(resnet18())]  # the stem, eight blocks, the classifier
        [3, 6, 6, 9, 6, 9, 6, 9, 6, 2]
    """
    has_head = isinstance(m, SequentialEx) or (isinstance(m, nn.Sequential) and len(m) == 2)
    body: Any = m[0] if has_head else m  # type: ignore[index]
    head = params(m[1:]) if has_head else []  # type: ignore[index]
    is_timm = isinstance(body, (TimmBody, TimmMaps))
    blocks = timm_groups(body) if is_timm else None
    if blocks is None:
        blocks = _structural(body.model if is_timm else body)
    groups: list[list[nn.Parameter]] = []
    for block in blocks:
        if groups and all(p.ndim < 2 for p in block):  # a norm belongs to the block before
            groups[-1] += block
        else:
            groups.append(block)
    in_body = {id(p) for group in groups for p in group}
    rest = [p for p in head if id(p) not in in_body]
    return L([*groups, rest] if rest else groups, use_list=True)


def _structural(body: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each block; what is outside all blocks belongs to the first."""
    groups: list[list[nn.Parameter]] = []
    seen: set[int] = set()
    for block in (block for child in body.children() for block in _blocks(child)):
        groups.append([p for p in block.parameters() if id(p) not in seen])
        seen.update(map(id, groups[-1]))
    outside = [p for p in body.parameters() if id(p) not in seen]
    groups = [group for group in groups if group]
    return [[*outside, *groups[0]], *groups[1:]] if groups else [outside]


def _blocks(m: nn.Module) -> Iterator[nn.Module]:
    """The parts of nested sequences; a sequence of plain layers with a single convolution is a block itself."""
    children = list(m.children())
    is_plain = not any(True for child in children for _ in child.children())
    weights = sum(1 for child in children if any(p.ndim > 1 for p in child.parameters()))
    is_sequence = isinstance(m, _CONTAINERS) and not (is_plain and weights <= 1)
    if is_sequence or any(map(_is_stack, children)):
        for child in children:
            yield from _blocks(child)
    else:
        yield m


def _is_stack(m: nn.Module) -> bool:
    """Whether a module is a sequence of blocks of one kind, such as the layers of a transformer's encoder."""
    kinds = {
        type(child)
        for child in m.children()
        if not isinstance(child, _CONTAINERS) and any(True for _ in child.children())
    }
    return (
        isinstance(m, _CONTAINERS)
        and len(m) > 1
        and len(kinds) == 1
        and all(type(child) in kinds for child in m.children())
    )
