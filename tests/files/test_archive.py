import json
import math
import os
import struct
import subprocess
import sys
import textwrap

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from layered.files import read_archive, write_archive
from layered.files.archive import DTYPES, read_safetensors
from layered.foundation import BadFile, BadValue, NewerFormat, NotExportable, NotFoundPath, TensorImage


def same(a, b):
    """Equal in class, dtype, shape and every bit."""
    assert type(a) is torch.Tensor
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    bits = [x.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
    assert torch.equal(*bits)


def sample(dtype):
    if dtype is torch.bool:
        return torch.tensor([[True, False, True]])
    return (torch.arange(6).reshape(2, 3) - (2 if dtype.is_signed else 0)).to(dtype)


@pytest.fixture
def good(tmp_path):
    tensors = {"w": torch.randn(3, 4), "b": torch.tensor([True, False]), "n": torch.tensor(7)}
    return write_archive(tmp_path / "good.layered", {"lr": 0.1, "vocab": ["a", "b"]}, tensors, kind="export")


def run(code, *arguments):
    """Run `code` in a process of its own."""
    program = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


# what goes in comes out


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    x = sample(dtype)
    tensors = {"matrix": x, "scalar": x[0, 1], "empty": x[:0], "turned": x.T}
    path = write_archive(tmp_path / "a.layered", {}, tensors)
    again = read_archive(path).tensors
    assert set(again) == set(tensors)
    for name, tensor in tensors.items():
        same(again[name], tensor)


def test_views_parameters_and_semantic_tensors_come_back_as_plain_values(tmp_path):
    tensors = {
        "expanded": torch.tensor([1.0]).expand(5),
        "strided": torch.arange(10)[::3],
        "parameter": nn.Parameter(torch.randn(2)),
        "image": TensorImage(torch.rand(3, 2, 2)),
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    again = read_archive(write_archive(tmp_path / "a.layered", {}, tensors)).tensors
    for name, tensor in tensors.items():
        same(again[name], torch.as_tensor(tensor).as_subclass(torch.Tensor).resolve_conj())


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path):
    w = torch.randn(1000)
    path = write_archive(tmp_path / "a.layered", {}, {"in": w, "out": w, "part": w[:10], "copy": w.clone()})
    assert path.stat().st_size < 2.5 * 4000
    again = read_archive(path).tensors
    assert again["in"] is again["out"]
    same(again["out"], w)
    same(again["part"], w[:10])


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(plain_data)
def test_any_plain_manifest_comes_back_exactly(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.layered"
    again = read_archive(write_archive(path, {"value": value}, {})).manifest["value"]
    assert repr(again) == repr(value)


def test_odd_numbers_and_strings_in_the_manifest_come_back(tmp_path):
    manifest = {"nan": math.nan, "inf": -math.inf, "tiny": 5e-324, "zero": -0.0, "name": "caf\udce9 \x00 é \u2028"}
    again = read_archive(write_archive(tmp_path / "a.layered", manifest, {})).manifest
    assert repr(again) == repr(manifest)


def test_any_reader_of_safetensors_opens_our_files(good):
    ours = read_archive(good)
    theirs = safetensors.torch.load_file(good)
    assert set(theirs) == set(ours.tensors)
    for name, tensor in theirs.items():
        same(ours.tensors[name], tensor)
    with safetensors.safe_open(good, "pt") as file:
        assert json.loads(file.metadata()["layered"]) == ours.manifest


def test_we_open_the_files_of_safetensors(tmp_path):
    tensors = {str(dtype): sample(dtype) for dtype in DTYPES.values()}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    again = read_safetensors(tmp_path / "a.safetensors")
    assert set(again) == set(tensors)
    for name, tensor in tensors.items():
        same(again[name], tensor)


def test_what_was_read_outlives_the_file(good):
    before = read_archive(good)
    kept = {name: x.clone() for name, x in before.tensors.items()}
    with open(good, "r+b") as file:
        file.truncate(10)
    os.unlink(good)
    for name, tensor in kept.items():
        same(before.tensors[name], tensor)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_a_gpu_come_back_on_the_cpu(tmp_path):
    x = torch.randn(5)
    same(read_archive(write_archive(tmp_path / "a.layered", {}, {"x": x.cuda()})).tensors["x"], x)


# what cannot be stored is refused before anything is written


@pytest.mark.parametrize(
    ("manifest", "place"),
    [
        ({"a": [1, {"b": object()}]}, r"manifest\['a'\]\[1\]\['b'\]"),
        ({"a": {1: 2}}, r"a key of manifest\['a'\]"),
        ({"f": print}, r"manifest\['f'\]"),
        ({"x": torch.zeros(1)}, r"manifest\['x'\]"),
    ],
)
def test_a_manifest_of_more_than_data_is_refused_with_the_place(tmp_path, manifest, place):
    with pytest.raises(NotExportable, match=place):
        write_archive(tmp_path / "a.layered", manifest, {})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_without_end_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(NotExportable, match="nested too deep"):
        write_archive(tmp_path / "a.layered", {"a": endless}, {})


@pytest.mark.parametrize(
    "x", [torch.zeros(2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex128), [1, 2]]
)
def test_a_tensor_without_plain_bytes_is_refused_by_name(tmp_path, x):
    with pytest.raises(NotExportable, match="layer1"):
        write_archive(tmp_path / "a.layered", {}, {"layer1": x})
    assert list(tmp_path.iterdir()) == []


def test_reserved_names_and_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(NotExportable, match="__metadata__"):
        write_archive(tmp_path / "a.layered", {}, {"__metadata__": torch.zeros(1)})
    with pytest.raises(BadValue, match="kind"):
        write_archive(tmp_path / "a.layered", {}, {}, kind="poem")


# damage is noticed


def test_every_flipped_byte_is_noticed(good):
    raw = good.read_bytes()
    for i in range(len(raw)):
        good.write_bytes(raw[:i] + bytes([raw[i] ^ (1 << i % 8)]) + raw[i + 1 :])
        with pytest.raises(BadFile):
            read_archive(good)


def test_every_cut_is_noticed(good):
    raw = good.read_bytes()
    for length in range(len(raw)):
        good.write_bytes(raw[:length])
        with pytest.raises(BadFile):
            read_archive(good)
    good.write_bytes(raw + b"\0")
    with pytest.raises(BadFile, match="longer"):
        read_archive(good)


def test_a_newer_format_is_told_from_damage(good):
    good.write_bytes(good.read_bytes().replace(b'"format":"2"', b'"format":"3"'))
    with pytest.raises(NewerFormat, match="newer version") as caught:
        read_archive(good)
    assert "pip install" in caught.value.fix


def test_a_file_for_something_else_says_what_opens_it(good):
    assert read_archive(good, kind="export").kind == "export"
    with pytest.raises(BadFile, match="load_learner opens an export"):
        read_archive(good, kind="checkpoint")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "an empty file"),
        (b"\x80\x02}.", "a pickle"),
        (b"PK\x03\x04" + b"\0" * 50, "a zip archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"abc", "3 bytes that start with b'abc'"),
    ],
)
def test_a_file_of_another_kind_is_recognised(tmp_path, raw, words):
    (tmp_path / "a.layered").write_bytes(raw)
    with pytest.raises(BadFile, match=words):
        read_archive(tmp_path / "a.layered")


