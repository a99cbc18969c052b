"""Collaborative filtering: predicts how users would rate items, from the ratings of all users.

from layered.collab import *
"""

from typing import TYPE_CHECKING

from layered.collab.data import (
    CollabDataLoader as CollabDataLoader,
    CollabDataLoaders as CollabDataLoaders,
    TabularCollab as TabularCollab,
)
from layered.collab.learner import CollabLearner as CollabLearner, collab_learner as collab_learner
from layered.collab.models import EmbeddingDotBias as EmbeddingDotBias, EmbeddingNN as EmbeddingNN
from layered.collab.recommending import recommend as recommend, similar as similar
from layered.collab.scores import hit_rate as hit_rate, leave_one_out as leave_one_out, ndcg as ndcg
from layered.foundation.faces import star as _star
from layered.tabular.all import *

if not TYPE_CHECKING:
    __all__ = _star(globals())
