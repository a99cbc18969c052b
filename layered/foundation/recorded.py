"""Objects that remember what they were built with, so that a file can say how to build them again."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

from layered.foundation.errors import refuse_unknown


class Recorded:
    """Base of classes whose instances know their constructor arguments as `init_args`.

    Only the call that the user wrote is recorded, not those of base classes inside it. Arguments are kept as they
    are, not copied: one that is changed in place later shows the change. An unknown keyword is refused with the nearest.

    >>> class Scale(Recorded):
    ...     def __init__(self, by, shift=0): self.by, self.shift = by, shift
    >>> Scale(2).init_args
    {'by': 2, 'shift': 0}
    >>> Scale.from_init_args({"by": 3}).by
    3
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if kwargs:
            _check_keywords(cls, kwargs)
        self = super().__new__(cls)
        self.__dict__["_given"] = args, kwargs
        return self

    @property
    def init_args(self) -> dict[str, Any]:
        """Parameter name → value, defaults included; `*args` stands as a tuple, `**kwargs` as a dict."""
        args, kwargs = self._given
        bound = constructor_signature(type(self)).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    @classmethod
    def from_init_args(cls, init_args: Mapping[str, Any]) -> Self:
        """Build an instance from what `init_args` gave, or from the part of it that differs from the defaults.

        raises     BadArgument for a name that the constructor does not have
        """
        signature = constructor_signature(cls)
        refuse_unknown(init_args, signature.parameters, cls.__name__)
        bound = inspect.BoundArguments(signature, OrderedDict(init_args))
        bound.apply_defaults()
        return cls(*bound.args, **bound.kwargs)


def _check_keywords(cls: type, given: Mapping[str, Any]) -> None:
    parameters = constructor_signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        refuse_unknown(given, parameters, cls.__name__)


def constructor_signature(cls: type) -> inspect.Signature:
    """The parameters of `cls.__init__`, without `self`; none where the class defines no constructor."""
    constructor = cls.__init__  # type: ignore[misc]
    if constructor is object.__init__:
        return inspect.Signature()
    signature = inspect.signature(constructor)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
