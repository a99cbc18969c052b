"""What is to be predicted: which columns, by which block's transforms, and how predictions are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
from layered.foundation import BadArgument, BadValue, Pipeline, failed, lazy, listify, warn
from layered.tabular.columns import LARGEST, Array, Levels, numbers_of, plain_level, present

pd = lazy("pandas")

Block = TransformBlock | Callable[[], TransformBlock]


class Target:
    """One thing to predict: a class, labels, a number or several, from one column or several.

    Args:
        names: The columns it is made of.
        steps: The transforms of its block: `Categorize`, `RegressionSetup`, ….
    """

    def __init__(self, names: Sequence[Any], steps: Any) -> None:
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
    def categorize(self) -> Categorize | None:
        """The encoding of a single class, where it is one."""
        step = self.steps[0] if len(self.steps) == 1 else None
        return step if type(step) is Categorize else None

    def setup(self, train: Any, others: Any, is_declared: bool = True) -> Array | None:
        """Fit to the rows of training; returns which of the `others` to keep, where some are to be left out.

        Args:
            is_declared: False: the categories of a pandas categorical are no more than what some rows hold.

        Raises:
            BadValue: For a target that is missing, UnknownLabel for a class that only `others` have.
        """
        for rows, which in ((train, "training"), (others, "validation")):
            missing = rows[self.names].isna().to_numpy().any(1)
            has_place = self.categorize is not None and self.categorize.add_na
            if missing.any() and not has_place:
                raise _missing(rows, self.names, missing, which)
        encode = self.categorize
        if encode is None:
            self._fit(train)
            return None
        column, later = train[self.names[0]], others[self.names[0]]
        if encode.vocab is None:
            seen = pd.concat([column, later]) if encode.unseen == "extend" else column
            labels = seen if is_declared and hasattr(seen.dtype, "categories") else present(seen)
            in_order = CategoryMap(labels, sort=encode.sort)
            encode.vocab = CategoryMap(map(plain_level, in_order), sort=False, add_na=encode.add_na)
        else:
            encode = Categorize([*map(plain_level, encode.vocab)], False, encode.add_na, encode.unseen)
            self.steps = Pipeline(encode)
        if encode.c < 2:
            raise BadValue(
                f"there is only one class in {self.names[0]!r}, so there is nothing to tell apart",
                got=list(encode.fitted_vocab),
                fix="check y_names and splits; for numbers to predict y_block=RegressionBlock()",
            )
        return None if encode.add_na else self._settle(encode, later)

    def _settle(self, encode: Categorize, later: Any) -> Array | None:
        codes = Levels(encode.fitted_vocab, unknown=-1).codes(later)
        strange = codes < 0
        if not strange.any():
            return None
        labels = list(later[strange].unique())
        if encode.unseen != "drop":
            raise unknown_labels(labels, encode.fitted_vocab, " of the training rows, but in the validation rows")
        warn(f"labels that only validation rows have are left out, with {int(strange.sum())} rows: {list_some(labels)}")
        return ~strange

    def _fit(self, train: Any) -> None:
        encode = self.steps[0] if len(self.steps) else None
        if isinstance(encode, RegressionSetup):
            encode.c = encode.c or len(self.names)
            if len(self.names) > 1 and encode.c != len(self.names):
                raise BadValue(
                    "there is not one column for each number to predict",
                    got=f"RegressionBlock({encode.c}) and the columns {', '.join(map(repr, self.names))}",
                )
        if not isinstance(encode, (RegressionSetup, EncodedMultiCategorize)):
            done, self.steps = self.steps, Pipeline()
            for step in done:
                self.steps.add(step, _Values(self, train, done), True)
        self.tensor(self.encoded(train.iloc[:1], strict=True))

    def encoded(self, frame: Any, strict: bool = False) -> Any:
        """The columns of this target, encoded: classes as codes, numbers as float32, others as they are.

        Raises:
            UnknownLabel: For what is no number.
            BadValue: For what is no number.
        """
        encode = self.steps[0] if len(self.steps) else None
        res = frame[self.names].copy()
        if self.categorize is not None:
            name = self.names[0]
            levels = Levels(self.categorize.fitted_vocab, 0 if self.categorize.add_na else -1)
            codes = levels.codes(frame[name])
            if (codes < 0).any():
                strange = frame[name][codes < 0]
                if strange.isna().any():
                    raise _missing(frame, self.names, frame[name].isna().to_numpy(), "")
                raise unknown_labels(list(strange.unique()), self.categorize.fitted_vocab)
            res[name] = codes
        elif isinstance(encode, (RegressionSetup, EncodedMultiCategorize)) and not _holds_vectors(frame, self.names):
            numbers = numbers_of(frame, self.names, strict=True).astype(np.float32)
            if np.isnan(numbers).any():
                raise _no_targets(frame, self.names, np.isnan(numbers).max(1))
            res = pd.DataFrame(numbers, columns=self.names, index=frame.index)
        return res

    def tensor(self, frame: Any) -> Tensor:
        """The target of each row, of a table whose columns of this target are encoded: [row, …]."""
        if self.categorize is not None:
            return torch.from_numpy(frame[self.names].to_numpy(np.int64, copy=True))
        if all(getattr(frame[name].dtype, "kind", "O") in "biuf" for name in self.names):
            return torch.from_numpy(frame[self.names].to_numpy(np.float32, copy=True))
        rows = [_tensor(self.made(value)) for value in self.values(frame)]
        return torch.stack(rows) if rows else torch.zeros(0, self.c)

    def values(self, frame: Any) -> list[Any]:
        """What the transforms start from, for each row: the value of one column, or those of several as a list."""
        one = len(self.names) == 1
        return list(frame[self.names[0]].tolist() if one else frame[self.names].to_numpy().tolist())

    def made(self, value: Any) -> Any:
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

    def __init__(self, target: Target, frame: Any, steps: Pipeline) -> None:
        self.target, self.frame, self.steps = target, frame, steps

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, i: int) -> Any:
        return self.target.made(self.target.values(self.frame.iloc[i : i + 1])[0])

    def __iter__(self) -> Any:
        return map(self.target.made, self.target.values(self.frame))

    @property
    def vocab(self) -> Any:
        return self.target.steps.vocab


def targets_of(frame: Any, names: Sequence[Any], y_block: Any) -> list[Target]:
    """The targets in these columns: as the blocks say, else by what the columns hold.

    Args:
        y_block: One block for all columns, or a list with one for each of several targets; a block in the list takes
            one column. None: columns that all hold numbers are one regression, else each column is a target of its
            own.
    """
    if not names:
        return []
    if isinstance(y_block, (list, tuple)):
        if len(y_block) != len(names):
            raise BadValue(
                "there is not one block for each target", got=f"{len(y_block)} blocks for {len(names)} columns"
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


def _target(names: Sequence[Any], block: Any) -> Target:
    made = block() if isinstance(block, type) or (callable(block) and not isinstance(block, TransformBlock)) else block
    if not isinstance(made, TransformBlock):
        raise BadArgument(
            "y_block is a block, or a list with one for each target",
            got=repr(block),
            expected="CategoryBlock(), RegressionBlock(), MultiCategoryBlock(encoded=True, vocab=[...])",
        )
    return Target(names, own_copies(listify(made.type_tfms)))


def _is_numeric(column: Any) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _holds_vectors(frame: Any, names: Sequence[Any]) -> bool:
    return len(names) == 1 and len(frame) > 0 and bool(np.ndim(frame[names[0]].iloc[0]))


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value).as_subclass(Tensor)


def _cell(o: Any) -> Any:
    return o.item() if isinstance(o, Tensor) and o.numel() == 1 else o


def _no_targets(frame: Any, names: Sequence[Any], unread: Array) -> BadValue:
    """The error for numbers to predict that are missing, or too large."""
    missing = frame[list(names)].isna().to_numpy().any(1)
    if missing.any():
        return _missing(frame, names, missing, "")
    row, count = int(unread.argmax()), int(unread.sum())
    return BadValue(
        f"{', '.join(map(repr, names))} of {count} row{'s' * (count > 1)} is not finite, or beyond {LARGEST:.0e}",
        got=f"{frame[list(names)].iloc[row].tolist()} at {frame.index[[row]].tolist()[0]!r}",
        expected="numbers to predict that a model can reach",
        fix=f"leave those rows out: df[(df[{list(names)!r}].abs() <= {LARGEST:.0e}).all(axis=1)], before the splits are made",
    )


def _missing(frame: Any, names: Sequence[Any], missing: Array, which: str) -> BadValue:
    count = int(missing.sum())
    return BadValue(
        f"{count} {which} row{'s have' if count > 1 else ' has'} no {', '.join(map(repr, names))}".replace("  ", " "),
        got=f"first at {frame.index[missing].tolist()[0]!r}",
        expected="a target in each row",
        fix=f"leave those rows out: df.dropna(subset={list(names)!r}), before the splits are made",
    )
