"""What models of tables and ratings refuse: sizes, ranges and inputs that are none."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from layered.foundation.errors import BadArgument, BadValue


def checked_size(name: str, value: Any) -> int:
    """`value`, if it is a whole number from 1 on.

    raises     BadArgument, a BadValue for one below 1

    >>> checked_size("n_out", 3)
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadArgument(f"{name} is no whole number", got=repr(value), expected="a whole number from 1 on")
    if value.__index__() < 1:
        raise BadValue(f"{name} is too small", got=value, expected="a whole number from 1 on")
    return int(value.__index__())


def checked_range(y_range: Any) -> tuple[float, float] | None:
    """`y_range` as two floats, if it is a range; or None.

    raises     BadValue

    >>> checked_range([0, 5.5])
    (0.0, 5.5)
    """
    if y_range is None:
        return None
    try:
        low, high = map(float, y_range)
        is_range = low < high and not isinstance(y_range, (str, bytes))
    except (TypeError, ValueError):
        is_range = False
    if not is_range:
        raise BadValue("y_range is no range", got=repr(y_range), expected="(low, high)", fix="y_range=(0, 5.5)")
    return (low, high)


def checked_share(name: str, value: Any) -> float:
    """`value` as a float, if it is a number from 0 to 1.

    raises     BadArgument, a BadValue for one outside

    >>> checked_share("embed_p", 0.5)
    0.5
    """
    try:
        share = float(value)
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{name} is no number", got=repr(value), expected="a share, from 0 to 1") from error
    if not 0 <= share <= 1:
        raise BadValue(f"{name} is a share of what is dropped", got=value, expected="a number from 0 to 1")
    return share


def check_codes(x: Any, count: int) -> None:
    """Raise BadArgument unless `x` is a batch of codes: whole numbers [batch, `count`]."""
    if isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count and not x.is_floating_point():
        return
    got = f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise BadArgument(
        "the model does not take this batch",
        got=got,
        expected=f"codes, whole numbers [batch, {count}]",
        fix="batches of loaders: learn.get_preds(dl=learn.dls.test_dl(df))",
    )


def check_numbers(x: Any, count: int) -> None:
    """Raise BadArgument unless `x` is a batch of numbers [batch, `count`]; None is one of 0 numbers."""
    if count == 0 or (isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count):
        return
    raise BadArgument(
        "the model does not take this batch",
        got=f"numbers {tuple(x.shape)}" if isinstance(x, Tensor) else f"numbers: {x!r}",
        expected=f"numbers [batch, {count}]",
        fix="batches of loaders: learn.get_preds(dl=learn.dls.test_dl(df))",
    )
