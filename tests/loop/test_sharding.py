"""How processes share a model, as far as a single process shows it; `tests/flows/test_torchrun.py` has two."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from layered.data import DataLoaders
from layered.foundation import CannotTrain, UnknownName
from layered.loop import Loop
from layered.loop.sharding import units
from layered.optim import SGD

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.layer(x)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def learner(model=None, **kwargs):
    dls = DataLoaders.from_dsets(TensorDataset(X, X), TensorDataset(X, X), bs=4, seed=1, device="cpu")
    torch.manual_seed(0)
    kwargs = {"opt_func": SGD, "lr": 0.1, **kwargs}
    return Loop(dls, nn.Sequential(Block(), nn.Linear(3, 3)) if model is None else model, nn.MSELoss(), **kwargs)


def weights(learn):
    return torch.cat([p.detach().flatten() for p in learn.model.parameters()])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_strategy_changes_nothing_in_a_single_process(strategy):
    plain, shared = learner(), learner(strategy=strategy)
    for one in (plain, shared):
        one.logger = lambda row: None
        one.fit(1)
    assert torch.equal(weights(plain), weights(shared))
    assert type(shared.model) is nn.Sequential


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'fsdp'"):
        learner(strategy="fsdp2")
    with pytest.raises(UnknownName, match="no strategy named 'deepspeed'"):
        learner().to_distributed("deepspeed")


def test_what_an_engine_of_torch_cannot_share_is_refused():
    with pytest.raises(CannotTrain, match="several optimizers"):
        learner(opt_func={"0": SGD, "1": SGD}, strategy="fsdp")
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapped)
    with pytest.raises(CannotTrain, match="in DistributedDataParallel already"):
        learner(wrapped, strategy="ddp")


def test_a_model_on_meta_gets_the_weights_that_its_layers_begin_with():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    learn = learner(model, strategy="fsdp")
    torch.manual_seed(0)
    expected = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).state_dict()
    for name, x in learn.model.state_dict().items():
        assert torch.equal(x, expected[name])


def test_layers_that_do_not_say_how_they_begin_are_named():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 3), Bare())
    with pytest.raises(CannotTrain, match="no reset_parameters in 1"):
        learner(model, strategy="fsdp")


def test_units_are_blocks_and_parameter_groups_but_for_what_layers_share():
    body, head = nn.Sequential(Block(), nn.ReLU(), Block()), nn.Linear(3, 3)
    model = nn.Sequential(body, head)
    assert units(model, model.parameters()) == [body[0], body[2]]
    assert units(model, [list(body.parameters()), list(head.parameters())]) == [body[0], body[2], body, head]
    body[2].layer.weight = body[0].layer.weight
    assert units(model, model.parameters()) == []
