"""Changing the light of a batch: brightness, contrast and saturation on the logits of the pixels, hue on the colour wheel.

In logits no change can leave [0, 1]: black stays black and white stays white. Changes in sequence share one conversion.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from layered.foundation import BadValue, RandTransform, TensorImage, functions, noop, tensors_of, transforms
from layered.vision.draws import Draw, given_or_drawn, mask_tensor

Change = Callable[[Tensor], Tensor]
_CLOSEST = 1e-7  # pixels are clamped this far from 0 and 1, whose logits are infinite


def lighting(x: Tensor, change: Change) -> Tensor:
    """Apply `change` to the logits of pixels; the result is in [0, 1] again.

    Args:
        x: Pixels in [0, 1], of any shape.
        change: A function of the logits; it may work in place.
    """
    return change(torch.logit(x, _CLOSEST)).sigmoid_()


def hsv(x: Tensor, change: Change) -> Tensor:
    """Apply `change` to hue, saturation and value; the result is red, green and blue again. Grey images stay as they are.

    Args:
        x: Pixels in [0, 1], [..., channel, height, width].
        change: A function of hue, saturation and value, [..., 3, height, width], each in [0, 1].
    """
    return hsv2rgb(change(rgb2hsv(x))) if x.shape[-3] == 3 else x


def grayscale(x: Tensor) -> Tensor:
    """The luminance of colours (ITU-R BT.601): [..., 1, height, width].

    Args:
        x: Red, green and blue, [..., 3, height, width].
    """
    red, green, blue = x.unbind(-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def rgb2hsv(x: Tensor) -> Tensor:
    """Hue, saturation and value, each in [0, 1]: [..., 3, height, width].

    Args:
        x: Red, green and blue in [0, 1], [..., 3, height, width].
    """
    red, green, blue = x.unbind(-3)
    value, which = x.max(-3)
    span = value - x.amin(-3)
    third = span.clamp_min(_CLOSEST)
    sectors = torch.stack(((green - blue) / third, (blue - red) / third + 2, (red - green) / third + 4), dim=-3)
    hue = sectors.gather(-3, which.unsqueeze(-3)).squeeze(-3) / 6 % 1
    return torch.stack((hue, span / value.clamp_min(_CLOSEST), value), dim=-3)


def hsv2rgb(x: Tensor) -> Tensor:
    """Red, green and blue in [0, 1]: [..., 3, height, width].

    Args:
        x: Hue, saturation and value in [0, 1], [..., 3, height, width].
    """
    hue, saturation, value = x.unbind(-3)
    sectors = torch.stack([(hue * 6 + n) % 6 for n in (5, 3, 1)], dim=-3)
    share = torch.minimum(sectors, 4 - sectors).clamp(0, 1)
    return value.unsqueeze(-3) * (1 - saturation.unsqueeze(-3) * share)


def _for_pixels(amount: Tensor, pixels: Tensor) -> Tensor:
    """[batch] to [batch, 1, 1, 1], on the device of `pixels`."""
    return amount.to(pixels.device, non_blocking=True).reshape(-1, *[1] * (pixels.ndim - 1))


class ColourTfm(RandTransform):
    """Base of transforms of an image's colours, in training only. Masks stay as they are."""

    order = 40
    change: Change

    def draw_change(self, x: Tensor) -> Change:
        """Draw for each image of `x`, and return the function that changes the pixels.

        Args:
            x: The batch, [batch, channel, height, width].
        """
        raise NotImplementedError

    def before_call(self, x: object, split_idx: int | None) -> None:
        image = next((o for o in tensors_of(x) if isinstance(o, TensorImage)), None)
        self.do = image is not None
        if image is not None:
            if not image.is_floating_point():
                raise BadValue(
                    f"{type(self).__name__} needs floats in [0, 1]",
                    got=image.dtype,
                    fix="apply IntToFloatTensor() first",
                )
            self.change = self.draw_change(image)


@transforms.register()
class SpaceTfm(ColourTfm):
    """Several changes of an image's colours in one: images are converted to another space and back once.

    Args:
        fs: The changes, in order: functions of the converted pixels, or transforms that work in the same space.
        space_fn: Converts pixels, applies a function and converts them back: `lighting`, or one like it.

    Raises:
        BadValue: A transform works in another space.

    Examples:
        >>> halved = SpaceTfm([lambda logits: logits / 2], lighting)
        >>> halved(TensorImage(torch.full((1, 3, 1, 1), 0.8)), split_idx=0).flatten()
        TensorImage([0.6667, 0.6667, 0.6667])
    """

    def __init__(self, fs: Sequence[SpaceTfm | Change], space_fn: Callable[[Tensor, Change], Tensor]) -> None:
        super().__init__()
        self.tfms, self.space_fn = list(fs), space_fn
        for f in self.tfms:
            if isinstance(f, SpaceTfm) and f.space_fn is not space_fn:
                raise BadValue(
                    f"{type(f).__name__} changes colours in another space than this {type(self).__name__}",
                    fix=f"give it by itself, after this one: batch_tfms=[..., {f!r}]",
                )

    def draw_change(self, x: Tensor) -> Change:
        changes = [f.draw_change(x) if isinstance(f, SpaceTfm) else f for f in self.tfms]
        return lambda pixels: functools.reduce(lambda z, change: change(z), changes, pixels)

    def encode_image(self, x: TensorImage) -> Tensor:
        return self.space_fn(x, self.change)


