"""Files are listed sorted, and what is missing is said."""

from __future__ import annotations

import mimetypes
import os
from types import SimpleNamespace

import pytest

from layered.data import (
    AttrGetter,
    FileGetter,
    ImageGetter,
    ItemGetter,
    get_files,
    get_image_files,
    get_text_files,
    image_extensions,
)
from layered.foundation import EmptySource, NotFoundPath, Path


@pytest.fixture
def folder(tmp_path):
    for name in ("train/b.jpg", "train/a.PNG", "train/.hidden.png", "valid/c.webp", "notes.txt", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(files):
    return [f.name for f in files]


def test_files_are_sorted_and_hidden_ones_left_out(folder):
    assert names(get_files(folder)) == ["notes.txt", "a.PNG", "b.jpg", "c.webp"]
    assert names(get_files(str(folder), ".png")) == ["a.PNG"]
    assert names(get_files(folder, {".JPG", ".txt"})) == ["notes.txt", "b.jpg"]


def test_folders_can_be_chosen(folder):
    assert names(get_files(folder, recurse=False)) == ["notes.txt"]
    assert names(get_files(folder, folders=["valid"])) == ["c.webp"]
    assert names(get_files(folder, folders=[".", "valid"])) == ["notes.txt", "c.webp"]


def test_images_and_texts_are_told_by_suffix(folder):
    assert names(get_image_files(folder)) == ["a.PNG", "b.jpg", "c.webp"]
    assert names(get_text_files(folder)) == ["notes.txt"]
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif"} <= image_extensions()
    assert names(ImageGetter("train")(folder)) == ["a.PNG", "b.jpg"]
    assert names(FileGetter("valid")(folder)) == ["c.webp"]


def test_linked_folders_are_followed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "z.png").touch()
    os.symlink(other, folder / "linked")
    assert "z.png" in names(get_image_files(folder))
    assert "z.png" not in names(get_files(folder, followlinks=False))


def relative(files, folder):
    return [f.relative_to(folder).as_posix() for f in files]


def test_links_list_no_file_twice(tmp_path):
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "a" / "up")
    os.symlink(tmp_path / "b", tmp_path / "a_link_sorted_first")
    os.symlink(tmp_path / "c" / "3.png", tmp_path / "b" / "3.png")
    assert relative(get_image_files(tmp_path), tmp_path) == ["a/1.png", "b/2.png", "c/3.png"]
    assert relative(get_image_files(tmp_path / "a"), tmp_path) == ["a/1.png", "a/up/b/2.png", "a/up/c/3.png"]
    assert relative(get_image_files(tmp_path, folders=["b"]), tmp_path) == ["b/2.png", "b/3.png"]


def test_the_suffixes_of_images_depend_on_nothing_else(tmp_path, request):
    before = image_extensions()
    mimetypes.add_type("image/strange", ".strange")
    request.addfinalizer(mimetypes.init)
    assert image_extensions() == before
    (tmp_path / "a.strange").touch()
    for suffix in (".jfif", ".jp2", ".avif", ".webp", ".tga"):
        (tmp_path / f"b{suffix}").touch()
    assert len(get_image_files(tmp_path)) == len(Path(tmp_path).ls(file_type="image")) == 5


def test_a_missing_folder_is_an_error_that_says_where_one_is(tmp_path):
    with pytest.raises(NotFoundPath, match="does not exist") as caught:
        get_image_files(tmp_path / "nowhere")
    assert os.getcwd() in caught.value.fix
    (tmp_path / "file.png").touch()
    with pytest.raises(FileNotFoundError, match="a file"):
        get_files(tmp_path / "file.png")


def test_a_folder_without_images_is_an_error_that_says_what_is_there(tmp_path):
    with pytest.raises(EmptySource, match="an empty folder"):
        get_image_files(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"1 other files, first 'a.csv'"):
        get_image_files(tmp_path)


def test_getters_look_into_samples():
    assert ItemGetter(1)((3, 4)) == 4
    assert AttrGetter("name")(SimpleNamespace(name="a")) == "a"
    assert AttrGetter("name", "none")(SimpleNamespace()) == "none"
