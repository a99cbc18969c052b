"""Makes the pages of the site that stand elsewhere: the reference from the packages, the changelog and others from the root.

The reference has a page for each package, with the public names that the package's `__init__` lists.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import layered
from layered.cli import main
from layered.cli.main import make_parser
from layered.foundation import LayeredError, errors

NO_GUIDES = {"architecture.md", "index.md", "events.md", "file_formats.md"}
MOST_LINKS = 8
SKIPPED = {"basics", "cli", "compat", "integrations", "version"}
MODULES = [m.name for m in pkgutil.iter_modules(layered.__path__) if m.name not in SKIPPED]
sys.path.insert(0, str(Path(__file__).parent))
from loop_picture import picture  # noqa: E402

ROOT = Path(__file__).parents[1]
ERRORS = [name for name, item in vars(errors).items() if inspect.isclass(item) and item.__module__ == errors.__name__]
FROM_ROOT = {
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "conduct.md": "CODE_OF_CONDUCT.md",
    "contributing.md": "CONTRIBUTING.md",
    "releasing.md": "RELEASING.md",
    "security.md": "SECURITY.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the packages, and those that stand in the root of the repository."""
    for name, source in FROM_ROOT.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    rows = []
    for name in MODULES:
        package = importlib.import_module(f"layered.{name}")
        names = own_names(package)
        files.append(
            page(config, name, f"# layered.{name}\n\n{package.__doc__}", [f"layered.{name}.{x}" for x in names])
        )
        rows.append(f"| [`layered.{name}`]({name}.md) | {package.__doc__.splitlines()[0]} | {len(names)} |")
    table = ["# Reference", "", "| package | what is in it | names |", "|---|---|---|", *rows]
    files.append(File.generated(config, "reference/index.md", content="\n".join(table)))
    files.append(
        page(
            config,
            "errors",
            f"# Errors\n\n{errors.__doc__}\n\n{table_of_errors()}",
            [f"{errors.__name__}.{name}" for name in ERRORS],
        )
    )
    files.append(File.generated(config, "reference/command_line.md", content=command_line()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the picture of the loop where a page asks for it."""
    return markdown.replace("<!-- loop_picture -->", picture())


def table_of_errors() -> str:
    """A row for each error of the library: its name, the built-in errors it can be caught as, when it is raised."""
    rows = ["| error | is also a | raised for |", "|---|---|---|"]
    for kind in sorted(kinds_of_errors(LayeredError), key=lambda kind: kind.__name__):
        caught_as = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"][:-3]
        where = kind.__module__ if kind.__module__ == errors.__name__ else kind.__module__.rpartition(".")[0]
        when = str(kind.__doc__).splitlines()[0]
        rows.append(
            f"| [`{kind.__name__}`][{where}.{kind.__name__}] | {', '.join(f'`{name}`' for name in caught_as)} | {when} |"
        )
    return "\n".join(rows)


def kinds_of_errors(base: type[LayeredError]) -> set[type[LayeredError]]:
    """The classes of a package's face, or of `errors`, that derive from `base`."""
    found = {kind for kind in base.__subclasses__() if kind.__module__.startswith("layered.")}
    return found.union(*(kinds_of_errors(kind) for kind in found))


def command_line() -> str:
    """The help of each command."""
    parser = make_parser()
    parts = ["# Command line", str(main.__doc__).partition("\n\n")[2].strip(), *helps(parser)]
    return "\n\n".join(parts)


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A section for a command, then those of the commands below it."""
    yield f"## {parser.prog}\n\n```text\n{parser.format_help()}```"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from helps(below)


@functools.cache
def guides() -> dict[str, tuple[str, set[str]]]:
    """The pages with code, by place: the title, and the words in code and in backticks."""
    found = {}
    for file in sorted(ROOT.glob("docs/*/*.md")) + sorted(ROOT.glob("docs/*.md")):
        text = file.read_text("utf-8")
        code = " ".join(re.findall(r"^ *```python.*?^ *```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE))
        title = re.search(r"^# (.*)", text, re.MULTILINE)
        if title and file.name not in NO_GUIDES:
            found[f"../{file.relative_to(ROOT / 'docs')}"] = title[1], set(re.findall(r"\w+", code))
    return found


def links_to_guides(name: str) -> str:
    """The pages that use a name; nothing for a name that is used on many, as part of the vocabulary."""
    using = [f"[{title}]({place})" for place, (title, words) in guides().items() if name in words and len(name) > 1]
    return f"*Used on:* {', '.join(using)}." if 0 < len(using) <= MOST_LINKS else ""


def own_names(package: object) -> list[str]:
    """The names that a star import of a package brings, without those of the packages below."""
    defined = [name for name in package.__all__ if inspect.isclass(o := getattr(package, name)) or inspect.isroutine(o)]
    return sorted(
        (name for name in defined if getattr(package, name).__module__.startswith(f"{package.__name__}.")),
        key=str.lower,
    )


def page(config: MkDocsConfig, name: str, text: str, members: list[str]) -> File:
    """A page of the reference: `text`, then the documentation of each of `members`."""
    entries = [f"::: {member}\n\n{links_to_guides(member.rpartition('.')[2])}" for member in members]
    content = "\n\n".join([text.replace("from layered", "    from layered"), *entries])
    return File.generated(config, f"reference/{name}.md", content=content)
