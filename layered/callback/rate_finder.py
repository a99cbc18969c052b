"""Finding a learning rate by a mock fit: the rate grows with each batch until the loss diverges; then everything is restored."""

from __future__ import annotations

import bisect
import copy
import math
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layered.callback.progress import batch_bar
from layered.data import DataLoader, as_loader
from layered.foundation import (
    CannotTrain,
    OutOfRange,
    Stateful,
    checked,
    get_random_states,
    lazy,
    listify,
    set_random_states,
)
from layered.loop import (
    STATE_FIELDS,
    Callback,
    CancelFitException,
    CancelValidException,
    Checkpoint,
    Loop,
    Rollback,
    generators_of,
    iter_once,
    length_of,
    mean_of_processes,
    modes_of,
    set_modes,
)
from layered.optim import SchedExp

plt = lazy("matplotlib.pyplot")

Suggestion = tuple[float, tuple[float, float]]
"""A rate, and the point (rate, loss) that marks it in the plot."""


class LRFinder(Callback):
    """Raises the rate from `start_lr` to `end_lr` over `num_it` batches, then ends the fit.

    `lrs` and `losses` hold, for each batch, the rate and the smoothed loss (beta 0.98, bias-corrected).

    Args:
        start_lr: The first rate, above 0.
        end_lr: The last rate.
        num_it: Number of batches, at least 6.
        stop_div: End earlier, when the smoothed loss exceeds four times its minimum.

    Raises:
        OutOfRange: These do not hold.
    """

    order = 60
    state_kinds = (("lrs", list[float]), ("losses", list[float]), ("average", float), ("least", float))

    def __init__(self, start_lr: float = 1e-7, end_lr: float = 10, num_it: int = 100, stop_div: bool = True) -> None:
        if num_it < 6 or not 0 < start_lr < end_lr:
            raise OutOfRange(
                "invalid range of rates, or too few batches",
                got=f"num_it={num_it}, start_lr={start_lr}, end_lr={end_lr}",
                expected="num_it >= 6 and 0 < start_lr < end_lr",
            )
        self.sched, self.num_it, self.stop_div = SchedExp(start_lr, end_lr), num_it, stop_div
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.average, self.least = 0.0, math.inf

    def before_batch(self) -> None:
        learn = self.learn
        learn.opt.set_hyper("lr", self.sched(learn.train_iter / self.num_it))

    def after_batch(self) -> None:
        learn = self.learn
        self.average = 0.98 * self.average + 0.02 * mean_of_processes(float(learn.loss.mean()))
        smooth = self.average / (1 - 0.98 ** (len(self.losses) + 1))
        self.lrs.append(learn.opt.hypers[-1]["lr"])
        self.losses.append(smooth)
        self.least = min(self.least, smooth)
        diverged = self.stop_div and (smooth > 4 * self.least or not math.isfinite(smooth))
        if diverged or learn.train_iter >= self.num_it:
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelValidException


