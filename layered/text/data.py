"""`TextDataLoaders`: loaders of texts in one line, for the usual layouts. Each body is a `DataBlock` to copy."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Sequence
from typing import Any

from layered.data import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    DataLoaders,
    GrandparentSplitter,
    RandomSplitter,
    TransformBlock,
    block_of_labels,
    check_folders,
    csv_option_names,
    csv_options,
    loader_arguments,
    parent_label,
    read_labels,
    recipe,
)
from layered.foundation import Frame, Path, StrPath, Transform, listify, names_of, refuse_unknown
from layered.text.blocks import TextBlock
from layered.text.hf_tokenizers import HuggingFaceTokenizer
from layered.text.reading import text_files
from layered.text.tokenizer import Tokenizer
from layered.text.word_labels import labels_words

Block = TransformBlock | Callable[[], TransformBlock]


class TextDataLoaders(DataLoaders):
    """Loaders of texts, each with a label, several labels or a number; or of streams of texts for a language model.

    All methods pass further keywords on to `DataLoaders.from_dsets`: `bs`, `val_bs`, `device`, ….
    Models and exports of learners on these loaders go to the working directory, never into the folder of the texts.
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
        text_vocab: Sequence[str] | None = None,
        is_lm: bool = False,
        tok_tfm: Any = None,
        seq_len: int = 72,
        splitter: Callable[[Any], Any] | None = None,
        backwards: bool = False,
        max_len: int | None = None,
        cut: str = "head",
        max_tokens: int | None = None,
        extensions: str | Sequence[str] | None = None,
        encoding: str = "utf8",
        **kwargs: Any,
    ) -> Any:
        """Text files, labelled by folder: path/train/pos/1.txt and path/valid/neg/2.txt, or path/pos/1.txt with `valid_pct`.

        Args:
            path: The folder.
            train: Name of the folder with the training texts.
            valid: Name of the folder with the validation texts.
            valid_pct: Share of the texts for validation, drawn at random, in place of the two folders.
            seed: Seed of that draw.
            vocab: The labels, in order; by default all labels of the training texts, sorted.
            text_vocab: The vocabulary of the texts; by default that of all texts, those for validation included.
            is_lm: For a language model, without labels.
            tok_tfm: The tokenizer: see `TextBlock`.
            seq_len: Tokens that a recurrent model reads at a time.
            splitter: Splits the files, in place of folders and `valid_pct`.
            backwards: Reverse the texts.
            max_len: The most tokens of a text; None for all.
            cut: What is kept of a longer text: "head", "head+tail", or "chunks".
            max_tokens: Texts of a batch by their number of tokens, in place of `bs`.
            extensions: The suffixes of the files; ".txt" by default.
            encoding: How the bytes of the files are read.
            kwargs: For `DataLoaders.from_dsets`.

        Raises:
            NotFoundPath: If a folder does not exist.
            EmptySource: If the folder has no text files.
            BadFile: If a file is not text of that encoding.
            UnknownLabel: If a validation text has a label that is not in the vocabulary.
        """
        by_folder = valid_pct is None and splitter is None
        if by_folder:
            check_folders(Path(path), train, valid)
        if splitter is None:
            splitter = GrandparentSplitter(train, valid) if valid_pct is None else RandomSplitter(valid_pct, seed=seed)
        text = TextBlock.from_folder(
            path, text_vocab, is_lm, seq_len, backwards,
            tok=tok_tfm, max_len=max_len, cut=cut, max_tokens=max_tokens, encoding=encoding,
        )  # fmt: skip
        block = DataBlock(
            blocks=text if is_lm else (text, CategoryBlock(vocab=vocab)),
            get_items=functools.partial(
                text_files, extensions=extensions, folders=[train, valid] if by_folder else None
            ),
            splitter=splitter,
            get_y=None if is_lm else parent_label,
        )
        return cls.from_dblock(block, path, **kwargs)

    @classmethod
    @recipe
    def from_df(
        cls,
        df: Frame,
        path: StrPath = ".",
        valid_pct: float = 0.2,
        seed: int | None = None,
        text_col: int | str | Sequence[int | str] = 0,
        label_col: int | str | Sequence[int | str] = 1,
        label_delim: str | None = None,
        y_block: Block | None = None,
        text_vocab: Sequence[str] | None = None,
        is_lm: bool = False,
        valid_col: int | str | None = None,
        tok_tfm: Any = None,
        tok_text_col: int | str = "text",
        seq_len: int = 72,
        backwards: bool = False,
        max_len: int | None = None,
        cut: str = "head",
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Texts and labels from the columns of a table.

        Args:
            df: The table.
            path: Accepted because other loaders take it.
            valid_pct: Share of the texts for validation, drawn at random.
            seed: Seed of that draw.
            text_col: The column of texts, or several, which are joined.
            label_col: The column of labels, or several.
            label_delim: The text between the labels of one row; implies several labels for each text.
            y_block: The block of the target; by default numbers for columns with many different fractions, else one label, or
                several. With `TokenCategoryBlock`, texts and labels are lists, or texts with spaces between words, and between
                labels.
            text_vocab: The vocabulary of the texts; by default that of all texts, those for validation included.
            is_lm: For a language model, without labels.
            valid_col: The column that is true for validation texts, in place of `valid_pct`.
            tok_tfm: The tokenizer: see `TextBlock`.
            tok_text_col: Accepted because other libraries name a column for tokens; none is needed.
            seq_len: Tokens that a recurrent model reads at a time.
            backwards: Reverse the texts.
            max_len: The most tokens of a text; None for all.
            cut: What is kept of a longer text: "head", "head+tail", or "chunks".
            max_tokens: Texts of a batch by their number of tokens, in place of `bs`.
            kwargs: For `DataLoaders.from_dsets`.
        """
        is_split = not is_lm and y_block is not None and labels_words(y_block)
        text = TextBlock.from_df(
            text_col, text_vocab, is_lm, seq_len, backwards,
            tok=tok_tfm, max_len=max_len, cut=cut, max_tokens=max_tokens, is_split=is_split,
        )  # fmt: skip
        label_delim = " " if is_split and label_delim is None else label_delim
        block = DataBlock(
            blocks=text if is_lm else (text, y_block or block_of_labels(df, label_col, label_delim)),
            get_x=ColReader(text_col) if _reads_no_rows(tok_tfm) else None,
            get_y=None if is_lm else ColReader(label_col, label_delim=label_delim),
            splitter=RandomSplitter(valid_pct, seed=seed) if valid_col is None else ColSplitter(valid_col),
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
        """Texts and labels from the columns of a CSV file. Both stay as they are written: "00042", and a class "NA".

        Args:
            path: The folder of the table.
            csv_fname: The table's name in that folder.
            header: The line of column names, as in `pandas.read_csv`.
            delimiter: The text between columns; by default it is found: a comma, a semicolon, a tab or "|".
            quoting: How texts are quoted: a constant of the `csv` module.
            kwargs: As for `from_df`, and all options of `pandas.read_csv`: `encoding`, `sep`, ….
        """
        known = names_of(TextDataLoaders.from_df) | loader_arguments() | csv_option_names()
        refuse_unknown(kwargs, known, "TextDataLoaders.from_csv")
        options = {"header": header, "delimiter": delimiter, "quoting": quoting, **csv_options(kwargs)}
        text, *more = listify(kwargs.get("text_col", 0))
        df = read_labels(
            Path(path) / csv_fname,
            text,
            [*more, *([] if kwargs.get("is_lm") else listify(kwargs.get("label_col", 1)))],
            is_text=kwargs.get("label_delim") is not None or labels_words(kwargs.get("y_block") or TransformBlock),
            is_number=kwargs.get("y_block") is not None,
            **options,
        )
        return cls.from_df(df, path=path, **kwargs)


def _reads_no_rows(tok: object) -> bool:
    """Whether a transform gets texts, as that of a user does, and not rows."""
    return isinstance(tok, Transform) and not isinstance(tok, (Tokenizer, HuggingFaceTokenizer))
