"""Any torch optimizer, with groups that freeze and hyper-parameters under the names used here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue
from layered.optim.groups import GroupedOptimizer, as_groups
from layered.optim.hypers import Hypers, RenamedHypers, pytorch_hp_map


class OptimWrapper(GroupedOptimizer):
    """A torch optimizer that can be frozen, given rates per group and scheduled like ours.

    Flags `do_wd` are kept but not obeyed: a torch optimizer decays all parameters of a group alike.

    Args:
        params: As for `Optimizer`; not needed when `opt` is built already.
        opt: A torch optimizer, or its class, or a function `opt(groups, **kwargs)` that makes one.
        hp_map: Torch's names of hyper-parameters to ours.
        convert_groups: False: hand `params` to `opt` as they are.
        kwargs: For `opt`, under its own names.

    Examples:
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
        self._begun: dict[Tensor, Any] = {}  # the state that some optimizers have before their first step, and need
        if not isinstance(opt, torch.optim.Optimizer):
            lr = {"lr": kwargs.pop("lr")} if convert_groups and "lr" in kwargs else {}
            opt = opt(as_groups(params, **lr) if convert_groups else params, **kwargs)
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
        """One step of the torch optimizer."""
        return self.opt.step() if closure is None else self.opt.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.opt.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.opt.add_param_group(param_group)

    def clear_state(self) -> None:
        super().clear_state()
        self.state.update({p: deepcopy(state) for p, state in self._begun.items()})

    def train(self) -> None:
        """For optimizers with two kinds of weights, as the schedule-free ones have; nothing for the others."""
        if hasattr(self.opt, "train"):
            self.opt.train()

    def eval(self) -> None:
        """For optimizers with two kinds of weights, as the schedule-free ones have; nothing for the others."""
        if hasattr(self.opt, "eval"):
            self.opt.eval()

    def state_dict(self) -> dict[str, Any]:
        return self.opt.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.opt.load_state_dict(deepcopy(dict(state_dict)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("opt", "hp_map", "_flags", "_begun", "train_bn", "frozen_idx")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __repr__(self) -> str:
        return f"OptimWrapper({self.opt!r})"


NAMES = {"step": "count", "exp_avg": "grad_avg", "exp_avg_sq": "sqr_avg", "momentum_buffer": "grad_avg"}
VARIANTS = ("amsgrad", "nesterov", "maximize", "dampening")


def from_torch(state_dict: Mapping[str, Any], kept: Iterable[str]) -> Mapping[str, Any]:
    """The state of torch's SGD, Adam, AdamW or RAdam as one of ours; one that is ours already is returned as it is.

    Args:
        kept: Names of the statistics that it is for.

    Raises:
        BadValue: For what has no counterpart among them.
    """
    groups = state_dict["param_groups"]
    if not any("weight_decay" in group for group in groups):
        return state_dict
    for name in VARIANTS:
        if any(group.get(name) for group in groups):
            raise _no_counterpart(f"'{name}'")
    state = {}
    for number, entry in state_dict["state"].items():
        ours = {NAMES.get(name, name): value for name, value in entry.items() if value is not None}
        for name in ours.keys() - {"count", *kept}:
            raise _no_counterpart(f"'{name}' of parameter {number}")
        if "count" in ours:
            ours["count"] = int(ours["count"])
        state[number] = ours
    renamed = [
        {name: group[name] for name in Hypers.hidden if name in group} | dict(RenamedHypers(group)) for group in groups
    ]
    return {"state": state, "param_groups": renamed}


def _no_counterpart(what: str) -> BadValue:
    return BadValue(
        f"{what} in the state of a torch optimizer has no counterpart here",
        expected="the state of torch.optim's SGD, Adam, AdamW or RAdam, for the recipe of that name",
        fix="OptimWrapper(params, the torch optimizer) goes on as it was",
    )
