"""Tables into an exported graph: a script turns rows into codes and standard scores, which the graph takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from layered.data import Normalize
from layered.foundation import plain
from layered.loop import Loop
from layered.tabular.data import TabDataLoader
from layered.tabular.procs import Categorify, FillMissing
from layered.tabular.table import Tabular
from layered.training.graphs import GraphInput, Preparation, graph_inputs, not_in_script, plain_classes

NEAR = 1e-3  # how far predictions may be off for rows that a processed table is decoded to


@graph_inputs.register("tabular.rows")
def table_input(loop: Loop, loader: Any) -> GraphInput | None:
    """The inputs of a model of tables: codes and standard scores.

    Args:
        loop: The learner.
        loader: A loader of a table.
    """
    if not isinstance(loader, TabDataLoader) or not isinstance(loader.dataset, Tabular):
        return None
    table = loader.dataset
    if len(loader.after_batch):  # type: ignore[arg-type]  # a pipeline
        not_in_script(list(loader.after_batch), "tables")  # type: ignore[call-overload]
        return None
    given = {"codes": table.cat_names, "numbers": table.cont_names if table.with_cont else []}
    names = tuple(name for name, columns in given.items() if len(columns))

    def feed(batch: Any) -> tuple[Tensor, ...]:
        return tuple(plain(x) for x, columns in zip(batch, given.values(), strict=False) if len(columns))

    def enter(*parts: Tensor) -> tuple[Tensor, ...]:
        none = parts[0].new_zeros((parts[0].shape[0], 0))
        found = {"codes": none.long(), "numbers": none.float(), **dict(zip(names, parts, strict=True))}
        return tuple(found.values())[: table.n_inp]

    settings = _settings(table)
    return GraphInput(
        names=names,
        feed=feed,
        enter=enter,
        loader=loader,
        settings={"inputs": {"codes": "int64", "numbers": "float32"}} if settings is None else settings,
        prepare=None if settings is None else PREPARE,
        source=_rows(table).__getitem__,
        classes=tuple(plain_classes(target.vocab) for target in table.target_columns),
    )


def _settings(table: Tabular) -> dict[str, Any] | None:
    """What a script has to know of a table's procs; None, with a warning, for procs that it does not know."""
    steps = {type(step): step for step in table.procs}
    unknown = [step for step in table.procs if type(step) not in (Categorify, FillMissing, Normalize)]
    if unknown:
        not_in_script(unknown, "codes and standard scores")
        return None
    encode, fill, scale = (steps.get(kind) for kind in (Categorify, FillMissing, Normalize))
    fills, flags = dict(table.fills), {}
    if isinstance(fill, FillMissing):
        fills |= {**fill.fills, **fill.na_dict}
        flags = {str(name): fill.flag(name) for name in fill.na_dict if fill.add_col}
    numbers = {
        str(name): {
            "fill": float(fills.get(name, 0.0)),
            "mean": float(scale.means[name]) if isinstance(scale, Normalize) else 0.0,
            "std": float(scale.stds[name]) if isinstance(scale, Normalize) else 1.0,
        }
        for name in (table.cont_names if table.with_cont else ())
    }
    levels = {str(name): _levels(encode[name].items) for name in table.cat_names if isinstance(encode, Categorify)}
    return {"levels": levels, "numbers": numbers, "flags": flags}


def _levels(labels: Any) -> dict[str, dict[str, int]]:
    """The codes of a vocabulary: by text, by what numbers read as, and of text by the number that it reads as."""
    found: dict[str, dict[str, int]] = {"texts": {}, "numbers": {}, "read": {}}
    for code, label in enumerate(labels):
        if isinstance(label, str):
            found["texts"].setdefault(label, code)
            found["read"].setdefault(reading(label), code)
        else:
            found["numbers"].setdefault(reading(label), code)
            found["numbers"].setdefault(str(label), code)
    found["read"].pop("", None)
    found["numbers"].pop("", None)
    return found


def _rows(table: Tabular) -> list[dict[str, Any]]:
    """The rows that a processed table was made of, as far as it keeps them; what was filled is missing again."""
    flags = {
        name: step.flag(name)
        for step in table.procs
        if isinstance(step, FillMissing)
        for name in step.na_dict
        if step.add_col
    }
    rows = table.decode().items.to_dict("records")
    for row in rows:
        for name, flag in flags.items():
            if row.pop(flag, False) is True:
                row[name] = None
    return [{str(name): value for name, value in row.items()} for row in rows]


# -- what is copied into the script


def number(value: Any) -> float:
    """A cell as a number; NaN if it is missing, unreadable, or above 1e30.

    Args:
        value: The cell.
    """
    text = str(value).strip().lower()
    if "_" in text or not text.isascii():
        return float("nan")
    try:
        read = float({"true": "1", "false": "0"}.get(text, text))
    except ValueError:
        return float("nan")
    return read if abs(read) <= 1e30 else float("nan")


def reading(value: Any) -> str:
    """A number, or a text that reads as one, in one form: "7" for 7, 7.0 and "7.0"; "" for other texts.

    Args:
        value: A cell or a level.
    """
    text = str(value).strip()
    if text.removeprefix("-").isdecimal() and text.isascii():
        return str(int(text))
    read = number(value)
    return "" if read != read else str(int(read)) if read.is_integer() else repr(float(np.float32(read)))


def code(value: Any, levels: dict[str, dict[str, int]]) -> int:
    """The code of a cell: that of its level, or 0 if it is missing or was not seen in training.

    Args:
        value: The cell.
        levels: The codes of the column.
    """
    texts, numbers, read = levels["texts"], levels["numbers"], levels["read"]
    key = reading(value)
    if isinstance(value, str):
        return texts.get(value, numbers.get(value, numbers.get(key, 0)))
    return numbers.get(key, texts.get(str(value), read.get(key, 0)))


def prepare_rows(items: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The graph's inputs from rows: dicts of cells by column.

    Args:
        items: The rows.
        settings: Levels, means, deviations and fills of the learner's columns.

    Raises:
        ValueError: A row lacks a column.
    """
    needed = {*settings["numbers"], *settings["levels"]} - {*settings["flags"].values()}
    codes, scores = [], []
    for row in items:
        if missing := sorted(needed - {*row}):
            raise ValueError(f"a row has no column {', '.join(missing)}; a value that is missing is None, or empty")
        cells, own = dict(row), []
        for name, of in settings["numbers"].items():
            read = number(cells[name])
            if name in settings["flags"]:
                cells[settings["flags"][name]] = read != read
            own.append(((of["fill"] if read != read else read) - of["mean"]) / of["std"])
        scores.append(own)
        codes.append([code(cells[name], levels) for name, levels in settings["levels"].items()])
    made: dict[str, Any] = {"codes": np.array(codes, np.int64), "numbers": np.array(scores, np.float32)}
    return {name: x for name, x in made.items() if x.shape[1]}


PREPARE = Preparation(
    (number, reading, code, prepare_rows),
    "import csv\n",
    (),
    "the rows of CSV files",
    "[row for word in words for row in csv.DictReader(open(word, newline=''))]",
    NEAR,
)
