"""Where in an image a model finds evidence for a class: class activation maps from gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.data import DataLoaders, TfmdDL, class_vocab
from layered.foundation import (
    BadValue,
    CannotTrain,
    checked,
    describe,
    fit_title,
    get_grid,
    output_scores,
    plain,
    show_image,
    unknown_name,
)
from layered.inference import activation_of
from layered.loop import Loop, unwrapped
from layered.nn import channels_first, named_module, not_compiled, places, undisturbed

Target = int | str | Sequence[int] | Tensor | None


@checked
def grad_cam(
    learn_or_model: Loop | nn.Module,
    x: Tensor,
    layer: nn.Module | str | None = None,
    target: Target = None,
    upsample: bool = False,
) -> Tensor:
    """How much each place of an image counts in favour of a class: Grad-CAM, ReLU(Σ_c w_c A_c), divided by its maximum.

    A is the feature map [channel, height, width] that `layer` gives for the image, and w_c the mean over the map of the
    gradient of the class's score (before softmax) with respect to channel c. In a map of zeros, nothing counts in favour.

    The model runs in evaluation mode; modes, gradients, hooks, buffers and random generators are restored.

    Args:
        learn_or_model: A learner, or a model alone.
        x: float [batch, channel, height, width], normalised, as the model gets it.
        layer: A module of the model, or its name; by default the last whose output is a feature map of more than one place.
        target: The class: its number, one number for each image, or with a learner its label; by default the class with the
            largest score, separately for each image. A single output is its own class.
        upsample: Resize the map to the size of the image, bilinearly.

    Returns:
        float [batch, height, width] in [0, 1], on the model's device.

    Raises:
        BadValue: If there is no feature map, as in a vision transformer, or the scores are not [batch, class].
        UnknownName: If the model has no such layer, or the data no such label.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.

    Examples:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> grad_cam(model, torch.rand(2, 3, 32, 32), target=4).shape
        torch.Size([2, 30, 30])
    """
    model = learn_or_model if isinstance(learn_or_model, nn.Module) else learn_or_model.model
    model, x = unwrapped(model), _images(x, model)
    with torch.inference_mode(False), not_compiled(model), undisturbed(model):
        x = x.clone() if x.is_inference() else x
        module = named_module(model, layer) if layer is not None else last_map(model, x[:1])
        with _cut_at(module) as features:
            scores = _class_scores(model(x))
        if not features or not isinstance(features[-1], Tensor) or features[-1].ndim != 4:
            raise BadValue(
                "the output of the layer is not a feature map",
                got=describe(features[-1]) if features else "nothing: the model does not use it",
                expected="[batch, channel, height, width]",
                fix="a layer of the convolutional part",
            )
        chosen = scores.gather(1, _class_indices(target, scores, learn_or_model)[:, None])
        if not chosen.requires_grad:
            raise BadValue("the scores do not depend on this layer", got=f"a {type(module).__name__}", fix="layer=…")
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(chosen.sum(), features[-1], allow_unused=True, materialize_grads=True)
        maps, gradient = (channels_first(o.detach(), x).float() for o in (features[-1], gradient))
    cam = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1))
    cam = cam / cam.amax((1, 2), keepdim=True).clamp(min=torch.finfo(cam.dtype).tiny)
    if upsample:
        cam = F.interpolate(cam[:, None], size=x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return cam


@contextmanager
def _cut_at(module: nn.Module) -> Iterator[list[Any]]:
    """Context in which the output of `module` starts a new graph, so that only later layers are recorded; yields its outputs."""
    outputs: list[Any] = []

    def start(_: nn.Module, inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            outputs.append(output)
            return None
        cut = output.detach().requires_grad_()
        outputs.append(cut)
        torch.set_grad_enabled(True)  # until the end of `undisturbed`
        return cut.clone()  # a copy, because later layers may change their input in place

    hook = module.register_forward_hook(start)
    try:
        yield outputs
    finally:
        hook.remove()


def last_map(model: nn.Module, x: Tensor) -> nn.Module:
    """The last module to finish whose output is a feature map of more than one place.

    Args:
        model: The model.
        x: One image: [1, channel, height, width].

    Raises:
        BadValue: If there is no such module, or the model continues with tokens [batch, token, channel] after it.
    """
    found: list[tuple[nn.Module, torch.Size]] = []
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output: found.append((module, output.shape)) if isinstance(output, Tensor) else None
        )
        for module in model.modules()
    ]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    last, tokens = None, None
    for module, shape in found:
        if len(shape) == 4 and places(shape, x) > 1:
            last, tokens = module, None
        elif len(shape) == 3 and shape[1] > 1:
            tokens = shape
    if last is None or tokens is not None:
        raise BadValue(
            f"{type(model).__name__} has no feature map",
            got=f"tokens {list(tokens)}, as in a vision transformer" if tokens else "no output with four axes",
            expected="a convolutional model: [batch, channel, height, width] until it is pooled",
            fix="layer=…, a module whose output is a feature map, if there is one",
        )
    return last


def _images(x: object, model: nn.Module) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 4 or not x.numel():
        raise BadValue(
            "grad_cam takes a batch of images as the model gets it",
            got=describe(x),
            expected="float [batch, channel, height, width]",
            fix="x[None] for a single image; show_grad_cam(learn, item) for a path or an image",
        )
    device = next((p.device for p in model.parameters()), x.device)
    return plain(x).detach().to(device)


def _class_scores(output: object) -> Tensor:
    scores = output_scores(output)
    if isinstance(scores, Tensor) and scores.ndim == 1:
        scores = scores[:, None]
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise BadValue(
            "grad_cam needs a model with one score for each class of an image",
            got=f"an output {describe(output)}",
            expected="[batch, class]",
        )
    return scores


def _class_indices(target: Target, scores: Tensor, learn: Loop | nn.Module) -> Tensor:
    """The class of each image: int64 [batch]."""
    count = scores.shape[1]
    if target is None:
        return scores.argmax(1)
    if isinstance(target, str):
        vocab = [str(label) for label in _vocab(learn) or ()]
        if not vocab:
            raise BadValue("the names of the classes are not known", got=target, fix="target=… the number of the class")
        if target not in vocab:
            raise unknown_name("class", target, vocab)
        target = vocab.index(target)
    classes = torch.as_tensor(target, device=scores.device)
    if (
        classes.is_floating_point()
        or classes.numel() not in (1, len(scores))
        or ((classes < 0) | (classes >= count)).any()
    ):
        raise BadValue(
            "target is the number of a class, or one for each image",
            got=target,
            expected=f"1 or {len(scores)} whole numbers from 0 to {count - 1}",
        )
    return plain(classes).long().flatten().expand(len(scores))


def _vocab(learn: Loop | nn.Module) -> Sequence[object] | None:
    """The names of the classes, from the learner's loaders, if they have any."""
    return class_vocab(learn.dls) if isinstance(learn, Loop) else None


