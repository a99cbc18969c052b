"""The parts of an estimator, made anew for each fit."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import nn

from layered.foundation import BadValue
from layered.sklearn.skorch_habits import check_callback


def made(part: Any, name: str, options: dict[str, Any]) -> Any:
    """A part made of its class or function, or a copy of one that is made already.

    Args:
        part: A class, a function, or a module.
        name: What it is, in messages.
        options: The parameters it is called with.

    Raises:
        BadValue: There are parameters for a part that is made already.
    """
    if not isinstance(part, nn.Module):
        return part(**options)
    if options:
        raise BadValue(
            f"{name} is made already, and has no use for {', '.join(f'{name}__{o}' for o in options)}",
            fix=f"pass its class: {name}={type(part).__name__}",
        )
    return copy.deepcopy(part)


def changed(callback: Any, parameters: dict[str, Any]) -> Any:
    """A callback with other parameters: a fresh one for each fit.

    Args:
        callback: A class or a callback.
        parameters: The parameters to change.

    Raises:
        BadValue: It has no such parameter, or it is one of skorch.
    """
    check_callback(callback)
    kind = callback if isinstance(callback, type) else type(callback)
    known = inspect.signature(kind).parameters if parameters else {}
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise BadValue(f"{kind.__name__} has no parameter '{unknown[0]}'", expected=", ".join(known))
    if isinstance(callback, type):
        return callback(**parameters)
    return kind(**{**callback.init_args, **parameters}) if parameters else copy.deepcopy(callback)


def pickled_state(state: dict[str, Any]) -> dict[str, Any]:
    """What a pickle of an estimator holds: its learner, if it has one, without the training data.

    Args:
        state: The attributes of the estimator, by name.
    """
    learn = state.get("learner_")
    if learn is None:
        return state
    bare = copy.copy(learn)
    bare.dls = learn.dls.new_empty()
    return {**state, "learner_": bare}
