"""What a fit shows while it runs: bars and a table where somebody looks on, plain lines where nobody does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from layered.foundation.helpers import noop
from layered.foundation.optional import lazy
from layered.loop.callback import Callback

fastprogress = lazy("fastprogress.fastprogress")

REDRAW_EVERY = 0.2  # seconds


class ProgressCallback(Callback):
    """A bar for the batches and a table of the epochs.

    In a notebook both are HTML; on a terminal the bar is text. Elsewhere (a log file, a pipe, CI) there is one plain
    line for each epoch and no bar. The environment variable LAYERED_QUIET=1 silences it everywhere.
    """

    order = 60
    transient = ("mbar", "pbar", "columns", "old_logger", "next_redraw")

    mbar: Any = None
    pbar: Any = None
    old_logger: Any = None
    columns: Sequence[str] = ()
    next_redraw = 0.0

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.logger is noop:
            return
        self.columns = learn.recorder.metric_names if hasattr(learn, "recorder") else []
        self.old_logger, learn.logger = learn.logger, self.write_stats
        if learn.create_mbar and is_watched():
            self.mbar = fastprogress.master_bar(range(learn.n_epoch))
            self.mbar.update(0)  # shows it and starts its clock, also where a resumed fit begins later
            self.write_stats(self.columns)

    def before_epoch(self) -> None:
        if self.mbar is not None:
            self.mbar.update(self.learn.epoch)

    def before_train(self) -> None:
        self._launch()

    def before_validate(self) -> None:
        self._launch()

    def _launch(self) -> None:
        learn = self.learn
        if self.mbar is not None and learn.n_iter and not learn.nested:
            self.pbar = fastprogress.progress_bar(range(learn.n_iter), parent=self.mbar, leave=False)
            self.pbar.update(0)
            self.next_redraw = time.perf_counter() + REDRAW_EVERY

    def after_batch(self) -> None:
        if self.pbar is None or time.perf_counter() < self.next_redraw:
            return
        learn = self.learn
        if learn.training and hasattr(learn, "recorder"):
            self.pbar.comment = f"{learn.recorder.smooth_loss:.4f}"
        self.pbar.update(learn.iter + 1)
        self.next_redraw = time.perf_counter() + REDRAW_EVERY

    def after_train(self) -> None:
        self._land()

    def after_validate(self) -> None:
        self._land()

    def _land(self) -> None:
        if self.pbar is not None and not self.learn.nested:
            self.pbar.on_iter_end()
            self.pbar = None

    def on_end(self) -> None:
        learn = self.learn
        if self.old_logger is None or not learn.fitting:
            return
        if self.mbar is not None:
            self.mbar.on_iter_end() if learn.error is None else self.mbar.on_interrupt()
        learn.logger = self.old_logger
        self.mbar = self.pbar = self.old_logger = None

    def write_stats(self, stats: list[Any]) -> None:
        """Show one row of the table: the names of the columns, or the values of an epoch."""
        if self.mbar is not None:
            self.mbar.write([_shown(value) for value in stats], table=True)
        elif not os.environ.get("LAYERED_QUIET"):
            print("  ".join(f"{name} {_shown(value)}" for name, value in zip(self.columns, stats, strict=False)))


def _shown(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def is_watched() -> bool:
    """Whether somebody looks on: standard output is a terminal or a notebook's, and LAYERED_QUIET is not set."""
    if os.environ.get("LAYERED_QUIET"):
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell" or sys.stdout.isatty()
