"""Downloading a file: an interrupted download continues where it stopped, and the sha256 decides whether it is used."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

import torch

from layered.catalog.disk import saving, sha256_of
from layered.files import commit
from layered.foundation import BadFile, BadValue, LayeredError, NotFoundPath, Offline, is_watched, lazy

fastprogress = lazy("fastprogress.fastprogress")

CHUNK = 1 << 18  # bytes; the most that a broken connection loses
TIMEOUT = 30.0  # seconds without receiving anything


def is_offline() -> bool:
    """Whether LAYERED_OFFLINE switches the network off, by any value except '' and '0'."""
    return os.environ.get("LAYERED_OFFLINE", "") not in ("", "0")


def hub_file(url: str) -> str:
    """The file in which `torch.hub` caches the weights of an address.

    Args:
        url: The address.
    """
    return os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(urlsplit(url).path))


def download(url: str, file: Path, *, sha256: str | None = None, size: int | None = None) -> Path:
    """Fetch `url` to `file`; `file` appears, or is replaced, only when all of it has arrived and is checked.

    What has arrived is kept in `<file>.part`. A broken connection is resumed as long as each attempt brings something;
    a later call resumes too, if the server still has the same file. Proxies are those of the usual variables
    (https_proxy, no_proxy).

    Args:
        url: The address.
        file: The file to write.
        sha256: That of the file. Without it, the first download records its own in `<file>.sha256` (in the format of
            `sha256sum -c`), which later downloads must match.
        size: The number of bytes, if known.

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
    part = _Part(file, sha256 is not None)
    while True:
        before = part.size()
        try:
            if part.receive(url):
                break
            reason: object = f"the connection ended after {part.size()} bytes"
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
        except (OSError, HTTPException) as error:
            reason = error
        if part.size() <= before:
            raise Offline(f"cannot download '{url}'", got=reason, fix=f"call again to resume, or {by_hand}")
    try:
        check_download(part.path, url, file, sha256, size)
    except BadFile:
        part.remove()
        raise
    with saving(file):
        part.path.replace(file)
        part.remove()
    return file


def check_download(found: Path, origin: str, file: Path, sha256: str | None, size: int | None) -> None:
    """Check a file against its sha256 and size.

    Without a published sha256, that of the first download counts, which is recorded in `<file>.sha256`.

    Args:
        found: The file to check.
        origin: Where it came from, for messages.
        file: What it is, or will be, called: its record is beside that.
        sha256: The published sha256, if any.
        size: The published size in bytes, if any.

    Raises:
        BadFile: It is another file.
    """
    record = record_of(file)
    if size is not None and found.stat().st_size != size:
        raise BadFile(f"'{origin}' has the wrong size", got=found.stat().st_size, expected=size)
    seen = sha256_of(found)
    recorded = record.read_text().split() if sha256 is None and record.exists() else []
    known = recorded[0] if recorded else sha256
    if known is None:
        commit(record, lambda out: out.write(f"{seen}  {file.name}\n".encode()))
    elif seen != known:
        fix = "it is damaged or was altered, and was not used"
        if sha256 is None:
            fix = f"if the publisher changed the file on purpose, delete '{record}'"
        raise BadFile(f"'{origin}' is not the expected file", got=f"sha256 {seen}", expected=known, fix=fix)


def record_of(file: Path) -> Path:
    """The file that records the sha256 of the first download.

    Args:
        file: The download.
    """
    return file.with_name(file.name + ".sha256")


class _Part:
    """A download in progress: the bytes so far, and the tag that tells the server which version they are from."""

    def __init__(self, file: Path, is_checked: bool) -> None:
        self.file, self.is_checked = file, is_checked
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
        start = self.size() if self.is_checked or self.tag.exists() else 0
        headers = {"User-Agent": "layered", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.tag.exists():
                headers["If-Range"] = self.tag.read_text()
        opener = urllib.request.build_opener(_Redirects(self.is_checked))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            start = start if goes_on else 0
            length = response.headers.get("Content-Length")
            with saving(self.path):
                file = open(self.path, "ab" if goes_on else "wb")  # noqa: SIM115  # closed by the `with` below
                if not goes_on:
                    self._remember(response.headers)
            with file:
                for chunk in _shown(response, int(length) if length else None):
                    with saving(self.path):
                        file.write(chunk)
                        file.flush()
        return length is None or self.size() == start + int(length)

    def _remember(self, headers: Message) -> None:
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        self.tag.unlink(missing_ok=True)
        if (
            validator := etag if etag.startswith('"') else modified
        ):  # a weak tag (W/"…") does not promise identical bytes
            self.tag.write_text(validator)


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
