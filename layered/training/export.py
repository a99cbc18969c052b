"""Export: what predicting needs, written to one file that is data: model, pipelines, vocabulary, decoding."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from layered.data import ItemGetter, TfmdDL, TfmdLists, plain_function
from layered.files import write_archive
from layered.foundation import (
    NotExportable,
    Path,
    Pipeline,
    Registry,
    Transform,
    builders,
    checked,
    learner_kinds,
    loader_kinds,
    seeded,
    warn,
)
from layered.loop import Loop
from layered.nn import describe_module, weightless
from layered.training.pipelines import describe_data
from layered.version import __version__

SLOTS = ("after_item", "before_batch", "after_batch")


@checked
def export(loop: Loop, fname: str | os.PathLike[str] = "export.layered") -> Path:
    """Write model, pipelines, vocabulary and decoding to one file; returns its path.

    Left out, and listed in the file: getters that find inputs (`get_x`) and targets (`get_y`), which predicting does not need.

    Args:
        fname: Below the learner's `path`, unless it is absolute; gets the suffix `.layered`, in place of `.pkl`.

    Raises:
        NotExportable: For a part that no registered name describes, CannotSave if the file cannot be written; nothing
            is written then.
    """
    path = layered_name(Path(loop.path) / fname)
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in loop.model.state_dict().items()}
    manifest = {
        "about": {"layered": __version__, "torch": torch.__version__, "columns": _told(loop.dls)},
        "model": _describe_model(loop),
        "data": _describe_data(loop.dls, tensors),
        "loss": _describe_loss(loop.loss_func, tensors),
        "learner": _kind_in(learner_kinds, loop),
    }
    return Path(write_archive(path, manifest, tensors, kind="export"))


def layered_name(path: Path) -> Path:
    """`path` with our suffix: behind the name, or in place of `.pkl`."""
    stem = path.name.removesuffix(".layered").removesuffix(".pkl")
    return Path(path.with_name(f"{stem}.layered"))


def _describe_model(loop: Any) -> dict[str, Any]:
    recipe = getattr(loop, "recipe", None)
    if recipe is not None and _describes(recipe, loop.model):
        version = getattr(builders.get(recipe["builder"]), "version", 1)
        return {"recipe": recipe if version == 1 else {**recipe, "version": version}}
    try:
        return {"tree": describe_module(loop.model)}
    except NotExportable as error:
        changed = "it was changed after its learner had built it, and " if recipe is not None else ""
        warn(
            f"the export holds the weights but not how to build the model ({changed}{error.problem}); "
            "load it with load_learner(file, model=build())"
        )
        return {"refused": changed + error.problem}


def _describes(recipe: dict[str, Any], model: nn.Module) -> bool:
    """Whether the recipe still makes this model: somebody may have changed it since."""
    with seeded(0), weightless():
        again = builders.get(recipe["builder"])(**recipe["args"])
    shapes = ({name: x.shape for name, x in m.state_dict().items()} for m in (again, model))
    return repr(again) == repr(model) and next(shapes) == next(shapes)


def _kind_in(registry: Registry[Any], o: Any) -> str | None:
    """The name of the nearest class of `o` that is registered."""
    return next((name for kind in type(o).__mro__ if (name := registry.name_of(kind)) is not None), None)


def _describe_loss(loss_func: Any, tensors: dict[str, Tensor]) -> Any:
    has_decoding = hasattr(loss_func, "activation") or hasattr(loss_func, "decodes")
    return describe_data(loss_func, tensors, "loss") if has_decoding else None


def _describe_data(dls: Any, tensors: dict[str, Tensor]) -> Any:
    loaders = getattr(dls, "loaders", None)
    dl = loaders[min(1, len(loaders) - 1)] if loaders else None
    kind = _kind_in(loader_kinds, dl)
    if kind is not None:
        version = getattr(loader_kinds.get(kind), "version", 1)
        return {"loader": kind, "version": version, "state": describe_data(dl.described(), tensors, "the data")}  # type: ignore[union-attr]
    if not isinstance(dl, TfmdDL) or not hasattr(dl.dataset, "tls"):
        return None
    dropped: list[str] = []
    columns = []
    for i, tl in enumerate(dl.dataset.tls):
        steps, getters = _without_getters(tl, is_input=i < dl.dataset.n_inp)
        dropped += getters
        if getters and 1 < dl.dataset.n_inp > i:  # several inputs are predicted from a tuple of what they are made from
            steps = [ItemGetter(i), *steps]
        where = f"the pipeline of the {tl.name}"
        columns.append({"name": tl.name, "pipeline": describe_data(Pipeline(steps), tensors, where) if steps else None})
    slots = {slot: describe_data(getattr(dl, slot), tensors, slot) for slot in SLOTS}
    return {"n_inp": dl.dataset.n_inp, "columns": columns, "bs": dl.bs, "left_out": dropped, **slots}


def _told(dls: Any) -> list[str]:
    """A line for each column, for a person who wonders what goes in and comes out."""
    tls = getattr(getattr(dls, "train_ds", None), "tls", [])
    return [f"{'input' if i < dls.n_inp else 'target'} {tl.name}: {tl.tfms!r:.500}" for i, tl in enumerate(tls)]


def _without_getters(tl: TfmdLists, is_input: bool) -> tuple[list[Transform], list[str]]:
    """The steps that predicting needs; those before them only find an item's file or label."""
    steps = list(tl.tfms)
    count = tl.getters
    if not is_input:
        while count < len(steps) and plain_function(steps[count]) is not None:
            count += 1
    return steps[count:], [repr(step) for step in steps[:count]]
