"""Everything for ratings: the middle floors, tables, and collaborative filtering.

from layered.collab.all import *
"""

from __future__ import annotations

from layered.collab.data import CollabDataLoader, CollabDataLoaders, TabularCollab
from layered.collab.learner import CollabLearner, collab_learner
from layered.collab.models import EmbeddingDotBias, EmbeddingNN
from layered.collab.recommending import recommend, similar
from layered.collab.scores import hit_rate, leave_one_out, ndcg
from layered.tabular import all as tabular
from layered.tabular.all import *

__all__ = [
    *tabular.__all__,
    "CollabDataLoader",
    "CollabDataLoaders",
    "CollabLearner",
    "EmbeddingDotBias",
    "EmbeddingNN",
    "TabularCollab",
    "collab_learner",
    "hit_rate",
    "leave_one_out",
    "ndcg",
    "recommend",
    "similar",
]
