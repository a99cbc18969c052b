"""Values as data: the JSON in a file's manifest, which refers by name to the tensors stored beside it.

Everything that a file says beyond plain JSON is written and read in this module. The grammar of a value:

    null  true  1.5  "text"  [value, …]       themselves
    {name: value, …}                          a dict whose keys are strings that do not start with "$"
    {"$dict": [[key, value], …]}              any other dict
    {"$tuple": [value, …]}                    also "$set", "$frozenset", "$slice": [start, stop, step],
                                              "$deque": [items, maxlen], "$counter": dict,
                                              "$defaultdict": [name of the factory or null, dict]
    {"$tensor": name, "device": "cuda:0"}     a tensor of the file; without "device" on the CPU; with "strides" if its axes
                                              lie in another order in memory, such as channels last
    {"$floats": name}                         a long list of floats, kept as one tensor
    {"$stack": {"$tensor": name}}             a long list of tensors of one shape, kept as one tensor
    {"$array": name, "dtype": "<f4", "shape": [2, 3]}     a NumPy array

and, where the `Scope` of the tree admits them, objects by their registered names:

    {"$function": name}                       a registered function
    {"$class": name}                          a registered class of modules
    {"$pipeline": [transform, …]}
    {"$function_transform": name, "order": 0, "split_idx": null}    a registered function as a transform
    {"$transform": name, "args": {…}, "fitted": {…}}      also "$loss", "$value", "$module"; with "version" unless it is 1,
                                              "fitted" where the class fits something, "children": {name: node} for
                                              containers of modules
    {"$same": path}                           the module that also stands at `path`, its attributes joined by dots

An export's manifest has two more nodes of this form, which only `load_learner` reads: "$builder" and "$loader".

Security. Names are looked up in registries that the library and the caller filled; nothing is imported, evaluated or
opened. Constructors of registered classes run, with arguments that are themselves values of this grammar. What a few
bytes could unfold into is bounded: objects are counted (`MAX_PARTS`, a shared module at each of its places), data that
is copied out of a tensor is copied once, keys and labels are of kinds whose hashes cannot be chosen to collide
(`plain_key`), and a model's file cannot say on which device its memory is taken. Depth and length of the JSON are
bounded by `parse_json`, tensors by the reader of the archive.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from layered.files.bounded import exactly, plain_key
from layered.files.constructors import cannot_describe, constructor_args
from layered.files.exportable import upgraded, version_of
from layered.foundation import (
    BadFile,
    CannotSave,
    L,
    LayeredError,
    NotExportable,
    Pipeline,
    Recorded,
    Registry,
    Transform,
    functions,
    losses,
    modules,
    transforms,
)

LONG = 64  # from this length on, lists of floats or of tensors of one shape are kept as one tensor
FEW = 100  # labels that may share a hash without harm
MAX_PARTS = 20_000  # objects that one tree may describe


class Scope(enum.Enum):
    """The tags of objects that a tree may contain beside plain data."""

    STATE = frozenset[str]()  # of checkpoints and weights files
    DATA = frozenset({"$function", "$pipeline", "$function_transform", "$transform", "$loss", "$value"})
    MODEL = frozenset({"$function", "$class", "$module", "$same", "$value"})


class Value(Protocol):
    """A class of values that describe themselves; registered in `value_kinds`."""

    def described(self) -> dict[str, Any]:
        """Arguments of `from_described`."""

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> Self:
        """An equal value."""


value_kinds: Registry[type[Value]] = Registry("kind of value")

_KINDS: dict[str, Registry[Any]] = {
    "$transform": transforms,
    "$loss": losses,
    "$module": modules,
    "$value": value_kinds,
}
CONTAINERS: tuple[type[nn.Module], ...] = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

_SCALARS = frozenset({bool, int, float, str, type(None)})
_DICTS = (dict, OrderedDict, MappingProxyType)  # all come back as a dict
_HASHED = (set, frozenset, Counter, defaultdict, *_DICTS)
_FACTORIES = {"list": list, "dict": dict, "set": set, "int": int, "float": float, "str": str}
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "$tuple": tuple,
    "$set": lambda items: set(map(plain_key, items)),
    "$frozenset": lambda items: frozenset(map(plain_key, items)),
    "$slice": lambda parts: slice(*parts),
    "$deque": lambda parts: deque(*parts),
    "$defaultdict": lambda parts: defaultdict(None if parts[0] is None else _FACTORIES[parts[0]], exactly(dict, parts[1])),
}  # fmt: skip


def encode_tree(value: object, tensors: dict[str, Tensor], where: str, scope: Scope = Scope.STATE) -> Any:
    """`value` as JSON, in the grammar above; its tensors are added to `tensors`.

    Plain data are None, booleans, numbers, strings, lists, tuples, sets, deques, dicts, counters, slices, dense tensors
    and NumPy arrays; also a defaultdict whose factory is list, dict, set, int, float, str or None.

    Args:
        value: A tree of plain data and, as `scope` admits, objects of registered classes.
        tensors: Gets the tensors, under names that begin with `where`.
        where: The place of the tree, which error messages name; for a model, "".
        scope: What the tree may contain.

    Returns:
        What `decode_tree` takes.

    Raises:
        CannotSave: Something that is not plain data, in a state; names its place and type.
        NotExportable: The same in the other scopes, with the way to register it.

    Examples:
        >>> tensors = {}
        >>> encode_tree({"avg": (torch.ones(2), 3)}, tensors, "opt")
        {'avg': {'$tuple': [{'$tensor': 'opt.avg.0'}, 3]}}
        >>> decode_tree(_, tensors)
        {'avg': (tensor([1., 1.]), 3)}
    """
    return _Encoder(tensors, scope).encode(value, where)


def decode_tree(data: object, tensors: Mapping[str, Tensor], scope: Scope = Scope.STATE) -> Any:
    """The value that `encode_tree` wrote.

    Args:
        data: JSON that may come from anyone.
        tensors: The tensors of the file.
        scope: What the tree may contain; everything else is refused.

    Raises:
        UnknownName: A name that is not registered in this process.
        BadFile: Anything that `encode_tree` does not write, or that a constructor does not accept.
    """
    try:
        return _Decoder(tensors, scope).decode(data)
    except LayeredError:
        raise
    except Exception as error:  # constructors of any kind, called with what the file says
        raise BadFile(
            "the file describes something that cannot be built", got=f"{type(error).__name__}: {error!s:.200}"
        ) from error


class _Encoder:
    def __init__(self, tensors: dict[str, Tensor], scope: Scope) -> None:
        self.tensors, self.scope = tensors, scope
        self.places: dict[int, str] = {}  # id of a module → where it was first met

    def encode(self, value: object, where: str) -> Any:
        if type(value) in _SCALARS:
            return value
        if self.scope is not Scope.STATE:
            node = self.named(value, where)
            if node is not None:
                return node
            if isinstance(value, enum.Enum):
                return self.encode(value.value, where)
            value = _base_instance(value)
        kind = type(value)
        if kind in _SCALARS:
            return value
        if isinstance(value, np.generic):
            return self.encode(value.item(), where)
        if (
            isinstance(value, (Tensor, np.ndarray)) and self.scope is Scope.MODEL
        ):  # a model's description has no tensors
            if value.ndim:
                raise self.refused(value, where)
            return value.item()
        if isinstance(value, Tensor) and value.layout is torch.strided:
            return self.tensor(value, where)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            raw = np.frombuffer(np.ascontiguousarray(value).tobytes(), dtype=np.uint8).copy()
            return {
                "$array": self.store(torch.from_numpy(raw), where),
                "dtype": value.dtype.str,
                "shape": [*value.shape],
            }
        if isinstance(value, slice):
            return {"$slice": self.items([value.start, value.stop, value.step], where)}
        if kind in _HASHED:
            self.check_keys(value, where)  # type: ignore[arg-type]  # all of these can be iterated over
        match value:
            case list() if kind is list:
                return self.sequence(value, where)
            case tuple() | set() | frozenset() if kind in (tuple, set, frozenset):
                return {f"${kind.__name__}": self.items(value, where)}
            case deque() if kind is deque:
                return {"$deque": self.items([list(value), value.maxlen], where)}
            case Counter() if kind is Counter:
                return {"$counter": self.table(value, where)}
            case defaultdict() if kind is defaultdict:
                factory = next((name for name, made in _FACTORIES.items() if made is value.default_factory), None)
                if factory is not None or value.default_factory is None:
                    return {"$defaultdict": [factory, self.table(value, f"{where}.1")]}
            case dict() | MappingProxyType() if kind in _DICTS:
                return self.table(value, where)
        raise self.refused(value, where)

    def items(self, values: Iterable[object], where: str) -> list[Any]:
        return [self.encode(value, f"{where}.{i}") for i, value in enumerate(values)]

    def sequence(self, values: list[Any], where: str) -> Any:
        if len(values) >= LONG and all(type(value) is float for value in values):
            return {"$floats": self.store(torch.tensor(values, dtype=torch.float64), where)}
        if len(values) >= LONG and _form(values[0]) and len(set(map(_form, values))) == 1:
            return {"$stack": self.tensor(torch.stack([value.detach() for value in values]), where)}
        return self.items(values, where)

    def table(self, table: Mapping[Any, object], where: str) -> dict[str, Any]:
        if all(isinstance(key, str) and not key.startswith("$") for key in table):
            return {key: self.encode(value, _below(where, key)) for key, value in table.items()}
        return {"$dict": [[self.encode(k, f"{where}.key"), self.encode(v, f"{where}.{k}")] for k, v in table.items()]}

    def tensor(self, x: Tensor, where: str) -> dict[str, Any]:
        node: dict[str, Any] = {"$tensor": self.store(x.detach(), where)}
        if x.device.type != "cpu":
            node["device"] = str(x.device)
        if not x.is_contiguous() and _is_dense(x.shape, strides := list(x.stride())):
            node["strides"] = strides
        return node

    def store(self, x: Tensor, where: str) -> str:
        while where in self.tensors:  # {"a.b": x} and {"a": {"b": x}} have the same path
            where += "'"
        self.tensors[where] = x
        return where

    def check_keys(self, keys: Iterable[object], where: str) -> None:
        """Refuse keys that the decoder would refuse."""
        for key in keys:
            try:
                plain_key(key)
            except TypeError as error:
                raise self.refused(key, where, f"{key!r:.100}: {error}") from error

    def named(self, value: object, where: str) -> dict[str, Any] | None:
        """A node for an object that has a registered name; None for what may be plain data."""
        if isinstance(value, Pipeline):
            return {"$pipeline": self.items(value, where)}
        if isinstance(value, nn.Module) and self.scope is Scope.MODEL:
            # A constructor may copy a module that it is given, so sharing is followed within an argument only.
            return (_Encoder(self.tensors, self.scope) if self.places else self).module(value, where)
        if isinstance(value, (Recorded, nn.Module)):
            return self.recorded(value, where)
        name = value_kinds.name_of(type(value))
        if name is not None:
            kind: Any = value
            return {"$value": name, **_version(type(value)), "args": self.table(kind.described(), where)}
        if not callable(value):
            return None
        if isinstance(value, type) and self.scope is Scope.MODEL:
            tag, name = "$class", modules.name_of(value)
        else:
            tag, name = "$function", functions.name_of(value)
        if name is None:
            raise self.refused(value, where)
        return {tag: name}

    def recorded(self, value: Recorded | nn.Module, where: str) -> dict[str, Any]:
        if isinstance(value, Transform) and value.enc is not None:
            name = functions.name_of(value.enc)
            if name is None or type(value) is not Transform or value.dec is not None:
                raise not_registered(value.enc, where)
            return {"$function_transform": name, "order": value.order, "split_idx": value.split_idx}
        for tag in ("$transform", "$loss"):
            name = _KINDS[tag].name_of(type(value))
            if name is not None:
                place = _below(where, name)
                node = {tag: name, **_version(type(value)), "args": self.table(constructor_args(value, place), place)}
                fits = _fits(type(value))
                return {**node, "fitted": self.table({k: getattr(value, k) for k in fits}, place)} if fits else node
        raise not_registered(value, where)

    def module(self, module: nn.Module, where: str) -> dict[str, Any]:
        if id(module) in self.places:
            return {"$same": self.places[id(module)]}
        self.places[id(module)] = where
        name = modules.name_of(type(module))
        if name is None:
            raise cannot_describe(where, module, "is of a class that is not registered")
        if "forward" in vars(module):
            raise cannot_describe(where, module, "has a forward method set on the object")
        if type(module) in CONTAINERS:
            children = {key: self.module(child, _below(where, key)) for key, child in _children(module)}
            return {"$module": name, "args": {}, "children": children}
        return {
            "$module": name,
            **_version(type(module)),
            "args": self.table(constructor_args(module, where), where),
        }

    def refused(self, value: object, where: str, why: str | None = None) -> Exception:
        """The error for what cannot be written in this scope."""
        if self.scope is Scope.MODEL:
            return cannot_describe(where, value, "is an argument that is neither plain data nor registered")
        if self.scope is Scope.DATA and (callable(value) or isinstance(value, Recorded)):
            return not_registered(value, where)
        kind = type(value)
        problem, got = f"{where} cannot be written to a file", why or f"{kind.__module__}.{kind.__qualname__}"
        expected = "numbers, strings, dense tensors, and lists, tuples, sets or dicts of these"
        if self.scope is Scope.DATA:
            return NotExportable(problem, got=got, expected=expected, fix="give plain data, or a registered function")
        return CannotSave(
            problem,
            got=got,
            expected=expected,
            fix="list the attribute in the class's `transient`, or give the class state_dict() and load_state_dict()",
        )


def not_registered(value: object, where: str) -> NotExportable:
    """The error for a class or function that a file has no name for."""
    item = value if isinstance(value, type) or inspect.isroutine(value) else type(value)
    what = "class" if isinstance(item, type) else "function"
    name, path = item.__name__, item.__qualname__
    if name == "<lambda>":
        recipe = "make the lambda a def, with @exportable('my.name') above it"
    elif "<locals>" in path:
        recipe = f"move {name} out of the function that it is defined in, with @exportable('my.{name}') above it"
    else:
        above = f"{'class' if what == 'class' else 'def'} {name}"
        recipe = f"from layered.basics import exportable; then @exportable('my.{name}') above {above}"
    return NotExportable(
        f"{where} uses {name}, which a file cannot name",
        got=f"{what} {item.__module__}.{path}",
        expected="a class or function that is registered, here and where the file is loaded",
        fix=recipe,
    )


def _base_instance(value: object) -> object:
    """Subclasses of plain types as the types themselves: constructors take either."""
    bases: tuple[type[Any], ...] = (list, dict, int, float, str)
    for base in bases:
        if isinstance(value, base) and not isinstance(value, (bool, np.generic, Counter, defaultdict, OrderedDict)):
            return value if type(value) is base else base(value)
    return list(value) if isinstance(value, L) else tuple(value) if isinstance(value, torch.Size) else value


def _form(value: object) -> tuple[object, ...] | None:
    """What must be equal in tensors that are kept as one; None for anything else."""
    if type(value) is not Tensor or value.layout is not torch.strided or not value.is_contiguous():
        return None
    return value.shape, value.dtype, value.device


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children by name, a shared one each time: `named_children` gives it once only."""
    return ((name, child) for name, child in module._modules.items() if child is not None)


