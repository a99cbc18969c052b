"""A compiled model is one graph, learns what the plain one learns, and looks the same from outside."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models import resnet18

from layered.callback import MixedPrecision, compile_model, uncompile
from layered.foundation import BadArgument, TensorImage
from layered.loop import Loop


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def resnet():
    torch.manual_seed(0)
    return resnet18(num_classes=4)


def batches():
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return [(TensorImage(part), torch.arange(len(part))) for part in x.split(3)]


def learner(model, cbs=None) -> Loop:
    learn = Loop((batches(), batches()[:1]), model, nn.CrossEntropyLoss(), lr=1e-3, cbs=cbs)
    learn.logger = lambda row: None
    return learn


@pytest.mark.parametrize("make", [mlp, resnet])
def test_a_compiled_model_is_one_graph_and_learns_the_same(make):
    ours, plain = learner(make()), learner(make())
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compile_model(ours, backend="aot_eager", fullgraph=True)  # a break in the graph would be an error
    for learn in (ours, plain):
        learn.fit(1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert_close(ours.recorder.losses, plain.recorder.losses, rtol=1e-4, atol=1e-5)
    assert list(ours.model.state_dict()) == list(plain.model.state_dict())
    assert type(ours.model) is type(plain.model)


def test_it_goes_with_mixed_precision_in_one_graph():
    ours, plain = (learner(mlp(), MixedPrecision("bf16")) for _ in range(2))
    compile_model(ours, backend="aot_eager", fullgraph=True)
    for learn in (ours, plain):
        learn.fit(1)
    assert_close(ours.recorder.losses, plain.recorder.losses, rtol=1e-3, atol=1e-3)


def is_compiled(model):
    return model._compiled_call_impl is not None


def test_files_and_copies_do_not_know_of_it(tmp_path):
    learn = compile_model(learner(mlp()), backend="aot_eager")
    learn.path = tmp_path
    learn.fit(1)
    learn.save("x")
    plain = learner(mlp()).load(tmp_path / "models" / "x")
    assert_close(plain.model.state_dict(), learn.model.state_dict())
    assert is_compiled(learn.load("x").model)
    assert not is_compiled(copy.deepcopy(learn.model))
    assert not is_compiled(pickle.loads(pickle.dumps(learn.model)))


def test_it_can_be_taken_back_and_done_twice():
    learn = learner(mlp())
    assert compile_model(compile_model(learn, backend="eager"), backend="eager") is learn
    assert is_compiled(learn.model)
    assert not is_compiled(uncompile(uncompile(learn)).model)


def test_an_unknown_option_is_refused_and_changes_nothing():
    learn = learner(mlp())
    with pytest.raises(BadArgument, match="did you mean 'backend'"):
        compile_model(learn, bakend="eager")
    assert not is_compiled(learn.model)
