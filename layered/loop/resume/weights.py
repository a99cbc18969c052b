"""Saving and loading a model's weights: all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from layered.files import decode_tree, encode_tree, joined, read_archive, read_weights, reading
from layered.foundation import BadArgument, BadFile, CannotRestore, NotFoundPath, Path, noop, warn
from layered.loop.current_opt import use_current_opt
from layered.loop.processes import unwrapped
from layered.loop.sharding import load_whole, write_together
from layered.loop.state import AbstractLoop

Weights = Mapping[str, Any]
L = TypeVar("L", bound=AbstractLoop)

SUFFIX = ".layered"
_SUFFIXES = (SUFFIX, ".pth", ".safetensors")


def save_weights(loop: AbstractLoop, file: str | os.PathLike[str], with_opt: bool = True) -> Path:
    """Write the weights (and the optimizer's state) to `path/model_dir/file.layered`.

    Of several processes, all of which must call it, the first writes; all return once the file stands.

    Args:
        file: A name, with or without its suffix, or a path.
        with_opt: Write the optimizer's state too, if there is an optimizer.

    Returns:
        The path of the file.

    Raises:
        CannotSave: If it cannot be written; an older file of that name then still stands.
        CannotTrain: Another thread trains.
    """
    with loop.turns.of_item():
        return _save(loop, file, with_opt)


def _save(loop: AbstractLoop, file: str | os.PathLike[str], with_opt: bool) -> Path:
    parts: dict[str, Any] = {"model": unwrapped(loop.model).state_dict()}
    if with_opt and loop.opt is not None:
        parts["opt"] = loop.opt.state_dict()
    return write_weights(loop, file, parts)


def write_weights(loop: AbstractLoop, file: str | os.PathLike[str], parts: Mapping[str, Any]) -> Path:
    """Write state dicts and plain data to `path/model_dir/file.layered`; of several processes the first does.

    Args:
        loop: The learner.
        file: A name, with or without its suffix, or a path.
        parts: What to write, by name; weights are under "model".

    Returns:
        The path of the file.

    Raises:
        CannotSave: If it cannot be written.
    """
    path = joined(loop.path, loop.model_dir, file)
    if not path.name.endswith(SUFFIX):
        path = path.with_name(path.name + SUFFIX)
    tensors: dict[str, Tensor] = {}
    manifest = {name: encode_tree(part, tensors, name) for name, part in parts.items()}
    write_together(path, manifest, tensors, kind="weights")
    return path


def load_weights(
    loop: L,
    file: str | os.PathLike[str],
    with_opt: bool = True,
    strict: bool = True,
    device: torch.device | str | None = None,
) -> L:
    """Read weights written by `save`, or any `.pth` or `.safetensors` file; the model is unchanged unless all of them fit.

    Args:
        file: A name in `path/model_dir`, or a path, with or without its suffix.
        with_opt: Read the optimizer's state too, if the file has one.
        strict: Every weight of the model must be in the file, and no other.
        device: Where to move the model first.

    Raises:
        BadFile: If the file is damaged.
        UnsafeFile: If it holds more than weights.
        CannotRestore: If names or shapes differ; the error lists them.
        NotFoundPath: If there is no such file.
        CannotTrain: Another thread trains.
    """
    path = find_weights(loop, file)
    parts = read_parts(path, loop.clean_names)
    with loop.turns.of_pass(fits=True):
        put_weights(loop, path, parts["model"], parts.get("opt") if with_opt else None, strict, device)
    return loop


def put_weights(
    loop: AbstractLoop,
    path: Path,
    weights: Mapping[str, Any],
    opt_state: Any = None,
    strict: bool = True,
    device: torch.device | str | None = None,
) -> None:
    """Put weights and the optimizer's state, if there is one, into a loop.

    Args:
        loop: The learner.
        path: The file that they come from, for the error.
        weights: The weights by name.
        opt_state: The optimizer's state dict, or None.
        strict: Every weight of the model must be among them, and no other.
        device: Where to move the model first.

    Raises:
        CannotRestore: If they do not fit.
    """
    check_fits(path, unwrapped(loop.model).state_dict(), weights, strict)
    if device is not None:
        loop.model.to(device)
    if opt_state is not None:
        use_current_opt(loop)
        try:
            loop.opt.load_state_dict(opt_state)
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            raise CannotRestore(
                f"the optimizer's state in {path} does not fit",
                got=str(error).splitlines()[0],
                fix="load(…, with_opt=False) loads the weights alone",
            ) from error
    load_whole(unwrapped(loop.model), weights, strict)


def find_weights(loop: AbstractLoop, file: object) -> Path:
    """The file of weights of that name in `path/model_dir`, or the path itself; with or without its suffix.

    Args:
        loop: The learner.
        file: A name or a path.

    Raises:
        BadArgument: It is neither.
        NotFoundPath: There is no such file.
    """
    if not isinstance(file, (str, os.PathLike)):
        raise BadArgument("weights must be loaded from a file", got=repr(file), expected="its name or path")
    folder = joined(loop.path, loop.model_dir)
    with reading(folder):
        stems = [joined(folder, file), joined(file)]
        for path in [Path(f"{stem}{suffix}") for stem in stems for suffix in (*_SUFFIXES, "")]:
            if path.is_file():
                return path
        raise NotFoundPath(
            f"no weights named '{file}'",
            got=", ".join(sorted(p.name for p in folder.iterdir() if p.suffix in _SUFFIXES))
            if folder.is_dir()
            else None,
            expected=f"{folder / file} with one of {', '.join(_SUFFIXES)}",
            fix="save them first: learn.save(…)",
        )


def read_parts(path: Path, clean_names: Callable[[Weights], Weights] = noop) -> dict[str, Any]:
    """What `write_weights` wrote; of a file of another library the weights alone, under "model".

    Args:
        path: The file.
        clean_names: What brings the weights under the names of the model: see `AbstractLoop.clean_names`.

    Raises:
        BadFile: It is damaged, or holds no weights.
        UnsafeFile: It holds more than weights.
    """
    if path.suffix == SUFFIX:
        archive = read_archive(path, kind="weights")
        parts = {name: decode_tree(part, archive.tensors) for name, part in archive.manifest.items()}
        if not isinstance(weights := parts.get("model"), dict):
            raise BadFile(f"'{path}' holds no table of weights", got=type(weights).__name__)
        return {**parts, "model": clean_names(weights)}
    weights = read_weights(path)
    for key in ("model", "state_dict"):
        if isinstance(weights.get(key), Mapping):
            if "opt" in weights:
                warn(f"the optimizer's state in {path} is another library's and is left out")
            weights = dict(weights[key])
    return {"model": clean_names(weights)}


def check_fits(
    path: os.PathLike[str],
    own: Mapping[str, object],
    given: Mapping[str, object],
    strict: bool,
    *,
    fix: str | None = None,
) -> None:
    """Refuse weights that do not fit a model.

    Args:
        path: The file that they come from, for the error.
        own: The model's state dict.
        given: The weights by name.
        strict: Refuse names that are missing or unexpected too, not only other shapes.
        fix: What the error advises, in place of building the same model.

    Raises:
        CannotRestore: Naming up to eight tensors that are missing, unexpected, of another shape, or of another kind of numbers
            (whole or complex ones for a weight, fractions for a count).
    """
    missing, unexpected = [n for n in own if n not in given], [n for n in given if n not in own]
    shapes = [
        f"{name}: {tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__} instead of {tuple(expected.shape)}"
        for name, expected in own.items()
        if name in given and isinstance(expected, Tensor) and _shape(x := given[name]) != expected.shape
    ]
    kinds = [
        f"{name}: {x.dtype} instead of {expected.dtype}"
        for name, expected in own.items()
        if isinstance(x := given.get(name), Tensor)
        and isinstance(expected, Tensor)
        and _kind(x.dtype) != _kind(expected.dtype)
    ]
    if shapes or kinds or (strict and (missing or unexpected)):
        faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "of another kind": kinds}
        raise CannotRestore(
            f"the weights in {path} do not fit the model",
            got="; ".join(f"{what}: {_some(names)}" for what, names in faults.items() if names),
            expected=f"{len(own)} weights of the same names and shapes",
            fix=fix
            or "build the same model"
            + ("" if shapes or kinds else ", or load(…, strict=False) to load those that fit"),
        )


def _kind(dtype: torch.dtype) -> object:
    """What converts without a change of meaning: fractions, complex numbers, booleans, whole numbers."""
    return dtype.is_floating_point, dtype.is_complex, dtype == torch.bool


def _shape(x: object) -> torch.Size | None:
    return x.shape if isinstance(x, Tensor) else None


def _some(names: list[str]) -> str:
    return ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
