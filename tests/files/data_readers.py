"""What the library reads that others write: sound files of each kind, and how each is read."""

import json
import shutil

import pandas as pd
from data_mutants import picture
from PIL import Image

from layered.callback import CSVLogger, JSONLogger, RunRecord, read_record
from layered.catalog.entries import _read_entry, index_folder
from layered.foundation import LayeredError
from layered.loop.resume import lock
from layered.tabular.all import TabularDataLoaders, read_table
from layered.testing.tiny import synth_learner
from layered.vision.all import ImageDataLoaders
from layered.vision.jpeg import Jpeg
from layered.vision.reading import load_image, load_mask


def good_data(folder):
    """The bytes of a sound file of every kind."""
    learn = synth_learner(path=folder)
    with learn.no_bar(), learn.no_logging():
        learn.fit(
            2, cbs=[RunRecord(folder / "run"), CSVLogger("log.csv"), JSONLogger("log.jsonl")], checkpoint=folder / "c"
        )
    for name in (" manifest", " events"):
        shutil.copytree(folder / "run", folder / f"mutant{name}", dirs_exist_ok=True)
    table = pd.DataFrame(
        {"job": list("abcb") * 5, "age": [1.0, 2.0, None, 4.0] * 5, "day": "2020-01-05", "paid": list("ynyn") * 5}
    )
    names = sorted(str(file.relative_to(folder)) for file in (folder / "pictures").rglob("*.png"))
    owner = {"host": "elsewhere", "process": 1, "start": "x"}
    return {
        "picture": picture("PNG"),
        "table": table.to_csv(index=False).encode(),
        "labels of pictures": pd.DataFrame({"name": names, "label": ["a", "b", "a"] * 3}).to_csv(index=False).encode(),
        "events of a run": (folder / "run" / "events.jsonl").read_bytes(),
        "manifest of a run": (folder / "run" / "run.json").read_bytes(),
        "lock of a folder": json.dumps(owner | {"host": lock._process()["host"], "process": 2**30}).encode(),
        "log of a fit in lines": (folder / "log.jsonl").read_bytes(),
        "log of a fit in columns": (folder / "log.csv").read_bytes(),
        "entry of the index": (index_folder() / "imagenette.toml").read_bytes(),
    }  # fmt: skip


def read_picture(file):
    jpeg = Jpeg.opened(file)
    if jpeg is not None:
        jpeg.pixels()
        jpeg.resized((4, 4), Image.Resampling.BILINEAR, (0, 0, *jpeg.size), 2.0, "RGB")
    errors = []
    for read in (load_mask, lambda file: load_image(file, "RGB")):
        try:
            read(file)
        except LayeredError as error:
            errors.append(error)
    if errors:
        raise errors[-1]


def read_and_load(file):
    frame = read_table(file)
    TabularDataLoaders.from_df(frame, y_names=frame.columns[-1], bs=4, num_workers=0)


def read_labelled(file):
    ImageDataLoaders.from_csv(file.parent, csv_fname=file.name, bs=2, num_workers=0)


def read_run(file):
    record = read_record(file.parent)
    str(record), record.epochs, record._repr_html_()


def take(file):
    lock.WRITTEN_WITHIN = lock.LEASE = 0
    with lock.locked([file.parent]):
        pass


def go_on_with(kind):
    def read(file):
        learn, logger = synth_learner(path=file.parent), kind(file, append=True)
        logger.is_restored = True  # as after a resumed fit
        logger.read_log()
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, cbs=logger)

    return read


DATA_READERS = {
    "picture": (read_picture, ""),
    "table": (read_and_load, ".csv"),
    "labels of pictures": (read_labelled, ".csv"),
    "events of a run": (read_run, " events/events.jsonl"),
    "manifest of a run": (read_run, " manifest/run.json"),
    "lock of a folder": (take, f" lock/{lock.LOCK}"),
    "log of a fit in lines": (go_on_with(JSONLogger), ".jsonl"),
    "log of a fit in columns": (go_on_with(CSVLogger), ".log"),
    "entry of the index": (_read_entry, ".toml"),
}
WRITE_THERE = ("lock of a folder", "log of a fit in lines", "log of a fit in columns")
