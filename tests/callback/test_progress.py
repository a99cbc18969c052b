"""Bars where somebody looks on; one plain line an epoch where nobody does; nothing when asked."""

import io
import re
import sys

import pytest
import torch
from torch import nn

from layered.callback.progress import ProgressCallback
from layered.callback.rate_finder import lr_find
from layered.loop.callback import Callback
from layered.loop.loop import Loop


class Screen(io.StringIO):
    def isatty(self):
        return True


def learner() -> Loop:
    x = torch.ones(4, 2)
    batches = [(x, x.sum(1, keepdim=True))] * 5
    return Loop((batches, batches[:2]), nn.Linear(2, 1), nn.MSELoss(), cbs=ProgressCallback)


def test_where_nobody_looks_there_is_one_plain_line_an_epoch(capsys):
    learner().fit(3)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d{6}"
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        assert re.fullmatch(rf"epoch {epoch}  train_loss {number}  valid_loss {number}  time 00:0\d", line)


def test_on_a_terminal_there_is_a_bar_and_a_table(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    learner().fit(2)
    shown = screen.getvalue()
    assert re.search(r"epoch +train_loss +valid_loss +time", shown)
    assert "Epoch 2/2" in shown
    assert "100.00%" in shown


@pytest.mark.parametrize("screen", [io.StringIO, Screen])
def test_an_environment_variable_silences_it(monkeypatch, screen):
    monkeypatch.setattr(sys, "stdout", out := screen())
    monkeypatch.setenv("LAYERED_QUIET", "1")
    learner().fit(1)
    assert out.getvalue() == ""


def test_no_logging_validation_and_rate_finding_print_nothing(capsys):
    learn = learner()
    with learn.no_logging():
        learn.fit(1)
    learn.validate()
    lr_find(learn, show_plot=False)
    assert capsys.readouterr().out == ""


def test_without_a_bar_the_rows_are_still_logged(capsys):
    learn = learner()
    with learn.no_bar():
        learn.fit(1)
    assert capsys.readouterr().out.startswith("[0, ")


def test_after_an_error_the_next_fit_shows_as_usual(capsys):
    learn = learner()
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=Callback(after_batch=lambda cb: 1 / 0))
    assert learn.logger is print
    learn.fit(1)
    assert capsys.readouterr().out.count("\n") == 1
