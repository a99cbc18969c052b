"""What a `NeuralNet` holds out of the items that it is fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit
from torch.utils.data import Dataset


class ValidSplit:
    """Holds out a part of the items.

    Args:
        cv: In how many parts items are divided, the first of which is held out; or the share that is; or a cross-validator of
            scikit-learn, of which the first split is taken.
        stratified: Whether classes have the same share in both; None for classifiers only.
        random_state: Shuffles the items first; None takes them in their order, except for a share.
    """

    def __init__(self, cv: Any = 5, stratified: bool | None = None, random_state: int | None = None) -> None:
        self.cv, self.stratified, self.random_state = cv, stratified, random_state

    def positions(
        self, y: np.ndarray[Any, Any], groups: object = None, is_classifier: bool = False
    ) -> tuple[list[int], list[int]]:
        """The positions to train on, and those that are held out.

        Args:
            y: The targets.
            groups: For a cross-validator that keeps groups together.
            is_classifier: Whether the targets are classes.
        """
        stratified = is_classifier if self.stratified is None else self.stratified
        cv, state = self.cv, self.random_state
        if isinstance(cv, float):
            kind: Any = StratifiedShuffleSplit if stratified else ShuffleSplit
            cv = kind(1, test_size=cv, random_state=state)
        elif isinstance(cv, int):
            kind = StratifiedKFold if stratified else KFold
            cv = kind(cv, shuffle=state is not None, random_state=state)
        train, valid = next(iter(cv.split(np.zeros(len(y)), y, groups)))
        return train.tolist(), valid.tolist()


class PredefinedSplit:
    """Holds out nothing, and validates on other items.

    Args:
        dataset: A data set of torch with their inputs and targets.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset


def predefined_split(dataset: Dataset[Any]) -> PredefinedSplit:
    """A `train_split` that trains on all items and validates on a data set.

    Args:
        dataset: A data set of torch with inputs and targets.
    """
    return PredefinedSplit(dataset)
