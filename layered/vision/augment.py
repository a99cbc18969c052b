"""Augmentation of batches on their device: `aug_transforms`, the transforms it builds, and erasing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from layered.data import Normalize, as_tfms
from layered.foundation import (
    BadValue,
    RandTransform,
    TensorImage,
    Transform,
    checked,
    draw_batch,
    draw_generator,
    tensors_of,
    transforms,
)
from layered.vision.affine import (
    AffineCoordTfm,
    Dihedral,
    Flip,
    MotionArgs,
    RandomResizedCropGPU,
    Rotate,
    Size,
    Warp,
    Zoom,
)
from layered.vision.draws import num_images
from layered.vision.item_transforms import PadMode
from layered.vision.lighting import Brightness, Contrast, LightingTfm

Area = tuple[int, int, int, int]


@checked
def aug_transforms(
    mult: float = 1.0,
    do_flip: bool = True,
    flip_vert: bool = False,
    max_rotate: float = 10.0,
    min_zoom: float = 1.0,
    max_zoom: float = 1.1,
    max_lighting: float = 0.2,
    max_warp: float = 0.2,
    p_affine: float = 0.75,
    p_lighting: float = 0.75,
    xtra_tfms: Transform | Iterable[Transform] | None = None,
    size: Size = None,
    mode: str = "bilinear",
    pad_mode: PadMode | str = PadMode.Reflection,
    align_corners: bool = True,
    batch: bool = False,
    min_scale: float = 1.0,
) -> list[Transform]:
    """Flip, rotate, zoom, warp and change the light: two batch transforms, each with one pass over the pixels.

    Args:
        mult: Multiplies `max_rotate`, `max_lighting` and `max_warp`.
        do_flip: Mirror half of the images left and right.
        flip_vert: With `do_flip`: use all eight symmetries of a square instead.
        max_rotate: Largest angle in degrees, either way.
        min_zoom: Smallest factor by which images are enlarged.
        max_zoom: Largest factor by which images are enlarged.
        max_lighting: Strength of the changes of brightness and contrast, in [0, 1).
        max_warp: Strength of the perspective, in [0, 1).
        p_affine: Share of the images that each geometric change applies to.
        p_lighting: Share of the images that each change of light applies to.
        xtra_tfms: Further batch transforms.
        size: Size of the result: a number or (height, width). Validation batches are only resized.
        mode: Interpolation: "bilinear", "nearest" or "bicubic".
        pad_mode: What lies outside the image: "reflection", "border" or "zeros".
        align_corners: Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
        batch: Draw once for the whole batch, not for each image.
        min_scale: Below 1: crop a random window of at least this share of the image's area.

    Raises:
        BadValue: If `mult * max_lighting` is not in [0, 1), or `min_scale` is below 1 without a `size`.
    """
    how: MotionArgs = {"mode": mode, "pad_mode": pad_mode, "align_corners": align_corners, "batch": batch}
    how["size"] = size if min_scale >= 1 else None  # the crop resizes, and composed sizes must agree
    lights = mult * max_lighting
    if not 0 <= lights < 1:
        raise BadValue("mult * max_lighting is out of range", got=lights, expected="a number in [0, 1)")
    if min_scale < 1 and size is None:
        raise BadValue("min_scale below 1 needs a size to resize the crops to", fix="aug_transforms(size=224, ...)")
    tfms: list[Transform] = []
    if do_flip:
        tfms.append((Dihedral if flip_vert else Flip)(p=0.5, **how))
    if max_warp:
        tfms.append(Warp(magnitude=mult * max_warp, p=p_affine, **how))
    if max_rotate:
        tfms.append(Rotate(max_deg=mult * max_rotate, p=p_affine, **how))
    if (min_zoom, max_zoom) != (1.0, 1.0):
        tfms.append(Zoom(min_zoom=min_zoom, max_zoom=max_zoom, p=p_affine, **how))
    if lights:
        tfms += [light(max_lighting=lights, p=p_lighting, batch=batch) for light in (Brightness, Contrast)]
    if min_scale < 1:
        tfms.append(RandomResizedCropGPU(size, min_scale=min_scale, ratio=(1, 1), mode=mode, batch=batch))
    elif size is not None and not any(isinstance(t, AffineCoordTfm) for t in tfms):
        tfms.append(AffineCoordTfm((), size, mode, pad_mode, align_corners=align_corners))
    return setup_aug_tfms([*tfms, *as_tfms(xtra_tfms)])


def setup_aug_tfms(tfms: Iterable[Transform]) -> list[Transform]:
    """Compose all motions into one transform and all changes of light into another; the rest follows.

    Args:
        tfms: Batch transforms.

    Examples:
        >>> setup_aug_tfms([Brightness(), Flip(), Contrast(), Zoom()])
        [AffineCoordTfm(tfms=[Flip(), Zoom()]), LightingTfm(tfms=[Brightness(), Contrast()])]
    """
    tfms = list(tfms)
    motions = [t for t in tfms if isinstance(t, AffineCoordTfm)]
    lights = [t for t in tfms if isinstance(t, LightingTfm)]
    others = [t for t in tfms if not isinstance(t, (AffineCoordTfm, LightingTfm))]
    composed: list[Transform] = [AffineCoordTfm.compose(motions)] if motions else []
    return [*composed, *([LightingTfm.compose(lights)] if lights else []), *others]


@transforms.register()
class RandomErasing(RandTransform):
    """Fill rectangles with noise (normal, mean 0, standard deviation 1); use it after `Normalize`.

    Args:
        p: Share of the images that are changed.
        sl: Smallest area of all rectangles together, as a share of the image's.
        sh: Largest area of all rectangles together, as a share of the image's.
        min_aspect: Height over width of a rectangle lies between this and its inverse.
        max_count: Largest number of rectangles in an image.

    Source: Zhong et al. 2017, arXiv:1708.04896
    """

    order = 100

    def __init__(
        self, p: float = 0.5, sl: float = 0.0, sh: float = 0.3, min_aspect: float = 0.3, max_count: int = 1
    ) -> None:
        super().__init__(p=p)
        self.sl, self.sh, self.min_aspect, self.max_count = sl, sh, min_aspect, max_count

    def before_call(self, x: object, split_idx: int | None) -> None:
        image = next((o for o in tensors_of(x) if isinstance(o, TensorImage)), None)
        self.do = image is not None
        if image is not None:
            self.draws = draw_batch(num_images(image), size=(3 + 4 * self.max_count,)).tolist()

    def encode_image(self, x: TensorImage) -> Tensor:
        out = x.clone()
        for image, draws in zip(out if out.ndim == 4 else out[None], self.draws, strict=True):
            chosen, count, seed, *boxes = draws
            if chosen < self.p:
                noise = torch.Generator(x.device).manual_seed(int(seed * 2**24))
                self._erase(image, 1 + int(count * self.max_count), boxes, noise)
        return out

    def _erase(self, image: Tensor, count: int, draws: Sequence[float], noise: torch.Generator) -> None:
        height, width = image.shape[-2:]
        for i in range(count):
            area, aspect, col, row = draws[4 * i : 4 * i + 4]
            pixels = (self.sl + area * (self.sh - self.sl)) / count * height * width
            ratio = self.min_aspect ** (1 - 2 * aspect)
            h, w = min(height, round((pixels * ratio) ** 0.5)), min(width, round((pixels / ratio) ** 0.5))
            top, left = int(row * (height - h + 1)), int(col * (width - w + 1))
            _fill_with_noise(image, (top, top + h, left, left + w), noise)


def _fill_with_noise(x: Tensor, area: Area, noise: torch.Generator) -> None:
    top, bottom, left, right = area
    x[..., top:bottom, left:right].normal_(generator=noise)


def cutout_gaussian(x: Tensor, areas: Iterable[Area]) -> Tensor:
    """Images with noise (normal, mean 0, standard deviation 1) in some rectangles.

    Args:
        x: Normalised images, [..., channel, height, width].
        areas: (top, bottom, left, right) of each rectangle, in pixels.

    Examples:
        >>> (cutout_gaussian(torch.zeros(1, 4, 4), [(0, 2, 1, 4)]) != 0).sum()
        tensor(6)
    """
    out, noise = x.clone(), draw_generator(x.device)
    for area in areas:
        _fill_with_noise(out, area, noise)
    return out


def norm_apply_denorm(x: Tensor, f: Callable[[Tensor], Tensor], nrm: Normalize) -> Tensor:
    """Images after a function of normalised ones, back in [0, 1], for a look at what it does.

    Args:
        x: Images in [0, 1], [batch, channel, height, width].
        f: A function of normalised images.
        nrm: How they are normalised.

    Examples:
        >>> halved = norm_apply_denorm(TensorImage(torch.ones(1, 3, 1, 1)), lambda x: x / 2, Normalize([0.5] * 3, [0.5] * 3))
        >>> halved.flatten()
        TensorImage([0.7500, 0.7500, 0.7500])
    """
    return nrm.decode(f(nrm(x))).clamp(0, 1)  # type: ignore[no-any-return]  # images, as they were
