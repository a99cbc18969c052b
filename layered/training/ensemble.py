"""Several learners that predict as one, and the file that holds them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from layered.data import TfmdDL, as_loader, as_loaders, class_vocab, target_vocabs
from layered.files import Archive, joined, read_archive
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    Path,
    checked,
    default_device,
    describe,
    find_bs,
    is_frame,
    is_named_tuple,
    visible,
)
from layered.inference import first_row, meaning_for
from layered.loop import write_together
from layered.training.export import described, layered_name
from layered.training.learner import Learner
from layered.training.loading import learner_from
from layered.version import __version__

MAX_LEARNERS = 1000


@runtime_checkable
class NamesTargets(Protocol):
    """A data set that knows the names of its targets, as tables do."""

    y_names: Sequence[Any]


class Ensemble:
    """Learners that predict together: the mean of what each predicts, from the batches that its own pipelines make.

    Args:
        learners: They have the same targets; the statistics and vocabularies of their inputs may differ.

    Raises:
        BadArgument: They are not a list of learners.
        BadValue: There are none, or their targets differ.

    Examples:
        >>> from torch import nn; from layered.data import DataLoaders
        >>> dls = DataLoaders.from_arrays(torch.randn(20, 3), torch.randn(20, 1), bs=4)
        >>> learners = [Learner(dls, nn.Linear(3, 1), nn.MSELoss(), seed=seed) for seed in range(2)]
        >>> Ensemble(learners).get_preds(torch.randn(7, 3)).shape
        torch.Size([7, 1])
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        if isinstance(learners, Learner) or not all(isinstance(learn, Learner) for learn in learners):
            raise BadArgument(
                "an ensemble is made of learners",
                got=describe(learners),
                expected="a list of learners",
                fix="Ensemble([learn, other]); of an ensemble its .learners",
            )
        if not learners:
            raise BadValue("an ensemble needs at least one learner")
        for learn in learners[1:]:
            check_same_targets(learners[0], learn)
        self.learners = list(learners)

    @property
    def vocab(self) -> Sequence[Any] | None:
        """The classes, in the order of the predictions; None if there are none."""
        return class_vocab(self.learners[0].dls)

    def get_preds(self, items: object) -> Any:
        """The mean predictions for new items, in their order: probabilities of classes, or numbers; [item, …].

        Args:
            items: What `dls.test_dl` takes: paths, texts, the rows of a table, ….

        Raises:
            BadValue: The predictions cannot be averaged, such as boxes.
        """
        parts = []
        for learn in self.learners:
            with learn.no_bar(), learn.no_logging():
                parts.append(learn.get_preds(dl=as_loaders(learn.dls).test_dl(items))[0])
        return mean_of(parts)

    def predict(self, item: object) -> tuple[Any, ...]:
        """Predict one item: `(decoded target, decision as a tensor, mean probabilities or numbers)`.

        Args:
            item: What the `predict` of a learner takes: a path, a text, the row of a table, ….

        Raises:
            BadValue: There are several items.
        """
        is_table = is_frame(item) and np.asarray(item).ndim == 2
        items = item if is_table else [item]
        mean = self.get_preds(items)
        if find_bs(mean) != 1:
            raise BadValue("predict takes one item", got=describe(item), fix="get_preds(items)")
        decision = meaning_for(self.learners[0]).decodes(mean)
        dls = as_loaders(self.learners[0].dls)
        loader = dls.loaders[:2][-1]
        decision, mean = first_row(decision), first_row(mean)
        if not isinstance(loader, TfmdDL):
            return decision, decision, mean
        batch = next(iter(dls.test_dl(items)))
        parts = decision if isinstance(decision, tuple) else (decision,)
        targets = loader.decode_target(parts, batch if isinstance(batch, tuple) else (batch,))
        return targets[0] if len(targets) == 1 else targets, decision, mean

    def export(self, fname: str | os.PathLike[str] = "ensemble.layered") -> Path:
        """Write all learners to one file, which `load_ensemble` opens in any process; see `Learner.export`.

        Args:
            fname: A path below that of the first learner, unless it is absolute.

        Returns:
            The path of the file.

        Raises:
            NotExportable: A part has no registered name; nothing is written.
            CannotSave: The file cannot be written.
        """
        path = layered_name(joined(self.learners[0].path, fname))
        with ExitStack() as turns:
            for learn in self.learners:
                turns.enter_context(learn.turns.of_item())
            members = [described(learn) for learn in self.learners]
            about = {"layered": __version__, "torch": torch.__version__}
            manifest = {"about": about, "members": [node for node, _ in members]}
            tensors = {f"{i}.{name}": x for i, (_, own) in enumerate(members) for name, x in own.items()}
            write_together(path, manifest, tensors, kind="ensemble")
        return path

    def __repr__(self) -> str:
        return visible(f"{type(self).__name__} of {len(self.learners)}: {self.learners[0]!r}", None)


