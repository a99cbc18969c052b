"""How tables are shown: the implementations of `show_batch`, `show_results` and `plot_top_losses` for `Tabular`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layered.foundation import verb
from layered.tabular.reading import show_frame
from layered.tabular.table import Tabular

show_batch, show_results, plot_top_losses = verb("show_batch"), verb("show_results"), verb("plot_top_losses")


@show_batch.register
def show_rows(x: Tabular, y: object, samples: Sequence[Any], ctxs: object = None, max_n: int = 10) -> None:
    """Show the decoded rows as a table."""
    show_frame(x.all_cols[:max_n])


@show_results.register
def show_row_results(
    x: Tabular, y: object, samples: Sequence[Any], outs: Sequence[Any], ctxs: object = None, max_n: int = 10
) -> None:
    """Show the decoded rows with a column `<target>_pred` for each target."""
    show_frame(_with_predictions(x, outs)[:max_n])


@plot_top_losses.register
def show_top_losses(
    x: Tabular,
    y: object,
    samples: Sequence[Any],
    outs: Sequence[Any],
    raws: object,
    losses: Sequence[Any],
    max_n: int = 10,
) -> None:
    """Show the rows with the highest losses, each with its prediction and loss."""
    show_frame(_with_predictions(x, outs).assign(loss=[float(loss) for loss in losses])[:max_n])


def _with_predictions(x: Tabular, outs: Sequence[Any]) -> Any:
    """The rows, with the decisions as columns after them."""
    frame = x.all_cols.copy()
    for i, target in enumerate(x.target_columns):
        for name, values in target.columns_of([out[i] for out in outs]).items():
            frame[f"{name}_pred"] = values
    return frame
