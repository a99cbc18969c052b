"""Checks of a model before it is trained for long: each is a short mock fit, after which everything is as it was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchDataLoader

from layered.callback import batch_bar, losses_on_one_batch
from layered.data import DataLoader
from layered.foundation import Finding, Report, Table, checked, function_name, unknown_name
from layered.insight.profile import mock_fit, profile
from layered.loop import Callback, CancelFitException, CancelValidException, Loop, any_process, loss_of
from layered.nn import BaseLoss, Hooks

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)  # layers whose units can stay at zero for good


@dataclass(frozen=True, repr=False)
class Diagnosis(Report):
    """What `doctor` found: a table of the checks, with advice below it; true if nothing is wrong.

    Args:
        findings: One for each check. `diagnosis["gradients"]` is that of one check.
    """

    findings: Sequence[Finding]

    @property
    def ok(self) -> bool:
        """Whether no check found anything wrong."""
        return all(finding.ok for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, check: str) -> Finding:
        found = {finding.check: finding for finding in self.findings}
        if check not in found:
            raise unknown_name("check", check, found)
        return found[check]

    def records(self) -> list[dict[str, Any]]:
        return [asdict(finding) for finding in self.findings]

    def tables(self) -> Sequence[Table]:
        words = {"fine": "fine", "info": "unknown"}
        rows = [(f.check, words.get(f.level, "LOOK"), f.seen) for f in self.findings]
        return [(("check", "is", "seen"), rows)]

    def notes(self) -> Sequence[str]:
        return [f"{f.check}: {f.fix}" for f in self.findings if not f.ok]


Check = Callable[[Loop], Finding]


class _Clock:
    """The time for all checks, and whether it has cut one short."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end, self.has_cut = seconds, time.perf_counter() + seconds, False

    def examined(self, name: str, check: Check, learn: Loop) -> Finding:
        """What a check found, or that its time was up."""
        self.has_cut = time.perf_counter() > self.end
        found = None
        try:
            found = None if self.has_cut else check(learn)
        except Exception:  # what a check makes of a fit that was cut short
            if not self.has_cut:
                raise
        if found is None or self.has_cut:
            seen = f"not checked: the {self.seconds:g} s were over; doctor(seconds=…) takes longer"
            return Finding(name, True, seen, level="info")
        return found

    def after_batch(self, cb: Callback) -> None:
        if any_process(time.perf_counter() > self.end):
            self.has_cut = True
            raise CancelFitException


@checked
def doctor(learn: Loop, checks: Iterable[str | Check] | None = None, seconds: float = 60.0) -> Diagnosis:
    """Check the first loss, the units, the gradients, the loader and the learning rate, and whether one batch can be memorised.

    Each check is a short mock fit, after which everything is as it was. It ends with the first batch after the time is over;
    what was not checked then says so.

    Args:
        learn: The learner to examine.
        checks: Names of `CHECKS`, or functions of the learner that return a `Finding`; all of `CHECKS` if None.
        seconds: The time for all checks together; a batch that has begun is waited for.

    Returns:
        A `Diagnosis`: print it, or ask for `.ok`.

    Raises:
        UnknownName: If there is no check of that name.

    Examples:
        >>> from layered.testing.tiny import synth_learner
        >>> doctor(synth_learner(lr=0.1)).ok
        True
    """
    wanted = list(CHECKS) if checks is None else list(checks)
    for check in wanted:
        if isinstance(check, str) and check not in CHECKS:
            raise unknown_name("check", check, CHECKS)
    clock = _Clock(seconds)
    named = [(check, CHECKS[check]) if isinstance(check, str) else (function_name(check), check) for check in wanted]
    with learn.added_cbs(Callback(after_batch=clock.after_batch)):
        return Diagnosis([clock.examined(name, check, learn) for name, check in named])


