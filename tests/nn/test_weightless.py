"""Building modules without memory for their weights."""

import torch
from torch import nn

from layered.nn.weightless import weightless


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
