"""A graph that may become a file: a learner traced, with what it is compared on and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from layered.foundation import EmptySource, NotExportable, OutOfRange, Path
from layered.inference import steady_loader
from layered.loop import Loop, unwrapped
from layered.nn import BCEWithLogitsLossFlat
from layered.training.graphs.gate import Runtime, Sample, Worst, check_other_size, compare, samples_of
from layered.training.graphs.inputs import GraphInput, inputs_for
from layered.training.graphs.tracing import Graph, Traced, check_model, graph_of, traced
from layered.version import __version__

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A traced graph, and what it has to predict.

    Args:
        given: What goes into it.
        samples: What it is compared on.
        traced: The graph.
        about: What its file says of it, as plain data.
    """

    given: GraphInput
    samples: list[Sample]
    traced: Traced
    about: dict[str, Any]

    @property
    def count(self) -> int:
        """How many items it is compared on."""
        return len({position for sample in self.samples for position in sample.positions})


def passed(
    loop: Loop,
    dl: Iterable[Any] | None,
    items: int,
    tolerance: float,
    make: Callable[[Candidate], tuple[T, Runtime]],
    with_outputs: bool = False,
) -> tuple[Candidate, T, Worst, Runtime]:
    """A learner's graph that predicts what the learner does, with what is to be written of it.

    Args:
        loop: The learner.
        dl: The loader of the items to compare on; None takes that of validation.
        items: The most items to compare on.
        tolerance: The largest difference of a prediction that is accepted, relative to numbers above 1.
        make: Makes what is to be written of a candidate, and the runtime with it.
        with_outputs: Let the graph give the model's own outputs too.

    Returns:
        The candidate, what `make` made of it, the largest difference, the runtime.

    Raises:
        NotExportable: There is no such graph, or predictions differ.
        EmptySource: There are no items.
    """
    if not 0 <= tolerance < math.inf:
        raise OutOfRange(
            "tolerance is the largest difference that is accepted", got=repr(tolerance), expected="a number from 0"
        )
    check_model(unwrapped(loop.model))
    given = inputs_for(loop, steady_loader(loop, 1, dl))
    samples = samples_of(loop, given, items)
    if not samples:
        raise EmptySource(
            "there are no items to compare an exported graph on",
            expected="validation items",
            fix="dl=learn.dls.test_dl(items)",
        )
    graph = graph_of(
        loop, given, with_outputs
    )  # a pass may have changed the model, such as its vectors of unseen levels
    try:
        return _compared(_candidate(loop, graph, given, samples), make, tolerance)
    except NotExportable:
        if given.needs_axes or not given.axes:
            raise
    fixed = replace(given, axes=())
    return _compared(_candidate(loop, graph, fixed, samples), make, tolerance)


def _candidate(loop: Loop, graph: Graph, given: GraphInput, samples: list[Sample]) -> Candidate:
    example = samples[0].inputs
    if len(samples[0].positions) == 1:  # torch.export takes an axis of one for an axis that stays so
        example = tuple(torch.cat([x, x]) for x in example)
    found = traced(graph, given, example)
    return Candidate(given, samples, found, _about(loop, given, found, example))


def _compared(
    found: Candidate, make: Callable[[Candidate], tuple[T, Runtime]], tolerance: float
) -> tuple[Candidate, T, Worst, Runtime]:
    made, run = make(found)
    worst = compare(run, found.traced, found.samples, found.given, tolerance)
    check_other_size(run, found.traced, found.samples[0], found.given, worst)
    found.about["checked"] = {
        "items": found.count,
        "batches": sorted({len(sample.positions) for sample in found.samples}),
        "tolerance": worst.tolerance,
        "largest_difference": worst.difference,
    }
    return found, made, worst, run


def said(path: Path, size: int, found: Candidate, worst: Worst) -> str:
    """What is printed of a file that was written.

    Args:
        path: The file.
        size: Its bytes.
        found: The graph in it.
        worst: The largest difference.
    """
    batches = ", ".join(map(str, found.about["checked"]["batches"]))
    return (
        f"{path.name}: {size / 1e6:.1f} MB, equal to the learner's predictions on {found.count} items in batches of "
        f"{batches} ({worst})"
    )


def _about(loop: Loop, given: GraphInput, found: Traced, example: tuple[Tensor, ...]) -> dict[str, Any]:
    with torch.no_grad():
        outputs = found.graph.named(*example)
    is_labels = any(x.dtype is torch.bool for x in outputs.values())
    loss = loop.loss_func
    return {
        "format": FORMAT,
        "layered": __version__,
        "torch": torch.__version__,
        "inputs": [
            {"name": name, "shape": list(shape), "dtype": str(x.dtype).removeprefix("torch.")}
            for name, shape, x in zip(given.names, found.inputs, example, strict=True)
        ],
        "outputs": [
            {"name": name, "dtype": str(x.dtype).removeprefix("torch.")}
            for name, x in outputs.items()
            if name != "outputs"
        ],
        "classes": list(given.classes),
        "threshold": (loss.thresh if isinstance(loss, BCEWithLogitsLossFlat) else 0.5) if is_labels else None,
        "in_graph": list(given.in_graph),
        "in_script": given.prepare.item if given.prepare is not None else "nothing: it takes arrays",
        "settings": given.settings,
    }
