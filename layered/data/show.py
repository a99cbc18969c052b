"""How samples are shown: what `show_batch` and `show_results` do with data that registers no body of its own.

Inputs that draw themselves (images, and any type with a `show`) stand side by side. Of the targets, images stand beside them,
others that draw themselves are drawn over the first input, and everything else is a line of the title. Samples without a
picture are printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from layered.data.encodings import Category, MultiCategory
from layered.data.tfmd_loader import batch_to_samples
from layered.foundation import (
    TensorImage,
    TensorMask,
    TitledFloat,
    TitledInt,
    TitledStr,
    TitledTensorScalar,
    aligned,
    checked,
    describe,
    fit_title,
    get_grid,
    mask_legend,
    show_title,
    verb,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figsize = tuple[float, float] | None
Sample = Sequence[Any]  # the decoded elements of a sample, or the decoded predictions for it
TITLES = (Category, MultiCategory, TitledInt, TitledFloat, TitledStr, TitledTensorScalar)  # their `show` sets the title

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")


@dataclass
class Panel:
    """What is drawn on one of the axes.

    Args:
        layers: Objects with a `show`: a picture, and what is drawn over it.
        title: Its title; below that of the picture, if it has one.
        color: The colour of the title.
    """

    layers: Sequence[Any]
    title: str = ""
    color: str = "black"


class Together(tuple[Any, ...]):
    """Several decoded targets of a sample, such as boxes and their labels, or a mask and points. They are drawn together."""

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes | None:
        """Draw all of them on axes `ctx` (new ones by default) and return these.

        Args:
            ctx: The axes, with the image.
            kwargs: For the `show` of each: `figsize`, ….
        """
        for part in sorted(filter(draws, self), key=lambda o: not isinstance(o, TensorImage)):
            ctx = part.show(ctx=ctx, **kwargs)
        if ctx is not None and (title := words(tuple(o for o in self if not draws(o)))):
            show_title(title, ctx=ctx)
        return ctx


@show_batch.register
def show_samples(
    x: object, y: object, samples: Sequence[Any] | None = None, max_n: int | None = None, **drawing: Any
) -> list[Axes] | None:
    """Samples with their targets: pictures in a grid, or lines of text if nothing draws itself.

    Args:
        x: The inputs of the batch.
        y: The targets of the batch.
        samples: The decoded samples; None for a batch of a type that shows itself.
        max_n: The largest number of samples; by default all.
        drawing: As for `draw_panels`.

    Returns:
        The axes; None if the samples were printed.
    """
    shown = _parts(x, samples)[:max_n]
    if not any(draws(o) for inputs, targets in shown for o in (*inputs, *targets)):
        _print_lines([(*inputs, *targets) for inputs, targets in shown])
        return None
    return draw_panels([_panels(*parts) for parts in shown], **drawing)


@show_results.register
def show_sample_results(
    x: object,
    y: object,
    samples: Sequence[Any] | None,
    outs: Sequence[Sample],
    max_n: int | None = None,
    **drawing: Any,
) -> list[Axes] | None:
    """Samples with their targets and predictions.

    Where targets are words, the title is the target, and below it the prediction: green where they are equal, red where they
    differ. Where targets are drawn, the prediction is drawn beside the target.

    Args:
        x: The inputs of the batch.
        y: The targets of the batch.
        samples: The decoded samples; None for a batch of a type that shows itself.
        outs: The decoded predictions.
        max_n: The largest number of samples; by default all.
        drawing: As for `draw_panels`.

    Returns:
        The axes; None if the samples were printed.
    """
    return _show_results(x, samples, list(outs)[:max_n], None, drawing)


@plot_top_losses.register
def show_top_losses(
    x: object,
    y: object,
    samples: Sequence[Any] | None,
    outs: Sequence[Sample],
    raws: Sequence[Any],
    losses: Sequence[float],
    **drawing: Any,
) -> list[Axes] | None:
    """The samples with the highest losses, as `show_results` shows them, each with its loss.

    Args:
        x: The inputs of the batch.
        y: The targets of the batch.
        samples: The decoded samples; None for a batch of a type that shows itself.
        outs: The decoded predictions.
        raws: The predictions of the model.
        losses: The losses of the samples.
        drawing: As for `draw_panels`.

    Returns:
        The axes; None if the samples were printed.
    """
    return _show_results(x, samples, outs, losses, drawing)


def _show_results(
    x: object,
    samples: Sequence[Any] | None,
    outs: Sequence[Sample],
    losses: Sequence[float] | None,
    drawing: dict[str, Any],
) -> list[Axes] | None:
    shown = [(*parts, tuple(out)) for parts, out in zip(_parts(x, samples), outs, strict=False)]
    notes = [""] * len(shown) if losses is None else [f"loss {loss:.2f}" for loss in losses]
    if not any(draws(o) for inputs, targets, out in shown for o in (*inputs, *targets)):
        lines = [(*inputs, *targets, "→", *out) for inputs, targets, out in shown]
        _print_lines(lines if losses is None else [(*line, note) for line, note in zip(lines, notes, strict=True)])
        return None
    if not any(map(draws, shown[0][1])):
        drawing = {"title": "Target / Prediction", **drawing}
    panels = [_result_panels(*parts) for parts in shown]
    for row, note in zip(panels, notes, strict=True):
        row[0].title = _joined(row[0].title, note)
    return draw_panels(panels, **drawing)


def draws(o: object) -> bool:
    """Whether an object draws itself, not only a title.

    Args:
        o: An element of a sample.
    """
    return callable(getattr(type(o), "show", None)) and not isinstance(o, TITLES)


def words(o: object) -> str:
    """The text for a title: numbers with four digits, labels joined by semicolons, several targets by commas.

    Args:
        o: An element of a sample, or several.
    """
    if isinstance(o, Tensor):
        if o.numel() > 10:
            return describe(o)
        return ", ".join(
            f"{number:.4g}" if isinstance(number, float) else str(number) for number in o.flatten().tolist()
        )
    if isinstance(o, MultiCategory):
        return ";".join(map(str, o)) or "(none)"
    if isinstance(o, Mapping):
        return ", ".join(f"{name}: {words(part)}" for name, part in o.items())
    return ", ".join(map(words, o)) if isinstance(o, (tuple, list)) else str(o)


def verdict(targets: Sample, predictions: Sample) -> str:
    """The colour of a prediction: green if it is right, red if it is wrong, black for numbers, which are close or far.

    Args:
        targets: The targets of a sample.
        predictions: Its predictions.
    """
    if any(isinstance(target, Tensor) for target in targets):
        return "black"
    return "green" if list(targets) == list(predictions) else "red"


def _parts(x: object, samples: Sequence[Any] | None) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Inputs and targets of each sample."""
    if samples is None:
        return [((sample,), ()) for sample in batch_to_samples(x, max_n=64)]
    n_inp = len(x) if type(x) in (tuple, list) and isinstance(x, Sequence) else 1
    each = [tuple(sample) if type(sample) in (tuple, list) else (sample,) for sample in samples]
    return [(elements[:n_inp], elements[n_inp:]) for elements in each]


