"""A script under `torchrun` leaves in each process what it leaves when it runs alone with batches twice as large."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree

import pytest
import torch
from torch import distributed
from torch.testing import assert_close

from layered.files import read_archive
from layered.foundation import BadFile
from layered.loop import Resume
from layered.loop.resume.restoring import Saved

SCRIPT = Path(__file__).with_name("shared_script.py")
RECIPES = [
    "plain", "weighted", "ignored", "sum", "clip", "accumulation", "bf16", "mixed", "sharp", "average", "step", "unfrozen",
    "partly used",
]  # fmt: skip

ENGINES = ["clip", "accumulation", "bf16", "sharp", "step", "unfrozen", "partly used", "resumed", "recomputed"]
RECIPES += [f"{name}, {engine}" for engine in ("ddp", "fsdp") for name in ENGINES]
SHARDED = ["resumed in parts", "tied", "lamb", "larc", "ranger", "adagrad", "muon", "schedule-free, resumed"]
RECIPES += [f"{name}, fsdp" for name in SHARDED]

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not distributed.is_available(), reason="needs gloo")


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at = f"--master-addr=127.0.0.1 --master-port={port}".split()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *at]
    done = subprocess.run([*launcher, str(SCRIPT), str(folder), "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run([sys.executable, str(SCRIPT), str(folder), "1"], check=True, timeout=300)
    read = [json.loads((folder / name).read_text()) for name in ("0-of-2.json", "1-of-2.json", "0-of-1.json")]
    return *read, done.stdout, folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_fit_is_that_of_one_process(left, name):
    first, second, alone, *_ = left
    assert first[name] == second[name]
    bound = 2e-3 if name.startswith(("bf16", "muon")) else 2e-6  # 8 bits somewhere
    for part in ("weights", "losses", "preds", "all"):
        for got, wanted in zip(first[name][part], alone[name][part], strict=True):
            assert_close(torch.tensor(got), torch.tensor(wanted), rtol=0, atol=bound, msg=lambda m: f"{part}: {m}")
    assert first[name]["targets"] == alone[name]["targets"]


def test_every_recipe_was_run(left):
    assert sorted(left[2]) == sorted(RECIPES)


def test_one_line_says_that_processes_share_the_work(left):
    assert left[3].splitlines() == [
        "2 processes share each batch: bs counts the rows of each; the first one prints and writes"
    ]


@pytest.mark.parametrize("name", ["clip", "clip, ddp", "clip, fsdp", "step, fsdp", "tied, fsdp"])
def test_a_file_of_two_processes_is_like_that_of_one(left, name):
    of_two, of_one = (read_archive(left[4] / world / name / "models" / "kept.layered") for world in "21")
    assert of_two.manifest == of_one.manifest
    assert list(of_two.tensors) == list(of_one.tensors)
    for part, x in of_two.tensors.items():
        assert_close(x, of_one.tensors[part], rtol=0, atol=2e-6)


def test_a_part_that_is_missing_cut_short_or_of_another_checkpoint_is_refused_by_name(left, tmp_path):
    run = left[4] / "2" / "resumed in parts, fsdp" / "run"
    first, *_, last = sorted(run.glob("*.layered"))
    assert Saved(first, Resume()).processes == 2
    for place in (first, first.with_suffix(".parts")):
        (copytree if place.is_dir() else copy)(place, tmp_path / place.name)
    part, strange = (file.with_suffix(".parts") / "part-1-of-2.layered" for file in (tmp_path / first.name, last))
    part.write_bytes(strange.read_bytes())
    with pytest.raises(BadFile, match=r"part-1-of-2.layered' is a part of another checkpoint"):
        Saved(tmp_path / first.name, Resume())
    part.write_bytes(part.read_bytes()[:-4])
    with pytest.raises(BadFile, match=r"part-1-of-2.layered' is truncated"):
        Saved(tmp_path / first.name, Resume())
    part.unlink()
    with pytest.raises(BadFile, match=r"part-1-of-2.layered' is missing"):
        Saved(tmp_path / first.name, Resume())
