"""A learner's model as one graph, by torch.export: what comes before it, the model, the activation and the decision."""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import NotExportable, describe, is_sharded, leaves, one_line, output_scores
from layered.inference import activation_of, meaning_for
from layered.loop import Loop, Resettable, unwrapped
from layered.nn import ModelWithLoss
from layered.training.graphs.inputs import GraphInput


class Graph(nn.Module):
    """From a graph's inputs to predictions, then to decisions where these are more than the predictions: class numbers, ….

    Args:
        enter: From the graph's inputs to those of the model.
        model: The model.
        activation: From its output to predictions.
        decodes: From predictions to decisions.
        with_outputs: Give the model's own outputs too, last.
    """

    def __init__(
        self,
        enter: Callable[..., Any],
        model: nn.Module,
        activation: Callable[[Any], Any],
        decodes: Callable[[Any], Any],
        with_outputs: bool,
    ) -> None:
        super().__init__()
        self.enter, self.model, self.activation, self.decodes = enter, model, activation, decodes
        self.with_outputs = with_outputs

    def named(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the graph gives, by name.

        Args:
            inputs: Its inputs.
        """
        entered = self.enter(*inputs)
        output = self.model(**entered) if isinstance(entered, dict) else self.model(*entered)
        predictions = self.activation(output)
        parts = {"predictions": list(leaves(predictions))}
        parts["decisions"] = [x for x in leaves(self.decodes(predictions)) if not x.is_floating_point()]
        if self.with_outputs:
            parts["outputs"] = [
                x for x in leaves(output_scores(output)) if all(x is not y for y in parts["predictions"])
            ]
        return {
            name if len(found) == 1 else f"{name}_{i}": x for name, found in parts.items() for i, x in enumerate(found)
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(*inputs).values())


@dataclass(frozen=True)
class Traced:
    """A graph, and what torch.export made of it.

    Args:
        graph: The graph, on the CPU and in evaluation mode.
        program: What torch.export made of it.
        inputs: For each input the size of each axis: a number, or a name where it may vary.
        outputs: The name of each output.
    """

    graph: Graph
    program: Any
    inputs: tuple[tuple[int | str, ...], ...]
    outputs: tuple[str, ...]


def check_model(model: nn.Module) -> None:
    """Refuse kinds of models that have no graph.

    Args:
        model: A learner's model.

    Raises:
        NotExportable: It is of such a kind.
    """
    if any(is_sharded(p) for p in model.parameters()):
        raise NotExportable(
            "each process holds a part of this model only",
            fix="learn.export('model.layered'), and load_learner('model.layered').to_onnx('model.onnx', dl=…) in one process",
        )
    if isinstance(model, ModelWithLoss):
        raise NotExportable(
            "models that compute their own loss, such as detectors, have no graph for other runtimes",
            got=type(model).__name__,
            expected="a model from tensors to tensors of as many rows",
            fix="learn.export('model.layered'), which load_learner opens",
        )
    if isinstance(model, Resettable):
        raise NotExportable(
            "a recurrent model that carries a state through a text has no graph for other runtimes",
            got=f"{type(model).__name__} of {', '.join(type(part).__name__ for part in model.children())}",
            expected="a model without a state, such as a transformer",
            fix="learn.export('model.layered'), which load_learner opens",
        )


def graph_of(loop: Loop, given: GraphInput, with_outputs: bool = False) -> Graph:
    """A learner's graph on the CPU, in evaluation mode; the learner stays as it is.

    Args:
        loop: The learner.
        given: What goes into it.
        with_outputs: Let it give the model's own outputs too, beside predictions.
    """
    model = copy.deepcopy(unwrapped(loop.model)).cpu()
    return Graph(given.enter, model, activation_of(loop, output_scores), meaning_for(loop).decodes, with_outputs).eval()


def traced(graph: Graph, given: GraphInput, example: tuple[Tensor, ...]) -> Traced:
    """What torch.export makes of a graph.

    Args:
        graph: The graph.
        given: What goes into it.
        example: Its inputs for at least two items.

    Raises:
        NotExportable: It cannot be traced (the message names the layer), or not with axes of any size.
    """
    axes = given.axes or ({},) * len(example)
    with torch.no_grad():
        outputs = tuple(graph.named(*example))
    program = _exported(graph, example, axes)
    sizes = _sizes(program, axes)
    varies = all(size[i] == name for size, names in zip(sizes, axes, strict=True) for i, name in names.items())
    if not varies:
        raise NotExportable(
            "the model only takes inputs of the size that it was traced with",
            got=", ".join(describe(x) for x in example),
            expected=f"any size of {', '.join(sorted({name for names in axes for name in names.values()}))}",
            fix="learn.export('model.layered'), which load_learner opens",
        )
    return Traced(graph, program, sizes, outputs)


def _exported(graph: Graph, example: tuple[Tensor, ...], axes: Sequence[dict[int, str]]) -> Any:
    """What torch.export makes of it: the batch has any size, and named axes have if the model does not fix them."""
    export: Any = torch.export
    batch = export.Dim("batch")
    shapes = tuple({0: batch, **dict.fromkeys(names, export.Dim.AUTO)} for names in axes)
    try:
        with torch.no_grad(), quiet():
            return export.export(graph, example, dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # whatever foreign code raises where it meets tensors without values
        raise NotExportable(
            f"torch.export cannot trace {_where(error, graph)}",
            got=one_line(f"{type(error).__name__}: {error!s:.300}"),
            expected="a forward whose steps do not depend on the values or the number of its items",
            fix="learn.export('model.layered'), which load_learner opens",
        ) from error


def _where(error: Exception, graph: nn.Module) -> str:
    """The innermost module whose forward raised an error, in words."""
    names = {id(module): name for name, module in graph.named_modules()}
    found = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [module for module in found if isinstance(module, nn.Module) and id(module) in names]
    return layer_name(layers[-1], names[id(layers[-1])]) if layers else "the model"


def layer_name(layer: object, name: str) -> str:
    """A layer of a graph in words: what it is, and where it stands in the learner's model.

    Args:
        layer: The layer.
        name: Its name in the graph.
    """
    kind = type(layer).__name__ if isinstance(layer, nn.Module) else str(layer).rpartition(".")[2]
    path = name.removeprefix("model").removeprefix(".")
    return f"the layer '{path}', {kind}" if path else kind if name else "what stands around the model"


def _sizes(program: Any, axes: Sequence[dict[int, str]]) -> tuple[tuple[int | str, ...], ...]:
    """The size of each axis of each input: a name where it may vary on its own."""
    nodes = {node.name: node for node in program.graph.nodes}
    shapes = [nodes[name].meta["val"].shape for name in program.graph_signature.user_inputs]
    return tuple(
        tuple(
            {0: "batch", **named}.get(i, str(n)) if isinstance(n, torch.SymInt) and str(n).isidentifier() else int(n)
            for i, n in enumerate(shape)
        )
        for shape, named in zip(shapes, axes, strict=True)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager: what exporters warn their own developers of does not show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