def _version(kind: type) -> dict[str, int]:
    version = version_of(kind)
    return {} if version == 1 else {"version": version}


def _fits(kind: type) -> tuple[str, ...]:
    """The attributes that instances of a class fit to data, and that a file keeps."""
    fits: tuple[str, ...] = getattr(kind, "fits", ())
    return fits


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor], scope: Scope) -> None:
        self.tensors, self.scope = tensors, scope
        self.unused = dict(tensors)
        self.parts = 0
        self.built: dict[str, tuple[nn.Module, int]] = {}  # path → a whole module, and the parts that it counts as

    def decode(self, data: object, where: str = "") -> Any:
        if isinstance(data, list):
            return self.items(data, where)
        if not isinstance(data, dict):
            return data
        tag = next(iter(data), "")
        if not tag.startswith("$"):
            return self.table(data, where)
        match tag, data[tag]:
            case "$tensor", str(name):
                return _moved(_laid_out(self.tensors[name], data.get("strides")), data.get("device"))
            case "$floats", str(name):
                return self.once(name).tolist()
            case "$stack", {"$tensor": str(name), **rest}:
                return [x.clone() for x in _moved(self.once(name), rest.get("device"))]
            case "$array", str(name):
                if not re.fullmatch(r"[<>=|]?[biuf]\d{1,2}", data["dtype"]):
                    raise BadFile("an array of the file is not numeric", got=f"{data['dtype']:.80}")
                raw = self.once(name).numpy().tobytes()
                return np.frombuffer(raw, np.dtype(data["dtype"])).reshape(data["shape"]).copy()
            case "$dict", list(pairs):
                return self.table({plain_key(self.decode(k)): v for k, v in pairs}, where)
            case "$counter", dict(table):
                return Counter(exactly(dict, self.decode(table, where)))
            case _, list(values) if tag in _COLLECTIONS:
                return _COLLECTIONS[tag](self.items(values, where))
            case _, content if tag in self.scope.value:
                return self.named(tag, content, data, where)
        raise BadFile("the file has a value of unknown form", got=f"{tag:.80}")

    def once(self, name: str) -> Tensor:
        """A tensor that is about to be copied: a second copy is refused, so that few bytes stay few."""
        return self.unused.pop(name)

    def items(self, values: list[object], where: str) -> list[Any]:
        items = [v if type(v) in _SCALARS else self.decode(v, f"{where}.{i}") for i, v in enumerate(values)]
        if len(items) > FEW and self.scope is not Scope.STATE:  # constructors may hash them
            for item in items:
                if isinstance(item, (int, tuple, frozenset, slice)):
                    plain_key(item)
        return items

    def table(self, table: Mapping[Any, object], where: str) -> dict[Any, Any]:
        if self.scope is Scope.MODEL and ("device" in table or "dtype" in table):
            # Weights would take memory before their shapes are compared with those in the file.
            raise BadFile("a model's description names neither device nor dtype", got=f"{list(table)!r:.80}")
        return {k: v if type(v) in _SCALARS else self.decode(v, _below(where, str(k))) for k, v in table.items()}

    def named(self, tag: str, name: Any, node: dict[str, Any], where: str) -> Any:
        """The object that a node of the scope describes."""
        match tag:
            case "$function":
                return functions.get(name)
            case "$class":
                return modules.get(name)
            case "$same":
                module, parts = self.built[name]
                self.count(parts)
                return module
            case "$pipeline":
                self.count(1)
                return Pipeline(self.items(exactly(list, name), where))
            case "$function_transform":
                self.count(1)
                return Transform(functions.get(name), order=node["order"], split_idx=node["split_idx"])
        return self.build(tag, name, node, where)

    def build(self, tag: str, name: str, node: dict[str, Any], where: str) -> Any:
        kind, before = _KINDS[tag].get(name), self.parts
        args = self.table(exactly(dict, node["args"]), where)
        fitted = self.table(exactly(dict, node.get("fitted", {})), where)
        given = (args, fitted) if tag in ("$transform", "$loss") else (args,)
        args, *more = upgraded(kind, name, node.get("version", 1), *given)
        if tag == "$value":
            self.count(1)
            return kind.from_described(args)
        built = kind.from_init_args(args) if issubclass(kind, Recorded) else kind(**args)
        if tag == "$module":
            self.count(max(1, before + sum(1 for _ in built.modules()) - self.parts))
            self.add_children(built, node.get("children", {}), where)
            self.built[where] = built, self.parts - before
            return built
        self.count(1)
        for fitted in more:
            _set_fitted(built, fitted)
        return built

    def add_children(self, module: nn.Module, children: object, where: str) -> None:
        if children and type(module) not in CONTAINERS:
            raise BadFile("the file gives children to a module that is not a container", got=type(module).__name__)
        for name, node in exactly(dict, children).items():
            child = self.decode(node, _below(where, name))
            if not isinstance(child, nn.Module):
                raise BadFile("a part of the model in the file is not a module", got=type(child).__name__)
            module.add_module(name, child)

    def count(self, parts: int) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise BadFile("the file describes too many parts", expected=f"at most {MAX_PARTS}")


