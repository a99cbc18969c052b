"""Pickles: a reader that builds plain data and runs no code, and `save_pickle` and `load_pickle` around it.

A pickle is a program for a small stack machine. This machine knows the instructions that build dicts, lists, tuples,
sets, strings, bytes and numbers; a name in the file (GLOBAL) is looked up in a fixed table of functions of this module
and never imported; an unknown name ends the reading. Instructions, integers and nesting are bounded.
"""

from __future__ import annotations

import encodings.raw_unicode_escape  # noqa: F401  # the codec of UNICODE: reading a pickle must import nothing
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from torch import Tensor

from layered.files.bounded import COPY_AGAIN, MAX_DEPTH, exactly, open_bounded, plain_key
from layered.files.durable import commit
from layered.foundation import BadFile, UnsafeFile

MAX_WORK = 2**20  # instructions (those that make objects count several times) and copied elements
MAX_INT_BITS = 1024
CONVERT = (
    "convert it where it was made, in a session that you trust: torch.save(model.state_dict(), 'weights.pth'), "
    "or safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


@dataclass(frozen=True)
class Known:
    """Stands for a name in the file: a function of this module, or a marker that such a function expects."""

    name: str
    call: Callable[..., Any] | None = None


Names = Mapping[str, Any]


def read_pickle(
    stream: BinaryIO, names: Names, what: str, load: Callable[[Any], Any] | None = None, *, convert: str = CONVERT
) -> Any:
    """The plain data that a pickle describes.

    Args:
        stream: Where to read; it is left at the end of the pickle.
        names: A `Known` or a value for each "module name" that the pickle may use.
        what: The name of the file, for messages.
        load: Makes a value from a persistent id (torch writes storages as such); None refuses them.
        convert: The fix that the error gives when the pickle needs code.

    Raises:
        UnsafeFile: Only running code from the file could build an object.
        BadFile: The pickle is damaged or too large.

    Examples:
        >>> import io, pickle
        >>> read_pickle(io.BytesIO(pickle.dumps({"lr": [0.1, None]})), PLAIN_NAMES, "the file")
        {'lr': [0.1, None]}
    """
    machine = _Machine(names, what, load, convert)
    try:
        for code, argument, _ in pickletools.genops(stream):
            machine.step(code.name, argument)
        (result,) = machine.stack
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"the pickle in {what} is damaged", got=f"{error!s:.200}", fix=COPY_AGAIN) from error
    _check_plain(result, what, convert)
    return result


# the instructions that push their own argument
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_LITERALS = _NUMBERS | _STRINGS | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_COSTS = {
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "LIST", "TUPLE", "DICT", "REDUCE", "NEWOBJ"), 4),
    "TUPLE1": 4,
    "TUPLE2": 4,
    "TUPLE3": 4,
    "EMPTY_SET": 8,
    "FROZENSET": 8,  # even an empty set takes 200 bytes
}


