"""Parameters of parts of an estimator: `module__num_units`, `optimizer__momentum`, `callbacks__stopper__patience`."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator

from layered.foundation import BadValue, nearest


class Routed(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose constructor also takes parameters of its parts, named `part__name`.

    `get_params`, `set_params`, `clone` and every search see those that were given.

    Attributes:
        parts: The names of parts that have parameters.
    """

    parts: tuple[str, ...] = ()

    def routed(self, part: str) -> dict[str, Any]:
        """The parameters given for a part, by their names there.

        Args:
            part: Its name.
        """
        start = f"{part}__"
        return {name.removeprefix(start): value for name, value in vars(self).items() if name.startswith(start)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the estimator, and those given for its parts.

        Args:
            deep: Also those of parameters that are estimators themselves.
        """
        own: dict[str, Any] = super().get_params(deep)
        return own | {name: value for name, value in vars(self).items() if self._is_routed(name)}

    def set_params(self, **params: Any) -> Self:
        """Change parameters of the estimator, or of its parts, from the next `fit` on.

        Args:
            params: By name: `lr=0.1`, `module__num_units=20`.

        Raises:
            BadValue: A name is not that of a parameter.
        """
        own = self._get_param_names()
        unknown = [name for name in params if name not in own and not self._is_routed(name)]
        if unknown:
            near = nearest(unknown[0], own, 1)
            raise BadValue(
                f"{type(self).__name__} has no parameter '{unknown[0]}'",
                expected=", ".join([*own, *(f"{part}__…" for part in self.parts)]),
                fix=f"did you mean '{near[0]}'?" if near else None,
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _is_routed(self, name: str) -> bool:
        part, found, rest = name.partition("__")
        return bool(found and rest) and part in self.parts
