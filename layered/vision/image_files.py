"""Folders of image files: download, verify and shrink them."""

from __future__ import annotations

import io
import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from typing import Any

from PIL import Image

from layered.catalog import is_offline
from layered.data import Deferral, deferring, get_image_files, image_extensions
from layered.files import commit, read_lines
from layered.foundation import BadArgument, L, LayeredError, Offline, Path, StrPath, parallel, warn
from layered.vision.item_transforms import REDUCING_GAP, resize
from layered.vision.reading import load_image
from layered.vision.types import BILINEAR, PILImage, PILImageBW

_LARGEST = 256 << 20  # bytes of a file that is downloaded

Bad = tuple[str, str]  # a URL or a file, and what is wrong with it


def verify_image(fn: StrPath) -> bool:
    """Whether an image file can be decoded as a whole.

    Args:
        fn: The file.

    Examples:
        >>> verify_image("no.png")
        False
    """
    return not _fault(fn)


def _fault(source: StrPath | bytes) -> str:
    try:
        load_image(source).close()
    except (LayeredError, OSError) as error:
        return _in_words(error)
    return ""


def _in_words(error: Exception) -> str:
    if isinstance(error, LayeredError):
        return error.problem if error.got is None else f"{error.problem}: {error.got}"
    return f"{type(error).__name__}: {error}"


def verify_images(fns: Iterable[StrPath], n_workers: int | None = None) -> L:
    """The files among `fns` that cannot be decoded.

    Args:
        fns: The files.
        n_workers: Processes that decode; by default one for each core.

    Examples:
        >>> verify_images(["no.png"], n_workers=0)
        (#1) ['no.png']
    """
    files = list(fns)
    good = parallel(verify_image, files, n_workers=n_workers, chunksize=16)
    return L([file for file, is_good in zip(files, good, strict=True) if not is_good], use_list=True)


