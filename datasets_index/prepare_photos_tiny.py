"""Make photos_tiny.zip: 153 photographs of animals, buildings, fish, tools and windmills, 128 pixels on the shorter side.

Reads GCompris, as Debian's package `gcompris-qt-data` (3.1) installs it: its activities are Qt resource files (`*.rcc`)
with photographs as WebP. The table photos_tiny.csv says which photograph becomes which file, who made it, under which
licence and where it was published, as GCompris states it beside each. All are in the public domain or under CC0.

Every third subject of a class is for validation. A photograph is on one side only, and so are two photographs of one
subject (two of the Eiffel Tower, two of one hammer): the column `subject`.

    python datasets_index/prepare_photos_tiny.py [FOLDER_WITH_RCC_FILES]
"""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

SIDE = 128  # pixels, the shorter side
ACTIVITIES = "/gcompris/src/activities/"
LICENCE = """Each photograph is in the public domain or under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/),
as its author or its publisher declared it where it was published. photos.csv names author, licence and source of each.
They were collected by GCompris (https://gcompris.net) and made smaller for this set.
"""


def unpack(file: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents in a Qt resource file: a tree of nodes, with names and data in tables of their own."""
    raw = file.read_bytes()
    version, tree, data, names = struct.unpack_from(">4xIIII", raw)
    node_size = 22 if version > 1 else 14  # later versions add a date

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_size
        name_at, flags = struct.unpack_from(">IH", raw, at)
        length = struct.unpack_from(">H", raw, names + name_at)[0]
        start = names + name_at + 6
        path = f"{folder}/{raw[start : start + 2 * length].decode('utf-16-be')}" if node else ""
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">II", raw, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        else:
            start = data + struct.unpack_from(">I", raw, at + 10)[0]
            size = struct.unpack_from(">I", raw, start)[0]
            content = raw[start + 4 : start + 4 + size]
            yield path, zlib.decompress(content[4:]) if flags & 1 else content

    return walk(0, "")


def smaller(data: bytes) -> bytes:
    """The picture as a JPEG whose shorter side has SIDE pixels."""
    with Image.open(io.BytesIO(data)) as image:
        scale = SIDE / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        out = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()


def main(source: Path, table: Path, target: Path) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    activities = {row["packed_as"].split("/")[0] for row in rows}
    packed = {name.removeprefix(ACTIVITIES): data for a in activities for name, data in unpack(source / f"{a}.rcc")}
    with zipfile.ZipFile(target, "w") as archive:

        def put(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(f"photos_tiny/{name}", date_time=(2023, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_STORED)

        put("LICENSE", LICENCE.encode())
        put("photos.csv", table.read_bytes())
        for row in rows:
            put(row["file"], smaller(packed[row["packed_as"]]))
    data = target.read_bytes()
    print(f"{target}: size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/gcompris-qt/rcc"
    here = Path(__file__)
    main(Path(given), here.with_name("photos_tiny.csv"), here.with_name("photos_tiny.zip"))
