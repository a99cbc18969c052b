"""Test-time augmentation: combine the predictions for several augmented versions of each item."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from layered.data import TfmdDL, Tfms
from layered.foundation import (
    CannotTrain,
    OutOfRange,
    Pipeline,
    RandTransform,
    checked,
    key_of,
    leaves,
    listify,
    map_tree,
    whole_number,
)
from layered.inference.items import as_split
from layered.inference.predict import get_preds, loader_of
from layered.loop import Loop


@checked
def tta(
    loop: Loop,
    ds_idx: int = 1,
    dl: Iterable[Any] | None = None,
    n: int = 4,
    item_tfms: Tfms = None,
    batch_tfms: Tfms = None,
    beta: float | None = 0.25,
    use_max: bool = False,
) -> tuple[Any, Any]:
    """Predictions combined from `n` augmented passes and a plain one: `(preds, targets)`, in the order of the items.

    Args:
        loop: The learner.
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader, in place of `ds_idx`. Its items are augmented as training items are.
        n: Augmented passes. Each draws differently; repeated calls draw the same.
        item_tfms: Replace the random item transforms of training, including random resizing; the others stay.
        batch_tfms: Replace the random batch transforms of training.
        beta: The result is (1 - beta) * mean of the augmented + beta * plain; None returns the pair (augmented, plain)
            in place of preds.
        use_max: Return the maximum over all passes instead.

    Returns:
        As `get_preds`: preds float [item, ...].

    Raises:
        CannotTrain: The loader has no transforms, or they move the targets too (masks, points, …): predictions for a picture
            and its mirror image belong to different pixels.
        OutOfRange: `n` is below 1.

    Source: He et al. 2015, arXiv:1512.03385 (ten crops); the blend is that of fastai
    """
    dl = loader_of(loop, ds_idx) if dl is None else dl
    if not isinstance(dl, TfmdDL):
        raise CannotTrain(
            "test-time augmentation needs the training transforms, and this loader has none",
            got=f"a loader of type {type(dl).__name__}",
            fix="build the loaders with a DataBlock, and others with dls.test_dl(items)",
        )
    passes = whole_number(n)
    if passes is None or passes < 1:
        raise OutOfRange("invalid number of augmented passes, n", got=repr(n), expected="a whole number from 1")
    looks = _as_in_training(dl, item_tfms, batch_tfms)
    seed = torch.initial_seed() if dl.seed is None else dl.seed
    plain, targets = get_preds(loop, dl=dl, inner=loop.fitting)
    if targets is None and loop.dls is not None:
        _check_first_targets(loop.dls.train, item_tfms, batch_tfms)
    augmented: Any = None
    for i in range(n):
        preds, seen = get_preds(loop, dl=looks.new(seed=key_of(seed, "tta", i)), inner=loop.fitting)
        _check_targets(targets, seen)
        augmented = preds if augmented is None else _both(torch.maximum if use_max else torch.add, augmented, preds)
    if not use_max:
        augmented = map_tree(lambda t: t / n, augmented)
    if use_max:
        return _both(torch.maximum, augmented, plain), targets
    if beta is None:
        return (augmented, plain), targets
    return _both(lambda a, b: torch.lerp(a, b, beta), augmented, plain), targets


def _as_in_training(dl: TfmdDL, item_tfms: Tfms, batch_tfms: Tfms) -> Any:
    """A loader over the same items, transformed as training items are."""
    slots: dict[str, Any] = {}
    for slot, tfms in (("after_item", item_tfms), ("after_batch", batch_tfms)):
        if tfms is not None:
            kept = [tfm for tfm in getattr(dl, slot) if not isinstance(tfm, RandTransform)]
            slots[slot] = Pipeline([*kept, *listify(tfms)], 0)
    return as_split(dl, 0, **slots)


def _check_first_targets(dl: object, item_tfms: Tfms, batch_tfms: Tfms) -> None:
    """Refuse transforms that move the targets of a loader, for items that have none."""
    if not isinstance(dl, TfmdDL) or not dl.n:
        return
    loaders = as_split(dl, 1), _as_in_training(dl, item_tfms, batch_tfms)
    plain, augmented = (next(iter(one.new(shuffle=False, num_workers=0)))[dl.n_inp :] for one in loaders)
    _check_targets(plain, augmented)


def _check_targets(plain: object, augmented: object) -> None:
    """Refuse augmented predictions that are for other targets than the plain ones."""
    pairs = zip(leaves(plain), leaves(augmented), strict=True)
    if not all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor)):
        raise CannotTrain(
            "test-time augmentation cannot combine these predictions: the transforms of training move the targets too",
            got="masks, points or other targets that differ from pass to pass",
            fix="learn.get_preds(); or transforms that leave every pixel in its place: with loaders that "
            "Resize(size, method='squish'), learn.tta(batch_tfms=[Brightness(), Contrast()])",
        )


def _both(f: Callable[..., Any], one: object, other: object) -> Any:
    """Apply `f` to the corresponding tensors of two trees."""
    others = leaves(other)
    return map_tree(lambda t: f(t, next(others)), one)
