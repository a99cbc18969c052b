"""What is to be predicted: which columns, by which block's transforms, and how predictions are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from layered.data import (
    Categorize,
    CategoryBlock,
    CategoryMap,
    EncodedMultiCategorize,
    RegressionBlock,
    RegressionSetup,
    TransformBlock,
    list_some,
    own_copies,
    unknown_labels,
)
from layered.foundation import Array, BadArgument, BadValue, Pipeline, Transform, failed, lazy, listify, warn
from layered.tabular.columns import Column, Columns, check_numeric
from layered.tabular.levels import Levels
from layered.tabular.values import LARGEST, Name, plain_level

if TYPE_CHECKING:
    from pandas import DataFrame, Index, Series

pd = lazy("pandas")

Block: TypeAlias = TransformBlock | Callable[[], TransformBlock]
Blocks: TypeAlias = Block | Sequence[Block] | None


class Target:
    """One thing to predict: a class, labels, a number or several, from one column or several.

    Args:
        names: The columns it is made of.
        steps: The transforms of its block: `Categorize`, `RegressionSetup`, ….
    """

    def __init__(self, names: Sequence[Name], steps: Pipeline | Sequence[Transform]) -> None:
        self.names, self.steps = list(names), steps if isinstance(steps, Pipeline) else Pipeline(steps)

    @property
    def kind(self) -> str | None:
        """What it is, as its transforms say: "category", "regression", …"""
        return next((step.target_kind for step in self.steps if hasattr(step, "target_kind")), None)

    @property
    def c(self) -> int:
        """How many outputs a model needs for it."""
        return int(getattr(self.steps, "c", None) or len(self.names))

    @property
    def vocab(self) -> Any:
        """Its classes; None if it has none."""
        return getattr(self.steps, "vocab", None)

    @property
    def categorize(self) -> Categorize | None:
        """The encoding of a single class, where it is one."""
        step = self.steps[0] if len(self.steps) == 1 else None
        return step if type(step) is Categorize else None

    def setup(self, columns: Columns, count: int) -> Array | None:
        """Fit to the rows of training.

        Args:
            columns: The columns of the table, training rows first.
            count: How many training rows there are.

        Returns:
            A mask of the validation rows to keep; None to keep all.

        Raises:
            BadValue: For a target that is missing, and for a single class.
            UnknownLabel: For a class that only validation rows have.
        """
        encode = self.categorize
        if encode is None or not encode.add_na:
            for rows, which in ((slice(count), "training"), (slice(count, None), "validation")):
                missing = self._missing(columns, rows)
                if missing.any():
                    raise _no_target(columns.index[rows], self.names, missing, which)
        if encode is None:
            self._fit(columns.select(self.names, slice(count)))
            return None
        column = columns[self.names[0]]
        train, others = column[:count], column[count:]
        if encode.vocab is None:
            seen = column if encode.unseen == "extend" else train
            labels = seen.present() if seen.categories is None else seen.dtype
            in_order = CategoryMap(labels, sort=encode.sort)
            encode.vocab = CategoryMap(map(plain_level, in_order), sort=False, add_na=encode.add_na)
        else:
            encode = Categorize([*map(plain_level, encode.vocab)], False, encode.add_na, encode.unseen)
            self.steps = Pipeline(encode)
        if encode.c < 2:
            raise BadValue(
                f"there is only one class in {self.names[0]!r}, so there is nothing to classify",
                got=list(encode.fitted_vocab),
                fix="check y_names and splits; for numbers to predict y_block=RegressionBlock()",
            )
        return None if encode.add_na else self._settle(encode, others)

    def _missing(self, columns: Columns, rows: slice) -> Array:
        """A mask of the rows without this target."""
        if self.categorize is not None:
            return np.less(columns[self.names[0]][rows].factorized[0], 0)
        return np.asarray(columns.select(self.names, rows).isna().any(axis=1))

    def _settle(self, encode: Categorize, others: Column) -> Array | None:
        """What to do about classes that only validation rows have."""
        unseen = Levels(encode.fitted_vocab, unknown=-1).codes(others) < 0
        if not unseen.any():
            return None
        labels = list(others.series[unseen].unique())
        if encode.unseen != "drop":
            raise unknown_labels(labels, encode.fitted_vocab, " of the training rows, but in the validation rows")
        warn(f"labels that only validation rows have are left out, with {int(unseen.sum())} rows: {list_some(labels)}")
        return ~unseen

    def _fit(self, train: DataFrame) -> None:
        encode = self.steps[0] if len(self.steps) else None
        if isinstance(encode, RegressionSetup):
            encode.c = encode.c or len(self.names)
            if len(self.names) > 1 and encode.c != len(self.names):
                raise BadValue(
                    "each number to predict needs a column",
                    got=f"RegressionBlock({encode.c}) and the columns {', '.join(map(repr, self.names))}",
                )
        if not isinstance(encode, (RegressionSetup, EncodedMultiCategorize)):
            done, self.steps = self.steps, Pipeline()
            for step in done:
                self.steps.add(step, _Values(self, train, done), True)
        first = Columns(train.iloc[:1])
        self.encode(first)
        self.tensor(first.frame)

    def encode(self, columns: Columns) -> None:
        """Encode the columns of this target, in place: classes as codes, numbers as float32, others as they are.

        Raises:
            UnknownLabel: For a class that is not in the vocabulary.
            BadValue: For a target that is missing, not numeric, or too large.
        """
        if self.categorize is not None:
            self._encode_class(columns, self.categorize)
        elif self._is_numeric and not self._holds_vectors(columns):
            self._encode_numbers(columns)

    @property
    def _is_numeric(self) -> bool:
        return len(self.steps) > 0 and isinstance(self.steps[0], (RegressionSetup, EncodedMultiCategorize))

    def _encode_class(self, columns: Columns, encode: Categorize) -> None:
        column = columns[self.names[0]]
        codes = Levels(encode.fitted_vocab, 0 if encode.add_na else -1).codes(column)
        unknown = codes < 0
        if unknown.any():
            missing = self._missing(columns, slice(None))
            if missing.any():
                raise _no_target(columns.index, self.names, missing)
            raise unknown_labels(list(column.series[unknown].unique()), encode.fitted_vocab)
        columns[self.names[0]] = codes

    def _encode_numbers(self, columns: Columns) -> None:
        for name in self.names:
            check_numeric(name, columns[name])
        numbers = {name: columns[name].numbers.astype(np.float32) for name in self.names}
        unusable = np.any([np.isnan(column) for column in numbers.values()], axis=0)
        if unusable.any():
            missing = self._missing(columns, slice(None))
            if missing.any():
                raise _no_target(columns.index, self.names, missing)
            raise _out_of_range(columns, self.names, unusable)
        for name, column in numbers.items():
            columns[name] = column

    def _holds_vectors(self, columns: Columns) -> bool:
        """Whether each value is a list of numbers."""
        return len(self.names) == 1 and len(columns) > 0 and bool(np.ndim(columns[self.names[0]][:1].series.iloc[0]))

    def decode_columns(self, columns: Columns) -> None:
        """Labels in place of codes, where the target is a class and the table has it."""
        name = self.names[0]
        if self.categorize is not None and name in columns:
            labels = np.array([*self.categorize.fitted_vocab], dtype=object)
            columns[name] = labels[columns[name].series.to_numpy(np.int64)]

    def tensor(self, frame: DataFrame) -> Tensor:
        """The target of each row, of a table whose columns of this target are encoded: [row, …]."""
        if self.categorize is not None:
            return torch.from_numpy(frame[self.names].to_numpy(np.int64, copy=True))
        if all(frame[name].dtype.kind in "biuf" for name in self.names):
            return torch.from_numpy(frame[self.names].to_numpy(np.float32, copy=True))
        rows = [_tensor(self.made(value)) for value in self.values(frame)]
        return torch.stack(rows) if rows else torch.zeros(0, self.c)

    def values(self, frame: DataFrame) -> list[Any]:
        """What the transforms start from, for each row: the value of one column, or those of several as a list."""
        one = len(self.names) == 1
        return list(frame[self.names[0]].tolist() if one else frame[self.names].to_numpy().tolist())

    def made(self, value: object) -> Any:
        """What the transforms make of one value."""
        try:
            return self.steps(value)
        except Exception as error:
            raise failed(error, f"making the target {', '.join(map(str, self.names))} of {value!r}") from error

    def decode(self, value: Any) -> Any:
        """One encoded target, or decision, as its own type: a `Category`, a number, labels."""
        if self.kind == "category" and isinstance(value, Tensor):
            value = value.reshape(())
        return self.steps.decode(value)

    def columns_of(self, decoded: Sequence[Any]) -> dict[Any, list[Any]]:
        """Decoded targets as columns of a table, under this target's names."""
        if len(self.names) == 1:
            return {self.names[0]: [_cell(o) for o in decoded]}
        if self.kind == "multicategory":
            vocab = list(self.steps.vocab)
            return {name: [vocab[i] in o for o in decoded] for i, name in enumerate(self.names)}
        return {name: [_cell(o[i]) for o in decoded] for i, name in enumerate(self.names)}


