"""Export: what predicting needs, in one file that is data: model, pipelines, vocabulary, decoding.

The manifest of an export:

    about      versions of the libraries, and a line about each column, for people
    model      {"$builder": name, "args": {…}}, a registered builder of models; or {"$module": …}, the model as a tree;
               or {"refused": why}, where neither describes it and the loading side must give it
    data       {"columns": [{"name", "pipeline", "left_out", "getters"}, …], "n_inp", "bs", "left_out", "after_item",
               "before_batch", "after_batch"}, where "getters" are the steps named in "left_out", functions as themselves, or
               null; or {"$loader": name, "args": {…}}, for loaders that describe their own data; or null
    loss       the loss function, if it says how outputs are read, else an `OutputReader`, or null
    learner    the registered kind of learner, or null
    metrics    [{"column"}, with "name", a registered metric, or "scorer", one of scikit-learn's, or "kind" and "args"; alone,
               where no file can name it]
    calibration  what `learn.calibrate` found, without its scores, which are the tensors "calibration.scores" and
               "calibration.ranks"; or null

Values and nodes are in the grammar of `layered.files.codec`; the tensors named "model.…" are the model's weights.
"""

from __future__ import annotations

import os
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from layered.data import ColReader, DataLoaders, Datasets, ItemGetter, TfmdDL, TfmdLists, plain_function
from layered.files import Scope, encode_tree, joined, version_of, weightless
from layered.foundation import (
    NotExportable,
    Path,
    Pipeline,
    Registry,
    Transform,
    builders,
    checked,
    functions,
    learner_kinds,
    loader_kinds,
    seeded,
    warn,
    without_folders,
)
from layered.inference import calibration_of, meaning_for
from layered.loop import Loop, as_made, unwrapped, write_together
from layered.metrics import described_metrics
from layered.nn import describe_module
from layered.version import __version__

SLOTS = ("after_item", "before_batch", "after_batch")


@checked
def export(loop: Loop, fname: str | os.PathLike[str] = "export.layered") -> Path:
    """Write model, pipelines, vocabulary and decoding to one file, which `load_learner` opens in any process.

    Predicting does not need the getters that find inputs (`get_x`) and targets (`get_y`). The file lists them, and holds
    those that are data (`parent_label`, a `RegexLabeller`, a `ColReader`, a function that is `exportable`), so that
    `test_dl(items, with_labels=True)` works after loading; it names the metrics, so that `validate` has the same columns.
    A metric without a registered name (`register_metric`) keeps its column, with None in it and a warning.

    Args:
        fname: A path below the learner's `path`, unless it is absolute. It gets the suffix `.layered`, which replaces
            `.pkl`.

    Returns:
        The path of the file.

    Raises:
        NotExportable: A part has no registered name; nothing is written.
        CannotSave: The file cannot be written.
        CannotTrain: Another thread trains.
    """
    with loop.turns.of_item():
        return _write(loop, layered_name(joined(loop.path, fname)))


def _write(loop: Loop, path: Path) -> Path:
    manifest, tensors = described(loop)
    write_together(path, manifest, tensors, kind="export")
    return path


