"""Hyperparameters of a parameter group: live views of torch's dict, under torch's names or the names used here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from numbers import Real
from typing import Any

from layered.foundation import OutOfRange, unknown_name

pytorch_hp_map = {
    "momentum": "mom",
    "weight_decay": "wd",
    "alpha": "sqr_mom",
    "betas__0": "mom",
    "betas__1": "sqr_mom",
}
"""Torch's names of hyperparameters to those used here; `betas__0` is the first of the pair `betas`."""


_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (math.isfinite, "a finite number"),
    "mom": (lambda value: 0 <= value < 1, "0 <= mom < 1"),
    "sqr_mom": (lambda value: 0 <= value < 1, "0 <= sqr_mom < 1"),
    "eps": (lambda value: 0 <= value < math.inf, "eps >= 0"),
    "wd": (lambda value: 0 <= value < math.inf, "wd >= 0"),
}


def check_hypers(hypers: Mapping[str, Any]) -> None:
    """Refuse values that no step can be taken with.

    Args:
        hypers: Hyperparameters by name; those without a known range are accepted.

    Raises:
        OutOfRange: A value is outside its range.

    Examples:
        >>> check_hypers({"lr": 0.1, "mom": 0.9})
    """
    for name, (is_right, expected) in _RANGES.items():
        value = hypers.get(name, 0)
        if isinstance(value, Real) and not is_right(value):
            raise OutOfRange(f"the hyperparameter '{name}' is out of range", got=value, expected=expected)


class Hypers(MutableMapping[str, Any]):
    """The hyperparameters of one group: a live view of torch's `param_groups[i]` without its tensors.

    Args:
        group: Torch's dict.

    Examples:
        >>> group = {"params": [], "lr": 0.1}
        >>> Hypers(group)["lr"] = 0.2; group
        {'params': [], 'lr': 0.2}
    """

    hidden = ("params", "param_names")

    def __init__(self, group: dict[str, Any]) -> None:
        self.group = group

    def __getitem__(self, name: str) -> Any:
        if name in self.group:
            return self.group[name]
        raise unknown_name("hyperparameter", name, self, fix=f"pass the optimizer a value: {name}=...")

    def __setitem__(self, name: str, value: object) -> None:
        self.group[name] = value

    def __delitem__(self, name: str) -> None:
        del self.group[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.group if name not in self.hidden)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class RenamedHypers(Hypers):
    """The numbers of a group of one of torch's optimizers, under the names used here.

    Args:
        group: Torch's dict.
        hp_map: From torch's names to those used here, as in `pytorch_hp_map`.

    Examples:
        >>> h = RenamedHypers({"params": [], "lr": 0.1, "betas": (0.9, 0.999), "foreach": None})
        >>> h["mom"] = 0.8; h, h.group["betas"]
        ({'lr': 0.1, 'mom': 0.8, 'sqr_mom': 0.999}, (0.8, 0.999))
    """

    def __init__(self, group: dict[str, Any], hp_map: Mapping[str, str] = pytorch_hp_map) -> None:
        super().__init__(group)
        self.keys_of = {hp_map.get(key, key): key for key in self._numbers()}

    def __getitem__(self, name: str) -> Any:
        key, _, index = self.keys_of.get(name, name).partition("__")
        value = super().__getitem__(key)
        return value[int(index)] if index else value

    def __setitem__(self, name: str, value: object) -> None:
        key, _, index = self.keys_of.get(name, name).partition("__")
        if index:
            pair = list(self.group[key])
            pair[int(index)] = value
            value = tuple(pair)
        self.group[key] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def _numbers(self) -> Iterator[str]:
        """The keys of numbers, and one for each member of a tuple."""
        for key, value in self.group.items():
            if isinstance(value, (tuple, list)) and key not in self.hidden:
                yield from (f"{key}__{i}" for i in range(len(value)))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield key
