"""What metrics have accumulated of a pass, for checkpoints in its middle."""

from __future__ import annotations

from typing import Any

from torch import nn

from layered.metrics import Adapted, Metric


def keepers(part: Metric) -> list[Any]:
    """The objects that hold what a part of a metric has accumulated."""
    return [part, part.metric] if isinstance(part, Adapted) else [part]


def accumulated(keeper: Any) -> dict[str, Any]:
    """What an object has accumulated, by attribute; if it does not declare that, all attributes but functions and text."""
    own = vars(keeper) | vars(keeper).get("_buffers", {})
    if isinstance(keeper, Adapted):
        names = ["_seen"]
    elif isinstance(keeper, Metric) and keeper.state:
        names = list(keeper.state)
    elif hasattr(keeper, "metric_state"):  # torchmetrics'
        names = [*keeper.metric_state, "_update_count"]
    else:
        names = [name for name, value in own.items() if not callable(value) and not isinstance(value, str)]
        names = [name for name in names if name not in vars(nn.Module())]
    return {name: own[name] for name in names if name in own}
