"""The command and the server give no class where the model is not sure, and say so."""

import json

import pytest
import torch
from sklearn.datasets import load_wine

from layered.cli.main import main
from layered.foundation import BadFile
from layered.nn import Calibration
from layered.serve.answers import Answers
from layered.serve.questions import Question
from layered.tabular.all import CategoryBlock, TabularDataLoaders, tabular_learner


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """An export that abstains below 0.9, the table it knows, and its learner."""
    folder = tmp_path_factory.mktemp("wine")
    table = load_wine(as_frame=True).frame[["alcohol", "hue", "target"]]
    dls = TabularDataLoaders.from_df(table, y_names="target", y_block=CategoryBlock(), bs=16, seed=0)
    learn = tabular_learner(dls, seed=0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(10, 1e-2)
    learn.calibrate(abstain=0.9)
    table.to_csv(folder / "wine.csv", index=False)
    return learn, learn.export(folder / "wine"), folder / "wine.csv"


def test_the_command_says_where_it_is_not_sure(wine, capsys):
    _, model, table = wine
    assert main(["predict", str(model), str(table)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {(float(sure) < 0.9) == (said == "(not sure)") for _, said, sure in lines} == {True}
    assert {said == "(not sure)" for _, said, _ in lines} == {True, False}
    assert main(["predict", str(model), str(table), "--json", "--abstain", "1"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["prediction"] is None
    assert main(["predict", str(model), str(table), "--abstain", "0"]) == 0
    assert "not sure" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["predict", str(model), str(table), "--abstain", "80"])


def test_the_server_answers_with_null(wine):
    learn, _, _ = wine
    rows = load_wine(as_frame=True).frame[["alcohol", "hue"]].to_dict("records")[:40]
    answers = Answers(learn).of_questions([Question(row) for row in rows])
    assert {(max(o["probabilities"].values()) < 0.9) == (o["prediction"] is None) for o in answers} == {True}


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"of": "pixels"},
        {"count": 3},
        {"abstain": 0},
        {"ece": [1.0]},
        {"unknown": 1},
    ],
    ids=repr,
)
def test_a_file_cannot_describe_an_impossible_calibration(wine, change):
    found = wine[0].calibration
    node = found.described()
    assert str(Calibration.from_described(node, found.scores, found.ranks)) == str(found)
    with pytest.raises(BadFile):
        Calibration.from_described({**node, **change}, found.scores, found.ranks)
    with pytest.raises(BadFile):
        Calibration.from_described(node, found.scores * torch.nan, found.ranks)
