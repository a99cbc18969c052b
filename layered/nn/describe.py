"""A tree of modules as plain data, and back: how an exported file says which model its weights belong to.

A node is `{"kind": name, "args": {…}}`, with `"version"` where that is not 1, and `"children": {name: node}` for
containers; `{"same": path}` stands for a module that stands at another place too. Names are those of the registry `modules`:
`torch.Linear`, `AdaptiveConcatPool2d`, yours.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layered.files import upgraded
from layered.foundation import (
    BadFile,
    BadValue,
    LayeredError,
    NotExportable,
    Recorded,
    constructor_signature,
    functions,
    modules,
    seeded,
)
from layered.nn.convolution import NormType

_BY_SIZE = {torch.empty, torch.empty_strided, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}


class weightless(TorchFunctionMode):
    """Inside, tensors that are made by their size have no memory (they are on the device "meta"), such as all weights.

    Those that are made of values are real: constructors look at them, and files do not hold what is computed from them.

    Args:
        most: Raise BadValue when more tensors than so many are made by their size.

    Examples:
        >>> with weightless(): layer = torch.nn.Linear(10**6, 10**6)
        >>> layer.weight.device
        device(type='meta')
    """

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _BY_SIZE:
            self.made += 1
            if self.made > self.most:
                raise BadValue("what is built has far too many parts", expected=f"at most {self.most} tensors")
            given["device"] = given.get("device") or "meta"
        return func(*args, **given)


Node = dict[str, Any]
MAX_MODULES = 20_000

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_HIDDEN_SIGNATURES: dict[type, tuple[str, ...]] = {
    nn.LSTM: (*_RECURRENT, "proj_size"),
    nn.GRU: _RECURRENT,
    nn.RNN: (*_RECURRENT, "nonlinearity"),
}
_CONTAINERS: tuple[type[nn.Module], ...] = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

_DIMENSIONED = """
AdaptiveAvgPool AdaptiveMaxPool AvgPool MaxPool BatchNorm Conv ConvTranspose Dropout InstanceNorm ReflectionPad
ReplicationPad ZeroPad
"""
_OTHERS = """
AlphaDropout Bilinear CELU ChannelShuffle CosineSimilarity Dropout ELU Embedding EmbeddingBag Flatten GELU GLU GRU GRUCell
GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity LSTM LSTMCell LayerNorm LeakyReLU Linear LocalResponseNorm
LogSigmoid LogSoftmax Mish PReLU PixelShuffle PixelUnshuffle RMSNorm RNN RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d
Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold Unflatten Upsample
"""

for _kind in _CONTAINERS:
    modules.add(f"torch.{_kind.__name__}", _kind)
for _name in [*_OTHERS.split(), *(f"{stem}{n}d" for stem in _DIMENSIONED.split() for n in (1, 2, 3))]:
    if hasattr(nn, _name):
        modules.add(f"torch.{_name}", getattr(nn, _name))


def describe_module(model: nn.Module) -> Node:
    """The model as data that JSON can hold: kinds and constructor arguments, no weights.

    Raises:
        NotExportable: Naming the module, for a class that is not registered, for arguments that are not data, and
            where a model built from the description would differ from this one (it was changed after construction).

    Examples:
        >>> describe_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))["children"]["1"]
        {'kind': 'torch.ReLU', 'args': {}}
    """
    node = _Describer().node(model, "")
    again = _weightless(node)
    if repr(again) != repr(model) or _shapes(again) != _shapes(model):
        raise _refused("", model, "was changed after it was built, so its constructor arguments do not describe it")
    return node


def rebuild_module(node: Mapping[str, Any], shapes: Mapping[str, Sequence[int]] | None = None) -> nn.Module:
    """The model that `describe` described, with fresh weights.

    Args:
        shapes: The names and shapes that its `state_dict` must have; checked before memory is taken for it.

    Raises:
        UnknownName: For a kind that is not registered here, BadFile for anything else that is not a description.
    """
    if shapes is not None:
        wanted = {name: torch.Size(shape) for name, shape in shapes.items()}
        found = _shapes(_weightless(node))
        if found != wanted:
            differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise BadFile(
                "the model's description does not fit its weights", got=f"differing: {', '.join(differing[:5])}"
            )
    try:
        return _Rebuilder().module(node, "")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, LayeredError):
            raise
        raise BadFile("this is no description of a model", got=f"{type(error).__name__}: {error}") from error


def _weightless(node: Mapping[str, Any]) -> nn.Module:
    """The described model without memory for its weights."""
    with seeded(0), weightless():
        return rebuild_module(node)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in model.state_dict().items()}


def _refused(path: str, what: object, why: str) -> NotExportable:
    name = type(what).__name__ if isinstance(what, nn.Module) else repr(what)
    return NotExportable(
        f"the model cannot be written as data: {name} at '{path or 'its root'}' {why}",
        fix="register its class (a Module of layered.basics, with @exportable('my.name') above it), "
        "or export the weights alone and load them with load_learner(file, model=build())",
    )


class _Describer:
    def __init__(self) -> None:
        self.seen: dict[int, str] = {}

    def node(self, module: nn.Module, path: str) -> Node:
        if id(module) in self.seen:
            return {"same": self.seen[id(module)]}
        self.seen[id(module)] = path
        kind = modules.name_of(type(module))
        if kind is None:
            raise _refused(path, module, "is of a class that is not registered")
        if "forward" in vars(module):
            raise _refused(path, module, "has a forward of its own")
        if type(module) in _CONTAINERS:
            children = {
                name: self.node(child, f"{path}.{name}".lstrip("."))
                for name, child in module._modules.items()
                if child is not None
            }
            return {"kind": kind, "args": {}, "children": children}
        given = constructor_args(module, path)
        version = getattr(type(module), "version", 1)
        return {
            "kind": kind,
            **({} if version == 1 else {"version": version}),
            "args": {name: self.value(value, f"{path}.{name}".lstrip(".")) for name, value in given.items()},
        }

    def value(self, value: Any, path: str) -> Any:
        match value:
            case None | bool() | int() | float() | str():
                return value
            case np.generic():
                return value.item()
            case Tensor() | np.ndarray() if value.ndim == 0:
                return value.item()
            case NormType():
                return {"norm": value.name}
            case tuple():
                return {"tuple": [self.value(item, path) for item in value]}
            case list():
                return [self.value(item, path) for item in value]
            case dict() if all(isinstance(key, str) for key in value):
                return {"dict": {key: self.value(item, f"{path}.{key}") for key, item in value.items()}}
            case nn.Module():
                return {"module": _Describer().node(value, path)}
        name = modules.name_of(value) if isinstance(value, type) else functions.name_of(value)
        if name is None:
            raise _refused(path, value, "is an argument that is neither data nor registered")
        return {"class" if isinstance(value, type) else "function": name}


def constructor_args(module: nn.Module, path: str) -> dict[str, Any]:
    """The arguments that build a module like this one; `path` says in an error where it stands.

    Raises:
        NotExportable: For a class that neither records its arguments nor keeps them as attributes.
    """
    if isinstance(module, Recorded):
        return module.init_args
    is_torchs = type(module).__init__.__module__.startswith("torch.")
    return _args_of_torch(module, path) if is_torchs else _args_of_plain(module, path)


def _args_of_plain(module: nn.Module, path: str) -> dict[str, Any]:
    """The constructor arguments of a user's own `nn.Module`, where its attributes of the same names say them."""
    names = constructor_signature(type(module)).parameters
    lost = [name for name in names if not hasattr(module, name)]
    if lost:
        raise _refused(path, module, f"does not keep its argument '{lost[0]}'")
    args = {name: getattr(module, name) for name in names}
    with seeded(0), weightless():
        again = type(module)(**args)
    if _numbers_and_words(again) != _numbers_and_words(module):
        raise _refused(path, module, "has attributes that differ from what its constructor makes of them")
    return args


