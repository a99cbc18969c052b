"""Building modules without memory for their weights."""

import pytest
import torch
from torch import nn

from layered.files import weightless
from layered.foundation import BadValue


def test_weights_have_no_memory_and_values_are_real():
    with weightless():
        net = nn.Sequential(nn.Linear(10**6, 10**6), nn.BatchNorm1d(10**9))
        assert torch.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
        assert torch.arange(3).tolist() == [0, 1, 2]
        assert torch.zeros(2, device="cpu").tolist() == [0, 0]
    assert all(p.is_meta for p in net.parameters())
    assert net[1].running_mean.is_meta
    assert not torch.empty(1).is_meta


def test_the_global_generator_stays_as_it_is():
    before = torch.get_rng_state()
    with weightless():
        nn.LSTM(10, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_there_can_be_a_limit_to_what_is_built():
    with weightless(most=8):
        nn.LSTM(2, 2, num_layers=2)
    with pytest.raises(BadValue, match="too many parts"), weightless(most=8):
        nn.LSTM(2, 2, num_layers=10**12)
