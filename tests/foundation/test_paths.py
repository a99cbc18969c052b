"""`Path` is the standard library's, with `ls`."""

from __future__ import annotations

import pathlib
import pickle

import pytest

from layered.foundation import Path


@pytest.fixture
def folder(tmp_path):
    for name in ("b.PNG", "a.txt", "c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    return Path(tmp_path)


def test_a_listing_is_sorted_and_can_be_filtered(folder):
    assert folder.ls().attrgot("name") == ["a.txt", "b.PNG", "c.jpg", "sub"]
    assert folder.ls(n_max=1).attrgot("name") == ["a.txt"]
    assert folder.ls(file_exts=".txt").attrgot("name") == ["a.txt"]
    assert folder.ls(file_type="image").attrgot("name") == ["b.PNG", "c.jpg"]
    assert isinstance(folder.ls()[0], Path)


def test_it_is_a_path_like_any_other(folder):
    assert isinstance(folder, pathlib.Path)
    assert folder == pathlib.Path(folder)
    assert isinstance(folder / "a", Path)
    assert isinstance(folder.parent, Path)
    assert pickle.loads(pickle.dumps(folder)) == folder


def test_it_is_shown_relative_to_the_base(folder, monkeypatch):
    monkeypatch.setattr(Path, "BASE_PATH", folder)
    assert repr(folder / "sub") == "Path('sub')"
    assert repr(Path("/elsewhere")) == "Path('/elsewhere')"


@pytest.mark.parametrize("name", ["x" * 5000, "y/" + "x" * 300, "a\0b"], ids=["long", "long part", "NUL"])
def test_names_that_no_file_can_have_are_files_that_do_not_exist_and_cannot_be_written(tmp_path, name):
    path = Path(tmp_path) / name
    assert [path.exists(), path.is_file(), path.is_dir()] == [False] * 3
    for write in (path.mkdir, path.touch, lambda: path.open("w")):
        with pytest.raises(OSError, match=r"null byte|too long|No such file"):
            write()
