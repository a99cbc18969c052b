"""One report: the same rows as text, as HTML and as a frame, whatever made it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import layered.basics
from layered.callback import RunRecord, read_record
from layered.data import DataLoaders
from layered.foundation import Finding, Report, facts_html, facts_text, html_table
from layered.insight.confusion import PixelScores
from layered.nn import module_summary
from layered.testing.tiny import synth_learner


def a_check():
    x = torch.arange(12.0).reshape(6, 2)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    return DataLoaders.from_dsets(TensorDataset(x[:4], y[:4]), TensorDataset(x[3:], y[3:]), bs=2).check(show=False)


def a_record(folder):
    learn = synth_learner()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=RunRecord(folder))
    return read_record(folder)


def a_restored(folder):
    for _ in range(2):
        learn = synth_learner()
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, checkpoint=folder, resume="auto")
    return learn.restored


def a_trace():
    learn = synth_learner()
    with learn.no_bar(), learn.no_logging(), learn.trace() as trace:
        learn.fit(1)
    return trace


REPORTS = {
    "check": lambda _: a_check(),
    "summary": lambda _: module_summary(nn.Linear(2, 3), torch.zeros(1, 2)),
    "doctor": lambda _: synth_learner().doctor(["gradients"]),
    "profile": lambda _: synth_learner().profile(2, 0),
    "scores": lambda _: PixelScores(torch.eye(2).long().numpy(), ["a", "b"]),
    "record": a_record,
    "restored": a_restored,
    "trace": lambda _: a_trace(),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_text_html_and_a_frame(name, tmp_path):
    report = REPORTS[name](tmp_path)
    assert isinstance(report, Report)
    assert repr(report) == str(report)
    assert len(repr(report).splitlines()) > 2
    assert len(report.to_frame()) == len(report.records()) > 0
    html = report._repr_html_()
    assert html.count("<table>") == html.count("</table>") == len(report.tables())
    for header, rows in report.tables():
        for cell in (*header, *(cell for row in rows for cell in row)):
            assert str(cell).strip() in repr(report)


def test_html_is_escaped():
    class Loud(Report):
        def records(self):
            return [{"<b>": "<i>"}]

        def heading(self):
            return "<h1>"

        def notes(self):
            return ["<pre>"]

    html = Loud()._repr_html_()
    assert not [tag for tag in ("<b>", "<i>", "<h1>") if tag in html]
    assert html.count("<pre>") == 1


def test_there_is_one_finding():
    findings = [*a_check().findings, *synth_learner().doctor(["gradients"]).findings]
    assert len(findings) == 2
    assert all(type(finding) is layered.basics.Finding is Finding for finding in findings)


def test_a_finding_that_is_not_ok_is_a_warning_unless_it_says_more():
    assert Finding("a", True, "seen").level == "fine"
    assert Finding("a", False, "seen").level == "warning"
    assert Finding("a", False, "seen", level="error").level == "error"
    assert Finding("a", True, "seen").what == "seen"


def test_words_of_others_do_not_act_in_reports_and_facts():
    word = "<b>\x1b[2J\u202e"
    shown = [facts_text(word, {word: word}), facts_html(word, {word: word}), html_table([[word]], header=True)]
    for text in shown:
        assert not {"\x1b", "\u202e"} & set(text)
    assert all("<b>" not in text for text in shown[1:])
