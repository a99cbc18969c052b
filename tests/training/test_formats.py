"""Files of every format that was ever written load, and give what they gave."""

import json
from pathlib import Path

import pytest
import torch
from fixtures.write_fixtures import build, predictions
from safetensors import safe_open

from layered.basics import load_learner
from layered.files import read_archive
from layered.files.archive import FORMAT

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = sorted(FIXTURES.glob("format_*"))


def near(folder):
    expected = json.loads((folder / "predictions.json").read_text())
    return {item: pytest.approx(p, abs=1e-6) for item, p in expected.items()}


def test_the_present_format_has_its_fixtures():
    assert {file.name for file in (FIXTURES / f"format_{FORMAT}").iterdir()} == {
        "checkpoint.layered",
        "export.layered",
        "predictions.json",
        "weights.layered",
    }


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_an_export_predicts_what_it_predicted_when_it_was_written(folder):
    learn = load_learner(folder / "export.layered")
    assert predictions(learn) == near(folder)
    assert list(learn.dls.vocab) == ["even", "odd"]


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_saved_weights_load_and_predict_the_same(folder):
    learn = build()
    learn.load(folder / "weights")
    assert predictions(learn) == near(folder)


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_a_run_goes_on_from_its_checkpoint(folder):
    learn = build()
    learn.fit(1, 0.01, resume=folder / "checkpoint.layered")
    assert predictions(learn) == near(folder)


@pytest.mark.parametrize(
    "file", sorted(FIXTURES.glob("*/*.layered")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_other_readers_of_safetensors_see_the_same_tensors(file):
    ours = read_archive(file).tensors
    with safe_open(file, "pt") as theirs:
        assert set(theirs.keys()) <= set(ours)
        assert all(torch.equal(theirs.get_tensor(name), ours[name]) for name in theirs.keys())  # noqa: SIM118
