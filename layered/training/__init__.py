"""The `Learner`, and loading one that was exported."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.training.learner import Learner as Learner
from layered.training.loading import load_learner as load_learner

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.training.export import layered_name as layered_name
from layered.training.learner import LearnerArgs as LearnerArgs
