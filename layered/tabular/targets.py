"""The targets of a table: the columns to predict, the transforms that encode them, and how predictions are decoded."""

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
from layered.foundation import (
    Array,
    BadArgument,
    BadValue,
    Pipeline,
    Transform,
    UnknownLabel,
    failed,
    lazy,
    listify,
    warn,
)
from layered.tabular.columns import Column, Columns, constant_std
from layered.tabular.kinds import column_kind, text_hint
from layered.tabular.levels import Levels
from layered.tabular.unread import check_numeric
from layered.tabular.values import LARGEST, Name, as_number, number_fix, plain_level

if TYPE_CHECKING:
    from pandas import DataFrame, Index

pd = lazy("pandas")

FEW_CLASSES = 20  # targets with more distinct texts of numbers than this are probably not classes

Block: TypeAlias = TransformBlock | Callable[[], TransformBlock]
Blocks: TypeAlias = Block | Sequence[Block] | None


class Target:
    """One target: a class, labels, or numbers, made of one column or several.

    Args:
        names: The columns that it is made of.
        steps: The transforms of its block: `Categorize`, `RegressionSetup`, ….
    """

    def __init__(self, names: Sequence[Name], steps: Pipeline | Sequence[Transform]) -> None:
        self.names, self.steps = list(names), steps if isinstance(steps, Pipeline) else Pipeline(steps)

    @property
    def kind(self) -> str | None:
        """Its kind, which its transforms declare: "category", "regression", …; None if they do not."""
        return next((step.target_kind for step in self.steps if step.target_kind is not None), None)

    @property
    def c(self) -> int:
        """The number of outputs that a model needs for it."""
        return int(getattr(self.steps, "c", None) or len(self.names))

    @property
    def vocab(self) -> Any:
        """Its classes; None if it has none."""
        return getattr(self.steps, "vocab", None)

    @property
    def categorize(self) -> Categorize | None:
        """The transform that encodes it, if it is a single class; else None."""
        step = self.steps[0] if len(self.steps) == 1 else None
        return step if type(step) is Categorize else None

    def setup(self, columns: Columns, count: int) -> Array | None:
        """Fit the transforms to the training rows.

        Args:
            columns: The columns of the table, with the training rows first.
            count: The number of training rows.

        Returns:
            A mask of the validation rows to keep; None to keep all.

        Raises:
            BadValue: If a target is missing, or there is only one class.
            UnknownLabel: If a class occurs only in the validation rows, and the block does not drop or add such classes.
        """
        encode = self.categorize
        if encode is None or not encode.add_na:
            for rows, which in ((slice(count), "training"), (slice(count, None), "validation")):
                missing = self._missing(columns, rows)
                if missing.any():
                    raise _no_target(columns.index[rows], self.names, missing, which)
        if encode is None:
            self._check_numeric(columns)
            self._warn_of_scale(columns, count)
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
                expected="at least two classes",
                fix="check y_names and splits; to predict numbers, use y_block=RegressionBlock()",
            )
        return None if encode.add_na else self._settle(encode, others)

    def _missing(self, columns: Columns, rows: slice) -> Array:
        """A mask of the rows without this target."""
        if self.categorize is not None:
            return np.less(columns[self.names[0]][rows].factorized[0], 0)
        return np.asarray(columns.select(self.names, rows).isna().any(axis=1))

    def _settle(self, encode: Categorize, others: Column) -> Array | None:
        """Refuse classes that occur only in validation, or return a mask that drops their rows, as the block says."""
        unseen = Levels(encode.fitted_vocab, unknown=-1).codes(others) < 0
        if not unseen.any():
            return None
        labels = others.series[unseen].drop_duplicates().tolist()
        if encode.unseen != "drop":
            where = " of the training rows, but in the validation rows"
            raise _unknown_classes(self.names[0], labels, encode.fitted_vocab, where)
        warn(
            f"validation rows whose labels do not occur in training are left out ({int(unseen.sum())} of {len(others)}): "
            f"{list_some(labels)}"
        )
        return ~unseen

    def _fit(self, train: DataFrame) -> None:
        """Fit transforms other than `Categorize`, and try them on the first row, so that faults show before training."""
        encode = self.steps[0] if len(self.steps) else None
        if isinstance(encode, RegressionSetup):
            encode.c = encode.c or len(self.names)
            if len(self.names) > 1 and encode.c != len(self.names):
                raise BadValue(
                    "the number of outputs does not match the target columns",
                    got=f"RegressionBlock({encode.c}) and the columns {', '.join(map(repr, self.names))}",
                )
        if not isinstance(encode, (RegressionSetup, EncodedMultiCategorize)):
            done, self.steps = self.steps, Pipeline()
            for step in done:  # each is fitted to the output of those before it
                self.steps.add(step, _Values(self, train, done), True)
        first = Columns(train.iloc[:1])
        self.encode(first)
        self.tensor(first.frame)

    def encode(self, columns: Columns) -> None:
        """Encode the columns of this target in place: classes as codes, numbers as float32; other targets are left as they are.

        Raises:
            UnknownLabel: For a class that is not in the vocabulary.
            BadValue: If a target is missing, non-numeric, or too large.
        """
        if self.categorize is not None:
            self._encode_class(columns, self.categorize)
        elif self._is_numeric(columns):
            self._encode_numbers(columns)

    def _is_numeric(self, columns: Columns) -> bool:
        """Whether each of its columns holds one number for each row."""
        is_regression = len(self.steps) > 0 and isinstance(self.steps[0], (RegressionSetup, EncodedMultiCategorize))
        return is_regression and not self._holds_vectors(columns)

    def _check_numeric(self, columns: Columns) -> None:
        for name in self.names if self._is_numeric(columns) else ():
            check_numeric(name, columns[name])

    def _warn_of_scale(self, columns: Columns, count: int) -> None:
        """Warn about numbers that are the same in all training rows, or whose differences float32 cannot hold."""
        for name in self.names if self.kind == "regression" and self._is_numeric(columns) else ():
            numbers = columns[name].numbers[:count]
            spread, rounded = float(numbers.std()), float(np.abs(numbers - numbers.astype(np.float32)).max())
            if spread <= constant_std(float(numbers.mean()), count):
                warn(f"nothing can be learned of the target {name!r}: it is {numbers[0]:g} in all training rows")
            elif rounded > 0.1 * spread:
                warn(
                    f"the target {name!r} varies by {spread:.2g} around {numbers.mean():.2g}, which float32 rounds by up to "
                    f"{rounded:.2g}: predict the difference to its mean, df[{name!r}] -= df[{name!r}].mean()"
                )

    def _encode_class(self, columns: Columns, encode: Categorize) -> None:
        column = columns[self.names[0]]
        codes = Levels(encode.fitted_vocab, 0 if encode.add_na else -1).codes(column)
        unknown = codes < 0
        if unknown.any():
            missing = self._missing(columns, slice(None))
            if missing.any():
                raise _no_target(columns.index, self.names, missing)
            raise _unknown_classes(
                self.names[0], column.series[unknown].drop_duplicates().tolist(), encode.fitted_vocab
            )
        columns[self.names[0]] = codes

    def _encode_numbers(self, columns: Columns) -> None:
        self._check_numeric(columns)
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
        """Replace codes by labels in place, if the target is a class and the table has it."""
        name = self.names[0]
        if self.categorize is not None and name in columns:
            labels = np.array([*self.categorize.fitted_vocab], dtype=object)
            columns[name] = labels[columns[name].series.to_numpy(np.int64)]

    def tensor(self, frame: DataFrame) -> Tensor:
        """The target of each row, [row, …], from encoded columns."""
        if self.categorize is not None:
            return torch.from_numpy(frame[self.names].to_numpy(np.int64, copy=True))
        if all(frame[name].dtype.kind in "biuf" for name in self.names):
            return torch.from_numpy(frame[self.names].to_numpy(np.float32, copy=True))
        rows = [_tensor(self.made(value)) for value in self.values(frame)]
        return torch.stack(rows) if rows else torch.zeros(0, self.c)

    def values(self, frame: DataFrame) -> list[Any]:
        """The input of the transforms for each row: the value of the column, or a list of the values of several."""
        one = len(self.names) == 1
        return list(frame[self.names[0]].tolist() if one else frame[self.names].to_numpy().tolist())

    def made(self, value: object) -> Any:
        """One value, after the transforms."""
        try:
            return self.steps(value)
        except Exception as error:
            raise failed(error, f"making the target {', '.join(map(str, self.names))} of {value!r}") from error

    def decode(self, value: Any) -> Any:
        """One encoded target or decision, decoded: a `Category`, a number, labels."""
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
    """The values of a target after some transforms, as a sequence to fit the next transform to."""

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
    """The targets in these columns, by their blocks, or by what the columns hold.

    Args:
        frame: The table.
        names: The columns to predict.
        y_block: One block for all columns, or a list with one block per column, each a target. None makes one regression
            of columns that all hold numbers; otherwise each column is a target.

    Raises:
        BadArgument: If a block is not a `TransformBlock`.
        BadValue: If the number of blocks in a list does not match the columns.
    """
    if not names:
        return []
    if isinstance(y_block, (list, tuple)):
        if len(y_block) != len(names):
            raise BadValue(
                "the number of blocks does not match the targets", got=f"{len(y_block)} blocks for {len(names)} columns"
            )
        return [_target([name], block) for name, block in zip(names, y_block, strict=True)]
    if y_block is None:
        kinds = [column_kind(frame[name]) in ("number", "whole") for name in names]
        if all(kinds):
            return [_target(names, RegressionBlock(len(names)))]
        hints = [
            text_hint(n, frame[n], FEW_CLASSES) for n, is_number in zip(names, kinds, strict=True) if not is_number
        ]
        if any(hints):
            warn(f"the targets are taken as classes, but {'; '.join(filter(None, hints))}")
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


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value).as_subclass(Tensor)


