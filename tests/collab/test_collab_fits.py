"""What a fit leaves behind: a model that diverged is told, and what is recorded is what the model at the end gives."""

import numpy as np
import pytest
import torch
from films import films

from layered.collab.all import CollabDataLoaders, EMACallback, SWACallback, collab_learner
from layered.foundation import BadValue


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("use_nn", [False, True])
def test_a_model_that_has_diverged_recommends_nothing(dls, use_nn, value):
    learn = collab_learner(dls, 5, use_nn)
    with torch.no_grad():
        for p in learn.model.parameters():
            p.fill_(value)
    with pytest.raises(BadValue, match=r"ratings are not finite(.|\n)*lr_find"):
        learn.recommend(103)


@pytest.mark.parametrize("average", [EMACallback, SWACallback])
def test_the_last_recorded_loss_is_that_of_the_averaged_model_also_for_unseen_users(average):
    df = films()
    is_late = (df.user < 110).to_numpy()
    splits = np.flatnonzero(~is_late), np.flatnonzero(is_late)
    dls = CollabDataLoaders.from_df(df, splits=splits, bs=32, device="cpu")
    torch.manual_seed(0)
    learn = collab_learner(dls, 5, y_range=(0, 5.5), cbs=average())
    with learn.no_bar(), learn.no_logging():
        learn.fit(3, 5e-2)
        recorded = learn.recorder.values[-1][1]
        assert learn.validate()[0] == pytest.approx(recorded, rel=1e-6)
    for table in learn.model.embeddings():
        torch.testing.assert_close(table.weight[0], table.weight[1:].mean(0))
