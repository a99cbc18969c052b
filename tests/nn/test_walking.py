import torch
from torch import nn

from layered.nn import (
    ParameterModule,
    children_and_parameters,
    flatten_model,
    has_children,
    has_params,
    requires_grad,
    total_params,
)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 3)
        self.factor = nn.Parameter(torch.ones(4))


def body():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 16, 3)))


def test_parameters_are_counted():
    assert total_params(nn.Linear(2, 3)) == (9, True)
    assert total_params(nn.Linear(2, 3).requires_grad_(False)) == (9, False)
    assert total_params(nn.ReLU()) == (0, False)
    assert has_params(body())
    assert not has_params(nn.ReLU())
    assert requires_grad(nn.Linear(2, 3))
    assert not requires_grad(nn.Linear(2, 3).requires_grad_(False))
    assert not requires_grad(nn.ReLU())


def test_a_flat_model_is_its_leaves_in_order():
    assert [type(m).__name__ for m in flatten_model(body())] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert has_children(body())
    assert flatten_model(nn.ReLU()) != []
    assert not has_children(nn.ReLU())


def test_parameters_beside_children_are_leaves_too():
    model = Scaled()
    leaves = flatten_model(model)
    assert [type(m) for m in leaves] == [nn.Linear, ParameterModule]
    assert leaves[1].val is model.factor
    assert [type(m) for m in children_and_parameters(model)] == [nn.Linear, ParameterModule]
    assert sum(p.numel() for leaf in leaves for p in leaf.parameters()) == total_params(model)[0]
