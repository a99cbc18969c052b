"""Archives that somebody else made: honest ones come out whole, hostile and damaged ones leave nothing behind."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from layered.catalog import unpack as unpack_module
from layered.catalog.unpack import copy_files, differences, unpack
from layered.foundation import BadFile, CannotSave, UnsafeFile

CONTENT = {"set/LICENSE": b"free", "set/train/a/1.txt": b"one" * 5000, "set/valid/ä/2.txt": bytes(range(256)) * 300}


def make_tar(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def make_zip(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def check_nothing_left(folder: Path, archive: Path) -> None:
    assert [f for f in folder.iterdir() if f != archive] == []


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz", "tar.bz2", "tar.xz"])
def test_every_kind_of_archive_comes_out_whole_and_without_its_top_folder(tmp_path, ending):
    archive = tmp_path / f"set.{ending}"
    if ending == "zip":
        make_zip(archive, CONTENT)
    else:
        make_tar(archive, list(CONTENT.items()), {"tgz": "w:gz", "tar": "w"}.get(ending, f"w:{ending[4:]}"))
    folder = unpack(archive, tmp_path / "here")
    assert tree(folder) == {name.removeprefix("set/"): data for name, data in CONTENT.items()}
    assert {f.name for f in tmp_path.iterdir()} == {archive.name, "here"}


def test_an_archive_with_several_top_entries_keeps_them_all(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a.txt": b"a", "b/c.txt": b"c"})
    assert tree(unpack(archive, tmp_path / "here")) == {"a.txt": b"a", "b/c.txt": b"c"}


def test_a_single_file_at_the_top_is_not_mistaken_for_the_folder(tmp_path):
    archive = make_tar(tmp_path / "x.tgz", [("a.txt", b"a")])
    assert tree(unpack(archive, tmp_path / "here")) == {"a.txt": b"a"}


def test_a_tar_that_holds_a_zip_is_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"x": b"x"}).read_bytes()
    archive = make_tar(tmp_path / "x.tar", [("set/inner.zip", inner)], "w")
    assert tree(unpack(archive, tmp_path / "here")) == {"inner.zip": inner}


def test_empty_folders_come_out_too(tmp_path):
    archive = make_tar(tmp_path / "x.tgz", [special("set", tarfile.DIRTYPE), special("set/empty", tarfile.DIRTYPE)])
    assert [f.name for f in unpack(archive, tmp_path / "here").iterdir()] == ["empty"]


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\evil", "a\nb"]
)
@pytest.mark.parametrize("make", [lambda p, n: make_zip(p, {n: b"x"}), lambda p, n: make_tar(p, [(n, b"x")])])
def test_an_entry_that_reaches_outside_is_refused_and_nothing_is_written(tmp_path, name, make):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    archive = make(inside / "x", name)
    with pytest.raises(UnsafeFile, match="reaches outside"):
        unpack(archive, inside / "here")
    check_nothing_left(inside, archive)
    assert [f.name for f in tmp_path.rglob("*evil*")] == []


@pytest.mark.parametrize(
    "link",
    [
        special("set/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("set/link", tarfile.SYMTYPE, "../../etc/passwd"),
        special("set/link", tarfile.SYMTYPE, ".."),
        special("set/link", tarfile.LNKTYPE, "/etc/passwd"),
        special("set/link", tarfile.LNKTYPE, "../outside"),
        special("set/link", tarfile.SYMTYPE, "not there"),
        special("set/link", tarfile.SYMTYPE, "."),
    ],
    ids=lambda info: f"{info.type!r} {info.linkname}",
)
def test_a_link_out_or_to_nothing_is_refused(tmp_path, link):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text("secret")
    archive = make_tar(inside / "x.tgz", [("set/a", b"a"), link, ("set/link/b", b"b")])
    with pytest.raises(UnsafeFile):
        unpack(archive, inside / "here")
    check_nothing_left(inside, archive)


def test_links_inside_become_copies(tmp_path):
    members = [
        ("set/a/one", b"1"),
        special("set/soft", tarfile.SYMTYPE, "a/one"),
        special("set/b/up", tarfile.SYMTYPE, "../a/one"),
        special("set/hard", tarfile.LNKTYPE, "set/a/one"),
    ]
    folder = unpack(make_tar(tmp_path / "x.tgz", members), tmp_path / "here")
    assert tree(folder) == {"a/one": b"1", "soft": b"1", "b/up": b"1", "hard": b"1"}
    assert all(stat.S_ISREG(f.lstat().st_mode) and f.lstat().st_nlink == 1 for f in folder.rglob("*") if f.is_file())


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["set/a", "set/a"], "twice"),
        (["set/a", "set/./a"], "twice"),
        (["set/a", "set/a/b"], "declares to be a file"),
        (["set/a", "set/a/b/c"], "declares to be a file"),
        (["set/a/b", "set/a"], "twice"),
        (["set/a", "."], "twice"),
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path, names, why):
    tar = make_tar(tmp_path / "x.tgz", [(name, name.encode()) for name in names])
    with pytest.raises(UnsafeFile, match=why):
        unpack(tar, tmp_path / "here")
    check_nothing_left(tmp_path, tar)


def test_a_zip_with_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    with pytest.raises(UnsafeFile, match="twice"):
        unpack(tmp_path / "x.zip", tmp_path / "here")


def test_a_zip_with_an_entry_without_a_name_is_refused(tmp_path):
    info = zipfile.ZipInfo("x")
    info.filename = ""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open(info, "w") as entry:
        entry.write(b"x")
    with pytest.raises(BadFile):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_may_be_named_again(tmp_path):
    members = [special("set", tarfile.DIRTYPE), ("set/a", b"a"), special("set", tarfile.DIRTYPE)]
    assert tree(unpack(make_tar(tmp_path / "x.tgz", members), tmp_path / "here")) == {"a": b"a"}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, kind):
    info = special("././@LongLink", kind)
    info.size = 32 << 20
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(BadFile, match="header of"):
        unpack(tmp_path / "x.tgz", tmp_path / "here")


def test_headers_nested_without_end_are_refused(tmp_path):
    links = [special("././@LongLink", tarfile.GNUTYPE_LONGNAME) for _ in range(5000)]
    with pytest.raises(BadFile):
        unpack(make_tar(tmp_path / "x.tgz", links), tmp_path / "here")


def test_padding_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "MAX_PADDING", 1 << 20)
    archive = make_tar(tmp_path / "x.tar", [("set/a", b"a")], "w")
    with open(archive, "ab") as file:
        file.write(bytes(3 << 20))
    with pytest.raises(BadFile, match="continues after"):
        unpack(archive, tmp_path / "here")
    check_nothing_left(tmp_path, archive)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "x.tgz", [special("set/dev", kind)])
    with pytest.raises(UnsafeFile, match="device"):
        unpack(archive, tmp_path / "here")
    check_nothing_left(tmp_path, archive)


def test_a_zip_with_a_symbolic_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeFile, match="link"):
        unpack(tmp_path / "x.zip", tmp_path / "here")


@pytest.mark.parametrize("make", [lambda p, d: make_zip(p, d), lambda p, d: make_tar(p, list(d.items()), "w:xz")])
def test_a_bomb_is_stopped_at_the_ratio(tmp_path, make, monkeypatch):
    monkeypatch.setattr(unpack_module, "SMALL", 1 << 20)
    archive = make(tmp_path / "x", {"set/zeros": bytes(20 << 20)})
    with pytest.raises(UnsafeFile, match="unpacked size"):
        unpack(archive, tmp_path / "here")
    check_nothing_left(tmp_path, archive)


def test_a_hole_in_a_sparse_entry_counts_as_what_it_would_write(tmp_path):
    info = tarfile.TarInfo("set/hole")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "set/hole",
        "GNU.sparse.realsize": str(1 << 40),
    }
    no_map = b"0\n".ljust(512, b"\0")
    info.size = len(no_map)
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(no_map))
    with pytest.raises(UnsafeFile, match="unpacked size"):
        unpack(tmp_path / "x.tar", tmp_path / "here", max_bytes=1 << 20)


def test_the_bounds_on_bytes_and_entries_hold_across_members(tmp_path):
    archive = make_tar(tmp_path / "x.tgz", [(f"set/{i}", bytes(1000)) for i in range(10)])
    with pytest.raises(UnsafeFile, match="unpacked size"):
        unpack(archive, tmp_path / "here", max_bytes=9_999)
    with pytest.raises(UnsafeFile, match="limit of 9 entries"):
        unpack(archive, tmp_path / "here", max_files=9)
    check_nothing_left(tmp_path, archive)
    assert len(tree(unpack(archive, tmp_path / "here", max_bytes=10_000, max_files=10))) == 10


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz", "tar.xz"])
def test_an_archive_cut_off_anywhere_is_refused_or_still_whole(tmp_path, ending):
    whole = tmp_path / f"set.{ending}"
    if ending == "zip":
        make_zip(whole, CONTENT)
    else:
        make_tar(whole, list(CONTENT.items()), {"tgz": "w:gz", "tar": "w"}.get(ending, f"w:{ending[4:]}"))
    data = whole.read_bytes()
    expected = tree(unpack(whole, tmp_path / "whole"))
    (tmp_path / "cut").mkdir()
    cut = tmp_path / "cut" / whole.name
    refused = 0
    for end in [*range(0, len(data), max(1, len(data) // 40)), len(data) - 1]:
        cut.write_bytes(data[:end])
        try:
            folder = unpack(cut, tmp_path / "cut" / f"at {end}")
        except BadFile:
            refused += 1
            check_nothing_left(tmp_path / "cut", cut)
        else:
            assert tree(folder) == expected
            unpack_module.shutil.rmtree(folder)
    assert refused > 20


@pytest.mark.parametrize("at", [0, 100, 1024 + 148, 4000])
def test_a_changed_tar_header_is_not_taken_for_the_end(tmp_path, at):
    archive = make_tar(tmp_path / "x.tar", [(f"set/{i}", b"x" * 700) for i in range(6)], "w")
    data = bytearray(archive.read_bytes())
    header = at // 1536 * 1536  # an entry is one block of header and two of data
    data[header + 150] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(BadFile):
        unpack(archive, tmp_path / "here")
    check_nothing_left(tmp_path, archive)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK", b"PK\x03\x04" + bytes(100), b"\x1f\x8b\x08"])
def test_what_is_no_archive_is_refused_with_a_fix(tmp_path, data):
    archive = tmp_path / "x.tgz"
    archive.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        unpack(archive, tmp_path / "here")
    assert "fetch it again" in str(caught.value.fix)
    check_nothing_left(tmp_path, archive)


def test_an_encrypted_zip_says_so(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"a"}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(BadFile, match="encrypted"):
        unpack(archive, tmp_path / "here")


@pytest.mark.parametrize("limit", [10, 1000, 20_000])
def test_a_disk_that_takes_no_more_is_cannot_save_and_leaves_nothing(tmp_path, limit):
    resource = pytest.importorskip("resource")
    archive = make_zip(tmp_path / "x.zip", CONTENT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CannotSave, match="cannot write") as caught:
            unpack(archive, tmp_path / "here")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "LAYERED_HOME" in str(caught.value.fix)
    check_nothing_left(tmp_path, archive)


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"set/a": b"a"})
    (tmp_path / ".here.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".here.unpacking" / "set" / "half").write_bytes(b"h")
    assert tree(unpack(archive, tmp_path / "here")) == {"a": b"a"}
    assert {f.name for f in tmp_path.iterdir()} == {"x.zip", "here"}


# comparing, copying


@pytest.mark.parametrize("ending", ["zip", "tgz"])
@pytest.mark.parametrize("content", [CONTENT, {"a.txt": b"a", "b/c.txt": b"c"}])
def test_an_unpacked_folder_is_compared_byte_for_byte_with_its_archive(tmp_path, ending, content):
    archive = tmp_path / f"x.{ending}"
    make_zip(archive, content) if ending == "zip" else make_tar(archive, list(content.items()))
    folder = unpack(archive, tmp_path / "here")
    (folder / "mine.txt").write_text("an own file is no matter")
    assert list(differences(archive, folder)) == []
    first, *_, last = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != "mine.txt")
    first.unlink()
    last.write_bytes(last.read_bytes()[:-1] + b"!")
    wrong = [name.removeprefix("set/") for name in differences(archive, folder)]
    assert sorted(wrong) == sorted(f.relative_to(folder).as_posix() for f in (first, last))
    last.write_bytes(last.read_bytes() + b"more")
    assert len(list(differences(archive, folder))) == 2


def test_plain_files_and_the_content_of_folders_are_copied_and_compared(tmp_path):
    (tmp_path / "from" / "deep" / "__pycache__").mkdir(parents=True)
    for name in ("a.csv", "deep/b.csv", "deep/__pycache__/c.pyc"):
        (tmp_path / "from" / name).write_text(name)
    found = [tmp_path / "from" / "a.csv", tmp_path / "from" / "deep"]
    folder = copy_files(found, tmp_path / "here")
    assert tree(folder) == {"a.csv": b"a.csv", "b.csv": b"deep/b.csv"}
    assert list(differences(found, folder)) == []
    (folder / "b.csv").unlink()
    assert list(differences(found, folder)) == ["b.csv"]
