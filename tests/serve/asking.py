"""Asking a server of `layered serve`, with the standard library."""

import http.client
import json
import socket
from urllib.parse import urlsplit

BAD_NAME = "<img src=x onerror=alert(1)>"  # of a class


def ask(url, path, body=None, kind="application/json", method=None, **headers):
    """The status, the headers and the body of an answer; JSON is read."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    given = {"Content-Type": kind} if body is not None else {}
    connection.request(method or ("GET" if body is None else "POST"), path, body, {**given, **headers})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.headers["Content-Type"] == "application/json" and content:
        content = json.loads(content)
    return response.status, response.headers, content


def predict(url, body, **asked):
    """What `POST /predict` answers, with its status."""
    status, _, content = ask(url, "/predict", body, **asked)
    return status, content


def refused(url, body, status, **asked):
    """The error of a refused `POST /predict`."""
    found, content = predict(url, body, **asked)
    assert (found, set(content)) == (status, {"error"}), content
    return content["error"]


def raw(url, data, timeout=10):
    """All that the server sends back for some bytes, until it closes the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionError:
                break
            if not part:
                break
            answer += part
    return answer
