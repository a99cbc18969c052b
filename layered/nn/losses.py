"""Losses that know their activation and how to decode it, and that take predictions of any number of dimensions.

loss = CrossEntropyLossFlat()
loss(logits, classes)          # a number to differentiate
loss.activation(logits)        # probabilities
loss.decodes(probabilities)    # classes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, Recorded, default_losses, losses, nearest, plain


def outside_classes(loss: str, pred: Tensor, target: Tensor) -> BadValue:
    """The error for targets that a model has no output for.

    Args:
        loss: The name of the loss.
        pred: What the loss got: scores, with the classes on axis 1.
        target: Numbers of classes.
    """
    return BadValue(
        f"{loss} got targets outside of the model's classes",
        got=f"targets from {target.min().item()} to {target.max().item()}, "
        f"and {pred.shape[min(1, pred.ndim - 1)]} outputs: predictions {list(pred.shape)}",
        expected="whole numbers from 0 to the number of outputs minus 1",
        fix="a model with an output for each class (n_out), or number the classes from 0",
    )


class BaseLoss(Recorded):
    """A torch loss that flattens its inputs, and knows the activation and the decoding of its predictions.

    Integer targets become int64. With `reduction="none"` it returns the loss of each row of the flattened predictions. Settings
    of the torch loss, such as `label_smoothing`, may be read and set here too.

    Args:
        loss_cls: A loss class, called with `args` and `kwargs`; or a loss.
        args: For the loss class.
        axis: The axis of the classes in the predictions.
        flatten: Merge all other axes into one.
        floatify: Convert the targets to floats.
        is_2d: The loss expects [rows, classes], and [rows] or [rows, classes] as targets; otherwise both become [numbers].
        kwargs: For the loss class.

    Raises:
        BadValue: If predictions and targets differ in the number of rows, integer targets have the shape of probabilities, or
            a target is out of range (on the CPU; a GPU reports that later).
        BadArgument: If a setting is set that the loss does not have.
    """

    y_int = False
    _set_later: frozenset[str] = frozenset()

    def __init__(
        self,
        loss_cls: Callable[..., Any] | nn.Module,
        *args: object,
        axis: int = -1,
        flatten: bool = True,
        floatify: bool = False,
        is_2d: bool = True,
        **kwargs: object,
    ) -> None:
        func = loss_cls if isinstance(loss_cls, nn.Module) else loss_cls(*args, **kwargs)
        self.func: Any = func
        self.axis, self.flatten, self.floatify, self.is_2d = axis, flatten, floatify, is_2d
        self._follow_weights()

    def _follow_weights(self) -> None:
        func = self.func
        self._device = next((b.device for b in func.buffers()), None) if isinstance(func, nn.Module) else None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and "func" in vars(self):
            return getattr(self.func, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        is_made = "_device" in vars(self) and type(self).__module__ == __name__ and not name.startswith("_")
        if not is_made or name in vars(self) or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        elif hasattr(self.func, name):
            setattr(self.func, name, _weights(value) if isinstance(value, list) else value)
            self._follow_weights()
        else:
            near = nearest(name, self.init_args, 1)
            raise BadArgument(
                f"{type(self).__name__} has no setting '{name}'",
                expected=", ".join(self.init_args),
                fix=f"did you mean '{near[0]}'?" if near else None,
            )
        if is_made:
            self._set_later |= {name}

    @property
    def init_args(self) -> dict[str, Any]:
        """The constructor's arguments, with the values of those that were set later."""
        return {k: getattr(self, k) if k in self._set_later else v for k, v in super().init_args.items()}

    def __call__(self, pred: Tensor, target: Tensor, **kwargs: object) -> Tensor:
        pred, target = self.prepared(pred, target)
        return self.compare(pred, target, **kwargs)

    def prepared(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets as the torch loss takes them.

        Args:
            pred: The model's output.
            target: The target.
        """
        pred, target = plain(pred), plain(target)
        if not isinstance(pred, Tensor):
            raise BadValue(
                f"{type(self).__name__} compares one tensor of predictions with the target",
                got=f"the model returned a {type(pred).__name__}",
                fix="cbs=RNNCallback() if it returns (output, raw outputs, outputs after dropout), or a loss_func= that picks",
            )
        if self._device is not None and self._device != pred.device:
            self.to(pred.device)
        if self.floatify:
            target = target.to(torch.promote_types(pred.dtype, torch.float32))
        elif target.dtype in (torch.int8, torch.int16, torch.int32, torch.uint8):
            target = target.long()
        return self._flat(pred, target) if self.flatten else (pred, target)

    def compare(self, pred: Tensor, target: Tensor, **kwargs: object) -> Tensor:
        """The torch loss of what `prepared` returned.

        Args:
            pred: The predictions.
            target: The targets.
            kwargs: Passed on to the torch loss.
        """
        try:
            return self.func(pred, target, **kwargs)  # type: ignore[no-any-return]
        except IndexError as error:
            if "out of bounds" not in str(error):
                raise
            raise outside_classes(type(self).__name__, pred, target) from error

    def _flat(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        per_class = self.is_2d and target.shape == pred.shape
        if not self.is_2d:
            flat_pred, flat_target = pred.reshape(-1), target.reshape(-1)
        else:
            flat_pred = self._rows(pred)
            flat_target = self._rows(target) if per_class else target.reshape(-1)
        if len(flat_pred) != len(flat_target) or (per_class and not target.is_floating_point()):
            raise BadValue(
                f"{type(self).__name__} cannot compare predictions and targets of these shapes",
                got=f"predictions {list(pred.shape)}, targets {list(target.shape)}",
                expected=f"targets without axis {self.axis}, or probabilities of classes"
                if self.is_2d
                else "the same shape",
                fix="check the number of outputs of the model (n_out) and the loss's axis",
            )
        return flat_pred, flat_target

    def _rows(self, x: Tensor) -> Tensor:
        return x.movedim(self.axis, -1).reshape(-1, x.shape[self.axis]) if x.ndim != 2 or self.axis == 0 else x

    @property
    def reduction(self) -> str:
        """ "mean", "sum" or "none"; may be set."""
        return str(self.func.reduction)

    @reduction.setter
    def reduction(self, value: str) -> None:
        self.func.reduction = value

    def to(self, device: torch.device | str | int) -> Self:
        """Move the weights of the loss, if it has any. A call does this by itself: the loss follows the predictions.

        Args:
            device: The device.
        """
        if self._device is not None:
            self.func.to(device)
            self._device = next(self.func.buffers()).device
        return self

    def activation(self, x: Tensor) -> Tensor:
        """Turn raw outputs into predictions: probabilities for classes, unchanged numbers for regression.

        Args:
            x: Raw outputs of the model.
        """
        return x

    def decodes(self, x: Tensor) -> Tensor:
        """Turn predictions into decisions of the form of the targets.

        Args:
            x: What `activation` returned.
        """
        return x

    def __repr__(self: Recorded) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.init_args.items() if v is not None)})"


class _OneClass:
    """Exactly one of several classes: softmax, then the most likely."""

    y_int = True
    axis: int

    def activation(self, x: Tensor) -> Tensor:
        """Probabilities that sum to 1 along the axis of the classes."""
        return F.softmax(x, dim=self.axis)

    def decodes(self, x: Tensor) -> Tensor:
        """The index of the most likely class, int64."""
        return x.argmax(dim=self.axis)


class _ClassLoss(_OneClass, BaseLoss):
    """A `BaseLoss` for exactly one of several classes."""


@losses.register()
class CrossEntropyLossFlat(_ClassLoss):
    """Cross entropy of logits [..., class] with class indices [...] or probabilities [..., class].

    Args:
        weight: A weight for each class, [class].
        axis: The axis of the classes: 1 for segmentation, where logits are [batch, class, height, width].
        ignore_index: Targets with this index do not count.
        reduction: "mean", "sum" or "none".
        label_smoothing: Share of the probability that is spread over all classes, in [0, 1].
        flatten: Merge all axes but the classes into one.
        floatify: Convert the targets to floats.
        is_2d: Keep the axis of the classes.

    Examples:
        >>> CrossEntropyLossFlat()(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.long))
        tensor(1.3863)
    """

    def __init__(
        self,
        weight: Tensor | list[float] | None = None,
        *,
        axis: int = -1,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        flatten: bool = True,
        floatify: bool = False,
        is_2d: bool = True,
    ) -> None:
        func = nn.CrossEntropyLoss(
            _weights(weight), ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
        super().__init__(func, axis=axis, flatten=flatten, floatify=floatify, is_2d=is_2d)


class LabelSmoothingCrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy in which every class gets `eps / classes` of the target's probability.

    Logits are [batch, class, ...], as for torch's loss; the `Flat` form accepts the classes on any axis.

    Args:
        eps: Share of the probability that is spread over all classes, in [0, 1].
        weight: A weight for each class, [class].
        reduction: "mean", "sum" or "none".

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7
    """

    y_int = True

    def __init__(self, eps: float = 0.1, weight: Tensor | list[float] | None = None, reduction: str = "mean") -> None:
        super().__init__(_weights(weight), reduction=reduction, label_smoothing=eps)

    @property
    def eps(self) -> float:
        """The share that is spread; may be set."""
        return self.label_smoothing

    @eps.setter
    def eps(self, value: float) -> None:
        self.label_smoothing = value

    def activation(self, x: Tensor) -> Tensor:
        """Probabilities.

        Args:
            x: Logits, [..., class].
        """
        return F.softmax(x, dim=-1)

    def decodes(self, x: Tensor) -> Tensor:
        """The index of the most likely class.

        Args:
            x: Probabilities, [..., class].
        """
        return x.argmax(dim=-1)


