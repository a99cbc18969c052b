"""The page on serving runs as it stands, and so does the script for Gradio, which is not installed here, with a stand-in."""

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "serving.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["one"]["prediction"] == "large"
    assert sum(names["one"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert len(names["many"]["predictions"]) == 2


def test_the_script_for_gradio_classifies_a_file(models, pictures, monkeypatch):
    stand_in = SimpleNamespace(
        Interface=lambda classify, *parts, title: classify, Image=lambda type: None, Label=lambda **_: None
    )
    monkeypatch.setitem(sys.modules, "gradio", stand_in)
    monkeypatch.setattr(sys, "argv", ["gradio_app.py", str(models["image"])])
    classify = runpy.run_path(str(DOCS / "gradio_app.py"))["page"]
    found = classify(str(pictures / "red" / "red_0.png"))
    assert list(found) == ["blue", "green", "red"]
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
