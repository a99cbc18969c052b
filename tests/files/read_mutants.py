"""Reads `count` mutants from `first` on in a folder, watched; prints what was read and refused, and all that went wrong.

    python tests/files/read_mutants.py FOLDER FIRST COUNT [KIND]

A fault names its mutant's number: the same command with that number and a count of 1 makes the file again, and leaves it
in the folder as `mutant`. With a kind, these alone.
"""

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import data_mutants
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from data_readers import DATA_READERS, WRITE_THERE, good_data
from mutants import CHANGES, mutant
from PIL import Image
from text_readers import TEXT_CHANGES, good_texts, text_readers
from torch import nn

from layered.catalog.unpack import unpack
from layered.files import read_archive, read_digest, read_weights, state_dict_of, write_archive
from layered.files.torch_files import read_vocab
from layered.foundation import LayeredError
from layered.loop.resume.parts import part_file
from layered.tabular.all import Categorify, Checkpoint, FillMissing, TabularDataLoaders, tabular_learner
from layered.vision.all import (
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomErasing,
    Resize,
    create_vision_model,
    load_learner,
)

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format_1" / "export.layered"
MEMORY = 128 * 2**20  # bytes that one file may take beyond four times its own
PIXELS = 2**30  # as MEMORY, for a picture: those of twice PIL's limit take 700 MiB
SECONDS = 4  # of the processor that one file may take


def net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def pictures(folder):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 8, 8, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        place = folder / "abc"[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.png")
    tfms = {"item_tfms": Resize(8), "batch_tfms": [Normalize(), RandomErasing()]}
    return ImageDataLoaders.from_folder(folder, valid_pct=0.3, seed=0, bs=2, num_workers=0, device="cpu", **tfms)


def tabular_learner_of_people():
    df = pd.DataFrame({"job": list("abcb") * 5, "age": [1.0, 2.0, None, 4.0] * 5, "paid": list("ynyn") * 5})
    procs = [Categorify, FillMissing]
    dls = TabularDataLoaders.from_df(
        df, procs=procs, cat_names=["job"], cont_names=["age"], y_names="paid", bs=4, device="cpu"
    )
    return tabular_learner(dls, [4])


def good_files(folder):
    """The bytes of a sound file of every kind, and learners of the kinds that they came from."""
    torch.manual_seed(0)
    learn = Learner(pictures(folder / "pictures"), net(), path=folder)
    tables = tabular_learner_of_people()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, checkpoint=Checkpoint(folder / "fit", every="1 batches", keep=9))
    checkpoints = sorted((folder / "fit").glob("*.layered"))
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.bool)}
    whole = {"model": weights, "opt": {"lr": np.float64(0.1)}}
    zipped, legacy, data, tar, tgz = (io.BytesIO() for _ in range(5))
    torch.save(whole, zipped)
    torch.save(whole, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"set/{i}.txt", f"{i}" * 50)
    for file, mode in ((tar, "w"), (tgz, "w:gz")):
        with tarfile.open(fileobj=file, mode=mode) as archive:
            archive.add(folder / "pictures", "set")
    split = in_parts(checkpoints[1], folder / "split.layered", folder / "mutant.layered")
    res = {
        "vision export": learn.export(folder / "vision.layered").read_bytes(),
        "tabular export": tables.export(folder / "tabular.layered").read_bytes(),
        "export of format 1": FORMAT_1.read_bytes(),
        "checkpoint": checkpoints[1].read_bytes(),
        "checkpoint in parts": split,
        "weights": learn.save(folder / "weights").read_bytes(),
        "zip weights": zipped.getvalue(),
        "legacy weights": legacy.getvalue(),
        "safetensors": safetensors.torch.save(weights),
        "pickled words": pickle.dumps(["a", "b", "c"] * 5),
        "JSON words": json.dumps(["a", "é", "c"] * 5).encode(),
        "zip of data": data.getvalue(),
        "tar of data": tar.getvalue(),
        "tgz of data": tgz.getvalue(),
    }
    reader_of_texts, texts = good_texts(folder)
    return learn, reader_of_texts, res | good_data(folder) | texts


