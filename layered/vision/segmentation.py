"""`SegmentationDataLoaders`: loaders of images with a class for each pixel, in one line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from layered.data import ColReader, ColSplitter, DataBlock, DataLoaders, RandomSplitter, Tfms, get_image_files, recipe
from layered.files import read_lines
from layered.foundation import BadValue, Frame, NotFoundPath, Path, StrPath
from layered.vision.image_blocks import ImageBlock, MaskBlock
from layered.vision.types import PILBase, PILImage

Codes = Sequence[str] | StrPath
"""Names of the classes of pixels, in order, or a text file with a name in each line."""


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
        codes: Codes | None = None,
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
            codes: Names of the classes, in order, or a text file with a name in each line; they say how many a model has to
                tell apart.
            item_tfms: Transforms of single images, on the CPU. Without one, images must have the same size.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.
        """
        block = DataBlock(
            blocks=(ImageBlock(img_cls), MaskBlock(read_codes(path, codes))),
            splitter=RandomSplitter(valid_pct, seed=seed),
            get_y=label_func,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, fnames, **kwargs)

    @classmethod
    def from_folder(
        cls,
        path: StrPath,
        images: StrPath = "images",
        labels: StrPath = "labels",
        suff: str = "",
        codes: Codes | None = None,
        **kwargs: Any,
    ) -> Any:
        """Images in one folder, and masks with the same names in another.

            SegmentationDataLoaders.from_folder(path, suff="_P", codes="codes.txt", item_tfms=Resize(224))

        Args:
            path: The folder of both.
            images: The folder of the images in it; its subfolders are searched too.
            labels: That of the masks, with the same subfolders.
            suff: What the names of masks have after those of their images: "_P" for "cat_P.png" beside "cat.jpg".
            codes: Names of the classes, in order, or a text file with a name in each line.
            kwargs: As for `from_label_func`: `valid_pct`, `item_tfms`, ….

        Raises:
            NotFoundPath: A folder does not exist, or an image has no mask.
        """
        (sources, masks) = (Path(path) / folder for folder in (images, labels))
        for folder in (sources, masks):
            if not folder.is_dir():
                raise NotFoundPath(
                    f"folder '{folder}' does not exist",
                    expected="a folder of images, and one of masks",
                    fix="pass their names: images=..., labels=...",
                )
        of_name: dict[Path, Path] = {file.relative_to(masks).with_suffix(""): file for file in get_image_files(masks)}

        def mask_of(file: Path) -> Path:
            name = file.relative_to(sources)
            mask = of_name.get(name.with_name(name.stem + suff))
            if mask is None:
                raise NotFoundPath(
                    f"no mask for '{file}'",
                    expected=f"'{masks / name.with_name(name.stem + suff)}' with any suffix of images",
                    fix="remove the image; or suff= what names of masks have after those of images",
                )
            return mask

        files = get_image_files(sources)
        for file in files:
            mask_of(file)
        return cls.from_label_func(path, files, mask_of, codes=codes, **kwargs)

    @classmethod
    @recipe
    def from_df(
        cls,
        df: Frame,
        path: StrPath = ".",
        valid_pct: float = 0.2,
        seed: int | None = None,
        fn_col: int | str = 0,
        mask_col: int | str = 1,
        folder: StrPath | None = None,
        mask_folder: StrPath | None = None,
        valid_col: int | str | None = None,
        codes: Codes | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """File names of images and masks from the columns of a DataFrame.

        Args:
            df: The table.
            path: The folder that file names start from.
            valid_pct: Share of the images for validation, drawn at random.
            seed: Seed of that draw.
            fn_col: The column of the images.
            mask_col: The column of their masks.
            folder: A folder between `path` and the names of images.
            mask_folder: The same for masks.
            valid_col: The column that is true for validation images, in place of `valid_pct`.
            codes: Names of the classes, in order, or a text file with a name in each line.
            item_tfms: Transforms of single images, on the CPU. Without one, images must have the same size.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.
        """
        block = DataBlock(
            blocks=(ImageBlock(img_cls), MaskBlock(read_codes(path, codes))),
            get_x=ColReader(fn_col, pref=Path(path) / (folder or ".")),
            get_y=ColReader(mask_col, pref=Path(path) / (mask_folder or ".")),
            splitter=RandomSplitter(valid_pct, seed=seed) if valid_col is None else ColSplitter(valid_col),
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, df, **kwargs)


def read_codes(path: StrPath, codes: Codes | None) -> list[str] | None:
    """The names of the classes of pixels.

    Args:
        path: The folder that the name of a file starts from.
        codes: The names, or a text file with a name in each line; None stays None.

    Raises:
        BadValue: The file has no names, or one of them twice.
        NotFoundPath: The file does not exist.
        BadFile: It is not text in UTF-8, or cannot be read.
    """
    if codes is None or not isinstance(codes, (str, os.PathLike)):
        return None if codes is None else [str(code) for code in codes]
    file = Path(path) / codes
    names = read_lines(file)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or twice:
        raise BadValue(
            f"'{file}' does not list the classes",
            got=f"{twice[0]!r} twice" if twice else "an empty file",
            expected="a different name in each line",
        )
    return names
