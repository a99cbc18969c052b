"""What shows something shows it once: each verb is run as the last line of a notebook's cell, and its outputs are counted."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
import torch, warnings
import pandas as pd
from layered.vision.all import *
from layered.tabular.all import *
warnings.simplefilter("ignore")

torch.manual_seed(0)
pixels = torch.rand(24, 3, 16, 16)
items = list(range(24))

def picture(i):
    return PILImage.create((pixels[i].permute(1, 2, 0) * 255).byte().numpy())

block = DataBlock((ImageBlock, CategoryBlock), get_x=picture, get_y=lambda i: "ab"[i % 2], splitter=IndexSplitter(items[16:]))
dls = block.dataloaders(items, bs=8, num_workers=0)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
learn = Learner(dls, model, CrossEntropyLossFlat(), metrics=accuracy, lr=1e-2)
with learn.no_bar(), learn.no_logging():
    learn.fit_one_cycle(1)
interp = ClassificationInterpretation.from_learner(learn)

table = pd.DataFrame({"a": range(20), "b": list("xy") * 10, "c": [0.0, 1.0] * 10})
splits = list(range(16)), list(range(16, 20))
to = TabularPandas(table, [Categorify, Normalize], ["b"], ["a"], "c", RegressionBlock(), splits=splits)
rows = to.dataloaders(4)
table_learn = tabular_learner(rows, layers=[4])
numbers = RegressionInterpretation.from_learner(table_learn)
"""

FIGURES = [
    "dls.show_batch(max_n=4)",
    "dls.valid.show_batch(max_n=4)",
    "learn.show_results(max_n=4)",
    "learn.show_grad_cam(picture(0), layer=model[0])",
    "interp.plot_top_losses(4)",
    "interp.show_results([0, 1])",
    "interp.plot_confusion_matrix()",
    "numbers.plot_residuals()",
    "learn.recorder.plot_loss()",
    "learn.recorder.plot_metrics()",
    "learn.recorder.plot_sched()",
    "learn.profile(2, 0).plot()",
    "show_images(list(pixels[:2]))",
    "show_image_batch(dls.one_batch(), items=4, cols=2)",
]
TABLES = ["rows.show_batch()", "table_learn.show_results()", "numbers.plot_top_losses(2)", "to.show(3)"]
TEXTS = ["learn.show_training_loop()", "interp.print_classification_report()", "block.summary(items)"]
VALUES = [
    "interp.most_confused()",
    "learn",
    "dls",
    "block",
    "interp",
    "URLs",
    "to",
    "learn.predict(picture(0))",
    "learn.validate()",
]
REPORTS = ["learn.summary()", "dls.check()", "rows.check()", "learn.doctor()", "learn.profile(2, 0)"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of every cell, by the cell's text."""
    folder = tmp_path_factory.mktemp("cells")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    texts = [SETUP, *FIGURES, *TABLES, *TEXTS, *VALUES, *REPORTS, "learn.lr_find()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    try:
        NotebookClient(
            notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": str(folder)}}
        ).execute()
    finally:
        monkeypatch.undo()
    assert notebook.cells[0].outputs == []
    return {cell.source: [o for o in cell.outputs if not was_a_bar(o)] for cell in notebook.cells}


def was_a_bar(output):
    """Whether nothing is left of an output: a bar over batches empties its own at the end."""
    return output.get("data", {}).get("text/html") == ""


def kinds(outputs):
    """Each output as the kinds of data that it offers; a notebook shows the best of these."""
    return [{"stream"} if o.output_type == "stream" else {*o.get("data", {"error": o.get("evalue")})} for o in outputs]


@pytest.mark.parametrize("text", FIGURES)
def test_a_figure_is_shown_once_and_nothing_else(outputs, text):
    (shown,) = kinds(outputs[text])
    assert shown == {"image/png", "text/plain"}
    assert outputs[text][0].output_type == "display_data"


@pytest.mark.parametrize("text", TABLES)
def test_a_table_is_shown_once_and_nothing_else(outputs, text):
    (shown,) = kinds(outputs[text])
    assert "text/html" in shown


@pytest.mark.parametrize("text", TEXTS)
def test_what_prints_returns_nothing(outputs, text):
    assert kinds(outputs[text]) == [{"stream"}]


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_shown_once_and_says_what_it_is(outputs, text):
    (shown,) = outputs[text]
    assert shown.output_type == "execute_result"
    assert " object at 0x" not in shown.data["text/plain"]


@pytest.mark.parametrize("text", REPORTS)
def test_a_report_is_one_table_in_html_and_prints_nothing(outputs, text):
    (shown,) = outputs[text]
    assert shown.output_type == "execute_result"
    assert shown.data.keys() == {"text/plain", "text/html"}


def test_the_rate_finder_draws_its_curve_and_gives_the_rates(outputs):
    shown = [kind for kind in kinds(outputs["learn.lr_find()"]) if "stream" not in kind]
    assert shown == [{"text/plain"}, {"image/png", "text/plain"}] or shown[::-1] == [
        {"text/plain"},
        {"image/png", "text/plain"},
    ]
