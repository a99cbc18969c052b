"""Any loader with batches of any structure trains and validates any module: all to the same weights."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchDataLoader, Dataset

from layered.loop import Loop
from layered.loop.state import State
from layered.optim import SGD

g = torch.Generator().manual_seed(1)
ROWS = [(x, x.sum(0, keepdim=True)) for x in torch.randn(12, 2, generator=g)]


@dataclass
class Sample:
    x: torch.Tensor
    labels: torch.Tensor


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


STRUCTURES = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: {"x": x, "labels": y},
    "UserDict": lambda x, y: UserDict(x=x, labels=y),
    "dataclass": Sample,
    "nested": lambda x, y: ({"parts": [x[:, :1], (x[:, 1:],)]}, y),
}


class Batches(Dataset):
    """The rows two by two, in one structure."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError
        x, y = (torch.stack(column) for column in zip(*ROWS[4 * i : 4 * i + 4]))
        return self.make(x, y)


LOADERS = {
    "DataLoader": lambda batches: TorchDataLoader(batches, batch_size=None, collate_fn=lambda b: b),
    "list": list,
    "generator": lambda batches: (batch for batch in batches),
}


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        if isinstance(x, dict):
            x = torch.cat([x["parts"][0], x["parts"][1][0]], 1)
        return self.layer(x)


class WithLoss(Plain):
    """As transformers' models do: computes its loss where it is given labels."""

    kind = staticmethod(lambda **parts: Output(**parts))

    def forward(self, x, labels=None):
        logits = super().forward(x)
        return self.kind(loss=nn.functional.mse_loss(logits, labels), logits=logits)


class WithLossInDict(WithLoss):
    kind = dict


MODULES = {"module": (Plain, nn.MSELoss()), "dataclass output": (WithLoss, None), "dict output": (WithLossInDict, None)}


def by_hand():
    model = Plain()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in Batches(lambda x, y: (x, y)):
        nn.functional.mse_loss(model(x), y).backward()
        opt.step()
        opt.zero_grad()
    return model


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("module", MODULES)
def test_every_combination_trains_to_the_same_weights(loader, structure, module):
    make, loss_func = MODULES[module]
    by_position = structure in ("tuple", "list", "nested")
    batches = Batches(STRUCTURES[structure])
    learn = Loop((LOADERS[loader](batches), LOADERS[loader](batches)), make(), loss_func, opt_func=SGD, lr=0.1)
    learn.logger = lambda row: None
    learn.dls.n_inp = 2 if by_position and loss_func is None else None
    learn.fit(1)
    expected = by_hand()
    assert_close(learn.model.state_dict(), expected.state_dict())
    with torch.no_grad():
        losses = [nn.functional.mse_loss(expected(x), y) for x, y in Batches(lambda x, y: (x, y))]
    assert learn.recorder.values[0][1] == pytest.approx(torch.stack(losses).mean().item())


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_part_of_a_batch_goes_to_the_device_of_the_model(structure):
    """The meta device stands in for a GPU."""
    seen = []

    class See(Plain):
        def forward(self, x):
            seen.extend(x["parts"][:1] if isinstance(x, dict) else [x])
            return self.layer(torch.zeros(4, 2, device="meta"))

    batches = Batches(STRUCTURES[structure])
    learn = Loop(
        ([batches[0]], None), See().to("meta"), lambda pred, y: seen.append(y) or pred.sum(), default_cbs=False
    )
    learn.logger = None
    learn.fit(1)
    assert {t.device.type for t in seen} == {"meta"}


def test_the_state_says_what_is_the_input_and_what_the_target():
    state = State()
    for xb, yb, x, y in [((1,), (2,), 1, 2), ((1, 2), (), (1, 2), None), ({"a": 1}, (2, 3), {"a": 1}, (2, 3))]:
        state.xb, state.yb = xb, yb
        assert (state.x, state.y) == (x, y)
