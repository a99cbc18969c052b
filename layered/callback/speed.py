"""Faster training by one call: channels-last memory format, and compiled models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from layered.callback.precision import AMPMode, MixedPrecision
from layered.foundation import CannotTrain, map_tree, names_of, refuse_unknown
from layered.loop import Callback, Loop, inner_units

LoopT = TypeVar("LoopT", bound=Loop)


class ChannelsLast(Callback):
    """During fits and predictions, 4-d weights and inputs are channels last in memory; shapes stay the same."""

    order = -1
    state_kinds = ()

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
        loop: The learner.
        use_amp: In mixed precision too, where it pays.
        amp_mode: Of `MixedPrecision`.
        scaler: Other arguments of `MixedPrecision`.
    """
    precision = [MixedPrecision(amp_mode, **scaler)] if use_amp else []
    return loop.remove_cbs([ChannelsLast, *([MixedPrecision] if use_amp else [])]).add_cbs([ChannelsLast(), *precision])


def to_contiguous(loop: LoopT, to_fp32: bool = False) -> LoopT:
    """Return to the default memory format; returns the loop.

    Args:
        loop: The learner.
        to_fp32: Return to full precision too.
    """
    return loop.remove_cbs([ChannelsLast, *([MixedPrecision] if to_fp32 else [])])


def compile_model(loop: LoopT, blocks: bool = False, **options: Any) -> LoopT:
    """Compile the model with `torch.compile` when it next runs; returns the loop.

    The model stays the same module: same class, same names of weights. Files written by `save` and `export` are not affected, and
    a copy or an unpickled model is not compiled. `uncompile` undoes it.

    Args:
        loop: The learner.
        blocks: Compile each block by itself, which takes less time where many are alike, and is what sharded models need: the
            layers of its lists and sequences that consist of several layers, and its parameter groups.
        options: Those of `torch.compile`: `mode`, `fullgraph`, `dynamic`, `backend`, ….

    Raises:
        BadArgument: `torch.compile` has no such option.
        CannotTrain: The model has no blocks.
    """
    refuse_unknown(options, names_of(torch.compile) - {"model"}, "compile")
    parts = inner_units(loop.model, loop.splitter(loop.model)) if blocks else [loop.model]
    if not parts:
        raise CannotTrain("the model has no blocks to compile", got=type(loop.model).__name__, fix="learn.compile()")
    for part in parts:
        _compile(part, options)
    return loop


def _compile(part: nn.Module, options: dict[str, Any]) -> None:
    call: Callable[..., Any] = part._call_impl
    # Like Module.compile, but on a function: torch 2.6 skips code that is defined in torch.nn, such as Sequential's.
    part._compiled_call_impl = torch.compile(lambda *args, **kwargs: call(*args, **kwargs), **options)


def uncompile(loop: LoopT) -> LoopT:
    """Return to running the model without compilation; returns the loop.

    Args:
        loop: The learner.
    """
    for part in loop.model.modules():
        part._compiled_call_impl = None
    return loop