def in_parts(checkpoint, split, name):
    """The bytes of a checkpoint whose model lies in two parts beside the file `name`, as those of two processes do."""
    archive = read_archive(checkpoint, kind="checkpoint")
    model = {k: x for k, x in archive.tensors.items() if k.startswith("state.model.") and x.ndim and len(x) > 1}
    halves = [{k: x[: len(x) // 2] for k, x in model.items()}, {k: x[len(x) // 2 :] for k, x in model.items()}]
    hashes = []
    for rank, half in enumerate(halves):
        write_archive(part_file(name, rank, 2), {}, half, kind="checkpoint")
        hashes.append(read_digest(part_file(name, rank, 2)))
    listed = {"hashes": hashes, "shapes": {k: [*x.shape] for k, x in model.items()}}
    rest = {k: x for k, x in archive.tensors.items() if k not in model}
    write_archive(split, archive.manifest | {"parts": listed}, rest, kind="checkpoint")
    return split.read_bytes()


def unpack_bounded(file):
    unpack(file, file.with_name("unpacked"), max_files=1000, max_bytes=2**23)


def resume(make):
    def read(file):
        learn = make()  # a new one: a learner that has gone on from a file looks at no other of the same fit
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, resume=str(file))

    return read


def read_state(file):
    return state_dict_of(read_weights(file))


def readers_of(learn, reader_of_texts):
    return {
        "vision export": (load_learner, ".layered"),
        "tabular export": (load_learner, ".layered"),
        "export of format 1": (load_learner, ".layered"),
        "checkpoint": (resume(lambda: Learner(learn.dls, net(), path=learn.path)), ".layered"),
        "checkpoint in parts": (resume(lambda: Learner(learn.dls, net(), path=learn.path)), ".layered"),
        "weights": (learn.load, ".layered"),
        "zip weights": (read_state, ".pth"),
        "legacy weights": (read_state, ".pth"),
        "safetensors": (read_state, ".safetensors"),
        "pickled words": (read_vocab, ".pkl"),
        "JSON words": (read_vocab, ".json"),
        "zip of data": (unpack_bounded, ""),
        "tar of data": (unpack_bounded, ""),
        "tgz of data": (unpack_bounded, ""),
        **DATA_READERS,
        **text_readers(reader_of_texts),
    }


def status(field):
    return int(re.search(rf"{field}:\D+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


WATCHED = re.compile(
    "import$|exec$|compile$|open$|os[.]|subprocess|socket|urllib|pickle|ctypes[.]dlopen|shutil|marshal|tempfile"
)
# of our own functions: a transform made of one looks at their types
ANNOTATIONS = {"ImageSource", "TensorText", "Self", "str", "str | os.PathLike[str]", "os", "PathLike"}


def allowed(folder, kind, event, arguments):
    """Whether an event is reading our own file or folder, writing what is unpacked, or reading our own annotations."""
    what = arguments[0] if arguments else None
    if event == "compile":
        return isinstance(what, bytes) and what.decode() in ANNOTATIONS
    if event == "exec":
        return set(what.co_names) <= ANNOTATIONS
    if kind in WRITE_THERE:  # a lock asks whether its process lives
        there = isinstance(what, int) or str(what).startswith("/proc/") or Path(folder, what).is_relative_to(folder)
        return event in ("open", "os.kill", "os.rename", "os.remove", "os.mkdir", "os.utime", "os.chmod") and there
    if not isinstance(what, (str, os.PathLike)):
        return event in ("os.listdir", "os.scandir")
    if kind.endswith("of data"):  # what was unpacked is removed by single names below an open folder
        return Path(folder, what).resolve().is_relative_to(folder) or event == "shutil.rmtree"
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    return event in ("open", "os.listdir", "os.scandir") and not written and str(what).startswith(str(folder))


class TooSlow(BaseException):
    """The time for one file is over."""


def alarm(*_):
    raise TooSlow


def main(folder, first, count, kinds=""):
    learn, reader_of_texts, good = good_files(folder)
    readers = readers_of(learn, reader_of_texts)
    create_vision_model("resnet18", 2, pretrained=False)  # timm is there from now on
    repr(torch.ones(1))  # and what torch imports to print tensors
    Image.init()
    seen, watching = [], []

    def watch(event, arguments):
        if watching and WATCHED.match(event) and not allowed(folder, watching[0], event, arguments):
            seen.append(f"{event} {arguments!r:.200}")

    def tried(kind, raw):
        read, suffix = readers[kind]
        file = folder / f"mutant{suffix}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(raw)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
        before = status("VmRSS")
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        watching.append(kind)
        try:
            read(file)
            outcome = "read"
        except LayeredError as error:
            outcome = "refused" if str(error) else "a message without words"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error!s:.300}"
        finally:
            watching.clear()
            signal.setitimer(signal.ITIMER_PROF, 0)
        grown = status("VmHWM") - before
        if grown > (PIXELS if kind == "picture" else MEMORY) + 4 * len(raw):
            outcome = f"{grown >> 20} MiB for {len(raw)} bytes, {outcome}"
        if seen:
            outcome = f"{seen}"
            seen.clear()
        left = folder / "unpacked"
        if left.exists():
            shutil.rmtree(left)
        return outcome

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, alarm)
    room = status("VmSize") + 2**31
    for kind, raw in good.items():
        outcome = tried(kind, raw)
        if outcome != "read":
            print(json.dumps({"fault": outcome, "kind": kind, "change": "none", "number": None}), flush=True)
    seen.clear()
    sys.addaudithook(watch)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    weights = {name: x.clone() for name, x in learn.model.state_dict().items()}
    counts = {"read": 0, "refused": 0, "locks": 0}
    changes = {
        kind: made for kind, made in (CHANGES | data_mutants.CHANGES | TEXT_CHANGES).items() if kinds in ("", kind)
    }
    for n in range(first, first + count):
        kind, change, raw = mutant(good, changes, n)
        print(f"{n} {kind}: {change}", file=sys.stderr, flush=True)
        outcome = tried(kind, raw)
        if kind == "weights" and outcome == "refused":
            changed = any(not torch.equal(x, weights[name]) for name, x in learn.model.state_dict().items())
            outcome = "a refused file changed the model" if changed else outcome
        weights = {name: x.clone() for name, x in learn.model.state_dict().items()}
        if kind == "lock of a folder" and outcome == "read":  # whatever it holds, its owner is dead
            counts["locks"] += 1
        elif outcome in counts:
            counts[outcome] += 1
        else:
            print(json.dumps({"fault": outcome, "kind": kind, "change": change, "number": n}), flush=True)
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
