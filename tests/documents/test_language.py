"""Messages, docstrings, comments and names of the library are idiomatic English.

A form is listed once it was found in the code and has a plain alternative. When a hit is right after all, narrow the
pattern here and add the sentence to those that must pass.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "layered").rglob("*.py"))

PHRASES = {  # pattern → what to write instead
    r"(?<!\bthere )\b(is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b|other\b|later\b|earlier\b|better\b|worse\b)\w": (
        "'is not a', 'has no', 'invalid', 'non-numeric'"
    ),
    r"\bone's own\b": "'your own', 'custom'",
    r"\bours\b": "'of the library', 'outside the library'",
    r"(?<=\s)(hears|heard)\b": "'listens to', 'receives', 'fires'",
    r"\b(has|have|had) (them |it )?otherwise\b": "'is changed', 'differs'",
    r"\bcomes? to (its|their) end\b": "'ends', 'finishes'",
    r"\bepoch's pass\b": "'the training pass', 'the validation pass'",
    r"\bsees? to (it|that)\b": "'ensures', 'takes care of'",
    r"\bare no matter\b": "'do not matter'",
}
NAMES = {  # a variable is named after what it holds
    "told": "description, text",
    "there": "existing, present",
    "here": "current, local",
    "then": "saved, previous",
    "again": "rebuilt, repeated",
    "grave": "fatal, serious",
    "strange": "unknown, invalid",
    "ours": "own, the name of the thing",
}


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """The strings and comments of a source, each with its line, on one line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"):
            yield token.start[0], " ".join(token.string.split())


@cache
def all_texts() -> list[tuple[str, str]]:
    """Every string and comment of the library, with its file and line."""
    return [
        (f"{path.relative_to(ROOT)}:{line}", text) for path in FILES for line, text in texts_of(path.read_text("utf-8"))
    ]


def names_of(source: str) -> Iterator[tuple[int, str]]:
    """The variables, parameters and functions that a source defines, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def phrase_in(text: str, pattern: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


@pytest.mark.parametrize("pattern", PHRASES, ids=lambda pattern: PHRASES[pattern])
def test_texts_use_plain_phrases(pattern):
    hits = [f"{place}: {text[:150]}" for place, text in all_texts() if phrase_in(text, pattern)]
    assert not hits, f"write {PHRASES[pattern]}:\n" + "\n".join(hits)


def test_variables_are_named_after_what_they_hold():
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {name} ({NAMES[name]})"
        for path in FILES
        for line, name in names_of(path.read_text("utf-8"))
        if name in NAMES
    ]
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize(
    "text",
    [
        "the loss is no tensor",
        "This is no size of an image",
        "code that is not ours",
        "a step of one's own",
        "the callback hears nothing",
        "what was no number",
    ],
)
def test_phrases_that_are_not_idiomatic_are_found(text):
    assert any(phrase_in(text, pattern) for pattern in PHRASES)


@pytest.mark.parametrize(
    "text",
    [
        "there is no transform named 'x'",
        "There are no parameters",
        "the file is no longer read",
        "rows are no more than items",
        "is not a tensor",
        "has no encoder",
        "yours",
        "hours",
    ],
)
def test_idiomatic_phrases_pass(text):
    assert not any(phrase_in(text, pattern) for pattern in PHRASES)
