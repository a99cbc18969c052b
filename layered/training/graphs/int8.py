"""int8: weights and sums of an ONNX model as whole numbers of 8 bits, and what the learner's metrics lose by it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layered.foundation import Path, require
from layered.loop import Loop, split_batch
from layered.training.graphs.candidate import Candidate
from layered.training.graphs.gate import Array, Runtime
from layered.training.graphs.inputs import GraphInput
from layered.training.graphs.tracing import quiet

_WHY = "quantize='int8'"


def quantized(model: Any, found: Candidate) -> Any:
    """A model of ONNX with embeddings in 8 bits, whose linear layers and convolutions calculate in 8 bits.

    With convolutions the ranges of all values are taken from the items that the graph was compared on; without, those of
    inputs are measured anew in each call.

    Args:
        model: The model.
        found: The graph, with these items.
    """
    onnx: Any = require("onnx", extra="onnx", why=_WHY)
    tools: Any = require("onnxruntime.quantization", extra="onnx", why=_WHY)
    weights = {"weight_type": tools.QuantType.QInt8, "op_types_to_quantize": ["Conv", "Gather", "Gemm", "MatMul"]}
    with tempfile.TemporaryDirectory() as folder, quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(model.SerializeToString())
        if any(node.op_type == "Conv" for node in model.graph.node):
            feeds = [
                {name: x.numpy() for name, x in zip(found.given.names, sample.inputs, strict=True)}
                for sample in found.samples
            ]
            tools.quantize_static(before, after, _reader(tools, feeds), per_channel=True, **weights)
        else:
            tools.quantize_dynamic(before, after, **weights)
        return onnx.load(after)


def _reader(tools: Any, feeds: Sequence[dict[str, Array]]) -> Any:
    """What onnxruntime asks for inputs to calibrate on."""
    left = iter(feeds)
    kind = type("Feeds", (tools.CalibrationDataReader,), {"get_next": lambda self: next(left, None)})
    return kind()


def measured(loop: Loop, found: Candidate, run: Runtime) -> dict[str, float]:
    """Loss and metrics of the learner over the loader's items, by a runtime in place of its model.

    Args:
        loop: The learner, which stays as it is.
        found: The graph, which gives the model's own outputs too.
        run: The runtime with the graph.
    """
    names = [i for i, name in enumerate(found.traced.outputs) if name.startswith("outputs")]
    chosen = names or [i for i, name in enumerate(found.traced.outputs) if name.startswith("predictions")]
    batches = _Fed(loop, found.given)
    judge = Loop(
        (batches, batches),
        _Running(run, chosen),
        copy.deepcopy(loop.loss_func),
        metrics=copy.deepcopy(list(loop.metrics)),
    )
    with judge.no_logging(), judge.no_bar():
        values = judge.validate(dl=batches)
    columns = judge.recorder.metric_names
    labels = columns[columns.index("valid_loss") :]
    return {label: float(value) for label, value in zip(labels, values or (), strict=False) if value is not None}


class _Running(nn.Module):
    """A graph in a runtime, as a model.

    Args:
        run: The runtime.
        chosen: Which of its outputs are those of the model.
    """

    def __init__(self, run: Callable[[Sequence[Array]], list[Array]], chosen: Sequence[int]) -> None:
        super().__init__()
        self.run, self.chosen = run, chosen

    def forward(self, *inputs: Tensor) -> Any:
        found = self.run([x.numpy() for x in inputs])
        outputs = tuple(torch.from_numpy(found[i]) for i in self.chosen)
        return outputs[0] if len(outputs) == 1 else outputs


class _Fed:
    """Batches of a graph's inputs, beside the learner's targets.

    Args:
        loop: The learner.
        given: The inputs.
    """

    def __init__(self, loop: Loop, given: GraphInput) -> None:
        self.loop, self.given, self.n_inp = loop, given, len(given.names)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.given.loader:
            inputs = tuple(x.clone().cpu() for x in self.given.feed(batch))
            _, targets = split_batch(self.given.finish(batch), self.loop.dls.n_inp, self.loop.model)
            yield (*inputs, *targets)