class _Values:
    """The values of a target as what a transform is set up with: a sequence, after the steps before it."""

    def __init__(self, target: Target, frame: DataFrame, steps: Pipeline) -> None:
        self.target, self.frame, self.steps = target, frame, steps

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, i: int) -> Any:
        return self.target.made(self.target.values(self.frame.iloc[i : i + 1])[0])

    def __iter__(self) -> Iterator[Any]:
        return map(self.target.made, self.target.values(self.frame))

    @property
    def vocab(self) -> Any:
        return self.target.steps.vocab


def make_targets(frame: DataFrame, names: Sequence[Name], y_block: Blocks) -> list[Target]:
    """The targets in these columns: as the blocks say, else by what the columns hold.

    Args:
        frame: The table.
        names: The columns to predict.
        y_block: One block for all columns, or a list with one for each of several targets; a block in the list takes one
            column. None: columns that all hold numbers are one regression, else each column is a target by itself.
    """
    if not names:
        return []
    if isinstance(y_block, (list, tuple)):
        if len(y_block) != len(names):
            raise BadValue(
                "each target needs a block of its own", got=f"{len(y_block)} blocks for {len(names)} columns"
            )
        return [_target([name], block) for name, block in zip(names, y_block, strict=True)]
    if y_block is None:
        kinds = [_is_numeric(frame[name]) for name in names]
        if all(kinds):
            return [_target(names, RegressionBlock(len(names)))]
        return [_target([n], RegressionBlock(1) if k else CategoryBlock()) for n, k in zip(names, kinds, strict=True)]
    target = _target(names, y_block)
    if target.kind == "category" and len(names) > 1:
        return [_target([name], y_block) for name in names]
    return [target]


