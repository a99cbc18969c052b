"""Deeper models in the same memory: what the blocks of a model compute is forgotten, and computed again where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from layered.foundation import CannotTrain
from layered.loop import Callback, inner_units


class ActivationCheckpointing(Callback):
    """In training, of what a block computes only its output is kept; the rest is computed again in the backward pass.

    Gradients are the same bit for bit, dropout included, and the statistics of norm layers see each batch once. Memory for
    activations falls to about that of one block, for a third more time. Blocks are the layers of the model's lists and
    sequences that consist of several layers, and its parameter groups: those that `strategy="fsdp"` shards.

    Raises:
        CannotTrain: When a fit begins, if the model has no such blocks.
    """

    order = -8  # after the model has been wrapped
    state_kinds = ()
    transient = ("changed",)

    def __init__(self) -> None:
        self.changed: list[nn.Module] = []

    def before_fit(self) -> None:
        model = self.learn.model
        blocks = inner_units(model, self.learn.splitter(model))
        if not blocks:
            raise CannotTrain(
                "the model has no blocks whose activations could be computed again",
                got=type(model).__name__,
                expected="layers of several layers, in an nn.Sequential or nn.ModuleList",
                fix="put the layers into blocks, or leave ActivationCheckpointing out",
            )
        self.changed = [block for block in blocks if "forward" not in vars(block)]
        for block in self.changed:
            block.forward = partial(_recomputed, block, block.forward)

    def on_end(self) -> None:
        for block in self.changed:
            vars(block).pop("forward", None)
        self.changed = []


def _recomputed(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _kept_statistics(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    """Inside the `with`, norm layers do not count the batch again."""
    kinds = nn.modules.batchnorm._NormBase
    found = [(m, m.momentum, m.num_batches_tracked) for m in block.modules() if isinstance(m, kinds)]
    counting = [(m, momentum, count, count.clone()) for m, momentum, count in found if count is not None]
    for m, *_ in counting:
        m.momentum = 0.0  # autograd keeps the statistics too, so they must be there in both passes
    try:
        yield
    finally:
        for m, momentum, count, before in counting:
            m.momentum = momentum
            count.copy_(before)