def described(loop: Loop) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The manifest of an export, and its tensors by name.

    Args:
        loop: The learner.

    Raises:
        NotExportable: A part has no registered name.
    """
    model = unwrapped(loop.model)
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    with as_made(model):
        model_node = _encode_model(loop, model, tensors)
    manifest = {
        "about": {"layered": __version__, "torch": torch.__version__, "columns": _columns(loop.dls)},
        "model": model_node,
        "data": _encode_loaders(loop.dls, tensors),
        "loss": _encode_loss(loop, tensors),
        "learner": _kind_in(learner_kinds, loop),
        "metrics": described_metrics(loop.metric_set),
        "calibration": _encode_calibration(loop, tensors),
    }
    return manifest, tensors


def layered_name(path: Path) -> Path:
    """`path` with the suffix `.layered`, added to the name or in place of `.pkl`."""
    stem = path.name.removesuffix(".layered").removesuffix(".pkl")
    return Path(path.with_name(f"{stem}.layered"))


def _encode_model(loop: Loop, model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Any]:
    recipe: dict[str, Any] | None = getattr(loop, "recipe", None)  # a learner has one
    if recipe is not None and _describes(recipe, model):
        name, args = recipe["builder"], encode_tree(recipe["args"], tensors, "recipe", Scope.DATA)
        return {"$builder": name, "version": version_of(builders.get(name)), "args": args}
    try:
        return describe_module(model)
    except NotExportable as error:
        changed = "it was changed after its learner had built it, and " if recipe is not None else ""
        warn(
            f"the export holds the weights but not how to build the model ({changed}{error.problem}); "
            "load it with load_learner(file, model=build())"
        )
        return {"refused": changed + error.problem}


def _describes(recipe: dict[str, Any], model: nn.Module) -> bool:
    """Whether the recipe still makes this model, which may have been changed since it was built."""
    with seeded(0), weightless():
        rebuilt = builders.get(recipe["builder"])(**recipe["args"])
    shapes = ({name: x.shape for name, x in m.state_dict().items()} for m in (rebuilt, model))
    return repr(rebuilt) == repr(model) and next(shapes) == next(shapes)


def _kind_in(registry: Registry[Any], o: object) -> str | None:
    """The name of the nearest registered class of `o`."""
    return next((name for kind in type(o).__mro__ if (name := registry.name_of(kind)) is not None), None)


def _encode_calibration(loop: Loop, tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    calibration = calibration_of(loop)
    if calibration is None:
        return None
    tensors |= {f"calibration.{name}": getattr(calibration, name) for name in ("scores", "ranks")}
    return calibration.described()


def _encode_loss(loop: Loop, tensors: dict[str, Tensor]) -> Any:
    """The loss, if it says how outputs are read; else what does."""
    loss_func: Any = loop.loss_func
    if loss_func is not None and not hasattr(loss_func, "activation") and not hasattr(loss_func, "decodes"):
        loss_func = meaning_for(loop).reader
    return None if loss_func is None else encode_tree(loss_func, tensors, "loss", Scope.DATA)


def _encode_loaders(dls: object, tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """The validation loader as data, without its items; the training loader where there is no other."""
    loaders = dls.loaders if isinstance(dls, DataLoaders) else []
    dl: Any = loaders[min(1, len(loaders) - 1)] if loaders else None
    name = _kind_in(loader_kinds, dl)
    if name is not None:
        args = encode_tree(dl.described(), tensors, "data", Scope.DATA)
        return {"$loader": name, "version": version_of(loader_kinds.get(name)), "args": args}
    if not isinstance(dl, TfmdDL) or not isinstance(dl.dataset, Datasets):
        return None
    all_left_out: list[str] = []
    columns = []
    for i, tl in enumerate(dl.dataset.tls):
        getters, steps = _apart(tl, is_input=i < dl.dataset.n_inp)
        left_out = list(tl.left_out) or [without_folders(repr(step)) for step in getters]
        all_left_out += left_out
        if getters and 1 < dl.dataset.n_inp > i:
            # Each input's getters took its part out of the item; a prediction gets the parts as a tuple.
            steps = [ItemGetter(i), *steps]
        pipeline = (
            encode_tree(Pipeline(steps), tensors, f"the pipeline of the {tl.name}", Scope.DATA) if steps else None
        )
        columns.append(
            {"name": tl.name, "pipeline": pipeline, "left_out": left_out, "getters": _encode_getters(tl, getters)}
        )
    slots = {slot: encode_tree(getattr(dl, slot), tensors, slot, Scope.DATA) for slot in SLOTS}
    return {"n_inp": dl.dataset.n_inp, "columns": columns, "bs": dl.bs, "left_out": all_left_out, **slots}


def _columns(dls: object) -> list[str]:
    """A line for each column, for people who wonder what goes in and comes out."""
    dsets = dls.train_ds if isinstance(dls, DataLoaders) and dls.loaders else None
    if not isinstance(dsets, Datasets):
        return []
    return [
        f"{'input' if i < dsets.n_inp else 'target'} {tl.name}: {without_folders(repr(tl.tfms)):.500}"
        for i, tl in enumerate(dsets.tls)
    ]


def _apart(tl: TfmdLists, is_input: bool) -> tuple[list[Transform], list[Transform]]:
    """The steps that only find an item's file or label, and the steps after them, which predicting needs."""
    steps = list(tl.tfms)
    count = tl.getters
    if not is_input and not tl.left_out:
        while count < len(steps) and (function := plain_function(steps[count])) is not None:
            if isinstance(function, MethodType) and functions.name_of(function) is not None:
                break  # reads what a getter found, such as `PILMask.create`
            count += 1
    return steps[:count], steps[count:]


def _encode_getters(tl: TfmdLists, getters: list[Transform]) -> list[Any] | None:
    """The steps that find items, as data; None if one of them has no name or holds a folder of this machine."""
    if tl.left_out:
        if tl.whole is None:
            return None
        getters = tl.whole.fs[: len(tl.left_out)]
    if any(isinstance(step, ColReader) and os.path.isabs(step.pref) for step in getters):
        return None
    tensors: dict[str, Tensor] = {}  # labelling takes none
    try:
        nodes: list[Any] = encode_tree([plain_function(f) or f for f in getters], tensors, "getters", Scope.DATA)
    except NotExportable:
        return None
    return None if tensors else nodes