def _target(names: Sequence[Name], block: object) -> Target:
    made = block if isinstance(block, TransformBlock) or not callable(block) else block()
    if not isinstance(made, TransformBlock):
        raise BadArgument(
            "y_block must be a block, or a list with one for each target",
            got=repr(block),
            expected="CategoryBlock(), RegressionBlock(), MultiCategoryBlock(encoded=True, vocab=[...])",
        )
    return Target(names, own_copies(listify(made.type_tfms)))


def _is_numeric(column: Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype))


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value).as_subclass(Tensor)


def _cell(o: object) -> object:
    return o.item() if isinstance(o, Tensor) and o.numel() == 1 else o


def _out_of_range(columns: Columns, names: Sequence[Name], unusable: Array) -> BadValue:
    """The error for numbers to predict that are too large."""
    row, count = int(unusable.argmax()), int(unusable.sum())
    return BadValue(
        f"{', '.join(map(repr, names))} of {count} row{'s' * (count > 1)} is not finite, or beyond {LARGEST:.0e}",
        got=f"{columns.select(names).iloc[row].tolist()} at {columns.index[[row]].tolist()[0]!r}",
        expected="numbers to predict that a model can reach",
        fix=f"leave those rows out: df[(df[{list(names)!r}].abs() <= {LARGEST:.0e}).all(axis=1)], before the splits are made",
    )


def _no_target(index: Index, names: Sequence[Name], missing: Array, which: str = "") -> BadValue:
    """The error for rows without a target."""
    count = int(missing.sum())
    return BadValue(
        f"{count} {which} row{'s have' if count > 1 else ' has'} no {', '.join(map(repr, names))}".replace("  ", " "),
        got=f"first at {index[missing].tolist()[0]!r}",
        expected="a target in each row",
        fix=f"leave those rows out: df.dropna(subset={list(names)!r}), before the splits are made",
    )
