"""`calibrate`: how sure the model really is, found on items that it has not learned from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    EmptySource,
    checked,
    describe,
    is_single,
    output_scores,
    warn,
)
from layered.inference.abstaining import check_confidence
from layered.inference.calibrated import set_calibration
from layered.inference.predict import get_preds, uncalibrated_meaning
from layered.loop import Loop, length_of, valid_of
from layered.metrics import ExpectedCalibrationError, ExpectedCalibrationErrorMulti
from layered.nn import (
    Calibration,
    as_logits,
    best_temperature,
    outputs_read_as,
    sorted_scores,
    surprise,
)

OTHER_ITEMS = (
    "learn.calibrate(dl=learn.dls.test_dl(items, with_labels=True)), with items that the model has not learned from"
)


@checked
def calibrate(loop: Loop, dl: Iterable[Any] | None = None, *, abstain: float | None = None) -> Calibration:
    """Find how sure the model really is: probabilities become honest, and `predict_set` can be asked.

    The logits of classes or labels are divided by a temperature, the one with the smallest negative log-likelihood on these
    items. From then on `predict`, `get_preds`, `tta`, exports, ensembles and graphs give calibrated probabilities; decisions
    stay as they are. For all labels there is one temperature. What sets and intervals need is kept too; numbers need only that.
    Metrics of fits and of `validate` go on with what the network says.

        print(learn.calibrate())  # the temperature; log-likelihood and calibration error before and after

    The items must be like those to come, and nothing may have been chosen by them: neither weights, nor the epoch to keep, nor
    when to stop. Otherwise give others, `dl=learn.dls.test_dl(items, with_labels=True)`, or intervals are too narrow and
    probabilities too sure. A calibration is dropped, with a warning, when it is needed after weights or loss have changed.

    Args:
        loop: The learner.
        dl: A loader of items with targets; by default that of validation.
        abstain: The confidence below which `predict` gives no class, in (0, 1); see `abstention` for how to find it.

    Returns:
        What was found, also as `learn.calibration`.

    Raises:
        BadArgument: They are the training items.
        EmptySource: There are no items.
        BadValue: The targets are something else than a class, labels or numbers for each item, or all of one class; an output is
            not finite; or the model's scores say nothing of the targets.
        OutOfRange: `abstain` is not in (0, 1).

    Source: Guo et al. 2017, arXiv:1706.04599.

    Examples:
        >>> import torch; from torch import nn
        >>> from layered.data import DataLoaders
        >>> from layered.training import Learner
        >>> x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] + torch.randn(400, generator=torch.Generator().manual_seed(1)) > 0).long()
        >>> learn = Learner(DataLoaders.from_arrays(x, y, bs=50), nn.Linear(1, 2), nn.CrossEntropyLoss())
        >>> with torch.no_grad():
        ...     _ = learn.model.weight.copy_(torch.tensor([[-9.0], [9.0]])), learn.model.bias.zero_()  # far too sure
        >>> learn.calibrate().temperature > 2
        True
    """
    if loop.fitting:
        raise CannotTrain("a learner cannot be calibrated while it trains", fix="learn.calibrate() after the fit")
    _check_held_out(loop, dl)
    read = uncalibrated_meaning(loop)
    with loop.no_bar():
        outputs, targets = get_preds(loop, dl=dl, act=output_scores)
    _check_tensors(outputs, targets)
    predicted = output_scores(read.activation(outputs))
    decided = read.decodes(predicted)
    targets = targets.flatten() if _is_a_class(decided, targets) else targets
    of, are_logits = outputs_read_as(outputs, predicted, decided, targets)
    _check_abstain(abstain, of)
    if of == "numbers":
        off = (predicted.double().reshape(len(predicted), -1) - targets.double().reshape(len(targets), -1)).abs()
        found = Calibration(of, False, 1.0, *sorted_scores(off), len(off))
    else:
        found = _of_decisions(of, are_logits, as_logits(outputs, read.activation, of, are_logits), targets)
        calibrated = found.activate(read.activation, outputs)
        if of == "labels" and not torch.equal(read.decodes(calibrated), decided):
            raise BadValue(
                "a temperature would change decisions, since the loss has a threshold other than 0.5",
                fix="set learn.loss_func.thresh = 0.5, calibrate, and compare the probabilities of get_preds with yours",
            )
    found.abstain = None if abstain is None else float(abstain)
    set_calibration(loop, found)
    return found


def _of_decisions(of: str, are_logits: bool, logits: Tensor, targets: Tensor) -> Calibration:
    """The calibration of classes or labels."""
    classes = 2 if is_single(logits, 1) else logits.shape[1]
    if of == "classes":
        _check_classes(targets, classes)
    temperature = best_temperature(logits, targets, of)
    if temperature is None:
        warn(
            f"the model decides right about all {len(targets)} items, which says nothing of how sure it may be: the temperature "
            "stays 1; calibrate with more items"
        )
        temperature = 1.0
    metric = ExpectedCalibrationErrorMulti() if of == "labels" else ExpectedCalibrationError()
    both = [logits, logits / temperature]
    nll = [float(surprise(o, targets, of).mean()) for o in both]
    ece = [float(metric(o, targets)) for o in both]
    own = surprise(logits, targets, of)[:, None] if of == "classes" else logits.new_zeros(0, 1)
    scores, ranks = sorted_scores(own)
    return Calibration(of, are_logits, temperature, scores, ranks, len(targets), (nll[0], nll[1]), (ece[0], ece[1]))


def _check_held_out(loop: Loop, dl: Iterable[Any] | None) -> None:
    """Refuse the training items, and a learner without others."""
    if dl is None:
        valid = valid_of(loop.dls)
        if valid is None or length_of(valid) == 0:
            raise EmptySource("this learner has no validation items to calibrate with", fix=OTHER_ITEMS)
        return
    train: Any = loop.dls.train
    dataset = getattr(dl, "dataset", None)
    if dl is train or (dataset is not None and dataset is getattr(train, "dataset", None)):
        raise BadArgument(
            "these are the training items, of which the model is far too sure", got=describe(dl), fix=OTHER_ITEMS
        )


def _check_tensors(outputs: object, targets: object) -> None:
    if targets is None:
        raise BadValue("the items have no targets to calibrate with", fix=OTHER_ITEMS)
    for what, found in (("prediction", outputs), ("target", targets)):
        if not isinstance(found, Tensor) or not found.ndim:
            raise BadValue(
                f"only learners with one {what} for each item can be calibrated",
                got=describe(found),
                expected="a tensor with one class, labels or numbers for each item",
            )
    assert isinstance(outputs, Tensor)
    is_bad = ~outputs.isfinite().reshape(len(outputs), -1).all(1)
    if is_bad.any():
        raise BadValue(
            f"the outputs for {int(is_bad.sum())} of {len(outputs)} items are not finite",
            got=f"item {int(is_bad.nonzero()[0])}: {outputs[is_bad][0].flatten()[:5].tolist()}",
            fix="learn.doctor() looks for what is wrong with model and data",
        )


def _is_a_class(decided: object, targets: Tensor) -> bool:
    """Whether there is one class for each item, be it in a column of its own."""
    is_whole = isinstance(decided, Tensor) and decided.dtype == torch.int64 and not targets.is_floating_point()
    return is_whole and targets.ndim == 2 and targets.shape[1] == 1


def _check_classes(targets: Tensor, classes: int) -> None:
    first, last = int(targets.min()), int(targets.max())
    if first == last:
        raise BadValue(
            "all items are of one class, from which nothing can be learned about the others",
            got=f"{len(targets)} of class {first}",
            fix="a validation set with all classes: RandomSplitter, or stratify=",
        )
    if first < 0 or last >= classes:
        raise BadValue(
            "a target is not a class of the model",
            got=f"{first} to {last}",
            expected=f"0 to {classes - 1}",
        )


def _check_abstain(abstain: float | None, of: str) -> None:
    if abstain is None:
        return
    check_confidence(abstain)
    if of != "classes":
        raise BadArgument("only a learner of one class for each item can abstain", got=f"predictions of {of}")
