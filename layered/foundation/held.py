"""What objects hold beside their `state_dict`: counters, tensors and generators that may change while they are used."""

from __future__ import annotations

import dis
import functools
import io
import itertools
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import CellType, CodeType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from layered.foundation.assignments import assigned_by, function_of, is_constant
from layered.foundation.helpers import own_vars
from layered.foundation.shards import is_sharded
from layered.foundation.types import is_frame

GENERATORS = (random.Random, torch.Generator, np.random.Generator, np.random.RandomState)
FEW = 256  # how many elements of a collection are looked at, evenly spread, where they are not constants
SMALL = 1 << 20  # bytes of a tensor or array that are read as a whole
MOST = 100_000  # objects to look into
FAR = 5  # installed objects, such as composed transforms, that lead to a generator
_CONSTANTS = frozenset({bool, int, float, str, type(None)})
_SEQUENCES = (list, tuple, deque)
_TABLES = (dict, OrderedDict, defaultdict, Counter)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_OPAQUE = (type, ModuleType, Tensor, np.ndarray, np.generic, io.IOBase)


@runtime_checkable
class Stateful(Protocol):
    """An object whose state or position can be saved and restored."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Slot:
    """An attribute, or what else holds a value: an element of a list, a variable of a function or of a module.

    Args:
        owner: The object, list, dict, class, or cell of a function.
        name: The attribute, or the key.
        value: What it holds.
    """

    owner: Any
    name: Any
    value: Any

    def set(self, value: object) -> None:
        """Put another value there."""
        if isinstance(self.owner, CellType):
            self.owner.cell_contents = value
        elif isinstance(self.owner, (dict, list)):
            self.owner[self.name] = value
        elif isinstance(self.owner, type):
            setattr(self.owner, self.name, value)
        else:
            object.__setattr__(self.owner, self.name, value)


class Held:
    """The places where objects, and what they refer to, hold values that may change.

    It looks into modules, into objects and functions of code that is not installed (scripts, notebooks, projects), and for
    generators into everything else. The classes of this library and of torch keep what changes elsewhere.

    Args:
        roots: Where to begin, by name.
        elsewhere: What is kept by other means: tensors, generators, and objects not to look into.

    Attributes:
        slots: What may change, by place: "model.0.count".
        owners: The objects that were looked into, by place.
        opened: The names that their code assigns outside of `__init__`; "*" for any.

    Examples:
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self): super().__init__(); self.calls = 0
        ...     def forward(self, x): self.calls += 1; return x
        >>> Held({"model": torch.nn.Sequential(Scale())}).slots["model.0.calls"].value
        0
    """

    def __init__(self, roots: Mapping[str, object], elsewhere: Iterable[object] = ()) -> None:
        self.slots: dict[str, Slot] = {}
        self.owners: dict[str, Any] = {}
        self.opened: set[str] = set()
        self._elsewhere = list(elsewhere)
        self._tensors = {_memory(x) for x in self._elsewhere if isinstance(x, Tensor)} - {0}
        self._met = {id(one) for one in self._elsewhere}
        self._todo: deque[tuple[str, Any, int]] = deque()
        self._far = 0  # installed objects between what is looked into and code that is not installed
        for name, root in roots.items():
            self._look_into(name, root, is_root=True)
        while self._todo and len(self._met) < MOST:
            place, value, self._far = self._todo.popleft()
            self._look_into(place, value)

    def contents(self) -> dict[str, Any]:
        """A summary of what each place holds, to compare with later ones."""
        return {place: content(slot.value) for place, slot in self.slots.items()}

    def _later(self, place: str, value: Any) -> None:
        self._todo.append((place, value, self._far))

    def _look_into(self, place: str, value: Any, is_root: bool = False) -> None:
        if id(value) in self._met:
            return
        self._met.add(id(value))
        self.owners[place] = value
        if isinstance(value, MethodType):
            self._later(place, value.__self__)
            self._later(place, value.__func__)
        elif isinstance(value, FunctionType):
            self._function(place, value)
        elif isinstance(value, functools.partial):
            self._elements(place, (*value.args, *value.keywords.values()))
            self._later(place, value.func)
        elif isinstance(value, _SEQUENCES):
            self._elements(place, value)
        elif isinstance(value, _TABLES):
            for key, part in islice(value.items(), FEW):
                self._add(value, key, part, f"{place}.{key}", True)
        elif _keeps_itself(value) and not isinstance(value, nn.Module) and not is_root:
            if not _is_of_library(type(value)):
                self.slots[place] = Slot(value, None, value)
        else:
            self._object(place, value)

    def _elements(self, place: str, values: Iterable[Any]) -> None:
        for i, part in enumerate(islice(values, FEW)):
            self._add(values, i, part, f"{place}.{i}", isinstance(values, list))

    def _object(self, place: str, value: Any) -> None:
        kind, is_module = type(value), isinstance(value, nn.Module)
        is_own = is_module or is_own_code(kind.__module__)
        self._far = 0 if is_own else self._far + (not _is_of_library(kind))
        if self._far > FAR:
            return
        has_state = is_module and kind.get_extra_state is not nn.Module.get_extra_state
        is_private = not is_module and _is_of_library(kind)
        for name, part in () if has_state else attributes(value):
            if (is_module and name in _OF_EVERY_MODULE) or (is_private and name[0] == "_"):
                continue
            if not isinstance(getattr(kind, name, None), functools.cached_property):
                self._add(value, name, part, f"{place}.{name}", is_own)
        if is_module:
            for table in (value._parameters, value._buffers):
                for name, part in table.items():
                    self._add(table, name, part, f"{place}.{name}", True)
            for name, child in value._modules.items():
                self._add(value._modules, name, child, f"{place}.{name}", False)
        if id(kind) not in self._met:
            for base in kind.__mro__:
                self._class(base)
            self._met.add(id(kind))

    def _class(self, kind: type) -> None:
        """What a class, and the code of its methods, refer to."""
        if id(kind) in self._met or not is_own_code(kind.__module__):
            return
        self._met.add(id(kind))
        for name, part in vars(kind).items():
            function = function_of(part)
            if isinstance(function, FunctionType):
                self._code(function, opens=name != "__init__")
            elif not name.startswith("__"):
                self._add(kind, name, part, f"{kind.__name__}.{name}", True)

    def _function(self, place: str, function: FunctionType) -> None:
        is_own = is_own_code(function.__module__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell is not None and (part := _content_of(cell)) is not None:
                self._add(cell, name, part, f"{place}.{name}", is_own)
        for name, part in vars(function).items():
            self._add(function, name, part, f"{place}.{name}", is_own)
        if is_own:
            self._code(function)

    def _code(self, function: FunctionType, opens: bool = True) -> None:
        """What the code of a function assigns, and the global variables that it reads."""
        if opens:
            self.opened |= assigned_by(function.__code__)
        for name, is_stored in _globals_of(function.__code__).items():
            owner = function.__globals__
            part, place = owner.get(name), f"{owner.get('__name__')}.{name}"
            if isinstance(part, type):
                self._class(part)
            elif isinstance(part, ModuleType):
                if is_own_code(part.__name__):
                    for inner, value in vars(part).items():
                        if isinstance(value, GENERATORS):
                            self._add(vars(part), inner, value, f"{part.__name__}.{inner}", True)
            elif (
                is_stored
                or isinstance(part, (FunctionType, nn.Module))
                or not (is_constant(part) or _is_of_library(type(part)))
            ):
                self._add(owner, name, part, place, True)

    def _add(self, owner: Any, name: Any, value: Any, place: str, is_own: bool) -> None:
        if type(value) in _CONSTANTS:
            if is_own:
                self.slots[place] = Slot(owner, name, value)
        elif isinstance(value, GENERATORS):
            if id(value) not in self._met:
                self._met.add(id(value))
                self.slots[place] = Slot(owner, name, value)
        elif isinstance(value, Tensor):
            if is_own and not is_sharded(value) and _memory(value) not in self._tensors:
                self.slots[place] = Slot(owner, name, value)
        elif _leads_on(value):
            self._later(place, value)
        elif is_own and id(value) not in self._met and not (isinstance(value, _SEQUENCES) and self._are_kept(value)):
            self.slots[place] = Slot(owner, name, value)

    def _are_kept(self, values: Iterable[Any]) -> bool:
        """Whether these are tensors that are kept elsewhere, such as the flat weights of recurrent layers."""
        first = next(iter(values), None)
        return isinstance(first, Tensor) and _memory(first) in self._tensors


def content(value: Any, depth: int = 6) -> Any:
    """A summary of a value that differs once the value has changed; of objects that it cannot look into, their class.

    Args:
        value: Anything.
        depth: How many levels of collections to look into.
    """
    if type(value) in _CONSTANTS or is_constant(value) or isinstance(value, np.generic):
        return type(value), value if value == value else "nan"
    if isinstance(value, GENERATORS):
        return content(generator_state(value))
    if isinstance(value, (Tensor, np.ndarray)):
        return _sampled(value)
    if isinstance(value, dict) and depth:
        parts = (value.keys(), value.values())
        return type(value), len(value), *(_contents(part, len(value), depth) for part in parts)
    if isinstance(value, (*_SEQUENCES, set, frozenset)) and depth:
        return type(value), len(value), _contents(value, len(value), depth)
    if _keeps_itself(value):
        return content(value.state_dict(), depth)
    if isinstance(value, Iterator) and not isinstance(value, io.IOBase):
        return _progress(value)
    return type(value)


def generator_state(generator: Any) -> Any:
    """The state of a generator of Python, NumPy or torch, as data; None if it has none."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return None if isinstance(generator, random.SystemRandom) else generator.getstate()


