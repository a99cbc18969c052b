"""Exported models of tables predict what the learner does, by codes and scores that a script makes of rows."""

import csv
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from layered.collab import CollabDataLoaders, collab_learner
from layered.tabular.all import Categorify, CategoryBlock, FillMissing, Normalize, TabularDataLoaders, tabular_learner
from layered.tabular.graph_inputs import prepare_rows, table_input

pytestmark = pytest.mark.usefixtures("known_operators")


def people(count=120):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "job": draw.choice(["cook", "clerk", "007", "7"], count),
            "grade": draw.choice([1, 2, 3], count),
            "share": draw.choice([0.25, 0.1, 3.0], count),
            "age": draw.normal(40, 12, count).round(1),
            "gain": draw.normal(1e6, 10, count),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame["rich"] = np.where(frame.gain + 5 * frame.grade > 1e6 + 10, "yes", "no")
    return frame


@pytest.fixture
def learn(tmp_path):
    torch.manual_seed(0)
    dls = TabularDataLoaders.from_df(
        people(), procs=[Categorify, FillMissing, Normalize], cat_names=["job", "grade", "share"], cont_names=["age", "gain"],
        y_names="rich", y_block=CategoryBlock(), valid_pct=0.4, seed=0, bs=16, device="cpu",
    )  # fmt: skip
    return tabular_learner(dls, [20], path=tmp_path)


ROWS = [
    {"job": "cook", "grade": 2, "share": 0.1, "age": 31.5, "gain": 1_000_003.0},
    {"job": "7", "grade": "2", "share": "0.25", "age": "", "gain": "1000003"},
    {"job": 7, "grade": 2.0, "share": 3, "age": None, "gain": 999_990},
    {"job": "pilot", "grade": 9, "share": float("nan"), "age": "much", "gain": 1e40},
]


def test_scripts_read_rows_as_learners_do(learn):
    given = table_input(learn, learn.dls.valid)
    made = prepare_rows(ROWS, json.loads(json.dumps(given.settings)))
    for i, row in enumerate(ROWS):
        codes, numbers = learn.dls.valid.dataset.test_set(pd.DataFrame([row], dtype=object)).tensors[:2]
        assert made["codes"][i].tolist() == codes[0].tolist()
        np.testing.assert_allclose(made["numbers"][i], numbers[0].numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="a row has no column grade, share;"):
        prepare_rows([{"job": "cook", "age": 31.5, "gain": 1.0}], given.settings)


def test_rows_are_predicted_by_onnxruntime(learn, tmp_path, capsys):
    file = learn.to_onnx("people")
    assert "equal to the learner's predictions on 48 items in batches of 1, 16" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file)
    about = json.loads(session.get_modelmeta().custom_metadata_map["layered"])
    rows = people().drop(columns="rich").to_dict("records")[:20]
    predictions, decisions = session.run(None, prepare_rows(rows, about["settings"]))
    for row, predicted, decision in zip(rows, predictions, decisions, strict=True):
        _, expected_decision, expected = learn.predict(pd.Series(row))
        np.testing.assert_allclose(predicted, expected.numpy(), atol=1e-5)
        assert decision == expected_decision
    with open(tmp_path / "rows.csv", "w", newline="") as lines:
        csv.DictWriter(lines, rows[0]).writerows([dict(zip(rows[0], rows[0], strict=True)), *rows])
    blocked = "import sys, runpy; sys.modules['torch'] = None; sys.argv.pop(0)"
    command = [sys.executable, "-c", f"{blocked}; runpy.run_path(sys.argv[0], run_name='__main__')"]
    done = subprocess.run([*command, "people_predict.py", "rows.csv"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [about["classes"][0][i] for i in decisions]


def test_ratings_and_numbers_alone_have_graphs(tmp_path):
    ratings = pd.DataFrame({"user": [1, 2, 3, 1] * 6, "film": list("abcdba") * 4, "stars": np.arange(24) % 5 + 0.5})
    dls = CollabDataLoaders.from_df(ratings, valid_pct=0.25, seed=0, bs=8, device="cpu")
    learn = collab_learner(dls, n_factors=4, y_range=(0, 5.5), path=tmp_path)
    x = torch.tensor([[1, 2], [3, 1], [0, 0]])
    module = torch.export.load(learn.to_exported("films")).module()
    torch.testing.assert_close(module(x)[0], learn.model(x))
    frame = people()[["gain", "grade", "age"]].fillna(0)
    dls = TabularDataLoaders.from_df(frame, cont_names=["gain", "grade"], y_names="age", seed=0, bs=16, device="cpu")
    assert tabular_learner(dls, [5], path=tmp_path).to_exported("numbers").exists()
