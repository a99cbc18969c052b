"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from layered.foundation import unknown_name
from layered.optim.muon import Muon
from layered.optim.schedule_free import ScheduleFree
from layered.optim.zoo import SGD, Adagrad, Adam, Lamb, Larc, Lion, QHAdam, RAdam, RMSProp, ranger

_RECIPES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": Adam,
    "lamb": Lamb,
    "larc": Larc,
    "lion": Lion,
    "muon": Muon,
    "qhadam": QHAdam,
    "radam": RAdam,
    "ranger": ranger,
    "rmsprop": RMSProp,
    "schedulefree": ScheduleFree,
    "sgd": SGD,
}


def optimizer_named(name: str) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer of a name, in any case: a recipe of the library, else a class of `torch.optim`.

    Args:
        name: "adam", "SGD", "nadam", ….

    Raises:
        UnknownName: Neither has it.

    Examples:
        >>> optimizer_named("adam") is Adam, optimizer_named("NAdam") is torch.optim.NAdam
        (True, True)
    """
    found = {n.lower(): one for n, one in vars(torch.optim).items() if isinstance(one, type)} | _RECIPES
    if name.lower() not in found:
        raise unknown_name("optimizer", name, found.keys() - {"optimizer"})
    return found[name.lower()]