def train_a_little(learn: Loop, steps: int, cb: Callback | None = None, lr: float | None = None) -> list[float]:
    """The losses of the first batches of a mock fit, over as many epochs as that takes.

    Args:
        learn: The learner to train.
        steps: Number of batches.
        cb: A callback of this fit.
        lr: Learning rate; the learner's own if None.
    """
    losses: list[Tensor] = []

    def note(_: Callback) -> None:
        losses.append(learn.loss)
        if len(losses) == steps:
            raise CancelFitException

    def skip(_: Callback) -> None:
        raise CancelValidException

    bar = batch_bar(learn, "Doctor: a few batches", steps)
    with mock_fit(learn, Callback(after_batch=note, before_validate=skip), *bar, *([] if cb is None else [cb])):
        learn.fit(steps, lr=lr)
    return [float(loss) for loss in losses]


def train_on_one_batch(learn: Loop, steps: int, lr: float | None = None) -> tuple[float, float]:
    """The first loss, and the mean of the last three, of a mock fit on the first batch over and over.

    Args:
        learn: The learner to train.
        steps: Number of steps.
        lr: Learning rate; the learner's own if None.
    """
    losses = losses_on_one_batch(learn, steps, lr, batch_bar(learn, f"Doctor: {steps} steps on one batch", steps))
    return losses[0], sum(losses[-3:]) / 3


def check_initial_loss(learn: Loop) -> Finding:
    """The first loss is not much worse than that of a constant guess: equal probabilities of classes, or the mean number.

    Args:
        learn: The learner to examine.
    """
    seen: dict[str, Any] = {}

    def note(_: Callback) -> None:
        seen["loss"], seen["pred"], seen["yb"] = float(learn.loss), learn.pred, learn.yb
        raise CancelFitException

    with mock_fit(learn, Callback(after_loss=note)):
        learn.fit(1)
    name, loss = "initial loss", seen["loss"]
    if not math.isfinite(loss):
        return Finding(name, False, f"{loss}", "look for NaN in the inputs and targets, and for a loss that overflows")
    if not isinstance(seen["pred"], Tensor) or len(seen["yb"]) != 1 or learn.loss_func is None:
        return Finding(name, True, f"{loss:.3g}; no constant guess to compare it with")
    guess = _constant_guess(learn.loss_func, seen["pred"], seen["yb"][0])
    chance = float(loss_of(learn.loss_func, guess, seen["yb"], training=True)[0])
    text = f"{loss:.3g}, a constant guess {chance:.3g}"
    fix = "check the labels and the loss; scale the targets, or start the last layer smaller or at their mean"
    return Finding(name, loss <= 10 * chance + 1e-3, text, fix)


def _constant_guess(loss_func: Callable[..., Any], pred: Tensor, target: Tensor) -> Tensor:
    is_of_classes = not target.is_floating_point() or (isinstance(loss_func, BaseLoss) and loss_func.y_int)
    if is_of_classes or "logits" in function_name(loss_func).lower():  # logits of 0 are equal probabilities
        return torch.zeros_like(pred)
    return torch.full_like(pred, float(target.float().mean()))


def check_dead_units(learn: Loop) -> Finding:
    """Fewer than half of the units after each ReLU are zero for every sample of three batches.

    Args:
        learn: The learner to examine.
    """
    layers = {name: m for name, m in learn.model.named_modules() if isinstance(m, ACTIVATIONS)}
    alive: dict[str, Tensor] = {}
    hooks = Hooks(layers.values(), lambda module, input, output: output)

    def note(_: Callback) -> None:
        for name, output in zip(layers, hooks.stored, strict=True):
            if isinstance(output, Tensor) and output.ndim > 1:
                active = (output.movedim(1, 0).flatten(1) > 0).any(1)  # [channel]
                alive[name] = alive.get(name, torch.zeros_like(active)) | active

    with hooks:
        train_a_little(learn, 3, Callback(after_pred=note))
    shares = {name: 1 - float(units.float().mean()) for name, units in alive.items()}
    if not shares:
        return Finding("dead units", True, "no layer whose units can die")
    worst = max(shares, key=lambda name: shares[name])
    text = f"at most {100 * shares[worst]:.0f} % of a layer's units ('{worst}')"
    fix = f"check the biases and the initialisation before '{worst}', lower the learning rate, or use a leaky ReLU"
    return Finding("dead units", shares[worst] < 0.5, text, fix)


