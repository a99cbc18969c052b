"""The pages on trackers and searches run as they stand; a stand-in plays the part of Ray, which is not installed here."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

DOCS = Path(__file__).parents[2] / "docs"
REPORTED = []


class Tuner:
    """Runs one trial, with the first choice of each parameter."""

    def __init__(self, trainable, param_space, tune_config):
        self.trainable, self.space = trainable, param_space

    def fit(self):
        self.trainable(self.space)
        return SimpleNamespace(get_best_result=lambda metric, mode: SimpleNamespace(config=self.space))


def stand_in():
    ray = ModuleType("ray")
    ray.tune = SimpleNamespace(
        Tuner=Tuner,
        TuneConfig=SimpleNamespace,
        choice=lambda values: values[0],
        loguniform=lambda low, high: high,
        report=REPORTED.append,
        schedulers=SimpleNamespace(ASHAScheduler=SimpleNamespace),
    )
    return ray


def run(page):
    names = {}
    for block in re.findall(r"```python.*?\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(block, names)
    return names


def test_the_page_on_searches_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    names = run("search.md")
    study = names["study"]
    assert len(study.trials) == 6
    assert study.best_value < 0.3
    assert names["search"].best_score_ > 0.9
    assert [row["epoch"] for row in REPORTED] == [0, 1, 2, 3]


def test_the_page_on_trackers_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("trackers.md")
    assert (tmp_path / "history.csv").exists()
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"layered", "breast-cancer"}
