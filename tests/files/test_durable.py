"""`commit`: all of the new or all of the old, on disks that fail and in processes that die, at every operation."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from layered.files import append_line, commit, durable, joined, sweep
from layered.files.durable import Disk
from layered.foundation import BadFile, BadValue, CannotSave

OPERATIONS = ("make_folder", "create", "write", "sync", "replace", "sync_folder", "delete")


class FailingDisk(Disk):
    """Does what `fail` says before or after its `at`-th operation, and counts them."""

    def __init__(self, at=-1, when="before", fail=None):
        self.at, self.when, self.fail, self.done = at, when, fail, []

    def __getattribute__(self, name):
        method = object.__getattribute__(self, name)
        if name not in OPERATIONS:
            return method

        def watched(*args):
            self.done.append(name)
            is_it = len(self.done) == self.at + 1
            if is_it and self.when == "before":
                self.fail()
            res = method(*args)
            if is_it and self.when == "after":
                self.fail()
            return res

        return watched


def disk_error():
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


def unchanged(old):
    return old.read_bytes() == b"old" and list(old.parent.iterdir()) == [old]


def test_commit_replaces_the_file_and_makes_missing_folders(old):
    assert commit(old, lambda file: file.write(b"new")) == old
    assert old.read_bytes() == b"new"
    deep = old.parent / "a" / "b" / "c.bin"
    commit(deep, lambda file: file.write(b"deep"))
    assert deep.read_bytes() == b"deep"


def test_commit_syncs_the_file_before_the_rename_and_the_folder_after(old, monkeypatch):
    seen = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle):
        seen.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def watched_replace(a, b):
        seen.append("rename")
        assert Path(a).read_bytes() == b"new"
        replace(a, b)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    commit(old, lambda file: file.write(b"new"))
    assert seen == ["file", "rename", "folder"]


@pytest.mark.parametrize(("code", "fix"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "you may write to")])
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_and_no_litter(old, monkeypatch, where, code, fix):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    if where != "write":
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(CannotSave, match=r"file\.bin") as caught:
        commit(old, fail if where == "write" else lambda file: file.write(b"new"))
    assert unchanged(old)
    assert isinstance(caught.value.__cause__, OSError)
    assert isinstance(caught.value, OSError)
    assert fix in caught.value.fix


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError, BadFile("mine")])
def test_other_exceptions_pass_through_and_leave_the_old_file(old, error):
    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        commit(old, fail)
    assert unchanged(old)


def test_a_path_below_a_file_or_at_a_folder_cannot_be_saved(old):
    with pytest.raises(CannotSave, match="choose another folder"):
        commit(old / "below.bin", lambda file: file.write(b"new"))
    with pytest.raises(CannotSave, match="add a file name"):
        commit(old.parent, lambda file: file.write(b"new"))
    assert unchanged(old)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_replaced_file_keeps_its_permissions_and_a_private_one_is_the_owners(old):
    for mode in (0o600, 0o644, 0o664, 0o400):
        old.chmod(mode)
        commit(old, lambda file: file.write(b"new"))
        commit(old, lambda file: file.write(b"new"), private=True)
        assert old.stat().st_mode & 0o777 == mode
    new = old.with_name("new.bin")
    commit(new, lambda file: file.write(b"new"), private=True)
    assert new.stat().st_mode & 0o777 == 0o600
    umask = os.umask(0o027)
    try:
        assert commit(old.with_name("other.bin"), lambda file: file.write(b"new")).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(umask)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "x" * 5000 + "/a"])
@pytest.mark.parametrize(
    "write", [lambda path: commit(path, lambda file: None), lambda path: append_line(path, b"x\n")]
)
def test_a_path_that_no_disk_takes_cannot_be_saved(tmp_path, name, write):
    with pytest.raises(CannotSave, match="could not write") as caught:
        write(tmp_path / name)
    assert len(str(caught.value)) < 20_000
    assert list(tmp_path.iterdir()) == []


def test_commit_writes_through_a_link(old):
    link = old.parent / "link.bin"
    link.symlink_to(old.name)
    commit(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert old.read_bytes() == b"new"


@pytest.fixture
def disk(monkeypatch):
    def put(*args):
        made = FailingDisk(*args)
        monkeypatch.setattr(durable, "disk", made)
        return made

    return put


def write_new(path):
    commit(path, lambda file: (file.write(b"n"), file.write(b"ew")))


def operations(path):
    """How many operations a commit has."""
    counting, kept = FailingDisk(), durable.disk
    durable.disk = counting
    try:
        write_new(path)
    finally:
        durable.disk = kept
    return len(counting.done)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_at_any_operation_is_told_and_leaves_old_or_new(old, disk, when):
    count = operations(old.parent / "other.bin")
    (old.parent / "other.bin").unlink()
    assert count == 6
    for at in range(count):
        old.write_bytes(b"old")
        disk(at, when, disk_error)
        with pytest.raises(CannotSave, match="Input/output error"):
            write_new(old)
        is_renamed = at == 5 or (at == 4 and when == "after")
        assert old.read_bytes() == (b"new" if is_renamed else b"old"), at
        assert list(old.parent.iterdir()) == [old]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_at_any_operation_leaves_old_or_new(old, disk, when):
    for at in range(operations(old)):
        old.write_bytes(b"old")
        child = os.fork()
        if child == 0:
            disk(at, when, lambda: os._exit(9))
            write_new(old)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert old.read_bytes() in (b"old", b"new")
        sweep(old.parent)
        assert list(old.parent.iterdir()) == [old]


def test_short_writes_of_a_disk_are_continued(old, disk):
    class Short(Disk):
        def write(self, file, data):
            return super().write(file, data[:3])

    durable.disk, kept = Short(), durable.disk
    try:
        commit(old, lambda file: file.write(b"a long line"))
    finally:
        durable.disk = kept
    assert old.read_bytes() == b"a long line"


def test_a_full_device_is_told(tmp_path):
    link = tmp_path / "file.bin"
    link.symlink_to("/dev/full")
    with pytest.raises(CannotSave, match="free some space"):
        commit(link, lambda file: file.write(b"x"))
    assert Path("/dev/full").is_char_device()
    assert commit("/dev/null", lambda file: file.write(b"x")) == Path("/dev/null")


def test_sweeping_leaves_what_living_processes_write(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    files = {pid: tmp_path / f".layered-{pid}-0a.tmp" for pid in (gone.pid, os.getppid(), os.getpid())}
    for file in (*files.values(), tmp_path / ".layered-mine.tmp", tmp_path / "kept"):
        file.write_bytes(b"x")
    sweep(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {files[os.getppid()].name, ".layered-mine.tmp", "kept"}


def test_sweeping_leaves_the_files_of_other_hosts(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine, theirs = (tmp_path / f".layered-{host}-{gone.pid}-0a.tmp" for host in (durable._HOST, "0" * 8))
    for file in (mine, theirs):
        file.touch()
    commit(tmp_path / "new", lambda file: file.write(b"x"))
    assert {f.name for f in tmp_path.iterdir()} == {theirs.name, "new"}


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EINVAL])
def test_a_file_system_that_cannot_sync_folders_still_saves_and_says_so_once(tmp_path, monkeypatch, number):
    sync = os.fsync

    def refuse(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(durable, "_not_synced", set())
    with pytest.warns(UserWarning, match="cannot sync folders") as said:  # noqa: PT031
        for i in range(3):
            commit(tmp_path / f"{i}", lambda file: file.write(b"x"))
    assert len(said) == 1
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("part", ["s3://bucket/file", Path("gs://bucket"), "hf://me/model"], ids=str)
def test_an_address_is_never_taken_for_a_folder(part):
    with pytest.raises(BadValue, match="an address cannot stand where a file or folder is meant"):
        joined("runs", part)
    assert joined("C:/data").as_posix() == "C:/data"
