"""`layered datasets`: list, fetch, verify and remove data sets."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from layered.catalog import Dataset, datasets, find_entry, place_of, removable, remove, size_of, untar_data, verify
from layered.foundation import BadFile, BadValue, LayeredError, NotFoundPath


def add_datasets(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its subcommands.

    Args:
        commands: The subparsers of `layered`.
    """
    parser = commands.add_parser(
        "datasets",
        help="list, fetch, verify and remove data sets",
        description="Data sets by name. They are stored below LAYERED_HOME (default ~/.layered).",
    )
    parser.add_argument("--json", action="store_true", help="one JSON array, for other programs")
    parser.set_defaults(run=run_list)
    parts = parser.add_subparsers(title="what to do", metavar="ACTION")

    def add(
        name: str, run: Callable[[argparse.Namespace], None], names: str | None, text: str
    ) -> argparse.ArgumentParser:
        part = parts.add_parser(name, help=text, description=text.capitalize() + ".")
        if names is not None:
            part.add_argument("names", metavar="NAME", nargs=names, help="names as `layered datasets` lists them")
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="JSON, for other programs")
        part.set_defaults(run=run)
        return part

    add("list", run_list, None, "list all data sets: name, size, where it is, licence, title")
    add("info", run_info, "+", "show what is known about data sets")
    fetch = add("fetch", run_fetch, "+", "download and unpack data sets")
    fetch.add_argument("--force", action="store_true", help="fetch again what exists")
    add(
        "verify",
        run_verify,
        "*",
        "compare archives with their records and folders with archives; by default all in the cache",
    )
    removal = add("remove", run_remove, "+", "remove the folder and the archive of data sets from the cache")
    removal.add_argument("--yes", action="store_true", help="do not ask")


def run_list(args: argparse.Namespace) -> None:
    """Print a line for each data set.

    Args:
        args: `json`: print JSON.
    """
    entries = list(datasets().values())
    if args.json:
        _print_json([_facts(entry) for entry in entries])
        return
    table = [("NAME", "SIZE", "HERE", "LICENCE", "TITLE")]
    table += [(e.name, _megabytes(size_of(e)), place_of(e).state, e.licence, e.title) for e in entries]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    widths[3] = min(widths[3], 30)
    for line in table:
        cells = (
            cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(line, widths, strict=True)
        )
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))[:limit].rstrip())


def run_info(args: argparse.Namespace) -> None:
    """Print what is known about data sets.

    Args:
        args: `names` of data sets; `json`: print JSON.
    """
    facts = [_facts(entry) for entry in _entries(args.names)]
    if args.json:
        _print_json(facts)
        return
    for i, fact in enumerate(facts):
        print(end="\n" if i else "")
        for name, value in fact.items():
            shown = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else value
            for line in shown if isinstance(shown, list) else [shown]:
                if line not in (None, ""):
                    print(f"{name:<9} {line}")


def run_fetch(args: argparse.Namespace) -> None:
    """Fetch data sets; failures are reported after all were tried.

    Args:
        args: `names` of data sets; `force`: fetch again; `json`: print JSON.
    """
    done: list[dict[str, Any]] = []

    def fetch(entry: Dataset) -> None:
        path = untar_data(entry.name, force_download=args.force)
        done.append({"name": entry.name, "path": str(path)})
        if not args.json:
            print(f"{entry.name}\t{path}", flush=True)

    _each(_entries(args.names), fetch, "fetched", lambda: _print_json(done) if args.json else None)


def run_verify(args: argparse.Namespace) -> None:
    """Verify data sets; damaged ones are reported after all were checked.

    Args:
        args: `names` of data sets, by default all in the cache; `json`: print JSON.
    """
    entries = _entries(args.names) or [e for e in datasets().values() if place_of(e).folder or place_of(e).archives]
    done: list[dict[str, Any]] = []

    def check(entry: Dataset) -> None:
        try:
            lines = verify(entry)
        except LayeredError as error:
            done.append({"name": entry.name, "ok": False, "found": [str(error)]})
            raise
        done.append({"name": entry.name, "ok": True, "found": lines})
        if not args.json:
            for line in lines:
                print(f"{entry.name}\t{line}", flush=True)

    _each(entries, check, "verified", lambda: _print_json(done) if args.json else None)
    if not entries and not args.json:
        print("the cache is empty")


def run_remove(args: argparse.Namespace) -> None:
    """Remove data sets, after asking for each; nothing is removed if one of them cannot be.

    Args:
        args: `names` of data sets; `yes`: do not ask; `json`: print JSON.
    """
    entries = _entries(args.names)
    paths = {entry.name: removable(entry) for entry in entries}
    if not args.yes and not sys.stdin.isatty():
        raise BadValue("cannot ask before removing", got="standard input is not a terminal", fix="--yes")
    removed: list[dict[str, Any]] = []
    for entry in entries:
        if not args.yes:
            print(*(f"  {path}" for path in paths[entry.name]), sep="\n", file=sys.stderr)
            print(f"Remove {entry.name}? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                continue
        gone = [str(path) for path in remove(entry)]
        removed.append({"name": entry.name, "removed": gone})
        if not args.json:
            print(*(f"removed {path}" for path in gone), sep="\n", flush=True)
    if args.json:
        _print_json(removed)


def _entries(names: Sequence[str]) -> list[Dataset]:
    """The entries of names in any case, without duplicates; an unknown name is an error before anything is done."""
    spelled = {name.lower(): name for name in datasets()}
    return list({name: find_entry(name)[0] for name in (spelled.get(given.lower(), given) for given in names)}.values())


def _each(entries: Sequence[Dataset], act: Callable[[Dataset], None], what: str, at_end: Callable[[], None]) -> None:
    """Call `act` with each entry, then `at_end`, then raise one error for all entries that failed."""
    failures: list[tuple[str, LayeredError]] = []
    for entry in entries:
        try:
            act(entry)
        except LayeredError as error:
            failures.append((entry.name, error))
    at_end()
    if len(failures) == 1:
        raise failures[0][1]
    if failures:
        kind = NotFoundPath if all(isinstance(error, NotFoundPath) for _, error in failures) else BadFile
        text = "\n           ".join(f"{name}: {error.problem}" for name, error in failures)
        raise kind(f"{len(failures)} of {len(entries)} data sets could not be {what}", got=text)


def _facts(entry: Dataset) -> dict[str, Any]:
    place = place_of(entry)
    path = place.elsewhere or place.folder
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "citation": entry.citation,
        "notes": entry.notes,
        "splits": dict(entry.splits),
        "size": size_of(entry),
        "checked": entry.checked,
        "here": place.state,
        "path": None if path is None else str(path),
        "archive": [str(file) for file in place.archives],
        "source": [" ".join(filter(None, (s.kind, s.url or s.distribution or s.file))) for s in entry.source],
    }


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
