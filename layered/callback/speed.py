"""Faster training by one call: channels last in memory, and compiled models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from layered.callback.precision import AMPMode, MixedPrecision
from layered.foundation import map_tree, names_of, refuse_unknown
from layered.loop import Callback, Loop

LoopT = TypeVar("LoopT", bound=Loop)


class ChannelsLast(Callback):
    """During fits and predictions, weights and inputs of four axes lie channels last in memory; shapes stay the same."""

    order = -1

    def before_fit(self) -> None:
        _lay_out(self.learn.model, torch.channels_last)

    def before_batch(self) -> None:
        self.learn.xb = map_tree(_channels_last, self.learn.xb)

    def on_end(self) -> None:
        _lay_out(self.learn.model, torch.contiguous_format)


def _channels_last(x: object) -> Any:
    return x.contiguous(memory_format=torch.channels_last) if isinstance(x, Tensor) and x.ndim == 4 else x


def _lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    for p in model.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=memory_format)


def to_channelslast(loop: LoopT, use_amp: bool = True, amp_mode: AMPMode | str = AMPMode.FP16, **scaler: Any) -> LoopT:
    """Train with channels last in memory from now on; returns the loop.

    Args:
        use_amp: In mixed precision too, where it pays: `amp_mode` and the arguments of `MixedPrecision`.
    """
    precision = [MixedPrecision(amp_mode, **scaler)] if use_amp else []
    return loop.remove_cbs([ChannelsLast, *([MixedPrecision] if use_amp else [])]).add_cbs([ChannelsLast(), *precision])


def to_contiguous(loop: LoopT, to_fp32: bool = False) -> LoopT:
    """Train with the usual memory layout again; returns the loop.

    Args:
        to_fp32: In full precision too.
    """
    return loop.remove_cbs([ChannelsLast, *([MixedPrecision] if to_fp32 else [])])


def compile_model(loop: LoopT, **options: Any) -> LoopT:
    """Compile the model with `torch.compile` when it next runs; returns the loop.

    The model stays the module that it is: same class, same names of weights. Files written by `save` and `export` do not
    know of it, and a copy or an unpickled model is not compiled. `uncompile` takes it back.

    Args:
        options: Those of `torch.compile`: `mode`, `fullgraph`, `dynamic`, `backend`, ….
    """
    refuse_unknown(options, names_of(torch.compile) - {"model"}, "compile")
    call: Callable[..., Any] = loop.model._call_impl
    # As Module.compile does; but of a function, for torch 2.6 leaves alone what is defined in torch.nn, as a Sequential is.
    loop.model._compiled_call_impl = torch.compile(lambda *args, **kwargs: call(*args, **kwargs), **options)
    return loop


def uncompile(loop: LoopT) -> LoopT:
    """Run the model without compilation again; returns the loop."""
    loop.model._compiled_call_impl = None
    return loop
