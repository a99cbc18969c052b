"""`cross_validate`: a learner for each fold, what each says of the items it was not trained on, and all of them as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from functools import partial
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader as TorchDataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from layered.data import (
    GroupKFoldSplitter,
    Indices,
    KFoldSplitter,
    Split,
    Splitter,
    StratifiedKFoldSplitter,
    TimeFoldSplitter,
    as_loaders,
    labels_of,
    split_items,
    values_of,
    walk,
)
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotTrain,
    OutOfRange,
    checked,
    describe,
    find_bs,
    key_of,
    lazy,
    seeded,
    unknown_name,
)
from layered.training.ensemble import Ensemble, check_same_targets, mean_of, together
from layered.training.learner import Learner

stats = lazy("scipy.stats")


@runtime_checkable
class Folds(Protocol):
    """A cross-validator of scikit-learn."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterable[tuple[Indices, Indices]]: ...


class Fold(Split):
    """A splitter that knows the split already, and accepts no other items than those it was made for.

    Args:
        source: The items.
        positions: The positions of the training items and of the validation items.
        name: "fold 1 of 5".

    Attributes:
        is_used: Whether it has split the items.
    """

    def __init__(self, source: Any, positions: tuple[Indices, Indices], name: str) -> None:
        super().__init__(self._split, name)
        self.source, self.positions, self.is_used = source, positions, False

    def _split(self, items: Any) -> tuple[Indices, Indices]:
        names, expected = _names(items), _names(self.source)
        is_other = None not in (names, expected) and names != expected
        if is_other or len(items) != len(self.source):
            raise BadValue(
                "the items to split are not those that cross_validate was given",
                got=describe(items),
                expected=describe(self.source),
                fix="cross_validate(make_learner, items), with the very items that make_learner reads, in their order",
            )
        self.is_used = True
        return self.positions


