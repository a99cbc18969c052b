"""Models as graphs for other runtimes: ONNX and torch.export, each checked against the learner before it is kept."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.training.graphs.exported import to_exported as to_exported
from layered.training.graphs.inputs import (
    GraphInput as GraphInput,
    Preparation as Preparation,
    classes_of as classes_of,
    graph_inputs as graph_inputs,
    not_in_script as not_in_script,
    plain_classes as plain_classes,
)
from layered.training.graphs.onnx_files import to_onnx as to_onnx
