"""Where a fit is shown: a notebook, a terminal, or plain lines for a log file."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from layered.foundation import in_notebook, is_quiet, is_watched, lazy, one_line
from layered.loop import format_time

display = lazy("IPython.display")
fastprogress = lazy("fastprogress.fastprogress")


def cell_text(value: object) -> str:
    """A value of the table as text.

    Args:
        value: A number, a tensor of several, or text.

    Examples:
        >>> cell_text(0.5), cell_text(3), cell_text(None), cell_text(Tensor([0.5, 1]))
        ('0.500000', '3', '', '[0.5000, 1.0000]')
    """
    if isinstance(value, Tensor):
        return f"[{', '.join(f'{x:.4f}' for x in value.flatten().tolist())}]"
    return f"{value:.6f}" if isinstance(value, float) else "" if value is None else one_line(str(value))


class Lines:
    """One plain line for each epoch: no bar, no control characters.

    Args:
        columns: Names of the columns of the table.
    """

    has_bar = False

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns, self.label = list(map(one_line, columns)), ""

    def name_columns(self, columns: Sequence[str]) -> None:
        """Name the columns again, which may be more than at first.

        Args:
            columns: Names of the columns of the table.
        """
        self.columns = list(map(one_line, columns))

    def begin(self, total: int) -> None:
        """Begin a pass.

        Args:
            total: Its number of batches.
        """

    def update(self, done: int, comment: str) -> None:
        """Show how far the pass is.

        Args:
            done: Number of batches done.
            comment: Shown beside the bar.
        """

    def end(self) -> None:
        """End the pass."""

    def row(self, values: Sequence[object]) -> None:
        """Show an epoch.

        Args:
            values: Its values, in the order of the columns.
        """
        if not is_quiet():
            cells = [(name, cell_text(value)) for name, value in zip(self.columns, values, strict=False)]
            print("  ".join(f"{name} {cell}" for name, cell in cells if cell))

    def close(self, *, failed: bool) -> None:
        """End the fit.

        Args:
            failed: An exception ended it.
        """


class Terminal(Lines):
    """A table as text, and below it a bar that redraws its own line, as wide as the terminal allows."""

    has_bar = True
    bar: Any = None  # of the current pass

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns)
        if columns:
            self._write_row(self.columns)

    def name_columns(self, columns: Sequence[str]) -> None:
        before = self.columns
        super().name_columns(columns)
        if self.columns != before:
            self._write_row(self.columns)

    def begin(self, total: int) -> None:
        self.bar = fastprogress.ConsoleProgressBar(range(total), total, leave=False)
        self.bar.prefix = f"{self.label} :"
        self.bar.update(0)

    def update(self, done: int, comment: str) -> None:
        self.bar.comment = comment
        self.bar.update(done)

    def end(self) -> None:
        self.bar.on_iter_end()  # erases it
        self.bar = None

    def row(self, values: Sequence[object]) -> None:
        if self.bar is not None:
            self.bar.on_iter_end()  # erases it, until its next update
        self._write_row([cell_text(value) for value in values])

    def _write_row(self, cells: Sequence[str]) -> None:
        widths = (max(len(name) + 2, 10) for name in self.columns)
        print("".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip(), flush=True)

    def close(self, *, failed: bool) -> None:
        if failed and self.bar is not None:
            print()  # the bar of the failed pass stays above the traceback


class Notebook(Lines):
    """A table and a bar in HTML, in one output that is replaced in place."""

    has_bar = True

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns)
        self.rows: list[list[str]] = []
        self.total, self.began, self.bar = 0, 0.0, ""
        self.handle = display.display(display.HTML(self._html()), display_id=True)

    def begin(self, total: int) -> None:
        self.total, self.began = total, time.perf_counter()
        self.update(0, "")

    def update(self, done: int, comment: str) -> None:
        text = f"{self.label} {progress(done, self.total, self.began, comment)}"
        self.bar = f'<progress value="{done}" max="{self.total}"></progress> {html.escape(text)}'
        self._show()

    def end(self) -> None:
        self.bar = ""

    def row(self, values: Sequence[object]) -> None:
        self.rows.append([cell_text(value) for value in values])
        self._show()

    def name_columns(self, columns: Sequence[str]) -> None:
        before = self.columns
        super().name_columns(columns)
        for row in self.rows if self.columns != before else ():
            cells = dict(zip(before, row, strict=False))
            row[:] = [cells.get(name, "") for name in self.columns]

    def close(self, *, failed: bool) -> None:
        self.bar = f"{self.bar} Interrupted" if failed else ""
        self._show()

    def _show(self) -> None:
        self.handle.update(display.HTML(self._html()))

    def _html(self) -> str:
        def cells(tag: str, row: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

        if not self.columns:
            return self.bar
        body = "".join(cells("td", row) for row in self.rows)
        return f"<table><thead>{cells('th', self.columns)}</thead><tbody>{body}</tbody></table>{self.bar}"


def progress(done: int, total: int, began: float, comment: str) -> str:
    """How far a pass is, as text: share, batches, elapsed and remaining time, and a comment.

    Args:
        done: Number of batches done.
        total: Number of batches.
        began: `time.perf_counter()` at the start.
        comment: Shown last.
    """
    spent = time.perf_counter() - began
    times = format_time(spent) + (f"<{format_time(spent / done * (total - done))}" if done else "")
    return f"{done / total:.2%} [{done}/{total} {times}{' ' + comment if comment else ''}]"


def screen_for(columns: Sequence[str], with_bar: bool) -> Lines:
    """The screen for the place where this runs.

    Args:
        columns: Names of the columns of the table.
        with_bar: Show a bar, where somebody watches.
    """
    if not with_bar or not is_watched():
        return Lines(columns)
    return Notebook(columns) if in_notebook() else Terminal(columns)
