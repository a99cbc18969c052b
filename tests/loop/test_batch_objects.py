"""Batches that are one object with its targets in `y`, such as those of torch_geometric."""

import pytest
import torch
from torch import nn

from layered.foundation import CannotTrain, to_device
from layered.loop import split_batch
from layered.training import Learner


class Graph:
    def __init__(self, **parts):
        vars(self).update({"y": None, **parts})
        self.moved = []

    def to(self, device):
        self.moved.append(device)
        return self

    def cpu(self):
        return self.to("cpu")


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def forward(self, batch):
        return self.net(batch.x)


class Named(Whole):
    def forward(self, x, edge_index, edge_weight=None):
        return self.net(x)


def test_a_model_of_one_argument_gets_the_object():
    graph = Graph(x=torch.ones(3, 2), batch=torch.zeros(3), y=torch.ones(3, 1))
    inputs, targets = split_batch(graph, None, Whole())
    assert inputs == (graph,)
    assert targets == (graph.y,)
    assert split_batch(Graph(x=graph.x), None, Whole())[1] == ()


def test_a_model_of_several_gets_the_attributes_of_these_names():
    graph = Graph(x=torch.ones(3, 2), edge_index=torch.zeros(2, 4), y=torch.ones(3, 1))
    inputs, targets = split_batch(graph, None, Named())
    assert set(inputs) == {"x", "edge_index"}
    assert targets == (graph.y,)
    with pytest.raises(
        CannotTrain, match=r"no edge_index, which Named\.forward needs[\s\S]*def forward\(self, batch\)"
    ):
        split_batch(Graph(x=graph.x), None, Named())


def test_they_are_moved_with_the_batch():
    graph = Graph()
    to_device({"graph": [graph]}, "meta")
    assert graph.moved == [torch.device("meta")]


def test_they_are_trained_validated_and_predicted():
    x = torch.linspace(-1, 1, 24).reshape(12, 2)
    graphs = [Graph(x=x[i : i + 3], y=x[i : i + 3].sum(1, keepdim=True)) for i in range(0, 12, 3)]
    learn = Learner((graphs, graphs[:2]), Whole(), loss_func=nn.MSELoss(), lr=0.1)
    with learn.no_bar(), learn.no_logging():
        learn.fit(20)
    preds, targets = learn.get_preds()
    assert torch.equal(targets, x[:6].sum(1, keepdim=True))
    torch.testing.assert_close(preds, learn.model(Graph(x=x[:6])).detach())
    assert learn.recorder.history[-1]["valid_loss"] < learn.recorder.history[0]["valid_loss"]
