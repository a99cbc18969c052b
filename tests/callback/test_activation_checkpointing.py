"""Blocks whose activations are computed again: the same gradients in less memory."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import ActivationCheckpointing, MixedPrecision, compile_model, uncompile
from layered.foundation import CannotTrain
from layered.loop import Loop


def block():
    layers = nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 16)
    return nn.Sequential(*layers)


def learner(cbs=(), model=None):
    torch.manual_seed(0)
    model = nn.Sequential(*(block() for _ in range(6)), nn.Linear(16, 3)) if model is None else model
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    batches = [(part, torch.arange(len(part)) % 3) for part in x.split(20)]
    learn = Loop((batches, batches[:1]), model, nn.CrossEntropyLoss(), lr=1e-2, cbs=list(cbs))
    learn.logger = lambda row: None
    return learn


def fitted(*cbs):
    learn = learner(cbs)
    torch.manual_seed(2)
    learn.fit(2)
    return learn


def test_weights_and_statistics_are_those_of_a_plain_fit_bit_for_bit():
    plain, ours = fitted(), fitted(ActivationCheckpointing())
    assert_close(ours.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)
    assert ours.recorder.losses == plain.recorder.losses
    assert not any("forward" in vars(m) for m in ours.model.modules())


def test_it_goes_with_mixed_precision():
    plain, ours = fitted(MixedPrecision("bf16")), fitted(MixedPrecision("bf16"), ActivationCheckpointing())
    assert_close(ours.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)


def kept_bytes(cbs):
    """Bytes of activations that autograd keeps of a batch, parameters apart."""
    learn, kept = learner(cbs), {}
    own = {p.data_ptr() for p in learn.model.parameters()}

    def keep(x):
        if x.data_ptr() not in own:
            kept[x.data_ptr()] = x.nbytes
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        learn.on("before_backward", lambda learn: kept.setdefault("all", sum(kept.values())), once=True)
        learn.fit(1)
    return kept["all"]


def test_it_keeps_a_fraction_of_the_activations():
    assert kept_bytes([ActivationCheckpointing()]) < kept_bytes([]) / 4


def test_a_fit_that_fails_leaves_the_model_as_it_was():
    learn = learner([ActivationCheckpointing()])
    learn.on("after_pred", lambda learn: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learn.fit(1)
    assert not any("forward" in vars(m) for m in learn.model.modules())


def test_a_model_without_blocks_is_refused():
    flat = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(CannotTrain, match="no blocks"):
        learner([ActivationCheckpointing()], flat).fit(1)
    with pytest.raises(CannotTrain, match="no blocks"):
        compile_model(learner(model=flat), blocks=True)


def test_blocks_are_compiled_by_themselves():
    torch._dynamo.reset()
    plain, ours = learner(), compile_model(learner(), blocks=True, backend="aot_eager")
    compiled = [m for m in ours.model.modules() if m._compiled_call_impl is not None]
    assert compiled == list(ours.model.children())[:6]
    for learn in (plain, ours):
        for m in learn.model.modules():
            if isinstance(m, nn.Dropout):
                m.p = 0.0  # compiled code draws in another order
        learn.fit(1)
    assert_close(ours.recorder.losses, plain.recorder.losses, rtol=1e-4, atol=1e-5)
    assert all(m._compiled_call_impl is None for m in uncompile(ours).model.modules())
    torch._dynamo.reset()
