"""Downloading a file: an interrupted download continues where it stopped, and the sha256 decides whether it is used."""

from __future__ import annotations

import errno
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

import torch

from layered.catalog.disk import open_unlinked, saving, sha256_of
from layered.files import commit, open_bounded
from layered.foundation import BadFile, BadValue, LayeredError, NotFoundPath, Offline, is_watched, lazy

fastprogress = lazy("fastprogress.fastprogress")

CHUNK = 1 << 18  # bytes; the most that a broken connection loses
TIMEOUT = 30.0  # seconds without receiving anything
_LONGEST = 1000  # bytes of a tag
_VALIDATOR = re.compile(rb"[\x20-\x7e]{1,%d}" % _LONGEST)
MAX_UNANNOUNCED = 4 << 30  # bytes of a file whose length nobody says


def is_offline() -> bool:
    """Whether LAYERED_OFFLINE switches the network off, by any value except '' and '0'."""
    return os.environ.get("LAYERED_OFFLINE", "") not in ("", "0")


def hub_file(url: str) -> str:
    """The file in which `torch.hub` caches the weights of an address.

    Args:
        url: The address.
    """
    return os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(urlsplit(url).path))


def download(
    url: str,
    file: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    check: Callable[[Path], object] = lambda arrived: None,
) -> Path:
    """Fetch `url` to `file`; `file` appears, or is replaced, only when all of it has arrived and is checked.

    What has arrived is kept in `<file>.part`. A broken connection is resumed as long as each attempt brings something;
    a later call resumes too, if the server still has the same file. Proxies are those of the usual variables
    (https_proxy, no_proxy).

    Args:
        url: The address.
        file: The file to write.
        sha256: That of the file. Without it, the first download records its own in `<file>.sha256` (in the format of
            `sha256sum -c`), which later downloads must match.
        size: The number of bytes, if known. Of a file whose length neither this nor the server says, `MAX_UNANNOUNCED`
            bytes are taken.
        check: Called with what has arrived, before its sha256 is recorded and it becomes `file`; what it raises refuses it.

    Returns:
        `file`.

    Raises:
        Offline: The network is unavailable, fails, or is switched off.
        NotFoundPath: The server does not have the file.
        BadFile: It is not the expected file.
        BadValue: The address is not https; http is accepted if `sha256` is given.
        CannotSave: The file cannot be written.
    """
    by_hand = f"download it elsewhere and put it at '{file}'"
    if is_offline():
        raise Offline(f"'{url}' needs the network", got="LAYERED_OFFLINE is set", fix=f"unset it, or {by_hand}")
    _refuse_insecure(url, sha256 is not None, by_hand)
    with saving(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(file, sha256 is not None, size)
    while True:
        before = part.size()
        try:
            if part.receive(url):
                break
            reason: object = f"the connection ended after {part.size()} bytes"
        except BadFile:
            part.remove()
            raise
        except LayeredError:
            raise
        except HTTPError as error:
            if error.code == 416 and before:  # our part is longer than the file: it belongs to another version
                part.remove()
                continue
            if error.code in (404, 410):
                raise NotFoundPath(
                    f"the server does not have '{url}'", got=f"HTTP {error.code}", fix=by_hand
                ) from error
            raise Offline(f"the server refuses '{url}'", got=f"HTTP {error.code}", fix=by_hand) from error
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a header that cannot be read
            reason = f"{error!s:.200}"
        if part.size() <= before:
            raise Offline(f"cannot download '{url}'", got=reason, fix=f"call again to resume, or {by_hand}")
    try:
        seen = check_download(part.path, url, file, sha256, size)
        check(part.path)
    except BadFile:
        part.remove()
        raise
    if sha256 is None:
        record(file, seen)
    with saving(file):
        part.path.replace(file)
        part.remove()
    return file


def check_download(found: Path, origin: str, file: Path, sha256: str | None, size: int | None) -> str:
    """Check a file against its size and sha256: the published one, or else the one that `record` has kept.

    Args:
        found: The file to check.
        origin: Where it came from, for messages.
        file: What it is, or will be, called: its record is beside that.
        sha256: The published sha256, if any.
        size: The published size in bytes, if any.

    Returns:
        Its sha256.

    Raises:
        BadFile: It is another file.
    """
    if size is not None and found.stat().st_size != size:
        raise BadFile(f"'{origin}' has the wrong size", got=found.stat().st_size, expected=size)
    seen = sha256_of(found)
    known = sha256 or recorded(file)
    if known is not None and seen != known:
        fix = "it is damaged or was altered, and was not used"
        if sha256 is None:
            fix = f"if the publisher changed the file on purpose, delete '{record_of(file)}'"
        raise BadFile(f"'{origin}' is not the expected file", got=f"sha256 {seen}", expected=known, fix=fix)
    return seen


def record(file: Path, sha256: str) -> None:
    """Record the sha256 of a download that has turned out to be what it should be: later ones must match it.

    Args:
        file: The download.
        sha256: Its sha256.
    """
    commit(record_of(file), lambda out: out.write(f"{sha256}  {file.name}\n".encode()))


def recorded(file: Path) -> str | None:
    """The sha256 that `record` has kept for a download, if any.

    Args:
        file: The download.

    Raises:
        BadFile: Something else stands there.
    """
    kept = record_of(file)
    if not kept.exists():
        return None
    with open_bounded(kept) as lines:
        found = lines.read(64)
    if not re.fullmatch(b"[0-9a-f]{64}", found):
        raise BadFile(f"'{kept}' is not the record of a sha256", got=found, fix=f"delete '{kept}'")
    return found.decode()


def record_of(file: Path) -> Path:
    """The file that records the sha256 of the first download.

    Args:
        file: The download.
    """
    return file.with_name(file.name + ".sha256")


class _Part:
    """A download in progress: the bytes so far, and the tag that tells the server which version they are from."""

    def __init__(self, file: Path, is_checked: bool, expected: int | None) -> None:
        self.file, self.is_checked, self.expected = file, is_checked, expected
        self.path = file.with_name(file.name + ".part")
        self.tag = file.with_name(file.name + ".part.tag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def remove(self) -> None:
        with saving(self.path):
            self.path.unlink(missing_ok=True)
            self.tag.unlink(missing_ok=True)

    def receive(self, url: str) -> bool:
        """Append what is missing; False if the connection ended before the announced length."""
        validator = self._validator()
        start = self.size() if self.is_checked or validator else 0
        headers = {"User-Agent": "layered", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        opener = urllib.request.build_opener(_Redirects(self.is_checked))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            start = start if goes_on else 0
            length = _announced(response.headers)
            most = self._most(url, start, length)
            with saving(self.path):
                file = open_unlinked(self.path, "ab" if goes_on else "wb")
                if not goes_on:
                    self._remember(response.headers)
            with file:
                for chunk in _shown(response, length):
                    with saving(self.path):
                        file.write(chunk)
                        file.flush()
                        arrived = file.tell()
                    if arrived > most:
                        break
        if self.size() > most:
            raise self._too_long(url, most)
        return length is None or self.size() == start + length

    def _most(self, url: str, start: int, length: int | None) -> int:
        """The most bytes that the file may have; raises before the first one if the server announces more than can be stored."""
        if length is None:
            return MAX_UNANNOUNCED if self.expected is None else self.expected
        if self.expected is not None and start + length > self.expected:
            raise self._too_long(url, self.expected)
        with saving(self.path):
            if length > (free := shutil.disk_usage(self.path.parent).free):
                raise OSError(errno.ENOSPC, f"'{url}' has {length:,} more bytes, and {free:,} are free")
        return start + length

    def _remember(self, headers: Message) -> None:
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        self.tag.unlink(missing_ok=True)
        validator = etag if etag.startswith('"') else modified  # a weak tag (W/"…") does not promise identical bytes
        if _VALIDATOR.fullmatch(validator.encode()):
            with open_unlinked(self.tag, "wb") as file:
                file.write(validator.encode())

    def _validator(self) -> str | None:
        """What `_remember` has kept; None if that is nothing that can be sent."""
        if not self.tag.exists():
            return None
        with open_bounded(self.tag) as file:
            kept = file.read(_LONGEST + 1)
        return kept.decode() if _VALIDATOR.fullmatch(kept) else None

    def _too_long(self, url: str, most: int) -> BadFile:
        fix = None if self.expected else f"if it is what you want, download it by hand and put it at '{self.file}'"
        return BadFile(f"'{url}' has the wrong size", got=f"more than {most:,} bytes", expected=self.expected, fix=fix)


def _announced(headers: Message) -> int | None:
    """The length of what follows; None if the server does not say."""
    text = headers.get("Content-Length")
    if text is not None and not re.fullmatch("[0-9]{1,18}", text.strip()):
        raise HTTPException(f"the server sends the length {text!r:.80}")
    return None if text is None else int(text)


def _shown(response: HTTPResponse, length: int | None) -> Iterator[bytes]:
    """The response in chunks; with a progress bar if a person is watching and a known length takes a while."""
    chunks = iter(lambda: response.read(CHUNK), b"")
    if length is None or length < 32 * CHUNK or not is_watched():
        return chunks
    return iter(fastprogress.progress_bar(chunks, total=-(-length // CHUNK), leave=False))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from a secure address to an insecure one."""

    def __init__(self, is_checked: bool) -> None:
        self.is_checked = is_checked

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _refuse_insecure(newurl, self.is_checked, f"download '{req.full_url}' by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refuse_insecure(url: str, is_checked: bool, otherwise: str) -> None:
    parts = urlsplit(url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and (is_checked or is_here)):
        raise BadValue(
            f"'{url}' is not secure: the file could be altered on the way",
            expected="an https address",
            fix=f"use https, or {otherwise}",
        )