def _cell(o: object) -> object:
    return o.item() if isinstance(o, Tensor) and o.numel() == 1 else o


def _unknown_classes(name: Name, labels: list[Any], vocab: Sequence[Any], where: str = "") -> UnknownLabel:
    """The error for classes that are unseen in training; where they are numbers, a regression is the first way out."""
    error = unknown_labels(labels, vocab, where)
    numbers = all(as_number(plain_level(label)) is not None for label in labels)
    way = "y_block=RegressionBlock()" if numbers else number_fix(name, labels)
    if way is not None:
        classes = str(error.fix).rpartition("Otherwise ")[2]
        error = UnknownLabel(
            error.problem, expected=error.expected, fix=f"to predict numbers, {way}; for classes, {classes}"
        )
    return error


def _out_of_range(columns: Columns, names: Sequence[Name], unusable: Array) -> BadValue:
    """The error for numbers to predict that are too large."""
    row, count = int(unusable.argmax()), int(unusable.sum())
    return BadValue(
        f"{', '.join(map(repr, names))} of {count} row{'s' * (count > 1)} is not finite, or beyond {LARGEST:.0e}",
        got=f"{columns.select(names).iloc[row].tolist()} at {columns.index[[row]].tolist()[0]!r}",
        expected="finite numbers of moderate size",
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
