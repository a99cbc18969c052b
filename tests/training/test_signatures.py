"""Arguments that several functions share are said once, and still shown, checked and typed everywhere."""

from __future__ import annotations

import inspect

import pytest
from torch import nn

from layered.callback import FitArgs, OneCycleArgs, fit_flat_cos, fit_one_cycle, fit_sgdr
from layered.collab import collab_learner
from layered.foundation import BadArgument
from layered.training import Learner, LearnerArgs
from layered.training.tuning import fine_tune


def names(function):
    return set(inspect.signature(function).parameters)


def test_the_typed_arguments_are_those_of_the_learner():
    assert LearnerArgs.__annotations__.keys() == names(Learner) - {"dls", "model"}


def test_the_typed_arguments_of_fits_are_those_of_fit():
    assert FitArgs.__annotations__.keys() == names(Learner.fit) - {"loop", "n_epoch", "lr"}
    assert OneCycleArgs.__annotations__.keys() == names(fit_one_cycle) - {
        "loop",
        "n_epoch",
        "lr_max",
        "div",
        "pct_start",
    }


@pytest.mark.parametrize("fit", [fit_one_cycle, fit_flat_cos, fit_sgdr, fine_tune], ids=lambda f: f.__name__)
def test_a_fit_shows_every_argument_with_its_default(fit, capsys):
    shown = inspect.signature(fit).parameters
    assert FitArgs.__annotations__.keys() <= shown.keys()
    assert not [p for p in shown.values() if p.kind is p.VAR_KEYWORD]
    for name, parameter in inspect.signature(Learner.fit).parameters.items():
        if name in FitArgs.__annotations__:
            assert shown[name].default == parameter.default
    help(fit)
    assert "checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called", "call"),
    [
        ("Learner", lambda dls: Learner(dls, nn.Identity(), los_func=None)),
        ("fit", lambda dls: Learner(dls, nn.Identity()).fit(1, los_func=None)),
        ("fit_one_cycle", lambda dls: Learner(dls, nn.Identity()).fit_one_cycle(1, los_func=None)),
        ("fine_tune", lambda dls: Learner(dls, nn.Identity()).fine_tune(1, los_func=None)),
    ],
)
def test_an_error_names_what_the_user_called(dls, called, call):
    with pytest.raises(BadArgument, match=rf"^{called} got an unknown argument 'los_func'"):
        call(dls)


def test_a_subclass_is_named_too(dls):
    class Mine(Learner):
        pass

    with pytest.raises(BadArgument, match=r"^Mine got an unknown argument 'los_func'"):
        Mine(dls, nn.Identity(), los_func=None)


def test_a_learner_of_an_application_shows_and_checks_every_argument():
    shown = inspect.signature(collab_learner).parameters
    assert LearnerArgs.__annotations__.keys() <= shown.keys()
    with pytest.raises(BadArgument, match=r"^collab_learner got an unknown argument 'los_func'"):
        collab_learner(None, los_func=None)
