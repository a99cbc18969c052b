"""What `configure_optimizers` of a LightningModule returns: an optimizer, and schedules that change its rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from layered.foundation import BadArgument, CannotTrain, describe, unknown_name, warn

_SHAPES = "an optimizer, {'optimizer': …, 'lr_scheduler': …}, or ([optimizer], [scheduler])"


@dataclass
class Schedule:
    """A scheduler of torch, and when it steps.

    Args:
        scheduler: Anything with torch's interface.
        interval: "epoch" or "step", which is that of the optimizer.
        frequency: It steps after so many of these.
        monitor: The value that it is given, if it is a `ReduceLROnPlateau`.
        strict: Whether an epoch without this value is an error; else it is said.
        name: Its name; unused.
        reduce_on_plateau: Whether it takes the value.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False

    def __post_init__(self) -> None:
        self.reduce_on_plateau |= isinstance(self.scheduler, ReduceLROnPlateau)
        if self.interval not in ("epoch", "step"):
            raise unknown_name("interval of a scheduler", str(self.interval), ("epoch", "step"))
        if type(self.frequency) is not int or self.frequency < 1:
            raise BadArgument(
                "invalid frequency of a scheduler", got=repr(self.frequency), expected="a whole number from 1"
            )
        if self.reduce_on_plateau and self.monitor is None:
            raise BadArgument(
                "configure_optimizers does not say which value its ReduceLROnPlateau watches",
                fix="{'optimizer': …, 'lr_scheduler': {'scheduler': …, 'monitor': 'val_loss'}}",
            )

    def step(self, count: int, values: Mapping[str, float]) -> None:
        """Step, if it is due.

        Args:
            count: How many epochs or steps of the optimizer are over.
            values: What was logged so far, by name.

        Raises:
            CannotTrain: The value that it watches was not logged.
        """
        if count % self.frequency:
            return
        if not self.reduce_on_plateau:
            self.scheduler.step()
        elif (value := values.get(str(self.monitor))) is not None:
            self.scheduler.step(value)
        else:
            problem = f"a scheduler watches '{self.monitor}', which has no value in this epoch"
            if self.strict:
                raise CannotTrain(
                    problem,
                    got=f"values of {', '.join(sorted(values)) or 'nothing'}",
                    fix=f"self.log('{self.monitor}', value) in validation_step, with a validation loader in the learner",
                )
            warn(f"{problem}: its rate stays")


def read_optimizers(returned: object) -> tuple[torch.optim.Optimizer, list[Schedule]]:
    """The optimizer and its schedules, in any form that Lightning documents for one optimizer.

    Args:
        returned: By `configure_optimizers`.

    Raises:
        BadArgument: It has another form, or is of several optimizers, or of none.
    """
    optimizers, schedules = _parts(returned)
    if len(optimizers) != 1:
        raise BadArgument(
            f"configure_optimizers returned {len(optimizers) or 'no'} optimizers",
            expected="one, since a LightningModule with several needs manual optimization",
            fix="opt_func={'gen': 'adam', 'critic': 'adam'} and a step=, in place of training_step: see docs/other_models.md"
            if optimizers
            else "return one, or give one to the learner: Learner(dls, model, opt_func='adam')",
        )
    return optimizers[0], [_schedule(one) for one in schedules]


def _parts(returned: Any) -> tuple[list[torch.optim.Optimizer], list[Any]]:
    if returned is None:
        return [], []
    if isinstance(returned, torch.optim.Optimizer):
        return [returned], []
    if isinstance(returned, Mapping):
        return _of_mapping(returned)
    if isinstance(returned, (list, tuple)):
        if len(returned) == 2 and all(isinstance(part, (list, tuple)) for part in returned):
            if all(isinstance(one, torch.optim.Optimizer) for one in returned[0]):
                return list(returned[0]), list(returned[1])
        elif all(isinstance(part, (torch.optim.Optimizer, Mapping)) for part in returned):
            each = [_parts(part) for part in returned]
            return [one for opts, _ in each for one in opts], [one for _, schedules in each for one in schedules]
    raise BadArgument(
        "configure_optimizers returned what is not an optimizer", got=describe(returned), expected=_SHAPES
    )


def _of_mapping(returned: Mapping[str, Any]) -> tuple[list[torch.optim.Optimizer], list[Any]]:
    known = ("optimizer", "lr_scheduler", "monitor")
    for name in returned:
        if name not in known:
            raise unknown_name("entry of configure_optimizers", str(name), known)
    if not isinstance(returned.get("optimizer"), torch.optim.Optimizer):
        raise BadArgument("configure_optimizers returned no 'optimizer'", got=describe(returned), expected=_SHAPES)
    schedule = returned.get("lr_scheduler")
    if schedule is None:
        return [returned["optimizer"]], []
    config = dict(schedule) if isinstance(schedule, Mapping) else {"scheduler": schedule}
    return [returned["optimizer"]], [{"monitor": returned.get("monitor"), **config}]


def _schedule(given: Any) -> Schedule:
    config = dict(given) if isinstance(given, Mapping) else {"scheduler": given}
    known = [field.name for field in fields(Schedule)]
    for name in config:
        if name not in known:
            raise unknown_name("entry of a scheduler's configuration", str(name), known)
    if "scheduler" not in config:
        raise BadArgument("a scheduler's configuration has no 'scheduler'", got=describe(given), expected=_SHAPES)
    return Schedule(**config)