class CrossValidation(Ensemble):
    """The result of `cross_validate`. It predicts as the `Ensemble` of all folds' learners.

    Args:
        learners: The learner of each fold.
        splits: The positions of each fold's training items and validation items.
        scores: By name the losses and metrics of the folds, [fold].
        oof: What is said of each item by the learner that was not trained on it, [item, …].
        targets: The targets of the items as the models are given them, [item, …]; None if batches have none.

    Attributes:
        learners: The learner of each fold.
        splits: The positions of each fold's training items and validation items.
        scores: By name the losses and metrics of the folds, [fold].
        oof: Out-of-fold predictions, [item, …], in the order of the items: NaN for items in no validation set, the mean for
            those in several.
        targets: The targets of the items, [item, …], to compute further scores of `oof`; those of items in no validation
            set are 0.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        splits: Sequence[tuple[Indices, Indices]],
        scores: dict[str, np.ndarray[Any, Any]],
        oof: Any,
        targets: Any,
    ) -> None:
        super().__init__(learners)
        self.splits, self.scores, self.oof, self.targets = list(splits), scores, oof, targets

    def interval(self, name: str, confidence: float = 0.95) -> tuple[Any, Any]:
        """The mean of a metric over the folds, and half the width of its confidence interval.

        Folds share most of their training items, so their scores vary less than those of independent runs, and the usual
        interval is far too narrow. Here their variance is multiplied by 1/folds + validation items/training items in place
        of 1/folds; the quantile is that of Student's t with folds - 1 degrees of freedom.

        Args:
            name: Of the metric: a key of `scores`.
            confidence: The share of such intervals that hold the true value.

        Raises:
            UnknownName: There is no such metric.
            OutOfRange: `confidence` is not between 0 and 1.

        Source: Nadeau & Bengio 2003, Inference for the Generalization Error, Machine Learning 52.
        """
        if name not in self.scores:
            raise unknown_name("metric", name, self.scores)
        if not 0 < confidence < 1:
            raise OutOfRange("confidence is a share", got=confidence, expected="between 0 and 1", fix="confidence=0.95")
        values, count = self.scores[name], len(self.splits)
        share = np.mean([len(valid) / len(train) for train, valid in self.splits])
        quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
        return values.mean(0), quantile * values.std(0, ddof=1) * np.sqrt(1 / count + share)

    def __repr__(self) -> str:
        width = max(map(len, self.scores))
        rows = [(name, *(np.round(x, 4) for x in self.interval(name))) for name in self.scores]
        return "\n".join(
            [
                f"{len(self.splits)} folds, mean and 95 % confidence interval:",
                *(f"  {name:{width}}  {mean} ± {half}" for name, mean, half in rows),
            ]
        )


@checked
def cross_validate(
    make_learner: Callable[[Splitter], Learner],
    source: Any,
    folds: int | Folds | Iterable[tuple[Indices, Indices]] = 5,
    *,
    fit: Callable[[Learner], object] | None = None,
    stratify: object = None,
    groups: object = None,
    time: object = None,
    gap: object = None,
    seed: int | None = None,
) -> CrossValidation:
    """Train a learner for each fold, and predict with it the items that it was not trained on.

    Every learner is made anew, with its loaders, so that statistics are those of the training items of its fold.

    Args:
        make_learner: Makes the loaders, split by the splitter that it is called with, and the learner:
            `lambda splitter: tabular_learner(TabularDataLoaders.from_df(df, splitter=splitter))`.
        source: The items that the splitter will be given: the frame, the list of files or of texts.
        folds: How many; or a cross-validator of scikit-learn; or the positions of training and validation items of each.
        fit: Trains a learner: `lambda learn: learn.fit_one_cycle(3)`; None if `make_learner` does.
        stratify: Give each fold the same share of every label: the name of a column, a function of an item, or one label for
            each item.
        groups: Keep items of a group in one fold, such as those of a patient; likewise.
        time: Validate on the items that follow the training items in time; likewise. The earliest are for training alone.
        gap: With `time`, drop training items less than this before the first validation item.
        seed: Makes folds and training repeatable.

    Raises:
        BadArgument: Arguments exclude each other.
        BadValue: Items were split otherwise than by the splitter.
        CannotTrain: A learner was not trained.
        EmptySplit: A fold has no items.
    """
    if isinstance(source, (str, os.PathLike)) or not isinstance(source, Sized):
        raise BadArgument(
            "cross_validate needs the items, of which folds are made",
            got=describe(source),
            expected="a table, or a list of files or texts",
            fix="cross_validate(make_learner, get_image_files(path))",
        )
    splits = list(_splits(source, folds, stratify, groups, time, gap, seed))
    learners: list[Learner] = []
    results = []
    versions: dict[Tensor, int] = {}
    for i, positions in enumerate(splits):
        name = f"fold {i + 1} of {len(splits)}"
        with ExitStack() as drawing:
            if seed is not None:
                drawing.enter_context(seeded(key_of(seed, "fold", i)))
            try:
                learn = _made(make_learner, Fold(source, positions, name))
                _check_apart(learners, learn, versions)
                check_same_targets((learners or [learn])[0], learn)
                if fit is not None:
                    fit(learn)
                elif not learn.epochs_started:
                    raise CannotTrain(
                        "the learner was not trained",
                        fix="cross_validate(..., fit=lambda learn: learn.fit_one_cycle(3)), or train it in make_learner",
                    )
                _check_apart(learners, learn, versions)
                results.append(_result(learn, len(positions[1])))
            except Exception as error:
                error.add_note(f"in {name}")
                raise
            learners.append(learn)
            versions |= _versions(learn)
    records, preds, targets = zip(*results, strict=True)
    return CrossValidation(
        learners,
        splits,
        {name: np.array([record[name] for record in records], dtype=float) for name in records[0]},
        together(partial(_out_of_fold, splits, len(source)), preds),
        together(partial(_placed, splits, len(source)), targets),
    )


def _splits(
    source: Any, folds: Any, stratify: object, groups: object, time: object, gap: object, seed: int | None
) -> Iterator[tuple[Indices, Indices]]:
    """The positions of the training items and of the validation items of each fold, checked."""
    if isinstance(folds, str) or not isinstance(folds, (Integral, Folds, Iterable)):
        raise BadArgument(
            "folds= is neither a number, nor a cross-validator, nor a list of splits", got=repr(folds), fix="folds=5"
        )
    if time is None and gap is not None:
        raise BadArgument("gap= is the time between training and validation, and needs time=")
    if time is not None and not (isinstance(folds, Integral) and stratify is None and groups is None):
        raise BadArgument("folds by time are neither stratified, nor grouped, nor given", fix="folds=5, time=…")
    if isinstance(folds, bool) or (isinstance(folds, Integral) and folds < 2):
        raise BadValue("cross-validation needs two folds or more", got=describe(folds), fix="folds=5")
    splitters: list[Splitter]
    if not isinstance(folds, Integral):
        splitters = [_giving(positions) for positions in _given(source, folds, stratify, groups)]
    elif time is not None:
        splitters = [TimeFoldSplitter(time, i, int(folds), gap) for i in range(folds)]
    elif groups is not None:
        splitters = [GroupKFoldSplitter(groups, i, int(folds), stratify) for i in range(folds)]
    elif stratify is not None:
        splitters = [StratifiedKFoldSplitter(stratify, i, int(folds), seed) for i in range(folds)]
    else:
        splitters = [KFoldSplitter(i, int(folds), seed) for i in range(folds)]
    if len(splitters) < 2:
        raise BadValue("cross-validation needs two folds or more", got=describe(folds))
    for splitter in splitters:
        parts = split_items(splitter, source)
        if len(parts) != 2:
            raise BadValue(
                "a fold is not a pair",
                got=f"{len(parts)} lists of positions",
                expected="(positions of the training items, positions of the validation items)",
                fix="folds=[(train, valid), …]",
            )
        yield parts[0], parts[1]


def _giving(positions: tuple[Indices, Indices]) -> Splitter:
    return Split(lambda _: positions, "a fold")


def _given(source: Any, folds: Any, stratify: object, groups: object) -> list[tuple[Indices, Indices]]:
    if not isinstance(folds, Folds):
        return list(folds)
    labels = None if stratify is None else values_of(source, stratify, "stratify")
    kinds = None if groups is None else values_of(source, groups, "groups")
    return list(folds.split(np.arange(len(source)), labels, kinds))


def _names(items: Any) -> list[Any] | None:
    """What tells items apart: the labels of a frame, paths, texts; None where nothing does without a look into them."""
    labels: Any = labels_of(items)
    if labels is not None:
        return list(labels)
    listed = list(walk(items))
    return list(map(os.fspath, listed)) if all(isinstance(o, (str, os.PathLike)) for o in listed) else None


def _made(make_learner: Callable[[Splitter], Learner], fold: Fold) -> Learner:
    """A learner whose loaders hold the items of the fold."""
    learn = make_learner(fold)
    fix = "lambda splitter: Learner(DataBlock(..., splitter=splitter).dataloaders(items), model)"
    if not isinstance(learn, Learner):
        raise BadArgument("make_learner did not return a learner", got=describe(learn), fix=fix)
    if not fold.is_used:
        raise BadValue(
            "make_learner did not use its splitter, so that it would be validated on what it trains on", fix=fix
        )
    for loader, positions, kind in zip(
        as_loaders(learn.dls).loaders, fold.positions, ("training", "validation"), strict=False
    ):
        if kind == "validation" and not _is_in_known_order(loader):
            raise BadValue(
                "the order of the validation items is not known, so that predictions cannot be given to their items",
                got=describe(loader),
                expected="a loader that gives each item once, in the order of its data set",
                fix="DataLoader(valid_items, batch_size=64), without a sampler or batch_sampler",
            )
        if isinstance(loader.dataset, Sized) and len(loader.dataset) != len(positions):
            raise BadValue(
                f"the loader has other {kind} items than the fold",
                got=len(loader.dataset),
                expected=len(positions),
                fix="keep all items: for labels that are rare, CategoryBlock(vocab=classes)",
            )
    return learn


def _is_in_known_order(loader: Any) -> bool:
    """Whether `get_preds` gives the predictions in the order of the data set."""
    if not isinstance(loader, TorchDataLoader) or isinstance(loader.dataset, IterableDataset):
        return True
    undone = (RandomSampler, DistributedSampler) if type(loader) is TorchDataLoader else ()
    is_plain = loader.batch_sampler is None or isinstance(loader.batch_sampler, BatchSampler)
    return is_plain and type(loader.sampler) in (SequentialSampler, *undone)


def _versions(learn: Learner) -> dict[Tensor, int]:
    """How often each tensor of the model was changed in place."""
    state = [*learn.model.parameters(), *learn.model.buffers()]
    return {x: x._version for x in state if not x.is_inference()}


def _check_apart(learners: Sequence[Learner], learn: Learner, versions: Mapping[Tensor, int]) -> None:
    """Refuse a model that an earlier fold has trained, on items that this one holds out.

    Args:
        learners: Those of earlier folds.
        learn: That of this fold, before and after it is trained: what was frozen may be trained since.
        versions: Those of the tensors of earlier folds, at the end of the last fold that has the tensor.
    """
    trained = {id(p) for other in learners for p in other.model.parameters()}
    is_trained = any(id(p) in trained for p in learn.model.parameters() if p.requires_grad)
    if is_trained or any(versions.get(x, now) != now for x, now in _versions(learn).items()):
        raise BadValue(
            "the model was already trained in an earlier fold, on items that this fold holds out",
            got=describe(learn.model),
            expected="a new model for each fold",
            fix="make the model inside make_learner: lambda splitter: Learner(make_loaders(splitter), make_model())",
        )


def _result(learn: Learner, count: int) -> tuple[dict[str, Any], Any, Any]:
    """The loss and the metrics on the validation items by name, and the predictions and targets of all `count` of them."""
    with learn.no_bar(), learn.no_logging():
        record = dict(zip(["valid_loss", *learn.metric_set.names], learn.validate() or [], strict=True))
        preds, targets = learn.get_preds()
    mean_of([preds])  # refuses what has no mean before other folds are trained
    rows = find_bs(preds)
    if rows != count:
        raise BadValue(
            "the predictions are not one for each validation item",
            got=rows,
            expected=count,
            fix="a validation loader with drop_last=False, and a model that keeps the batch as the first dimension",
        )
    return record, preds, targets


def _out_of_fold(splits: Sequence[tuple[Indices, Indices]], count: int, parts: list[Tensor]) -> Tensor:
    """The mean of the rows that the folds give for each item; NaN where none does."""
    total, times = parts[0].new_zeros(count, *parts[0].shape[1:]), parts[0].new_zeros(count)
    for (_, valid), part in zip(splits, parts, strict=True):
        total[valid] += part
        times[valid] += 1
    return total / times.reshape(-1, *[1] * (total.ndim - 1))


def _placed(splits: Sequence[tuple[Indices, Indices]], count: int, parts: list[Any]) -> Any:
    """The rows of all folds in the order of the items; None where rows differ in shape, or there are none."""
    first = parts[0]
    if not all(isinstance(part, Tensor) and part.shape[1:] == first.shape[1:] for part in parts):
        return None
    rows = first.new_zeros(count, *first.shape[1:])
    for (_, valid), part in zip(splits, parts, strict=True):
        rows[valid] = part
    return rows