@losses.register()
class LabelSmoothingCrossEntropyFlat(_ClassLoss):
    """`LabelSmoothingCrossEntropy` for predictions of any number of dimensions.

    Args:
        eps: Share of the probability that is spread over all classes, in [0, 1].
        weight: A weight for each class, [class].
        axis: The axis of the classes.
        reduction: "mean", "sum" or "none".
        flatten: Merge all axes but the classes into one.
    """

    def __init__(
        self,
        eps: float = 0.1,
        weight: Tensor | list[float] | None = None,
        *,
        axis: int = -1,
        reduction: str = "mean",
        flatten: bool = True,
    ) -> None:
        super().__init__(LabelSmoothingCrossEntropy(eps, weight, reduction), axis=axis, flatten=flatten)


class FocalLoss(nn.Module):
    """Cross entropy that gives less weight to easy targets: `(1 - p)^gamma * -log p`, where p is the target's probability.

    Args:
        gamma: How strongly; 0 is plain cross entropy.
        weight: A factor for each class, [class]; the mean is over rows, whatever their weights.
        reduction: "mean", "sum" or "none".

    Source: Lin et al. 2017, arXiv:1708.02002, equation 5
    """

    y_int = True

    def __init__(self, gamma: float = 2.0, weight: Tensor | list[float] | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.gamma, self.reduction = gamma, reduction
        self.weight: Tensor | None
        self.register_buffer("weight", _weights(weight), persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        minus_log_p = F.cross_entropy(pred, target, reduction="none")
        loss = (1 - torch.exp(-minus_log_p)) ** self.gamma * minus_log_p
        if self.weight is not None:
            loss = loss * self.weight[target]
        return loss.mean() if self.reduction == "mean" else loss.sum() if self.reduction == "sum" else loss


@losses.register()
class FocalLossFlat(_ClassLoss):
    """`FocalLoss` for predictions of any number of dimensions.

    Args:
        gamma: How strongly easy targets lose weight; 0 is plain cross entropy.
        weight: A factor for each class, [class].
        axis: The axis of the classes.
        reduction: "mean", "sum" or "none".
        flatten: Merge all axes but the classes into one.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | list[float] | None = None,
        *,
        axis: int = -1,
        reduction: str = "mean",
        flatten: bool = True,
    ) -> None:
        super().__init__(FocalLoss(gamma, weight, reduction), axis=axis, flatten=flatten)


@losses.register()
class BCEWithLogitsLossFlat(BaseLoss):
    """Binary cross entropy of logits: any number of classes at once, each 0 or 1.

    Args:
        weight: A factor for each class, [class].
        axis: The axis of the classes, if there are factors.
        floatify: Convert the targets to floats.
        thresh: The probability above which `decodes` returns True.
        pos_weight: A factor for the positive targets of each class, [class].
        reduction: "mean", "sum" or "none".
        flatten: Merge all axes into one (all but the classes, if there are factors).

    Examples:
        >>> BCEWithLogitsLossFlat(pos_weight=[1.0, 3.0])(torch.zeros(1, 2), torch.tensor([[0, 1]]))
        tensor(1.3863)
    """

    def __init__(
        self,
        weight: Tensor | list[float] | None = None,
        *,
        axis: int = -1,
        floatify: bool = True,
        thresh: float = 0.5,
        pos_weight: Tensor | list[float] | None = None,
        reduction: str = "mean",
        flatten: bool = True,
    ) -> None:
        func = nn.BCEWithLogitsLoss(_weights(weight), reduction=reduction, pos_weight=_weights(pos_weight))
        per_class = weight is not None or pos_weight is not None
        self.thresh = thresh
        super().__init__(func, axis=axis, flatten=flatten, floatify=floatify, is_2d=per_class)

    def _follow_weights(self) -> None:
        super()._follow_weights()
        self.is_2d = self.func.weight is not None or self.func.pos_weight is not None

    def activation(self, x: Tensor) -> Tensor:
        """The probability of each class, independent of the others.

        Args:
            x: Logits.
        """
        return torch.sigmoid(x)

    def decodes(self, x: Tensor) -> Tensor:
        """True where the probability is above the threshold.

        Args:
            x: Probabilities.
        """
        return x > self.thresh


class _NumberLoss(BaseLoss):
    """A loss between numbers of the same shape.

    Args:
        axis: The axis that is moved last before flattening.
        floatify: Convert the targets to floats.
        reduction: "mean", "sum" or "none".
        flatten: Merge all axes into one.
    """

    torch_loss: type[nn.Module]

    def __init__(self, *, axis: int = -1, floatify: bool = True, reduction: str = "mean", flatten: bool = True) -> None:
        super().__init__(
            self.torch_loss, axis=axis, flatten=flatten, floatify=floatify, is_2d=False, reduction=reduction
        )


@losses.register()
class BCELossFlat(_NumberLoss):
    """Binary cross entropy of probabilities in [0, 1] with targets 0 or 1."""

    torch_loss, of_probabilities = nn.BCELoss, True


@losses.register()
class MSELossFlat(_NumberLoss):
    """Mean squared error; [batch, 1] and [batch] match.

    Examples:
        >>> MSELossFlat()(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 4]))
        tensor(2.)
    """

    torch_loss = nn.MSELoss


@losses.register()
class L1LossFlat(_NumberLoss):
    """Mean absolute error; [batch, 1] and [batch] match."""

    torch_loss = nn.L1Loss


@losses.register()
class DiceLoss(_OneClass, Recorded):
    """One minus the Dice coefficient, the overlap of prediction and target, for each image and class.

    1 - (2 * Σ p·t + smooth) / (Σ p + Σ t + smooth): p are the probabilities, t is 1 where the target is the class and 0
    elsewhere, and sums are over pixels. Logits are [batch, class, ...], targets [batch, ...] of class indices.

    Args:
        axis: The axis of the classes.
        smooth: Keeps the quotient defined for classes that are neither predicted nor present.
        reduction: "sum" or "mean" over images and classes, or "none": [batch, class].
        square_in_union: Σ p² in place of Σ p.
        ignore_index: Pixels with this target do not count.

    Source: Milletari et al. 2016, arXiv:1606.04797

    Examples:
        >>> DiceLoss()(torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]]), torch.tensor([[0, 1]])) < 1e-6
        tensor(True)
    """

    def __init__(
        self,
        axis: int = 1,
        smooth: float = 1e-6,
        reduction: str = "sum",
        square_in_union: bool = False,
        *,
        ignore_index: int | None = None,
    ) -> None:
        self.axis, self.smooth, self.reduction = axis, smooth, reduction
        self.square_in_union, self.ignore_index = square_in_union, ignore_index

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = plain(pred), plain(target)
        wanted = [size for axis, size in enumerate(pred.shape) if axis != self.axis % pred.ndim]
        if list(target.shape) != wanted:
            raise BadValue(
                "DiceLoss cannot compare predictions and targets of these shapes",
                got=f"predictions {list(pred.shape)}, targets {list(target.shape)}",
                expected=f"targets {wanted}: the shape of the predictions without axis {self.axis}",
            )
        p = self.activation(pred).movedim(self.axis, 1).flatten(2)  # [batch, class, pixel]
        target = target.long().flatten(1)
        counts = torch.ones_like(target) if self.ignore_index is None else (target != self.ignore_index).long()
        t = F.one_hot(target * counts, p.shape[1]).movedim(-1, 1) * counts[:, None]
        p = p * counts[:, None]
        union = ((p**2 if self.square_in_union else p) + t).sum(-1)
        loss = 1 - (2 * (p * t).sum(-1) + self.smooth) / (union + self.smooth)
        return loss.mean() if self.reduction == "mean" else loss.sum() if self.reduction == "sum" else loss

    @property
    def init_args(self) -> dict[str, Any]:
        """The constructor's arguments, as they are now."""
        return {name: getattr(self, name) for name in super().init_args}

    __repr__ = BaseLoss.__repr__


def _weights(values: Tensor | list[float] | None) -> Tensor | None:
    return None if values is None else torch.as_tensor(values, dtype=torch.float32)


@default_losses.register("mask")
def _mask_loss(**details: Any) -> CrossEntropyLossFlat:
    return CrossEntropyLossFlat(**{"axis": 1, **details})


default_losses.add("category", CrossEntropyLossFlat)
default_losses.add("multicategory", BCEWithLogitsLossFlat)
default_losses.add("regression", MSELossFlat)


def default_loss(dls: object) -> Any:
    """A new loss for the targets of `dls`: cross entropy for classes, mean squared error for numbers, …

    Loaders look it up in the registry `default_losses`, which this module fills.

    Args:
        dls: The loaders.

    Returns:
        The loss; None if the data has several targets or does not say what they are, so that `loss_func` must be given.
    """
    return getattr(dls, "loss_func", None)
