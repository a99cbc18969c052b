"""`LayeredClassifier` and `LayeredRegressor`: networks as scikit-learn's estimators."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d
from torch import Tensor, nn

from layered.foundation import BadValue
from layered.sklearn.network import Network
from layered.sklearn.unweighted import Scale


class LayeredClassifier(ClassifierMixin, Network):  # type: ignore[misc]
    """A classifier of scikit-learn whose model is a network.

    Its parameters are those of `Network`. The module returns a score for each class, or one score where there are two and
    the loss takes one; the loss is cross-entropy by default.

    Attributes:
        classes_: The classes, sorted.
        module_: The trained module.
        history_: Losses and metrics of each epoch.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> LayeredClassifier(random_state=0).fit(X, y).score(X, y) > 0.9
        True
    """

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        """The probability of each class, [item, class].

        Args:
            X: As for `fit`.
        """
        probabilities = self._outputs(X)
        if probabilities.ndim == 1 or probabilities.shape[1] == 1:  # of the second class alone
            second, classes = probabilities.reshape(-1, 1), vars(self).get("classes_", (0, 1))
            probabilities = torch.cat((1 - second, second), 1) if len(classes) > 1 else second
        found: np.ndarray[Any, Any] = probabilities.numpy()
        return found

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The most probable class of each item, [item].

        Args:
            X: As for `fit`.
        """
        best = self.predict_proba(X).argmax(1)
        found: np.ndarray[Any, Any] = self.classes_[best]
        return found

    def partial_fit(self, X: Any, y: Any, classes: object = None, sample_weight: object = None) -> Self:
        """One more epoch over other items, with the state of the optimizer kept.

        Args:
            X: As for `fit`.
            y: As for `fit`.
            classes: All classes there will be; at the first call, unless `y` has them all.
            sample_weight: As for `fit`.
        """
        return self._more(X, y, sample_weight, classes)

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if is_new:
            self.classes_ = np.unique(y if classes is None else np.asarray(classes))
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise BadValue(
                "y has classes that the estimator does not know", got=unknown.tolist(), expected=self.classes_.tolist()
            )
        return torch.from_numpy(np.searchsorted(self.classes_, y))

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _usual_loss(self) -> type[nn.Module]:
        return nn.CrossEntropyLoss


class LayeredRegressor(RegressorMixin, Network):  # type: ignore[misc]
    """A regressor of scikit-learn whose model is a network.

    The default network learns targets scaled to mean 0 and deviation 1, of which its losses are; predictions and metrics are in
    the units of the targets. A module of the user gets them as they are.

    Its parameters are those of `Network`; the module returns a number for each target, and the loss is the mean squared error
    by default.

    Examples:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> LayeredRegressor(random_state=0).fit(X, y).score(X, y) > 0.4
        True
    """

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The targets of each item, in the form of `y`.

        Args:
            X: As for `fit`.
        """
        numbers = self._outputs(X).numpy().astype(np.float64)
        found: np.ndarray[Any, Any] = numbers.reshape(len(numbers), *self.target_shape_)
        return found * self.target_scale_ + self.target_mean_

    def partial_fit(self, X: Any, y: Any, sample_weight: object = None) -> Self:
        """One more epoch over other items, with the state of the optimizer kept.

        Args:
            X: As for `fit`.
            y: As for `fit`.
            sample_weight: As for `fit`.
        """
        return self._more(X, y, sample_weight)

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if is_new:
            self.target_shape_ = y.shape[1:]
            mean, scale = (y.mean(0), y.std(0)) if self.module is None else (0.0, 1.0)
            self.target_mean_, self.target_scale_ = mean, np.where(scale == 0, 1.0, scale)
        return torch.from_numpy(((y - self.target_mean_) / self.target_scale_).astype(np.float32))

    def _scale(self) -> Scale:
        return Scale(self.target_mean_, self.target_scale_)

    def _n_outputs(self) -> int:
        return int(np.prod(self.target_shape_))

    def _usual_loss(self) -> type[nn.Module]:
        return nn.MSELoss
