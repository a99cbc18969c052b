import json
import pickle
import random
import struct
import subprocess
import sys
import textwrap
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from hostile_files import BROKEN, RUN_CODE, START, call, named, text
from torch import nn

from layered.files import read_weights, state_dict_of, write_archive
from layered.files.torch_files import read_vocab
from layered.foundation import BadFile, LayeredError, NotFoundPath, UnsafeFile

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool]
DTYPES += [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
NEWER_DTYPES = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2]
LAYOUTS = {"zip": True, "legacy": False}


def save(data, path, layout="zip"):
    torch.save(data, path, _use_new_zipfile_serialization=LAYOUTS[layout])
    return path


def assert_same(ours, theirs):
    """Equal values; where torch builds an OrderedDict or a Parameter, plain ones will do."""
    if isinstance(theirs, torch.Tensor):
        assert type(ours) is torch.Tensor
        assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
        assert torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        assert ours == theirs


def trained():
    """A small model and its optimizer, after a step."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    model(torch.rand(2, 3, 8, 8)).sum()
    opt = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    opt.step()
    return model, opt


# what others write is read as they read it


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_and_its_optimizer_are_read_as_torch_reads_them(tmp_path, layout):
    model, opt = trained()
    path = save({"model": model.state_dict(), "opt": opt.state_dict(), "epoch": 3}, tmp_path / "a.pth", layout)
    ours = read_weights(path)
    assert_same(ours, torch.load(path, weights_only=True))
    fresh, _ = trained()
    fresh.load_state_dict(state_dict_of(ours))
    assert_same(dict(fresh.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_dtype_and_form_of_tensor_is_read_as_torch_reads_it(tmp_path, layout):
    dtypes = DTYPES + (NEWER_DTYPES if layout == "zip" else [])
    tensors = {str(d): torch.arange(6).reshape(2, 3).to(d) for d in dtypes}
    base = torch.arange(24.0).reshape(4, 6)
    tensors |= {
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "turned": base.T,
        "part": base[1:3, ::2],
        "expanded": torch.tensor([1.0]).expand(100),
        "parameter": nn.Parameter(torch.rand(2)),
    }
    path = save(tensors, tmp_path / "a.pth", layout)
    ours, theirs = read_weights(path), torch.load(path, weights_only=True)
    for name, tensor in theirs.items():
        assert ours[name].dtype is tensor.dtype
        assert ours[name].stride() == tensor.stride()
        assert ours[name].tolist() == tensor.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_share_memory_still_do(tmp_path, layout):
    w = torch.rand(4, 3)
    data = read_weights(save({"in": w, "out": w, "row": w[1]}, tmp_path / "a.pth", layout))
    data["in"][1] = 7.0
    assert data["out"][1].tolist() == data["row"].tolist() == [7.0, 7.0, 7.0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_values_beside_tensors_are_read(tmp_path, layout):
    data = {
        "shape": torch.Size([1, 2]),
        "dtype": torch.float32,
        "args": OrderedDict(lr=0.1, name="é", deep=[(1, 2), {"a": None}]),
        "best": np.float64(0.25),
        "names": {"cat", "dog"},
    }
    ours = read_weights(save(data, tmp_path / "a.pth", layout))
    assert ours == {**data, "shape": (1, 2), "args": dict(data["args"])}
    assert read_weights(save({"d": torch.device("cuda:1")}, tmp_path / "b.pth", layout)) == {"d": "cuda:1"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_fastai_saves_is_read(tmp_path, layout, monkeypatch):
    class L:
        """The list of fastcore, as far as pickling goes."""

        def __init__(self, items):
            self.items = items

    stub = types.ModuleType("fastcore.foundation")
    stub.L = L
    L.__module__, L.__qualname__ = stub.__name__, "L"
    monkeypatch.setitem(sys.modules, "fastcore", types.ModuleType("fastcore"))
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    model, _ = trained()
    opt = {"state": [{"grad_avg": torch.rand(2), "step": 3}], "hypers": L([{"lr": np.float64(1e-3), "mom": 0.9}])}
    path = save({"model": model.state_dict(), "opt": opt}, tmp_path / "a.pth", layout)
    data = read_weights(path)
    assert data["opt"]["hypers"] == [{"lr": 1e-3, "mom": 0.9}]
    assert data["opt"]["state"][0]["grad_avg"].tolist() == opt["state"][0]["grad_avg"].tolist()


def test_safetensors_and_our_own_archives_are_weights_too(tmp_path):
    tensors = {"w": torch.rand(3), "n": torch.tensor(1)}
    safetensors.torch.save_file(tensors, tmp_path / "a.bin")
    write_archive(tmp_path / "b.bin", {"what": "ours"}, tensors)
    for name in ("a.bin", "b.bin"):
        assert_same(dict(sorted(read_weights(tmp_path / name).items())), dict(sorted(tensors.items())))
    raw = (tmp_path / "b.bin").read_bytes()
    (tmp_path / "b.bin").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BadFile, match="sha256"):
        read_weights(tmp_path / "b.bin")


def test_a_path_with_an_odd_suffix_is_told_by_its_content(tmp_path):
    assert list(read_weights(save({"w": torch.rand(1)}, tmp_path / "weights.safetensors"))) == ["w"]


# what would need code, or lies, is refused


def zipped(path, data, storages=(), **members):
    """A file in torch's zip layout around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for key, raw in [*((f"data/{i}", raw) for i, raw in enumerate(storages)), *members.items()]:
            archive.writestr(f"archive/{key}", raw)
    return path


