"""Makes the pages of the site that stand elsewhere: the reference from the packages, the changelog and others from the root.

The reference has a page for each package, with the public names that the package's `__init__` lists.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import layered
from layered.foundation import errors

SKIPPED = {"basics", "cli", "compat", "integrations", "version"}
MODULES = [m.name for m in pkgutil.iter_modules(layered.__path__) if m.name not in SKIPPED]
sys.path.insert(0, str(Path(__file__).parent))
from loop_picture import picture  # noqa: E402

ROOT = Path(__file__).parents[1]
FROM_ROOT = {
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
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
    kinds = [
        name for name, item in vars(errors).items() if inspect.isclass(item) and item.__module__ == errors.__name__
    ]
    text = f"# Errors\n\n{errors.__doc__}"
    files.append(page(config, "errors", text, [f"layered.foundation.errors.{name}" for name in kinds]))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the picture of the loop where a page asks for it."""
    return markdown.replace("<!-- loop_picture -->", picture())


def own_names(package: object) -> list[str]:
    """The names that a star import of a package brings, without those of the packages below."""
    defined = [name for name in package.__all__ if inspect.isclass(o := getattr(package, name)) or inspect.isroutine(o)]
    return sorted(
        (name for name in defined if getattr(package, name).__module__.startswith(f"{package.__name__}.")),
        key=str.lower,
    )


def page(config: MkDocsConfig, name: str, text: str, members: list[str]) -> File:
    """A page of the reference: `text`, then the documentation of each of `members`."""
    content = "\n\n".join([text.replace("from layered", "    from layered"), *(f"::: {member}" for member in members)])
    return File.generated(config, f"reference/{name}.md", content=content)
