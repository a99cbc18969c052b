"""What is read of files: whole small ones, and keys, none of which can be made to collide by the thousand."""

import builtins
import errno
import os

import pytest

from layered.files import plain_key, read_whole
from layered.foundation import BadFile, NotFoundPath
from layered.text.reading import read_text

HONEST = ["", "a", b"a", True, None, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, 1e300, float("inf")]
TUPLES = [(), ("lr", 3), (2**31, -(2**30)), (None, True, b"a", "a"), (1,) * 8]
COLLIDING = [2**61 * 16, -(2**64), (2**40, 2**40), (1,) * 9, (0.5,), ((1,),), frozenset({1}), 1j, slice(1), [], {}]


@pytest.mark.parametrize("key", HONEST + TUPLES, ids=repr)
def test_keys_of_honest_files_are_taken_as_they_are(key):
    assert plain_key(key) is key


@pytest.mark.parametrize("key", COLLIDING, ids=repr)
def test_keys_whose_hashes_can_be_chosen_are_refused(key):
    with pytest.raises(TypeError, match="a key of type"):
        plain_key(key)


def test_few_whole_numbers_of_64_bits_have_the_same_hash():
    period = 2**61 - 1
    alike = [n for n in range(-(2**64) + 1, 2**64, period) if hash(n) == hash(1 - 2**64)]
    assert len(alike) < 20


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_a_file_that_cannot_be_read_is_named(tmp_path, code, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\ntwo\n")
    assert read_whole(file) == b"one\ntwo\n"

    def fails(path, *args):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(builtins, "open", fails)
    with pytest.raises(BadFile, match=r"(?s)a\.txt' cannot be read.*fix"):
        read_whole(file, missing_ok=True)


def test_a_file_that_is_missing_is_named_or_empty(tmp_path):
    assert read_whole(tmp_path / "a.txt", missing_ok=True) == b""
    with pytest.raises(NotFoundPath, match=r"there is no file '.*a\.txt'"):
        read_whole(tmp_path / "a.txt")


@pytest.mark.parametrize("read", [read_whole, read_text], ids=["bytes", "text"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "link.txt").symlink_to("a.txt")
    for file in (tmp_path / "a.txt", tmp_path / "link.txt", "/dev/zero"):
        with pytest.raises(BadFile, match=r"is not a file\n.*a pipe or a device"):
            read(file)
