"""Encodings: labels to numbers that a model learns to predict, and back."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from layered.files import exactly, value_kinds
from layered.foundation import (
    Array,
    BadValue,
    ItemTransform,
    L,
    TensorCategory,
    TensorMultiCategory,
    TitledTensorScalar,
    Transform,
    UnknownLabel,
    coll_repr,
    describe,
    is_frame,
    nearest,
    show_title,
    tensor,
    transforms,
    warn,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNSEEN = ("error", "drop", "extend")


class Category(str):
    """A label; shown as a title."""

    def show(self, ctx: Axes | None = None, color: str = "black", **kwargs: object) -> Any:
        return show_title(self, ctx=ctx, color=color, **kwargs)


class MultiCategory(L):
    """Several labels; shown as a title, joined by semicolons."""

    def show(self, ctx: Axes | None = None, sep: str = ";", color: str = "black", **kwargs: object) -> Any:
        return show_title(sep.join(map(str, self)), ctx=ctx, color=color, **kwargs)


@value_kinds.register("vocab")
class CategoryMap(Sequence[Any]):
    """A vocabulary: labels in order, and `o2i`, a dict from label to position.

    Args:
        col: The labels as they occur, or a pandas categorical, whose order is kept.
        sort: Sort the distinct labels; False keeps the order of first appearance.
        add_na: Put '#na#' first, for missing and unknown labels.
        strict: Of a pandas categorical, keep only the categories that occur.

    Examples:
        >>> vocab = CategoryMap(["b", "a", "b"]); vocab, vocab.o2i["b"]
        (['a', 'b'], 1)
    """

    def __init__(self, col: object, sort: bool = True, add_na: bool = False, strict: bool = False) -> None:
        categories = getattr(getattr(col, "cat", col), "categories", None)
        self.has_missing = False
        if categories is not None:
            present = set(distinct(col)[0]) if strict and is_frame(col) else set(categories)
            items = [_plain(o) for o in categories if o in present]
        else:
            items, self.has_missing = distinct(col)
            if sort:
                items = _sorted(items)
        self.items: list[Any] = ["#na#", *(o for o in items if o != "#na#")] if add_na else items
        self.add_na = add_na
        self.o2i: dict[Any, int] = {v: i for i, v in enumerate(self.items)}

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.items[i]
        return self.map_ids(i) if np.ndim(i) else self.items[int(i)]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equality is that of a list, which is not hashable

    def __repr__(self) -> str:
        return repr(self.items) if len(self) <= 250 else coll_repr(self, 250)

    def index_of(self, label: object) -> int:
        """The position of `label`; that of '#na#' for an unknown one.

        Raises:
            UnknownLabel: The label is unknown and the vocabulary has no '#na#'.
        """
        try:
            index = self.o2i.get(_plain(label))
        except TypeError as error:
            raise _unhashable([label], error) from error
        if index is not None:
            return index
        if self.add_na:
            return 0
        raise unknown_labels([label], self)

    def map_objs(self, objs: Iterable[Any]) -> L:
        """The positions of labels."""
        objs = list(objs)
        try:
            return L(list(map(self.o2i.__getitem__, objs)), use_list=True)
        except (KeyError, TypeError):  # unknown, unhashable, or a NumPy scalar: one by one, which is slower
            return L(list(map(self.index_of, objs)), use_list=True)

    def map_ids(self, ids: Iterable[int]) -> L:
        """The labels at positions."""
        return L([self.items[int(i)] for i in ids], use_list=True)

    def described(self) -> dict[str, Any]:
        """As data, for exports."""
        return {"items": self.items[self.add_na :], "add_na": self.add_na}

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> CategoryMap:
        """Undo `described`: the same labels in the same order."""
        return cls(exactly(list, state["items"]), sort=False, add_na=exactly(bool, state["add_na"]))


def distinct(labels: Any) -> tuple[list[Any], bool]:
    """The distinct labels in order of first appearance, as Python values, and whether any was missing (None, NaN).

    Examples:
        >>> distinct(np.array([2.0, 1.0, 2.0, np.nan]))
        ([2.0, 1.0], True)
    """
    is_series = is_frame(labels)
    try:
        found = labels.unique() if is_series else dict.fromkeys(labels)
        plain = dict.fromkeys(map(_plain, found))
    except TypeError as error:
        raise _unhashable(labels, error) from error
    present = [o for o in plain if not is_missing(o)]
    return present, len(present) < len(plain)


def _plain(label: object) -> Any:
    """NumPy and torch scalars as Python values, which hash and print alike whatever their dtype."""
    if isinstance(label, np.generic) or (isinstance(label, Tensor) and label.ndim == 0):
        return label.item()
    return label


def is_missing(value: object) -> bool:
    """Whether a value means "missing": None, NaN, NaT, pandas' NA; an array never does.

    Args:
        value: A label, or a cell of a table.
    """
    try:
        differs = value != value
        return value is None or (differs is not False and not np.ndim(differs) and bool(differs))
    except TypeError:  # whether pandas' NA differs from itself is not known to it
        return True


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError as error:
        kinds = sorted({type(o).__name__ for o in items})
        examples = ", ".join(repr(next(o for o in items if type(o).__name__ == kind))[:60] for kind in kinds)
        raise BadValue(
            "the labels cannot be sorted",
            got=f"{'a mix of ' if len(kinds) > 1 else ''}{', '.join(kinds)}: {examples}",
            expected="either text or numbers",
            fix="convert them to text, get_y=Pipeline([get_y, str]), or give vocab= with sort=False",
        ) from error


def _unhashable(labels: Iterable[Any], error: TypeError) -> BadValue:
    example = next((o for o in labels if isinstance(o, (list, dict, set, L, np.ndarray))), None)
    return BadValue(
        "invalid label",
        got=f"{type(example).__name__} {example!r}" if example is not None else str(error),
        expected="one label per item, text or a number",
        fix="MultiCategoryBlock for several labels per item, RegressionBlock for numbers to predict",
    )


def list_some(labels: Sequence[Any]) -> str:
    """The first five labels of a list and how many more there are, for messages."""
    return ", ".join(repr(o) for o in labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def unknown_labels(labels: Sequence[Any], vocab: Sequence[Any], where: str = "") -> UnknownLabel:
    """The error for labels that `vocab` does not hold."""
    several = len(labels) > 1
    return UnknownLabel(
        f"the label{'s' if several else ''} {list_some(labels)} {'are' if several else 'is'} not in the vocabulary{where}",
        expected=f"one of {len(vocab)} labels seen in training"
        + (f": {', '.join(map(str, vocab))}" if len(vocab) <= 10 else ""),
        fix=_meant(labels[0], vocab)
        + "split so that every label is in the training items, give the whole vocabulary (CategoryBlock(vocab=[...])), or "
        + "choose how such labels are treated (CategoryBlock(unseen='drop'), or 'extend')",
    )


def _meant(label: object, vocab: Sequence[Any]) -> str:
    """What an unknown label was probably meant to be: the start of a fix."""
    if isinstance(label, float):
        return "RegressionBlock, if these are numbers to predict. Otherwise "
    twin = next((other for other in vocab if isinstance(label, str) and alike(label) == alike(other)), None)
    if twin is not None:
        return f"{difference(label, twin)}. Otherwise "
    near = nearest(str(label), map(str, vocab), 1)
    return f"did you mean '{near[0]}'? Otherwise " if near else ""


def alike(label: object) -> object:
    """What labels that look the same have in common: text without outer and repeated blanks, in one Unicode form.

    Examples:
        >>> alike(" B\u00e4r") == alike("Ba\u0308r ")
        True
    """
    return " ".join(unicodedata.normalize("NFC", label).split()) if isinstance(label, str) else label


def difference(label: object, twin: object) -> str:
    """How two labels that look the same differ, and what makes them one."""
    forms = [unicodedata.normalize("NFC", str(o)) for o in (label, twin)]
    blanks = [" ".join(str(o).split()) for o in (label, twin)]
    what = "Unicode form" if forms[0] == forms[1] else "blanks" if blanks[0] == blanks[1] else "blanks and Unicode form"
    return (
        f"{label!a} and {twin!a} differ in {what} only: rename the folders or labels, or import unicodedata and give "
        "get_y=Pipeline([get_y, lambda label: unicodedata.normalize('NFC', ' '.join(label.split()))])"
    )


def warn_of_twins(vocab: Sequence[Any]) -> None:
    """Warn about labels that look the same, but are different classes."""
    first: dict[object, object] = {}
    twins = [(label, first[alike(label)]) for label in vocab if first.setdefault(alike(label), label) != label]
    if twins:
        more = f" (and {len(twins) - 1} more pairs)" if len(twins) > 1 else ""
        warn(f"two classes look the same{more}: {difference(*twins[0])}")


@transforms.register()
class Categorize(Transform):
    """A label to its position in the vocabulary, fitted on the training items, and back to a `Category`.

    Args:
        vocab: The vocabulary, if it is known; by default fitted on the training items.
        sort: Sort the labels, including those of `vocab`; False keeps the order of first appearance.
        add_na: Reserve position 0, '#na#', for missing and unknown labels.
        unseen: How a `DataBlock` treats labels that only validation items have: "error" raises; "drop" removes these
            items and "extend" adds the labels to the vocabulary, both with a warning that names the labels.

    Examples:
        >>> cat = Categorize(); cat.setup(["cat", "dog", "cat"]); cat("dog"), cat.decode(cat("dog"))
        (TensorCategory(1), 'dog')
    """

    order = 1
    target_kind: ClassVar[str | None] = "category"
    fits = ("vocab",)
    fits_vocab: ClassVar[bool] = True

    def __init__(
        self, vocab: Sequence[Any] | None = None, sort: bool = True, add_na: bool = False, unseen: str = "error"
    ) -> None:
        super().__init__()
        if unseen not in UNSEEN:
            raise BadValue(
                "unknown value of unseen, which decides about labels that only validation items have",
                got=repr(unseen),
                expected=" or ".join(map(repr, UNSEEN)),
            )
        self.sort, self.add_na, self.unseen = sort, add_na, unseen
        self.train_setup = False if unseen == "extend" else None
        self.vocab: CategoryMap | None = None if vocab is None else CategoryMap(vocab, sort=sort, add_na=add_na)

    def labels(self, targets: Iterable[Any]) -> Iterable[Any]:
        """All labels of some targets."""
        return targets

    def setup_items(self, items: object) -> None:
        if self.vocab is None and isinstance(items, Iterable):
            self.vocab = CategoryMap(self.labels(items), sort=self.sort, add_na=self.add_na)
            warn_of_twins(self.vocab)

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.fitted_vocab)

    @property
    def fitted_vocab(self) -> CategoryMap:
        """The vocabulary.

        Raises:
            BadValue: It was neither given nor fitted yet.
        """
        if self.vocab is None:
            raise BadValue("Categorize has no vocabulary yet", fix="call setup(items) first, or give vocab=")
        return self.vocab

    def check_samples(self, samples: Any) -> None:
        """Refuse samples whose targets do not go with their inputs; by default there is nothing to refuse.

        Args:
            samples: The samples of a split, as a `DataBlock` makes them: a `Datasets`.
        """

    def encode_label(self, o: object) -> TensorCategory:
        return TensorCategory(self.fitted_vocab.index_of(o))

    def decode_index(self, o: Tensor | int) -> Category:
        return Category(self.class_at(int(o)))

    def class_at(self, position: int) -> Any:
        """The class with a number.

        Args:
            position: Its position in the vocabulary.

        Raises:
            BadValue: The vocabulary is shorter.
        """
        if position >= len(self.fitted_vocab):
            raise BadValue(
                f"there is no class {position}: the model has more outputs than there are classes",
                got=f"{len(self.fitted_vocab)} classes",
                expected="one output for each class",
                fix="a model with dls.c outputs",
            )
        return self.fitted_vocab[position]


@transforms.register()
class MultiCategorize(ItemTransform, Categorize):
    """A list of labels to their positions, and back to a `MultiCategory`.

    Args:
        vocab: The vocabulary, in order; by default fitted on the training items, and sorted.
        add_na: Reserve position 0, '#na#', for missing and unknown labels.
        unseen: How a `DataBlock` treats labels that only validation items have: see `Categorize`.
    """

    target_kind = "multicategory"

    def __init__(self, vocab: Sequence[Any] | None = None, add_na: bool = False, unseen: str = "error") -> None:
        super().__init__(vocab, sort=vocab is None, add_na=add_na, unseen=unseen)

    def labels(self, targets: Iterable[Any]) -> Iterable[Any]:
        """All labels of some targets."""
        return itertools.chain.from_iterable(map(_labels_of, targets))

    def encode_label(self, o: object) -> TensorMultiCategory:
        positions = [self.fitted_vocab.index_of(label) for label in _labels_of(o)]
        return TensorMultiCategory(torch.tensor(positions, dtype=torch.int64))

    def decode_index(self, o: Any) -> MultiCategory:  # type: ignore[override]  # several labels at once
        return MultiCategory([self.class_at(int(i)) for i in o], use_list=True)


def _labels_of(target: object) -> Iterable[Any]:
    if isinstance(target, str) or not isinstance(target, Iterable):
        raise BadValue(
            "MultiCategorize takes a list of labels",
            got=repr(target),
            expected="a list per item, empty for an item without labels",
            fix="split the text: ColReader('labels', label_delim=' ')",
        )
    return target


def one_hot(x: object, c: int) -> Tensor:
    """Positions of labels as zeros and ones over all classes: uint8 [c].

    Args:
        x: One position, or several.
        c: The number of classes.

    Examples:
        >>> one_hot([0, 2], 3)
        tensor([1, 0, 1], dtype=torch.uint8)
    """
    return torch.zeros(c, dtype=torch.uint8).index_fill_(0, torch.as_tensor(x, dtype=torch.int64).reshape(-1), 1)


@transforms.register()
class OneHotEncode(Transform):
    """Positions of labels to a vector of zeros and ones over all classes: float32 [class], and back.

    Args:
        c: The number of classes; by default the size of the vocabulary fitted before this step.

    Examples:
        >>> OneHotEncode(c=3)([0, 2])
        TensorMultiCategory([1., 0., 1.])
    """

    order = 2
    fits = ("c",)

    def __init__(self, c: int | None = None) -> None:
        super().__init__()
        self.c = c

    def setup_items(self, items: Any) -> None:
        if self.c is None and getattr(items, "vocab", None) is not None:
            self.c = len(items.vocab)

    def encode_positions(self, o: TensorCategory | L | list[int] | Array | int) -> TensorMultiCategory:
        if self.c is None:
            raise BadValue(
                "OneHotEncode does not know how many classes there are",
                fix="give it, OneHotEncode(c=10), or put MultiCategorize before it",
            )
        return TensorMultiCategory(one_hot(o, self.c).float())

    def decode_vector(self, o: Tensor) -> TensorMultiCategory:
        return TensorMultiCategory(o.nonzero().flatten())


@transforms.register()
class EncodedMultiCategorize(Categorize):
    """Targets that are already zeros and ones, one for each label of `vocab`: float32 [class].

    Args:
        vocab: The labels, in the order of the zeros and ones.
    """

    target_kind = "multicategory"
    fits_vocab = False

    def __init__(self, vocab: Sequence[Any]) -> None:
        super().__init__(vocab, sort=False)

    def encode_label(self, o: object) -> TensorMultiCategory:
        flags = tensor(o).float()
        if flags.shape != (self.c,):
            raise BadValue("expected a zero or one for each label", got=repr(o), expected=f"{self.c} values")
        return TensorMultiCategory(flags)

    def decode_index(self, o: Any) -> MultiCategory:  # type: ignore[override]  # a whole vector
        return MultiCategory([v for v, is_set in zip(self.fitted_vocab, o, strict=True) if is_set], use_list=True)


@transforms.register()
class RegressionSetup(ItemTransform):
    """One or several numbers to float32.

    Args:
        c: Numbers per item; by default counted in the first one.
    """

    target_kind: ClassVar[str | None] = "regression"
    fits = ("c",)

    def __init__(self, c: int | None = None) -> None:
        super().__init__()
        self.c = c

    def setup_items(self, items: Any) -> None:
        if self.c is None and items is not None:
            example = items[0]
            self.c = len(example) if isinstance(example, Sequence) or np.ndim(example) else 1

    def encode_numbers(self, o: object) -> Tensor:
        try:
            numbers = tensor(o).float()
        except (TypeError, ValueError) as error:
            raise BadValue(
                "the target is not a number",
                got=describe(o),
                expected="a number, or several in a list, array or tensor",
                fix="CategoryBlock for labels; float(...) for numbers that are text",
            ) from error
        if numbers.isnan().any():
            raise BadValue(
                "the target is missing",
                got=describe(o),
                expected="a number",
                fix="drop those items (df.dropna(subset=...)), or use TransformBlock, which accepts any target",
            )
        return numbers

    def decode_numbers(self, o: Tensor) -> None:
        return TitledTensorScalar(o) if o.ndim == 0 else o  # type: ignore[return-value]  # shown, not retyped


def class_vocab(dls: object) -> Sequence[Any] | None:
    """The classes of the (last) target; None if there are none. `dls.vocab` has the vocabulary of each column that has one.

    Args:
        dls: `DataLoaders`, a loader or a data set.
    """
    vocabs = target_vocabs(dls)
    return vocabs[-1] if vocabs else None


def target_vocabs(dls: object) -> list[Sequence[Any]]:
    """The classes of each target that has some; the vocabulary of a text that numbers are predicted from is not among them.

    Args:
        dls: `DataLoaders`, a loader or a data set.
    """
    vocab = getattr(dls, "vocab", None)
    each = list(vocab) if isinstance(vocab, L) else [] if vocab is None else [vocab]
    kinds = getattr(dls, "target_kinds", None)
    count = sum(kind != "regression" for kind in kinds) if kinds else 1
    return each[max(len(each) - count, 0) :]


def get_c(dls: object) -> int:
    """The number of outputs that a model for `dls` needs: its classes, or the numbers to predict; 0 if unknown.

    Args:
        dls: `DataLoaders`, or any object with an attribute `c` or `vocab`.
    """
    c = getattr(dls, "c", None)
    if c is not None:
        return int(c)
    vocab = getattr(dls, "vocab", None)
    return len(vocab) if vocab is not None else 0


def outputs_for(dls: object, targets: Sequence[str | None], fix: str) -> int:
    """How many outputs a model for `dls` needs: see `get_c`.

    Args:
        dls: `DataLoaders`, or any object with an attribute `c` or `vocab`.
        targets: The kinds of its targets: "category", …
        fix: What makes the loaders say it, for the error.

    Raises:
        BadValue: The targets do not say, or have only one class.
    """
    count = get_c(dls)
    if not count:
        raise BadValue(
            "the data does not say how many outputs the model needs",
            got=f"targets of kind {', '.join(map(str, targets))}" if targets else "loaders without targets",
            fix=fix,
        )
    if count == 1 and list(targets) == ["category"]:
        raise BadValue(
            "the target has only one class, so there is nothing to classify",
            got=f"the class {(class_vocab(dls) or ['?'])[0]!r} for all items",
            expected="at least two different labels",
            fix="check get_y (or the folders), or give the whole vocabulary: CategoryBlock(vocab=[...])",
        )
    return count
