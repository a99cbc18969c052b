"""Damaged and hostile files of every kind: the library's own errors, little memory and time, and nothing else happens."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from counts import SEED, soak
from torch import nn

from layered.catalog.unpack import unpack as unpack_archive
from layered.files import decode_tree, encode_tree, write_archive
from layered.files.pickled import read_pickle
from layered.foundation import BadFile, CannotRestore, LayeredError
from layered.nn import Cat, describe_module, rebuild_module
from layered.vision.all import DataLoaders, Learner

COUNT = soak(1000, 10_000)
PROGRAM = Path(__file__).with_name("read_mutants.py")


def read_mutants(folder, first, count):
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, str(first), str(count)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=30 + count,
    )
    assert done.returncode == 0, f"it ended at {done.stderr[-2000:]}"
    *faults, counts = map(json.loads, done.stdout.splitlines())
    assert not faults, "\n".join([f"make one again: {PROGRAM.name} FOLDER number 1", *map(str, faults)])
    return counts


@pytest.mark.soak
def test_mutants_of_all_kinds_end_in_our_errors_in_bounds_and_touch_nothing(tmp_path):
    counts = read_mutants(tmp_path, SEED * COUNT, COUNT)
    assert sum(counts.values()) == COUNT
    assert counts["refused"] > 0.7 * (COUNT - counts["locks"])
    assert counts["read"] > 0


@pytest.mark.parametrize(
    "packed",
    [
        {"$tensor": "nothing"},
        {"$tensor": []},
        {"$tensor": "w", "device": 1},
        {"$array": "w", "dtype": "O", "shape": [3]},
        {"$array": "w", "dtype": "V4", "shape": [3]},
        {"$array": "w", "dtype": "f4", "shape": [10**12]},
        {"$dict": [[[], 1]]},
        {"$dict": 3},
        {"$set": [[]]},
        {"$slice": [1, 2, 3, 4]},
        {"$tuple": None},
        {"$unheard": 1},
    ],
    ids=repr,
)
def test_state_that_makes_no_sense_is_our_error(packed):
    with pytest.raises(BadFile):
        decode_tree({"a": [packed]}, {"w": torch.zeros(3)})


@pytest.mark.parametrize("device", ["meta", "antigravity", "privateuseone", "cuda:99x"])
def test_a_device_that_is_not_known_here_leaves_a_tensor_on_the_cpu(device):
    assert decode_tree({"$tensor": "w", "device": device}, {"w": torch.ones(3)}).device.type == "cpu"


def test_few_bytes_do_not_unfold_to_many_numbers():
    store = {}
    packed = encode_tree([0.5] * 100, store, "w")
    assert decode_tree([packed, 1], store) == [[0.5] * 100, 1]
    assert decode_tree(packed, store) == [0.5] * 100
    with pytest.raises(BadFile):
        decode_tree([packed, packed], store)
    array = encode_tree(np.arange(5), store, "v")
    with pytest.raises(BadFile):
        decode_tree([array] * 1000, store)


@pytest.mark.parametrize(
    "node",
    [
        {"$module": "torch.Linear", "args": {"in_features": 10**5, "out_features": 10**5, "device": "cpu"}},
        {"$module": "torch.Linear", "args": {"in_features": 1, "out_features": 1, "device": "cuda"}},
        {"$module": "ConvLayer", "args": {"ni": 3, "nf": 10**5, "ks": 99, "kwargs": {"device": "cpu"}}},
    ],
    ids=["on the CPU", "on a GPU", "inside another argument"],
)
def test_a_model_does_not_say_where_its_memory_is_taken(node):
    with pytest.raises(BadFile, match="device"):
        rebuild_module(node, {})


def test_a_model_of_very_many_parts_without_weights_is_refused():
    parts = {str(i): {"$module": "torch.ReLU", "args": {}} for i in range(30_000)}
    with pytest.raises(BadFile, match="too many parts"):
        rebuild_module({"$module": "torch.Sequential", "args": {}, "children": parts}, {})


def nested(levels):
    """A container of two containers that are one, and so on."""
    node = {"$module": "torch.ReLU", "args": {}}
    for level in reversed(range(levels)):
        same = {"$same": ".".join(["0"] * (level + 1))}
        node = {"$module": "torch.Sequential", "args": {}, "children": {"0": node, "1": same}}
    return node


def test_a_part_at_two_places_counts_twice_so_few_bytes_do_not_unfold_to_many_parts():
    model = rebuild_module(nested(10))
    assert sum(1 for _ in model.named_modules(remove_duplicate=False)) == 2**11 - 1
    with pytest.raises(BadFile, match="too many parts"):
        rebuild_module(nested(40))


@pytest.mark.parametrize("path", ["", "0", "0.0", "1"])
def test_a_part_cannot_hold_itself_nor_one_that_comes_later(path):
    inner = {"$module": "torch.Sequential", "args": {}, "children": {"0": {"$same": path}}}
    other = {"$module": "torch.ReLU", "args": {}}
    with pytest.raises(BadFile):
        rebuild_module({"$module": "torch.Sequential", "args": {}, "children": {"0": inner, "1": other}})


def test_parts_that_are_arguments_count_too():
    part = {"$module": "torch.ReLU", "args": {}}
    node = {"$module": "Cat", "args": {"layers": [part] * 30}}
    assert len(list(rebuild_module(node).modules())) == 31
    many = {"$module": "torch.Sequential", "args": {}, "children": {str(i): node for i in range(1000)}}
    with pytest.raises(BadFile, match="too many parts"):
        rebuild_module(many)


def test_a_part_at_two_places_of_an_argument_stays_one():
    act = nn.ReLU()
    again = rebuild_module(describe_module(nn.Sequential(nn.Flatten(), Cat([nn.Sequential(act, act)]))))
    assert again[1][0][0] is again[1][0][1]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("model"),
        lambda m: m.update(model="os.system"),
        lambda m: m["model"].update({"0.weight": [1.0]}),
        lambda m: m["model"].update({"0.weight": {"$tensor": "nothing"}}),
        lambda m: m.update(opt=[1]),
        lambda m: m["opt"].update(state=3),
        lambda m: m["opt"]["param_groups"][0].update(params=[{}]),
        lambda m: m["opt"].update(param_groups={}),
    ],
)
def test_weights_that_are_refused_change_neither_model_nor_optimizer(tmp_path, change):
    def learner():
        data = [(torch.rand(2), torch.rand(1)) for _ in range(4)]
        dls = DataLoaders.from_dsets(data, data, bs=2, device="cpu")
        return Learner(dls, nn.Sequential(nn.Linear(2, 1)), nn.MSELoss(), path=tmp_path)

    learn, other = learner(), learner()
    for one in (learn, other):
        with one.no_bar(), one.no_logging():
            one.fit(1)
    tensors = {}
    manifest = {part: encode_tree(getattr(learn, part).state_dict(), tensors, part) for part in ("model", "opt")}
    change(manifest)
    write_archive(tmp_path / "bad.layered", manifest, tensors)
    before = repr((other.model.state_dict(), other.opt.state_dict()))
    with pytest.raises((BadFile, CannotRestore)):
        other.load(tmp_path / "bad.layered")
    assert repr((other.model.state_dict(), other.opt.state_dict())) == before


def test_an_entry_with_too_long_a_name_is_a_damaged_archive(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x" * 300))
    with pytest.raises(BadFile):
        unpack_archive(tmp_path / "a.tar", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("program", [b"(" * 100_000, b"\x8f" * 500_000], ids=["open marks", "empty sets"])
def test_pickles_of_many_empty_things_are_refused_before_they_are_large(program):
    with pytest.raises(LayeredError, match=r"nested too deep|too much"):
        read_pickle(io.BytesIO(b"\x80\x04(" + program + b"l."), {}, "the file")
