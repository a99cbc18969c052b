"""The server: a thread for each connection, up to a number of them, and the answers to requests.

Every request gets an answer with a status and, where it is refused, an error as JSON:

    GET  /           the page
    GET  /describe   what the model is asked about, its classes, the limits
    GET  /health     whether the thread that predicts is alive
    POST /predict    {"item": …} or {"items": […, …]}, or the bytes of an image

An image is a string of base64, a text a string, a row an object. "explain": true (for the bytes of an image `?explain=1`) adds
what the model looked at.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import queue
import re
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, urlsplit

from layered.foundation import LayeredError, visible
from layered.serve.answers import Answers
from layered.serve.questions import MOST_ITEMS, Question, question, questions_in
from layered.serve.requests import BoundedSocket, Budget, Refused, TooMuch, check_sender
from layered.serve.worker import Worker
from layered.version import __version__

HEAD = 2**16  # bytes of the first line and the headers of a request
BODIES = 64 * 2**20  # bytes of bodies in memory
CONNECTIONS = 64
IDLE, UPLOAD = 10.0, 30.0  # seconds for the head of a request, and for its body
PREDICTING = 60.0  # seconds for the answer of the model
DRAINING = 3.0  # seconds in which what was refused is read on
IMAGES = ("image/", "application/octet-stream")
SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingMixIn, TCPServer):
    """Serves one model.

    Args:
        answers: What the model says.
        name: What the page calls it.
        host: The address or name to listen at.
        port: The port; 0 for any that is free.
        most_bytes: Of the body of a request.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answers: Answers, name: str, host: str, port: int, most_bytes: int) -> None:
        self.answers, self.name, self.most_bytes = answers, name, most_bytes
        self.names = {"localhost", host.lower()}
        self.budget, self.parsing = Budget(max(BODIES, most_bytes)), threading.Lock()
        self.free = threading.BoundedSemaphore(CONNECTIONS)
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__(address, Handler)  # type: ignore[arg-type]  # an address of IPv6 has four parts
        self.worker = Worker(answers.of_questions)

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = map(str, self.server_address[:2])
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    @cached_property
    def page(self) -> tuple[bytes, str]:
        """The page, and the policy that lets nothing but its own script and style run."""
        text = (resources.files("layered.serve") / "page.html").read_text("utf-8")
        hashes = {}
        for tag in ("script", "style"):
            inner = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            hashes[tag] = "".join(
                f" 'sha256-{base64.b64encode(hashlib.sha256(o.encode()).digest()).decode()}'" for o in inner
            )
        policy = (
            f"default-src 'none'; script-src{hashes['script']}; style-src{hashes['style']}; connect-src 'self'; "
            "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return text.encode(), policy

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # the system gives no more threads
                self.free.release()
                raise
            return
        refused = busy("too many connections")
        body = json.dumps(refused.body).encode()
        head = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **refused.headers,
        }
        lines = [
            f"HTTP/1.1 {refused.status.value} {refused.status.phrase}",
            *(f"{k}: {v}" for k, v in head.items()),
            "\r\n",
        ]
        with suppress(OSError):
            request.settimeout(0.1)
            request.sendall("\r\n".join(lines).encode() + body)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong with a connection; one that its client has left or is too slow for is nothing to say."""
        error = sys.exception()
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            report()


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.bounded = BoundedSocket(self.connection)
        self.rfile = io.BufferedReader(self.bounded)

    def handle_one_request(self) -> None:
        """Read a request and answer it."""
        self.close_connection, self.unread = True, HEAD  # until its head is read, anything may follow
        self.command = self.requestline = ""
        self.bounded.allow(HEAD, IDLE)
        try:
            self.raw_requestline = self.rfile.readline(HEAD)
            if self.raw_requestline and not self.raw_requestline.strip():
                raise Refused(HTTPStatus.BAD_REQUEST, "the request begins with an empty line")
            if self.raw_requestline and self.parse_request():  # which has refused what it cannot read
                self._answer()
        except TimeoutError:
            if self.bounded.allowed < HEAD:  # else it is a connection that was kept and not used
                self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time"))
        except TooMuch:
            problem = "the head of the request is too large"
            self._refuse(Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, problem, expected=f"at most {HEAD} bytes"))
        except Refused as refused:
            self._refuse(refused)
        except ConnectionError:
            self.close_connection = True
        except Exception:
            report()
            self._refuse(
                Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; it says more where it was started")
            )

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON; `http.server` calls this for a request that it cannot read."""
        self._refuse(Refused(HTTPStatus(code), visible(message or HTTPStatus(code).phrase)[:200]))

    def handle_expect_100(self) -> bool:
        """The client is asked for the body when its headers have been looked at."""
        return True

    def version_string(self) -> str:
        """What the header `Server` says."""
        return f"layered/{__version__}"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""

    def _answer(self) -> None:
        self.unread = self._length()
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            raise Refused(HTTPStatus.BAD_REQUEST, "a request names one host", got=f"{len(hosts)} headers Host")
        check_sender(hosts[0], self.headers.get("Origin"), self.server.names)
        try:
            parts = urlsplit(self.path)
            options = parse_qs(parts.query, max_num_fields=10)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the address cannot be read", got=error) from None
        routes = {
            "/": ("GET", self._page),
            "/describe": ("GET", self._describe),
            "/health": ("GET", self._health),
            "/predict": ("POST", self._predict),
        }
        if parts.path not in routes:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address", expected=", ".join(routes))
        method, answer = routes[parts.path]
        if self.command != method and (self.command, method) != ("HEAD", "GET"):
            problem = f"{parts.path} is asked with {method}"
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, problem, got=self.command[:20], headers={"Allow": method})
        answer(options)

    def _length(self) -> int:
        """The bytes of the body."""
        lengths = self.headers.get_all("Content-Length", ["0"])
        if "Transfer-Encoding" in self.headers:
            raise Refused(
                HTTPStatus.LENGTH_REQUIRED, "bodies in chunks are not read", expected="a header Content-Length"
            )
        if len(lengths) != 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is not a number of bytes", got=lengths[0][:50])
        return int(lengths[0])

    def _page(self, options: Mapping[str, Any]) -> None:
        page, policy = self.server.page
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page, {"Content-Security-Policy": policy})

    def _describe(self, options: Mapping[str, Any]) -> None:
        limits = {"bytes": self.server.most_bytes, "items": MOST_ITEMS}
        self._send_json(HTTPStatus.OK, {"model": self.server.name, **self.server.answers.described(), "limits": limits})

    def _health(self, options: Mapping[str, Any]) -> None:
        is_alive, waiting = self.server.worker.thread.is_alive(), self.server.worker.waiting.qsize()
        status = HTTPStatus.OK if is_alive else HTTPStatus.SERVICE_UNAVAILABLE
        self._send_json(status, {"status": "ok" if is_alive else "stopped", "waiting": waiting})

    def _predict(self, options: Mapping[str, list[str]]) -> None:
        source = self.server.answers.input
        kind = self.headers.get_content_type() if "Content-Type" in self.headers else "none"
        is_image = source.kind == "image" and kind.startswith(IMAGES)
        if not is_image and kind != "application/json":
            expected = "application/json" + (", or the file of an image as image/…" if source.kind == "image" else "")
            problem = "the Content-Type is of another kind"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem, got=kind[:100], expected=expected)
        if self.unread > self.server.most_bytes:
            got, expected = f"{self.unread} bytes", f"at most {self.server.most_bytes}"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", got=got, expected=expected)
        with self.server.budget.taken(self.unread) as is_enough:
            if not is_enough:
                raise busy("too many bodies are being read")
            body, is_list = self._body(), False
            with self.server.parsing:  # one at a time: what JSON becomes may be much larger
                if is_image:
                    questions = [question(body, source, options.get("explain") == ["1"])]
                else:
                    questions, is_list = questions_in(body, source)
            answers = self._answers(questions)
        for i, answer in enumerate(answers):
            if isinstance(answer, LayeredError):
                place = i if is_list else None
                raise Refused.for_error(HTTPStatus.UNPROCESSABLE_ENTITY, answer, with_fix=False, item=place)
            if isinstance(answer, Exception):
                raise answer
        self._send_json(HTTPStatus.OK, {"predictions": answers} if is_list else answers[0])

    def _body(self) -> bytes:
        """The bytes of the body, once its headers are accepted."""
        self.bounded.allow(self.unread, UPLOAD)
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        body = self.rfile.read(self.unread)
        if len(body) < self.unread:
            problem = "the body is shorter than its Content-Length"
            raise Refused(HTTPStatus.BAD_REQUEST, problem, got=f"{len(body)} bytes", expected=f"{self.unread} bytes")
        self.unread = 0
        return body

    def _answers(self, questions: Sequence[Question]) -> list[Any]:
        try:
            job = self.server.worker.put(questions)
        except queue.Full:
            raise busy("too many requests are waiting") from None
        try:
            return job.result(PREDICTING)
        except TimeoutError:
            job.cancel()
            problem = f"the model has not answered within {PREDICTING:.0f} seconds"
            raise Refused(HTTPStatus.GATEWAY_TIMEOUT, problem) from None

    def _refuse(self, refused: Refused) -> None:
        self.close_connection = self.close_connection or self.unread > 0
        self._send_json(refused.status, refused.body, refused.headers)
        if self.unread:
            self._drain()

    def _drain(self) -> None:
        """Read on for a while: a client that is still sending would lose the answer if its connection was closed."""
        with suppress(OSError, TooMuch):
            self.connection.shutdown(socket.SHUT_WR)
            self.bounded.allow(BODIES, DRAINING)
            while self.rfile.read1(HEAD):
                pass

    def _send_json(self, status: HTTPStatus, body: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers or {})

    def _send(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.close_connection = self.close_connection or self.unread > 0
        self.request_version = self.protocol_version  # an answer to a request that could not be read has a head too
        self.connection.settimeout(IDLE)
        self.send_response(status)
        own = {"Content-Type": kind, "Content-Length": str(len(body)), **SAFE, **headers}
        for name, value in own.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def report() -> None:
    """Print the traceback of an error of the server, for whoever started it."""
    print(visible(traceback.format_exc(), None), file=sys.stderr, flush=True)


def busy(problem: str) -> Refused:
    """The refusal of a request that may be sent again.

    Args:
        problem: Why there is no place for it now.
    """
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, problem, fix="try again in a second", headers={"Retry-After": "1"})
