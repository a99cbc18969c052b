"""Paths that no disk takes are errors of the library, whoever is given them."""

import pytest

from layered.cli.main import main
from layered.data import FileSplitter, get_image_files, read_csv
from layered.files import load_pickle, save_pickle
from layered.foundation import LayeredError
from layered.testing.tiny import synth_learner
from layered.vision.all import (
    CSVLogger,
    ImageDataLoaders,
    JSONLogger,
    PILImage,
    RunRecord,
    create_vision_model,
    load_learner,
    read_record,
    resnet18,
)

GIVEN = {
    "read_record": lambda learn, path: read_record(path),
    "get_image_files": lambda learn, path: get_image_files(path),
    "ImageDataLoaders": lambda learn, path: ImageDataLoaders.from_folder(path),
    "PILImage": lambda learn, path: PILImage.create(path),
    "read_csv": lambda learn, path: read_csv(path),
    "FileSplitter": lambda learn, path: FileSplitter(path),
    "load_pickle": lambda learn, path: load_pickle(path),
    "save_pickle": lambda learn, path: save_pickle(path, [1]),
    "load_learner": lambda learn, path: load_learner(path),
    "load": lambda learn, path: learn.load(path),
    "save": lambda learn, path: learn.save(path),
    "export": lambda learn, path: learn.export(path),
    "get_preds": lambda learn, path: learn.get_preds(save_preds=path),
    "weights": lambda learn, path: create_vision_model(resnet18, 2, weights=str(path)),
    "resume": lambda learn, path: learn.fit(1, resume=path),
    "checkpoint": lambda learn, path: learn.fit(1, checkpoint=path),
    "RunRecord": lambda learn, path: learn.fit(1, cbs=RunRecord(path)),
    "CSVLogger": lambda learn, path: learn.fit(1, cbs=CSVLogger(path)),
    "JSONLogger": lambda learn, path: learn.fit(1, cbs=JSONLogger(path)),
}


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x" * 5000], ids=["NUL", "long name", "long path"])
@pytest.mark.parametrize("reader", GIVEN)
def test_they_are_refused_by_name(reader, name, tmp_path):
    learn = synth_learner(path=tmp_path)
    with learn.no_bar(), learn.no_logging(), pytest.raises(LayeredError):
        GIVEN[reader](learn, tmp_path / name)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000], ids=["NUL", "long"])
@pytest.mark.parametrize("command", ["predict PATH x", "runs PATH", "train vision PATH", "train tabular PATH"])
def test_the_command_line_refuses_them(command, name, tmp_path, capsys):
    words = [str(tmp_path / name) if word == "PATH" else word for word in command.split()]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("layered: ")
