"""Images into an exported graph: a script reads, turns and cuts them, and the graph takes their bytes and normalizes them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from layered.data import IntToFloatTensor, Normalize, TfmdDL, ToTensor, as_dataset, pick
from layered.foundation import Pipeline, TensorImageBase, Transform, plain
from layered.loop import Loop
from layered.training.graphs import GraphInput, Preparation, classes_of, graph_inputs, not_in_script
from layered.vision.affine import AffineCoordTfm, affine_grid, sampled
from layered.vision.item_transforms import (
    NUMPY_PAD,
    AlignMasks,
    CropPad,
    RandomCrop,
    RandomResizedCrop,
    RatioResize,
    Resize,
    ResizeMethod,
)
from layered.vision.point_transforms import PointScaler
from layered.vision.types import PILImage, PILImageBW, image_class

Step = Callable[[Tensor], Tensor]
NEAR = 0.02  # how far predictions may be off where a script rounds pixels in another way than torch does


@graph_inputs.register("vision.images")
def image_input(loop: Loop, loader: Any) -> GraphInput | None:
    """The input of a model of images: bytes, which the graph turns into standard scores.

    Args:
        loop: The learner.
        loader: A loader of images.
    """
    dataset = as_dataset(loader.dataset) if isinstance(loader, TfmdDL) else None
    if dataset is None or dataset.n_inp != 1 or not dataset.columns:
        return None
    column = dataset.columns[0]
    kinds = [kind for step in column.tfms if (kind := image_class(step)) is not None]
    if len(kinds) != 1:
        return None
    raw = loader.new(after_batch=[])
    example = raw.one_batch()[0]
    found = [_in_graph(step, example) for step in _of_validation(loader.after_batch)]
    unknown = [step for step, (f, _) in zip(_of_validation(loader.after_batch), found, strict=True) if f is None]
    if unknown or not isinstance(example, TensorImageBase):
        not_in_script(unknown, "images")
        return None
    steps, said = [f for f, _ in found if f is not None], [text for _, text in found]

    def source(position: int) -> Any:
        item = Pipeline(column.tfms.fs[: column.getters], split_idx=1)(pick(column.items, position))
        return item if isinstance(item, (str, os.PathLike)) else kinds[0].create(item)

    rest = column.tfms.fs[column.getters :]
    by_script = [(step, _in_script(step)) for step in (*rest, *_of_validation(loader.after_item))]
    missing = [step for step, known in by_script if known is None]
    if missing or kinds[0] not in (PILImage, PILImageBW):
        not_in_script(missing or [kinds[0].__name__], "images")
    prepare = None if missing or kinds[0] not in (PILImage, PILImageBW) else PREPARE
    return GraphInput(
        names=("image",),
        feed=lambda batch: (plain(batch[0]),),
        enter=lambda x: (_through(steps, x),),
        loader=raw,
        finish=loader.after_batch,
        axes=()
        if any(map(_resizes, loader.after_batch)) or _pads_by_size(loop.model)
        else ({2: "height", 3: "width"},),
        settings={"mode": kinds[0].read_mode, "steps": [known for _, known in by_script if known]},
        in_graph=tuple(text for text in said if text),
        prepare=prepare,
        source=source,
        classes=classes_of(loader),
    )


def _of_validation(steps: Any) -> list[Transform]:
    """The steps that are applied to validation items."""
    return [step for step in steps if step.split_idx in (None, 1)]


def _resizes(step: Transform) -> bool:
    return isinstance(step, AffineCoordTfm) and step.size is not None


def _pads_by_size(model: nn.Module) -> bool:
    """Whether layers pad as TensorFlow's do: by amounts that hang on the size, so that tracing for any size takes for ever."""
    return any(type(m).__module__.startswith("timm.") and type(m).__name__.endswith("Same") for m in model.modules())


