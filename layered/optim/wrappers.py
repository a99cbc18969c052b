"""Any torch optimizer, with groups that freeze and hyper-parameters under the names used here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from layered.foundation.errors import BadArgument
from layered.optim.groups import GroupedOptimizer, Hypers, as_groups

pytorch_hp_map = {
    "momentum": "mom",
    "weight_decay": "wd",
    "alpha": "sqr_mom",
    "betas__0": "mom",
    "betas__1": "sqr_mom",
}
"""Torch's names of hyper-parameters and ours; `betas__0` is the first of a pair `betas`."""


class RenamedHypers(Hypers):
    """The numbers of a torch group under our names.

    >>> h = RenamedHypers({"params": [], "lr": 0.1, "betas": (0.9, 0.999), "foreach": None}, pytorch_hp_map)
    >>> h["mom"] = 0.8; h, h.group["betas"]
    ({'lr': 0.1, 'mom': 0.8, 'sqr_mom': 0.999}, (0.8, 0.999))
    """

    def __init__(self, group: dict[str, Any], hp_map: Mapping[str, str]) -> None:
        super().__init__(group)
        self.keys_of = {hp_map.get(key, key): key for key in self._numbers()}

    def __getitem__(self, name: str) -> Any:
        key, _, index = self.keys_of.get(name, name).partition("__")
        value = super().__getitem__(key)
        return value[int(index)] if index else value

    def __setitem__(self, name: str, value: Any) -> None:
        key, _, index = self.keys_of.get(name, name).partition("__")
        if index:
            pair = list(self.group[key])
            pair[int(index)] = value
            value = tuple(pair)
        self.group[key] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def _numbers(self) -> Iterator[str]:
        """Keys of numbers; one for each member of a tuple."""
        for key, value in self.group.items():
            if isinstance(value, tuple):
                yield from (f"{key}__{i}" for i in range(len(value)))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield key


class OptimWrapper(GroupedOptimizer):
    """A torch optimizer that can be frozen, given rates per group and scheduled like ours.

    params          as for `Optimizer`; not needed when `opt` is built already
    opt             a torch optimizer, or its class, or a function `opt(groups, **kwargs)` that makes one
    hp_map          torch's names of hyper-parameters to ours
    convert_groups  False: hand `params` to `opt` as they are
    kwargs          for `opt`, under its own names

    Flags `do_wd` are kept but not obeyed: a torch optimizer decays all parameters of a group alike.

    >>> w = torch.nn.Linear(1, 1)
    >>> opt = OptimWrapper(w.parameters(), torch.optim.AdamW, lr=0.1)
    >>> opt.set_hypers(mom=0.8, wd=0.5); opt.opt.param_groups[0]["betas"], opt.hypers[0]["wd"]
    ((0.8, 0.999), 0.5)
    """

    def __init__(
        self,
        params: Any = None,
        opt: torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | None = None,
        hp_map: Mapping[str, str] | None = None,
        convert_groups: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(opt, torch.optim.Optimizer) == (params is not None) or opt is None:
            raise BadArgument(
                "OptimWrapper takes parameters and a class, or a built optimizer",
                got=f"params={type(params).__name__}, opt={opt!r}",
                fix="OptimWrapper(params, torch.optim.AdamW, lr=1e-3) or OptimWrapper(opt=built)",
            )
        if not isinstance(opt, torch.optim.Optimizer):
            lr = {"lr": kwargs.pop("lr")} if convert_groups and "lr" in kwargs else {}
            opt = opt(as_groups(params, **lr) if convert_groups else params, **kwargs)
        self.opt = opt
        self.hp_map = pytorch_hp_map if hp_map is None else hp_map
        self._flags: dict[Tensor, dict[str, Any]] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.opt.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.opt.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.opt.defaults

    @property
    def hypers(self) -> list[Hypers]:
        return [RenamedHypers(group, self.hp_map) for group in self.param_groups]

    def flags(self, param: Tensor) -> dict[str, Any]:
        return self._flags.setdefault(param, {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the torch optimizer."""
        return self.opt.step() if closure is None else self.opt.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.opt.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.opt.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        return self.opt.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.opt.load_state_dict(deepcopy(dict(state_dict)))

    def __repr__(self) -> str:
        return f"OptimWrapper({self.opt!r})"
