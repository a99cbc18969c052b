"""Names of files and classes may hold anything; shown, they are text and nothing else."""

from __future__ import annotations

import io
import warnings

import matplotlib.pyplot as plt
import pytest
import torch

from layered.foundation import LayeredError, one_line, plot_label, visible, warn
from layered.foundation.display import aligned, show_image, show_title, text_table

ACTING = ["\x1b[2J", "\r", "\x07", "\x08", "\x9b31m", "\x7f", "\u202e", "\u2028", "\udcff", "\0"]


@pytest.mark.parametrize("character", ACTING)
def test_controls_are_written_out_wherever_text_is_shown(character, capsys):
    name = f"cat{character}dog"
    show_title(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(name)
    error = LayeredError(name, got=name, expected=name, fix=name)
    lines = [capsys.readouterr().out, str(caught[0].message), str(error), error.problem, error.args[0]]
    lines += [visible(name), one_line(name), plot_label(name), *text_table([name], [[name]]), *aligned([[name]])]
    for line in lines:
        assert character[0] not in line
        line.encode()


def test_lines_stay_in_messages_and_not_in_cells():
    assert visible("a\nb\tc") == "a\nb\tc"
    assert one_line("a\nb\tc") == r"a\nb\tc"
    assert aligned([["a\nb", 1]]) == [r"a\nb  1"]
    assert visible("größe 猫 👍 e\u0301") == "größe 猫 👍 e\u0301"


def test_a_name_of_twenty_megabytes_is_cut_in_messages_and_tables():
    name = "x" * 20_000_000 + "end"
    error = LayeredError(f"'{name}' is missing", got=name)
    assert len(str(error)) < 10_000
    assert str(error).splitlines()[0].endswith("end' is missing")
    assert max(map(len, text_table([name], [[name]]))) < 1000


@pytest.mark.parametrize("label", ["$5", "$5 or $10", r"a $\frac{$", "$$", r"\$1$", "$_{$", r"\$"])
def test_dollar_signs_are_no_formulas(label):
    ax = show_image(torch.rand(3, 4, 4), title=label)
    show_title(label, ctx=ax)
    ax.figure.savefig(io.BytesIO())
    plain = plt.figure().text(0, 0, plot_label(label))
    text, is_formula = plain._preprocess_math(plain.get_text())
    plt.close("all")
    assert (text, is_formula) == (label, False)
