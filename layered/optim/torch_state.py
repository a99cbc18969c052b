"""The state of torch's own optimizers, under the names used here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from layered.foundation.errors import BadValue
from layered.optim.hypers import Hypers, RenamedHypers

NAMES = {"step": "count", "exp_avg": "grad_avg", "exp_avg_sq": "sqr_avg", "momentum_buffer": "grad_avg"}
VARIANTS = ("amsgrad", "nesterov", "maximize", "dampening")


def from_torch(state_dict: Mapping[str, Any], kept: Iterable[str]) -> Mapping[str, Any]:
    """The state of torch's SGD, Adam, AdamW or RAdam as one of ours; one that is ours already is returned as it is.

    kept       names of the statistics that it is for
    raises     BadValue for what has no counterpart among them
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