def resize_to(img: Image.Image, targ_sz: int, use_min: bool = False) -> tuple[int, int]:
    """(width, height) of an image whose longer side is to have `targ_sz` pixels, in proportion.

    Args:
        img: The image.
        targ_sz: The length of the longer side.
        use_min: Of the shorter side instead.

    Examples:
        >>> resize_to(Image.new("L", (600, 400)), 300)
        (300, 200)
    """
    side = min(img.size) if use_min else max(img.size)
    return max(1, img.width * targ_sz // side), max(1, img.height * targ_sz // side)


def resize_image(
    file: StrPath,
    dest: StrPath,
    src: StrPath = ".",
    max_size: int | None = None,
    n_channels: int = 3,
    ext: str | None = None,
    img_format: str | None = None,
    resample: Image.Resampling = BILINEAR,
    resume: bool = False,
    **kwargs: Any,
) -> None:
    """Write an image into another folder, shrunk and upright. One that needs no change is copied.

    Args:
        file: The file, relative to `src`.
        dest: The folder to write to; the file gets the same name in it, folders included.
        src: The folder of the file.
        max_size: The longer side is shrunk to this many pixels; smaller images keep their size.
        n_channels: 3 for colour, 1 for grey.
        ext: Another suffix: ".png".
        img_format: The format of PIL to write; by default that of the suffix.
        resample: PIL's interpolation.
        resume: Leave what exists as it is.
        kwargs: For PIL's `save`: `quality`, ….

    Raises:
        BadImage: The file cannot be decoded.
        BadArgument: `n_channels` is another number, or the suffix is that of no format.
    """
    if n_channels not in (1, 3):
        raise BadArgument("invalid n_channels", got=repr(n_channels), expected="3 for colour, or 1 for grey")
    source, target = Path(src) / file, Path(dest) / file
    target = target if ext is None else target.with_suffix(ext)
    if resume and target.exists():
        return
    cls = PILImage if n_channels == 3 else PILImageBW
    known = Image.registered_extensions()
    with deferring(Deferral.PIXELS):
        image = cls.create(source)
    shrinks = max_size is not None and max(image.size) > max_size
    with Image.open(source) as stored:
        same_form = stored.mode == cls.read_mode and img_format in (None, stored.format) and not kwargs
    if not shrinks and same_form and known.get(source.suffix.lower()) == known.get(target.suffix.lower()):
        image.load()
        if source.absolute() != target.absolute():
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(source, "rb") as content:
                commit(target, lambda file: shutil.copyfileobj(content, file))
        return
    kind = img_format or known.get(target.suffix.lower())
    if kind is None:
        raise BadArgument(f"no format has the suffix '{target.suffix}'", fix='ext=".jpg", or img_format="JPEG"')
    width, height = resize_to(image, max_size) if shrinks and max_size is not None else image.size
    made = resize(image, (height, width), resample, reducing_gap=REDUCING_GAP)
    target.parent.mkdir(parents=True, exist_ok=True)
    commit(target, lambda file: made.save(file, format=kind, **kwargs))


def _resized(file: StrPath, dest: StrPath, **kwargs: Any) -> str:
    try:
        resize_image(file, dest, **kwargs)
    except (LayeredError, OSError) as error:
        return _in_words(error)
    return ""


def resize_images(
    path: StrPath,
    max_workers: int | None = None,
    max_size: int | None = None,
    recurse: bool = False,
    dest: StrPath = ".",
    n_channels: int = 3,
    ext: str | None = None,
    img_format: str | None = None,
    resample: Image.Resampling = BILINEAR,
    resume: bool = False,
    **kwargs: Any,
) -> L:
    """Write the images of a folder into another one, shrunk and upright: see `resize_image`.

    Each file is written as a whole or not at all, so that a run that was interrupted goes on with `resume=True`.

    Args:
        path: The folder of the images.
        max_workers: Processes that resize; by default one for each core.
        max_size: The longer side is shrunk to this many pixels.
        recurse: The images of the folders in it too.
        dest: The folder to write to.
        n_channels: 3 for colour, 1 for grey.
        ext: Another suffix: ".png".
        img_format: The format of PIL to write; by default that of the suffix.
        resample: PIL's interpolation.
        resume: Leave what exists as it is.
        kwargs: For PIL's `save`: `quality`, ….

    Returns:
        The files that could not be resized, each with the reason; a warning says how many they are.
    """
    found = get_image_files(path, recurse=recurse)
    files = [file.relative_to(path) for file in found]
    faults = parallel(
        _resized, files, dest, src=path, max_size=max_size, n_channels=n_channels, ext=ext, img_format=img_format,
        resample=resample, resume=resume, n_workers=max_workers, **kwargs,
    )  # fmt: skip
    return _reported([(str(file), fault) for file, fault in zip(found, faults, strict=True)], "resized")


def _reported(results: list[Bad], done: str) -> L:
    bad = [(what, fault) for what, fault in results if fault]
    if bad:
        first = "; ".join(f"{what} ({fault})" for what, fault in bad[:3])
        warn(f"{len(bad)} of {len(results)} images could not be {done}: {first}{' …' if len(bad) > 3 else ''}")
    return L(bad, use_list=True)


def download_images(
    dest: StrPath,
    url_file: StrPath | None = None,
    urls: Iterable[str] | None = None,
    max_pics: int = 1000,
    n_workers: int = 8,
    timeout: float = 4,
    preserve_filename: bool = False,
) -> L:
    """Download images into a folder, as 00000000.jpg, 00000001.png, …; only images are kept, with suffixes of images.

    The URLs may come from any search engine's API; the library asks none itself (`search_images_*`), since each needs a key.

    Args:
        dest: The folder; created if missing. Files in it are not overwritten.
        url_file: A text file in UTF-8 with a URL in each line, in place of `urls`.
        urls: The URLs, requested as they are, with their query.
        max_pics: Only the first so many.
        n_workers: Downloads at the same time.
        timeout: Seconds that a server may take to answer.
        preserve_filename: Keep the names that the URLs end with.

    Returns:
        The URLs that gave no image, each with the reason; a warning says how many they are.

    Raises:
        Offline: LAYERED_OFFLINE is set.
        BadArgument: There are no URLs, or both kinds.
        NotFoundPath: `url_file` does not exist.
        BadFile: `url_file` is not text in UTF-8.
    """
    if (url_file is None) == (urls is None):
        raise BadArgument("URLs are needed, in one way", expected="urls=[...] or url_file='urls.txt'")
    if is_offline():
        raise Offline("download_images needs the network", got="LAYERED_OFFLINE is set", fix="unset it")
    lines = urls if url_file is None else read_lines(url_file)
    wanted = [url.strip() for url in lines or () if url.strip()][:max_pics]
    folder = Path(dest)
    folder.mkdir(parents=True, exist_ok=True)
    taken, targets = {file.stem for file in folder.iterdir()}, []
    for i, url in enumerate(wanted):
        name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in image_extensions():  # the image says which it has
            stem, suffix = name, ""
        stem = stem if preserve_filename and name else f"{i:08d}"
        unique, n = stem, 0
        while unique in taken:
            n += 1
            unique = f"{stem}-{n}"
        taken.add(unique)
        targets.append((url, folder / f"{unique}{suffix}"))
    faults = parallel(_downloaded, targets, timeout, n_workers=n_workers, threadpool=True)
    return _reported(list(zip(wanted, faults, strict=True)), "downloaded")


def _downloaded(target: tuple[str, Path], seconds: float) -> str:
    url, file = target
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        return "not the URL of a web server: http://… or https://…"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (layered)"})  # http, see above
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            data = answer.read(_LARGEST + 1)
    except (OSError, ValueError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    if len(data) > _LARGEST:
        return f"more than {_LARGEST >> 20} MiB"
    fault = _fault(data)
    if fault:
        return fault
    if file.suffix.lower() not in image_extensions():
        with Image.open(io.BytesIO(data)) as image:
            file = file.with_name(f"{file.name}.{(image.format or 'img').lower().replace('jpeg', 'jpg')}")
    try:
        commit(file, lambda opened: opened.write(data))
    except LayeredError as error:  # a name that no disk takes
        return _in_words(error)
    return ""
