"""Folders of image files: downloads from a server of this machine, verification, resizing."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image, ImageOps

from layered.foundation import BadArgument, Offline
from layered.vision import (
    download_images,
    resize_image,
    resize_images,
    resize_to,
    verify_image,
    verify_images,
)


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("LAYERED_OFFLINE", raising=False)
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "missing" in self.path else 200)
            self.end_headers()
            if "missing" not in self.path:
                self.wfile.write(b"<html>" if "page" in self.path else png("blue" if "blue" in self.path else "red"))

        def log_message(self, *args: object) -> None: ...

    found = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", asked
    found.shutdown()


def test_what_is_no_image_is_reported_with_the_reason_and_not_kept(server, tmp_path):
    host, asked = server
    urls = [
        f"{host}/a.png?size=large&x=1",
        f"{host}/missing.png",
        f"{host}/page.png",
        "file:///etc/passwd",
        f"{host}/blue",
    ]
    with pytest.warns(UserWarning, match="3 of 5 images could not be downloaded"):
        bad = download_images(tmp_path / "new", urls=urls)
    assert [url for url, _ in bad] == urls[1:4]
    assert "404" in bad[0][1]
    assert "decoded" in bad[1][1]
    assert "/a.png?size=large&x=1" in asked
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["00000000.png", "00000004.png"]


def test_names_are_kept_if_asked_and_nothing_is_overwritten(server, tmp_path):
    host, _ = server
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / "urls.txt").write_text(f"{host}/x/a.png\n\n{host}/blue/a.png\n{host}/c.png")
    assert len(download_images(tmp_path, url_file=tmp_path / "urls.txt", preserve_filename=True, max_pics=2)) == 0
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert (tmp_path / "a-1.png").read_bytes() == png()
    assert (tmp_path / "a-2.png").read_bytes() == png("blue")
    assert not (tmp_path / "c.png").exists()


def test_the_switch_for_the_network_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    with pytest.raises(Offline):
        download_images(tmp_path, urls=["http://127.0.0.1:9/a.png"])
    with pytest.raises(BadArgument, match="URLs are needed"):
        download_images(tmp_path)


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    source = tmp_path / "from"
    (source / "deep").mkdir(parents=True)
    photo = Image.fromarray(pixels[:6, :8]).resize((800, 600), Image.Resampling.BICUBIC)
    photo.save(source / "turned.jpg", exif=exif, quality=95)
    photo.convert("L").save(source / "deep" / "grey.png")
    Image.fromarray(pixels[:60, :80]).save(source / "small.png")
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return source


def test_files_that_cannot_be_decoded_are_listed(folder):
    files = sorted(folder.rglob("*.*"))
    assert verify_images(files, n_workers=2) == [folder / "broken.png"]
    assert verify_image(folder / "turned.jpg")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_shrunk_upright_and_broken_ones_reported(folder, tmp_path, workers):
    dest = tmp_path / "to"
    with pytest.warns(UserWarning, match="1 of 4"):
        bad = resize_images(folder, max_workers=workers, max_size=200, recurse=True, dest=dest)
    assert [file for file, _ in bad] == [str(folder / "broken.png")]
    made = {str(file.relative_to(dest)): Image.open(file) for file in dest.rglob("*.*")}
    assert {name: image.size for name, image in made.items()} == {
        "turned.jpg": (150, 200), "deep/grey.png": (200, 150), "small.png": (80, 60)
    }  # fmt: skip
    assert all(image.mode == "RGB" for image in made.values())
    assert (dest / "small.png").read_bytes() == (folder / "small.png").read_bytes()
    with Image.open(folder / "turned.jpg") as stored:
        upright = ImageOps.exif_transpose(stored).resize((150, 200), Image.Resampling.BILINEAR)
    assert made["turned.jpg"].getexif().get(0x0112, 1) == 1
    assert np.abs(np.asarray(made["turned.jpg"], float) - np.asarray(upright)).mean() < 3


def test_a_run_goes_on_where_it_ended(folder, tmp_path):
    dest = tmp_path / "to"
    dest.mkdir()
    (dest / "turned.jpg").write_bytes(b"done before")
    with pytest.warns(UserWarning, match="1 of 3"):
        resize_images(folder, max_workers=0, max_size=200, dest=dest, resume=True)
    assert (dest / "turned.jpg").read_bytes() == b"done before"
    assert (dest / "small.png").exists()


def test_format_and_channels_may_be_others(folder, tmp_path):
    resize_image("turned.jpg", tmp_path, src=folder, max_size=100, n_channels=1, ext=".png")
    with Image.open(tmp_path / "turned.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (75, 100))
    with pytest.raises(BadArgument, match="no format has the suffix"):
        resize_image("turned.jpg", tmp_path, src=folder, max_size=100, ext=".nothing")
    with pytest.raises(BadArgument, match="n_channels"):
        resize_image("turned.jpg", tmp_path, src=folder, n_channels=2)


def test_sizes_keep_the_aspect_ratio():
    image = Image.new("L", (600, 400))
    assert resize_to(image, 300) == (300, 200)
    assert resize_to(image, 200, use_min=True) == (300, 200)


def test_what_a_server_sends_is_kept_as_an_image_inside_the_folder(server, tmp_path):
    host, _ = server
    names = ["..", "%2e%2e%2fup.png", "conftest.py", ".bashrc", "a%00b.png", "x" * 300 + ".png", "a b.png", "ok.png"]
    with pytest.warns(UserWarning, match="of 8 images could not be downloaded"):
        bad = download_images(tmp_path / "in", urls=[f"{host}/{name}" for name in names], preserve_filename=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    kept = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert kept == sorted(["...png", "up.png", "conftest.py.png", ".bashrc.png", "ok.png"])
    assert len(bad) == len(names) - len(kept)