def _set_fitted(o: object, fitted: Mapping[str, object]) -> None:
    unknown = set(fitted) - set(_fits(type(o)))
    if unknown:
        raise BadFile(f"{type(o).__name__} does not fit {', '.join(sorted(unknown))}")
    for name, value in fitted.items():
        setattr(o, name, value)


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether axes with these strides fill their memory without gaps or overlaps, in whatever order."""
    step = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1 and stride != step:
            return False
        step *= size
    return step > 0 and all(0 < stride <= step for stride in strides)


def _laid_out(x: Tensor, strides: object) -> Tensor:
    """`x` with its axes in memory as a file says: sums over it then round as they did."""
    if strides is None:
        return x
    steps = [exactly(int, stride) for stride in exactly(list, strides)]
    if len(steps) != x.ndim or not _is_dense(x.shape, steps):
        raise BadFile("the file lays a tensor out in a way that no tensor has", got=f"{steps} for {list(x.shape)}"[:80])
    return torch.empty_strided(x.shape, steps, dtype=x.dtype).copy_(x)


def _moved(x: Tensor, device: object) -> Tensor:
    """`x` on the GPU that a file names, if there is one; torch would import the backend of other kinds of device."""
    if device is None or not re.fullmatch(r"cuda(:\d+)?", exactly(str, device)) or not torch.cuda.is_available():
        return x
    return x.to(exactly(str, device))
