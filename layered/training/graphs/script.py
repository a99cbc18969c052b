"""The script beside an ONNX file: it predicts where neither torch nor this library is installed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from layered.files import commit, read_whole
from layered.foundation import BadValue, Path
from layered.training.graphs.inputs import Preparation

MARK = "# Written by to_onnx of layered, which replaces it."

_TEMPLATE = '''"""Predictions of an exported model for {item}: by python on the command line, or by `predict(items)`.

Needs {packages}, and the model's file beside it.
"""
{mark}

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
{imports}
session = onnxruntime.InferenceSession(Path(__file__).with_name({model!r}))
about = json.loads(session.get_modelmeta().custom_metadata_map["layered"])


{functions}

def decided(row):
    """A decision with the names of classes in place of their numbers."""
    classes = about["classes"][0] if len(about["classes"]) == 1 else None
    if classes is None or row.dtype.kind == "f":
        return row.tolist()
    return [c for c, is_one in zip(classes, row) if is_one] if row.dtype == bool else np.array(classes)[row].tolist()


def predict(items, size=64):
    """(decision, predictions) of each item; the graph gets `size` of them at a time."""
    for start in range(0, len(items), size):
        found = session.run(None, {prepare}(items[start : start + size], about["settings"]))
        named = dict(zip([output.name for output in session.get_outputs()], found))
        for i in range(len(found[0])):
            yield decided(named.get("decisions", found[0])[i]), named.get("predictions", found[0])[i]


if __name__ == "__main__":
    words = sys.argv[1:]
    items = {from_words}
    for decision, predictions in predict(items):
        print(decision, predictions.tolist() if predictions.size <= 20 else predictions.shape)
'''


def prepare_arrays(items: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The inputs of the graph from arrays: an item is a dict with the array of each input, or the array of the only one.

    Args:
        items: The items.
        settings: The inputs: their names and what their numbers are.
    """
    rows = [item if isinstance(item, dict) else dict.fromkeys(settings["inputs"], item) for item in items]
    return {name: np.stack([row[name] for row in rows]).astype(kind) for name, kind in settings["inputs"].items()}


ARRAYS = Preparation((prepare_arrays,), "", (), "arrays", "[np.load(word) for word in words]", 0.0)


def script_name(path: Path) -> Path:
    """Where the script beside an ONNX file is.

    Args:
        path: The ONNX file.
    """
    return Path(path.with_name(f"{path.stem}_predict.py"))


def check_replaceable(path: Path) -> None:
    """Refuse to replace a file that is not such a script.

    Args:
        path: The file.

    Raises:
        BadValue: There is another file of this name.
    """
    if path.exists() and MARK.encode() not in read_whole(path):
        raise BadValue(
            f"the script beside the model would replace '{path}'",
            got="a file that to_onnx has not written",
            fix="give the model another name, or move that file",
        )


def write_script(path: Path, prepare: Preparation) -> None:
    """Write the script beside an ONNX file.

    Args:
        path: The ONNX file.
        prepare: How it makes the graph's inputs.

    Raises:
        CannotSave: It cannot be written.
    """
    functions = "\n\n".join(inspect.getsource(function) for function in prepare.functions)
    text = _TEMPLATE.format(
        item=prepare.item,
        packages=", ".join(["onnxruntime", "numpy", *prepare.packages]),
        mark=MARK,
        imports=prepare.imports,
        model=path.name,
        functions=functions,
        prepare=prepare.functions[-1].__name__,
        from_words=prepare.from_words,
    )
    commit(script_name(path), lambda file: file.write(text.encode()))
