"""Reports: what a check, a measurement or a run gave, as text, as HTML in a notebook, and as a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from layered.foundation.display import aligned, text_table
from layered.foundation.optional import lazy
from layered.foundation.visible import visible

pd = lazy("pandas")

Table = tuple[Sequence[str], Sequence[Sequence[object]]]
"""The header and the rows of a table."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question about the data, or about a model in training.

    Args:
        check: The question, in a word or two: "gradients", "inputs".
        ok: Whether there is nothing to look at.
        seen: What was measured or found, in one line.
        fix: What to try, if not `ok`.
        level: "error" (results would be wrong, or training would fail), "warning" (worth a look), "info" or "fine"; by
            default "fine" if `ok`, else "warning".
        split: For data, the split, or both: "train, valid".
        examples: For data, some of the items, labels or groups.

    Examples:
        >>> Finding("one batch", False, "the loss did not fall", "check the labels").level
        'warning'
    """

    check: str
    ok: bool
    seen: str
    fix: str = ""
    level: str = ""
    split: str = ""
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.level:
            object.__setattr__(self, "level", "fine" if self.ok else "warning")

    @property
    def what(self) -> str:
        """The same as `seen`."""
        return self.seen

    def __str__(self) -> str:
        examples = f"; e.g. {'; '.join(self.examples)}" if self.examples else ""
        fix = f"\n         fix  {self.fix}" if self.fix else ""
        return f"{self.level:<8} {self.split or self.check}: {self.seen}{examples}{fix}"


class Report:
    """Base of what a check or a measurement returns: its `repr` is a table as text, and a notebook shows the table as HTML.

    A subclass says what its `records` are. It overrides `tables` where they are shown in other words than they are kept, and
    `heading` and `notes` for the lines above and below.

    Examples:
        >>> class Sizes(Report):
        ...     def records(self): return [{"name": "a", "size": 1200}, {"name": "b", "size": None}]
        >>> Sizes()
        ===========
        name  size
        ===========
        a     1,200
        b     -
        ===========
    """

    findings: Sequence[Finding] = ()

    def records(self) -> list[dict[str, Any]]:
        """The values, a dict for each row."""
        raise NotImplementedError

    def tables(self) -> Sequence[Table]:
        """What is shown: by default the records, without the columns that are None throughout."""
        records = self.records()
        names = [name for name in (records[0] if records else ()) if any(row[name] is not None for row in records)]
        return [(names, [[_cell(row[name]) for name in names] for row in records])] if names else []

    def heading(self) -> str:
        """The line above the tables, if any."""
        return ""

    def notes(self) -> Sequence[str]:
        """The lines below the tables: by default the findings."""
        return [str(finding) for finding in self.findings]

    def to_frame(self) -> Any:
        """The records as a pandas `DataFrame`."""
        return pd.DataFrame(self.records())

    def __str__(self) -> str:
        tables = ["\n".join(text_table(header, rows)) for header, rows in self.tables()]
        text = "\n".join([*filter(None, [self.heading()]), "\n\n".join(tables), *self.notes()]).strip("\n")
        return visible(text, None)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [html_table([header, *rows], header=True) for header, rows in self.tables()]
        heading, notes = (escape(visible(text, None)) for text in (self.heading(), "\n".join(self.notes())))
        return f"<p>{heading}</p>" * bool(heading) + "".join(tables) + f"<pre>{notes}</pre>" * bool(notes)


def html_table(rows: Iterable[Sequence[object]], header: bool = False) -> str:
    """Rows as a table in HTML, all text escaped.

    Args:
        rows: The cells of each row.
        header: Whether the first row is the header.
    """
    lines = [[escape(visible(str(cell), None)) for cell in row] for row in rows]
    tags = ["th" if header and i == 0 else "td" for i in range(len(lines))]
    body = (
        "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in line) + "</tr>"
        for tag, line in zip(tags, lines, strict=True)
    )
    return f"<table>{''.join(body)}</table>"


def facts_text(title: str, facts: Mapping[str, object]) -> str:
    """What an object is, for its `repr`: a title, and below it a few facts by name.

    Args:
        title: The first line.
        facts: A line for each, by name.

    Examples:
        >>> print(facts_text("Learner on cpu", {"loss": "MSELoss", "optimizer": "Adam"}))
        Learner on cpu
          loss       MSELoss
          optimizer  Adam
    """
    return visible("\n".join([title, *(f"  {line}" for line in aligned(facts.items()))]), None)


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """The same as `facts_text`, as HTML for a notebook.

    Args:
        title: The first line.
        facts: A row for each, by name.
    """
    return f"<p>{escape(visible(title))}</p>{html_table(facts.items())}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
