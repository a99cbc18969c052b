"""All texts of a list, a table, a file or a folder as tokens, in one call."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from layered.data import read_csv
from layered.files import commit, parse_json, read_whole, reading, saving, temporary
from layered.foundation import BadFile, L, Path, StrPath, describe, lazy, listify
from layered.text.corpus import Tokenized, numbered, tokenized
from layered.text.reading import TextReader, text_files
from layered.text.tokenizer import TokenizeWithRules
from layered.text.tokenizers import Rule, SpacyTokenizer

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame
else:
    pd = lazy("pandas")

_COUNTS, _LENGTHS = "counter.json", "lengths.json"


def parallel_tokenize(
    items: Iterable[object],
    tok: Any = None,
    rules: Iterable[Rule] | None = None,
    n_workers: int | None = None,
    encoding: str = "utf8",
) -> Iterator[tuple[int, L[str]]]:
    """The number of each item and its tokens, in the order of the items.

    Args:
        items: Texts or text files.
        tok: The tokenizer; spaCy's English words by default.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        n_workers: The number of processes; by default one a core where there is much text. 0: this process alone.
        encoding: How the bytes of files are read.
    """
    done = _tokenized(list(items), TextReader(encoding=encoding), tok, rules, n_workers)
    return enumerate(_tokens(done))


def tokenize_texts(
    texts: Iterable[str], n_workers: int | None = None, rules: Iterable[Rule] | None = None, tok: Any = None
) -> L[L[str]]:
    """The tokens of each text.

    Args:
        texts: The texts.
        n_workers: The number of processes; by default one a core where there is much text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        tok: The tokenizer; spaCy's English words by default.

    Examples:
        >>> from layered.text.tokenizers import BaseTokenizer
        >>> tokenize_texts(["a film", "Good"], tok=BaseTokenizer())
        (#2) [(#3) ['xxbos','a','film'],(#3) ['xxbos','xxmaj','good']]
    """
    return L((tokens for _, tokens in parallel_tokenize(texts, tok, rules, n_workers)), use_list=True)


def tokenize_df(
    df: DataFrame,
    text_cols: str | int | Sequence[str | int],
    n_workers: int | None = None,
    rules: Iterable[Rule] | None = None,
    mark_fields: bool | None = None,
    tok: Any = None,
    tok_text_col: str = "text",
) -> tuple[DataFrame, Counter[str]]:
    """A table with the tokens of its texts in place of them, and how often each token occurs.

    Args:
        df: The table.
        text_cols: The column or columns that hold the text.
        n_workers: The number of processes; by default one a core where there is much text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        mark_fields: Put `xxfld` and a number before the text of each column; by default if there are several.
        tok: The tokenizer; spaCy's English words by default.
        tok_text_col: The column of the tokens; their number is in the column `<tok_text_col>_length`.
    """
    names = [df.columns[name] if isinstance(name, int) else name for name in listify(text_cols)]
    rows = df[names].itertuples(index=False)
    reader = TextReader(list(range(len(names))), mark_fields)
    done = _tokenized(list(rows), reader, tok, rules, n_workers)
    out = df.drop(columns=names)
    out[tok_text_col] = list(_tokens(done))
    out[f"{tok_text_col}_length"] = done.lengths
    return out, done.count()


def tokenize_csv(
    fname: StrPath,
    text_cols: str | int | Sequence[str | int],
    outname: StrPath | None = None,
    n_workers: int | None = None,
    rules: Iterable[Rule] | None = None,
    mark_fields: bool | None = None,
    tok: Any = None,
    header: Any = "infer",
    chunksize: int = 50_000,
) -> None:
    """Write a CSV file with the tokens, joined by spaces, in place of the texts, and beside it how often each occurs.

    Args:
        fname: The file, with commas between its columns.
        text_cols: The column or columns that hold the text.
        outname: The file to write; by default `<name>_tok.csv`. The counts are written to `<outname>.counter.json`.
        n_workers: The number of processes; by default one a core where there is much text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        mark_fields: Put `xxfld` and a number before the text of each column; by default if there are several.
        tok: The tokenizer; spaCy's English words by default.
        header: The number of the line with the names of the columns; None if there is none.
        chunksize: Rows that are in memory at a time.
    """
    file = Path(fname)
    out = file.with_name(f"{file.stem}_tok.csv") if outname is None else Path(outname)
    tok, count = SpacyTokenizer() if tok is None else tok, Counter[str]()
    with reading(file):
        parts = pd.read_csv(file, header=header, chunksize=chunksize)

    def write(written: BinaryIO) -> None:
        for i, part in enumerate(parts):
            done, counted = tokenize_df(part, text_cols, n_workers, rules, mark_fields, tok)
            done["text"] = done["text"].str.join(" ")
            written.write(done.to_csv(index=False, header=header is not None and i == 0).encode())
            count.update(counted)

    commit(out, write)
    commit(_count_file(out), lambda file: file.write(json.dumps(count).encode()))


def load_tokenized_csv(fname: StrPath) -> tuple[DataFrame, Counter[str]]:
    """The table that `tokenize_csv` wrote, with lists of tokens in its column `text`, and the counts.

    Args:
        fname: The file: its `outname`.
    """
    df = read_csv(fname, keep_default_na=False)
    df["text"] = [L(text.split(" "), use_list=True) for text in df["text"]]
    kept = _count_file(Path(fname))
    count = parse_json(read_whole(kept), f"'{kept}'")
    if not isinstance(count, dict) or not all(isinstance(times, int) for times in count.values()):
        raise BadFile(f"'{kept}' does not hold the counts of tokens", got=describe(count), fix="tokenize_csv makes it")
    return df, Counter(count)


def tokenize_folder(
    path: StrPath,
    extensions: str | Iterable[str] | None = None,
    folders: Iterable[str] | None = None,
    output_dir: StrPath | None = None,
    skip_if_exists: bool = True,
    *,
    n_workers: int | None = None,
    rules: Iterable[Rule] | None = None,
    tok: Any = None,
    encoding: str = "utf8",
) -> Path:
    """Write the tokens of a folder's text files, joined by spaces, to files of the same names in another folder.

    A file `counter.json` there says how often each token occurs, and `lengths.json` how many tokens each file has. The
    library itself needs no such folder: see `Tokenizer.from_folder`.

    Args:
        path: The folder.
        extensions: The suffixes of its files; ".txt" by default.
        folders: Only these direct subfolders.
        output_dir: The other folder; by default `<path>_tok`.
        skip_if_exists: Do nothing if the other folder is there.
        n_workers: The number of processes; by default one a core where there is much text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        tok: The tokenizer; spaCy's English words by default.
        encoding: How the bytes of the files are read.

    Returns:
        The other folder.
    """
    root = Path(path)
    out = root.with_name(f"{root.name}_tok") if output_dir is None else Path(output_dir)
    if not (skip_if_exists and out.exists()):
        files = text_files(root, extensions, folders)
        unfinished = out if out.exists() else temporary(out)
        try:
            tokenize_files(files, root, unfinished, n_workers=n_workers, rules=rules, tok=tok, encoding=encoding)
            with saving(out):
                unfinished.rename(out)
        except BaseException:
            if unfinished != out:  # a folder that is there counts as whole
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return out


def tokenize_files(
    files: Iterable[StrPath],
    path: StrPath,
    output_dir: StrPath,
    output_names: Sequence[StrPath] | None = None,
    *,
    n_workers: int | None = None,
    rules: Iterable[Rule] | None = None,
    tok: Any = None,
    encoding: str = "utf8",
) -> None:
    """Write the tokens of text files, joined by spaces, to files in another folder: see `tokenize_folder`.

    Args:
        files: The files.
        path: The folder that their names are relative to.
        output_dir: The other folder.
        output_names: Their names in it; by default those they have in `path`.
        n_workers: The number of processes; by default one a core where there is much text.
        rules: What is done to each text before; by default what the tokenizer says, or else `defaults.text_proc_rules`.
        tok: The tokenizer; spaCy's English words by default.
        encoding: How the bytes of the files are read.
    """
    paths, out = list(map(Path, files)), Path(output_dir)
    names = [file.relative_to(path) for file in paths] if output_names is None else list(map(Path, output_names))
    done = _tokenized(paths, TextReader(encoding=encoding), tok, rules, n_workers)
    with saving(out):
        for name, tokens in zip(names, _tokens(done), strict=True):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(" ".join(tokens), "utf8")
        lengths = dict(zip(map(str, names), done.lengths.tolist(), strict=True))
        (out / _LENGTHS).write_text(json.dumps(lengths), "utf8")
        (out / _COUNTS).write_text(json.dumps(done.count()), "utf8")


def _tokenized(
    items: Sequence[Any], read: TextReader, tok: Any, rules: Iterable[Rule] | None, n_workers: int | None
) -> Tokenized:
    tokenize = TokenizeWithRules(SpacyTokenizer() if tok is None else tok, rules)
    work = functools.partial(numbered, tokenize=tokenize)
    return tokenized(items, read, work, tokenize.described, n_workers)


def _tokens(done: Tokenized) -> Iterator[L[str]]:
    words = done.corpus.words or []
    return (L([words[j] for j in done.corpus.text(i).tolist()], use_list=True) for i in done.which.tolist())


def _count_file(table: Path) -> Path:
    return Path(f"{table}.counter.json")
