"""How batches, results and losses of images are shown: bodies of the verbs `show_batch`, `show_results`, `plot_top_losses`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layered.foundation.dispatch import verb
from layered.foundation.display import get_grid, show_title
from layered.foundation.tensors import TensorImage, TensorImageBase, TitledTensorScalar

Figsize = tuple[float, float] | None

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")


def _show(o: Any, ctx: Any, **kwargs: Any) -> Any:
    return o.show(ctx=ctx, **kwargs) if hasattr(o, "show") else show_title(o, ctx=ctx, **kwargs)


@show_batch.register
def show_labelled(
    x: TensorImage,
    y: object,
    samples: Sequence[Any],
    ctxs: Any = None,
    max_n: int = 9,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """Images in a grid, each with its target as the title, or drawn over it."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(len(samples), nrows, ncols, figsize)
    for sample, ctx in zip(samples, ctxs, strict=False):
        for element in sample:
            _show(element, ctx)
    return ctxs


@show_batch.register
def show_pairs(
    x: TensorImage,
    y: TensorImage,
    samples: Sequence[Any],
    ctxs: Any = None,
    max_n: int = 9,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """Images beside the images they become."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(len(samples), nrows, ncols, figsize, double=True)
    for i, sample in enumerate(samples):
        for element, ctx, title in zip(sample, ctxs[2 * i : 2 * i + 2], ("Input", "Target"), strict=True):
            element.show(ctx=ctx, title=title)
    return ctxs


@show_results.register
def show_labelled_results(
    x: TensorImage,
    y: object,
    samples: Sequence[Any],
    outs: Sequence[Any],
    ctxs: Any = None,
    max_n: int = 9,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """Images in a grid; the title is the target, under it the prediction, in green where they are equal and in red where not."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(len(samples), nrows, ncols, figsize, title="Target / Prediction")
    for (image, target, *_), (prediction, *_), ctx in zip(samples, outs, ctxs, strict=False):
        image.show(ctx=ctx)
        for o in (target, prediction):
            _show(o, ctx, color=_colour(target, prediction))
    return ctxs


def _colour(target: Any, prediction: Any) -> str:
    if isinstance(target, TitledTensorScalar) or hasattr(target, "dtype"):
        return "black"
    return "green" if target == prediction else "red"


@show_results.register
def show_result_pairs(
    x: TensorImage,
    y: TensorImageBase,
    samples: Sequence[Any],
    outs: Sequence[Any],
    ctxs: Any = None,
    max_n: int = 6,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """Images with their target on the left and with the prediction on the right."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(len(samples), nrows, ncols, figsize, double=True)
    for i, ((image, target, *_), (prediction, *_)) in enumerate(zip(samples, outs, strict=False)):
        for o, ctx, title in zip((target, prediction), ctxs[2 * i : 2 * i + 2], ("Target", "Prediction"), strict=True):
            image.show(ctx=ctx, title=title)
            o.show(ctx=ctx)
    return ctxs


@plot_top_losses.register
def show_top_losses(
    x: TensorImage,
    y: object,
    samples: Sequence[Any],
    outs: Sequence[Any],
    raws: Sequence[Any],
    losses: Sequence[Any],
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """The images with the highest losses, each under prediction, target, loss and the probability of the prediction."""
    ctxs = get_grid(len(samples), nrows, ncols, figsize, title="Prediction/Actual/Loss/Probability")
    for (image, target, *_), (prediction, *_), raw, loss, ctx in zip(samples, outs, raws, losses, ctxs, strict=False):
        image.show(ctx=ctx, title=f"{prediction}/{target}\n{float(loss):.2f} / {float(raw.max()):.2f}")
    return ctxs
