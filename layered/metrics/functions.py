"""What the function behind a metric says of itself: its name, and which way is better."""

from __future__ import annotations

from layered.foundation import innermost, snake_case


def default_name(func: object) -> str:
    """The name of a function, also inside `partial`; for other callables, their class's in snake case.

    Args:
        func: What a metric calls.
    """
    func = innermost(func)
    return str(getattr(func, "__name__", None) or snake_case(type(func).__name__))


def declared_direction(func: object) -> bool | None:
    """Whether larger results of a function are better: by its attribute `higher_is_better`; scikit-learn's say it by name.

    Args:
        func: What a metric calls.

    Examples:
        >>> from sklearn.metrics import f1_score, max_error
        >>> declared_direction(f1_score), declared_direction(max_error), declared_direction(max)
        (True, False, None)
    """
    func = innermost(func)
    declared: bool | None = getattr(func, "higher_is_better", None)
    if declared is None and str(func.__module__).startswith("sklearn."):
        name = default_name(func)
        return True if name.endswith("_score") else False if name.endswith(("_error", "_loss", "_deviance")) else None
    return declared
