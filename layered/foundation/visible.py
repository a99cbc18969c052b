"""Text of others made fit to be shown: names of files and classes may hold anything."""

from __future__ import annotations

import re

LONGEST = 4000  # characters of a part of a message
# controls, which move the cursor or start sequences of the terminal; marks that turn the direction of writing; half characters,
# as in names of files that are not UTF-8, which cannot be printed
_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ACTS, _ACTS_IN_LINE = re.compile(f"[{_ACTING}]"), re.compile(f"[{_ACTING}\t\n]")


def visible(text: str, longest: int | None = LONGEST) -> str:
    """Text of any number of lines whose characters do nothing but appear, shortened in the middle.

    Args:
        text: The text.
        longest: The most characters that are kept; None keeps all.

    Examples:
        >>> visible("cat\\x1b[2J"), visible("0123456789", longest=4)
        ('cat\\\\x1b[2J', '012…9')
    """
    return _ACTS.sub(_escaped, _cut(text, longest))


def one_line(text: str, longest: int | None = 500) -> str:
    """As `visible`, for what has to stay on a line, such as a name.

    Args:
        text: The text.
        longest: The most characters that are kept; None keeps all.

    Examples:
        >>> one_line("a\\nb")
        'a\\\\nb'
    """
    return _ACTS_IN_LINE.sub(_escaped, _cut(text, longest))


def plot_label(text: object) -> str:
    """A text for a plot: as `visible`, and matplotlib reads no formula into dollar signs.

    Args:
        text: The text, or an object whose text is shown.

    Examples:
        >>> plot_label("$5 or $10")
        '\\\\$5 or \\\\$10'
    """
    return visible(str(text), 500).replace("$", r"\$")


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end]}…{text[len(text) - end :]}"


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]
