"""The page on models of other libraries runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/other_models.md"


def test_the_page_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert names["preds"].shape == (32, 2)
    assert names["learn"].recorder.history[-1]["val_loss"] < 0.6
    assert names["logits"].shape == (16, 2)
    assert names["molecules"].get_preds()[0].shape == (16, 2)
