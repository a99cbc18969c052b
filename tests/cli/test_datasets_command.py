"""`layered datasets`: what is there, what is here, and that nothing goes which should stay."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile

import pytest

from layered.catalog import Dataset, catalog, datasets, untar_data
from layered.catalog.entries import Source
from layered.cli import datasets as command
from layered.cli.main import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.delenv("LAYERED_DATA", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path / "home"


@pytest.fixture
def photos(home, monkeypatch):
    """A set whose archive lies in the cache as if it had been downloaded, and another that is not here."""
    (home / "archive").mkdir(parents=True)
    with tarfile.open(home / "archive" / "photos.tgz", "w:gz") as tar:
        for name in ("photos/a.txt", "photos/b.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    sources = {name: Source("https", url=f"https://example.org/{name.lower()}.tgz") for name in ("PHOTOS", "SOUNDS")}
    known = {name: Dataset(name, "t", "MIT", "https://h", name.lower(), (source,)) for name, source in sources.items()}
    monkeypatch.setattr(catalog, "datasets", lambda: known)
    monkeypatch.setattr(command, "datasets", lambda: known)
    return home / "archive" / "photos.tgz"


def run(capsys, *args):
    code = main(["datasets", *args])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_list_has_a_line_for_each_set_and_says_what_is_here(capsys, home):
    code, out, _ = run(capsys)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[1:]] == list(datasets())
    assert "\x1b" not in out
    assert "package" in next(line for line in lines if line.startswith("FASHION_TINY"))
    assert run(capsys, "fetch", "fashion_tiny") == (0, f"FASHION_TINY\t{home / 'data' / 'fashion_tiny'}\n", "")
    facts = {fact["name"]: fact for fact in json.loads(run(capsys, "list", "--json")[1])}
    assert facts["FASHION_TINY"]["here"] == "here"
    assert facts["PETS"]["here"] == "no"
    assert facts["FASHION_TINY"]["size"] == 1312139
    assert json.loads(run(capsys, "--json")[1]) == list(facts.values())


def test_info_says_what_the_entry_says(capsys):
    code, out, _ = run(capsys, "info", "PETS", "FASHION_TINY")
    assert code == 0
    assert "CC BY-SA 4.0" in out
    assert "train 1,500, valid 500" in out
    (fact,) = json.loads(run(capsys, "info", "PETS", "--json")[1])
    assert fact["source"] == ["https https://s3.amazonaws.com/fast-ai-imageclas/oxford-iiit-pet.tgz"]


@pytest.mark.parametrize("action", ["info", "fetch", "verify", "remove"])
def test_a_misspelt_name_gives_the_nearest_and_nothing_is_done(capsys, home, action):
    code, out, err = run(capsys, action, "fashion_tiny", "petz")
    assert (code, out) == (1, "")
    assert "did you mean 'PETS'" in err
    assert not home.exists()


def test_what_cannot_be_fetched_fails_after_the_others(capsys, photos):
    code, out, err = run(capsys, "fetch", "SOUNDS", "PHOTOS")
    assert code == 1
    assert out.startswith("PHOTOS\t")
    assert "sounds.tgz" in err


def test_a_whole_set_is_verified_and_a_damaged_one_named(capsys, photos, home):
    folder = untar_data("PHOTOS")
    code, out, _ = run(capsys, "verify")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "matches its archive" in out
    (folder / "b.txt").unlink()
    code, _, err = run(capsys, "verify", "photos")
    assert code == 1
    assert "photos/b.txt" in err
    assert [fact["ok"] for fact in json.loads(run(capsys, "verify", "--json")[1])] == [False]
    shutil.rmtree(folder)
    photos.write_bytes(photos.read_bytes()[:-9])
    code, _, err = run(capsys, "verify", "photos")
    assert code == 1
    assert "not the expected file" in err


def test_the_first_verification_records_and_the_next_compares(capsys, photos):
    assert "recorded from now on" in run(capsys, "verify", "PHOTOS")[1]
    record = photos.with_name("photos.tgz.sha256").read_text().split()[0]
    assert record == hashlib.sha256(photos.read_bytes()).hexdigest()
    assert "matches its recorded sha256" in run(capsys, "verify", "PHOTOS")[1]


def test_a_folder_whose_archive_is_gone_is_not_called_whole(capsys, photos):
    untar_data("PHOTOS")
    photos.unlink()
    code, out, _ = run(capsys, "verify", "PHOTOS")
    assert code == 0
    assert "cannot be verified" in out


def test_sets_of_packages_are_compared_with_the_package(capsys):
    folder = untar_data("DIGITS")
    assert run(capsys, "verify")[0] == 0
    (folder / "digits.csv.gz").write_bytes(b"")
    assert run(capsys, "verify")[0] == 1


def test_verifying_nothing_is_no_error_but_a_set_that_is_not_here_is(capsys):
    assert run(capsys, "verify") == (0, "the cache is empty\n", "")
    assert run(capsys, "verify", "PETS")[0] == 1


def test_removing_takes_folder_and_archive_and_keeps_the_record(capsys, photos, home):
    folder = untar_data("PHOTOS")
    untar_data("PHOTOS")
    code, out, _ = run(capsys, "remove", "PHOTOS", "--yes")
    assert code == 0
    assert out.splitlines() == [f"removed {folder}", f"removed {photos}"]
    assert not folder.exists()
    assert sorted(f.name for f in (home / "archive").iterdir() if f.name[0] != ".") == ["photos.tgz.sha256"]
    assert [f for f in (home / "data").iterdir() if f.is_dir()] == []
    assert run(capsys, "remove", "PHOTOS", "--yes")[0] == 1


@pytest.mark.parametrize(
    ("answer", "goes"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_removing_asks_and_only_yes_is_yes(capsys, photos, monkeypatch, answer, goes):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    folder = untar_data("PHOTOS")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    code, _, err = run(capsys, "remove", "PHOTOS")
    assert code == 0
    assert "Remove PHOTOS? [y/N]" in err
    assert folder.exists() is not goes


def test_removing_without_anybody_to_ask_is_refused(capsys, photos):
    folder = untar_data("PHOTOS")
    code, _, err = run(capsys, "remove", "PHOTOS")
    assert code == 1
    assert "--yes" in err
    assert folder.exists()


def test_nothing_outside_the_cache_is_removed(capsys, photos, home, tmp_path, monkeypatch):
    mine = tmp_path / "mine" / "photos"
    mine.mkdir(parents=True)
    (mine / "a.txt").write_text("mine")
    photos.unlink()
    monkeypatch.setenv("LAYERED_DATA", str(tmp_path / "mine"))
    code, _, err = run(capsys, "remove", "PHOTOS", "--yes")
    assert code == 1
    assert "LAYERED_DATA" in err
    monkeypatch.delenv("LAYERED_DATA")
    (home / "data").mkdir(parents=True, exist_ok=True)
    os.symlink(mine, home / "data" / "photos")
    code, _, err = run(capsys, "remove", "PHOTOS", "--yes")
    assert code == 1
    assert "outside the cache" in err
    assert (mine / "a.txt").read_text() == "mine"


def test_a_set_of_another_folder_is_listed_as_elsewhere(capsys, photos, tmp_path, monkeypatch):
    (tmp_path / "mine" / "sounds").mkdir(parents=True)
    monkeypatch.setenv("LAYERED_DATA", str(tmp_path / "mine"))
    facts = {fact["name"]: fact for fact in json.loads(run(capsys, "--json")[1])}
    assert (facts["SOUNDS"]["here"], facts["SOUNDS"]["path"]) == ("elsewhere", str(tmp_path / "mine" / "sounds"))
    assert facts["PHOTOS"]["here"] == "archive"


@pytest.mark.parametrize("args", [["fetch"], ["remove"], ["forget", "PETS"]])
def test_a_command_that_is_not_understood_exits_with_two(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["datasets", *args])
    assert stop.value.code == 2