@transforms.register()
class LightingTfm(SpaceTfm):
    """Several changes of light in one: images are converted to logits and back once.

    Args:
        tfms: The changes, in order: transforms such as `Brightness`, or functions of logits.
    """

    def __init__(self, tfms: Sequence[SpaceTfm | Change] = ()) -> None:
        super().__init__(tfms, lighting)

    @classmethod
    def compose(cls, tfms: Sequence[LightingTfm]) -> LightingTfm:
        """One transform that does what `tfms` do in sequence.

        Args:
            tfms: The changes, in order.
        """
        return cls([part for t in tfms for part in (t.tfms if type(t) is LightingTfm else [t])])


@transforms.register()
class HSVTfm(SpaceTfm):
    """Several changes of hue, saturation and value in one: images are converted and back once. Grey ones stay as they are.

    Args:
        tfms: The changes, in order: transforms such as `Hue`, or functions of pixels in that space.

    Examples:
        >>> HSVTfm([Hue(draw=0.5, p=1.0), Hue(draw=0.5, p=1.0)])
        HSVTfm(tfms=[Hue(p=1.0, draw=0.5), Hue(p=1.0, draw=0.5)])
    """

    def __init__(self, tfms: Sequence[SpaceTfm | Change] = ()) -> None:
        super().__init__(tfms, hsv)


@transforms.register()
class Brightness(LightingTfm):
    """Make images brighter or darker.

    Args:
        max_lighting: Strength, in [0, 1): a middle grey, 0.5, ends between (1 - max_lighting) / 2 and (1 + max_lighting) / 2.
        p: Share of the images that are changed.
        draw: What a middle grey becomes: 0.5 changes nothing; drawn if not given.
        batch: Draw once for the whole batch.
    """

    def __init__(self, max_lighting: float = 0.2, p: float = 0.75, draw: Draw = None, batch: bool = False) -> None:
        super().__init__()
        self.max_lighting, self.p, self.given, self.batch = max_lighting, p, draw, batch

    def draw_change(self, x: Tensor) -> Change:
        low, high = 0.5 * (1 - self.max_lighting), 0.5 * (1 + self.max_lighting)
        amount = mask_tensor(given_or_drawn(x, self.given, low, high, self.batch), self.p, 0.5, self.batch).logit()
        return lambda logits: logits.add_(_for_pixels(amount, logits))


@transforms.register()
class Contrast(LightingTfm):
    """Raise or lower the contrast of images.

    Args:
        max_lighting: Strength, in [0, 1): logits are multiplied by a factor between 1 - max_lighting and
            1 / (1 - max_lighting), uniform on a log scale.
        p: Share of the images that are changed.
        draw: The factor: 1 changes nothing; drawn if not given.
        batch: Draw once for the whole batch.
    """

    def __init__(self, max_lighting: float = 0.2, p: float = 0.75, draw: Draw = None, batch: bool = False) -> None:
        super().__init__()
        self.max_lighting, self.p, self.given, self.batch = max_lighting, p, draw, batch

    def draw_factor(self, x: Tensor) -> Tensor:
        """The factor for each image: [batch].

        Args:
            x: The batch, [batch, channel, height, width].
        """
        if self.given is None:
            widest = -math.log(1 - self.max_lighting)
            factor = given_or_drawn(x, None, -widest, widest, self.batch).exp()
        else:
            factor = given_or_drawn(x, self.given, 1.0, 1.0)
        return mask_tensor(factor, self.p, 1.0, self.batch)

    def draw_change(self, x: Tensor) -> Change:
        factor = self.draw_factor(x)
        return lambda logits: logits.mul_(_for_pixels(factor, logits))


@transforms.register()
class Saturation(Contrast):
    """Make colours stronger or paler. Grey images stay as they are.

    Args:
        max_lighting: Strength, as for `Contrast`.
        p: Share of the images that are changed.
        draw: The factor: 1 changes nothing, 0 makes an image grey; drawn if not given.
        batch: Draw once for the whole batch.
    """

    def draw_change(self, x: Tensor) -> Change:
        factor = self.draw_factor(x)
        if x.shape[-3] != 3:
            return noop
        return lambda logits: torch.lerp(grayscale(logits), logits, _for_pixels(factor, logits))


@transforms.register()
class Hue(HSVTfm):
    """Shift colours along the colour wheel. Grey images stay as they are.

    Args:
        max_hue: Largest shift in turns, either way.
        p: Share of the images that are changed.
        draw: The shift in turns: 0 or 1 changes nothing; drawn if not given.
        batch: Draw once for the whole batch.
    """

    def __init__(self, max_hue: float = 0.1, p: float = 0.75, draw: Draw = None, batch: bool = False) -> None:
        super().__init__()
        self.max_hue, self.p, self.given, self.batch = max_hue, p, draw, batch

    def draw_change(self, x: Tensor) -> Change:
        turns = mask_tensor(
            given_or_drawn(x, self.given, -self.max_hue, self.max_hue, self.batch), self.p, 0.0, self.batch
        )

        def turn(pixels: Tensor) -> Tensor:
            hue, saturation, value = pixels.unbind(-3)
            hue = (hue + _for_pixels(turns, pixels).squeeze(-3)) % 1
            return torch.stack((hue, saturation, value), dim=-3)

        return turn


for _space in (lighting, hsv):
    functions.add(f"vision.{_space.__name__}", _space)
