"""Why a file is not found: what tables of file names usually have wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator


def why_missing(path: str) -> tuple[str | None, str]:
    """What is wrong with the path of a file that does not exist, if that can be seen, and what to do.

    Args:
        path: The path.

    Examples:
        >>> why_missing("images/cat.png ")[0]
        "a name that ends with a blank: 'cat.png '"
    """
    return next(_causes(path), (None, f"check the path; the working directory is {os.getcwd()}"))


def _causes(path: str) -> Iterator[tuple[str, str]]:
    folder, name = os.path.split(path)
    if "://" in path:
        yield "a URL", "download it: PILImage.create(urllib.request.urlopen(url))"
    if name != name.strip():
        side = "ends" if name != name.rstrip() else "begins"
        yield f"a name that {side} with a blank: {name!r}", "strip the names: df['file'] = df['file'].str.strip()"
    if "\\" in path and os.sep == "/":
        yield (
            "a path with the separators of Windows",
            r"replace them: df['file'] = df['file'].str.replace('\\', '/', regex=False)",
        )
    before, doubled, after = path.rpartition("//")
    if doubled:
        yield (
            f"the absolute path '/{after}', which does not exist, nor does it in the folder '{before}'",
            "correct the paths of the table, or make them relative to path= and folder=",
        )
    if not os.path.isdir(folder or "."):
        existing = folder
        while existing and not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        yield (
            f"the folder '{folder}', which does not exist; '{existing or os.getcwd()}' does",
            "check path= and folder=",
        )
        return
    stem, suffix = os.path.splitext(name)
    for other in sorted(os.listdir(folder or ".")):
        other_stem, other_suffix = os.path.splitext(other)
        found = f"the folder has '{other}'"
        if other_stem == name:
            yield f"a name without its suffix: {found}", f"append it to the names of the table: suff='{other_suffix}'"
        elif other == stem and suffix:
            yield f"a name with a suffix too many: {found}", f"leave suff='{suffix}' out"
        elif other.lower() == name.lower():
            yield f"a name in other letters, upper and lower: {found}", "write the names as those of the files"
        elif other_stem == stem:
            yield f"a name with another suffix: {found}", f"write '{other_suffix}' in place of '{suffix}'"
