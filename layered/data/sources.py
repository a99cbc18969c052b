"""Where items come from: files of a folder, and parts of an item. Listings are sorted, on every file system alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from layered.files import reading
from layered.foundation import (
    IMAGE_SUFFIXES,
    EmptySource,
    ItemTransform,
    L,
    NotFoundPath,
    Path,
    Transform,
    listify,
    transforms,
)


def image_extensions() -> frozenset[str]:
    """The file suffixes of images, in lower case: those of the usual formats, and what else PIL reads."""
    return IMAGE_SUFFIXES


def get_files(
    path: str | os.PathLike[str],
    extensions: str | Iterable[str] | None = None,
    recurse: bool = True,
    folders: Iterable[str] | None = None,
    followlinks: bool = True,
) -> L:
    """The files under a folder, sorted by path; names that start with a dot are skipped.

    No file is listed twice: symbolic links to files and folders that are listed anyway are left out.

    Args:
        path: The folder.
        extensions: Only files with these suffixes, in upper or lower case: ".png".
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders, and "." for the files of `path` itself.
        followlinks: Follow symbolic links to folders.

    Raises:
        NotFoundPath: `path` is not a folder.
        BadFile: A folder may not be read; `folders` can leave it out.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotFoundPath(
            f"folder '{root}' does not exist",
            got="a file" if root.is_file() else "nothing there",
            fix=f"check the path; the working directory is {os.getcwd()}",
        )
    wanted = None if extensions is None else {suffix.lower() for suffix in listify(extensions)}
    found: list[str] = []
    linked: list[str] = []
    real_tops: dict[str, str] = {}
    for top, real_top, files in _folders(root, set(folders or ()), recurse, followlinks):
        real_tops[top] = real_top
        for entry in files:
            if wanted is None or os.path.splitext(entry.name)[1].lower() in wanted:
                (linked if entry.is_symlink() else found).append(entry.path)
    if linked:
        seen = {os.path.join(real_tops[os.path.dirname(file)], os.path.basename(file)) for file in found}
        for file in sorted(linked):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                found.append(file)
    return L(sorted(map(Path, found)), use_list=True)


def _folders(
    root: Path, only: set[str], recurse: bool, followlinks: bool
) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """Each folder once: its path, its real path and its files. Links come last: a folder below `root` has its own name."""
    todo = [(str(root), os.path.realpath(root))]
    links: list[str] = []
    seen: set[str] = set()
    while todo or links:
        if not todo:
            links.sort(reverse=True)
            link = links.pop()
            todo.append((link, os.path.realpath(link)))
        top, real_top = todo.pop()
        if real_top in seen:
            continue
        chosen = only if not seen else set()
        seen.add(real_top)
        files = []
        for entry in _entries(top):
            if not entry.is_dir():
                files.append(entry)
            elif recurse and (not chosen or entry.name in chosen):
                if not entry.is_symlink():
                    todo.append((entry.path, os.path.join(real_top, entry.name)))
                elif followlinks:
                    links.append(entry.path)
        yield top, real_top, files if not chosen or "." in chosen else []


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name[0] != "."]


def get_image_files(path: str | os.PathLike[str], recurse: bool = True, folders: Iterable[str] | None = None) -> L:
    """The image files under a folder, sorted by path.

    Args:
        path: The folder.
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders, and "." for the files of `path` itself.

    Raises:
        NotFoundPath: `path` is not a folder.
        EmptySource: It contains no images.
    """
    files = get_files(path, image_extensions(), recurse, folders)
    if not files:
        others = get_files(path, None, recurse, folders)
        raise EmptySource(
            f"found no images under '{path}'",
            got=f"{len(others)} other files, first '{others[0].name}'" if others else "an empty folder",
            expected="files with an image suffix such as .jpg or .png",
            fix="check the path, or list the files yourself with get_items=",
        )
    return files


def get_text_files(path: str | os.PathLike[str], recurse: bool = True, folders: Iterable[str] | None = None) -> L:
    """The .txt files under a folder, sorted by path.

    Args:
        path: The folder.
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders, and "." for the files of `path` itself.
    """
    return get_files(path, ".txt", recurse, folders)


def FileGetter(suf: str = "", **kwargs: Any) -> Callable[[Any], L]:
    """A function that lists the files of a folder, for `get_items`.

    Args:
        suf: List this subfolder of the given folder.
        kwargs: For `get_files`: `extensions`, `recurse`, ….
    """
    return lambda path: get_files(Path(path) / suf, **kwargs)


def ImageGetter(suf: str = "", **kwargs: Any) -> Callable[[Any], L]:
    """A function that lists the image files of a folder, for `get_items`.

    Args:
        suf: List this subfolder of the given folder.
        kwargs: For `get_image_files`: `recurse`, `folders`.
    """
    return lambda path: get_image_files(Path(path) / suf, **kwargs)


@transforms.register()
class ItemGetter(ItemTransform):
    """One element of an item.

    Args:
        i: Its position.

    Examples:
        >>> ItemGetter(1)((3, 4))
        4
    """

    def __init__(self, i: int) -> None:
        super().__init__()
        self.i = i

    def encode_item(self, x: Any) -> Any:
        return x[self.i]


@transforms.register()
class AttrGetter(Transform):
    """An attribute of an item.

    Args:
        nm: The name of the attribute.
        default: The value for items that lack it.
    """

    def __init__(self, nm: str, default: object = None) -> None:
        super().__init__()
        self.nm, self.default = nm, default

    def encode_item(self, x: object) -> Any:
        return getattr(x, self.nm, self.default)
