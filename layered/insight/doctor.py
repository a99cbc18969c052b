"""Questions to ask of a model before training it for long: each is a short mock fit, and nothing changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import checked, text_table, unknown_name
from layered.insight.profile import mock_fit, profile
from layered.loop import Callback, CancelFitException, Loop
from layered.nn import Hooks

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)  # those that can be zero for good


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Args:
        ok: Nothing is wrong.
        seen: What was measured.
        fix: What to try, where something is wrong.
    """

    check: str
    ok: bool
    seen: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings; prints as a table, true if all is well."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether every check found nothing wrong."""
        return all(finding.ok for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, check: str) -> Finding:
        return next(finding for finding in self.findings if finding.check == check)

    def __str__(self) -> str:
        rows = [(f.check, "fine" if f.ok else "LOOK", f.seen) for f in self.findings]
        fixes = [f"{f.check}: {f.fix}" for f in self.findings if not f.ok]
        return "\n".join([*text_table(("check", "is", "seen"), rows), *fixes])

    __repr__ = __str__


Check = Callable[[Loop], Finding]


@checked
def doctor(learn: Loop, checks: Iterable[str | Check] | None = None) -> Diagnosis:
    """Ask whether the first loss, the units, the gradients, the loader and the learning rate look right, and whether the
    model can learn one batch by heart; each question is a short mock fit, after which everything is as it was.

    Args:
        checks: Names of `CHECKS`, or functions of the learner that return a `Finding`; all of `CHECKS` if None.

    Returns:
        A `Diagnosis`: print it, or ask for `.ok`.

    Raises:
        UnknownName: For a check that there is not.

    Examples:
        >>> from layered.testing.tiny import synth_learner
        >>> doctor(synth_learner(lr=0.1)).ok
        True
    """
    wanted = list(CHECKS) if checks is None else list(checks)
    for check in wanted:
        if isinstance(check, str) and check not in CHECKS:
            raise unknown_name("check", check, CHECKS)
    return Diagnosis([(CHECKS[check] if isinstance(check, str) else check)(learn) for check in wanted])


def train_a_little(learn: Loop, steps: int, cb: Callback | None = None, lr: Any = None) -> list[float]:
    """The losses of the first `steps` batches of a mock fit, over as many epochs as that takes."""
    losses: list[Tensor] = []

    def note(_: Callback) -> None:
        if learn.training:
            losses.append(learn.loss)
            if len(losses) == steps:
                raise CancelFitException

    with mock_fit(learn, Callback(after_batch=note), *([] if cb is None else [cb])):
        learn.fit(steps, lr=lr)
    return [float(loss) for loss in losses]


def train_on_one_batch(learn: Loop, steps: int, lr: Any = None) -> tuple[float, float]:
    """The first loss, and the mean of the last three, of a mock fit that sees the first batch again and again."""
    kept: list[Any] = []

    def same(_: Callback) -> None:
        if not kept:
            kept.append((learn.xb, learn.yb))
        learn.xb, learn.yb = kept[0]

    losses = train_a_little(learn, steps, Callback(before_batch=same), lr)
    return losses[0], sum(losses[-3:]) / 3


def check_initial_loss(learn: Loop) -> Finding:
    """The first loss is not much worse than that of a constant guess: equal chances for classes, the mean for numbers."""
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
    chance = float(learn.loss_func(guess, *seen["yb"]))
    text = f"{loss:.3g}, a constant guess {chance:.3g}"
    fix = "check the labels and the loss; scale the targets, or start the last layer smaller or at their mean"
    return Finding(name, loss <= 10 * chance + 1e-3, text, fix)


def _constant_guess(loss_func: Any, pred: Tensor, target: Tensor) -> Tensor:
    of_classes = getattr(loss_func, "y_int", False) or not target.is_floating_point()
    if of_classes or "logits" in f"{type(loss_func).__name__}{getattr(loss_func, '__name__', '')}".lower():
        return torch.zeros_like(pred)
    return torch.full_like(pred, float(target.float().mean()))


def check_dead_units(learn: Loop) -> Finding:
    """Fewer than half of the units behind each ReLU are zero for every item of three batches."""
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
        return Finding("dead units", True, "no layer that can die")
    worst = max(shares, key=lambda name: shares[name])
    text = f"at most {100 * shares[worst]:.0f} % of a layer's units ('{worst}')"
    fix = (
        f"look at the biases and the initialisation in front of '{worst}', lower the learning rate, or use a leaky ReLU"
    )
    return Finding("dead units", shares[worst] < 0.5, text, fix)


def check_gradients(learn: Loop) -> Finding:
    """Every trained parameter gets a gradient; none is infinite, much larger than its parameters, or next to nothing."""
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
        fix = f"'{least}' hardly learns: is it used? Normalise between the layers, or use another activation"
        return Finding(name, False, text, fix)
    return Finding(name, total < 1e3, text, "the gradients dwarf the parameters: scale inputs and targets, or clip")


def check_loader(learn: Loop) -> Finding:
    """Less than half of the time of a step is a wait for data."""
    seen = profile(learn, n_batches=8, warm_up=2)
    text = f"{100 * seen.share('data'):.0f} % of {seen.total * 1e3:.3g} ms a batch is a wait for data"
    workers = getattr(learn.dls.train, "num_workers", 0)
    fix = f"num_workers={workers or 0} now: use more; make smaller files; move transforms from items to batches"
    return Finding("loader", seen.share("data") < 0.5, text, fix)


def check_learning_rate(learn: Loop) -> Finding:
    """On one batch, twenty steps at the learner's rate lower the loss; where they hardly do, a larger rate does no better."""
    name, lr = "learning rate", learn.lr.stop if isinstance(learn.lr, slice) else learn.lr
    if isinstance(lr, Mapping):
        return Finding(name, True, "not checked: there are several optimizers")
    first, last = train_on_one_batch(learn, 20, lr)
    text = f"{lr:.2g}: loss {first:.3g} → {last:.3g} in 20 steps on one batch"
    if not last <= 1.5 * first:
        return Finding(name, False, text, f"too large: try {lr / 100:.2g}, or see learn.lr_find()")
    for factor in (100, 10_000) if last > 0.995 * first else ():
        if train_on_one_batch(learn, 20, factor * lr)[1] < 0.95 * first:
            return Finding(name, False, text, f"too small: try {factor * lr:.2g}, or see learn.lr_find()")
    return Finding(name, True, text)


def check_one_batch(learn: Loop) -> Finding:
    """A hundred steps on one batch at least halve its loss."""
    first, last = train_on_one_batch(learn, 100)
    text = f"loss {first:.3g} → {last:.3g} in 100 steps on one batch"
    fix = "check that inputs and labels belong together, that inputs differ, that nothing is detached or frozen, and the rate"
    return Finding("one batch", last < 0.5 * first, text, fix)


CHECKS: dict[str, Check] = {
    "initial loss": check_initial_loss,
    "dead units": check_dead_units,
    "gradients": check_gradients,
    "loader": check_loader,
    "learning rate": check_learning_rate,
    "one batch": check_one_batch,
}