def valley(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> Suggestion:
    """A rate inside the longest valley: in the middle third of the longest run of falling losses (gaps allowed).

    Args:
        lrs: The rate of each batch.
        losses: The smoothed loss of each batch.
        num_it: Number of batches of the mock fit.

    Source: Ivan Pavlov's rule, as fastai users know it
    """
    ends: list[float] = []  # ends[k]: minus the largest loss that can end a falling run of k + 1 losses
    lengths = []
    for loss in losses:
        length = bisect.bisect_left(ends, -loss)
        ends[length : length + 1] = [-loss]
        lengths.append(length + 1)
    end = lengths.index(max(lengths))
    start = end - lengths[end]
    third = (end - start) / 3
    i = start + int(third) + int(third / 2)
    return lrs[i], (lrs[i], losses[i])


def slide(
    lrs: Sequence[float],
    losses: Sequence[float],
    num_it: int,
    lr_diff: int = 15,
    thresh: float = 0.005,
    adjust_value: float = 1.0,
) -> Suggestion:
    """The rate where an interval of `lr_diff` batches, moved leftwards from the end, first has equal slopes at its ends.

    Args:
        lrs: The rate of each batch.
        losses: The smoothed loss of each batch.
        num_it: Number of batches of the mock fit.
        lr_diff: Width of the interval, in batches.
        thresh: Largest difference of slopes that counts as equal.
        adjust_value: Factor on the rate found.

    Source: Novetta's interval slide rule, as fastai users know it
    """
    slopes = np.gradient(np.asarray(losses))
    right, left = len(losses) - 1, max(len(losses) - 1 - lr_diff, 0)
    found = lrs[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > thresh:
        found = lrs[left]
        right, left = right - 1, left - 1
    lr = found * adjust_value
    return lr, (lr, float(np.interp(math.log10(lr), np.log10(lrs), losses)))


def minimum(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> Suggestion:
    """A tenth of the rate at which the loss was lowest.

    Args:
        lrs: The rate of each batch.
        losses: The smoothed loss of each batch.
        num_it: Number of batches of the mock fit.
    """
    i = int(np.argmin(losses))
    return lrs[i] / 10, (lrs[i], losses[i])


def steep(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> Suggestion:
    """The rate at which the loss fell fastest, as a function of the logarithm of the rate.

    Args:
        lrs: The rate of each batch.
        losses: The smoothed loss of each batch.
        num_it: Number of batches of the mock fit.
    """
    i = int(np.argmin(np.diff(losses) / np.diff(np.log(lrs))))
    return lrs[i], (lrs[i], losses[i])


class SuggestionMethod:
    """The rules by which `lr_find` can suggest a rate."""

    Valley, Slide, Minimum, Steep = valley, slide, minimum, steep


@checked
def lr_find(
    loop: Loop,
    start_lr: float = 1e-7,
    end_lr: float = 10,
    num_it: int = 100,
    stop_div: bool = True,
    show_plot: bool = True,
    suggest_funcs: Any = valley,
) -> Any:
    """Suggest a learning rate from a mock fit with growing rates; afterwards everything is as before, bit for bit.

    Model, optimizer, recorder, callbacks, counters, random states and loaders are kept in memory and restored, also after an
    exception; nothing is written to disk.

    Args:
        loop: The learner.
        start_lr: The first rate.
        end_lr: The last rate.
        num_it: Number of batches of the mock fit, which repeats the data if needed.
        stop_div: Stop when the loss diverges.
        show_plot: Plot the losses and the suggestions.
        suggest_funcs: One of `valley`, `slide`, `minimum`, `steep` or your own f(lrs, losses, num_it), a list of these, or None.

    Returns:
        A named tuple with a rate for each rule; None without rules.

    Raises:
        CannotTrain: The loss is not finite from the start, or the training data is a generator.
    """
    finder = LRFinder(start_lr, end_lr, num_it, stop_div)
    train = loop.dls.train
    if iter_once(train):
        raise CannotTrain("lr_find would use up a generator", fix="train on a list or a DataLoader")
    batches = length_of(train) or num_it
    bar = batch_bar(loop, "Finding a learning rate", num_it)
    with restores_learner(loop), loop.no_logging(), loop.removed_cbs(Checkpoint):
        loop.fit(math.ceil(num_it / batches), cbs=[finder, *bar], n_iter=None if length_of(train) else num_it)
    lrs, losses = _usable(finder)
    rules = listify(suggest_funcs)
    found = {rule.__name__: rule(lrs, losses, num_it) for rule in rules}
    if show_plot:
        plot_lr_find(lrs, losses, {name: point for name, (_, point) in found.items()})
    return namedtuple("SuggestedLRs", list(found))(*(lr for lr, _ in found.values())) if rules else None


def _usable(finder: LRFinder) -> tuple[list[float], list[float]]:
    """Rates and losses without the first tenth, the last five and non-finite ones, as far as that leaves enough."""
    count = next((i for i, loss in enumerate(finder.losses) if not math.isfinite(loss)), len(finder.losses))
    first, last = finder.num_it // 10, len(finder.losses) - 5
    first, last = (first, min(last, count)) if min(last, count) - first >= 2 else (0, count)
    if last < 2:
        raise CannotTrain(
            "no learning rate can be suggested: the loss was not finite from the start",
            got=f"losses {finder.losses[:3]}",
            fix="check the inputs for NaN, the loss function, and start_lr",
        )
    return finder.lrs[first:last], finder.losses[first:last]


def plot_lr_find(
    lrs: Sequence[float], losses: Sequence[float], points: dict[str, tuple[float, float]] | None = None, ax: Any = None
) -> Any:
    """Plot losses over rates.

    Args:
        lrs: The rates.
        losses: The losses.
        points: Suggested points (rate, loss) by name.
        ax: Axes to draw on, instead of a new figure; returned if given.
    """
    drawn = plt.subplots()[1] if ax is None else ax
    drawn.plot(lrs, losses)
    drawn.set_xscale("log")
    drawn.set_xlabel("learning rate")
    drawn.set_ylabel("smooth loss")
    for name, (lr, loss) in (points or {}).items():
        drawn.plot(lr, loss, "o", label=name)
    if points:
        drawn.legend()
    return ax


@contextmanager
def restores_learner(loop: Loop) -> Iterator[None]:
    """Context manager: restores whatever a fit inside changes; loaders draw as for a look, not for training.

    Args:
        loop: The learner.
    """
    modules = [m for m in (loop.model, loop.loss_func) if isinstance(m, nn.Module)]
    tensors = [(t, t.detach().clone()) for m in modules for t in (*m.parameters(), *m.buffers())]
    modes = [mode for module in modules for mode in modes_of(module)]
    opt, opt_state = loop.opt, None if loop.opt is None else copy.deepcopy(loop.opt.state_dict())
    own = {name: value for name, value in vars(loop).items() if name in STATE_FIELDS}
    callbacks = [(cb, _shallow(vars(cb))) for cb in loop.cbs]
    values = [value for cb in loop.cbs for value in vars(cb).values()]
    tensors += [(value, value.detach().clone()) for value in values if isinstance(value, Tensor)]
    stateful = [
        (value, copy.deepcopy(value.state_dict()))
        for value in values
        if isinstance(value, Stateful) and not isinstance(value, DataLoader)
    ]
    random, generators = get_random_states(), [(g, g.get_state()) for g in generators_of(loop.dls)]
    with Rollback(loop), as_loader(loop.dls.train).peeking():
        try:
            loop.peeking = True  # callbacks that save or log leave a mock fit alone
            yield
        finally:
            _copy_back(tensors)
            set_modes(modes)
            for name in STATE_FIELDS & vars(loop).keys():
                delattr(loop, name)
            vars(loop).update(own)
            if opt is not None:
                opt.load_state_dict(opt_state)
            for cb, attributes in callbacks:
                vars(cb).clear()
                vars(cb).update(attributes)
            for value, state in stateful:
                value.load_state_dict(state)
            set_random_states(random)
            for generator, generator_state in generators:
                generator.set_state(generator_state)


def _shallow(attributes: dict[str, Any]) -> dict[str, Any]:
    return {n: copy.copy(v) if isinstance(v, (list, dict, set)) else v for n, v in attributes.items()}


@torch.no_grad()
def _copy_back(tensors: Iterable[tuple[Tensor, Tensor]]) -> None:
    for tensor, kept in tensors:
        tensor.copy_(kept)
