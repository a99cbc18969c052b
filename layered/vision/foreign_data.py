"""Transforms of other libraries as data, for exports: a class from a fixed list, by its name, and plain arguments."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from layered.files import exactly
from layered.foundation import BadFile, constructor_signature

_DTYPES = (torch.uint8, torch.uint16, torch.int32, torch.int64, torch.float16, torch.float32)


class NotPlain(Exception):
    """A transform that cannot be described; the message says why."""


class Describable:
    """The transforms of a library that files may name: {"name": "Resize", "args": {"height": 224, "width": 224}}.

    Args:
        kinds: Their classes, by the names in files. None of them draws at random, calls what it is given, or opens anything.
        enums: Classes of constants among their arguments, which are written as "InterpolationMode.BILINEAR"; dtypes are as
            "torch.uint8".
        kept: The value of an argument of a transform, by the name of the parameter; AttributeError if it is not kept.
    """

    def __init__(
        self,
        kinds: Mapping[str, Callable[..., Any]],
        enums: Iterable[type[enum.Enum]] = (),
        kept: Callable[[Any, str], Any] = getattr,
    ) -> None:
        self.kinds, self.kept = kinds, kept
        self.constants: dict[str, Any] = {f"{kind.__name__}.{o.name}": o for kind in enums for o in kind}
        self.constants |= {str(dtype): dtype for dtype in _DTYPES}

    def as_data(self, step: Any) -> dict[str, Any]:
        """The name of a transform, and those of its arguments that differ from the defaults.

        Args:
            step: The transform.

        Raises:
            NotPlain: It is of another class, has arguments that are not plain data, or its arguments do not make it again.
        """
        name = next((name for name, kind in self.kinds.items() if kind is type(step)), None)
        if name is None:
            raise NotPlain("it draws at random, or is not among those that a file may name")
        data = {"name": name, "args": self._arguments(step)}
        made = self.of_data(data)
        if _shown(made) != _shown(step) or self._arguments(made) != data["args"]:
            raise NotPlain("made again from its arguments, it is another one")
        return data

    def of_data(self, data: Any) -> Any:
        """The transform that `as_data` described.

        Args:
            data: What a file says, which may come from anyone.

        Raises:
            BadFile: It names something else, or an argument that the class has not.
        """
        name, args = exactly(str, exactly(dict, data)["name"]), exactly(dict, data["args"])
        if name not in self.kinds:
            raise BadFile(
                "the file names a transform of another library that is not on the list",
                got=name[:80],
                expected=", ".join(self.kinds),
            )
        kind: Any = self.kinds[name]
        unknown = args.keys() - constructor_signature(kind).parameters.keys()
        if unknown:
            raise BadFile(f"{name} has no argument {min(unknown)!r:.80}")
        try:
            words = {key: self._plain(o, key) for key, o in args.items()}
        except NotPlain as error:
            raise BadFile(f"{name} cannot be made: {error}") from None
        return kind(**{key: self.constants.get(o, o) if isinstance(o, str) else o for key, o in words.items()})

    def _arguments(self, step: Any) -> dict[str, Any]:
        args = {}
        for parameter in constructor_signature(type(step)).parameters.values():
            try:
                value = self.kept(step, parameter.name)
            except AttributeError:
                continue
            if value != parameter.default:
                args[parameter.name] = self._plain(value, parameter.name)
        return args

    def _plain(self, value: object, name: str) -> Any:
        constant = next((text for text, known in self.constants.items() if known is value), None)
        if constant is not None:
            return constant
        if isinstance(value, (list, tuple)):
            items = [self._plain(o, name) for o in value]
            return items if isinstance(value, list) else tuple(items)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise NotPlain(f"its argument '{name}' is not plain data")


def _shown(step: Any) -> list[str]:
    """What a transform shows of itself, and the methods that were put into it."""
    return [re.sub(" at 0x[0-9a-f]+", "", repr(step)), *(name for name, o in vars(step).items() if callable(o))]
