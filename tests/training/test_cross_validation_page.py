"""The page on cross-validation runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/cross_validation.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    mean, half = names["cv"].interval("accuracy")
    assert mean > 0.9
    assert 0 < half < 0.1
    assert names["path"].exists()
