"""The language of the shell: messages that name options in place of Python's keywords, and commands that can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

from layered.foundation import LayeredError

_SPELLINGS = {
    "base_lr": "lr", "lr_max": "lr", "epochs": "epochs", "n_epoch": "epochs", "y_names": "target", "user_name": "user",
    "item_name": "item", "rating_name": "rating",
}  # fmt: skip
_ADVICE = {  # in Python → in the shell
    r"add_datepart\(df, (.+?)\)": r"--ignore \1, or columns such as year and month in its place",
    r"df\[[^\]]+\] = pd\.to_numeric\(.*": "write them as 1234.5 in the file",
    r": df\.dropna\(.*": " in the file",
    r"item_tfms=Resize\((\d+)\)": r"--size \1",
    r"check df and splits": "check the file",
}
_PYTHON = re.compile(r"\w\(|\w\[|\w=|\b[a-z]+_[a-z_]+\b")
_VALUES = re.compile(r"(?<!\w)'[^']*'|\S*/\S*")  # quoted names and paths, which may look like Python


def in_shell(error: LayeredError, options: Collection[str]) -> None:
    """Word an error for the command line: options in place of keywords, and advice for the shell.

    Args:
        error: The error, which is changed.
        options: The names of the options of the command, as Python spells them: "valid_pct".
    """
    error.problem = shell_words(error.problem, options)
    error.got, error.expected = (None if o is None else shell_words(o, options) for o in (error.got, error.expected))
    if error.fix is not None:
        error.fix = _shell_fix(shell_words(error.fix, options))


def _shell_fix(text: str) -> str:
    """The advice that works in the shell; all of it, marked as Python, if none does."""
    parts = re.split(r"; |, or ", text)
    kept = [part for part in parts if "--" in part or not _PYTHON.search(_VALUES.sub("", part))]
    return ", or ".join(kept) if kept else f"in Python: {text}"


def shell_words(text: object, options: Collection[str]) -> str:
    """A message with `--bs 4` in place of `bs=4`, and what to do with a file in place of a DataFrame.

    Args:
        text: The message.
        options: The names of the options of the command, as Python spells them.
    """

    def spell(found: re.Match[str]) -> str:
        name, sign = _SPELLINGS.get(found[1], found[1]), found[2]
        if name not in options or (sign is None and "_" not in name and found[1] == name):
            return found[0]  # an ordinary word
        return f"--{name.replace('_', '-')}{' ' if sign else ''}"

    worded = str(text)
    for advice, for_files in _ADVICE.items():
        worded = re.sub(advice, for_files, worded)
    return re.sub(r"(?<![-\w.'\"/])([a-z]\w*)(\s?=(?!=)\s?)?", spell, worded)


def counted(count: int, what: str) -> str:
    """A number of things in words.

    Args:
        count: How many.
        what: One of them: "image".

    Examples:
        >>> counted(1, "training image"), counted(2, "class")
        ('1 training image', '2 classes')
    """
    return f"{count} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"


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
