"""What a model is asked about: an image, a text, or a row; from the JSON of a request to the items that a learner predicts."""

from __future__ import annotations

import base64
import binascii
from types import MethodType
from typing import Any, Protocol

from layered.data import Datasets, plain_function
from layered.foundation import BadValue, OutOfRange, describe, nearest
from layered.tabular import Categorify, Tabular
from layered.text import HuggingFaceTokenizer, Tokenizer
from layered.training import Learner
from layered.vision import PILBase, naming, open_image

MOST_PIXELS = 40_000_000  # of an image; decoded, 120 MB
MOST_CHARACTERS = 100_000  # of a text
MOST_LEVELS = 1000  # of a category that the page offers


class Input(Protocol):
    """A kind of input.

    Attributes:
        kind: "image", "text" or "row".
    """

    kind: str

    def described(self) -> dict[str, Any]:
        """What a client has to know to ask, as JSON."""

    def item(self, value: object) -> Any:
        """What the learner predicts.

        Args:
            value: From the JSON of a request; the bytes of a file for an image.

        Raises:
            BadValue: It is not an input of this kind; OutOfRange if it is too large.
        """


class ImageInput:
    """An image, as the bytes of its file or as their base64."""

    kind = "image"

    def described(self) -> dict[str, Any]:
        return {"kind": self.kind, "most_pixels": MOST_PIXELS}

    def item(self, value: object) -> bytes:
        data = value if isinstance(value, bytes) else _decoded(value)
        if not data:
            raise BadValue("the image is empty", expected="the bytes of an image file")
        with naming(data), open_image(data, "the image") as image:
            pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise OutOfRange("the image is too large", got=f"{pixels:,} pixels", expected=f"at most {MOST_PIXELS:,}")
        return data


def _decoded(value: object) -> bytes:
    expected = 'a string of base64; or send the file itself, as "Content-Type: image/jpeg"'
    if not isinstance(value, str):
        raise BadValue("an image in JSON is a string", got=_named(value), expected=expected)
    head, is_url, _ = value[:100].partition(";base64,")
    text = value[len(head) + len(";base64,") :] if is_url and head.startswith("data:") else value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadValue("the image is not base64", got=error, expected=expected) from None


class TextInput:
    """A text; or an object with one for each column, for a model that was trained on several.

    Args:
        columns: Their names, if there are several.
    """

    kind = "text"

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def described(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": self.columns, "most_characters": MOST_CHARACTERS}

    def item(self, value: object) -> Any:
        if not self.columns:
            return _text(value, "the text")
        row = _row(value, self.columns)
        return {name: _text(text, f"the text of {name!r}") for name, text in row.items()}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{name} is not a string", got=_named(value), expected="a string")
    if not value.strip():
        raise BadValue(f"{name} is empty", expected="a text with at least one word")
    if len(value) > MOST_CHARACTERS:
        raise OutOfRange(
            f"{name} is too long", got=f"{len(value):,} characters", expected=f"at most {MOST_CHARACTERS:,}"
        )
    return value


class RowInput:
    """A row of a table: an object with a number, a string, a boolean or null for each column.

    Args:
        table: The table that the model was trained on.
    """

    kind = "row"

    def __init__(self, table: Tabular) -> None:
        self.columns = {str(name): name for name in table.x_given}
        self.numbers = set(table.cont_names)
        encoder = next((step for step in table.procs if isinstance(step, Categorify)), None)
        self.levels = {} if encoder is None else encoder.classes

    def described(self) -> dict[str, Any]:
        columns = []
        for text, name in self.columns.items():
            levels = [str(level) for level in self.levels.get(name, ())][1:]  # the first stands for unknown ones
            shown = {} if name in self.numbers else {"levels": levels[:MOST_LEVELS], "count": len(levels)}
            columns.append({"name": text, "kind": "number" if name in self.numbers else "category", **shown})
        return {"kind": self.kind, "columns": columns}

    def item(self, value: object) -> dict[Any, Any]:
        row = _row(value, list(self.columns))
        for name, cell in row.items():
            if cell is not None and not isinstance(cell, (str, int, float)):
                raise BadValue(
                    f"{name!r} is not a value", got=_named(cell), expected="a number, a string, a boolean or null"
                )
        return {self.columns[name]: cell for name, cell in row.items()}


def _row(value: object, columns: list[str]) -> dict[str, Any]:
    """An object with exactly these names."""
    if not isinstance(value, dict):
        raise BadValue("a row is an object", got=_named(value), expected=f"the names {', '.join(columns)}"[:500])
    for name in value:
        if name not in columns:
            near = nearest(name[:100], columns, 1)
            fix = f"did you mean {near[0]!r}?" if near else None
            raise BadValue(f"there is no column {name[:100]!r}", expected=", ".join(columns)[:500], fix=fix)
    missing = [name for name in columns if name not in value]
    if missing:
        raise BadValue(
            f"columns are missing: {', '.join(map(repr, missing))[:500]}",
            expected="a value for each column; null where it is unknown",
        )
    return value


def _named(value: object) -> str:
    kinds = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
    }
    return kinds.get(type(value), "an object")


def input_of(learn: Learner) -> Input:
    """What the model of a learner is asked about.

    Args:
        learn: The learner.

    Raises:
        BadValue: It is neither one image, nor one text, nor a row.
    """
    dataset = learn.dls.valid.dataset
    if isinstance(dataset, Tabular):
        return RowInput(dataset)
    if isinstance(dataset, Datasets) and dataset.n_inp == 1:
        steps = list(dataset.tls[0].tfms)
        tokenizer = next((step for step in steps if isinstance(step, (Tokenizer, HuggingFaceTokenizer))), None)
        if tokenizer is not None:
            return TextInput([*map(str, tokenizer.read.text_cols)] if tokenizer.read.is_several else [])
        first = plain_function(steps[0]) if steps else None
        if isinstance(first, MethodType) and isinstance(first.__self__, type) and issubclass(first.__self__, PILBase):
            return ImageInput()
    raise BadValue(
        "this model cannot be served: what it is asked about is not known to the page",
        got=describe(dataset),
        expected="one image (ImageBlock), one text (TextBlock), or a row of a table",
        fix="learn.predict(item) in a program of yours",
    )
