"""Make human_numbers.zip: the numbers from one to 9,999 spelled out, a line each, as the published set has them.

`train.txt` goes to 7,999 and `valid.txt` goes on from 8,001. Entries carry a fixed date, so the bytes are always the same.

    python datasets_index/prepare_human_numbers.py
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

SMALL = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spelled(number: int) -> str:
    """An English number below 10,000, without "and" or hyphens.

    >>> spelled(7042)
    'seven thousand forty two'
    """
    words = []
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if count := number // size:
            words += [SMALL[count - 1], name]
        number %= size
    if number >= 20:
        words.append(TENS[number // 10 - 2])
        number %= 10
    if number:
        words.append(SMALL[number - 1])
    return " ".join(words)


def main(target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, numbers in (("train", range(1, 8000)), ("valid", range(8001, 10_000))):
            entry = zipfile.ZipInfo(f"human_numbers/{name}.txt", date_time=(2018, 10, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, "".join(f"{spelled(n)} \n" for n in numbers), zipfile.ZIP_DEFLATED, 9)
    data = target.read_bytes()
    print(f"{target}: size = {len(data)}, sha256 = {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(Path(__file__).with_name("human_numbers.zip"))
