"""`SegmentationDataLoaders`: loaders of images with a class for each pixel, in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from layered.data import DataBlock, DataLoaders, RandomSplitter, Tfms
from layered.foundation import StrPath
from layered.vision.data import recipe
from layered.vision.image_blocks import ImageBlock, MaskBlock
from layered.vision.types import PILBase, PILImage


class SegmentationDataLoaders(DataLoaders):
    """Loaders of images, each with a mask: the class of each pixel."""

    @classmethod
    @recipe
    def from_label_func(
        cls,
        path: StrPath,
        fnames: Sequence[StrPath],
        label_func: Callable[[Any], Any],
        valid_pct: float = 0.2,
        seed: int | None = None,
        codes: Sequence[str] | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """Masks by a function of the image's path. The body is a `DataBlock` to copy.

            SegmentationDataLoaders.from_label_func(
                path, get_image_files(path / "images"), lambda file: path / "labels" / f"{file.stem}.png",
                codes=["sky", "road", "car"], item_tfms=Resize(224), batch_tfms=aug_transforms(),
            )

        Args:
            path: The folder of the images.
            fnames: The files.
            label_func: Returns the mask for a path: a file, or anything `PILMask.create` reads.
            valid_pct: Share of the images for validation, drawn at random.
            seed: Seed of that draw.
            codes: Names of the classes, in order; they say how many a model has to tell apart.
            item_tfms: Transforms of single images, on the CPU. Without one, images must have the same size.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.
        """
        block = DataBlock(
            blocks=(ImageBlock(img_cls), MaskBlock(codes)),
            splitter=RandomSplitter(valid_pct, seed=seed),
            get_y=label_func,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, fnames, **kwargs)
