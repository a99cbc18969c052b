"""The loaders of a task together: training, validation, …, of this library or of others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from layered.data.adapters import as_dataset
from layered.data.audit import check
from layered.data.conversions import Tfms, slot_transforms
from layered.data.encodings import list_some
from layered.data.in_memory import Arrays
from layered.data.loader import OF_TORCH, DataLoader, arguments_of, as_loader
from layered.data.samplers import Weights
from layered.data.splitters import RandomSplitter, Splitter
from layered.data.subset import as_splits, is_indexed, labels_of, values_by_label
from layered.data.tfmd_loader import TfmdDL
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    L,
    NoSuchAttribute,
    Path,
    Pipeline,
    default_device,
    facts_html,
    facts_text,
    first,
    is_frame,
    key_of,
    names_of,
    refuse_unknown,
    seeded,
    to_device,
)

Device = torch.device | str
D = TypeVar("D", bound=DataLoader)

_OF_ALL_LOADERS = {
    "bs", "num_workers", "pin_memory", "timeout", "persistent_workers", "on_bad", "after_item", "before_batch", "after_batch",
    "create_batch", *OF_TORCH,
}  # fmt: skip
_OF_ONE_LOADER = ("dataset", "shuffle", "drop_last", "n")


class DataLoaders:
    """The loaders of a task: `train`, `valid` and any others, with a folder for models.

    Other attributes are looked up in the training loader, then in its data set: `dls.vocab`, `dls.c`.

    Args:
        loaders: The training loader, the validation loader, …: of this library, torch loaders, lists of batches.
        path: The folder for models and exports.
        device: The device that all loaders send their batches to.
    """

    vocab: Any  # of the training loader, as all attributes that `DataLoaders` lacks
    c: int
    bs: int | None

    def __init__(self, *loaders: object, path: str | os.PathLike[str] = ".", device: Device | None = None) -> None:
        if not loaders:
            raise BadValue("DataLoaders needs at least a training loader")
        self.loaders: list[Any] = list(loaders)
        self.path = Path(path)
        self._device: torch.device | None = None
        self._n_inp: int | None = None
        if device is not None:
            self.to(device)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; settings and stages of loaders are set for all of them."""
        if name in _OF_ALL_LOADERS:
            for loader in self.loaders:
                setattr(_ours(loader, f"dls.{name} = …", DataLoader), name, value)
        elif name in _OF_ONE_LOADER:
            raise BadArgument(f"'{name}' belongs to one loader", fix=f"dls.train.{name} = …, or dls.valid.{name} = …")
        else:
            object.__setattr__(self, name, value)

    def __getitem__(self, i: int) -> Any:
        if not -len(self.loaders) <= i < len(self.loaders):
            raise BadValue(f"there is no loader {i}", got=f"{len(self.loaders)} loaders")
        return self.loaders[i]

    def __len__(self) -> int:
        return len(self.loaders)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loaders)

    @property
    def train(self) -> TfmdDL:
        """The training loader. (A foreign loader is returned as it is.)"""
        return self.loaders[0]  # type: ignore[no-any-return]

    @train.setter
    def train(self, loader: Iterable[Any]) -> None:
        self.loaders[0] = loader

    @property
    def valid(self) -> TfmdDL:
        """The validation loader. (A foreign loader is returned as it is.)"""
        return self[1]  # type: ignore[no-any-return]

    @valid.setter
    def valid(self, loader: Iterable[Any] | None) -> None:
        self.loaders[1:2] = [] if loader is None else [loader]

    @property
    def train_ds(self) -> Any:
        """The data set of the training loader."""
        return self.train.dataset

    @train_ds.setter
    def train_ds(self, dataset: object) -> None:
        self.train.dataset = dataset

    @property
    def valid_ds(self) -> Any:
        """The data set of the validation loader."""
        return self.valid.dataset

    @valid_ds.setter
    def valid_ds(self, dataset: object) -> None:
        self.valid.dataset = dataset

    @property
    def n_inp(self) -> int | None:
        """How many leading parts of a batch are inputs; None if unknown."""
        return self._n_inp or as_loader(self.train).n_inp

    @n_inp.setter
    def n_inp(self, count: int | None) -> None:
        self._n_inp = count

    # -- where batches go

    @property
    def device(self) -> torch.device | None:
        """Where batches go."""
        return as_loader(self.train).device or self._device

    @device.setter
    def device(self, device: Device) -> None:
        self.to(device)

    def to(self, device: Device) -> Self:
        """Send the batches of all loaders to `device`; a learner moves those of foreign loaders to its model."""
        self._device = torch.device(device)
        for loader in self.loaders:
            if isinstance(loader, DataLoader):
                loader.to(device)
        return self

    def cuda(self) -> Self:
        """Send batches to the current CUDA device."""
        if not torch.cuda.is_available():
            raise BadValue("no CUDA device is available", fix="dls.cpu(), or dls.to(default_device())")
        return self.to(torch.device("cuda", torch.cuda.current_device()))

    def cpu(self) -> Self:
        """Keep batches in main memory."""
        return self.to("cpu")

    # -- looking

    def one_batch(self) -> Any:
        """One training batch, without advancing the loader; from a foreign loader, its first."""
        train = self.loaders[0]
        if isinstance(train, DataLoader):
            return train.one_batch()
        if isinstance(train, Iterator):
            raise BadValue(
                "looking at a batch of a generator would consume it", fix="pass a list of batches, or a loader"
            )
        with seeded(key_of(torch.initial_seed(), "peek")):
            batch = first(train)
        return batch if self._device is None else to_device(batch, self._device)

    def show_batch(self, b: object = None, max_n: int = 9, **kwargs: Any) -> Any:
        """Show a training batch: see `TfmdDL.show_batch`.

        Args:
            b: The batch; by default a new one.
            max_n: The largest number of samples.
            kwargs: As for `TfmdDL.show_batch`.
        """
        return _ours(self.train, "show_batch", TfmdDL).show_batch(b, max_n=max_n, **kwargs)

    def _facts(self) -> tuple[str, dict[str, object]]:
        names = ("train", "valid", *(f"split {i}" for i in range(2, len(self))))
        facts: dict[str, object] = dict(zip(names, map(_in_words, self.loaders), strict=False))
        vocab = getattr(self, "vocab", None)
        if isinstance(vocab, Sequence) and not isinstance(vocab, L):  # an L holds one vocabulary per column
            facts["classes"] = f"{len(vocab)}: {list_some(vocab)}"
        return type(self).__name__, {**facts, "path": self.path}

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())

    # -- loaders like these

    check = check

    def new_empty(self) -> DataLoaders:
        """The same loaders without items."""
        empty = [_ours(dl, "new_empty", DataLoader).new(as_dataset(dl.dataset).new_empty()) for dl in self.loaders]
        return DataLoaders(*empty, path=self.path, device=self.device)

    def add_tfms(self, tfms: Tfms, event: str, loaders: Sequence[int] | None = None) -> None:
        """Add transforms to a slot of the loaders.

        Args:
            tfms: The transforms.
            event: The slot: "after_item", "before_batch" or "after_batch".
            loaders: The positions of the loaders; by default all.
        """
        for i in loaders if loaders is not None else range(len(self.loaders)):
            pipeline = getattr(self.loaders[i], event)
            setattr(self.loaders[i], event, Pipeline([*pipeline.fs, *slot_transforms(tfms, event)], pipeline.split_idx))

    def test_dl(
        self,
        items: object,
        rm_type_tfms: int | None = None,
        with_labels: bool = False,
        bs: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """A loader over other items, in their order, transformed as validation items are.

        Args:
            items: Anything the inputs are made from: paths, images, rows, …; or a single one.
            rm_type_tfms: How many leading transforms to skip; by default judged by the type of the first item.
            with_labels: Make the targets too; by default batches have inputs only.
            bs: Items per batch; by default that of the validation loader.
            kwargs: For `TfmdDL.new`: `num_workers`, `after_item`, ….
        """
        valid = _ours(self.loaders[min(1, len(self.loaders) - 1)], "test_dl", DataLoader)
        listed = items if is_indexed(items) and not isinstance(items, (str, bytes, dict)) else [items]
        dataset = as_dataset(valid.dataset).test_set(listed, rm_type_tfms, with_labels)
        dataset = items if dataset is None else dataset
        settings = {"bs": bs or valid.bs, "shuffle": False, "drop_last": False, **valid.for_items, **kwargs}
        return valid.new(dataset, **settings)

    # -- from data

    @classmethod
    def from_dsets(
        cls,
        *ds: object,
        path: str | os.PathLike[str] = ".",
        bs: int = 64,
        device: Device | None = None,
        dl_type: type[TfmdDL] = TfmdDL,
        shuffle: bool = True,
        val_shuffle: bool = False,
        drop_last: bool | None = None,
        val_bs: int | None = None,
        dl_kwargs: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: object,
    ) -> Self:
        """Loaders over data sets. The first, for training, is shuffled and drops an incomplete last batch; the others do
        neither.

        Args:
            ds: The training data set, the validation data set, ….
            path: The folder for models and exports.
            bs: Items per batch.
            device: Where batches go; by default the first GPU if there is one.
            dl_type: The class of the loaders.
            shuffle: Shuffle the training items.
            val_shuffle: Shuffle the items of the other loaders.
            drop_last: Drop an incomplete last batch in all loaders, or in none; by default only in a shuffled training
                loader.
            val_bs: Items per batch of the other loaders; by default `bs`.
            dl_kwargs: Arguments for the first loader alone, for the second alone, ….
            kwargs: For every loader: `num_workers`, `after_item`, `after_batch`, `seed`, …; with the prefix `val_`, for
                all but the first. `n` and `weights` apply to the first only.

        Raises:
            BadValue: `bs` exceeds the number of training items, and incomplete batches are dropped.
        """
        validation = {k.removeprefix("val_"): kwargs.pop(k) for k in list(kwargs) if k.startswith("val_")}
        own = [dict(o) for o in dl_kwargs or ()]
        own += [{} for _ in ds[len(own) :]]
        known = arguments_of(dl_type) | names_of(cls.from_dsets)
        refuse_unknown(
            {**kwargs, **validation, **{k: v for o in own for k, v in o.items()}}, known, "DataLoaders.from_dsets"
        )
        drop = shuffle if drop_last is None else drop_last
        device = default_device() if device is None else device
        settings = {"bs": bs, "shuffle": shuffle, "drop_last": drop, "device": device, **kwargs, **own[0]}
        if dl_type.batches_are_items:
            _check_one_batch(ds[0], settings)
        train = dl_type(ds[0], **settings)
        validation = {"bs": val_bs or bs, "shuffle": val_shuffle, "drop_last": bool(drop_last), **validation}
        others = [train.new(d, **{**validation, **o}) for d, o in zip(ds[1:], own[1:], strict=True)]
        return cls(train, *others, path=path)

    @classmethod
    def from_splits(cls, dsets: Any, bs: int = 64, weights: Weights | None = None, **kwargs: Any) -> Self:
        """A loader for each split of `dsets`: see `from_dsets`.

        Args:
            dsets: `Datasets` or `TfmdLists`; without splits, all items are for training.
            bs: Items per batch.
            weights: How training items are drawn: a weight for each training item, or for each item of `dsets`;
                "balanced"; "oversample": see `DataLoader`.
            kwargs: As for `from_dsets`.
        """
        kwargs = {"val_drop_last": False, **kwargs, "dl_type": kwargs.get("dl_type") or dsets.dl_type or TfmdDL}
        subsets = [dsets.subset(i) for i in range(dsets.n_subsets)] if dsets.splits is not None else [dsets]
        if weights is not None:
            is_for_all = not isinstance(weights, str) and len(weights) == len(dsets) != len(subsets[0])
            if is_for_all and is_frame(weights):
                weights = values_by_label(weights, len(dsets), labels_of(dsets.items), "weights")
            kwargs["weights"] = [weights[i] for i in dsets.splits[0]] if is_for_all else weights
        return cls.from_dsets(*subsets, bs=bs, **kwargs)

    @classmethod
    def from_arrays(
        cls,
        x: object,
        y: object = (),
        x_valid: object = None,
        y_valid: Sized = (),
        *,
        valid_pct: float = 0.2,
        seed: int | None = None,
        splits: object = None,
        bs: int = 64,
        **kwargs: Any,
    ) -> Self:
        """Loaders over arrays or tensors in memory, with a row for each item; a batch is a single indexing operation.

        Args:
            x: The inputs: an array, or a tuple of several; float64 becomes float32.
            y: The targets, likewise; by default none.
            x_valid: The inputs of the validation items; by default these are drawn from `x` and `y`.
            y_valid: The targets of the validation items.
            valid_pct: The share of items drawn for validation; 0 makes no validation loader.
            seed: The same seed draws the same validation items; by default the seed of the run.
            splits: The positions of the training items and of the validation items, in place of a random split.
            bs: Items per batch.
            kwargs: For `DataLoaders.from_dsets`: `shuffle`, `weights`, `device`, `after_batch`, ….

        Raises:
            BadValue: Arrays differ in length, or training and validation items in structure.

        Examples:
            >>> dls = DataLoaders.from_arrays(torch.zeros(10, 3), torch.arange(10), seed=42, bs=4)
            >>> [tuple(t.shape) for t in dls.one_batch()], len(dls.valid_ds)
            ([(4, 3), (4,)], 2)
        """
        whole = Arrays(x, y)
        if x_valid is not None:
            valid = Arrays(x_valid, y_valid, names=("x_valid", "y_valid"))
            if (len(valid.tensors), valid.n_inp) != (len(whole.tensors), whole.n_inp):
                raise BadValue(
                    "the validation items are structured differently from the training items",
                    got=f"{valid.n_inp} inputs and {len(valid.tensors) - valid.n_inp} targets",
                    expected=f"{whole.n_inp} inputs and {len(whole.tensors) - whole.n_inp} targets",
                    fix="give y_valid as well" if not len(y_valid) else None,
                )
            parts = [whole, valid]
        elif splits is None and valid_pct == 0:
            parts = [whole]
        else:
            made = RandomSplitter(valid_pct, seed)(whole) if splits is None else splits
            parts = [whole.rows(positions) for positions in as_splits(made, len(whole), labels_of(x))]
        return cls.from_dsets(*parts, bs=bs, **kwargs)

    @classmethod
    def from_dblock(
        cls,
        dblock: Any,
        source: object,
        path: str | os.PathLike[str] = ".",
        splitter: Splitter | None = None,
        **kwargs: object,
    ) -> Any:
        """The same as `dblock.dataloaders(source, path=path, …)`.

        Args:
            dblock: A `DataBlock`.
            source: The source of its items.
            path: The folder for models and exports.
            splitter: Takes the place of that of the block.
            kwargs: As for `DataBlock.dataloaders`.
        """
        block = dblock if splitter is None else dblock.new(splitter=splitter)
        return block.dataloaders(source, path=path, **kwargs)

    if not TYPE_CHECKING:  # so that a misspelt attribute is refused before anything runs

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name == "loaders":
                raise AttributeError(name)
            try:
                return getattr(self.loaders[0], name)
            except AttributeError as error:
                owners = [self, self.loaders[0], as_loader(self.loaders[0]).dataset]
                raise NoSuchAttribute(name, *(o for o in owners if o is not None)) from error


class ForeignLoaders(DataLoaders):
    """The adapter of an object of another library with a training and a validation loader.

    Args:
        given: An object with `train` and `valid`, where `valid` may be None. Its other attributes remain accessible.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        loaders = [given.train] if given.valid is None else [given.train, given.valid]
        super().__init__(*loaders, path=getattr(given, "path", None) or ".")
        self._device = getattr(given, "device", None)
        self.n_inp = getattr(given, "n_inp", None)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name == "given":
                raise AttributeError(name)
            return getattr(self.given, name) if hasattr(self.given, name) else super().__getattr__(name)


def as_loaders(dls: object) -> DataLoaders:
    """Convert the loaders of any library to `DataLoaders`.

    Args:
        dls: `DataLoaders`; an object with `loaders`, or with `train` and `valid`; or a tuple (train, valid) of any
            loaders. `valid` may be None.

    Raises:
        CannotTrain: `dls` is none of these.
    """
    if isinstance(dls, DataLoaders):
        return dls
    if isinstance(dls, tuple) and 1 <= len(dls) <= 2:
        return DataLoaders(*(loader for i, loader in enumerate(dls) if i == 0 or loader is not None))
    if hasattr(dls, "train") and hasattr(dls, "valid"):
        return ForeignLoaders(dls)
    raise CannotTrain(
        "expected loaders to train with",
        got=type(dls).__name__,
        expected="DataLoaders, an object with .train and .valid, or a tuple (train, valid) of any loaders",
        fix="pass (train_loader, None) to train without validation",
    )


def _in_words(loader: Iterable[Any]) -> str:
    if isinstance(loader, DataLoader):
        return loader.in_words()
    length = as_loader(loader).length
    return f"{type(loader).__name__}{'' if length is None else f' of {length} batches'}"


def _ours(loader: object, verb: str, kind: type[D]) -> D:
    """The loader, checked to be of class `kind`, for the method `verb`."""
    if not isinstance(loader, kind):
        raise BadArgument(
            f"{verb} needs a loader of this library, which has transforms",
            got=f"a {type(loader).__module__}.{type(loader).__name__}",
            fix="make the loaders from data sets: DataLoaders.from_dsets(train_ds, valid_ds)",
        )
    return loader


def _check_one_batch(dataset: object, settings: Mapping[str, Any]) -> None:
    """Raise BadValue if incomplete batches are dropped and there are too few items for one batch."""
    if not settings["drop_last"] or not isinstance(dataset, Sized):
        return
    limits = (settings.get("n"), settings.get("partial_n"))
    count, bs = min([len(dataset), *(n for n in limits if n is not None)]), settings["bs"]
    if isinstance(bs, Integral) and count < bs and not isinstance(settings.get("weights"), str):
        raise BadValue(
            f"bs={bs} exceeds the {count} training items, so not even one batch is full",
            got=f"bs={bs}",
            expected=f"at most {count}",
            fix=f"bs={max(1, count // 2)}, or drop_last=False",
        )
