"""How batches, results and losses of images are shown: bodies of the verbs `show_batch`, `show_results`, `plot_top_losses`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from layered.data import MultiCategory
from layered.foundation import (
    TensorCategory,
    TensorImage,
    TensorImageBase,
    TensorMultiCategory,
    checked,
    get_grid,
    show_title,
    text_table,
    verb,
)

Figsize = tuple[float, float] | None

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")


def _show(o: Any, ctx: Any, **kwargs: Any) -> Any:
    if hasattr(o, "show") and not isinstance(o, MultiCategory):
        return o.show(ctx=ctx, **kwargs)
    return show_title(_words(o), ctx=ctx, **kwargs)


def _words(o: Any) -> str:
    """What stands in a title: numbers with four digits, labels joined by semicolons, several targets by commas."""
    if isinstance(o, Tensor):
        return ", ".join(f"{number:.4g}" for number in o.flatten().tolist())
    if isinstance(o, MultiCategory):
        return ";".join(map(str, o)) or "(none)"
    return ", ".join(map(_words, o)) if isinstance(o, tuple) else str(o)


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
@checked
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
    for (image, *targets), predictions, ctx in zip(samples, outs, ctxs, strict=False):
        image.show(ctx=ctx)
        color = _colour(targets, predictions)
        for o in (tuple(targets), tuple(predictions)):
            _show(o[0] if len(o) == 1 else o, ctx, color=color)
    return ctxs


def _colour(targets: Sequence[Any], predictions: Sequence[Any]) -> str:
    if any(isinstance(target, Tensor) for target in targets):
        return "black"
    return "green" if list(targets) == list(predictions) else "red"


@show_results.register
@checked
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
    """Images with their target drawn over them on the left, and with the prediction on the right."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(len(samples), nrows, ncols, figsize, double=True)
    for i, ((image, target, *_), (prediction, *_)) in enumerate(zip(samples, outs, strict=False)):
        for o, ctx, title in zip((target, prediction), ctxs[2 * i : 2 * i + 2], ("Target", "Prediction"), strict=True):
            image.show(ctx=ctx, title=title)
            o.show(ctx=ctx)
    return ctxs


@show_results.register
@checked
def show_result_images(
    x: TensorImage,
    y: TensorImage,
    samples: Sequence[Any],
    outs: Sequence[Any],
    ctxs: Any = None,
    max_n: int = 6,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """A row for each image that becomes an image, whatever `nrows` and `ncols`: input, target, prediction."""
    samples = samples[:max_n]
    ctxs = ctxs or get_grid(3 * len(samples), len(samples), 3, figsize)
    for i, ((image, target, *_), (prediction, *_)) in enumerate(zip(samples, outs, strict=False)):
        for o, ctx, title in zip(
            (image, target, prediction), ctxs[3 * i :], ("Input", "Target", "Prediction"), strict=False
        ):
            o.show(ctx=ctx, title=title)
    return ctxs


@plot_top_losses.register
@checked
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
    """The images with the highest losses, each under prediction, target and loss."""
    ctxs = get_grid(len(samples), nrows, ncols, figsize, title="Prediction/Actual/Loss")
    for (image, *targets), predictions, loss, ctx in zip(samples, outs, losses, ctxs, strict=True):
        image.show(ctx=ctx, title=f"{_words(tuple(predictions))}/{_words(tuple(targets))}\n{float(loss):.2f}")
    return ctxs


@plot_top_losses.register
@checked
def show_top_losses_of_classes(
    x: TensorImage,
    y: TensorCategory,
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
    for (image, target, *_), (prediction, *_), raw, loss, ctx in zip(samples, outs, raws, losses, ctxs, strict=True):
        image.show(ctx=ctx, title=f"{prediction}/{target}\n{float(loss):.2f} / {_chance(raw):.2f}")
    return ctxs


def _chance(raw: Tensor) -> float:
    """The probability of what is predicted, from probabilities or scores of classes, or from that of the second of two."""
    if raw.numel() == 1:
        return max(float(raw), 1 - float(raw))
    is_share = bool((raw >= 0).all()) and abs(float(raw.sum()) - 1) < 1e-2
    return float((raw if is_share else raw.softmax(-1)).max())


@plot_top_losses.register
@checked
def show_top_losses_of_labels(
    x: TensorImage,
    y: TensorMultiCategory,
    samples: Sequence[Any],
    outs: Sequence[Any],
    raws: Sequence[Any],
    losses: Sequence[Any],
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """The images with the highest losses, numbered, and a printed table of their labels with the probability of each."""
    ctxs = get_grid(len(samples), nrows, ncols, figsize, title="Image/Loss")
    rows = []
    for i, ((image, target, *_), (prediction, *_), raw, loss) in enumerate(
        zip(samples, outs, raws, losses, strict=True)
    ):
        image.show(ctx=ctxs[i], title=f"Image {i}\n{float(loss):.2f}")
        there, said = y[i].nonzero().flatten().tolist(), raw.topk(len(prediction)).indices.sort().values.tolist()
        chances = {label: float(raw[at]) for label, at in zip([*target, *prediction], [*there, *said], strict=True)}
        shown = ", ".join(f"{label} {chance:.2f}" for label, chance in chances.items())
        rows.append((f"Image {i}", _words(target), _words(prediction), shown, f"{float(loss):.2f}"))
    print("\n".join(text_table(("", "target", "prediction", "probabilities", "loss"), rows)))
    return ctxs


@plot_top_losses.register
@checked
def show_top_losses_in_rows(
    x: TensorImage,
    y: TensorImageBase,
    samples: Sequence[Any],
    outs: Sequence[Any],
    raws: Sequence[Any],
    losses: Sequence[Any],
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
) -> Any:
    """A row for each image whose target is a mask or an image, whatever `nrows` and `ncols`: input, target, prediction."""
    ctxs = get_grid(3 * len(samples), len(samples), 3, figsize, title="Input | Target | Prediction")
    for i, ((image, target, *_), (prediction, *_), loss) in enumerate(zip(samples, outs, losses, strict=True)):
        for o, ctx in zip((image, target, prediction), ctxs[3 * i : 3 * i + 3], strict=True):
            if not isinstance(o, TensorImage):
                image.show(ctx=ctx)
            o.show(ctx=ctx)
        ctxs[3 * i + 2].set_title(f"loss {float(loss):.2f}")
    return ctxs
