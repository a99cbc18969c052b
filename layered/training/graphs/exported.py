"""`to_exported`: a learner as a program of torch.export, which torch alone loads and runs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from layered.files import commit, joined
from layered.foundation import NotExportable, Path, checked, one_line
from layered.loop import Loop, by_first
from layered.training.graphs.candidate import Candidate, passed, said
from layered.training.graphs.gate import Array, Runtime
from layered.training.graphs.tracing import quiet

ABOUT = "layered.json"


@checked
def to_exported(
    loop: Loop,
    fname: str | os.PathLike[str] = "export.pt2",
    *,
    dl: Iterable[Any] | None = None,
    items: int = 64,
    tolerance: float = 1e-4,
) -> Path:
    """Write the learner as a program of torch.export, which torch loads without this library: `torch.export.load(f).module()`.

    Inputs, outputs and what is said of them are those of `to_onnx`; the JSON is the extra file "layered.json". It runs on the
    CPU.

    Args:
        loop: The learner.
        fname: A path below the learner's `path`, unless it is absolute. It gets the suffix `.pt2`.
        dl: The loader of the items to compare on; by default that of validation.
        items: How many of these are compared.
        tolerance: The largest difference of a prediction that is accepted, relative to numbers above 1.

    Returns:
        The path of the file.

    Raises:
        NotExportable: The model has no such graph (the message names the layer), or predictions differ; nothing is written.
        EmptySource: There are no items to compare on.
        CannotSave: The file cannot be written.

    Examples:
        >>> import tempfile, torch; from torch import nn
        >>> from layered.training import Learner
        >>> batches = [(torch.randn(4, 3), torch.zeros(4, 1))]
        >>> learn = Learner((batches, batches), nn.Linear(3, 1), nn.MSELoss(), path=tempfile.mkdtemp())
        >>> path = learn.to_exported("line")  # doctest: +ELLIPSIS
        line.pt2: ...
        >>> torch.export.load(path).module()(batches[0][0])[0].shape
        torch.Size([4, 1])
    """
    path = joined(loop.path, fname)
    path = Path(path.with_name(f"{path.name.removesuffix('.pt2')}.pt2"))
    with loop.turns.of_item():
        found, _, worst, _ = passed(loop, dl, items, tolerance, _made)
    data = _written(found.traced.program, found.about)
    by_first(lambda: commit(path, lambda file: file.write(data)))
    print(said(path, len(data), found, worst))
    return path


def _made(found: Candidate) -> tuple[None, Runtime]:
    return None, _read_back(_written(found.traced.program, {}))


def _written(program: Any, about: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    export: Any = torch.export
    with quiet():
        export.save(program, file, extra_files={ABOUT: json.dumps(about, allow_nan=False)})
    return file.getvalue()


def _read_back(data: bytes) -> Runtime:
    """The program as torch reads it, as a function of arrays."""
    export: Any = torch.export
    try:
        with quiet():
            module = export.load(io.BytesIO(data)).module()
    except Exception as error:  # of what torch can write and not read
        raise NotExportable(
            "torch cannot read back the program that it has written of this model",
            got=one_line(f"{error!s:.300}"),
            fix="learn.export('model.layered'), which load_learner opens",
        ) from error

    def run(inputs: Sequence[Array]) -> list[Array]:
        with torch.no_grad():
            return [x.numpy() for x in module(*map(torch.from_numpy, inputs))]

    return run
