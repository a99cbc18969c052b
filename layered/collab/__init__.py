"""Collaborative filtering: predicts how users would rate items, from the ratings of all users.

from layered.collab import *
"""

from typing import TYPE_CHECKING

import layered.collab.graph_inputs as _graph_inputs  # registers how choices enter exported graphs
from layered.collab.choices import AllItems as AllItems, Negatives as Negatives
from layered.collab.data import (
    CollabDataLoader as CollabDataLoader,
    CollabDataLoaders as CollabDataLoaders,
    ImplicitDataLoader as ImplicitDataLoader,
    TabularCollab as TabularCollab,
    TabularImplicit as TabularImplicit,
)
from layered.collab.learner import CollabLearner as CollabLearner, collab_learner as collab_learner
from layered.collab.losses import (
    BPRLoss as BPRLoss,
    RankingLoss as RankingLoss,
    SoftmaxRankingLoss as SoftmaxRankingLoss,
    WARPLoss as WARPLoss,
)
from layered.collab.metrics import (
    HitRateAtK as HitRateAtK,
    MAPAtK as MAPAtK,
    MRRAtK as MRRAtK,
    NDCGAtK as NDCGAtK,
    PrecisionAtK as PrecisionAtK,
    RecallAtK as RecallAtK,
)
from layered.collab.models import EmbeddingDotBias as EmbeddingDotBias, EmbeddingNN as EmbeddingNN
from layered.collab.penalty import VectorPenalty as VectorPenalty
from layered.collab.recommending import recommend as recommend, similar as similar
from layered.collab.scores import (
    hit_rate as hit_rate,
    leave_n_out as leave_n_out,
    leave_one_out as leave_one_out,
    ndcg as ndcg,
    ranking_scores as ranking_scores,
)
from layered.foundation.faces import star as _star
from layered.tabular.all import *

if not TYPE_CHECKING:
    __all__ = _star(globals())
