"""The page on estimators runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/sklearn.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert names["scores"]["test_accuracy"].mean() > 0.9
    assert names["search"].best_score_ > 0.9
    assert names["net"].score(names["X"].astype("float32"), names["y"]) > 0.8
