"""Loaders over made-up ratings, and a learner that was trained for a moment."""

import pytest
import torch
from films import films

from layered.collab.all import CollabDataLoaders, collab_learner


@pytest.fixture
def df():
    return films()


@pytest.fixture
def dls(df):
    return CollabDataLoaders.from_df(df, seed=42, bs=32, device="cpu")


@pytest.fixture
def learn(dls, tmp_path):
    torch.manual_seed(0)
    learn = collab_learner(dls, 5, y_range=(0, 5.5), path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(3, 5e-2, wd=0.01)
    return learn
