"""`dls.check()`: find faults of the data before training, above all items that leak between splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data.adapters import Positions, Prints, Raw, TargetColumn
from layered.data.fingerprints import CannotCompare, group_keys, raw_split
from layered.foundation import (
    BadArgument,
    BadValue,
    Finding,
    LayeredError,
    Report,
    checked,
    is_interactive,
    key_of,
    seeded,
)

IMBALANCE = 20  # ratio of the largest to the smallest class from which a warning is given
SHOWN = 3  # examples per finding


@dataclass(frozen=True, repr=False)
class Check(Report):
    """What `dls.check()` found: a table, and the findings below it.

    Args:
        rows: A dict for each split and target: split, items, repeats (items that occur in it more than once), target, missing,
            classes, smallest, largest (items of a class), low, high (of numbers); None for what is unknown.
        findings: Errors first.
    """

    rows: list[dict[str, Any]]
    findings: Sequence[Finding] = ()

    @property
    def ok(self) -> bool:
        """Whether the findings include no errors."""
        return all(finding.level != "error" for finding in self.findings)

    def records(self) -> list[dict[str, Any]]:
        return self.rows

    def notes(self) -> Sequence[str]:
        return super().notes() or ["nothing found"]


def _finding(check: str, level: str, split: str, seen: str, examples: Iterable[str] = (), fix: str = "") -> Finding:
    return Finding(check, level == "info", seen, fix, level, split, tuple(islice(examples, SHOWN)))


@checked
def check(
    dls: Any,
    *,
    sample: int | None = None,
    groups: str | Callable[[Any], Hashable] | None = None,
    show: bool = True,
) -> Check:
    """Look for faults in the items and labels of `dls` that would make results wrong.

    Two inputs are equal if they are the same byte for byte: files, rows of a table (in the columns that `get_x` reads),
    tensors. No image is decoded, no item or batch transform runs, and the loaders do not advance. What cannot be read
    without making items is reported, and the rest is checked.

    Args:
        dls: The loaders, training first.
        sample: Compare only this many items of each held-out split with the training items, and count no repeats; None
            compares all. Files are read only if another one has the same size.
        groups: What must not be in two splits, such as the patient: a column of the items, or a function of an item.
        show: Print the report. At a prompt and in a notebook, which display the returned value, nothing is printed.

    Raises:
        BadValue: `sample` is below 1.
        UnknownName: The items have no column `groups`.
        BadArgument: `groups` is given, but the items cannot be read.

    Examples:
        >>> from torch.utils.data import TensorDataset
        >>> from layered.data.data_loaders import DataLoaders
        >>> x, y = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
        >>> dls = DataLoaders.from_dsets(TensorDataset(x[:4], y[:4]), TensorDataset(x[3:], y[3:]), bs=2)
        >>> check(dls).ok
        ==================================================================
        split  items  repeats  target  missing  classes  smallest  largest
        ==================================================================
        train  4      0        target  0        2        2         2
        valid  3      0        target  0        2        1         2
        ==================================================================
        error    train, valid: 1 of 3 items of valid is in train too; e.g. item 0 = item 3
                 fix  drop the copies, or split so that equal items stay together
        False
    """
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int) or sample < 1):
        raise BadValue(
            "invalid sample, a number of items", got=repr(sample), expected="a whole number from 1, or None for all"
        )
    names = ["train", "valid", *(f"split {i}" for i in range(2, len(dls)))][: len(dls)]
    with seeded(key_of(torch.initial_seed(), "check")):  # the user's labellers may draw random numbers
        splits = dict(zip(names, map(raw_split, dls), strict=True))
        findings = [
            _finding("data set", "info", name, text, fix="a DataBlock, tables and tensors can be checked")
            for name, raw in splits.items()
            for text in raw.unchecked
        ]
        repeats = _compare(splits, sample, findings)
        if groups is not None:
            _compare_groups(splits, groups, findings)
        rows = _check_targets(splits, repeats, findings)
    order = ("error", "warning", "info")
    result = Check(rows, sorted(findings, key=lambda finding: order.index(finding.level)))
    if show and not is_interactive():  # a prompt or notebook displays the returned value itself
        print(result)
    return result


# -- inputs


def _compare(splits: dict[str, Raw], sample: int | None, findings: list[Finding]) -> dict[str, int | None]:
    """Report equal inputs; returns how many items of each split repeat an earlier one."""
    looked: dict[str, Positions] = {}
    prints: dict[str, Prints] = {}
    for i, (name, raw) in enumerate(splits.items()):
        if raw.rough is None or raw.count is None:
            continue
        count = raw.count if sample is None or i == 0 else min(sample, raw.count)
        looked[name] = np.arange(count) * raw.count // max(1, count)
        try:
            prints[name] = raw.rough(looked[name])
        except (CannotCompare, LayeredError) as error:
            problem = error.problem if isinstance(error, LayeredError) else str(error)
            findings.append(_finding("inputs", "info", name, f"the inputs are not compared: {problem}"))
    rough = dict(prints)
    for name, mine in rough.items():
        if (exact := splits[name].exact) is not None:
            others = [other for split, other in rough.items() if split != name]
            # Only inputs whose cheap fingerprints collide are read in full.
            alike = np.isin(mine, np.concatenate([*others, np.zeros(0, np.int64)]))
            if sample is None:
                alike |= np.isin(mine, _repeated(mine))
            prints[name] = mine.copy()
            prints[name][alike] = exact(looked[name][alike])
    for (a, first), (b, second) in combinations(prints.items(), 2):
        if len(leaked := np.flatnonzero(np.isin(second, first))):
            shown = []
            for i in leaked[:SHOWN]:
                twin = looked[a][np.flatnonzero(first == second[i])[0]]
                shown.append(f"{splits[b].named(int(looked[b][i]))} = {splits[a].named(int(twin))}")
            what = f"{len(leaked):,} of {len(second):,} items of {b} {'is' if len(leaked) == 1 else 'are'} in {a} too"
            fix = "drop the copies, or split so that equal items stay together"
            findings.append(_finding("inputs", "error", f"{a}, {b}", what, shown, fix))
    repeats: dict[str, int | None] = {}
    for name, mine in prints.items() if sample is None else ():
        _, start, counts = np.unique(mine, return_index=True, return_counts=True)
        repeats[name] = len(mine) - len(start)
        if repeats[name]:
            shown = [
                f"{splits[name].named(int(i))} occurs {n} times" for i, n in zip(start, counts, strict=True) if n > 1
            ]
            what = f"{repeats[name]:,} of {len(mine):,} items repeat an earlier one"
            findings.append(
                _finding("inputs", "info", name, what, shown, "drop them unless they are repeated on purpose")
            )
    return repeats


def _repeated(values: Prints) -> Prints:
    found, counts = np.unique(values, return_counts=True)
    return found[counts > 1]


def _compare_groups(splits: dict[str, Raw], groups: str | Callable[[Any], Any], findings: list[Finding]) -> None:
    keys: dict[str, set[Any]] = {}
    for name, raw in splits.items():
        if raw.items is None:
            raise BadArgument("groups are read from the items, and these data sets have none", got=name)
        keys[name] = set(group_keys(raw, groups))
    for (a, first), (b, second) in combinations(keys.items(), 2):
        if both := sorted(first & second, key=str):
            what = f"{len(both):,} of {len(second):,} groups of {b} are in {a} too"
            fix = "split by group: GroupSplitter(groups)"
            findings.append(_finding("groups", "error", f"{a}, {b}", what, map(str, both), fix))


# -- targets


@dataclass
class _Values:
    """The values of a target in one split: classes, or numbers from `low` to `high`. None, NaN and infinity are missing."""

    missing: int = 0
    classes: Counter[Any] | None = None
    low: float | None = None
    high: float | None = None


def _check_targets(
    splits: dict[str, Raw], repeats: dict[str, int | None], findings: list[Finding]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    trained: dict[str, _Values] = {}
    for i, (name, raw) in enumerate(splits.items()):
        targets: list[TargetColumn | None] = [*raw.targets] or [None]
        for target in targets:
            values = None if target is None else _read(target, raw.count or 0, name, findings)
            if target is not None and values is not None:
                _judge(target, values, trained.get(target.name), name, is_train=i == 0, findings=findings)
                if i == 0:
                    trained[target.name] = values
            counts = values.classes.values() if values is not None and values.classes else None
            rows.append(
                {
                    "split": name,
                    "items": raw.count,
                    "repeats": repeats.get(name),
                    "target": target and target.name,
                    "missing": values and values.missing,
                    "classes": counts and len(counts),
                    "smallest": counts and min(counts),
                    "largest": counts and max(counts),
                    "low": values and values.low,
                    "high": values and values.high,
                }
            )
    return rows


def _read(target: TargetColumn, count: int, split: str, findings: list[Finding]) -> _Values | None:
    values = target.values(np.arange(count))
    try:
        if target.kind == "multicategory":
            return _classes(label for labels in values for label in ([None] if labels is None else labels))
        if target.kind == "category":
            return _classes(values)
        if target.kind == "regression":
            return _numbers(values)
        return _either(values, count)
    except LayeredError as error:
        fix = str(error.fix) if error.fix is not None else "look at that item"
        findings.append(
            _finding(target.name, "error", split, f"the {target.name} cannot be read: {error.problem}", fix=fix)
        )
    except (TypeError, ValueError) as error:
        findings.append(_finding(target.name, "info", split, f"the {target.name} is not checked: {error}"))
    return None


def _classes(values: Iterable[Any]) -> _Values:
    counts: Counter[Any] = Counter()
    if isinstance(values, np.ndarray):
        labels, times = np.unique(values, return_counts=True)
        counts.update(dict(zip(labels.tolist(), times.tolist(), strict=True)))
    else:
        counts.update(None if (o := _plain(label)) is None or o != o else o for label in values)
    missing = counts.pop(None, 0)
    return _Values(missing, classes=counts)


def _plain(label: object) -> Any:
    return label.item() if isinstance(label, (Tensor, np.generic)) else label


def _numbers(values: Iterable[Any]) -> _Values:
    found = _Values()
    pieces = [values] if isinstance(values, np.ndarray) else map(_as_numbers, values)
    for piece in pieces:
        rows = piece.reshape(len(piece), -1)
        bad = ~np.isfinite(rows).all(1)
        found.missing += int(bad.sum())
        if (good := rows[~bad]).size:
            low, high = float(good.min()), float(good.max())
            found.low = low if found.low is None else min(found.low, low)
            found.high = high if found.high is None else max(found.high, high)
    return found


def _as_numbers(value: object) -> np.ndarray[Any, Any]:
    """One target as a row of numbers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    return np.atleast_1d(np.asarray(np.nan if value is None else value, np.float64))[None]


