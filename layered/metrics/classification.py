"""How often the predicted class is right: functions, each the mean over what counts."""

from __future__ import annotations

from torch import Tensor

from layered.foundation import BadValue, plain
from layered.metrics.averages import Sums, mean_of, of_classes, of_labels
from layered.metrics.inputs import best_and_target, flatten_check, floats, mismatch


@of_classes
@mean_of(higher_is_better=True)
def accuracy(inp: Tensor, targ: Tensor, axis: int = -1, *, ignore_index: int | None = -100) -> Sums:
    """The share of samples whose highest score is that of the target.

    Args:
        inp: Scores or probabilities [..., class] with the classes on `axis`; NaN counts as the largest. A single one for each
            sample is that of the second of two classes: a probability if all are in [0, 1], else a logit.
        targ: Class indices [...].
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default that which losses of torch leave out. None: all count.

    Returns:
        A number in [0, 1].

    Raises:
        BadValue: There is not one target for each sample.

    Examples:
        >>> import torch
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor(0.5000)
    """
    best, targ = best_and_target(inp, targ, axis)
    right = best == targ
    return _counted(right, targ, ignore_index)


@of_classes
@mean_of(higher_is_better=False)
def error_rate(inp: Tensor, targ: Tensor, axis: int = -1, *, ignore_index: int | None = -100) -> Sums:
    """The share of samples whose highest score is not that of the target: `1 - accuracy`.

    Args:
        inp: Scores or probabilities [..., class] with the classes on `axis`; NaN counts as the largest. A single one for each
            sample is that of the second of two classes: a probability if all are in [0, 1], else a logit.
        targ: Class indices [...].
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default that which losses of torch leave out. None: all count.

    Examples:
        >>> import torch
        >>> error_rate(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor(0.5000)
    """
    best, targ = best_and_target(inp, targ, axis)
    wrong = best != targ
    return _counted(wrong, targ, ignore_index)


@of_classes
@mean_of(higher_is_better=True)
def top_k_accuracy(inp: Tensor, targ: Tensor, k: int = 5, axis: int = -1, *, ignore_index: int | None = -100) -> Sums:
    """The share of samples whose target is among the `k` highest scores.

    Args:
        inp: Scores or probabilities [..., class] with the classes on `axis`; NaN counts as the largest.
        targ: Class indices [...].
        k: How many of the scores count.
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count; by default that which losses of torch leave out. None: all count.

    Raises:
        BadValue: There are fewer than `k` classes.

    Examples:
        >>> import torch
        >>> top_k_accuracy(torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]]), torch.tensor([2, 0]), k=2)
        tensor(0.5000)
    """
    inp, targ = plain(inp), plain(targ)
    if not 0 < k <= inp.shape[axis]:
        raise BadValue(
            f"cannot take the {k} best classes", got=f"{inp.shape[axis]} classes", fix="partial(top_k_accuracy, k=2)"
        )
    best = inp.topk(k, dim=axis).indices.movedim(axis, -1).reshape(-1, k)
    if len(best) != targ.numel():
        raise mismatch(inp, targ, axis)
    targ = targ.flatten()
    found = (best == targ[:, None]).any(dim=1)
    return _counted(found, targ, ignore_index)


@of_labels
@mean_of(higher_is_better=True)
def accuracy_multi(
    inp: Tensor, targ: Tensor, thresh: float = 0.5, sigmoid: bool = True, *, ignore_index: int | None = None
) -> Sums:
    """The share of right decisions, over all samples and classes.

    Args:
        inp: Logits, or probabilities with `sigmoid=False`, of the same shape as `targ`.
        targ: 1 where the class applies, otherwise 0.
        thresh: A class is predicted where its probability is above this.
        sigmoid: `inp` are logits; in a learner, what its loss takes them for.
        ignore_index: Targets of this value do not count.

    Examples:
        >>> import torch
        >>> accuracy_multi(torch.tensor([[2.0, -2.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(0.5000)
    """
    inp, targ = flatten_check(inp, targ)
    inp = floats(inp)
    right = ((inp.sigmoid() if sigmoid else inp) > thresh) == targ.bool()
    return _counted(right, targ, ignore_index)


@of_classes
@mean_of(higher_is_better=True)
def foreground_acc(
    inp: Tensor, targ: Tensor, bkg_idx: int = 0, axis: int = 1, *, ignore_index: int | None = None
) -> Sums:
    """The share of the pixels outside the background whose class is right; nan if all is background.

    Args:
        inp: Scores [batch, class, ...] with the classes on `axis`.
        targ: Class indices [batch, ...].
        bkg_idx: The class of the background.
        axis: The class axis of the predictions.
        ignore_index: Targets of this value do not count.

    Examples:
        >>> import torch
        >>> foreground_acc(torch.tensor([[[0.0, 0.0, 9.0], [1.0, 1.0, 1.0]]]), torch.tensor([[0, 1, 1]]))
        tensor(0.5000)
    """
    best, targ = best_and_target(inp, targ, axis)
    counts = targ != bkg_idx
    if ignore_index is not None:
        counts = counts & (targ != ignore_index)
    return ((best == targ) & counts).count_nonzero(), counts.count_nonzero()


def _counted(hits: Tensor, targ: Tensor, ignore_index: int | None) -> Sums:
    if ignore_index is None:
        return hits.count_nonzero(), hits.numel()
    counts = targ != ignore_index
    return (hits & counts).count_nonzero(), counts.count_nonzero()
