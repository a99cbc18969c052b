"""`ImageDataLoaders`: loaders of images in one line, for the usual layouts. Each body is a `DataBlock` to copy."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layered.data import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    DataLoaders,
    GrandparentSplitter,
    MultiCategoryBlock,
    RandomSplitter,
    RegexLabeller,
    RegressionBlock,
    Tfms,
    TransformBlock,
    block_of_labels,
    check_folders,
    csv_option_names,
    csv_options,
    get_image_files,
    loader_arguments,
    parent_label,
    read_labels,
    recipe,
)
from layered.foundation import (
    BadValue,
    Frame,
    L,
    Path,
    StrPath,
    lazy,
    listify,
    names_of,
    refuse_unknown,
    using_attr,
)
from layered.vision.image_blocks import ImageBlock
from layered.vision.types import PILBase, PILImage

pd = lazy("pandas")

Block = TransformBlock | Callable[[], TransformBlock]


class ImageDataLoaders(DataLoaders):
    """Loaders of images, each with a label, several labels or a number.

    All methods pass further keywords on to `DataLoaders.from_dsets`: `bs`, `val_bs`, `num_workers`, `device`, `on_bad`,
    `cache`, ….
    Models and exports of learners on these loaders go to the working directory, never into the folder of the images.
    """

    @classmethod
    @recipe
    def from_folder(
        cls,
        path: StrPath,
        train: str = "train",
        valid: str = "valid",
        valid_pct: float | None = None,
        seed: int | None = None,
        vocab: Sequence[Any] | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """Labels by folder: path/train/cat/1.jpg and path/valid/cat/2.jpg, or path/cat/1.jpg with `valid_pct`.

        Args:
            path: The folder.
            train: Name of the folder with the training images.
            valid: Name of the folder with the validation images.
            valid_pct: Share of the images for validation, drawn at random, in place of the two folders.
            seed: Seed of that draw.
            vocab: The labels, in order; by default all labels of the training images, sorted.
            item_tfms: Transforms of single images, on the CPU: `Resize(224)`. Without one, images must have the same size.
            batch_tfms: Transforms of batches, on the device: `aug_transforms()`.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.

        Raises:
            NotFoundPath: If a folder does not exist.
            EmptySource: If the folder has no images.
            UnknownLabel: If a validation image has a label that is not in the vocabulary.
        """
        by_folder = valid_pct is None and kwargs.get("splitter") is None
        if by_folder:
            check_folders(Path(path), train, valid)
        block = DataBlock(
            blocks=(ImageBlock(img_cls), CategoryBlock(vocab=vocab)),
            get_items=functools.partial(get_image_files, folders=[train, valid] if by_folder else None),
            splitter=GrandparentSplitter(train, valid) if valid_pct is None else RandomSplitter(valid_pct, seed=seed),
            get_y=parent_label,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, path, **kwargs)

    @classmethod
    @recipe
    def from_path_func(
        cls,
        path: StrPath,
        fnames: Sequence[StrPath],
        label_func: Callable[[Any], Any],
        valid_pct: float = 0.2,
        seed: int | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """Labels by a function of the image's path.

        Args:
            path: The folder of the images.
            fnames: The files.
            label_func: Returns the label for a path.
            valid_pct: Share of the images for validation, drawn at random.
            seed: Seed of that draw.
            item_tfms: Transforms of single images, on the CPU.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.
        """
        block = DataBlock(
            blocks=(ImageBlock(img_cls), CategoryBlock),
            splitter=RandomSplitter(valid_pct, seed=seed),
            get_y=label_func,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, fnames, **kwargs)

    @classmethod
    def from_name_func(
        cls, path: StrPath, fnames: Sequence[StrPath], label_func: Callable[[str], Any], **kwargs: Any
    ) -> Any:
        """Labels by a function of the file's name.

        Args:
            path: The folder of the images.
            fnames: The files.
            label_func: Returns the label for a file name.
            kwargs: As for `from_path_func`.
        """
        return cls.from_path_func(path, [Path(f) for f in fnames], using_attr(label_func, "name"), **kwargs)

    @classmethod
    def from_path_re(cls, path: StrPath, fnames: Sequence[StrPath], pat: str, **kwargs: Any) -> Any:
        """Labels by the first group of a pattern in the image's path.

        Args:
            path: The folder of the images.
            fnames: The files.
            pat: A regular expression with a group.
            kwargs: As for `from_path_func`.
        """
        return cls.from_path_func(path, fnames, RegexLabeller(pat), **kwargs)

    @classmethod
    def from_name_re(cls, path: StrPath, fnames: Sequence[StrPath], pat: str, **kwargs: Any) -> Any:
        """Labels by the first group of a pattern in the file's name.

        Args:
            path: The folder of the images.
            fnames: The files.
            pat: A regular expression with a group.
            kwargs: As for `from_path_func`.
        """
        return cls.from_name_func(path, fnames, RegexLabeller(pat), **kwargs)

    @classmethod
    @recipe
    def from_df(
        cls,
        df: Frame,
        path: StrPath = ".",
        valid_pct: float = 0.2,
        seed: int | None = None,
        fn_col: int | str = 0,
        folder: StrPath | None = None,
        suff: str = "",
        label_col: int | str | Sequence[int | str] = 1,
        label_delim: str | None = None,
        y_block: Block | None = None,
        valid_col: int | str | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """File names and labels from the columns of a DataFrame.

        Args:
            df: The table.
            path: The folder that file names start from.
            valid_pct: Share of the images for validation, drawn at random.
            seed: Seed of that draw.
            fn_col: The column of file names.
            folder: A folder between `path` and the file names.
            suff: A suffix to append to the file names.
            label_col: The column of labels, or several.
            label_delim: The text between the labels of one image; implies several labels for each image.
            y_block: The block of the target; by default numbers for columns with many different fractions, else
                one label, or several.
            valid_col: The column that is true for validation images, in place of `valid_pct`.
            item_tfms: Transforms of single images, on the CPU.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.
        """
        block = DataBlock(
            blocks=(ImageBlock(img_cls), y_block or block_of_labels(df, label_col, label_delim)),
            get_x=ColReader(fn_col, pref=Path(path) / (folder or "."), suff=suff),
            get_y=ColReader(label_col, label_delim=label_delim),
            splitter=RandomSplitter(valid_pct, seed=seed) if valid_col is None else ColSplitter(valid_col),
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, df, **kwargs)

    @classmethod
    def from_csv(
        cls,
        path: StrPath,
        csv_fname: StrPath = "labels.csv",
        header: int | Sequence[int] | str | None = "infer",
        delimiter: str | None = None,
        quoting: int = csv.QUOTE_MINIMAL,
        **kwargs: Any,
    ) -> Any:
        """File names and labels from the columns of a CSV file. Both stay as they are written: "00042", and a class "NA".

        Args:
            path: The folder of the table, and of the images.
            csv_fname: The table's name in that folder.
            header: The line of column names, as in `pandas.read_csv`.
            delimiter: The text between columns; by default it is found: a comma, a semicolon, a tab or "|".
            quoting: How texts are quoted: a constant of the `csv` module.
            kwargs: As for `from_df`, and all options of `pandas.read_csv`: `encoding`, `sep`, ….
        """
        known = names_of(ImageDataLoaders.from_df) | loader_arguments() | csv_option_names()
        refuse_unknown(kwargs, known, "ImageDataLoaders.from_csv")
        options = {"header": header, "delimiter": delimiter, "quoting": quoting, **csv_options(kwargs)}
        df = read_labels(
            Path(path) / csv_fname,
            kwargs.get("fn_col", 0),
            listify(kwargs.get("label_col", 1)),
            is_text=kwargs.get("label_delim") is not None,
            is_number=kwargs.get("y_block") is not None,
            **options,
        )
        return cls.from_df(df, path=path, **kwargs)

    @classmethod
    @recipe
    def from_lists(
        cls,
        path: StrPath,
        fnames: Sequence[StrPath],
        labels: Sequence[Any],
        valid_pct: float = 0.2,
        seed: int | None = None,
        y_block: Block | None = None,
        item_tfms: Tfms = None,
        batch_tfms: Tfms = None,
        img_cls: type[PILBase] = PILImage,
        **kwargs: Any,
    ) -> Any:
        """Labels from a list parallel to the list of files.

        Args:
            path: The folder of the images.
            fnames: The files.
            labels: One label, list of labels or number for each file.
            valid_pct: Share of the images for validation, drawn at random.
            seed: Seed of that draw.
            y_block: The block of the target; by default numbers for floats, several labels for lists, else one label.
            item_tfms: Transforms of single images, on the CPU.
            batch_tfms: Transforms of batches, on the device.
            img_cls: `PILImage`, or `PILImageBW` for grey.
            kwargs: For `DataLoaders.from_dsets`.

        Raises:
            BadValue: If the lists differ in length.
        """
        if len(fnames) != len(labels):
            raise BadValue("files and labels differ in number", got=f"{len(fnames)} files, {len(labels)} labels")
        block = DataBlock.from_columns(
            blocks=(ImageBlock(img_cls), y_block or _block_for(labels)),
            splitter=RandomSplitter(valid_pct, seed=seed),
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        return cls.from_dblock(block, (fnames, labels), **kwargs)


def _block_for(labels: Sequence[Any]) -> Block:
    """The block for labels of a list: numbers for floats, several labels for lists, else one label."""
    kinds = {np.asarray(label).dtype.kind for label in labels}
    if "f" in kinds and kinds <= set("iuf"):
        return RegressionBlock
    return MultiCategoryBlock if isinstance(next(iter(labels), None), (list, tuple, L)) else CategoryBlock
