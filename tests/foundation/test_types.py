"""Predicates that tell apart what Python's own classes do not."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pandas as pd
import torch

from layered.foundation import is_frame, is_named_tuple

Point = namedtuple("Point", "x y")


def test_frames_are_what_is_read_by_position():
    assert is_frame(pd.DataFrame({"a": [1]}))
    assert is_frame(pd.Series([1]))
    assert not any(map(is_frame, ([1], np.ones(2), torch.ones(2), {"iloc": 1}, None)))


def test_named_tuples_are_told_from_plain_ones():
    assert is_named_tuple(Point(1, 2))
    assert not any(map(is_named_tuple, ((1, 2), [1], Point, None)))
