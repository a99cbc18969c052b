"""Loaders over a small mixed table, and a learner that trains in a moment."""

import pytest
import torch
from people import CATS, CONTS, PROCS, people

from layered.tabular.all import RandomSplitter, TabularPandas, accuracy, tabular_learner


@pytest.fixture
def shown(monkeypatch):
    """The frames that were shown, in order."""
    frames = []
    monkeypatch.setattr("layered.tabular.show.show_frame", frames.append)
    return frames


@pytest.fixture
def df():
    return people()


@pytest.fixture
def splits(df):
    return RandomSplitter(seed=42)(df)


@pytest.fixture
def to(df, splits):
    return TabularPandas(df, PROCS, CATS, CONTS, "buys", splits=splits)


@pytest.fixture
def dls(to):
    return to.dataloaders(32, device="cpu")


@pytest.fixture
def learn(dls, tmp_path):
    torch.manual_seed(0)
    return tabular_learner(dls, [16], metrics=accuracy, path=tmp_path)
