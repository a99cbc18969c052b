"""Methods added to classes from outside of them, as notebooks do that build a class in steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from layered.foundation.errors import BadArgument

F = TypeVar("F", bound=Callable[..., Any])


def patch(
    f: Callable[..., Any] | None = None,
    *,
    as_prop: bool = False,
    cls_method: bool = False,
    static_method: bool = False,
    set_prop: bool = False,
) -> Any:
    """Decorator: add a function as a method to the class that its first parameter is annotated with.

    The library itself has no such methods: what a class can do stands in the class. Several classes are a union, `A | B`.

    Args:
        f: The function.
        as_prop: Add a property.
        cls_method: Add a class method.
        static_method: Add a static method.
        set_prop: Add the setter of the property of that name.

    Raises:
        BadArgument: The first parameter has no annotation, or one that is not a class.

    Examples:
        >>> class Cat: ...
        >>> @patch
        ... def says(self: Cat): return "meow"
        >>> Cat().says()
        'meow'
    """
    if f is None:
        return partial(patch, as_prop=as_prop, cls_method=cls_method, static_method=static_method, set_prop=set_prop)
    return patch_to(
        _classes(f), as_prop=as_prop, cls_method=cls_method, static_method=static_method, set_prop=set_prop
    )(f)


def patch_to(
    cls: type | tuple[type, ...],
    as_prop: bool = False,
    cls_method: bool = False,
    *,
    static_method: bool = False,
    set_prop: bool = False,
) -> Callable[[F], F]:
    """Decorator: as `patch`, with the class said instead of annotated.

    Args:
        cls: The class, or several.
        as_prop: Add a property.
        cls_method: Add a class method.
        static_method: Add a static method.
        set_prop: Add the setter of the property of that name.

    Examples:
        >>> class Dog: ...
        >>> @patch_to(Dog)
        ... def says(self): return "woof"
        >>> Dog().says()
        'woof'
    """

    def add(f: F) -> F:
        for one in cls if isinstance(cls, tuple) else (cls,):
            method: object = f
            if set_prop:
                method = getattr(one, f.__name__).setter(f)
            elif as_prop or cls_method or static_method:
                method = (property if as_prop else classmethod if cls_method else staticmethod)(f)
            setattr(one, f.__name__, method)
        return f

    return add


def _classes(f: Callable[..., Any]) -> tuple[type, ...]:
    parameters = list(inspect.signature(f, eval_str=True).parameters.values())
    found = parameters[0].annotation if parameters else None
    is_union = get_origin(found) in (Union, UnionType)
    classes = get_args(found) if is_union else found if isinstance(found, tuple) else (found,)
    if not all(isinstance(cls, type) and cls is not inspect.Parameter.empty for cls in classes):
        raise BadArgument(
            f"patch needs the class that gets '{f.__name__}'",
            got=str(inspect.signature(f)),
            expected="a class as the annotation of the first parameter",
            fix=f"@patch def {f.__name__}(self: Learner, …)",
        )
    return classes
