"""What goes into an exported graph: the inputs, what the graph does to them before the model, and what is left to a script.

Each application says so for its own loaders, in a function that it adds to `graph_inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from layered.data import TfmdDL, as_dataset
from layered.foundation import NotExportable, Registry, describe, noop, plain, warn
from layered.loop import Loop, split_batch

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Preparation:
    """How a script makes the inputs of a graph from items, by NumPy and a small package or two.

    Args:
        functions: Functions whose source is copied into the script; the last one is called as prepare(items, settings), where
            settings are those of the `GraphInput`, and gives the inputs by name.
        imports: The lines that they need beside NumPy.
        packages: What these lines import, by the names of the packages.
        item: What an item is, for the script's first line: "image files".
        from_words: How the script makes items of the words of its command line: a line of Python on `words`.
        closeness: How far its predictions may be from the learner's, where pixels or digits are rounded in another way.
    """

    functions: tuple[Callable[..., Any], ...]
    imports: str
    packages: tuple[str, ...]
    item: str
    from_words: str
    closeness: float

    def __call__(self, items: list[Any], settings: Mapping[str, Any]) -> Arrays:
        made: Arrays = self.functions[-1](items, settings)
        return made


@dataclass(frozen=True)
class GraphInput:
    """The inputs of a graph, for loaders of one kind.

    Args:
        names: The name of each input.
        feed: The inputs from a batch as `loader` gives it.
        enter: From the inputs to those of the model, a tuple or a dict; traced as a part of the graph.
        loader: Makes batches of the learner's items up to what the graph does itself.
        finish: From such a batch to that which the learner itself sees.
        axes: For each input, the axes beside the first whose size may vary, with a name.
        needs_axes: Whether a graph with fixed sizes there is useless.
        settings: What the script has to know, as plain data.
        in_graph: What the graph does to the inputs before the model, for people.
        prepare: What the script does; None for inputs that are given as arrays.
        source: The item that the script is given, by position in the loader.
        classes: For each target the classes, None for numbers.
    """

    names: tuple[str, ...]
    feed: Callable[[Any], tuple[Tensor, ...]]
    enter: Callable[..., Any]
    loader: Any
    finish: Callable[[Any], Any] = noop
    axes: tuple[dict[int, str], ...] = ()
    needs_axes: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    in_graph: tuple[str, ...] = ()
    prepare: Preparation | None = None
    source: Callable[[int], Any] | None = None
    classes: tuple[list[Any] | None, ...] = ()


graph_inputs: Registry[Callable[[Loop, Any], GraphInput | None]] = Registry("kind of graph inputs")
"""By application, a function of a learner and a loader of its items in their order; None where the loader is not of its kind."""


def inputs_for(loop: Loop, loader: Any) -> GraphInput:
    """The inputs of a learner's graph: as its application says, else those of the model as they are.

    Args:
        loop: The learner.
        loader: The loader of the items that the graph is checked on, in their order.
    """
    for name in graph_inputs.names():
        found = graph_inputs.get(name)(loop, loader)
        if found is not None:
            return found
    return as_they_are(loop, loader)


def as_they_are(loop: Loop, loader: Any) -> GraphInput:
    """The inputs of the model itself, named as its batches name them.

    Args:
        loop: The learner.
        loader: Its loader.
    """
    batch = next(iter(loader))
    inputs = _model_inputs(loop, loader, batch)
    names = tuple(inputs) if isinstance(inputs, dict) else tuple(f"input_{i}" for i in range(len(inputs)))
    names = ("input",) if len(names) == 1 and not isinstance(inputs, dict) else names
    for name, part in zip(names, inputs.values() if isinstance(inputs, dict) else inputs, strict=True):
        if not isinstance(part, Tensor) or not part.ndim:
            raise NotExportable(
                f"the input '{name}' of this model is not a batch of numbers",
                got=describe(part),
                expected="a tensor whose first axis counts the items",
                fix="a model whose forward takes tensors",
            )

    def feed(batch: Any) -> tuple[Tensor, ...]:
        inputs = _model_inputs(loop, loader, batch)
        return tuple(plain(part) for part in (inputs.values() if isinstance(inputs, dict) else inputs))

    def enter(*parts: Tensor) -> Any:
        return dict(zip(names, parts, strict=True)) if isinstance(inputs, dict) else parts

    kinds = {name: str(x.dtype).removeprefix("torch.") for name, x in zip(names, feed(batch), strict=True)}
    return GraphInput(names, feed, enter, loader, settings={"inputs": kinds}, classes=classes_of(loader))


def _model_inputs(loop: Loop, loader: Any, batch: Any) -> Any:
    n_inp = loader.n_inp if isinstance(loader, TfmdDL) else loop.dls.n_inp
    inputs, _ = split_batch(batch, n_inp, loop.model)
    return inputs


def classes_of(loader: Any) -> tuple[list[Any] | None, ...]:
    """The classes of each target of a loader whose columns are made by transforms.

    Args:
        loader: The loader.
    """
    if not isinstance(loader, TfmdDL):
        return ()
    dataset = as_dataset(loader.dataset)
    targets = dataset.columns[dataset.n_inp or 1 :]
    return tuple(plain_classes(getattr(column.tfms, "vocab", None)) for column in targets)


def plain_classes(vocab: Sequence[Any] | None) -> list[Any] | None:
    """Classes as text, numbers and truth values, which JSON can write; None for none.

    Args:
        vocab: The classes in their order.
    """
    if vocab is None:
        return None
    return [label if isinstance(label, (str, bool, int, float)) else str(label) for label in vocab]


def not_in_script(steps: Sequence[object], what: str) -> None:
    """Warn that the script takes arrays, since it cannot do some steps of the learner's pipeline.

    Args:
        steps: The steps.
        what: What they make ready: "images".
    """
    warn(
        f"the script beside the exported model takes arrays of {what} that are ready for it: "
        f"it cannot do {', '.join(map(repr, steps))}"
    )
