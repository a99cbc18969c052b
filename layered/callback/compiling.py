"""Compiled models, by one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from layered.foundation.arguments import names_of
from layered.foundation.errors import refuse_unknown
from layered.loop.loop import Loop

LoopT = TypeVar("LoopT", bound=Loop)


def compile_model(loop: LoopT, **options: Any) -> LoopT:
    """Compile the model with `torch.compile` when it next runs; returns the loop.

    options    those of `torch.compile`: `mode`, `fullgraph`, `dynamic`, `backend`, …

    The model stays the module that it is: same class, same names of weights. Files written by `save` and `export` do not
    know of it, and a copy or an unpickled model is not compiled. `uncompile` takes it back.
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