def _panels(inputs: Sample, targets: Sample) -> list[Panel]:
    """The pictures of a sample: inputs, with drawn targets over the first one and words above it, then target images."""
    pictures, images = list(filter(draws, inputs)), [o for o in targets if isinstance(o, TensorImage)]
    over = [o for o in targets if draws(o) and not isinstance(o, TensorImage)]
    title = "\n".join(words(o) for o in (*inputs, *targets) if not draws(o))
    heading = "Input" if images else ""
    panels = [Panel([picture], heading) for picture in pictures] or [Panel([])]
    panels[0] = Panel([*panels[0].layers, *over], _joined(heading, title))
    return [*(panel for panel in panels if panel.layers), *(Panel([image], "Target") for image in images)]


def _result_panels(inputs: Sample, targets: Sample, predictions: Sample) -> list[Panel]:
    """The pictures of a sample with its prediction."""
    pictures = list(filter(draws, inputs))
    if not any(map(draws, targets)):
        text = [words(parts[0] if len(parts) == 1 else tuple(parts)) for parts in (targets, predictions) if parts]
        first, *others = pictures
        return [Panel([first], "\n".join(text), verdict(targets, predictions)), *(Panel([o]) for o in others)]
    has_images = any(isinstance(target, TensorImage) for target in targets)
    under, plain = ([], pictures) if has_images else (pictures[:1], pictures[1:])
    panels = [Panel([picture], "Input") for picture in plain]
    for heading, parts in (("Target", targets), ("Prediction", predictions)):
        said = "\n".join(words(o) for o in parts if not draws(o))
        panels.append(Panel([*under, *filter(draws, parts)], _joined(heading, said)))
    return panels


def _joined(heading: str, text: str) -> str:
    return "\n".join(filter(None, (heading, text)))


def _print_lines(samples: Sequence[Sample]) -> None:
    print("\n".join(aligned([[words(o) for o in sample] for sample in samples])))


@checked
def draw_panels(
    samples: Sequence[Sequence[Panel]],
    ctxs: Sequence[Axes] | None = None,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: Figsize = None,
    title: str | None = None,
    cmap: object = None,
    alpha: float | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    interpolation: str | None = None,
) -> list[Axes]:
    """Draw samples in a grid, each as some panels side by side; masks have a legend below.

    Colour map, opacity and limits are for what is drawn over pictures, or for the pictures if nothing is.

    Args:
        samples: The panels of each sample: equally many.
        ctxs: The axes to draw on; by default those of a new figure.
        nrows: Rows of samples. Samples of three and more panels have a row each.
        ncols: Columns of samples.
        figsize: Inches (width, height) of the figure.
        title: The title of the figure.
        cmap: A colour map of matplotlib, or its name.
        alpha: Opacity, from 0 to 1.
        vmin: The value that has the first colour.
        vmax: The value that has the last colour.
        interpolation: As for matplotlib's `imshow`.

    Returns:
        The axes.
    """
    given = {"cmap": cmap, "alpha": alpha, "vmin": vmin, "vmax": vmax, "interpolation": interpolation}
    drawing = {name: value for name, value in given.items() if value is not None}
    per_sample = max(map(len, samples), default=1)
    axes = list(ctxs or _new_axes(len(samples), per_sample, nrows, ncols, figsize, title))
    covers = any(len(panel.layers) > 1 for panels in samples for panel in panels)
    masks = []
    for i, panels in enumerate(samples[: len(axes) // per_sample]):
        for panel, ax in zip(panels, axes[per_sample * i :], strict=False):
            for depth, layer in enumerate(panel.layers):
                layer.show(ctx=ax, **(drawing if depth or not covers else {}))
                if isinstance(layer, TensorMask):
                    masks.append((ax.images[-1], layer))
            if panel.title:
                show_title(panel.title, ctx=ax, color=panel.color)
            if not ctxs:
                fit_title(ax)
    if masks and not ctxs:
        mask_legend(masks, axes[0].figure)
    return axes


def _new_axes(
    count: int, per_sample: int, nrows: int | None, ncols: int | None, figsize: Figsize, title: str | None
) -> list[Axes]:
    if per_sample > 2:
        return get_grid(per_sample * count, count, per_sample, figsize, title=title, layout="compressed")
    return get_grid(count, nrows, ncols, figsize, double=per_sample == 2, title=title, layout="compressed")
