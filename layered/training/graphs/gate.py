"""The gate: an exported graph is compared with the learner's own predictions before its file is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import DataLoader, as_dataset
from layered.foundation import (
    BadValue,
    NotExportable,
    describe,
    find_bs,
    leaves,
    map_tree,
    one_line,
    output_scores,
    to_cpu,
    to_device,
    whole_number,
)
from layered.inference import batch_at, get_preds, model_device, take_rows
from layered.loop import Loop
from layered.training.graphs.inputs import GraphInput
from layered.training.graphs.tracing import Traced

Array = np.ndarray[Any, Any]
Runtime = Callable[[Sequence[Array]], list[Array]]
"""Runs a graph: from the array of each input to the array of each output."""

OTHER_SIZE = 32  # by how much an axis of any size is lengthened to try another


@dataclass(frozen=True)
class Sample:
    """A batch that a graph is compared on.

    Args:
        positions: Where its items are in the loader.
        inputs: What the graph gets.
        expected: The predictions that it has to give: the learner's own.
    """

    positions: list[int]
    inputs: tuple[Tensor, ...]
    expected: list[Array]


@dataclass
class Worst:
    """The largest difference that was found.

    Args:
        tolerance: The largest that is accepted, relative to numbers above 1.
        difference: How large it is.
        where: The output and the item.
    """

    tolerance: float
    difference: float = 0.0
    where: str = ""

    def __str__(self) -> str:
        if not self.where:
            return f"no difference, tolerance {self.tolerance:.0e}"
        return f"largest difference {self.difference:.1e} in {self.where}, tolerance {self.tolerance:.0e}"


def samples_of(loop: Loop, given: GraphInput, count: int) -> list[Sample]:
    """Batches of the loader's items, spread over all of it, and one of them alone, with the learner's own predictions.

    Args:
        loop: The learner.
        given: What goes into the graph, with the loader.
        count: The most items.

    Raises:
        BadValue: `count` is not a number of items.
        NotExportable: The learner's predictions are not tensors with a row for each item.
    """
    if (number := whole_number(count)) is None or number < 1:
        raise BadValue("items is the number of items to compare on", got=repr(count), expected="a whole number from 1")
    batches = _batches(given.loader, number)
    if not batches:
        return []
    positions, batch = batches[0]
    batches.append((positions[:1], take_rows(tuple(batch) if isinstance(batch, list) else batch, [0])))
    return [_sample(loop, given, *one) for one in batches]


def _batches(loader: Any, count: int) -> list[tuple[list[int], Any]]:
    """Batches of at most `count` items in all, with the positions of their items."""
    if isinstance(loader, DataLoader) and loader.indexed and loader.n:
        chosen = np.unique(np.linspace(0, loader.n - 1, min(count, loader.n)).round().astype(int)).tolist()
        size = min(loader.bs or len(chosen), len(chosen))
        parts = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        return [(part, batch_at(loader, part)) for part in parts]
    found: list[tuple[list[int], Any]] = []
    seen = 0
    for batch in islice(loader, count):
        size = find_bs(batch)
        found.append((list(range(seen, seen + size)), batch))
        seen += size
        if seen >= count:
            break
    return found


def _sample(loop: Loop, given: GraphInput, positions: list[int], batch: Any) -> Sample:
    inputs = tuple(x.clone() for x in to_cpu(given.feed(batch)))
    seen = given.finish(to_device(map_tree(_copied, batch), model_device(loop)))
    with loop.no_bar():
        predictions, _ = get_preds(loop, dl=[seen], with_targs=False)
    expected = list(leaves(output_scores(predictions)))
    for x in expected:
        if not isinstance(x, Tensor) or x.ndim < 1 or len(x) != len(positions):
            raise NotExportable(
                "the predictions of this learner are not tensors with a row for each item",
                got=describe(predictions),
                expected="numbers or scores for each item",
                fix="learn.export('model.layered'), which load_learner opens",
            )
    return Sample(positions, inputs, [x.numpy() for x in expected])


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def compare(run: Runtime, traced: Traced, samples: Sequence[Sample], given: GraphInput, tolerance: float) -> Worst:
    """The largest difference between what a runtime gives and the learner's own predictions.

    Args:
        run: The runtime with the graph.
        traced: The graph.
        samples: What to compare on.
        given: What goes into the graph.
        tolerance: The largest difference that is accepted, relative to numbers above 1.

    Raises:
        NotExportable: A difference is larger; names output and item.
    """
    worst = Worst(tolerance)
    for sample in samples:
        got = run([x.numpy() for x in sample.inputs])
        check_outputs(worst, traced, got, sample.expected, [item_name(given, i) for i in sample.positions])
    return worst


def check_other_size(run: Runtime, traced: Traced, sample: Sample, given: GraphInput, worst: Worst) -> None:
    """Compare in another size, where there is one beside that of the batch that may vary.

    Args:
        run: The runtime with the graph.
        traced: The graph.
        sample: What to lengthen, or to shorten if the graph has to take any size, which may have a largest.
        given: What goes into the graph.
        worst: The largest difference so far.

    Raises:
        NotExportable: It differs from the graph that was traced.
    """
    varying = sorted({n for sizes in traced.inputs for n in sizes[1:] if isinstance(n, str)})
    if not varying:
        return
    inputs = []
    for x, sizes in zip(sample.inputs, traced.inputs, strict=True):
        for axis, name in enumerate(sizes):
            if name in varying:
                n = x.shape[axis]
                size = (n + 1) // 2 if given.needs_axes else n + OTHER_SIZE * (1 + varying.index(str(name)))
                x = x.index_select(axis, torch.arange(size) % n)
        inputs.append(x)
    try:
        with torch.no_grad():
            expected = [x.numpy() for x in traced.graph(*inputs)][: len(sample.expected)]
        got = run([x.numpy() for x in inputs])
    except Exception as error:  # of the model or the runtime, in a size that neither has seen
        raise NotExportable("the exported graph fails in another size", got=one_line(f"{error!s:.300}")) from error
    names = [f"{item_name(given, i)} in another size" for i in sample.positions]
    check_outputs(worst, traced, got, expected, names)


def check_outputs(
    worst: Worst, traced: Traced, got: Sequence[Array], expected: Sequence[Array], items: Sequence[str]
) -> None:
    """Compare predictions with what they have to be, and decisions with these predictions; note the largest difference.

    Args:
        worst: The largest difference so far, with the tolerance.
        traced: The graph.
        got: What a runtime gave.
        expected: The predictions that it has to give.
        items: The name of each item.

    Raises:
        NotExportable: A difference is larger than the tolerance, or a decision does not follow from the predictions.
    """
    count = len(expected)
    for name, x, y in zip(traced.outputs, got, expected, strict=False):
        if x.shape != y.shape:
            raise NotExportable(
                f"the exported graph gives '{name}' in another shape, so no file was kept",
                got=list(x.shape),
                expected=list(y.shape),
            )
        rows = _differences(x, y)
        row = int(rows.argmax())
        if rows[row] > worst.tolerance:
            raise NotExportable(
                "the exported graph does not predict what the learner does, so no file was kept",
                got=f"'{name}' of {items[row]} differs by {rows[row]:.1e}",
                expected=f"at most {worst.tolerance:.0e}, relative to numbers above 1",
                fix="learn.to_fp32() first, if the learner predicts in half precision; tolerance=… accepts larger differences",
            )
        if rows[row] > worst.difference:
            worst.difference, worst.where = float(rows[row]), f"'{name}' of {items[row]}"
    predictions = tuple(torch.from_numpy(x) for x in got[:count])
    decided = traced.graph.decodes(predictions[0] if count == 1 else predictions)
    wanted = [x.numpy() for x in leaves(decided) if not x.is_floating_point()]
    for name, x, y in zip(traced.outputs[count:], got[count:], wanted, strict=False):
        rows = (x != y).reshape(len(items), -1).any(1)
        if rows.any():
            raise NotExportable(
                "the exported graph does not decide as the learner does, so no file was kept",
                got=f"'{name}' of {items[int(rows.argmax())]} does not follow from its predictions",
            )


def _differences(x: Array, y: Array) -> Array:
    """How much each row differs: the largest difference of its numbers, relative to those above 1."""
    with np.errstate(invalid="ignore"):
        off = np.abs(x.astype(np.float64) - y) / np.maximum(1.0, np.abs(y))
    is_same = (x == y) | (np.isnan(x) & np.isnan(y))
    off = np.where(is_same, 0.0, np.where(np.isnan(off), np.inf, off))
    rows: Array = off.reshape(len(off), -1).max(1, initial=0.0)
    return rows


def item_name(given: GraphInput, position: int) -> str:
    """An item of the loader in words.

    Args:
        given: What goes into the graph, with the loader.
        position: Where it is.
    """
    if isinstance(given.loader, DataLoader) and given.loader.indexed:
        return as_dataset(given.loader.dataset).describe_item(position)
    return f"item {position}"
