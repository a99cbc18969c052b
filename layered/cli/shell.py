"""The language of the shell: messages that name options in place of Python's keywords, and commands that can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

from layered.foundation import LayeredError

_SPELLINGS = {"base_lr": "lr", "lr_max": "lr", "epochs": "epochs", "n_epoch": "epochs", "y_names": "target"}


def in_shell(error: LayeredError, options: Collection[str]) -> None:
    """Word an error for the command line: `bs=4` becomes `--bs 4`.

    Args:
        error: The error, which is changed.
        options: The names of the options of the command, as Python spells them: "valid_pct".
    """

    def word(text: object) -> str:
        return re.sub(r"(?<![-\w.'\"/])([a-z]\w*)(\s?=(?!=)\s?)?", spell, str(text))

    def spell(found: re.Match[str]) -> str:
        name, sign = _SPELLINGS.get(found[1], found[1]), found[2]
        if name not in options or (sign is None and "_" not in name and found[1] == name):
            return found[0]  # an ordinary word
        return f"--{name.replace('_', '-')}{' ' if sign else ''}"

    error.problem = word(error.problem)
    error.got, error.expected, error.fix = (
        None if text is None else word(text) for text in (error.got, error.expected, error.fix)
    )


def command(*words: object) -> str:
    """A command line that a shell reads as these words.

    Examples:
        >>> command("layered", "predict", "my model", "a.png")
        "layered predict 'my model' a.png"
    """
    return shlex.join(map(str, words))


def fitting_bs(asked: int, count: int, what: str) -> int:
    """The batch size for `count` training items: `asked`, or for fewer items about half of them, which is said.

    Args:
        asked: The batch size that was asked for.
        count: The number of training items.
        what: What the items are called: "images".
    """
    if asked <= count:
        return asked
    bs = count if count < 4 else count // 2  # batch norm needs at least two items
    print(f"--bs {bs}: the {count} training {what} do not fill a batch of {asked}")
    return bs


def fitting_share(asked: float, count: int, what: str) -> float:
    """The share for validation: `asked`, or as much as one of `count` items, which is said.

    Args:
        asked: The share that was asked for.
        count: The number of items.
        what: What the items are called: "images".
    """
    if asked <= 0 or int(asked * count) or count < 2:
        return asked
    share = 1.001 / count
    print(f"--valid-pct {share:.3f}: {asked} of {count} {what} is none")
    return share