def _through(steps: Sequence[Step], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


def _in_graph(step: Transform, example: Tensor) -> tuple[Step | None, str]:
    """What a batch transform does to validation images, as a function of plain tensors, and in words; None if unknown."""
    if type(step) is IntToFloatTensor:
        div = step.div * 257 if example.dtype is torch.uint16 else step.div
        return lambda x: x.to(torch.float32) / div, f"bytes / {div:g}"
    if type(step) is Normalize and isinstance(step.mean, Tensor) and isinstance(step.std, Tensor):
        mean, std = step.mean.cpu(), step.std.cpu()
        numbers = " / ".join(str([round(n, 4) for n in x.flatten().tolist()]) for x in (mean, std))
        return lambda x: (x - mean) / std, f"(pixels - mean) / std: {numbers}"
    if isinstance(step, AffineCoordTfm) and step.valid_mat(example) is None:
        if step.size is None:
            return lambda x: x, ""
        grid = affine_grid(torch.eye(3)[None], step.size, step.align_corners, step.is_projective)
        how: dict[str, Any] = {"mode": step.mode, "pad_mode": step.pad_mode, "align_corners": step.align_corners}
        return lambda x: sampled(
            x, grid.expand(x.shape[0], -1, -1, -1), **how
        ), f"resized to {step.size[0]}×{step.size[1]}"
    return None, ""


def _in_script(step: Transform) -> dict[str, Any] | None:
    """What an item transform does to validation images, as the script knows it: {} for nothing, None if unknown."""
    if image_class(step) is not None or type(step) in (ToTensor, AlignMasks, PointScaler):
        return {}
    known: dict[str, Any] = {"up": 1, "pad": "constant", "resample": int(Image.Resampling.BILINEAR), "gap": None}
    if isinstance(step, (Resize, RandomResizedCrop, RatioResize)):
        known |= {"resample": int(step.resamples[0]), "gap": step.reducing_gap}
    if isinstance(step, (Resize, RandomCrop, CropPad)):
        known["pad"] = NUMPY_PAD[step.pad_mode]
    if type(step) is RatioResize:
        return {**known, "method": "ratio", "longest": step.max_sz}
    if type(step) is Resize:
        return {**known, "method": str(ResizeMethod(step.method)), "size": list(step.shape)}
    if type(step) is RandomResizedCrop:
        extra = math.ceil(max(step.shape) * step.val_xtra / 8) * 8
        return {**known, "method": "extra", "extra": extra, "size": list(step.shape)}
    if type(step) is RandomCrop or type(step) is CropPad:
        return {**known, "method": "centre", "up": int(type(step) is RandomCrop), "size": list(step.shape)}
    return None


# -- what is copied into the script


def fitted(image: Image.Image, step: dict[str, Any], orientation: int) -> Image.Image:
    """An image at the size that a step of the learner gives it.

    Args:
        image: The image; a JPEG that is not decoded yet is decoded at a part of its size where that is enough.
        step: The step.
        orientation: How the camera was held, in EXIF's numbering.
    """
    w, h = image.size[::-1] if orientation > 4 else image.size
    if step["method"] == "ratio":
        scale = step["longest"] / max(w, h)
        height, width = max(1, int(h * scale)), max(1, int(w * scale))
    else:
        height, width = step["size"]
    whole, box = (width, height), (0, 0, w, h)
    if step["method"] == "crop":
        scale = min(w / width, h / height)
        box = centred(w, h, max(1, round(scale * width)), max(1, round(scale * height)), step["up"])
    elif step["method"] == "pad":
        scale = min(width / w, height / h)
        whole = (max(1, round(w * scale)), max(1, round(h * scale)))
    elif step["method"] == "extra":
        whole = (width + step["extra"], height + step["extra"])
    elif step["method"] == "centre":
        whole = (w, h)
    spare = min((box[2] - box[0]) / whole[0], (box[3] - box[1]) / whole[1]) / (step["gap"] or math.inf)
    by = next((n for n in (8, 4, 2) if n <= spare), 1)
    if by > 1 and image.format == "JPEG" and image.mode in ("L", "RGB"):
        image.draft(None, (image.width // by, image.height // by))
    image = ImageOps.exif_transpose(image)
    by = round(w / image.width)
    # the part of a pixel at the end of what was decoded is at the front of an image that is turned
    x0 = image.width - w / by if orientation in (2, 3, 6, 7) else 0
    y0 = image.height - h / by if orientation in (3, 4, 7, 8) else 0
    left, top, right, bottom = box[0] / by + x0, box[1] / by + y0, box[2] / by + x0, box[3] / by + y0
    if (*image.size, 0, 0) != (*whole, *box[:2]):
        x, y = math.floor(left), math.floor(top)
        part = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
        image = part.resize(whole, step["resample"], (left - x, top - y, right - x, bottom - y))
    left, top, right, bottom = centred(*image.size, width, height, step["up"])
    margins = [(max(0, -top), max(0, bottom - image.height)), (max(0, -left), max(0, right - image.width)), (0, 0)]
    image = image.crop((max(0, left), max(0, top), min(right, image.width), min(bottom, image.height)))
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, margins[: pixels.ndim], mode=step["pad"]))


def centred(w: int, h: int, width: int, height: int, up: int) -> tuple[int, int, int, int]:
    """The box of a window in the middle of an image; what is larger than the image begins outside.

    Args:
        w: Width of the image.
        h: Its height.
        width: Width of the window.
        height: Its height.
        up: Whether half a pixel is rounded up.
    """
    left, top = ((n + up) // 2 if n > 0 else -((1 - n) // 2) for n in (w - width, h - height))
    return left, top, left + width, top + height


def seen(image: Image.Image, mode: str) -> Image.Image:
    """An image in the mode of the learner, with transparency on white.

    Args:
        image: The image.
        mode: "RGB" or "L".
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) * (255 / 65535)).round().astype(np.uint8))
    if image.mode[0] in "IF":
        raise ValueError(f"an image of the mode {image.mode}: convert it to 8 bits first")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert(mode)


def prepare_images(items: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The graph's input, bytes [batch, channel, height, width], from image files or images of PIL.

    Args:
        items: The images.
        settings: Mode and steps of the learner.
    """
    made = []
    for item in items:
        image = item if isinstance(item, Image.Image) else Image.open(item)
        if not (image.format == "JPEG" and image.mode in ("L", "RGB") and settings["steps"]):
            image = seen(ImageOps.exif_transpose(image), settings["mode"])
        for step in settings["steps"]:
            image = fitted(image, step, image.getexif().get(274, 1))
        pixels = np.asarray(seen(ImageOps.exif_transpose(image), settings["mode"]))
        made.append(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])
    return {"image": np.stack(made)}


PREPARE = Preparation(
    (centred, fitted, seen, prepare_images),
    "from PIL import Image, ImageOps\n",
    ("pillow",),
    "images",
    "words",
    NEAR,
)
