"""What a request may be: bounds on its time and size, who may send it, and refusals in words."""

from __future__ import annotations

import io
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from layered.foundation import LayeredError


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: The status of the answer.
        problem: What is wrong.
        headers: Further headers of the answer.
        parts: What else the answer says: `got`, `expected`, `fix`, `item`.
    """

    def __init__(
        self, status: HTTPStatus, problem: str, *, headers: Mapping[str, str] | None = None, **parts: object
    ) -> None:
        super().__init__(problem)
        self.status, self.headers = status, headers or {}
        said = {name: part if isinstance(part, int) else str(part) for name, part in parts.items() if part is not None}
        self.body: dict[str, Any] = {"error": {"problem": problem, **said}}

    @classmethod
    def for_error(
        cls, status: HTTPStatus, error: LayeredError, *, with_fix: bool = True, item: int | None = None
    ) -> Refused:
        """The answer that has the parts of an error of the library.

        Args:
            status: The status of the answer.
            error: The error.
            with_fix: False leaves out the fix, which is for those who have the program and not for those who ask.
            item: The place of the item that is at fault, in a list.
        """
        fix = error.fix if with_fix else None
        return cls(status, error.problem, got=error.got, expected=error.expected, fix=fix, item=item)


class TooMuch(Exception):
    """More bytes than the request may have."""


class BoundedSocket(io.RawIOBase):
    """The bytes that come through a socket, up to a number and up to a moment.

    Args:
        connection: The socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.allowed, self.until = 0, 0.0

    def allow(self, count: int, seconds: float) -> None:
        """Allow more bytes from now on, and set the moment by which they must have come.

        Args:
            count: How many.
            seconds: From now.
        """
        self.allowed, self.until = count, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.allowed <= 0:
            raise TooMuch
        self.connection.settimeout(left)
        count = self.connection.recv_into(buffer, min(len(buffer), self.allowed))
        self.allowed -= count
        return count


class Budget:
    """How many bytes of bodies may be in memory, of all requests together.

    Args:
        size: The number of bytes.
    """

    def __init__(self, size: int) -> None:
        self.left, self.lock = size, threading.Lock()

    @contextmanager
    def taken(self, count: int) -> Iterator[bool]:
        """Context manager: takes bytes, and gives them back at its end; yields False if there are too few.

        Args:
            count: How many.
        """
        with self.lock:
            is_enough = count <= self.left
            self.left -= count if is_enough else 0
        try:
            yield is_enough
        finally:
            with self.lock:
                self.left += count if is_enough else 0


def check_sender(host: str, origin: str | None, names: set[str]) -> None:
    """Refuse a page of another site that makes a browser ask.

    A site can give its own name the address of this machine (DNS rebinding), but neither claim to be an address nor hide its
    origin.

    Args:
        host: The header `Host`.
        origin: The header `Origin`, which browsers add to every POST.
        names: The names of this server.

    Raises:
        Refused: The host is neither an address nor one of the names, or the origin is another.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in names and not _is_address(name):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "this server does not answer under that name",
            got=f"Host: {host[:100]}",
            expected="its address, or " + ", ".join(sorted(names)),
            fix="layered serve MODEL --host NAME, to answer under a name",
        )
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "pages of other sites may not ask",
            got=f"Origin: {origin[:100]}",
            expected=f"http://{host}",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
