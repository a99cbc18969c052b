"""Networks as scikit-learn's estimators, for pipelines, searches and cross-validation.

from layered.sklearn import LayeredClassifier, LayeredRegressor
"""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.sklearn.estimators import LayeredClassifier as LayeredClassifier, LayeredRegressor as LayeredRegressor

if not TYPE_CHECKING:
    __all__ = _star(globals())
