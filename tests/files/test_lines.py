"""Text files that list something."""

from __future__ import annotations

from pathlib import Path

import pytest

from layered.files import read_lines
from layered.foundation import BadFile
from layered.vision.all import FileSplitter, download_images


def test_lines_are_read_without_the_mark_of_windows_and_without_empty_ones(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa.jpg\r\n\r\n Straße.jpg \n".encode())
    assert read_lines(tmp_path / "a.txt") == ["a.jpg", "Straße.jpg"]


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
@pytest.mark.parametrize("read", [read_lines, FileSplitter, lambda file: download_images(file.parent, url_file=file)])
def test_a_list_in_another_encoding_is_refused_with_a_fix_that_works(tmp_path, monkeypatch, encoding, line, read):
    monkeypatch.delenv("LAYERED_OFFLINE", raising=False)
    file = tmp_path / "list.txt"
    file.write_bytes("a.jpg\nStraße.jpg\n".encode(encoding))
    with pytest.raises(BadFile, match=rf"list\.txt' is not text in UTF-8[\s\S]*in line {line}\n") as caught:
        read(file)
    exec(caught.value.fix.partition(", or with")[0], {"Path": Path})
    assert read_lines(file) == ["a.jpg", "Straße.jpg"]