def test_plain_weights_are_no_archive_and_the_error_says_where_they_go(tmp_path):
    safetensors.torch.save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="weights="):
        read_archive(tmp_path / "a.safetensors")


def test_missing_files_folders_and_pipes_are_refused_at_once(tmp_path):
    with pytest.raises(NotFoundPath, match=r"no\.layered"):
        read_archive(tmp_path / "no.layered")
    with pytest.raises(BadFile, match="folder"):
        read_archive(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="pipe"):
        read_archive(tmp_path / "pipe")


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


LIES = {
    "a hole": {"a": entry(), "b": entry(offsets=(8, 12))},
    "an overlap": {"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(offsets=(4, 8))},
    "more than there is": {"a": entry(shape=(10**6,), offsets=(0, 4 * 10**6))},
    "less than there is": {"a": entry()},
    "a shape that does not fit": {"a": entry(shape=(7,), offsets=(0, 8))},
    "a negative shape": {"a": entry(shape=(-1, -2), offsets=(0, 8))},
    "a shape of booleans": {"a": entry(shape=(2, True), offsets=(0, 8))},
    "a shape beyond addresses": {"a": entry(shape=(0, 2**60, 2**60), offsets=(0, 0)), "b": entry(shape=(2,))},
    "a hundred dimensions": {"a": entry(shape=(1,) * 99 + (2,), offsets=(0, 8))},
    "offsets backwards": {"a": entry(offsets=(8, 4))},
    "offsets below zero": {"a": entry(offsets=(-4, 0)), "b": entry(shape=(2,), offsets=(0, 8))},
    "an unknown dtype": {"a": entry(dtype="F7", shape=(2,), offsets=(0, 8))},
    "numbers as text": {"a": entry(shape=("2",), offsets=(0, 8))},
    "no entry": {"a": None},
    "metadata of numbers": {"__metadata__": {"a": 1}, "a": entry(shape=(2,), offsets=(0, 8))},
    "metadata of lists": {"__metadata__": [], "a": entry(shape=(2,), offsets=(0, 8))},
    "a list": [1, 2],
    "more tensors than may be": {str(i): entry(shape=(0,), offsets=(0, 0)) for i in range(100_001)},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path, lie):
    header = json.dumps(LIES[lie]).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(BadFile):
        read_safetensors(tmp_path / "a")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
        b'{"a":1,"a":2}',
        b'{"a":"' + b'\\"' * 500_000,
        b'{"a":' + b"9" * 100_000 + b"}",
        b'{"a":"\xff"}',
        '{"a":[]}'.encode("utf-16"),
        b"{",
    ],
    ids=["deep", "wide", "twins", "no end", "a long number", "no UTF-8", "UTF-16", "cut"],
)
def test_hostile_json_is_refused(tmp_path, header):
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BadFile):
        read_safetensors(tmp_path / "a")


