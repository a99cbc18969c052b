"""Names of classes and functions as messages show them."""

from __future__ import annotations

from functools import partial

import pytest
from torch import nn

from layered.foundation import function_name, snake_case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Callback", "callback"),
        ("MixUp", "mix_up"),
        ("CSVLogger", "csv_logger"),
        ("RocAucMulti", "roc_auc_multi"),
        ("F1Score", "f1_score"),
        ("already_snake", "already_snake"),
        ("", ""),
    ],
)
def test_capitals_start_words(name, expected):
    assert snake_case(name) == expected


def test_functions_are_named_also_inside_partial_and_other_callables_by_their_class():
    assert function_name(len) == "len"
    assert function_name(partial(partial(max, 1), 2)) == "max"
    assert function_name(nn.Linear) == "Linear"
    assert function_name(nn.ReLU()) == "ReLU"
