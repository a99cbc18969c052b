"""From raw values to what a model computes with: tensors, floats, standard scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import (
    BadArgument,
    BadValue,
    Pipeline,
    Registry,
    TensorImage,
    TensorMask,
    Transform,
    describe,
    functions,
    listify,
    noop,
    tensor,
    tensors_of,
    transforms,
    warn,
)

Tfms = (
    Callable[..., Any] | Sequence[Callable[..., Any]] | None
)  # transforms, their classes, functions; one, several or none

for _function in (tensor, noop, float, int, str):  # as steps of pipelines
    functions.add(_function.__name__, _function)

foreign_transforms: Registry[Callable[[Any, str], Transform]] = Registry("library of transforms")
"""By the name of a library: a function that makes a transform of this library of one of that, for a slot of a loader."""


def as_tfms(tfms: object) -> list[Any]:
    """Transforms in a list. What can be called is one transform, though it may be a sequence too: `v2.Compose([...])`.

    Args:
        tfms: Transforms: one, several, a pipeline or none.
    """
    return [tfms] if callable(tfms) and not isinstance(tfms, Pipeline) else listify(tfms)


def slot_transforms(tfms: object, slot: str) -> Any:
    """The transforms given for a slot of a loader, those of other libraries adapted (or refused) as is registered.

    Args:
        tfms: A pipeline, or transforms: one, several or none.
        slot: "after_item", "before_batch" or "after_batch".
    """
    if isinstance(tfms, Pipeline):
        return tfms
    return [_adapted(tfm, slot) for tfm in as_tfms(tfms)]


def _adapted(tfm: object, slot: str) -> Any:
    steps = tfm.modules() if isinstance(tfm, nn.Sequential) else [tfm]
    kinds = [step if isinstance(step, type) else type(step) for step in steps]
    libraries = [base.__module__.partition(".")[0] for kind in kinds for base in kind.__mro__]
    library = next((name for name in libraries if name in foreign_transforms), None)
    if library is None or isinstance(tfm, Transform):
        return tfm
    if isinstance(tfm, type):
        raise BadArgument(f"{tfm.__name__} of {library} is a class", fix=f"call it: {tfm.__name__}(...)")
    return foreign_transforms.get(library)(tfm, slot)


@transforms.register()
class ToTensor(Transform):
    """Images to uint8 tensors; each application adds overloads for its own types."""

    order = 5


@transforms.register()
class IntToFloatTensor(Transform):
    """Images from bytes to floats in [0, 1], as those of 16 bits; masks to int64.

    Args:
        div: The divisor of images of 8 bits; of those of 16 bits, 257 times as much, for white is 65,535.
        div_mask: The divisor of masks, rounding down: 255 for masks stored as 0 and 255.
    """

    order = 10

    def __init__(self, div: float = 255.0, div_mask: int = 1) -> None:
        super().__init__()
        self.div, self.div_mask = div, div_mask

    def setup_loader(self, dl: Any) -> None:
        if self.div_mask > 1:
            masks = [o for o in tensors_of(dl.one_batch()) if isinstance(o, TensorMask)]
            largest = max((int(mask.max()) for mask in masks), default=0)
            if 0 < largest < self.div_mask:
                raise BadValue(
                    f"div_mask={self.div_mask} makes all classes of the masks class 0",
                    got=f"masks with values up to {largest}",
                    expected=f"values that are multiples of {self.div_mask}",
                    fix="leave div_mask out: the values are classes already, as those of 1-bit images and booleans are",
                )

    def encode_image(self, x: TensorImage) -> Tensor:
        return x.to(torch.float32).div_(self.div * 257 if x.dtype is torch.uint16 else self.div)

    def encode_mask(self, x: TensorMask) -> Tensor:
        return x.to(torch.int64) if self.div_mask == 1 else torch.div(x.long(), self.div_mask, rounding_mode="floor")

    def decode_image(self, x: TensorImage) -> Tensor:
        return x.clamp(0.0, 1.0) if self.div else x


def broadcast_vec(dim: int, ndim: int, *values: object) -> list[Tensor]:
    """Reshape each vector to broadcast along one axis: [1, n, 1, 1] for `dim=1` and `ndim=4`.

    Args:
        dim: The axis of the numbers.
        ndim: The number of axes.
        values: The vectors.

    Returns:
        A float32 tensor for each vector.
    """
    shape = [1] * ndim
    shape[dim] = -1
    return [torch.as_tensor(v, dtype=torch.float32).reshape(shape) for v in values]


@transforms.register()
class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, for each channel; images [batch, channel, height, width].

    Args:
        mean: The mean of each channel, for images in [0, 1]; by default fitted on one batch.
        std: The standard deviation of each channel, for images in [0, 1]; by default fitted on one batch, where a constant
            channel has the scale 1.
        axes: The axes the statistics are taken over.

    Examples:
        >>> Normalize.from_stats([0.5], [0.25])(TensorImage(torch.ones(1, 1, 1, 1)))
        TensorImage([[[[2.]]]])
    """

    order = 99
    fits = ("mean", "std")

    def __init__(self, mean: object = None, std: object = None, axes: tuple[int, ...] = (0, 2, 3)) -> None:
        super().__init__()
        self.mean = None if mean is None else _column(mean)
        self.std = None if std is None else _column(std)
        self.axes = tuple(axes)

    @classmethod
    def from_stats(cls, mean: object, std: object, dim: int = 1, ndim: int = 4, cuda: bool = True) -> Normalize:
        """From known statistics of each channel, such as `imagenet_stats`.

        Args:
            mean: The mean of each channel, for images in [0, 1].
            std: The standard deviation of each channel.
            dim: The channel axis of a batch.
            ndim: The number of axes of a batch.
            cuda: Ignored, for compatibility: the statistics move to the device of the batch.
        """
        mean, std = broadcast_vec(dim, ndim, mean, std)
        return cls(mean, std)

    @property
    def means(self) -> Any:
        """The mean of each channel, or of each continuous column of a table."""
        return self.mean

    @property
    def stds(self) -> Any:
        """The standard deviation of each channel, or of each continuous column of a table."""
        return self.std

    def setup_loader(self, dl: Any) -> None:
        if self.mean is None or self.std is None:
            x = dl.one_batch()[0].as_subclass(Tensor).float()
            self.mean = x.mean(self.axes, keepdim=True).cpu()
            std = x.std(self.axes, keepdim=True).cpu()
            is_constant = std <= 4 * torch.finfo(std.dtype).eps * self.mean.abs()  # but for rounding errors
            self.std = torch.where(is_constant, 1.0, std + 1e-7)
            if is_constant.any():
                channels = is_constant.flatten().nonzero().flatten().tolist()
                warn(f"all pixels of the batch that Normalize was fitted to are the same in the channels {channels}")

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.std is None:
            raise BadValue("Normalize has no statistics yet", fix="give mean and std, or fit it as one of batch_tfms")
        # the axes are compared from the last: a mean for each channel has to meet as many channels
        if any(n not in (1, m) for n, m in zip(reversed(self.mean.shape), reversed(x.shape), strict=False)):
            count, channels = self.mean.numel(), x.shape[-3] if x.ndim >= 3 else x.shape
            raise BadValue(
                "Normalize has the statistics of another number of channels",
                got=f"{count} means, for images of {channels} channel{'s' if channels != 1 else ''}, {describe(x)}",
                expected="one mean and one standard deviation for each channel, or one for all",
                fix="for grey images Normalize.from_stats(*mnist_stats), or Normalize(), which is fitted to the images; "
                "for colour ImageBlock, whose PILImage has three channels",
            )
        if self.mean.device != x.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        return self.mean, self.std

    def encode_image(self, x: TensorImage) -> Tensor:
        mean, std = self._statistics(x)
        return (x - mean).div_(std)

    def decode_image(self, x: TensorImage) -> Tensor:
        mean, std = self._statistics(x)
        return (x * std).add_(mean)


def _column(values: object) -> Tensor:
    numbers = torch.as_tensor(values, dtype=torch.float32)
    return numbers.reshape(1, -1, 1, 1) if numbers.ndim == 1 else numbers
