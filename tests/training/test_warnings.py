"""A warning names the line of the user's code that led to it, however deep the library found it out."""

import linecache

import pytest
from torch import nn

from layered.basics import Learner, load_learner
from layered.testing import synth_learner


class Own(nn.Module):
    """A model that no file can describe."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x)


def lines(seen):
    """File and text of the lines that warnings name."""
    return [(warning.filename, linecache.getline(warning.filename, warning.lineno).strip()) for warning in seen]


def test_a_warning_of_an_export_names_the_line_that_exports(tmp_path):
    learn = Learner(synth_learner().dls, Own(), nn.MSELoss(), path=tmp_path)
    with pytest.warns(UserWarning, match="not how to build the model") as seen:
        learn.export("own")
    assert lines(seen) == [(__file__, 'learn.export("own")')]


def test_a_warning_of_loading_names_the_line_that_loads(tmp_path):
    learn = Learner(synth_learner().dls, nn.Linear(1, 1), nn.MSELoss(), path=tmp_path)
    learn.export("known.layered")
    with pytest.warns(UserWarning, match="opening") as seen:
        load_learner(tmp_path / "known.pkl")
    assert lines(seen) == [(__file__, 'load_learner(tmp_path / "known.pkl")')]
