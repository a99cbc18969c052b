"""LoRA of learners of texts: small trained matrices beside the frozen weights of a model of Hugging Face.

The settings of the adapters are kept in the learner's recipe, so that an export says them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, CannotRestore, Path, StrPath, checked
from layered.integrations import MARK, add_lora, merge_lora as merge_adapters
from layered.loop import check_fits, find_weights, read_parts, unwrapped, write_weights
from layered.optim import trainable_params
from layered.text.models.transformers import (
    TransformerLM,
    find_transformer,
    transformer_clas_split,
    transformer_lm_split,
)
from layered.training import Learner

L = TypeVar("L", bound=Learner)


@checked
def to_lora(
    learn: L,
    r: int = 8,
    alpha: float | None = None,
    target_modules: str | Sequence[str] | None = None,
    dropout: float = 0.0,
) -> L:
    """Freeze the model of Hugging Face, and train adapters beside its linear layers, and the head.

        learn = text_classifier_learner(dls, "path/to/encoder").to_lora(8)
        learn.fit_one_cycle(2, 1e-3)

    Adapters and head are one parameter group, so that both learn at the rate that is given. `save` and `export` hold them and the
    frozen weights, `save_adapters` the adapters and the head alone; `merge_lora` makes the model a plain one again.

    Args:
        learn: The learner.
        r: The rank of the adapters: a layer of n to m channels gets r * (n + m) trained weights.
        alpha: They are scaled by alpha / r; by default 2 * r.
        target_modules: The names of the layers, such as ["query", "value"]; by default all linear ones.
        dropout: Dropout of what an adapter reads.

    Raises:
        MissingDependency: The package peft is not installed.
        BadValue: The model is none of Hugging Face or has adapters, or has no such layers.
        CannotTrain: Another thread trains.
    """
    settings: dict[str, Any] = {
        "r": r, "alpha": 2 * r if alpha is None else alpha, "dropout": dropout,
        "target_modules": target_modules if isinstance(target_modules, str) else list(target_modules or []) or "all-linear",
    }  # fmt: skip
    module, recipe = _parts(learn)
    if "lora" in recipe["args"]:
        raise BadValue("the model has adapters", got=f"lora={recipe['args']['lora']}", fix="learn.merge_lora() first")
    with learn.turns.of_pass(fits=True):
        unwrapped(learn.model).requires_grad_(True)
        add_lora(module, **settings)
        learn.recipe = {**recipe, "args": {**recipe["args"], "lora": settings}}
        learn.splitter = trainable_params
        learn.create_opt()
    return learn


def merge_lora(learn: L) -> L:
    """Add the adapters to the weights that they stand beside: the model gives the same, and is a plain one again.

    All of its weights are then trained, in the usual groups.

    Args:
        learn: The learner.

    Raises:
        BadValue: The model has no adapters.
        CannotTrain: Another thread trains.
    """
    module, recipe = _with_adapters(learn)
    with learn.turns.of_pass(fits=True):
        merge_adapters(module)
        learn.recipe = {**recipe, "args": {name: value for name, value in recipe["args"].items() if name != "lora"}}
        is_lm = isinstance(unwrapped(learn.model), TransformerLM)
        splitter: Any = transformer_lm_split if is_lm else transformer_clas_split
        learn.splitter = splitter
        learn.create_opt()
    return learn


def save_adapters(learn: Learner, file: StrPath) -> Path:
    """Write the adapters and the head, without the weights that stay as they were, to `path/model_dir/file.layered`.

    Args:
        learn: The learner.
        file: A name, with or without its suffix, or a path.

    Returns:
        The path of the file.

    Raises:
        BadValue: The model has no adapters.
        CannotSave: It cannot be written.
        CannotTrain: Another thread trains.
    """
    module, recipe = _with_adapters(learn)
    with learn.turns.of_item():
        parts = {"model": _own(learn, module), "lora": recipe["args"]["lora"], "base": _digest(module)}
        return write_weights(learn, file, parts)


def load_adapters(learn: L, file: StrPath) -> L:
    """Read what `save_adapters` wrote, into a learner of the same model, with or without adapters.

    Args:
        learn: The learner.
        file: A name in `path/model_dir`, or a path, with or without its suffix.

    Raises:
        CannotRestore: The adapters are for other weights, of other settings, or of another head.
        NotFoundPath: There is no such file.
        BadFile: It is damaged.
        BadValue: The model is none of Hugging Face.
        CannotTrain: Another thread trains.
    """
    path = find_weights(learn, file)
    parts, (module, recipe) = read_parts(path), _parts(learn)
    given, settings = parts["model"], parts.get("lora")
    if not isinstance(settings, dict):
        raise CannotRestore(
            f"{path} holds no adapters", expected="a file that save_adapters wrote", fix="learn.load(…)"
        )
    if parts.get("base") != _digest(module):
        raise CannotRestore(
            f"the adapters in {path} were trained beside other weights",
            got=type(module).__name__,
            expected="the model that to_lora was called on",
            fix="the same folder or name, before any of its own weights are trained",
        )
    head = {name: x for name, x in given.items() if MARK not in name}
    check_fits(path, {k: x for k, x in _own(learn, module).items() if MARK not in k}, head, strict=True)
    present = recipe["args"].get("lora")
    if present is None:
        to_lora(learn, **settings)
    elif present != settings:
        raise CannotRestore(f"the adapters in {path} have other settings", got=settings, expected=present)
    with learn.turns.of_pass(fits=True):
        check_fits(path, _own(learn, module), given, strict=True)
        unwrapped(learn.model).load_state_dict(given, strict=False)
    return learn


def _parts(learn: Learner) -> tuple[nn.Module, dict[str, Any]]:
    """The model of transformers of a learner, and how it was built."""
    module = find_transformer(unwrapped(learn.model))
    if module is None or learn.recipe is None:
        raise BadValue(
            "adapters are for models of Hugging Face",
            got=type(unwrapped(learn.model)).__name__,
            fix='text_classifier_learner(dls, "path/to/encoder").to_lora(8)',
        )
    return module, learn.recipe


def _with_adapters(learn: Learner) -> tuple[nn.Module, dict[str, Any]]:
    module, recipe = _parts(learn)
    if "lora" not in recipe["args"]:
        raise BadValue("the model has no adapters", fix="learn.to_lora(8)")
    return module, recipe


def _own(learn: Learner, module: nn.Module) -> dict[str, Tensor]:
    """What is trained: the weights of the adapters, and those outside of the model of transformers."""
    model = unwrapped(learn.model)
    prefix = next(f"{name}." for name, part in model.named_modules() if part is module)
    return {name: x for name, x in model.state_dict().items() if MARK in name or not name.startswith(prefix)}


def _digest(module: nn.Module) -> str:
    """What tells the frozen weights from those of another model: their names and the first values of each."""
    seen = hashlib.sha256()
    for name, p in module.named_parameters():
        if MARK not in name:
            seen.update(name.replace(".base_layer", "").encode())
            seen.update(p.detach().flatten()[:64].to("cpu", torch.float32).numpy().tobytes())
    return seen.hexdigest()
