"""Every Python block of the site runs as it stands, in the order of its page, and what a page shows is what comes out.

A block is left out if it has a title that says what it needs: ```python title="needs two GPUs". The blocks of a page share
their names. A `text` block right after a Python block is what that prints, its last value included, or the error that it
raises; `...` stands for anything. One with a title is an illustration, and is not compared. A picture right after a Python
block is what that draws: `LAYERED_PICTURES=1 pytest tests/documents/test_pages.py` draws all of them anew.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest

from layered.catalog import URLs, untar_data

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r'^( *)```(\w+)(?: title="(.*)")?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"\s*!\[[^]]*\]\((\S+)\)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    language: str
    title: str | None
    code: str  # as many empty lines as stand above it on the page, so that tracebacks name its lines; then its text
    between: str  # what stands between the block before and this one


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, and an empty one for what follows the last."""
    text, end = page.read_text("utf-8"), 0
    for fence in FENCE.finditer(text):
        indent, language, title, body = fence.groups()
        dedented = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield Block(language, title, "\n" * text.count("\n", 0, fence.start(4)) + dedented, text[end : fence.start()])
        end = fence.end()
    yield Block("", None, "", text[end:])


def run(code: str, page: Path, names: dict[str, object]) -> str:
    """Run a block as a notebook's cell; returns what it prints, its last value, or the error."""
    tree = ast.parse(code, str(page))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(page), "exec"), names)
        value = eval(compile(last, str(page), "eval"), names) if last else None
        if value is not None:
            print(repr(value))
    return printed.getvalue()


def check(page: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    before, printed, error = None, "", None
    for block in blocks(page):
        follows = block.language == "text" and not block.between.strip() and block.title is None
        if before and follows:
            got = f"{type(error).__name__}: {error}\n" if error else printed
            if not doctest.OutputChecker().check_output(block.code.lstrip("\n"), got, FLAGS):
                pytest.fail(f"{page}:{block.code.count(chr(10))}: the block before it gives\n{got}", pytrace=False)
        elif error:
            pytest.fail("".join(traceback.format_exception(error)), pytrace=False)
        if before and (picture := PICTURE.match(block.between)):
            keep_picture(page.parent / picture[1])
        plt.close("all")
        before, printed, error = block, "", None
        if block.language != "python" or block.title is not None:
            before = None
            continue
        try:
            printed = run(block.code, page, names)
        except Exception as raised:
            error = raised


def keep_picture(file: Path) -> None:
    """Check that the last block has drawn something; write it if that is asked for."""
    assert plt.get_fignums(), f"nothing was drawn for {file}"
    if os.environ.get("LAYERED_PICTURES"):
        file.parent.mkdir(exist_ok=True)
        plt.savefig(file, dpi=72, bbox_inches="tight", metadata={"Software": None})


def with_tests_of_their_own() -> set[str]:
    """The pages whose blocks another test runs, with a stand-in or for what they leave behind."""
    tests = (file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py") if file != Path(__file__))
    return {name for text in tests if "exec(" in text for name in re.findall(r"[\"/](\w+\.md)\"", text)}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A LAYERED_HOME whose FASHION_TINY holds every twentieth image, so that its pages take seconds."""
    folder = tmp_path_factory.mktemp("home")
    whole = untar_data(URLs.FASHION_TINY, base=tmp_path_factory.mktemp("whole"))
    for file in sorted(whole.glob("*/*/*.png"))[::20]:
        target = folder / "data" / whole.name / file.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return folder


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name not in with_tests_of_their_own()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run_and_show_what_comes_out(page, home, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERED_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    try:
        check(page)
    finally:
        plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_block_that_is_not_run_says_what_it_needs(page):
    titles = [block.title for block in blocks(page) if block.language == "python" and block.title is not None]
    assert [title for title in titles if not title.startswith("needs ")] == []


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("```python\nx = 2\n```\n\n```python\nprint(1)\nx\n```\n\n```text\n1\n2\n```\n", True),
        ("```python\n2\n```\n\n```text\n3\n```\n", False),
        ('```python\n2\n```\n\n```text title="for example"\n3\n```\n', True),
        ("```python\n2\n```\n\nwords\n\n```text\n3\n```\n", True),
        ("```python\nint('a')\n```\n\n```text\nValueError: invalid literal...\n```\n", True),
        ("```python\nint('a')\n```\n", False),
        ("```python\nint('1')\n```\n\n```text\nValueError: invalid literal...\n```\n", False),
        ("```python title=\"needs a GPU\"\nint('a')\n```\n", True),
        ("```python\nimport matplotlib.pyplot as plt\nplt.plot([1])\n```\n\n![a line](line.png)\n", True),
        ("```python\n1\n```\n\n![a line](line.png)\n", False),
        ("- a list\n\n    ```python\n    int('a')\n    ```\n", False),
    ],
)
def test_what_does_not_run_or_shows_something_else_is_found(text, passes, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with contextlib.nullcontext() if passes else pytest.raises((AssertionError, pytest.fail.Exception)):
        check(page)