class _Machine:
    def __init__(self, names: Names, what: str, load: Callable[[Any], Any] | None, convert: str) -> None:
        self.names, self.what, self.load, self.convert = names, what, load, convert
        self.work = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each MARK
        self.memo: dict[int, Any] = {}

    def step(self, code: str, argument: Any) -> None:
        """Execute one instruction."""
        self.charge(_COSTS.get(code, 1))
        stack = self.stack
        if code in _LITERALS:
            if type(argument) is int and argument.bit_length() > MAX_INT_BITS:
                raise BadFile(f"{self.what} holds a number of {argument.bit_length()} bits")
            stack.append(argument)
            return
        if code in _FRESH:
            stack.append(_FRESH[code]())
            return
        match code:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK" if len(self.below) > 10 * MAX_DEPTH:
                raise BadFile(f"{self.what} is nested too deep")
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self.since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[_small(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "LIST" | "TUPLE" | "FROZENSET" | "DICT":
                items = self.since_mark()
                self.stack.append(_COLLECT[code](items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code[-1])
                items = [stack.pop() for _ in range(count)]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                item = stack.pop()
                exactly(list, stack[-1]).append(item)
            case "APPENDS":
                items = self.since_mark()
                exactly(list, self.stack[-1]).extend(items)
            case "SETITEM":
                item, key = stack.pop(), stack.pop()
                exactly(dict, stack[-1])[plain_key(key)] = item
            case "SETITEMS":
                items = self.since_mark()
                exactly(dict, self.stack[-1]).update(_table(items))
            case "ADDITEMS":
                items = self.since_mark()
                exactly(set, self.stack[-1]).update(map(plain_key, items))
            case "GLOBAL":
                stack.append(self.look_up(argument))
            case "STACK_GLOBAL":
                name, module = exactly(str, stack.pop()), exactly(str, stack.pop())
                stack.append(self.look_up(f"{module} {name}"))
            case "REDUCE" | "NEWOBJ":
                arguments = exactly(tuple, stack.pop())
                stack.append(self.call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                self.build(stack[-1], state)
            case "BINPERSID" if self.load is not None:
                stack.append(self.load(stack.pop()))
            case _:
                self.refuse(f"the pickle instruction {code}")

    def since_mark(self) -> list[Any]:
        """Take what was pushed since the last MARK, and continue with the stack below it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def look_up(self, name: str) -> Any:
        if name not in self.names:
            self.refuse(f"{name.replace(' ', '.')[:200]!r}")
        return self.names[name]

    def call(self, target: object, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(target, Known) or target.call is None:
            self.refuse(f"a call of {target.name if isinstance(target, Known) else type(target).__name__}")
        self.charge(*(len(o) for o in arguments if isinstance(o, _SIZED)))
        return target.call(*arguments)

    def build(self, target: object, state: object) -> None:
        """Set the attributes of an object: an OrderedDict's are dropped, those of fastai's L are its items."""
        if type(target) is list and type(state) is dict and type(state.get("items")) is list:
            self.charge(len(state["items"]))
            target.extend(state["items"])
        elif isinstance(target, np.dtype):
            if exactly(tuple, state)[1] == ">":
                raise ValueError("numbers of a big-endian machine")
        else:
            exactly(dict, target)

    def charge(self, *amounts: int) -> None:
        """Count instructions and copied elements: they cost time and memory."""
        self.work += sum(amounts)
        if self.work > MAX_WORK:
            raise BadFile(f"{self.what} holds too much", expected=f"at most {MAX_WORK} instructions and elements")

    def refuse(self, thing: str) -> NoReturn:
        raise UnsafeFile(
            f"{self.what} needs {thing}: only running code from the file could build it",
            expected="tensors, numbers, strings, lists and dicts",
            fix=self.convert,
        )


def _small(index: int) -> int:
    if not 0 <= index < 2**32:
        raise ValueError("a memo index out of bounds")
    return index


def _table(items: list[Any]) -> dict[Any, Any]:
    return {plain_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _set(items: object = ()) -> set[Any]:
    return set(map(plain_key, _items(items)))


def _items(given: object) -> Any:
    """`given`, if it is a collection of plain data: iterating over a tensor, say, would make an object of each element."""
    if type(given) not in (list, tuple, set, frozenset, dict):
        raise TypeError(f"{type(given).__name__} where a collection should be")
    return given


_COLLECT: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "FROZENSET": lambda items: frozenset(_set(items)),
    "DICT": _table,
}


def _check_plain(tree: object, what: str, convert: str) -> None:
    """Refuse leaves that are neither data nor tensors, deep nesting, and few bytes that unfold to very many values.

    Raises:
        UnsafeFile: A leaf is not data.
        BadFile: The tree is too deep or too large.
    """
    seen: dict[int, tuple[int, int]] = {}  # id -> leaves and levels below

    def weigh(node: Any, depth: int) -> tuple[int, int]:
        if depth > MAX_DEPTH:
            raise BadFile(f"{what} is nested too deep", expected=f"at most {MAX_DEPTH} levels")
        if type(node) not in (dict, list, tuple):
            if not isinstance(node, _LEAVES):
                raise UnsafeFile(f"{what} holds {getattr(node, 'name', node)!r:.80}, which is not data", fix=convert)
            return 1, 0
        if id(node) not in seen:
            below = [weigh(o, depth + 1) for o in (node.values() if type(node) is dict else node)]
            seen[id(node)] = 1 + sum(n for n, _ in below), 1 + max((d for _, d in below), default=0)
        leaves, levels = seen[id(node)]
        if leaves > MAX_WORK or depth + levels > MAX_DEPTH:
            raise BadFile(f"{what} unfolds to too much", got=f"{leaves} values, {depth + levels} levels")
        return leaves, levels

    weigh(tree, 0)


_SIZED = (str, bytes, list, tuple, dict, set, frozenset)
_LEAVES = (str, bytes, int, float, complex, type(None), set, frozenset, Tensor, torch.dtype)


def _decoded_bytes(text: str, codec: str) -> bytes:
    """Bytes as protocol 2 writes them: as latin-1 text."""
    if exactly(str, codec) != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return bytes(exactly(str, text), "latin-1")


def _numpy_dtype(code: str, *rest: object) -> np.dtype[Any]:
    if code not in _NUMPY_CODES:
        raise ValueError(f"a NumPy type {code!r:.20}")
    return np.dtype(code)


_NUMPY_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def _numpy_scalar(dtype: np.dtype[Any], raw: bytes) -> Any:
    if not isinstance(dtype, np.dtype):
        raise TypeError("a NumPy number without its type")
    (number,) = np.frombuffer(exactly(bytes, raw), dtype)
    return number.item()


def _pairs(pairs: object = ()) -> dict[Any, Any]:
    return {plain_key(key): value for key, value in map(_items, _items(pairs))}


PLAIN_NAMES: dict[str, Any] = {
    "collections OrderedDict": Known("OrderedDict", _pairs),
    "builtins set": Known("set", _set),
    "builtins frozenset": Known("frozenset", lambda items=(): frozenset(_set(items))),
    "builtins complex": Known("complex", lambda real, imag: complex(real, imag)),
    "builtins bytes": Known("bytes", lambda: b""),
    "_codecs encode": Known("encode", _decoded_bytes),
    "numpy dtype": Known("dtype", _numpy_dtype),
    "numpy.core.multiarray scalar": Known("scalar", _numpy_scalar),
    "numpy._core.multiarray scalar": Known("scalar", _numpy_scalar),
    "fastcore.foundation L": Known("L", lambda items=None: [] if items is None else list(exactly(list, items))),
}
PLAIN_NAMES.update({k.replace("builtins", "__builtin__"): v for k, v in PLAIN_NAMES.items() if "builtins" in k})


def save_pickle(file: str | os.PathLike[str], o: object) -> None:
    """Pickle an object for your own later sessions: a table that took long to prepare, say.

    To share something, or to keep it for long, `learn.export` and `learn.save` write files of data, which are safe to open.

    Args:
        file: The file.
        o: Any object that can be pickled.

    Raises:
        CannotSave: The disk is full, read-only or failing.
    """
    data = pickle.dumps(o)
    commit(file, lambda f: f.write(data))


def load_pickle(file: str | os.PathLike[str], *, trust: bool = False) -> Any:
    """Load what `save_pickle` wrote: plain data, or with `trust` any object.

    Args:
        file: The file.
        trust: Let the file run any code as it is opened, as pickles of tables and other objects must. Only for files that
            you wrote yourself.

    Raises:
        NotFoundPath: There is no such file.
        UnsafeFile: It holds more than plain data, and `trust` is False.
        BadFile: It is damaged.
    """
    with open_bounded(file) as f:
        if trust:
            return pickle.load(f)
        fix = "if you made this file yourself: load_pickle(file, trust=True), which runs the code that is in it"
        return read_pickle(f, PLAIN_NAMES, f"'{file}'", convert=fix)
