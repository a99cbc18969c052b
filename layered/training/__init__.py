"""The `Learner`, loading one that was exported, and several of them: cross-validation and ensembles."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.training.cross_validation import cross_validate as cross_validate
from layered.training.ensemble import load_ensemble as load_ensemble
from layered.training.learner import Learner as Learner
from layered.training.loading import load_learner as load_learner

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.training.cross_validation import CrossValidation as CrossValidation
from layered.training.ensemble import Ensemble as Ensemble
from layered.training.export import layered_name as layered_name
from layered.training.learner import LearnerArgs as LearnerArgs
