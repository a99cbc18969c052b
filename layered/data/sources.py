"""Where items come from: files of a folder, and parts of an item. Listings are sorted, on every file system alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from layered.foundation import EmptySource, ItemTransform, L, NotFoundPath, Path, Transform, lazy, listify, transforms

mimetypes = lazy("mimetypes")


@lru_cache(maxsize=8)
def _suffixes(kind: str) -> frozenset[str]:
    return frozenset(suffix for suffix, mime in mimetypes.types_map.items() if mime.startswith(kind)) | (
        {".webp"} if kind == "image/" else set()
    )


def image_extensions() -> frozenset[str]:
    """The file suffixes of images, in lower case."""
    return _suffixes("image/")


def get_files(
    path: str | os.PathLike[str],
    extensions: str | Iterable[str] | None = None,
    recurse: bool = True,
    folders: Iterable[str] | None = None,
    followlinks: bool = True,
) -> L:
    """The files under a folder, sorted by path; names that start with a dot are skipped.

    Args:
        path: The folder.
        extensions: Only files with these suffixes, in upper or lower case: ".png".
        recurse: Include subfolders at any depth.
        folders: Only these direct subfolders, and "." for the files of `path` itself.
        followlinks: Follow symbolic links to folders.

    Raises:
        NotFoundPath: `path` is not a folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotFoundPath(
            f"folder '{root}' does not exist",
            got="a file" if root.is_file() else "nothing there",
            fix=f"check the path; the working directory is {os.getcwd()}",
        )
    wanted = None if extensions is None else {suffix.lower() for suffix in listify(extensions)}
    only = set(folders or ())
    found: list[Path] = []
    for top, subfolders, names in os.walk(root, followlinks=followlinks):
        at_root = top == str(root)
        subfolders[:] = sorted(d for d in subfolders if d[0] != "." and (not at_root or not only or d in only))
        if not recurse:
            subfolders.clear()
        if at_root and only and "." not in only:
            continue
        found += [
            Path(top, name)
            for name in names
            if name[0] != "." and (wanted is None or os.path.splitext(name)[1].lower() in wanted)
        ]
    return L(sorted(found), use_list=True)


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
