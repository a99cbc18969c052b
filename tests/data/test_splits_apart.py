"""Items that stand in two splits are named; items that stand in one split twice are nobody's business."""

import warnings

import numpy as np
import pandas as pd
import pytest

from layered.data import DataLoaders, Datasets, as_splits
from layered.foundation import BadArgument
from layered.tabular.all import TabularPandas

FRAME = pd.DataFrame({"x": np.arange(10.0), "y": np.arange(10.0)})
MAKERS = {
    "data sets": lambda splits: Datasets(list(range(10)), [[float]], splits=splits),
    "arrays": lambda splits: DataLoaders.from_arrays(np.arange(10.0), np.arange(10.0), splits=splits, bs=2),
    "a table": lambda splits: TabularPandas(FRAME, None, None, "x", "y", splits=splits),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_items_in_two_splits_are_counted_and_the_first_is_named_at_the_users_line(make):
    with pytest.warns(UserWarning, match="3 items are in two splits, the first at position 4") as caught:
        make(([9, 4, 5, 6, 4], [6, 4, 5, 8]))
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(UserWarning, match="1 item is in two splits, the first at position 9"):
        make(([0, 1, 9], [-1]))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_items_may_stand_in_one_split_as_often_as_one_likes(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(([0, 0, 0, 1, 2, 3], [4, 4, 5]))


def test_splits_may_come_one_by_one_but_come_they_must():
    found = as_splits(iter([[0, 1], range(2, 4)]), 4)
    assert [split.tolist() for split in found] == [[0, 1], [2, 3]]
    for none in ([], iter([])):
        with pytest.raises(BadArgument, match="the splits are not lists of positions"):
            as_splits(none, 4)
