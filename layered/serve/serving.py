"""`serve`: the page of a model, until it is interrupted; `serving`: the same beside a program."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import layered.collab
import layered.vision.all  # noqa: F401  # these register what exports are made of
from layered.foundation import BadValue, Path
from layered.serve.answers import Answers
from layered.serve.server import Server
from layered.training import Learner, load_learner

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_MEGABYTES = 10.0


def serve(
    model: Learner | str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    most_megabytes: float = MOST_MEGABYTES,
) -> None:
    """Serve a page to try a model, and a JSON endpoint, until Ctrl-C.

    Args:
        model: A learner, or the file of an export: of images, texts, rows or ratings.
        host: The address to listen at. With any other than that of this machine itself, everybody who reaches it can ask.
        port: The port; 0 for any that is free.
        most_megabytes: Of the body of a request.

    Raises:
        BadValue: The model is asked about something that the page does not know, or the address is not to be had.
    """
    server = _server(model, host, port, most_megabytes)
    print(f"{server.name} is served at {server.url} (Ctrl-C ends)", flush=True)
    if host not in LOOPBACK:
        print(
            "everybody who can reach that address can ask the model: there is no password and no encryption", flush=True
        )
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
    print("ended", flush=True)


@contextmanager
def serving(
    model: Learner | str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    most_megabytes: float = MOST_MEGABYTES,
) -> Iterator[str]:
    """Context manager: serves a model in the background, and yields the address of its page.

    Args:
        model: As for `serve`.
        host: As for `serve`.
        port: As for `serve`; by default any that is free.
        most_megabytes: As for `serve`.
    """
    with _server(model, host, port, most_megabytes) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="serving", daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def _server(model: Learner | str | os.PathLike[str], host: str, port: int, most_megabytes: float) -> Server:
    learn = model if isinstance(model, Learner) else load_learner(model)
    name = "a learner" if isinstance(model, Learner) else Path(model).name
    answers = Answers(learn)
    try:
        return Server(answers, name, host, port, int(most_megabytes * 2**20))
    except (OSError, OverflowError) as error:
        raise BadValue(
            f"there can be no server at {host}, port {port}",
            got=error,
            expected="an address of this machine and a free port",
            fix="port=0, for any that is free"
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            else None,
        ) from error
