"""What a person sees: whether anybody is watching, text in columns, and pictures drawn with matplotlib.

matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from layered.foundation.optional import lazy
from layered.foundation.types import Array
from layered.foundation.visible import one_line, plot_label, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

plt, patches = lazy("matplotlib.pyplot"), lazy("matplotlib.patches")


def is_quiet() -> bool:
    """Whether bars and tables are switched off by the environment variable LAYERED_QUIET."""
    return bool(os.environ.get("LAYERED_QUIET"))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def without_axes(shown: Any, given: object = None) -> Any:
    """What a showing verb returns: axes only to a caller who gave some, since a notebook would print them below the figure.

    Args:
        shown: What was drawn on, or anything else that a body of the verb returned.
        given: The axes that the caller gave, if any.
    """
    first = shown[0] if isinstance(shown, list) and shown else shown
    return None if given is None and hasattr(first, "set_title") else shown


def is_interactive() -> bool:
    """Whether a prompt or a notebook shows the values of what is typed, so that printing them too would show them twice."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)


def is_watched() -> bool:
    """Whether a person is likely to see the output: it goes to a terminal or notebook, and LAYERED_QUIET is not set."""
    return not is_quiet() and (in_notebook() or sys.stdout.isatty())


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]], rule: str = "=") -> list[str]:
    """The lines of a table with columns as wide as their longest cell and rules around the header.

    Args:
        header: The names of the columns.
        rows: The cells of each row.
        rule: The character that rules are made of.

    Examples:
        >>> print("\\n".join(text_table(["stage", "ms"], [["data", 1.5], ["step", 12]])))
        ==========
        stage  ms
        ==========
        data   1.5
        step   12
        ==========
    """
    cells = [[one_line(str(cell)) for cell in row] for row in [header, *rows]]
    line = rule * (sum(_widths(cells)) + 2 * len(header) - 2)
    first, *others = aligned(cells)
    return [line, first, line, *others, line]


