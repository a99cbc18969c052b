"""What a model makes of its items before it decides: a row of features for each, to compare items by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from layered.data import DataLoader
from layered.foundation import BadArgument, BadValue, CannotTrain, checked, describe, find_bs, leaves, map_tree
from layered.inference.items import steady_loader
from layered.inference.predict import get_preds
from layered.loop import Cbs, Loop, unwrapped
from layered.nn import channels_first, named_module, not_compiled

Pool = Callable[[Any], Tensor]  # of what a layer gives


@checked
def embed(
    loop: Loop,
    items: object = None,
    layer: nn.Module | str | None = None,
    *,
    ds_idx: int = 1,
    dl: Iterable[Any] | None = None,
    pool: Pool | None = None,
    normalize: bool = False,
    cbs: Cbs = None,
) -> Tensor:
    """The features by which a model decides, a row for each item in the order of the items.

        features = learn.embed(files)
        similarities, positions = most_similar(features, k=5)

    Without `layer` they are the input of the linear layer that runs last, which in a classifier gives the scores. The head of
    a `vision_learner` has to be trained for them to mean something; those of its body, `layer="0"`, are good from the start.

    Args:
        loop: The learner.
        items: Anything the inputs are made from, as for `dls.test_dl`: paths, images, rows, …; by default those of `ds_idx`.
        layer: A module of the model, or its name among `model.named_modules()`, whose output is taken instead.
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training; without augmentation.
        dl: A loader of any library, in place of `items`.
        pool: Makes [item, feature] of the layer's output. By default maps are averaged over their places, and what a linear
            layer gets over all axes between.
        normalize: Scale each row to length 1, so that products of rows are cosines.
        cbs: Callbacks for this pass only.

    Returns:
        float32 [item, feature], on the CPU.

    Raises:
        UnknownName: The model has no such layer.
        BadValue: The model does not run the layer, or the layer does not give a row for each item.
    """
    if items is not None and dl is not None:
        raise BadArgument(
            "both items and a loader of items were given", fix="learn.embed(items), or learn.embed(dl=dl)"
        )
    source: Any = loop.dls.test_dl(items) if items is not None else steady_loader(loop, ds_idx, dl)
    with _watched(unwrapped(loop.model), layer) as seen:

        def rows(_: object) -> Tensor:
            if not seen:
                raise _no_features(layer)
            return _as_rows(seen.pop(), loop.xb, pool, layer)

        features: Tensor
        features, _ = get_preds(loop, dl=source, act=rows, with_targs=False, cbs=cbs)
    count = source.n if isinstance(source, DataLoader) else None
    if count is not None and len(features) != count:
        raise CannotTrain(
            "features cannot be matched with items, because the loader left some out",
            got=f"{len(features)} rows for {count} items",
            fix="leave them out of the items: on_bad='raise' names them",
        )
    return F.normalize(features) if normalize else features


@contextmanager
def _watched(model: nn.Module, layer: nn.Module | str | None) -> Iterator[list[Any]]:
    """Context with a list of the last output of `layer`, or the last input of a linear layer, of passes in this thread."""
    seen: list[Any] = []
    own = threading.get_ident()  # `predict` may run the model in other threads meanwhile

    def keep(value: object) -> None:
        if threading.get_ident() == own:  # a copy, because later layers may change it in place
            seen[:] = [map_tree(_copied, value)]

    if layer is not None:
        hooks = [named_module(model, layer).register_forward_hook(lambda module, inputs, output: keep(output))]
    else:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        hooks = [module.register_forward_pre_hook(lambda module, inputs: keep(inputs[0])) for module in linear]
    try:
        with not_compiled(model):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _copied(o: object) -> object:
    return o.detach().clone() if isinstance(o, Tensor) else o


def _as_rows(output: Any, xb: object, pool: Pool | None, layer: nn.Module | str | None) -> Tensor:
    """float32 [item, feature] of what was seen of a batch."""
    if not isinstance(output, Tensor) and pool is None:
        raise BadValue("the output of the layer is not a tensor", got=describe(output), fix="layer=… one of its parts")
    rows = pool(output) if pool is not None else _pooled(output, xb, is_input=layer is None)
    if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != find_bs(xb):
        raise BadValue(
            "the features are not a row for each item",
            got=describe(rows),
            expected=f"[item, feature] for the {find_bs(xb)} items of a batch",
            fix="another layer=…, or pool=…, a function of its output",
        )
    return rows.float()


def _pooled(output: Tensor, xb: object, is_input: bool) -> Tensor:
    if output.ndim <= 2:
        return output.reshape(len(output), -1) if output.ndim else output
    if is_input:
        return output.flatten(1, -2).mean(1)
    if output.ndim == 3:
        raise BadValue(
            "it cannot be seen which axis of the layer's output has the features",
            got=describe(output),
            fix="pool=lambda o: o.mean(1) for [item, token, feature], pool=lambda o: o.mean(2) for [item, feature, place]",
        )
    x = next((leaf for leaf in leaves(xb) if isinstance(leaf, Tensor)), None)
    maps = channels_first(output, x) if x is not None and x.ndim == output.ndim == 4 else output
    return maps.flatten(2).mean(2)


def _no_features(layer: nn.Module | str | None) -> BadValue:
    if layer is not None:
        return BadValue("the model does not run this layer", got=describe(layer), fix="another layer=…")
    return BadValue(
        "the model runs no linear layer, so it has to be said which features are meant",
        fix="layer=…, a name from [name for name, _ in learn.model.named_modules()]",
    )
