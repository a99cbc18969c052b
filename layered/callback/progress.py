"""What a fit shows while it runs: bars and a table for an interactive user, plain lines for a log; a graph of the losses."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from layered.callback.screens import Lines, screen_for
from layered.foundation import in_notebook, is_quiet, lazy, noop
from layered.loop import AbstractLoop, Callback, Loop, Recorder

display = lazy("IPython.display")
figures = lazy("matplotlib.figure")

REDRAW_EVERY = 0.2  # seconds


def say(learn: AbstractLoop, text: str) -> None:
    """Print a line about the fit, unless `no_logging` or LAYERED_QUIET silences it.

    Args:
        learn: The learner that fits.
        text: The line.
    """
    if learn.logger is not noop and not is_quiet():
        print(text)


class ProgressCallback(Callback):
    """A bar for the batches and a table of the epochs; for a pass outside a fit that takes longer than a moment, a bar.

    In a notebook both are HTML; on a terminal they are text. Elsewhere (a log file, a pipe, CI) there is one plain line for each
    epoch and no bar. The environment variable LAYERED_QUIET=1 silences it everywhere.
    """

    order = 60
    transient = ("screen", "is_in_pass", "old_logger", "next_redraw")
    observes = True
    state_kinds = ()

    screen: Lines | None = None
    is_in_pass = False
    old_logger: Any = None
    next_redraw = 0.0

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.logger is noop:
            return
        columns = learn.recorder.metric_names if learn.callbacks.get(Recorder) is not None else []
        self.screen = screen_for(columns, learn.create_mbar)
        self.old_logger, learn.logger = learn.logger, self._row

    def _row(self, values: list[Any]) -> None:
        if self.screen is not None:
            self.screen.name_columns(self.learn.recorder.metric_names)
            self.screen.row(values)

    def before_train(self) -> None:
        self._launch()

    def before_validate(self) -> None:
        self._launch()

    def _launch(self) -> None:
        learn = self.learn
        if not learn.fitting and learn.n_iter and not learn.nested:
            self.is_in_pass, self.next_redraw = True, time.perf_counter() + REDRAW_EVERY
        if self.screen is not None and self.screen.has_bar and learn.n_iter and not learn.nested:
            self.screen.label = f"Epoch {learn.epoch + 1}/{learn.n_epoch}"
            self.screen.begin(learn.n_iter)
            self.is_in_pass, self.next_redraw = True, time.perf_counter() + REDRAW_EVERY

    def after_batch(self) -> None:
        if not self.is_in_pass or time.perf_counter() < self.next_redraw:
            return
        learn = self.learn
        if self.screen is None and not learn.fitting:
            self.screen = screen_for([], with_bar=True)
            self.is_in_pass = self.screen.has_bar
            if self.is_in_pass:
                self.screen.label = "Validation"
                self.screen.begin(learn.n_iter or 0)
        if self.screen is None or learn.nested or not self.is_in_pass:
            return
        has_loss = learn.training and learn.callbacks.get(Recorder) is not None
        self.screen.update(learn.iter + 1, f"{learn.recorder.smooth_loss:.4f}" if has_loss else "")
        self.next_redraw = time.perf_counter() + REDRAW_EVERY

    def after_train(self) -> None:
        self._land()

    def after_validate(self) -> None:
        self._land()

    def _land(self) -> None:
        if self.screen is not None and self.is_in_pass and not self.learn.nested:
            self.screen.end()
            self.is_in_pass = False

    def on_end(self) -> None:
        learn = self.learn
        if self.screen is None or learn.nested:
            return
        self.screen.close(failed=learn.error is not None)
        if learn.fitting:
            learn.logger = self.old_logger
        self.screen, self.old_logger, self.is_in_pass = None, None, False


class BatchBar(Callback):
    """A bar over a number of batches and nothing else, for what is not shown as a fit. It disappears at the end.

    Args:
        label: What is going on.
        total: Number of batches.
    """

    order = 55
    observes = True
    state_kinds = ()
    transient = ("screen",)

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self.next_redraw = label, total, 0, 0.0
        self.screen: Lines | None = None

    def before_fit(self) -> None:
        self.screen, self.done = screen_for([], with_bar=True), 0
        if self.screen.has_bar:
            self.screen.label = self.label
            self.screen.begin(self.total)

    def after_batch(self) -> None:
        self.done += 1
        if self.screen is not None and self.screen.has_bar and time.perf_counter() >= self.next_redraw:
            self.screen.update(min(self.done, self.total), "")
            self.next_redraw = time.perf_counter() + REDRAW_EVERY

    def on_end(self) -> None:
        screen, self.screen = self.screen, None
        if screen is not None and screen.has_bar:
            screen.end()
            screen.close(failed=False)


def batch_bar(loop: Loop, label: str, total: int) -> list[Callback]:
    """A `BatchBar` in a list, for a fit inside; an empty list for a learner that shows no bars or is silent.

    Args:
        loop: The learner.
        label: What is going on.
        total: Number of batches.
    """
    is_shown = loop.logger is not noop and loop.callbacks.get(ProgressCallback) is not None
    return [BatchBar(label, total)] if is_shown else []


@contextmanager
def steps_bar(label: str, total: int, with_bar: bool = True) -> Iterator[Callable[[], None]]:
    """Context manager: a bar over steps other than batches, where somebody watches. It disappears at the end.

    Yields:
        What to call after each step.

    Args:
        label: What is going on.
        total: Number of steps.
        with_bar: False shows none.
    """
    screen, done = screen_for([], with_bar), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if screen.has_bar:
            screen.update(done, "")

    try:
        if screen.has_bar:
            screen.label = label
            screen.begin(total)
        yield advance
    finally:
        if screen.has_bar:
            screen.end()
            screen.close(failed=False)


class ShowGraphCallback(Callback):
    """Redraws a graph of the training and the validation loss after each epoch.

    In a notebook the graph stands below the table and is replaced in place; elsewhere nothing is shown. `figure` holds the graph
    of the last fit: `learn.show_graph.figure.savefig("loss.png")`. It is not registered with pyplot, so none stays open.
    """

    order = 65
    run_valid = False
    transient = ("figure", "handle", "drawn")
    observes = True
    state_kinds = ()

    figure: Any = None
    handle: Any = None
    drawn = 0  # rows of the table

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking:
            self.run = False
            return
        self.figure, self.handle, self.drawn = figures.Figure(figsize=(6, 4)), None, 0

    def after_validate(self) -> None:
        if self.learn.adds_row:  # validation in the middle of a training pass
            self.after_epoch()

    def after_fit(self) -> None:
        self.after_epoch()  # the last one, if a callback has ended the fit there

    def after_epoch(self) -> None:
        learn = self.learn
        if len(learn.recorder.values) == self.drawn:
            return
        self.drawn = len(learn.recorder.values)
        self.figure.clear()
        ax = self.figure.add_subplot()
        learn.callbacks[Recorder].plot_loss(skip_start=0, ax=ax)
        epochs = len(set(learn.recorder.epochs))
        ax.set_xlim(0, max(learn.n_epoch * (learn.recorder.iters[-1] // epochs), 1))
        if not in_notebook() or is_quiet() or learn.logger is noop:
            return
        pixels = io.BytesIO()
        self.figure.savefig(pixels, format="png", bbox_inches="tight")
        image = display.Image(pixels.getvalue())
        if self.handle is None:
            self.handle = display.display(image, display_id=True)
        else:
            self.handle.update(image)
