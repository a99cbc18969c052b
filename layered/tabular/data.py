"""Loaders of tables, which slice batches from tensors made once, and the recipes that build them from a frame or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from layered.data import (
    DataLoaders,
    IndexSplitter,
    Normalize,
    RandomSplitter,
    Splitter,
    TfmdDL,
    Weights,
    arguments_of,
    csv_option_names,
    csv_options,
    values_by_label,
)
from layered.foundation import (
    Array,
    BadValue,
    L,
    LayeredError,
    StrPath,
    lazy,
    loader_kinds,
    names_of,
    refuse_unknown,
    visible,
    warn,
)
from layered.tabular.columns import Names, listed
from layered.tabular.kinds import column_kind
from layered.tabular.procs import Categorify, FillMissing
from layered.tabular.reading import TableLike, as_frame, cont_cat_split, read_table
from layered.tabular.table import MAX_SHOWN, Procs, Tabular, table_of
from layered.tabular.targets import Blocks, Target

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")

PROCS = (Categorify, FillMissing, Normalize)


@loader_kinds.register("tabular.TabDataLoader")
class TabDataLoader(TfmdDL):
    """Batches of a `Tabular`: (codes int64 [batch, category], numbers float32 [batch, number], targets [batch, …] …).

    Args:
        dataset: A processed `TabularPandas`, or a part of it.
        bs: Rows per batch.
        shuffle: Whether each epoch takes the rows in a new order.
        kwargs: Further arguments of `TfmdDL`, such as `drop_last`, `weights`, `device`. `num_workers` is 0 by default, as
            slicing a tensor is cheaper than sending it from another process.
    """

    def __init__(self, dataset: Tabular, bs: int | None = 16, shuffle: bool = False, **kwargs: Any) -> None:
        super().__init__(dataset, bs=bs, shuffle=shuffle, **{"num_workers": 0, **kwargs})

    @property
    def _is_empty_test(self) -> bool:
        """Whether this is a test set (no targets) without rows."""
        return self.n == 0 and not self.drop_last and len(self.dataset.tensors) == self.dataset.n_inp

    def __len__(self) -> int:
        return 1 if self._is_empty_test else super().__len__()

    def __iter__(self) -> Any:
        """The batches. An empty test set gives one batch of 0 rows, so that its predictions are empty tensors of the right
        shape rather than an error."""
        if self._is_empty_test:
            return iter([tuple(t if self.device is None else t.to(self.device) for t in self.dataset.tensors)])
        return super().__iter__()

    def decoded(self, b: object, max_n: int = 10) -> Tabular:
        """The first rows of a batch as a table, decoded."""
        inputs, targets = self._decoded_parts(b, max_n)
        for target, values in zip(inputs.target_columns, targets, strict=False):
            for name, column in target.columns_of(values).items():
                inputs.items[name] = column
        return inputs

    def decode_batch(self, b: object, max_n: int = 9, full: bool = True) -> L:
        """The first samples, decoded: the inputs as mappings of categories and of numbers, then each target."""
        to, targets = self._decoded_parts(b, max_n)
        groups = [list(group) for group in (to.cat_names, to.cont_names)[: to.n_inp]]
        rows = to.items.to_dict("records")
        inputs = [[{name: row[name] for name in group} for row in rows] for group in groups]
        return L(list(zip(*inputs, *targets, strict=True)), use_list=True)

    def _decoded_parts(self, b: object, max_n: int) -> tuple[Tabular, list[list[Any]]]:
        """The inputs of the first samples as a table, and for each target its values."""
        to: Tabular = self.dataset
        parts = [part[:max_n].detach().cpu() for part in self.decode(b)]
        names = (to.cat_names, to.cont_names)[: to.n_inp]
        frames = [
            pd.DataFrame(part.numpy(), columns=pd.Index(list(group), tupleize_cols=False))
            for part, group in zip(parts, names, strict=False)
        ]
        targets = zip(to.target_columns, parts[to.n_inp :], strict=False)
        rows = to.with_rows(pd.concat(frames, axis=1), is_processed=True).decode()
        return rows, [[target.decode(o) for o in part] for target, part in targets]

    def _target_decoders(self) -> list[Callable[[Any], Any]]:
        return [target.decode for target in self.dataset.target_columns]

    def _pre_show_batch(self, b: object, max_n: int) -> tuple[Any, Any, L | None]:
        return self.decoded(b, max_n), None, self.decode_batch(b, max_n)

    # -- as data, for exports

    @classmethod
    def table_type(cls) -> type[Tabular]:
        """The class of table that an export of this loader is restored to."""
        return TabularPandas

    @classmethod
    def loaders_type(cls) -> type[DataLoaders]:
        """The class of the `DataLoaders` that an export of this loader is restored to."""
        return TabularDataLoaders

    def described(self) -> dict[str, Any]:
        """What an export keeps of the table: column names, fitted procs and targets, but no rows."""
        return {**described_table(self.dataset), "bs": self.bs, "after_batch": self.after_batch}

    @classmethod
    def from_described(cls, state: dict[str, Any]) -> DataLoaders:
        """Loaders without rows, rebuilt from what `described` returned."""
        to = table_from_described(cls.table_type(), state)
        train = cls(to, bs=state["bs"], shuffle=True, drop_last=True, do_setup=False, after_batch=state["after_batch"])
        return cls.loaders_type()(train, train.new(to, shuffle=False, drop_last=False), device="cpu")


@loader_kinds.register("tabular.TabWeightedDL")
class TabWeightedDL(TabDataLoader):
    """A `TabDataLoader` whose training epochs are drawn with replacement, each row in proportion to its weight.

    Args:
        dataset: A processed `TabularPandas`, or a part of it.
        bs: Rows per batch.
        shuffle: Whether each epoch takes the rows in a new order; always so if there are weights.
        wgts: A weight for each row, "balanced" or "oversample"; None takes each row once. The argument `weights` of any
            loader does the same.
        kwargs: Further arguments of `TabDataLoader`.
    """

    def __init__(
        self, dataset: Tabular, bs: int | None = 16, shuffle: bool = False, wgts: Weights | None = None, **kwargs: Any
    ) -> None:
        weights = kwargs.pop("weights", None) if wgts is None else wgts
        super().__init__(dataset, bs=bs, shuffle=shuffle or weights is not None, weights=weights, **kwargs)


class TabularDataLoaders(DataLoaders):
    """Training and validation loaders of a table: see `from_df`."""

    @classmethod
    def from_df(
        cls,
        df: TableLike,
        path: StrPath = ".",
        procs: Procs = None,
        cat_names: Names = None,
        cont_names: Names = None,
        y_names: Names = None,
        y_block: Blocks = None,
        valid_idx: Sequence[int] | None = None,
        *,
        valid_pct: float = 0.2,
        seed: int | None = None,
        splits: Sequence[Sequence[int] | Array] | None = None,
        splitter: Splitter | None = None,
        reduce_memory: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Loaders of a frame, which is not changed.

        Args:
            df: The table: a pandas frame, or anything that `as_frame` accepts.
            path: Where a learner of these loaders saves its files.
            procs: How the table is prepared; `[Categorify, FillMissing, Normalize]` by default.
            cat_names: The categorical columns. If neither these nor `cont_names` are given, `cont_cat_split` sorts all
                columns but the targets.
            cont_names: The continuous columns.
            y_names: The target column, or several; the last column by default.
            y_block: The block of the target, such as `CategoryBlock()` for classes that are whole numbers; by default
                numbers are regressed and everything else is classified.
            valid_idx: The positions of the validation rows, or their labels in a pandas Index; None draws them at random.
            valid_pct: The share of the rows to validate on if `valid_idx` is None.
            seed: The seed of that draw; None draws anew each time.
            splits: The positions of the training and of the validation rows, or their labels in a pandas Index; replaces
                `valid_idx` and `valid_pct`.
            splitter: A function from the frame to such splits, in their place: `KFoldSplitter(0)`.
            reduce_memory: Whether floats are stored as float32.
            kwargs: Arguments of the loaders: `bs`, `val_bs`, `device`, `weights`, ….

        Raises:
            BadArgument: For an unknown argument, and for anything that is not a table.
            BadValue: For columns that do not exist or do not suit their role.
        """
        refuse_unknown(kwargs, known_arguments(cls.from_df), f"{cls.__name__}.from_df")
        frame = as_frame(df)
        names = list(frame.columns)[-1:] if y_names is None else y_names
        if cat_names is None and cont_names is None:
            cont_names, cat_names = split_columns(frame, names)
        if splits is None:
            usual = RandomSplitter(valid_pct, seed) if valid_idx is None else IndexSplitter(valid_idx)
            splits = (splitter or usual)(frame)
        to = TabularPandas(
            frame, list(PROCS) if procs is None else procs, cat_names, cont_names, names, y_block, splits,
            reduce_memory=reduce_memory,
        )  # fmt: skip
        return cls.from_tabular(to, path=path, **kwargs)

    @classmethod
    def from_csv(cls, csv: StrPath, skipinitialspace: bool = True, **kwargs: Any) -> Self:
        """Loaders of a CSV file; its delimiter is found.

        Args:
            csv: The file, or a URL.
            skipinitialspace: Whether blanks after a comma are dropped.
            kwargs: Arguments of `from_df`, and all options of `pandas.read_csv`: `sep`, `decimal`, `encoding`, ….
        """
        refuse_unknown(kwargs, known_arguments(cls.from_df) | csv_option_names(), f"{cls.__name__}.from_csv")
        options = {"skipinitialspace": skipinitialspace, **csv_options(kwargs)}
        return cls.from_df(read_table(csv, **options), **kwargs)

    @classmethod
    def from_parquet(cls, parquet: StrPath, **kwargs: Any) -> Self:
        """Loaders of a Parquet file.

        Args:
            parquet: The file, or a URL.
            kwargs: Arguments of `from_df`.
        """
        return cls.from_df(read_table(parquet), **kwargs)

    @classmethod
    def from_tabular(cls, to: Tabular, bs: int = 64, weights: Weights | None = None, **kwargs: Any) -> Self:
        """Loaders of the splits of a processed table.

        Args:
            to: The table.
            bs: Rows per training batch.
            weights: How often each training row is drawn: a weight for each training row or for each row of the original
                frame, "balanced" (all classes alike) or "oversample" (rare classes repeated).
            kwargs: Further arguments of the loaders: `val_bs`, `device`, ….

        Raises:
            BadValue: If the number of weights matches neither the training rows nor the frame.
        """
        kwargs = {"val_drop_last": False, "dl_type": TabDataLoader, **kwargs}
        if weights is not None:
            kwargs["weights"] = weights if isinstance(weights, str) else training_weights(to, weights)
        return cls.from_dsets(*(to.subset(i) for i in range(to.n_subsets)), bs=bs, **kwargs)

    def _facts(self) -> tuple[str, dict[str, object]]:
        title, facts = super()._facts()
        table = self.train.dataset
        return title, {**facts, **table.facts()[1]} if isinstance(table, Tabular) else facts

    def __repr__(self) -> str:
        table = self.train.dataset
        rows = table.first_rows().to_string(max_cols=MAX_SHOWN) if isinstance(table, Tabular) else ""
        return "\n".join(filter(None, [super().__repr__(), visible(rows, None)]))

    def _repr_html_(self) -> str:
        table = self.train.dataset
        rows = visible(table.first_rows().to_html(max_cols=MAX_SHOWN), None) if isinstance(table, Tabular) else ""
        return super()._repr_html_() + rows

    def show_batch(self, b: object = None, max_n: int = 10, **kwargs: Any) -> Any:
        """Show the first rows of a training batch, decoded."""
        return super().show_batch(b, max_n, **kwargs)

    def test_dl(  # type: ignore[override]  # the name that is known for tables
        self,
        test_items: Tabular | TableLike,
        rm_type_tfms: int | None = None,
        with_labels: bool | None = None,
        bs: int | None = None,
        process: bool = True,
        inplace: bool = False,
        strict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A loader of new rows, in their order.

        Args:
            test_items: A frame, one row as a dict or Series, or a list of rows.
            rm_type_tfms: Ignored; accepted because loaders of other data take it.
            with_labels: Whether batches have targets; by default if the rows have them and they can be encoded.
            bs: Rows per batch; that of the validation loader by default.
            process: Whether the procs are applied; False for rows that are already processed.
            inplace: Whether the processed columns are also written into the frame.
            strict: Whether to refuse cells that cannot be read as numbers, and levels unseen in training; by default the
                former count as missing with a warning, and the latter as '#na#'.
            kwargs: Further arguments of the loader.

        Raises:
            BadValue: If columns are missing (the message names them all), or, if `strict`, cells cannot be read.
        """
        valid = self.loaders[min(1, len(self.loaders) - 1)]
        to = self._test_rows(valid.dataset, test_items, with_labels, process, inplace, strict)
        return valid.new(to, bs=bs or valid.bs, shuffle=False, drop_last=False, **kwargs)

    def _test_rows(
        self,
        like: Tabular,
        rows: Tabular | TableLike,
        with_labels: bool | None,
        process: bool,
        inplace: bool,
        strict: bool,
    ) -> Tabular:
        if isinstance(rows, Tabular):
            process, res = process and not rows.is_processed, rows
        else:
            res = like.new(rows, inplace=True)
        if not process:
            return res if isinstance(rows, Tabular) else res.with_rows(res.items, is_processed=True)
        if with_labels is not None or not len(res) or not set(like.y_names) <= set(res.items.columns):
            return like.test_set(res.items, with_labels=bool(with_labels), inplace=inplace, strict=strict)
        try:
            return like.test_set(res.items, with_labels=True, inplace=inplace, strict=strict)
        except LayeredError as error:
            # If the inputs were at fault, this raises the same error; otherwise only the targets were.
            unlabelled = like.test_set(res.items, inplace=inplace, strict=strict)
            warn(f"the targets of these rows are left out: {error.problem}")
            return unlabelled


class TabularPandas(Tabular):
    """A `Tabular` that makes loaders; see `Tabular` for its arguments.

    Examples:
        >>> df = pd.DataFrame({"city": ["a", "b", "a"], "size": [1.0, 2.0, 3.0], "price": [1.0, 2.0, 3.0]})
        >>> to = TabularPandas(df, Categorify, "city", "size", "price", splits=[[0, 2], [1]])
        >>> to.train.xs.to_numpy().tolist(), to.classes["city"], to.c
        ([[1.0, 1.0], [1.0, 3.0]], ['#na#', 'a'], 1)
    """

    def dataloaders(self, bs: int = 64, **kwargs: Any) -> TabularDataLoaders:
        """Loaders of the splits: training rows shuffled, validation rows in order.

        Args:
            bs: Rows per training batch.
            kwargs: Arguments of `TabularDataLoaders.from_tabular`.
        """
        return TabularDataLoaders.from_tabular(self, bs=bs, **kwargs)


def split_columns(frame: DataFrame, y_names: Names = None, max_card: int = 20) -> tuple[list[Any], list[Any]]:
    """(continuous, categorical): all columns but the targets, sorted by `cont_cat_split`.

    Args:
        frame: The table.
        y_names: The targets.
        max_card: As for `cont_cat_split`.

    Raises:
        BadValue: For a column of dates, which is neither.
    """
    targets = listed(y_names)
    cont, cat = cont_cat_split(frame, max_card, targets)
    sorted_in = {*cont, *cat, *targets}
    others = [name for name in frame.columns if name not in sorted_in]
    neither = [name for name in others if column_kind(frame[name]) == "date"]
    if neither:
        raise BadValue(
            f"the column {neither[0]!r} holds dates, which are neither continuous nor categorical",
            fix=f"add_datepart(df, {neither[0]!r}), or name the columns to use: cat_names=[...], cont_names=[...]",
        )
    return list(cont), list(cat)


def training_weights(to: Tabular, weights: Sequence[float] | Tensor | Array) -> Array:
    """The weights of the training rows, in their order.

    Args:
        to: The table.
        weights: A weight for each training row, or for each row of the original frame, in the order of that frame. Those
            of a Series are looked up by the labels of the rows.
    """
    count = len(to.subset(0))
    if isinstance(weights, pd.Series):
        weights = values_by_label(weights, count, to.items.index[:count], "weights")
    values = np.asarray(weights, dtype=np.float64)
    if to.order is not None and len(values) != count:
        if len(values) != to.rows_given:
            raise BadValue(
                "the number of weights does not match the rows",
                got=f"{len(values)} weights",
                expected=f"{count}, for the training rows, or {to.rows_given}, for all rows of the frame",
            )
        values = values[to.order[:count]]
    return values


def class_weights(to: Tabular | DataLoaders) -> Tensor:
    """Class weights for a loss, with which rare classes count as much as frequent ones: float32 [class].

    Args:
        to: A `TabularPandas`, or its loaders. Only the training rows are counted.

    Raises:
        BadValue: If the target is not a single class.

    Source: rows / (classes * rows of the class), as scikit-learn's "balanced"

    Examples:
        >>> to = TabularPandas(pd.DataFrame({"x": [1.0] * 4, "y": list("aaab")}), None, None, "x", "y")
        >>> class_weights(to)
        tensor([0.6667, 2.0000])
    """
    table = to.train if isinstance(to, Tabular) else table_of(to)
    if table.target_kinds != ["category"]:
        raise BadValue(
            "class weights need a single target with classes",
            got=f"targets of kind {table.target_kinds}",
            fix="y_block=CategoryBlock()",
        )
    counts = np.bincount(table.targets, minlength=table.c)
    return torch.from_numpy((len(table) / (len(counts) * np.maximum(counts, 1))).astype(np.float32))


def described_table(to: Tabular) -> dict[str, Any]:
    """A table without its rows as data.

    Args:
        to: The table.
    """
    return {
        "procs": to.procs, "reduce_memory": to.reduce_memory, "fills": to.fills,
        "x_given": to.x_given, "cat_names": list(to.cat_names), "cont_names": list(to.cont_names),
        "y_names": list(to.y_names),
        "targets": [{"names": target.names, "steps": target.steps} for target in to.target_columns],
    }  # fmt: skip


def table_from_described(kind: type[Tabular], state: Mapping[str, Any]) -> Tabular:
    """A processed table without rows, rebuilt from what `described_table` returned.

    Args:
        kind: The class of the table.
        state: What it returned.
    """
    to = kind(pd.DataFrame(), do_setup=False)
    to.procs, to.reduce_memory, to.fills, to.x_given = (
        state[k] for k in ("procs", "reduce_memory", "fills", "x_given")
    )
    to.cat_names, to.cont_names, to.y_names = (L(state[k]) for k in ("cat_names", "cont_names", "y_names"))
    to.target_columns = [Target(target["names"], target["steps"]) for target in state["targets"]]
    to.items = _no_rows(to)  # the columns must exist, with the dtypes of a processed table
    to.is_processed = True
    return to


def _no_rows(to: Tabular) -> DataFrame:
    """A processed frame without rows."""
    kinds = {**dict.fromkeys(to.cat_names, np.int8), **dict.fromkeys(to.cont_names, np.float32)}
    frame: DataFrame = pd.DataFrame({name: np.zeros(0, dtype=kind) for name, kind in kinds.items()})
    return frame


def known_arguments(recipe: Callable[..., Any]) -> set[str]:
    """The names of all keyword arguments of a recipe, with those of the loaders that it makes.

    Args:
        recipe: A function that makes loaders, such as `TabularDataLoaders.from_df`.
    """
    own = {*names_of(recipe), *names_of(DataLoaders.from_dsets), *names_of(TabularDataLoaders.from_tabular)}
    return own | arguments_of(TabDataLoader) | {f"val_{name}" for name in ("n", "num_workers")}
