"""Opening DICOM files: what they may unfold to, and errors that name them."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from layered.data import get_files
from layered.foundation import BadImage, L, LayeredError, require
from layered.vision.decoding import check_regular
from layered.vision.reading import naming

_UNPACKED, _RATIO = 256 << 20, 100  # bytes that a deflated file may always unfold to, and how many times its own


def get_dicom_files(path: str | os.PathLike[str], recurse: bool = True, folders: Iterable[str] | None = None) -> L[Any]:
    """The DICOM files under a folder, sorted by path.

    Args:
        path: The folder.
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders.
    """
    return get_files(path, (".dcm", ".dicom"), recurse, folders)


def dcmread(source: str | os.PathLike[str] | bytes, force: bool = False) -> Any:
    """Read a DICOM file as pydicom's `Dataset`.

    Args:
        source: A path, or the bytes of a file.
        force: Read files without the header that says that they are DICOM.

    Raises:
        MissingDependency: pydicom is not installed.
        BadImage: The file cannot be read.
    """
    pydicom = require("pydicom", extra="medical", why="a DICOM file")
    with naming(source):
        if isinstance(source, (bytes, bytearray)):
            _refuse_bomb(pydicom, io.BytesIO(source), force)
            return pydicom.dcmread(pydicom.filebase.DicomBytesIO(source), force=force)
        check_regular(source, f"'{source}'")
        with open(source, "rb") as file:
            _refuse_bomb(pydicom, file, force)
        return pydicom.dcmread(source, force=force)


def _refuse_bomb(pydicom: Any, file: BinaryIO, force: bool) -> None:
    """Raise BadImage if what follows the header is deflated to a small part of its size: pydicom inflates without a bound."""
    reader = pydicom.filereader
    reader.read_preamble(file, force)
    header = reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if header.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        return
    data = file.read()
    most = max(_UNPACKED, _RATIO * len(data))
    unpacking, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and size <= most:
        size += len(unpacking.decompress(data, 1 << 20))
        data = unpacking.unconsumed_tail
    if size > most:
        raise BadImage("the DICOM file unfolds to very much", got=f"more than {most} bytes", fix="leave it out")


@contextmanager
def naming_file(dcm: Any, problem: str, fix: str | None = None) -> Iterator[None]:
    """Context manager: whatever pydicom and its decoders raise becomes an error that names the file of a data set."""
    try:
        yield
    except LayeredError:
        raise
    except Exception as error:
        name = f"'{dcm.filename}'" if isinstance(getattr(dcm, "filename", None), str) else "the DICOM file"
        got = f"{type(error).__name__}: {error}".strip().replace("\n", " ")[:300]
        raise BadImage(f"{name} {problem}", got=got, fix=fix) from error
