"""`to_onnx`: a learner as an ONNX file, with a script that runs it, for places without torch and this library."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from layered.files import commit, joined
from layered.foundation import BadValue, NotExportable, Path, checked, one_line, require
from layered.loop import Loop, by_first
from layered.training.graphs.candidate import Candidate, passed, said
from layered.training.graphs.gate import Array, Runtime, Worst, check_outputs, item_name
from layered.training.graphs.int8 import measured, quantized
from layered.training.graphs.script import ARRAYS, check_replaceable, script_name, write_script
from layered.training.graphs.tracing import Graph, layer_name, quiet

_OPERATOR = re.compile(r"target=torch\.ops\.([\w.]+)")
LARGEST = 2_000_000_000  # bytes of a message of protobuf, in which a file of one piece is written


@checked
def to_onnx(
    loop: Loop,
    fname: str | os.PathLike[str] = "export.onnx",
    *,
    quantize: str | None = None,
    dl: Iterable[Any] | None = None,
    items: int = 64,
    tolerance: float = 1e-4,
) -> Path:
    """Write the learner as an ONNX file, and a script beside it that predicts where neither torch nor this library is installed.

    The graph begins where the script ends: it takes images as bytes, codes and standard scores of tables, numbers of tokens. It
    gives predictions as `get_preds` does ("predictions"), and decisions where there are any ("decisions": class numbers, …).
    The entry "layered" of its metadata is JSON: inputs, classes, what graph and script do, and how the file was checked.

    A file is kept only if its predictions are those of the learner on validation items, in batches and one alone, and in
    another size if the size may vary; so the learner needs such items.

    Args:
        loop: The learner.
        fname: A path below the learner's `path`, unless it is absolute. It gets the suffix `.onnx`; the script is
            `<name>_predict.py` beside it.
        quantize: "int8" lets linear layers and convolutions calculate in 8 bits, after the model as it is has been compared; what
            the learner's metrics lose by it is printed, and written to the metadata.
        dl: The loader of the items to compare on; by default that of validation.
        items: How many of these are compared.
        tolerance: The largest difference of a prediction that is accepted, relative to numbers above 1.

    Returns:
        The path of the file.

    Raises:
        NotExportable: The model has no such graph (the message names the layer), or predictions differ; nothing is written.
        MissingDependency: The packages onnx, onnxscript or onnxruntime are not installed.
        EmptySource: There are no items to compare on.
        CannotSave: The file cannot be written.

    Examples:
        >>> import tempfile, torch; from torch import nn
        >>> from layered.training import Learner
        >>> batches = [(torch.randn(4, 3), torch.zeros(4, 1))]
        >>> learn = Learner((batches, batches), nn.Linear(3, 1), nn.MSELoss(), path=tempfile.mkdtemp())
        >>> learn.to_onnx("line").name  # doctest: +ELLIPSIS
        line.onnx: ...
        'line.onnx'
    """
    if quantize not in (None, "int8"):
        raise BadValue("unknown quantization", got=repr(quantize), expected="'int8', or None")
    require("onnx", extra="onnx", why="to_onnx")
    require("onnxscript", extra="onnx", why="to_onnx")
    require("onnxruntime", extra="onnx", why="to_onnx")
    path = joined(loop.path, fname)
    path = Path(path.with_name(f"{path.name.removesuffix('.onnx')}.onnx"))
    check_replaceable(script_name(path))
    with loop.turns.of_item():
        found, model, worst, run = passed(loop, dl, items, tolerance, _made, with_outputs=quantize is not None)
        by_script = _checked_script(found, run, tolerance)
        if quantize is not None:
            model, lost = _in_8_bits(loop, found, model, run)
    data = _with_metadata(model, found.about)
    by_first(lambda: _write(path, data, found))
    print(said(path, len(data), found, worst) + by_script)
    if quantize is not None:
        print(f"{path.name} in 8 bits: {lost}")
    return path


def _in_8_bits(loop: Loop, found: Candidate, model: Any, run: Runtime) -> tuple[Any, str]:
    """The model in 8 bits, and what that costs, in words; `about` gets the numbers."""
    names, small = found.given.names, quantized(model, found)
    values = {"float": measured(loop, found, run), "int8": measured(loop, found, runtime_of(small, names))}
    found.about["int8"] = values
    for output in [output for output in small.graph.output if output.name.startswith("outputs")]:
        small.graph.output.remove(output)
    changes = [f"{name} {value:.4f} → {values['int8'][name]:.4f}" for name, value in values["float"].items()]
    sizes = f"{model.ByteSize() / 1e6:.1f} MB → {small.ByteSize() / 1e6:.1f} MB"
    return small, ", ".join([sizes, *(changes or ["the items have no targets to measure it on"])])


def _made(found: Candidate) -> tuple[Any, Runtime]:
    model = _converted(found)
    return model, runtime_of(model, found.given.names)


def _write(path: Path, data: bytes, found: Candidate) -> None:
    write_script(path, found.given.prepare or ARRAYS)
    commit(path, lambda file: file.write(data))


def _converted(found: Candidate) -> Any:
    """The graph as a model of ONNX.

    Raises:
        NotExportable: An operator has no counterpart; names it and the layer.
    """
    export: Any = torch.onnx.export
    traced = found.traced
    try:
        with quiet():
            program = export(
                traced.program,
                dynamo=True,
                verbose=False,
                input_names=list(found.given.names),
                output_names=list(traced.outputs),
            )
    except Exception as error:  # of the exporter, which has many
        raise NotExportable(
            f"ONNX has no counterpart of {_operator(error, traced.program, traced.graph)}",
            got=one_line(f"{_causes(error)[-1]:.300}"),
            fix="learn.to_exported('model.pt2'), which torch runs without this library",
        ) from error
    model = program.model_proto
    _name_sizes(model, traced.inputs)
    return model


def _causes(error: BaseException) -> list[str]:
    """The messages of an error and of those behind it, innermost last."""
    found = list[str]()
    cause: BaseException | None = error
    while cause is not None:
        found.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return found


def _operator(error: Exception, program: Any, graph: Graph) -> str:
    """The operator that an error of the exporter is about, with its layer."""
    named = next((m for text in _causes(error) if (m := _OPERATOR.search(text)) is not None), None)
    if named is None:
        return "a part of the model"
    operator = named[1]
    stacks = [node.meta.get("nn_module_stack") for node in program.graph.nodes if str(node.target) == operator]
    path = next((next(reversed(stack.values()))[0] for stack in stacks if stack), None)
    return f"the operator {operator}" + ("" if path is None else f" in {layer_name(graph.get_submodule(path), path)}")


def _name_sizes(model: Any, inputs: Sequence[Sequence[int | str]]) -> None:
    """Give sizes that may vary the names that people know, in place of those of torch.export."""
    names = {
        dim.dim_param: name
        for value, sizes in zip(model.graph.input, inputs, strict=True)
        for dim, name in zip(value.type.tensor_type.shape.dim, sizes, strict=True)
        if isinstance(name, str)
    }
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _with_metadata(model: Any, about: dict[str, Any]) -> bytes:
    """The bytes of a model with what is said of it.

    Raises:
        NotExportable: It does not fit into one file.
    """
    entry = model.metadata_props.add()
    entry.key, entry.value = "layered", json.dumps(about, allow_nan=False)
    if model.ByteSize() > LARGEST:
        raise NotExportable(
            "the model is too large for one ONNX file",
            got=f"{model.ByteSize():,} bytes",
            expected=f"at most {LARGEST:,}",
            fix="learn.to_exported('model.pt2')",
        )
    data: bytes = model.SerializeToString()
    return data


def runtime_of(model: Any, names: Sequence[str]) -> Runtime:
    """onnxruntime with a model, on the CPU.

    Args:
        model: The model of ONNX.
        names: The names of its inputs.
    """
    onnxruntime = require("onnxruntime", extra="onnx", why="to_onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Array]) -> list[Array]:
        found: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
        return found

    return run


def _checked_script(found: Candidate, run: Runtime, tolerance: float) -> str:
    """Compare what the script predicts of the items themselves with the learner's predictions; what to say of it.

    Raises:
        NotExportable: They differ.
    """
    given = found.given
    if given.prepare is None or given.source is None:
        return ""
    worst = Worst(max(tolerance, given.prepare.closeness))
    for sample in found.samples:
        made = given.prepare([given.source(i) for i in sample.positions], given.settings)
        names = [f"{item_name(given, i)} as the script reads it" for i in sample.positions]
        check_outputs(worst, found.traced, run([made[name] for name in given.names]), sample.expected, names)
    return f"; by the script beside it {worst}"
