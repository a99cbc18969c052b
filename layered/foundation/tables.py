"""Plain text tables, for reports that people read in a console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]], rule: str = "=") -> list[str]:
    """The lines of a table whose columns are as wide as their longest cell, with a rule around the header.

    >>> print("\\n".join(text_table(["stage", "ms"], [["data", 1.5], ["step", 12]])))
    ==========
    stage  ms
    ==========
    data   1.5
    step   12
    ==========
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    line = rule * (sum(_widths(cells)) + 2 * len(header) - 2)
    first, *others = aligned(cells)
    return [line, first, line, *others, line]


def aligned(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows as lines whose columns stand below each other.

    >>> aligned([["a", 1], ["long", 2]])
    ['a     1', 'long  2']
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = _widths(cells)
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def short_count(count: float) -> str:
    """A number with a unit in place of its last digits.

    >>> short_count(512), short_count(6912), short_count(3_460_000_000)
    ('512', '6.91 k', '3.46 G')
    """
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def short_bytes(count: float) -> str:
    """A number of bytes, in binary units.

    >>> short_bytes(100), short_bytes(5 * 2**20)
    ('100 B', '5 MiB')
    """
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
