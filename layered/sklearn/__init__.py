"""Networks as scikit-learn's estimators, for pipelines, searches and cross-validation.

from layered.sklearn import LayeredClassifier, LayeredRegressor
"""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.sklearn.estimators import LayeredClassifier as LayeredClassifier, LayeredRegressor as LayeredRegressor
from layered.sklearn.items import ImageClassifier as ImageClassifier, TextClassifier as TextClassifier
from layered.sklearn.neural_net import (
    NeuralNet as NeuralNet,
    NeuralNetBinaryClassifier as NeuralNetBinaryClassifier,
    NeuralNetClassifier as NeuralNetClassifier,
    NeuralNetRegressor as NeuralNetRegressor,
)
from layered.sklearn.sliced import SliceDataset as SliceDataset, SliceDict as SliceDict
from layered.sklearn.train_split import ValidSplit as ValidSplit, predefined_split as predefined_split

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.sklearn.network import Network as Network
from layered.sklearn.neural_net import Net as Net
