"""Bars where somebody looks on; one plain line an epoch where nobody does; nothing when asked."""

import io
import re
import sys

import pytest
import torch
from torch import nn

from layered.callback import EarlyStoppingCallback, ProgressCallback, ShowGraphCallback, lr_find, overfit
from layered.loop import Callback, Loop


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


def test_a_terminal_shows_nothing_but_the_table_once_bars_are_gone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    learner().fit(2)
    lines = [line.rpartition("\r")[2] for line in screen.getvalue().split("\n")[:-1]]
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "time"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]
    assert all(len(line.split()) == 4 for line in lines)


def test_a_screen_that_cannot_show_blocks_gets_letters(monkeypatch):
    class Ascii(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Ascii(written := io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    learner().fit(1)
    sys.stdout.flush()
    assert b"XXX" in written.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_fits_the_terminal(monkeypatch, columns):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", str(columns))
    learner().fit(1)
    drawn = re.split(r"[\r\n]", screen.getvalue())
    assert any("100.00%" in line for line in drawn)
    assert all(len(line) < columns for line in drawn)


def test_an_error_leaves_the_bar_on_a_line_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    with pytest.raises(ZeroDivisionError):
        learner().fit(1, cbs=Callback(after_batch=lambda cb: 1 / 0))
    assert screen.getvalue().endswith("\n")


class Cell:
    """What a notebook would display, and a kernel's shell."""

    def __init__(self):
        self.shown = []
        self.shell = type("ZMQInteractiveShell", (), {})()

    def display(self, item, display_id=None):
        self.shown.append(item)
        return self

    def update(self, item):
        self.shown[-1] = item


@pytest.fixture
def cell(monkeypatch):
    import IPython

    cell = Cell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: cell.shell)
    monkeypatch.setattr("IPython.display.display", cell.display)
    return cell


def test_the_graph_has_both_losses_and_no_figure_is_left_open(capsys):
    import matplotlib.pyplot as plt

    learn = learner()
    learn.fit(3, cbs=(graph := ShowGraphCallback()))
    train, valid = graph.figure.axes[0].get_lines()
    assert train.get_ydata().tolist() == pytest.approx(learn.recorder.losses)
    assert valid.get_ydata().tolist() == pytest.approx([row[1] for row in learn.recorder.values])
    assert valid.get_xdata().tolist() == [5, 10, 15]
    assert plt.get_fignums() == []
    with learn.added_cbs(graph):
        learn.validate()
        lr_find(learn, show_plot=False)


def test_in_a_notebook_one_graph_is_replaced_in_place(cell, monkeypatch):
    from IPython.display import Image

    learn = learner()
    with learn.no_bar():
        learn.logger = lambda row: None
        learn.fit(3, cbs=ShowGraphCallback())
    assert [type(item) for item in cell.shown] == [Image]
    assert cell.shown[0].data.startswith(b"\x89PNG")
    cell.shown.clear()
    with learn.no_logging():
        learn.fit(1, cbs=ShowGraphCallback())
    assert cell.shown == []


def test_the_table_of_a_notebook_is_html_replaced_in_place(cell, capsys):
    from xml.etree import ElementTree

    learn = learner()
    learn.fit(2)
    assert capsys.readouterr().out == ""
    assert len(cell.shown) == 1
    table = ElementTree.fromstring(cell.shown[0].data)
    head, *rows = [[part.text for part in row] for row in table.iter("tr")]
    assert head == learn.recorder.metric_names
    assert [row[1:3] for row in rows] == [[f"{v:.6f}" for v in values] for values in learn.recorder.values]
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=Callback(after_batch=lambda cb: 1 / 0))
    assert "Interrupted" in cell.shown[1].data
    assert 'max="5"' in cell.shown[1].data


def test_the_graph_has_the_epoch_that_early_stopping_ends(capsys):
    learn = learner().add_cbs([ShowGraphCallback, EarlyStoppingCallback(min_delta=1e9)])
    learn.fit(5)
    valid = learn.show_graph.figure.axes[0].lines[1]
    assert len(valid.get_xdata()) == len(learn.recorder.values) == 2


def test_what_was_not_computed_is_left_empty(capsys, monkeypatch):
    learner().fit(2, valid_every=2)
    first, second = capsys.readouterr().out.splitlines()
    assert "valid_loss" not in first
    assert "valid_loss" in second
    assert "None" not in first + second


def test_the_search_for_a_rate_shows_a_bar_that_disappears(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    learn = learner()
    lr_find(learn, num_it=20, stop_div=False, show_plot=False)
    shown = screen.getvalue()
    assert "Finding a learning rate" in shown
    assert "100.00% [20/20" in shown
    assert "\n" not in shown
    assert shown.rpartition("\r")[0].rpartition("\r")[2].strip() in ("", "Finding a learning rate :")
    screen.truncate(0)
    with learn.no_bar():
        lr_find(learn, num_it=20, show_plot=False)
    with learn.no_logging():
        lr_find(learn, num_it=20, show_plot=False)
    assert screen.getvalue().strip("\x00") == ""


def test_a_row_in_the_middle_of_an_epoch_stands_on_a_line_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    learner().fit(1, valid_every="2 batches")
    lines = [line.rpartition("\r")[2] for line in screen.getvalue().split("\n")[:-1]]
    assert [len(line.split()) for line in lines] == [4, 4, 4, 3]
    assert [line.split()[0] for line in lines] == ["epoch", "0", "0", "0"]


def a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 0.0)
    return screen


def test_a_pass_outside_a_fit_shows_a_bar_that_disappears(monkeypatch):
    terminal = a_terminal(monkeypatch)
    learn = learner()
    assert learn.validate()
    assert "Validation" in terminal.getvalue()
    assert "100.00%" in terminal.getvalue()
    assert not terminal.getvalue().split("\r")[-1].strip()
    learn.fit(1)
    assert "Epoch 1/1" in terminal.getvalue()


def test_a_short_pass_shows_nothing(monkeypatch):
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr("layered.callback.progress.REDRAW_EVERY", 60.0)
    learner().validate()
    assert terminal.getvalue() == ""


def test_a_pass_shows_no_bar_where_bars_are_off_or_nobody_looks(monkeypatch):
    terminal = a_terminal(monkeypatch)
    learn = learner()
    with learn.no_bar():
        learn.validate()
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stdout", log := io.StringIO())
    learn.validate()
    assert log.getvalue() == ""


def test_the_bar_of_a_pass_that_fails_leaves_the_next_one_in_order(monkeypatch):
    a_terminal(monkeypatch)
    learn = learner()
    with pytest.raises(ZeroDivisionError):
        learn.validate(cbs=Callback(after_batch=lambda cb: 1 / 0))
    assert learn.progress.screen is None
    learn.validate()
    assert learn.progress.screen is None


def test_overfitting_shows_a_bar(monkeypatch):
    terminal = a_terminal(monkeypatch)
    overfit(learner(), 5)
    assert "Training on one batch" in terminal.getvalue()
