"""Rules: what is done to a text before and after it is divided into tokens, and the special tokens that they write."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable

from layered.foundation import defaults, functions

UNK, PAD, BOS, EOS, FLD = "xxunk", "xxpad", "xxbos", "xxeos", "xxfld"
TK_REP, TK_WREP, TK_UP, TK_MAJ = "xxrep", "xxwrep", "xxup", "xxmaj"

_LEFT_BY_EXPORTS = (  # what data sets have made of entities and marks, and what they were
    ("#39;", "'"),
    ("amp;", "&"),
    ("#146;", "'"),
    ("nbsp;", " "),
    ("#36;", "$"),
    ("\\n", "\n"),
    ("quot;", "'"),
    ("<br />", "\n"),
    ('\\"', '"'),
    ("<unk>", UNK),
    (" @.@ ", "."),
    (" @-@ ", "-"),
    ("...", " …"),
)
_REPEATED = re.compile(r"(\S)(\1{2,})")
_REPEATED_WORD = re.compile(r"(?:\s|^)(\w++)\s++((?:\1\s++)+)\1(\s|\W|$)")
_SPACED = re.compile(r"([/#\\])")
_SPACES = re.compile(r" {2,}")
_CAPITALS = re.compile(r"(\s|^)([A-Z]+[^a-z\s]*)(?=(\s|$))")
_CAPITALIZED = re.compile(r"(\s|^)([A-Z][^A-Z\s]*)(?=(\s|$))")


@functions.register("text.fix_html")
def fix_html(x: str) -> str:
    """Undo the entities and marks that HTML, and the exports of well-known data sets, have left in a text.

    Args:
        x: The text.
    """
    for left, was in _LEFT_BY_EXPORTS:
        x = x.replace(left, was)
    return html.unescape(x)


@functions.register("text.replace_rep")
def replace_rep(t: str) -> str:
    """A character three or more times in a row becomes `xxrep`, their number, and the character.

    Args:
        t: The text.

    Examples:
        >>> replace_rep("sooo")
        's xxrep 3 o '
    """
    return _REPEATED.sub(lambda m: f" {TK_REP} {len(m[2]) + 1} {m[1]} ", t)


@functions.register("text.replace_wrep")
def replace_wrep(t: str) -> str:
    """A word three or more times in a row becomes `xxwrep`, their number, and the word.

    Args:
        t: The text.

    Examples:
        >>> replace_wrep("no no no")
        ' xxwrep 3 no '
    """
    return _REPEATED_WORD.sub(lambda m: f" {TK_WREP} {len(m[2].split()) + 2} {m[1]} {m[3]}", t)


@functions.register("text.spec_add_spaces")
def spec_add_spaces(t: str) -> str:
    """Put spaces around "/", "#" and the backslash.

    Args:
        t: The text.
    """
    return _SPACED.sub(r" \1 ", t)


@functions.register("text.rm_useless_spaces")
def rm_useless_spaces(t: str) -> str:
    """Several spaces become one.

    Args:
        t: The text.
    """
    return _SPACES.sub(" ", t)


@functions.register("text.replace_all_caps")
def replace_all_caps(t: str) -> str:
    """A word in capitals becomes `xxup` and the word in lower case; of a single capital, only the case changes.

    Args:
        t: The text.
    """
    return _CAPITALS.sub(lambda m: f"{m[1]}{f'{TK_UP} ' if len(m[2]) > 1 else ''}{m[2].lower()}", t)


@functions.register("text.replace_maj")
def replace_maj(t: str) -> str:
    """A capitalized word becomes `xxmaj` and the word in lower case; of a single capital, only the case changes.

    Args:
        t: The text.
    """
    return _CAPITALIZED.sub(lambda m: f"{m[1]}{f'{TK_MAJ} ' if len(m[2]) > 1 else ''}{m[2].lower()}", t)


@functions.register("text.lowercase")
def lowercase(t: str, add_bos: bool = True, add_eos: bool = False) -> str:
    """The text in lower case, without outer blanks, after `xxbos`.

    Args:
        t: The text.
        add_bos: Put `xxbos` before it.
        add_eos: Put `xxeos` after it.
    """
    return (f"{BOS} " if add_bos else "") + t.lower().strip() + (f" {EOS}" if add_eos else "")


@functions.register("text.mark_start")
def mark_start(t: str) -> str:
    """`xxbos`, then the text as it is.

    Args:
        t: The text.
    """
    return f"{BOS}{t}"


@functions.register("text.replace_space")
def replace_space(t: str) -> str:
    """A space inside a token becomes "▁", so that tokens can be joined by spaces.

    Args:
        t: The token.
    """
    return t.replace(" ", "▁")


defaults.text_spec_tok = [UNK, PAD, BOS, EOS, FLD, TK_REP, TK_WREP, TK_UP, TK_MAJ]
defaults.text_proc_rules = [
    fix_html,
    replace_rep,
    replace_wrep,
    spec_add_spaces,
    rm_useless_spaces,
    replace_all_caps,
    replace_maj,
    lowercase,
]
defaults.text_postproc_rules = [replace_space]

_CASES: dict[str, Callable[[str], str]] = {TK_MAJ: str.capitalize, TK_UP: str.upper}


def decode_spec_tokens(tokens: Iterable[str]) -> list[str]:
    """Undo `xxmaj`, `xxup`, `xxrep` and `xxwrep`: they are applied to the token that follows.

    Args:
        tokens: The tokens of a text; other special tokens stay as they are.

    Examples:
        >>> decode_spec_tokens("xxmaj what a xxrep 3 o xxwrep 2 no xxup film".split())
        ['What', 'a', 'ooo', 'no', 'no', 'FILM']
    """
    written: list[str] = []
    rest = iter(tokens)
    for token in rest:
        case: Callable[[str], str] = str
        times, is_word = 1, True
        while token in _CASES or token in (TK_REP, TK_WREP):
            if token in _CASES:
                case = _CASES[token]
            else:
                is_word, times = token == TK_WREP, _number(next(rest, ""))
            token = next(rest, "")
        if token:
            written += [case(token)] * times if is_word else [case(token) * times]
    return written


def _number(token: str) -> int:
    """A number of repetitions; a model may write anything in its place."""
    return int(token) if token.isdecimal() and len(token) <= 5 else 1
