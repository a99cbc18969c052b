"""Loading an export: every name in the file is looked up in registries that the library or the caller filled.

Nothing that a file asks for is imported or run.
"""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor, nn

from layered.data import DataLoaders, Datasets, TfmdDL, TfmdLists
from layered.files import Archive, read_archive, upgraded
from layered.foundation import (
    BadFile,
    CannotRestore,
    LayeredError,
    NotFoundPath,
    Path,
    Pipeline,
    UnknownName,
    builders,
    checked,
    default_device,
    learner_kinds,
    loader_kinds,
    warn,
)
from layered.nn import rebuild_module, weightless
from layered.training.export import SLOTS, layered_name
from layered.training.learner import Learner
from layered.training.pipelines import rebuild_data

MAX_COLUMNS = 1000
APPS = {  # what to import for names that begin so
    "vision": "layered.vision.all",
    "tabular": "layered.tabular.all",
    "collab": "layered.collab.all",
}
CONVERT = (
    "convert another library's learner where it was made: torch.save({'model': learn.model.state_dict()}, 'weights.pth') and "
    "json.dump(list(learn.dls.vocab), open('vocab.json', 'w')); here, build the same model and learn.load('weights.pth'), "
    "or vision_learner(..., weights='weights.pth')"
)


@checked
def load_learner(fname: str | os.PathLike[str], cpu: bool = True, *, model: nn.Module | None = None) -> Learner:
    """A learner from `export`, ready to predict, in any process and without the script that trained it.

    Args:
        cpu: Keep it on the CPU; False takes the default device.
        model: The module itself, where the file could not say how to build it; its weights are replaced.

    Raises:
        NotFoundPath: A file or folder that is not there.
        BadFile: For what is no sound export.
        NewerFormat: For what is no sound export.
        UnsafeFile: For what is no sound export.
        UnknownName: For a kind or function that is registered nowhere, with the import that brings it.
    """
    path = existing(Path(fname))
    archive = _read(path)
    try:
        dls = _build_loaders(archive)
        loss_func = rebuild_data(archive.manifest["loss"], archive.tensors)
        weights = {k.removeprefix("model."): v for k, v in archive.tensors.items() if k.startswith("model.")}
        net = _load_model(archive.manifest["model"], weights, model)
        kind = archive.manifest.get("learner")
        make = Learner if kind is None else learner_kinds.get(kind)
        learn: Learner = make(dls, net, loss_func, path=path.parent)
    except UnknownName as error:
        raise _with_import_hint(error, path) from error
    except LayeredError:
        raise
    except Exception as error:  # constructors of any kind, called with what the file says
        raise BadFile(
            f"'{path}' does not have the parts of an export", got=f"{type(error).__name__}: {error}"
        ) from error
    learn.loss_func = loss_func  # no other where the exported learner's does not decode: predictions stay the same
    learn.recipe = archive.manifest["model"].get("recipe")
    return learn if cpu else learn.to(default_device())


def _read(path: Path) -> Archive:
    try:
        return read_archive(path, kind="export")
    except BadFile as error:
        if path.suffix == ".layered":
            raise
        raise BadFile(
            f"'{path}' is no export of this library",
            got=error.got or error.problem,
            expected="what learn.export writes, a file that ends in .layered",
            fix=CONVERT,
        ) from error


def existing(path: Path) -> Path:
    """`path`, or where that is not there the file of the same name with our suffix."""
    if path.exists():
        return path
    other = layered_name(path)
    if other.exists():
        warn(f"'{path}' is not there; opening '{other}'")
        return other
    raise NotFoundPath(f"there is no file '{path}'", fix=f"check the path; the working directory is {os.getcwd()}")


def _build_loaders(archive: Archive) -> Any:
    data = archive.manifest["data"]
    if data is None:
        return [], None
    if "loader" in data:
        kind = loader_kinds.get(data["loader"])
        (state,) = upgraded(kind, data["loader"], data.get("version"), data["state"])
        return kind.from_described(rebuild_data(state, archive.tensors))
    if len(data["columns"]) > MAX_COLUMNS:
        raise BadFile("the file describes far too many columns", expected=f"at most {MAX_COLUMNS}")
    tls = []
    for column in data["columns"]:
        pipeline = Pipeline() if column["pipeline"] is None else rebuild_data(column["pipeline"], archive.tensors)
        tls.append(TfmdLists([], pipeline, do_setup=False, splits=[[], []], name=column["name"]))
    dsets = Datasets(tls=tls, n_inp=data["n_inp"])
    slots = {slot: rebuild_data(data[slot], archive.tensors) for slot in SLOTS}
    train = TfmdDL(dsets.train, bs=data["bs"], shuffle=True, drop_last=True, num_workers=0, do_setup=False, **slots)
    return DataLoaders(train, train.new(dsets.valid, shuffle=False, drop_last=False), device="cpu")


def _load_model(described: dict[str, Any], weights: dict[str, Tensor], model: nn.Module | None) -> nn.Module:
    if model is None and "refused" in described:
        raise CannotRestore(
            "the file holds the weights of this model but not how to build it",
            got=described["refused"],
            fix="load_learner(file, model=build()) with the code that built it",
        )
    shapes = {name: tuple(t.shape) for name, t in weights.items()}
    with weightless(most=1000 + 4 * len(weights)):  # the file brings the weights
        net = model if model is not None else _build(described, shapes)
    _check_fits(net, weights)
    net.load_state_dict(weights, assign=model is None)
    if any(t.is_meta for t in [*net.parameters(), *net.buffers()]):  # buffers that are neither stored nor computed
        net = _build(described, shapes)
        net.load_state_dict(weights)
    return net.requires_grad_().eval()


def _check_fits(net: nn.Module, weights: dict[str, Tensor]) -> None:
    expected = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in weights.items()}
    differing = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    if differing:
        name = differing[0]
        raise CannotRestore(
            "the weights in the file do not fit the model",
            got=f"{len(differing)} that differ, first '{name}': {found.get(name)} in the file",
            expected=f"{expected.get(name)} in the model",
            fix="the versions of the packages that define the model differ; or give the model itself with model=",
        )


def _build(described: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    if "tree" in described:
        return rebuild_module(described["tree"], shapes)
    recipe = described["recipe"]
    builder: Any = builders.get(recipe["builder"])
    (args,) = upgraded(builder, recipe["builder"], recipe.get("version", 1), recipe["args"])
    net: nn.Module = builder(**args)
    return net


def _with_import_hint(error: UnknownName, path: Path) -> UnknownName:
    name = error.problem.rpartition("named ")[2].strip("'")
    app = APPS.get(name.partition(".")[0])
    return UnknownName(
        f"'{path}' needs something that is not registered in this process: {error.problem}",
        expected=error.expected,
        fix=f"import {app} first" if app else "define or import it first, with @exportable('name') above it",
    )
