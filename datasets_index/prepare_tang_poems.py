"""Make tang_poems.zip: the poems of the "Three Hundred Tang Poems" whose form is known, from the npm package chinese-poetry.

poems.csv has their form, such as 五言律诗 (eight lines of five characters), author, title and text. Entries carry a fixed date,
so the same file makes the same bytes.

    npm pack chinese-poetry@2.0.1
    python datasets_index/prepare_tang_poems.py chinese-poetry-2.0.1.tgz
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

MEMBER = "package/dist/quantangshi/唐诗三百首.json"
FORMS = ("五言律诗", "五言绝句", "五言古诗", "七言律诗", "七言绝句", "七言古诗", "乐府")
LICENSE = """The poems are of the 7th to 10th century and in the public domain. They were collected by chinese-poetry
(https://github.com/chinese-poetry/chinese-poetry-npm), which is under the MIT licence:

Copyright (c) the authors of chinese-poetry

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
    with tarfile.open(source) as archive:
        poems = json.load(archive.extractfile(MEMBER))  # type: ignore[arg-type]  # a file
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["form", "author", "title", "text"])
    seen = set[str]()
    for poem in poems:
        forms, text = [form for form in FORMS if form in poem["tags"]], "".join(poem["paragraphs"])
        if len(forms) == 1 and text not in seen:
            rows.writerow([forms[0], poem["author"], poem["title"], text])
            seen.add(text)
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in (("LICENSE", LICENSE), ("poems.csv", table.getvalue())):
            entry = zipfile.ZipInfo(f"tang_poems/{name}", date_time=(2020, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED, 9)
    data = target.read_bytes()
    print(f"{target}: {len(seen)} poems, size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("tang_poems.zip"))
