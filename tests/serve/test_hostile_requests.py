"""Whatever is sent, there is an answer with a status and words, and the server goes on."""

import json
import random
import resource
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from asking import ask, predict, raw, refused
from counts import chance, soak
from PIL import Image

from layered.serve import requests, server, serving

NAMES = ["item", "items", "explain", "size", "colour", "constructor", "__proto__", "", "\x00", "é" * 50]
PATHS = [
    "/",
    "/predict",
    "/describe",
    "/health",
    "/../../etc/passwd",
    "//x",
    "/%00",
    "*",
    "http://[",
    "/predict?" + "a&" * 50,
]
METHODS = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "\x00", "P" * 500]
KINDS = [
    "application/json",
    "image/png",
    "application/octet-stream",
    "text/plain",
    "multipart/form-data; boundary=x",
    ";",
    "é",
]
LENGTHS = ["-1", "+5", "0x10", "1e3", "99999999999", "9" * 30, "", "5, 5", "١"]

MORE = [
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Origin: null\r\n",
    f"X: {'y' * 70_000}\r\n",
    "Content-Length: 7\r\n",
    "no colon\r\n",
    " folded\r\n",
    "A: b\r\n" * 200,
]


def value(dice: random.Random, depth=0):
    """Any JSON."""
    kinds = ["text", "number", "none", "list", "object"] if depth < 4 else ["text", "number", "none"]
    match dice.choice(kinds):
        case "text":
            return "".join(
                chr(dice.choice([dice.randrange(32, 127), dice.randrange(0x11_0000)]))
                for _ in range(dice.randrange(20))
            )
        case "number":
            return dice.choice([0, -1, 1e308, float("nan"), float("inf"), 10**400, dice.random(), True])
        case "list":
            return [value(dice, depth + 1) for _ in range(dice.randrange(5))]
        case "object":
            return {dice.choice(NAMES): value(dice, depth + 1) for _ in range(dice.randrange(5))}
    return None


def hostile(dice: random.Random) -> bytes:
    """Some bytes: noise, a request with strange parts, or a proper one with bytes changed."""
    if dice.random() < 0.15:
        return dice.randbytes(dice.randrange(1, 300))
    content = json.dumps(value(dice)) if dice.random() < 0.5 else json.dumps({"item": value(dice)})
    body = content.encode() if dice.random() < 0.8 else dice.randbytes(dice.randrange(2000))
    path, method, kind, host, length = "/predict", "POST", "application/json", "127.0.0.1", str(len(body))
    if dice.random() < 0.5:
        path, method, kind = dice.choice(PATHS), dice.choice(METHODS), dice.choice(KINDS)
    if dice.random() < 0.2:
        length = dice.choice([*LENGTHS, str(len(body) + 10), str(max(0, len(body) - 5))])
    if dice.random() < 0.1:
        host = dice.choice(["", "evil.example", "[", "127.0.0.1:99999", "a" * 3000])
    more, version = dice.choice(["", "", dice.choice(MORE)]), dice.choice(["1.1", "1.1", "1.0", "0.9", "2.0", "9"])
    head = f"{method} {path} HTTP/{version}\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    data = head.encode() + body
    if dice.random() < 0.2:
        changed = bytearray(data)
        for _ in range(dice.randrange(1, 8)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        data = bytes(changed[: dice.randrange(1, len(changed))] if dice.random() < 0.3 else changed)
    return data


def check_answers(answer: bytes, data: bytes):
    """Every answer has a status, and every error is JSON."""
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert head.startswith(b"HTTP/1.1 "), data
    assert status in (200, 400, 403, 404, 405, 408, 411, 413, 415, 422, 431, 501, 505), (status, data)
    if status != 200 and body and not body.startswith(b"HTTP/1.1 "):  # to HEAD there is none
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        assert set(json.loads(body[:length])) == {"error"}, data


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["image", "row", "text"])
def test_hostile_requests_are_answered_and_the_server_lives(models, kind, capfd):
    with serving(models[kind]) as url:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(soak(100, 3400)):
            data = hostile(chance(kind, number))
            answer = raw(url, data)
            assert answer, data
            check_answers(answer, data)
        assert ask(url, "/health")[::2] == (200, {"status": "ok", "waiting": 0})
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000  # kilobytes
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.soak
def test_broken_images_are_refused(image_url, tmp_path):
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for number in range(soak(20, 1000)):
        dice, broken = chance("image", number), bytearray(whole)
        for _ in range(dice.randrange(1, 20)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        status, content = predict(image_url, bytes(broken[: dice.randrange(1, len(broken))]), kind="image/jpeg")
        assert (status in (200, 413, 422), "error" in content) == (True, status != 200)
    assert ask(image_url, "/health")[0] == 200


def test_too_large_a_body_is_refused_before_it_is_read(text_url):
    error = refused(text_url, b" " * (11 * 2**20), 413)
    assert "at most 10485760" in error["expected"]
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    check_answers(raw(text_url, head.encode()), head)


def test_a_client_that_sends_slowly_is_ended_by_the_clock_and_not_by_each_byte(models, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 0.3)
    with serving(models["text"]) as url, socket.create_connection(urlsplit(url).netloc.split(":"), timeout=5) as slow:
        began = time.monotonic()
        for letter in b"GET / HTTP/1.1":
            slow.sendall(bytes([letter]))
            time.sleep(0.05)
            if time.monotonic() - began > 0.4:
                break
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        assert ask(url, "/health")[0] == 200


def test_more_connections_than_there_are_places_are_sent_away_and_places_come_free(models, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    with serving(models["text"]) as url:
        address = urlsplit(url).netloc.split(":")
        held = [socket.create_connection(address, timeout=5) for _ in range(3)]
        time.sleep(0.2)
        assert raw(url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503 ")
        for connection in held:
            connection.close()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if b" 200 " in raw(url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")[:20]:
                return
    raise AssertionError("no place came free")


def test_bodies_share_what_memory_there_is_for_them():
    budget = requests.Budget(10)
    with budget.taken(6) as first, budget.taken(6) as second, budget.taken(4) as third:
        assert (first, second, third) == (True, False, True)
    assert budget.left == 10


def test_a_connection_serves_several_requests_and_what_follows_an_error_is_not_taken_for_one(text_url):
    good = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(text_url, good + good).count(b"HTTP/1.1 200 ") == 2
    body = b"GET /describe HTTP/1.1\r\nHost: localhost\r\n\r\n"
    smuggled = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + body
    )
    assert raw(text_url, smuggled).count(b"HTTP/1.1 ") == 1


def test_many_ask_at_once(text_url):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(predict(text_url, {"item": "a good film"})[0])) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 40