def legacy(path, data, tail=b""):
    """A file in torch's legacy layout around any pickle."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    path.write_bytes(b"".join(pickle.dumps(x, 2) for x in head) + data + tail)
    return path


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def storage(kind="FloatStorage", key="0", count=4):
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def numbers(*values):
    return b"(" + b"".join(number(v) for v in values) + b"t"


TENSOR = call("torch._utils", "_rebuild_tensor_v2", storage(), number(0), numbers(4), numbers(1), b"\x89", b"}")


def rebuilt(size, stride, offset=0, **kind):
    """A pickle of one tensor that claims this geometry in a storage of four floats."""
    parts = storage(**kind), number(offset), numbers(*size), numbers(*stride), b"\x89", b"}"
    return START + b"}" + text("w") + call("torch._utils", "_rebuild_tensor_v2", *parts) + b"s."


@pytest.mark.parametrize("name", RUN_CODE)
def test_hostile_pickles_in_any_clothes_are_refused(tmp_path, name):
    wrapped = [zipped(tmp_path / "a.pth", RUN_CODE[name]), legacy(tmp_path / "b.pth", RUN_CODE[name])]
    for path in wrapped:
        with pytest.raises(UnsafeFile) as caught:
            read_weights(path)
        assert caught.value.fix
    (tmp_path / "c.pkl").write_bytes(RUN_CODE[name])
    with pytest.raises(UnsafeFile):
        read_vocab(tmp_path / "c.pkl")
    with pytest.raises(BadFile):
        read_weights(tmp_path / "c.pkl")


@pytest.mark.parametrize("name", [name for name in BROKEN if "million" not in name])
def test_broken_pickles_in_any_clothes_are_refused(tmp_path, name):
    (tmp_path / "c.pkl").write_bytes(BROKEN[name])
    for read, path in (
        (read_weights, zipped(tmp_path / "a.pth", BROKEN[name])),
        (read_weights, legacy(tmp_path / "b.pth", BROKEN[name])),
        (read_vocab, tmp_path / "c.pkl"),
    ):
        with pytest.raises(BadFile):
            read(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_model_is_refused_with_the_way_to_convert_it(tmp_path, layout):
    path = save(nn.Linear(2, 2), tmp_path / "model.pth", layout)
    with pytest.raises(UnsafeFile, match=r"torch\.nn\.modules\.linear\.Linear.*\n.*\n.*state_dict"):
        read_weights(path)


def test_the_hand_made_file_is_read_when_it_tells_the_truth(tmp_path):
    path = zipped(tmp_path / "a.pth", rebuilt((2, 2), (2, 1)), [struct.pack("<4f", 1, 2, 3, 4)], version=b"3")
    assert read_weights(path)["w"].tolist() == torch.load(path, weights_only=True)["w"].tolist() == [[1, 2], [3, 4]]
    tail = pickle.dumps(["0"], 2) + struct.pack("<q4f", 4, 1, 2, 3, 4)
    assert read_weights(legacy(path, rebuilt((2, 2), (2, 1)), tail))["w"].tolist() == [[1, 2], [3, 4]]


LIES = {
    "beyond the end": rebuilt((5,), (1,)),
    "an offset beyond the end": rebuilt((2,), (1,), offset=3),
    "a negative offset": rebuilt((2,), (1,), offset=-1),
    "a negative stride": rebuilt((2,), (-1,), offset=3),
    "a huge stride": rebuilt((2,), (2**62,)),
    "strides that wrap around": rebuilt((2, 2), (2**62, 2**62)),
    "a negative size": rebuilt((-2,), (1,)),
    "a size beyond memory": rebuilt((2**40,), (0,)),
    "an empty size beyond addresses": rebuilt((0, 2**47, 2**47), (0, 0, 0)),
    "strides that do not match": rebuilt((2, 2), (1,)),
    "a hundred dimensions": rebuilt((1,) * 100, (1,) * 100),
    "a storage of another size": rebuilt((2,), (1,), count=5),
    "a storage of a negative size": rebuilt((2,), (1,), count=-1),
    "a storage beyond memory": rebuilt((2,), (1,), count=2**60),
    "a storage that is not there": rebuilt((2,), (1,), key="1"),
    "a storage of another folder": rebuilt((2,), (1,), key="../data.pkl"),
    "an unknown storage": rebuilt((2,), (1,), kind="QInt8Storage"),
    "a storage as a value": START + b"}" + text("w") + storage() + b"s.",
    "a persistent id that is none": START + b"}" + text("w") + text("storage") + b"Qs.",
    "a set of a tensor's numbers": START + b"}" + text("w") + call("builtins", "set", TENSOR) + b"s.",
    "a table of a tensor's numbers": START + call("collections", "OrderedDict", TENSOR) + b".",
    "a tensor without a storage": START + call("torch._utils", "_rebuild_tensor_v2", b"}", *[numbers(1)] * 5) + b".",
    "a tensor as sizes": START
    + call("torch._utils", "_rebuild_tensor", storage(), number(0), rebuilt((4,), (1,))[7:-2], numbers(1))
    + b".",
}


@pytest.mark.parametrize("lie", LIES)
def test_tensors_that_leave_their_storage_or_lie_about_it_are_refused(tmp_path, lie):
    with pytest.raises(BadFile):
        read_weights(zipped(tmp_path / "a.pth", LIES[lie], [bytes(16)]))
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16)
    with pytest.raises(BadFile):
        read_weights(legacy(tmp_path / "b.pth", LIES[lie], tail))


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        pickle.dumps([], 2),
        pickle.dumps(["1"], 2) + struct.pack("<q", 4) + bytes(16),
        pickle.dumps(["0", "0"], 2) + (struct.pack("<q", 4) + bytes(16)) * 2,
        pickle.dumps(["0"], 2),
        pickle.dumps(["0"], 2) + struct.pack("<q", 5) + bytes(20),
        pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(15),
        pickle.dumps(7, 2),
    ],
)
def test_a_legacy_file_never_gives_memory_that_it_did_not_fill(tmp_path, tail):
    with pytest.raises(BadFile):
        read_weights(legacy(tmp_path / "a.pth", rebuilt((4,), (1,)), tail))


def test_storages_that_together_are_longer_than_a_legacy_file_are_refused_before_memory_is_taken(tmp_path):
    parts = [storage(key=str(key), count=25) for key in range(9)]
    path = legacy(tmp_path / "a.pth", START + b"(" + b"".join(parts) + b"l.")
    assert 100 < path.stat().st_size < 900
    with pytest.raises(BadFile, match="smaller than its tensors"):
        read_weights(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("data", [{1: torch.ones(1)}, {"model": {1: torch.ones(1)}}, {("a", 1): torch.ones(1), "b": 2}])
def test_tensors_whose_names_are_no_texts_are_no_state_dict(tmp_path, layout, data):
    with pytest.raises(BadFile):
        state_dict_of(read_weights(save(data, tmp_path / "a.pth", layout)))
    with pytest.raises(BadFile):
        state_dict_of(data)


def test_bytes_that_are_no_booleans_are_refused_in_every_layout(tmp_path):
    data = rebuilt((4,), (1,), kind="BoolStorage")
    with pytest.raises(BadFile, match="boolean tensor"):
        read_weights(zipped(tmp_path / "a.pth", data, [b"\0\1\2\3"]))
    with pytest.raises(BadFile, match="boolean tensor"):
        read_weights(legacy(tmp_path / "b.pth", data, pickle.dumps(["0"], 2) + struct.pack("<q", 4) + b"\0\1\2\3"))


def test_compressed_duplicated_and_foreign_zip_archives_are_refused(tmp_path):
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", START + b"}.")
        archive.writestr("archive/data/0", bytes(50 * 2**20))
    with pytest.raises(BadFile, match="compressed"):
        read_weights(bomb)
    twice = tmp_path / "twice.pth"
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("archive/data.pkl", START + b"}.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("archive/data.pkl", START + b"}.")
    with pytest.raises(BadFile, match="two members"):
        read_weights(twice)
    np.savez(tmp_path / "a.npz", w=np.zeros(3))
    with pytest.raises(BadFile, match=r"torch\.save did not write it"):
        read_weights(tmp_path / "a.npz")


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_built(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", START + b"}.")
        archive.filelist += archive.filelist * 200_000
    with pytest.raises(BadFile, match="read at once"):
        read_weights(tmp_path / "a.pth")


def test_torchscript_and_big_endian_files_are_refused_with_the_reason(tmp_path):
    with pytest.raises(UnsafeFile, match="TorchScript"):
        read_weights(zipped(tmp_path / "a.pt", START + b"}.", **{"constants.pkl": b""}))
    with pytest.raises(BadFile, match="big-endian"):
        read_weights(zipped(tmp_path / "b.pt", START + b"}.", byteorder=b"big"))


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"PK", b"{", b"PK\x05\x06" + bytes(18), b"hello world, this is no weight file", bytes(64)]
)
def test_other_files_are_refused(tmp_path, raw):
    (tmp_path / "a.pth").write_bytes(raw)
    with pytest.raises(BadFile):
        read_weights(tmp_path / "a.pth")


def test_missing_files_and_folders_are_refused(tmp_path):
    for read in (read_weights, read_vocab):
        with pytest.raises(NotFoundPath):
            read(tmp_path / "no.pth")
        with pytest.raises(BadFile, match="folder"):
            read(tmp_path)


def test_a_pickle_of_something_else_says_what_reads_it(tmp_path):
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(["a", "b"]))
    with pytest.raises(BadFile, match="read_vocab"):
        read_weights(tmp_path / "vocab.pkl")
    save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(BadFile, match="list"):
        read_weights(tmp_path / "list.pth")


# the state dict in its wrappers


def test_a_state_dict_is_found_in_common_wrappers_and_freed_of_prefixes():
    w = torch.zeros(1)
    for data in (
        {"w": w},
        {"model": {"w": w}, "opt": {}},
        {"state_dict": {"module.w": w}, "epoch": 1},
        {"model": {"state_dict": {"_orig_mod.module.w": w}}},
    ):
        assert list(state_dict_of(data)) == ["w"]
    assert list(state_dict_of({"module.a": w, "b": w})) == ["module.a", "b"]


def test_no_state_dict_lists_the_keys_that_are_there():
    with pytest.raises(BadFile, match="'epoch': int, 'generator': dict"):
        state_dict_of({"epoch": 3, "generator": {"w": torch.zeros(1)}})
    with pytest.raises(BadFile, match="nothing"):
        state_dict_of({})


# vocabularies


def test_a_vocabulary_is_read_from_json_and_from_every_protocol(tmp_path):
    words = ["xxunk", "xxpad", "the", "é", "漢", ""]
    path = tmp_path / "vocab"
    for raw in [json.dumps(words).encode(), *(pickle.dumps(words, protocol) for protocol in range(6))]:
        path.write_bytes(raw)
        assert read_vocab(path) == words


@pytest.mark.parametrize("words", [{"a": 1}, ["a", 1], ["a", ["b"]], ("a", "b"), "abc", [b"a"]], ids=repr)
def test_anything_but_a_list_of_strings_is_no_vocabulary(tmp_path, words):
    path = tmp_path / "vocab.pkl"
    path.write_bytes(pickle.dumps(words))
    with pytest.raises(BadFile, match="list of strings") as caught:
        read_vocab(path)
    assert "vocab.json" in caught.value.fix


def test_a_vocabulary_in_a_class_is_refused_by_name(tmp_path):
    path = tmp_path / "vocab.pkl"
    path.write_bytes(pickle.dumps(OrderedDict(a=1)))
    with pytest.raises(UnsafeFile, match=r"collections\.OrderedDict"):
        read_vocab(path)


# many damaged files


def mutant(raw, rng):
    """`raw` with one to three random injuries."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        i, j = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
        injury = rng.randrange(6)
        if injury == 0:
            raw[i : i + 1] = bytes([rng.randrange(256)])
        elif injury == 1:
            del raw[i:]
        elif injury == 2:
            del raw[i : i + (j - i) % 50]
        elif injury == 3:
            raw[i:i] = raw[j : j + 30]
        elif injury == 4:
            raw[i : i + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7])
        else:
            raw[i:i] = rng.choice([b"(", b"R", b"cos\nsystem\n", b"[" * 200, b"\x8b\xff\xff\xff\x7f", b"0" * 20])
        raw = raw or bytearray(b"\0")
    return bytes(raw)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "archive", "vocab"])
