"""PIL's `Image` module, except that `open` returns our image class. The façade exports it as `Image`."""

from __future__ import annotations

import contextlib
import io
import os
from typing import IO, Any

import PIL.Image as _pil

from layered.vision.reading import load_image
from layered.vision.types import PILBase


def open(fp: str | os.PathLike[str] | bytes | IO[bytes], mode: str = "r", formats: Any = None) -> PILBase:
    """Decode an image file, upright, in its own mode, as a class with `shape`, `to_thumb` and `show`.

    Args:
        fp: A path or a binary file.
        mode: "r"; anything else is an error, as in PIL.
        formats: The formats to try, as in PIL; by default those that are decoded in this process.

    Raises:
        NotFoundPath: If the file does not exist.
        BadImage: If it cannot be decoded.
    """
    if isinstance(fp, (str, os.PathLike, bytes)):
        return PILBase.recast(load_image(fp))
    if formats is None and mode == "r":
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            fp.seek(0)
        return PILBase.recast(load_image(fp.read()))
    with _pil.open(fp, mode, formats) as image:  # type: ignore[arg-type]  # PIL itself refuses any other mode than "r"
        return PILBase.recast(load_image(image))


def __getattr__(name: str) -> Any:
    return getattr(_pil, name)