def _either(values: Iterable[Any], count: int) -> _Values:
    """Values of unknown kind: text, and few distinct whole numbers, are classes; anything else is a number."""
    if not isinstance(values, np.ndarray):
        head = list(islice(values, 1))
        first, values = _plain(head[0]) if head else None, chain(head, values)
        if isinstance(first, (float, Sequence, np.ndarray)) and not isinstance(first, str):
            return _numbers(values)
    found = _classes(values)
    labels: Counter[Any] = found.classes or Counter()
    if len(labels) > max(IMBALANCE, count // 2) and all(isinstance(label, (int, float)) for label in labels):
        return _Values(found.missing, low=float(min(labels)), high=float(max(labels)))
    return found


def _judge(
    target: TargetColumn, values: _Values, train: _Values | None, split: str, is_train: bool, findings: list[Finding]
) -> None:
    def say(level: str, what: str, labels: Iterable[Any] = (), fix: str = "") -> None:
        findings.append(_finding(target.name, level, split, what, map(repr, labels), fix))

    if values.missing and not target.has_na:
        what = (
            f"{values.missing:,} of the {target.name}s {'is' if values.missing == 1 else 'are'} None, NaN or infinite"
        )
        say("error", what, fix="drop these items, or CategoryBlock(add_na=True)")
    level = "error" if is_train else "warning"
    if values.low is not None and values.low == values.high:
        say(level, f"every {target.name} is {values.low:g}", fix="check how it is read")
    if not values.classes:
        return
    counts, is_one = values.classes, target.kind != "multicategory"
    if len(counts) == 1 and is_one:
        say(level, f"every {target.name} is {next(iter(counts))!r}", fix="check how it is read, or the splitter")
    if train is not None and train.classes:
        if unknown := [label for label in counts if label not in train.classes]:
            what = f"{_classes_are(unknown)} not in the training items, so a model cannot learn {_them(unknown)}"
            say("error", what, unknown, "split so that every class is in the training items")
        if absent := [label for label in train.classes if label not in counts]:
            say("info", f"{_classes_are(absent)} missing from it, so metrics say nothing about {_them(absent)}", absent)
    if not is_train:
        return
    if absent := [label for label in target.vocab or () if label not in counts and label != "#na#"]:
        say("warning", f"{_classes_are(absent)} in the vocabulary, but not in the training items", absent)
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if is_one and largest >= IMBALANCE * smallest:
        what = f"the classes are imbalanced: {largest:,} items of {most!r}, {smallest:,} of {least!r}"
        say("warning", what, fix="look at per-class metrics; weight the loss, or oversample (weights='balanced')")


def _classes_are(labels: Sequence[Any]) -> str:
    return "1 class is" if len(labels) == 1 else f"{len(labels):,} classes are"


def _them(labels: Sequence[Any]) -> str:
    return "it" if len(labels) == 1 else "them"