def set_generator_state(generator: Any, state: Any) -> None:
    """Restore what `generator_state` returned."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif state is not None:
        generator.setstate(state)


@lru_cache(maxsize=4096)
def is_own_code(module: str) -> bool:
    """Whether a module is part of a script, a notebook or a project, and not installed.

    Args:
        module: Its name.
    """
    top = module.partition(".")[0]
    if top == "layered" or (top in sys.stdlib_module_names and top != "__main__"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


def attributes(value: object) -> list[tuple[str, Any]]:
    """The attributes of an object itself, those in slots of its class included."""
    in_slots = [(name, getattr(value, name)) for name in _slots_of(type(value)) if hasattr(value, name)]  # type: ignore[arg-type]  # classes have hashes
    return [*(own_vars(value) or {}).items(), *in_slots]


@lru_cache(maxsize=4096)
def _slots_of(kind: type) -> list[str]:
    slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some)]
    return [name for name in names if name[:2] != "__"]


def _keeps_itself(value: Any) -> bool:
    return issubclass(type(value), Stateful)


def _is_of_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("layered", "torch")


def _leads_on(value: object, depth: int = 3) -> bool:
    """Whether it may refer to something that changes: an object, a function, or a collection of them."""
    if isinstance(value, _OPAQUE) or is_frame(value):
        return False
    if isinstance(value, (FunctionType, MethodType, functools.partial, nn.Module)):
        return True
    if isinstance(value, Iterator) and not is_own_code(type(value).__module__):
        return False
    if isinstance(value, (*_SEQUENCES, *_TABLES)):
        parts = _spread(value.values() if isinstance(value, dict) else value, len(value))
        return depth > 0 and any(isinstance(part, GENERATORS) or _leads_on(part, depth - 1) for part in parts)
    return own_vars(value) is not None or (is_own_code(type(value).__module__) and hasattr(type(value), "__slots__"))


@lru_cache(maxsize=4096)
def _globals_of(code: CodeType) -> dict[str, bool]:
    """The global variables that a function reads, and whether it also assigns them."""
    steps = [step for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")]
    found = {step.argval: False for step in steps}
    for part in code.co_consts:
        found |= _globals_of(part) if isinstance(part, CodeType) else {}
    return found | {step.argval: True for step in steps if step.opname == "STORE_GLOBAL"}


def _content_of(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _memory(x: Tensor) -> int:
    try:
        return x.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or without memory
        return 0


def _spread(values: Iterable[Any], count: int) -> Iterator[Any]:
    return islice(values, 0, None, max(count // FEW, 1))


def _contents(values: Iterable[Any], count: int, depth: int) -> Any:
    """A summary of elements: of constants all of them, of others some."""
    some = list(_spread(values, count))
    if all(type(part) in _CONSTANTS for part in some):
        return hash(tuple(part for part in values if is_constant(part)))
    return tuple(content(part, depth - 1) for part in some)


def _sampled(value: Tensor | np.ndarray[Any, Any]) -> Any:
    """A summary of a tensor or array: of a large one, of numbers in it that are evenly spread."""
    step = max(value.nbytes // SMALL, 1)
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta:
            return id(value), value.layout
        x = value.detach().as_subclass(Tensor)
        x = (x.reshape(-1)[::step] if x.is_contiguous() else x[::step]).cpu().contiguous().reshape(-1)
        return value.dtype, value.shape, hash(x.view(torch.uint8).numpy().tobytes())
    if value.dtype.hasobject:
        return value.dtype, value.shape
    some = value.reshape(-1)[::step] if value.flags.c_contiguous else value[::step]
    return value.dtype, value.shape, hash(some.tobytes())


def _progress(value: Iterator[Any]) -> Any:
    """How far an iterator is; something that equals nothing where it does not tell."""
    if isinstance(value, GeneratorType):
        return None if value.gi_frame is None else (value.gi_frame.f_lasti, content(value.gi_frame.f_locals))
    if isinstance(value, itertools.count):
        return repr(value)
    hint = getattr(value, "__length_hint__", None)
    return object() if hint is None else hint()
