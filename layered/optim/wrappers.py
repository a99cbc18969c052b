"""Torch's own optimizers: wrapped, so that they freeze and schedule like those of the library, and their states translated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue
from layered.optim.groups import GroupedOptimizer, Params, as_groups, shard_state
from layered.optim.hypers import Hypers, RenamedHypers, pytorch_hp_map


class OptimWrapper(GroupedOptimizer):
    """One of torch's optimizers (or any that follows its interface) with frozen groups, discriminative rates and schedules.

    Flags `do_wd` are kept but have no effect: torch's optimizers decay all parameters of a group alike.

    Args:
        params: As for `Optimizer`; omit it when `opt` is built already.
        opt: A torch optimizer, its class, or a function `opt(groups, **kwargs)` that makes one.
        hp_map: Its names of hyperparameters to those used here; `pytorch_hp_map` by default.
        convert_groups: False passes `params` to `opt` unchanged.
        kwargs: Passed to `opt`, under its own names.

    Raises:
        BadArgument: Parameters are given with a built optimizer, or missing without one.

    Examples:
        >>> w = torch.nn.Linear(1, 1)
        >>> opt = OptimWrapper(w.parameters(), torch.optim.AdamW, lr=0.1)
        >>> opt.set_hypers(mom=0.8, wd=0.5); opt.opt.param_groups[0]["betas"], opt.hypers[0]["wd"]
        ((0.8, 0.999), 0.5)
    """

    def __init__(
        self,
        params: Params | None = None,
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
        # some optimizers fill their state when built; `clear_state` must restore that
        self._begun: dict[Tensor, Any] = {}
        if not isinstance(opt, torch.optim.Optimizer):
            lr = {"lr": kwargs.pop("lr")} if convert_groups and "lr" in kwargs else {}
            opt = opt(as_groups(params, **lr) if convert_groups and params is not None else params, **kwargs)
            self._begun = {p: deepcopy(state) for p, state in opt.state.items()}
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
        """One step of the torch optimizer.

        Args:
            closure: Passed on, for optimizers that evaluate the loss several times.
        """
        return self.opt.step() if closure is None else self.opt.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.opt.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.opt.add_param_group(param_group)

    def clear_state(self) -> None:
        super().clear_state()
        self.state.update({p: deepcopy(state) for p, state in self._begun.items()})

    def train(self) -> None:
        """Switch to the weights to train with: schedule-free optimizers have two kinds; for others this does nothing."""
        if hasattr(self.opt, "train"):
            self.opt.train()

    def eval(self) -> None:
        """Switch to the weights to predict with: schedule-free optimizers have two kinds; for others this does nothing."""
        if hasattr(self.opt, "eval"):
            self.opt.eval()

    def state_dict(self) -> dict[str, Any]:
        return self.opt.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.opt.load_state_dict(deepcopy(dict(shard_state(self, state_dict))))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("opt", "hp_map", "_flags", "_begun", "train_bn", "frozen_idx")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __repr__(self) -> str:
        return f"OptimWrapper({self.opt!r})"


# Torch's names of statistics, and the variants of its optimizers that the recipes here do not have.
NAMES = {"step": "count", "exp_avg": "grad_avg", "exp_avg_sq": "sqr_avg", "momentum_buffer": "grad_avg"}
VARIANTS = ("amsgrad", "nesterov", "maximize", "dampening")


def from_torch(state_dict: Mapping[str, Any], kept: Iterable[str]) -> Mapping[str, Any]:
    """The state of torch's SGD, Adam, AdamW or RAdam as the state of an `Optimizer`; any other state unchanged.

    Args:
        state_dict: With "state" and "param_groups".
        kept: Names of the statistics of the optimizer that will load it.

    Raises:
        BadValue: The state contains what has no counterpart among them.
    """
    groups = state_dict["param_groups"]
    if not any("weight_decay" in group for group in groups):  # our groups call it "wd"
        return state_dict
    for name in VARIANTS:
        if any(group.get(name) for group in groups):
            raise _no_counterpart(f"'{name}'")
    state = {}
    for number, entry in state_dict["state"].items():
        renamed = {NAMES.get(name, name): value for name, value in entry.items() if value is not None}
        for name in renamed.keys() - {"count", *kept}:
            raise _no_counterpart(f"'{name}' of parameter {number}")
        if "count" in renamed:
            renamed["count"] = int(renamed["count"])
        state[number] = renamed
    renamed_groups = [
        {name: group[name] for name in Hypers.hidden if name in group} | dict(RenamedHypers(group)) for group in groups
    ]
    return {"state": state, "param_groups": renamed_groups}


def _no_counterpart(what: str) -> BadValue:
    return BadValue(
        f"{what} in the state of a torch optimizer has no counterpart here",
        expected="the state of torch.optim's SGD, Adam, AdamW or RAdam, loaded into the recipe of that name",
        fix="continue with OptimWrapper(params, torch.optim....) of that optimizer",
    )