def check_gradients(learn: Loop) -> Finding:
    """Every trained parameter gets a finite gradient, neither much larger than its parameters nor close to zero.

    Args:
        learn: The learner to examine.
    """
    sizes: dict[str, tuple[float, float]] = {}  # root mean square of gradient and parameter

    def note(_: Callback) -> None:
        for name, p in learn.model.named_parameters():
            if p.requires_grad:
                grad = 0.0 if p.grad is None else float(p.grad.float().square().mean().sqrt())
                sizes[name] = grad, float(p.detach().float().square().mean().sqrt())
        raise CancelFitException

    with mock_fit(learn, Callback(before_step=note)):
        learn.fit(1)
    name = "gradients"
    if not sizes:
        return Finding(name, False, "no parameter is trained", "learn.unfreeze(), or check the splitter")
    bad = [n for n, (grad, _) in sizes.items() if not math.isfinite(grad)]
    if bad:
        return Finding(
            name, False, f"not finite for '{bad[0]}'", "lower the scale of inputs and targets; clip gradients"
        )
    weights = {n: grad for n, (grad, _) in sizes.items() if n.endswith("weight")} or {
        n: g for n, (g, _) in sizes.items()
    }
    largest, least = max(weights, key=lambda n: weights[n]), min(weights, key=lambda n: weights[n])
    text = f"sizes from {weights[least]:.2g} ('{least}') to {weights[largest]:.2g} ('{largest}')"
    total = math.sqrt(sum(g**2 for g, _ in sizes.values()) / sum(p**2 for _, p in sizes.values() if p) or 0.0)
    if weights[least] <= 1e-6 * weights[largest]:
        fix = f"'{least}' hardly learns: check that it is used; normalise between layers, or change the activation"
        return Finding(name, False, text, fix)
    return Finding(
        name, total < 1e3, text, "the gradients dwarf the parameters: scale inputs and targets, or clip gradients"
    )


def check_loader(learn: Loop) -> Finding:
    """Less than half of the time of a batch is spent waiting for data.

    Args:
        learn: The learner to examine.
    """
    seen = profile(learn, n_batches=8, warm_up=2)
    text = f"{100 * seen.share('data'):.0f} % of {seen.total * 1e3:.3g} ms a batch is spent waiting for data"
    loader = learn.dls.train
    workers = loader.num_workers if isinstance(loader, (DataLoader, TorchDataLoader)) else 0
    fix = f"use more than num_workers={workers}, smaller files, or batch transforms in place of item transforms"
    return Finding("loader", seen.share("data") < 0.5, text, fix)


def check_learning_rate(learn: Loop) -> Finding:
    """Twenty steps on one batch at the learner's rate lower the loss; if they hardly do, a larger rate does no better.

    Args:
        learn: The learner to examine.
    """
    name, lr = "learning rate", learn.lr.stop if isinstance(learn.lr, slice) else learn.lr
    if isinstance(lr, Mapping):
        return Finding(name, True, "not checked: there are several optimizers")
    first, last = train_on_one_batch(learn, 20, lr)
    text = f"{lr:.2g}: loss {first:.3g} → {last:.3g} in 20 steps on one batch"
    if not last <= 1.5 * first:
        return Finding(name, False, text, f"too large: try {lr / 100:.2g}, or see learn.lr_find()")
    for factor in (100, 10_000, 100_000) if last > 0.995 * first else ():
        if train_on_one_batch(learn, 20, factor * lr)[1] < 0.95 * first:
            return Finding(name, False, text, f"too small: try {factor * lr:.2g}, or see learn.lr_find()")
    return Finding(name, True, text)


def check_one_batch(learn: Loop) -> Finding:
    """A hundred steps on one batch at least halve its loss.

    Args:
        learn: The learner to examine.
    """
    first, last = train_on_one_batch(learn, 100)
    text = f"loss {first:.3g} → {last:.3g} in 100 steps on one batch"
    fix = (
        "check that labels match inputs, that inputs differ, that nothing is detached or frozen, and the learning rate"
    )
    return Finding("one batch", last < 0.5 * first, text, fix)


CHECKS: dict[str, Check] = {
    "initial loss": check_initial_loss,
    "dead units": check_dead_units,
    "gradients": check_gradients,
    "loader": check_loader,
    "learning rate": check_learning_rate,
    "one batch": check_one_batch,
}