@checked
def load_ensemble(fname: str | os.PathLike[str], cpu: bool = True) -> Ensemble:
    """An ensemble from a file that its `export` wrote, ready to predict, without the script that trained it.

    Args:
        fname: The file.
        cpu: Keep the models on the CPU; False moves them to the default device.

    Raises:
        NotFoundPath: There is no such file.
        BadFile: The file is not an ensemble, or is damaged.
        UnknownName: It names a kind or function that is not registered; the error gives the import that registers it.
        CannotRestore: It does not say how to build a model.
    """
    archive = read_archive(joined(fname), kind="ensemble")
    nodes = archive.manifest.get("members")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise BadFile(f"'{archive.path}' does not have the parts of an ensemble", got=describe(nodes))
    if not 1 <= len(nodes) <= MAX_LEARNERS:
        raise BadFile(
            f"'{archive.path}' has too few or too many members", got=len(nodes), expected=f"1 to {MAX_LEARNERS}"
        )
    tensors: list[dict[str, Tensor]] = [{} for _ in nodes]
    for name, x in archive.tensors.items():
        number, _, own = name.partition(".")
        if not number.isdecimal() or int(number[:9]) >= len(nodes):
            raise BadFile(f"'{archive.path}' has a tensor that belongs to none of its members", got=repr(name))
        tensors[int(number)][own] = x
    members = zip(nodes, tensors, strict=True)
    learners = [learner_from(Archive(archive.path, "export", node, own, archive.sha256)) for node, own in members]
    return Ensemble(learners if cpu else [learn.to(default_device()) for learn in learners])


def check_same_targets(first: Learner, other: Learner) -> None:
    """Refuse learners whose predictions are of different classes or columns, or of the same in another order.

    Args:
        first: A learner.
        other: Another.

    Raises:
        BadValue: Their targets differ.
    """
    expected, got = ([list(vocab) for vocab in target_vocabs(learn.dls)] for learn in (first, other))
    if got != expected:
        raise BadValue(
            "the learners have different classes, so that their predictions have no mean",
            got=describe(got),
            expected=describe(expected),
            fix="give all the same: CategoryBlock(vocab=classes); or divide the classes evenly: stratify=labels",
        )
    datasets = [as_loader(learn.dls.train).dataset for learn in (first, other)]
    names = [list(dataset.y_names) for dataset in datasets if isinstance(dataset, NamesTargets)]
    if len(names) == 2 and names[0] != names[1]:
        raise BadValue(
            "the learners predict different columns, so that their predictions have no mean",
            got=describe(names[1]),
            expected=describe(names[0]),
            fix="the same y_names for all, in the same order",
        )


def mean_of(trees: Sequence[Any]) -> Any:
    """The mean of predictions of the same structure: tensors, or tuples and mappings of these.

    Args:
        trees: At least one.

    Raises:
        BadValue: They are not tensors of numbers of the same shape.

    Examples:
        >>> mean_of([torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])])
        tensor([0.5000, 1.0000])
    """
    return together(_mean, trees)


def together(f: Callable[[list[Any]], Any], trees: Sequence[Any]) -> Any:
    """`f` of what stands at each place of trees of the same structure, made of tuples and mappings.

    Args:
        f: Called with a list: a leaf of each tree.
        trees: At least one.
    """
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: together(f, [tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple):
        parts = [together(f, part) for part in zip(*trees, strict=True)]
        return type(first)(*parts) if is_named_tuple(first) else tuple(parts)
    return f(list(trees))


def _mean(parts: list[Any]) -> Tensor:
    for x in parts:
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.shape != parts[0].shape:
            raise BadValue(
                "these predictions cannot be averaged",
                got=describe(x),
                expected="a row of probabilities or numbers for each item, of the same shape for all",
            )
    return torch.stack(parts).mean(0)
