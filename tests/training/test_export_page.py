"""The page on other runtimes runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/export.md"


@pytest.mark.usefixtures("known_operators")
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert names["decision"] == 0
    assert names["predictions"].shape == (5, 3)
    assert set(names["about"]["checked"]) == {"items", "batches", "tolerance", "largest_difference"}
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "wine.onnx", "wine.pt2", "wine_predict.py", "wine_small.onnx", "wine_small_predict.py",
    ]  # fmt: skip