def _numbers_and_words(module: nn.Module) -> dict[str, Any]:
    found = {name: x for name, x in vars(module).items() if isinstance(x, (bool, int, float, str))}
    found.pop("training", None)
    return found


def _args_of_torch(module: nn.Module, path: str) -> dict[str, Any]:
    """The constructor arguments of one of torch's own layers, read from the attributes that keep them.

    Defaults are left out, so that a file does not name arguments that an older torch lacks.
    """
    if type(module) in _HIDDEN_SIGNATURES:
        return {name: getattr(module, name) for name in _HIDDEN_SIGNATURES[type(module)]}
    args = {}
    for name, parameter in constructor_signature(type(module)).parameters.items():
        if name in ("device", "dtype", "args", "kwargs") or name.startswith("_"):
            continue
        if hasattr(module, name):
            value = getattr(module, name)
            value = value is not None if name == "bias" and not isinstance(value, bool) else value
            if value != parameter.default:
                args[name] = value
        elif parameter.default is inspect.Parameter.empty:
            raise _refused(path, module, f"does not keep its argument '{name}'")
    return args


class _Rebuilder:
    """Builds modules and counts their `parts` as a walk over the model meets them: a shared one at each of its places."""

    def __init__(self) -> None:
        self.built: dict[str, tuple[nn.Module, int]] = {}  # whole, children included, with its parts
        self.parts = 0

    def module(self, node: Mapping[str, Any], path: str) -> nn.Module:
        if "same" in node:
            shared, parts = self.built[node["same"]]
            self.count(self.parts + parts)
            return shared
        before = self.parts
        kind: Any = modules.get(node["kind"])
        (described,) = upgraded(kind, node["kind"], node.get("version", 1), node["args"])
        args = self.table(described, path)
        module: nn.Module = kind.from_init_args(args) if issubclass(kind, Recorded) else kind(**args)
        self.count(max(self.parts + 1, before + sum(1 for _ in module.modules())))
        for name, child in node.get("children", {}).items():
            module.add_module(name, self.module(child, f"{path}.{name}".lstrip(".")))
        self.built[path] = module, self.parts - before
        return module

    def count(self, parts: int) -> None:
        self.parts = parts
        if parts > MAX_MODULES:
            raise BadFile("the description of a model has far too many parts", expected=f"at most {MAX_MODULES}")

    def table(self, given: Mapping[str, Any], path: str) -> dict[str, Any]:
        if "device" in given or "dtype" in given:  # memory would be taken before the weights are seen
            raise BadFile("a description of a model names neither device nor dtype", got=list(given)[:5])
        return {name: self.value(value, f"{path}.{name}".lstrip(".")) for name, value in given.items()}

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, list):
            return [self.value(item, path) for item in value]
        if not isinstance(value, Mapping):
            return value
        ((tag, content),) = value.items()
        match tag:
            case "norm":
                return NormType[content]
            case "tuple":
                return tuple(self.value(item, path) for item in content)
            case "dict":
                return self.table(content, path)
            case "module":
                return self.module(content, path)
            case "class":
                return modules.get(content)
            case "function":
                return functions.get(content)
        raise BadFile("this is no description of a model", got=f"a value tagged {tag!r}")
