"""Make diamonds_tiny.zip: 2,000 of the 53,940 diamonds of `DIAMONDS`, evenly spaced over the file, so nothing is random.

Entries carry a fixed date, so the same file makes the same bytes.

    pip install --no-deps plotnine
    python datasets_index/prepare_diamonds_tiny.py [DIAMONDS_CSV]
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROWS = 2000
LICENSE = """The MIT License (MIT)

Copyright (c) 2022 Hassan Kibirige (plotnine), ggplot2 authors (the data)

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


def main(source: Path, target: Path) -> None:
    header, *rows = source.read_text("utf-8").splitlines()
    lines = [header, *(rows[i * len(rows) // ROWS] for i in range(ROWS))]
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in (("LICENSE", LICENSE), ("diamonds.csv", "".join(f"{line}\n" for line in lines))):
            entry = zipfile.ZipInfo(f"diamonds_tiny/{name}", date_time=(2017, 4, 25, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED, 9)
    data = target.read_bytes()
    print(f"{target}: size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    given = sys.argv[1:] or [str(distribution("plotnine").locate_file("plotnine/data/diamonds.csv"))]
    main(Path(given[0]), Path(__file__).with_name("diamonds_tiny.zip"))
