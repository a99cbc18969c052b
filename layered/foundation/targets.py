"""What a target is decides which loss fits it: one table, filled by whoever brings losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layered.foundation.errors import CannotTrain, nearest
from layered.foundation.registry import Registry

default_losses: Registry[Callable[..., Callable[..., Any]]] = Registry("kind of target with a default loss")


def default_loss_for(kind: str | None, **details: Any) -> Callable[..., Any]:
    """A new loss for targets of this kind.

    kind       "category", "multicategory", "regression" or "mask", as filled by `layered.nn.losses`;
               `default_losses.add("ranking", RankingLoss)` adds another
    details    passed to the loss's constructor
    raises     CannotTrain if no loss is known for the kind
    """
    if kind in default_losses:
        return default_losses.get(str(kind))(**details)
    near = nearest(kind, default_losses) if kind else []
    raise CannotTrain(
        "no default loss is known for these targets",
        got=f"targets of kind {kind!r}",
        expected="one of the kinds " + ", ".join(default_losses.names()) if default_losses.names() else None,
        fix=f"use the kind '{near[0]}', or pass loss_func=" if near else "pass loss_func=",
    )
