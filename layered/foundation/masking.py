"""What should not leave this machine in a file: secrets in command lines and texts, and the folders of their author."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

MASK = "***"

_SECRET = r"(?:api|access|secret|private|auth|account|encryption)[_-]?key(?:[_-]?id)?"
_NAME = re.compile(
    rf"(?:.*[^a-z])?(?:{_SECRET}|token|o?auth|password|passwd|passphrase|pwd|secret|authorization|credentials?|cookie|pat)"
    r"|.+[_-](?:pass|signature)|(?-i:[A-Z]+_KEY)",
    re.IGNORECASE,
)
_IN_URL = re.compile(  # a password may hold what an address should not: / and @
    r"(?<=://)(?:[^/\s@:'\"]*:[^\s'\"]{1,256}|[^/\s@'\"]+)(?=@)|(?<=[?&]sig=)[^&\s'\"]+"
)
_NAMED = re.compile(r"""(?<![\w.-])([\w.-]++)["']?\s*[=:]\s*(?:(?:Bearer|Basic|Token)\s+)?["']?""")
_VALUE = re.compile(r"""(?!(?:None|True|False)\b)[^\s"',;&)}\]]+""")
_SHAPES = re.compile(  # how well-known services write theirs
    r"\b(?:hf_|gh[opsru]_|github_pat_|glpat-|sk-|xox[abposr]-|AKIA|ASIA|AIza|pypi-|dop_v1_|npm_|wandb_v1_)[A-Za-z0-9_-]{12,}"
    r"|\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?"
)
_FOLDER = re.compile(r"""(?<=['"])(?:[/~]|[A-Za-z]:[\\/])[^'"\n]*[\\/](?=[^'"\\/\n]+[\\/]*['"])""")


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret.

    Args:
        name: Of a variable, an option or a field.

    Examples:
        >>> [is_secret_name(name) for name in ("WANDB_API_KEY", "hub-token", "max_tokens", "tokenizer", "monkey")]
        [True, True, False, False, False]
    """
    return _NAME.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.lstrip("-"))) is not None


def masked(text: str) -> str:
    """A text without secrets: the values of secret names, users in addresses, tokens of well-known services, and what
    secret variables of the environment hold.

    Args:
        text: Any text.

    Examples:
        >>> masked("Tracker(token='abc123', steps=3) at https://me:pass@host/x?sig=99&n=2")
        "Tracker(token='***', steps=3) at https://***@host/x?sig=***&n=2"
    """
    for value in sorted(_values_of_environment(), key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _IN_URL.sub(MASK, text)
    parts, done = [], 0
    for named in _NAMED.finditer(text):
        if named.start() >= done and is_secret_name(named[1][-60:]) and (secret := _VALUE.match(text, named.end())):
            parts += [text[done : named.end()], MASK]
            done = secret.end()
    return _SHAPES.sub(MASK, "".join([*parts, text[done:]]))


def _values_of_environment() -> Iterator[str]:
    return (value for name, value in os.environ.items() if len(value) >= 8 and is_secret_name(name))


def masked_command(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, also where a secret follows its option as an argument of its own.

    Args:
        arguments: The arguments.

    Examples:
        >>> masked_command(["train.py", "--hub-token", "abc", "--lr", "0.1", "PASSWORD=x y"])
        ['train.py', '--hub-token', '***', '--lr', '0.1', 'PASSWORD=***']
    """
    before = ["", *arguments]
    return [_masked_argument(option, given) for option, given in zip(before, arguments, strict=False)]


def _masked_argument(option: str, given: str) -> str:
    if option.startswith("-") and "=" not in option and is_secret_name(option):
        return MASK
    name, is_assigned, _ = given.partition("=")
    return f"{name}={MASK}" if is_assigned and is_secret_name(name) else masked(given)


def without_folders(text: str) -> str:
    """A text in which absolute paths, in quotes, have only their last part.

    Args:
        text: A repr.

    Examples:
        >>> without_folders("ColReader('file', pref='/home/ada/pets/images/', suff='.png')")
        "ColReader('file', pref='…/images/', suff='.png')"
    """
    return _FOLDER.sub("…/", text)
