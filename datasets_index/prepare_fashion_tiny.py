"""Make fashion_tiny.zip: 1,500 + 500 real Fashion-MNIST images, the same number of each class.

Reads the four idx.gz files of Fashion-MNIST, as Debian's package `dataset-fashion-mnist` installs them or as the
official page serves them. Training images come from the official training set, validation images from the official
test set. The choice is evenly spaced over each class, so nothing is random; names are the row numbers of the
official files. Entries carry a fixed date, so the same packages make the same bytes.

    python datasets_index/prepare_fashion_tiny.py [FOLDER_WITH_IDX_FILES]
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]

CLASSES = ("t-shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
SPLITS = (("train", "train", 150), ("valid", "t10k", 50))  # folder, official file prefix, images of each class
LICENSE = """The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def read_idx(path: Path) -> Bytes:
    """The unsigned bytes of an idx.gz file, in its own shape: [rows] or [rows, height, width]."""
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    shape = np.frombuffer(raw, ">u4", count=dims, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape.astype(int))


def evenly(rows: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """`count` of the rows, equally far apart."""
    return rows[np.arange(count) * len(rows) // count]


def png(pixels: Bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def main(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:

        def put(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(f"fashion_tiny/{name}", date_time=(2017, 8, 25, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_STORED)

        put("LICENSE", LICENSE.encode())
        for folder, prefix, count in SPLITS:
            images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
            labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
            for label, name in enumerate(CLASSES):
                for row in evenly(np.flatnonzero(labels == label), count):
                    put(f"{folder}/{name}/{row:05d}.png", png(images[row]))
    data = target.read_bytes()
    print(f"{target}: size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist"
    main(Path(given), Path(__file__).with_name("fashion_tiny.zip"))
