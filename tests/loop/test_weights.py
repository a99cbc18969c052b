"""Weights are saved and loaded whole, or nothing changes."""

import os

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadFile, CannotRestore, CannotSave, NotFoundPath
from layered.loop import Loop
from layered.testing import synth_learner


def learner(path, width=3) -> Loop:
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    learn = Loop(([(x, x.sum(1, keepdim=True))], None), model, nn.MSELoss(), path=path)
    learn.logger = lambda row: None
    return learn


def test_a_loaded_learner_goes_on_like_the_saved_one(tmp_path):
    learn, other = learner(tmp_path), learner(tmp_path)
    learn.fit(2)
    assert learn.save("a") == tmp_path / "models" / "a.layered"
    other.load("a")
    assert_close(other.model.state_dict(), learn.model.state_dict(), rtol=0, atol=0)
    learn.fit(2)
    other.fit(2)
    assert_close(other.model.state_dict(), learn.model.state_dict(), rtol=0, atol=0)


def test_the_optimizer_can_be_left_out(tmp_path):
    learn = learner(tmp_path)
    learn.fit(1)
    learn.save("with")
    learn.save("without", with_opt=False)
    for file, kwargs in (("without", {}), ("with", {"with_opt": False})):
        other = learner(tmp_path).load(file, **kwargs)
        assert other.opt is None


def test_files_of_torch_load_too(tmp_path):
    learn = learner(tmp_path)
    (tmp_path / "models").mkdir()
    torch.save(learn.model.state_dict(), tmp_path / "models" / "bare.pth")
    torch.save({"model": learn.model.state_dict(), "epoch": 3}, tmp_path / "models" / "wrapped.pth")
    for name in ("bare", "wrapped", "wrapped.pth"):
        other = learner(tmp_path).load(name)
        assert_close(other.model.state_dict(), learn.model.state_dict())


def test_weights_that_do_not_fit_change_nothing_and_are_named(tmp_path):
    learner(tmp_path, width=5).save("wide")
    learn = learner(tmp_path)
    learn.fit(1)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(CannotRestore, match=r"0\.weight: \(5, 2\) instead of \(3, 2\)"):
        learn.load("wide", strict=False)
    state = learn.model.state_dict()
    state["extra"] = state.pop("0.bias")
    torch.save(state, tmp_path / "models" / "odd.pth")
    with pytest.raises(CannotRestore, match=r"missing: 0\.bias; unexpected: extra"):
        learn.load("odd")
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)
    learn.load("odd", strict=False)


def test_a_missing_file_names_those_there(tmp_path):
    learn = learner(tmp_path)
    learn.save("here")
    with pytest.raises(NotFoundPath, match=r"here\.layered"):
        learn.load("there")


def test_an_edited_file_changes_nothing(tmp_path):
    learn = learner(tmp_path)
    file = learn.save("a")
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(BadFile):
        learn.load("a")
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)


def test_a_folder_that_cannot_be_made_is_told_with_a_fix(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(CannotSave):
        learner(tmp_path).save("a")
    assert os.listdir(tmp_path) == ["models"]


def test_weights_are_told_by_content_and_no_file_is_refused(tmp_path):
    learn, other = learner(tmp_path), learner(tmp_path)
    torch.save(learn.model.state_dict(), tmp_path / "weights.pt")
    assert_close(other.load(tmp_path / "weights.pt").model.state_dict(), learn.model.state_dict())
    with pytest.raises(TypeError, match="loaded from a file"):
        learn.load(None)


@pytest.mark.parametrize(
    ("dtype", "fits"),
    [
        *((dtype, True) for dtype in (torch.float64, torch.float16, torch.bfloat16)),
        *((dtype, False) for dtype in (torch.complex64, torch.int64, torch.uint8, torch.bool)),
    ],
)
def test_weights_of_another_precision_load_and_of_another_kind_do_not(tmp_path, dtype, fits):
    learn = synth_learner(path=tmp_path)
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    torch.save({name: x.to(dtype) for name, x in before.items()}, tmp_path / "x.pth")
    if fits:
        learn.load(tmp_path / "x.pth")
        assert {x.dtype for x in learn.model.state_dict().values()} == {torch.float32}
        return
    with pytest.raises(CannotRestore, match=rf"of another kind: .*{dtype} instead of torch\.float32"):
        learn.load(tmp_path / "x.pth")
    assert_close(dict(learn.model.state_dict()), before)