@checked
def show_grad_cam(
    learn: Loop,
    items: object,
    layer: nn.Module | str | None = None,
    target: Target = None,
    alpha: float = 0.8,
    cmap: str = "inferno",
    ctxs: Sequence[Any] | None = None,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: tuple[float, float] | None = None,
) -> None:
    """Draw images with the map of `grad_cam` over each; the title is the class and its probability.

    Args:
        learn: The learner.
        items: What `predict` takes: a path, an image or bytes; or a list of these.
        layer: As for `grad_cam`.
        target: As for `grad_cam`.
        alpha: Opacity of the map where it is 1; where it is 0, it is transparent.
        cmap: Name of a matplotlib colour map.
        ctxs: Axes to draw on, one for each item; by default those of a new figure.
        nrows: Rows of the new figure.
        ncols: Columns of the new figure.
        figsize: Width and height of the new figure, in inches.

    Raises:
        CannotTrain: If the loaders do not know how an item becomes a batch.
    """
    if not isinstance(learn.dls, DataLoaders) or not isinstance(learn.dls.train, TfmdDL):
        raise CannotTrain(
            "these loaders do not know how an item becomes a batch",
            got=f"loaders of type {type(learn.dls.train).__name__}",
            fix="build the loaders with a DataBlock, or use grad_cam(model, x)",
        )
    items = list(items) if isinstance(items, (list, tuple)) else [items]
    dl = learn.dls.test_dl(items, bs=max(1, len(items)), num_workers=0)
    batch = dl.one_batch()
    maps = grad_cam(learn, batch[0], layer, target, upsample=True).cpu()
    images = dl.decode_batch(batch, max_n=len(items))
    x = _images(batch[0], learn.model)
    with undisturbed(learn.model):
        output = learn.model(x)
        scores, shares = _class_scores(output), _class_scores(activation_of(learn)(output))
    classes = _class_indices(target, scores, learn)
    own = ctxs is None
    ctxs = ctxs or get_grid(len(items), nrows, ncols, figsize, layout="compressed")
    vocab = _vocab(learn)
    for image, cam, i, row, ctx in zip(images, maps, classes.tolist(), shares, ctxs, strict=True):
        name = vocab[i] if vocab is not None and len(vocab) == scores.shape[1] else i
        show_image(image[0], ctx=ctx)
        show_image(cam, ctx=ctx, title=f"{name} {float(row[i]):.2f}", alpha=alpha * cam, cmap=cmap, vmin=0, vmax=1)
        if own:
            fit_title(ctx)