def test_mutants_are_read_or_refused_but_nothing_else_happens(tmp_path, kind):
    tensors = {"a.weight": torch.rand(3, 2), "a.bias": torch.zeros(2, dtype=torch.bool), "n": torch.tensor(1)}
    path, read = tmp_path / "file", read_weights
    if kind in LAYOUTS:
        save({"model": tensors, "opt": {"lr": np.float64(0.1)}}, path, kind)
    elif kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    elif kind == "archive":
        write_archive(path, {"a": [1, {"b": None}]}, tensors)
    else:
        path.write_bytes(pickle.dumps(["a", "b", "c"] * 5))
        read = read_vocab
    raw, rng, refused = path.read_bytes(), random.Random(7), 0
    for _ in range(200):
        path.write_bytes(mutant(raw, rng))
        try:
            read(path)
        except LayeredError as error:
            refused += 1
            str(error)
    assert refused > 50


def test_hostile_files_cause_no_import_no_process_and_little_memory(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir(), bad.mkdir()
    tensors = {"w": torch.rand(3)}
    save({"model": tensors, "lr": np.float64(1)}, good / "zip.pth")
    save(tensors, good / "legacy.pth", "legacy")
    safetensors.torch.save_file(tensors, good / "a.safetensors")
    (good / "vocab.json").write_text('["a"]')
    (good / "vocab.pkl").write_bytes(pickle.dumps(["a"]))
    for name, raw in (RUN_CODE | BROKEN).items():
        zipped(bad / f"{name}.zip", raw)
        if "million" not in name:
            legacy(bad / f"{name}.legacy", raw)
            (bad / f"{name}.pkl").write_bytes(raw)
    program = """
        import pathlib, re, sys
        from layered.foundation import LayeredError
        from layered.files.torch_files import read_vocab
        from layered.files import read_weights

        def read_all(folder):
            for path in sorted(folder.iterdir()):
                try:
                    (read_vocab if path.suffix in (".json", ".pkl") else read_weights)(path)
                except LayeredError as error:
                    str(error)

        def watch(event, arguments):
            ours = event == "open" and str(arguments[0]).startswith(str(bad)) or event in ("os.listdir", "os.scandir")
            if re.match("import|exec|compile|open|os|subprocess|socket|pickle|ctypes|shutil", event) and not ours:
                seen.append((event, arguments))

        def peak():
            status = pathlib.Path("/proc/self/status").read_text()
            return int(re.search("VmHWM:[^0-9]+([0-9]+)", status)[1]) // 1024

        good, bad = map(pathlib.Path, sys.argv[1:])
        read_all(good)
        before, seen = peak(), []
        sys.addaudithook(watch)
        read_all(bad)
        found = list(seen)
        grown = peak() - before
        print(f"{len(found)} events, {found[:5]}; {grown} MiB more memory")
        sys.exit(bool(found) or grown > 400)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), good, bad], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_safetensors_file_is_told_from_a_pickle_whatever_the_length_of_its_header(tmp_path):
    for size in (0x80, 0x180, 0x4B50):  # the first bytes of a pickle and of a zip archive
        header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(size)
        path = tmp_path / "weights.safetensors"
        path.write_bytes(struct.pack("<Q", size) + header + struct.pack("<f", 2.5))
        assert read_weights(path)["x"].item() == 2.5
