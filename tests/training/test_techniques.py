"""Training techniques as verbs of the learner, and what is left of them in its files."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from layered.callback import AMPMode, EMACallback, precision, speed, trials
from layered.data import DataLoaders
from layered.training import Learner, load_learner

VERBS = {
    "to_fp16": precision.to_fp16, "to_bf16": precision.to_bf16, "to_fp32": precision.to_fp32,
    "to_channelslast": speed.to_channelslast, "to_contiguous": speed.to_contiguous,
    "compile": speed.compile_model, "uncompile": speed.uncompile, "dry_run": trials.dry_run, "overfit": trials.overfit,
}  # fmt: skip


def learner(path, **args) -> Learner:
    torch.manual_seed(0)
    x = torch.randn(16, 1, 6, 6)
    data = TensorDataset(x, torch.arange(16) % 3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    learn = Learner(
        DataLoaders.from_dsets(data, data, bs=8, device="cpu"), model, nn.CrossEntropyLoss(), path=path, **args
    )
    learn.logger = lambda row: None
    return learn.remove_cbs([cb for cb in learn.cbs if cb.name == "progress"])


@pytest.mark.parametrize("name", VERBS)
def test_verbs_are_the_free_functions(name):
    assert vars(Learner)[name] is VERBS[name]


@pytest.mark.parametrize("name", ["to_bf16", "to_fp32", "to_contiguous", "uncompile"])
def test_verbs_chain(name, tmp_path):
    learn = learner(tmp_path)
    assert getattr(learn, name)() is learn


def test_predictions_in_half_precision_come_out_in_single(tmp_path):
    learn = learner(tmp_path).to_bf16()
    learn.fit(1)
    half, _ = learn.get_preds()
    assert half.dtype is torch.float32
    single, _ = learn.to_fp32().get_preds()
    assert not torch.equal(half, single)
    assert_close(half, single, rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore")
def test_an_export_knows_nothing_of_how_the_model_was_trained(tmp_path):
    learn = learner(tmp_path, cbs=EMACallback(0.8)).to_channelslast(amp_mode=AMPMode.BF16).compile(backend="eager")
    learn.fit(1)
    loaded = load_learner(learn.export("x"))
    assert_close(loaded.model.state_dict(), learn.model.state_dict())
    assert_close(loaded.model.state_dict(), {**loaded.model.state_dict(), **learn.ema.averages})
    assert loaded.model._compiled_call_impl is None
    assert all(p.is_contiguous() for p in loaded.model.parameters())
    assert repr(loaded.model) == repr(learner(tmp_path).model)
