"""How texts are shown: the bodies of `show_batch`, `show_results` and `plot_top_losses` for texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from layered.data import Category, MultiCategory, words
from layered.foundation import TitledStr, html_table, in_notebook, lazy, verb, visible
from layered.text.types import TensorText
from layered.text.word_labels import WordLabels
from layered.text.words import SplitStr

display = lazy("IPython.display")

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")

WIDTH = 100  # characters of a line outside notebooks
_NAMES = {TitledStr: "text_", Category: "category", MultiCategory: "category", WordLabels: "labels"}
Sample = Sequence[Any]  # the decoded elements of a sample, or the decoded predictions for it


@show_batch.register
def show_texts(
    x: TensorText, y: object, samples: Sequence[Sample], ctxs: object = None, max_n: int = 10, trunc_at: int = 150
) -> None:
    """Show texts with their targets: of a language model, the texts that follow.

    Args:
        x: The batch of texts.
        y: The batch of targets.
        samples: The texts and their targets, decoded.
        ctxs: Ignored.
        max_n: The largest number of samples.
        trunc_at: The most words of a text.
    """
    header = ["text", *_target_names(samples[0][1:])]
    _show_rows(header, [_cells(sample, trunc_at) for sample in samples[:max_n]])


@show_results.register
def show_text_results(
    x: TensorText,
    y: object,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    ctxs: object = None,
    max_n: int = 10,
    trunc_at: int = 150,
) -> None:
    """Show texts with their targets and predictions.

    Args:
        x: The batch of texts.
        y: The batch of targets.
        samples: The texts and their targets, decoded.
        outs: The predictions, decoded.
        ctxs: Ignored.
        max_n: The largest number of samples.
        trunc_at: The most words of a text.
    """
    names = _target_names(samples[0][1:])
    rows = [_cells((*sample, *out), trunc_at) for sample, out in zip(samples, outs, strict=True)]
    _show_rows(["text", *names, *_predicted(names)], rows[:max_n])


@plot_top_losses.register
def show_top_losses(
    x: TensorText,
    y: object,
    samples: Sequence[Sample],
    outs: Sequence[Sample],
    raws: Sequence[Any],
    losses: Sequence[float],
    trunc_at: int = 150,
) -> None:
    """Show the texts with the highest losses, each with target, prediction and loss.

    Args:
        x: The batch of texts.
        y: The batch of targets.
        samples: The texts and their targets, decoded.
        outs: The predictions, decoded.
        raws: The predictions of the model.
        losses: The losses of the samples.
        trunc_at: The most words of a text.
    """
    names = _target_names(samples[0][1:])
    rows = [
        [*_cells((*sample, *out), trunc_at), f"{float(loss):.2f}"]
        for sample, out, loss in zip(samples, outs, losses, strict=True)
    ]
    _show_rows(["text", *names, *_predicted(names), "loss"], rows)


def _cells(parts: Sample, trunc_at: int) -> list[str]:
    text = parts[0]
    return [
        " ".join(f"{word}/{label}" for word, label in zip(text.words[:trunc_at], o, strict=False))
        if isinstance(o, WordLabels) and isinstance(text, SplitStr)
        else str(o.truncate(trunc_at)) if isinstance(o, TitledStr) else words(o)
        for o in parts
    ]  # fmt: skip


def _target_names(targets: Sample) -> list[str]:
    """What the targets are: "text_", "category", "labels" or "target", numbered if there are several."""
    kinds = [next((name for kind, name in _NAMES.items() if isinstance(o, kind)), "target") for o in targets]
    return kinds if len(kinds) == 1 else [f"{kind} {i}" for i, kind in enumerate(kinds, 1)]


def _predicted(names: Sequence[str]) -> list[str]:
    return [f"{name} predicted" for name in names]


def _show_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in a notebook; else a paragraph for each cell."""
    if in_notebook():
        display.display(display.HTML(html_table([header, *rows], header=True)))
        return
    indent = max(map(len, header)) + 2
    for row in rows:
        for name, text in zip(header, row, strict=True):
            print(
                textwrap.fill(visible(text), WIDTH, initial_indent=name.ljust(indent), subsequent_indent=" " * indent)
            )
        print()