def aligned(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows as lines with aligned columns.

    Args:
        rows: The cells of each row.

    Examples:
        >>> aligned([["a", 1], ["long", 2]])
        ['a     1', 'long  2']
    """
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = _widths(cells)
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def short_count(count: float) -> str:
    """A large number, rounded to three digits with a decimal unit.

    Args:
        count: The number.

    Examples:
        >>> short_count(512), short_count(6912), short_count(3_460_000_000)
        ('512', '6.91 k', '3.46 G')
    """
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def short_bytes(count: float) -> str:
    """A number of bytes in binary units.

    Args:
        count: The number of bytes.

    Examples:
        >>> short_bytes(100), short_bytes(5 * 2**20)
        ('100 B', '5 MiB')
    """
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def subplots(
    nrows: int = 1,
    ncols: int = 1,
    figsize: tuple[float, float] | None = None,
    imsize: float = 3,
    suptitle: str | None = None,
    **kwargs: Any,
) -> tuple[Figure, Array]:
    """A figure and its axes, always as an array.

    Args:
        nrows: Rows of axes.
        ncols: Columns of axes.
        figsize: Inches (width, height) of the figure.
        imsize: Inches per picture, if `figsize` is not given.
        suptitle: A title above all.
        kwargs: Passed on to `matplotlib.pyplot.subplots`.
    """
    if figsize is None:
        figsize = (ncols * imsize, nrows * imsize + (0.4 if suptitle else 0.0))
    if suptitle is not None:
        kwargs = {"layout": "compressed", **kwargs}  # which finds room for the titles of axes below that of the figure
    figure, axes = plt.subplots(nrows, ncols, figsize=figsize, **kwargs)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure, np.atleast_1d(axes)


def get_grid(
    n: int,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: tuple[float, float] | None = None,
    double: bool = False,
    title: str | None = None,
    **kwargs: Any,
) -> list[Axes]:
    """Axes in a grid that is about as high as it is wide; those that are left over are switched off.

    Args:
        n: The number of axes.
        nrows: Rows, if not as many as columns.
        ncols: Columns.
        figsize: Inches (width, height) of the figure.
        double: Pairs of axes side by side: `2 * n` of them.
        title: A title above all.
        kwargs: Passed on to `subplots`.
    """
    if nrows is None:
        nrows = math.ceil(n / ncols) if ncols else max(1, int(math.sqrt(n)))
    ncols = ncols or math.ceil(n / nrows)
    columns = ncols * 2 if double else ncols
    count = n * 2 if double else n
    _, axes = subplots(nrows, columns, figsize=figsize, suptitle=title, **kwargs)
    flat = list(axes.flatten())
    for ax in flat[count:]:
        ax.set_axis_off()
    return flat[:count]


def _pixels(image: object) -> Array:
    """What `imshow` draws: channels last and at most 4, a single channel without an axis, floats in [0, 1]."""
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = image.float().numpy() if image.is_floating_point() else image.numpy()
    array = np.asarray(image)
    if array.ndim == 3 and (array.shape[0] < 5 or array.shape[-1] > 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] > 4:
        array = array[..., :3]
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[-1] == 2:
        array = array.mean(-1)
    if array.dtype.kind == "f" and array.ndim == 3:
        array = array.clip(0, 1)
    return array


def show_image(
    im: object,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: object = None,
    ctx: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw an image and return its axes.

    Args:
        im: A tensor or array [channel, height, width], [height, width, channel] or [height, width], or an image of PIL.
        ax: Where to draw; new axes by default.
        figsize: Inches (width, height) of new axes; by default 1 to 5, by the size in pixels.
        title: A title.
        ctx: The same as `ax`, under the name that `show` methods use.
        kwargs: Passed on to `imshow`.
    """
    ax = ax if ax is not None else ctx
    pixels = _pixels(im)
    if ax is None:
        size = figsize or tuple(float(np.clip(n // 32, 1, 5)) for n in (pixels.shape[1], pixels.shape[0]))
        _, ax = plt.subplots(figsize=size)
    ax.imshow(pixels, **kwargs)
    if title is not None:
        ax.set_title(plot_label(title))
    ax.axis("off")
    return ax


def show_legend(figure: Figure, colors: Mapping[str, Any]) -> None:
    """Explain colours below a figure, whose layout must be "constrained" or "compressed".

    Args:
        figure: The figure.
        colors: The colour of each name.
    """
    handles = [patches.Patch(facecolor=color, edgecolor="0.6", label=name) for name, color in colors.items()]
    inches = 0.7 + 0.09 * max(map(len, colors), default=0)  # of one column
    columns = max(1, min(len(handles), int(figure.get_figwidth() / inches)))
    figure.legend(handles=handles, ncols=columns, frameon=False, loc="outside lower center")


def show_titled_image(o: tuple[object, object], **kwargs: Any) -> Axes:
    """Draw an image with a title and return its axes.

    Args:
        o: The image and the title.
        kwargs: Passed on to `show_image`.
    """
    title = o[1].item() if isinstance(o[1], Tensor) and o[1].numel() == 1 else o[1]
    return show_image(o[0], title=str(title), **kwargs)


def show_images(
    ims: Sequence[object],
    nrows: int = 1,
    ncols: int | None = None,
    titles: Sequence[object] | None = None,
    **kwargs: Any,
) -> None:
    """Draw images in a grid.

    Args:
        ims: The images.
        nrows: Rows of the grid.
        ncols: Columns; by default as many as needed.
        titles: A title for each.
        kwargs: Passed on to `get_grid`.
    """
    axes = get_grid(len(ims), nrows, ncols or math.ceil(len(ims) / nrows), **kwargs)
    for ax, im, title in zip(axes, ims, titles or [None] * len(ims), strict=True):
        show_image(im, ax=ax, title=title)


def show_image_batch(
    b: Sequence[Any],
    show: Callable[..., object] = show_titled_image,
    items: int = 9,
    cols: int = 3,
    figsize: tuple[float, float] | None = None,
    **kwargs: Any,
) -> None:
    """Draw the samples of a batch in a grid.

    Args:
        b: The parts of the batch, such as images and labels, each with as many elements.
        show: Draws a sample, given as the tuple of its parts, on `ax`.
        items: The most samples to draw.
        cols: Columns of the grid.
        figsize: Inches (width, height) of the figure.
        kwargs: Passed on to `show`.
    """
    samples = list(itertools.islice(zip(*b, strict=False), items))
    for sample, ax in zip(samples, get_grid(len(samples), ncols=min(cols, len(samples)), figsize=figsize), strict=True):
        show(sample, ax=ax, **kwargs)


SMALLEST = 8  # points that can be read


def fit_title(ax: Axes) -> None:
    """Make the title of axes smaller, and wrap what is still too long, so that it does not run into the title beside it.

    Args:
        ax: The axes, of a figure whose layout finds room for lines: "constrained" or "compressed".
    """
    text = ax.title.get_text()
    if not text:
        return
    wide = 0.52  # of a letter, in sizes of the font
    points = 72 * ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]  # no subfigure
    fitting = points / (wide * max(map(len, text.split("\n"))))
    if fitting < float(ax.title.get_fontsize()):
        size = max(SMALLEST, fitting)
        lines = [part for line in text.split("\n") for part in textwrap.wrap(line, max(8, int(points / (wide * size))))]
        ax.title.set(fontsize=size, text="\n".join(lines))


def show_title(o: object, ctx: Axes | None = None, color: str = "black", **kwargs: object) -> Axes | None:
    """Set a title on axes, below the one they have; without axes, print it.

    Args:
        o: The title.
        ctx: The axes.
        color: Of the text.
        kwargs: Ignored: what the other elements of a sample are shown with.

    Returns:
        `ctx`.
    """
    if ctx is None:
        print(visible(str(o)))
    elif hasattr(ctx, "set_title"):  # a context of another kind shows no title
        above = ctx.title.get_text()
        ctx.set_title(f"{above}\n{plot_label(o)}" if above else plot_label(o), color=color)
    return ctx