def test_a_header_longer_than_the_file_or_the_bound_is_refused(tmp_path):
    for length in (2**63, 2**31, 100, 0):
        (tmp_path / "a").write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(BadFile):
            read_safetensors(tmp_path / "a")


def test_bytes_that_are_no_booleans_are_refused(tmp_path):
    header = json.dumps({"a": entry("BOOL", (2,), (0, 2))}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + b"\x01\x02")
    with pytest.raises(BadFile, match="boolean tensor"):
        read_safetensors(tmp_path / "a")


def test_a_file_size_limit_is_a_save_error_and_keeps_the_old_archive(tmp_path):
    path = write_archive(tmp_path / "a.layered", {"round": 1}, {"x": torch.zeros(10)})
    done = run(
        """
        import resource, sys, torch
        from layered.files import write_archive
        from layered.foundation import CannotSave
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            write_archive(sys.argv[1], {"round": 2}, {"x": torch.zeros(100_000)})
        except CannotSave as error:
            print(error)
        """,
        path,
    )
    assert "free some space" in done.stdout, done.stderr
    assert read_archive(path).manifest == {"round": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_does_not_give_one_tensor_countless_names(tmp_path, monkeypatch):
    one = torch.zeros(1)
    tensors = {f"n{i}": one for i in range(12)}
    file = write_archive(tmp_path / "x.layered", {}, tensors, kind="weights")
    monkeypatch.setattr("layered.files.archive.MAX_TENSORS", 10)
    with pytest.raises(BadFile, match="too many names"):
        read_archive(file)
    with pytest.raises(NotExportable, match="too many tensors"):
        write_archive(tmp_path / "y.layered", {}, tensors, kind="weights")
