"""The optimizer holds the parameters that the model has, not those that it had."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.loop import Checkpoint, Loop, use_current_opt
from layered.optim import SGD, Adam, OptimWrapper, params


def batches():
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    return list(zip(x.split(8), x.sum(1, keepdim=True).split(8), strict=True))


def learner(**kwargs) -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return Loop((batches(), None), model, nn.MSELoss(), lr=0.1, **kwargs)


def by_layer(model):
    return [params(layer) for layer in model]


def new_head(learn):
    learn.model[2] = nn.Linear(4, 1)


def new_model(learn):
    learn.model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def thaw(learn):
    learn.model[2].requires_grad_(True)


@pytest.mark.parametrize("opt_func", [Adam, torch.optim.AdamW, {"0": SGD, "1": SGD, "2": Adam}])
@pytest.mark.parametrize("change", [new_head, new_model, thaw])
def test_a_layer_that_is_new_or_thawed_learns(change, opt_func):
    learn = learner(opt_func=opt_func)
    learn.model[2].requires_grad_(change is not thaw)
    if isinstance(opt_func, dict) and change in (new_model, thaw):
        pytest.skip("each part of the model needs parameters")
    learn.fit(1)
    change(learn)
    before = learn.model[2].weight.detach().clone()
    learn.fit(1)
    assert not torch.equal(learn.model[2].weight, before)


def test_what_stays_goes_on_with_its_statistics():
    learn = learner()
    learn.fit(1)
    learn.opt.set_hyper("sqr_mom", 0.9)
    kept = learn.model[0].weight
    average = learn.opt.state[kept]["sqr_avg"]
    new_head(learn)
    use_current_opt(learn)
    assert learn.opt.state[kept]["sqr_avg"] is average
    assert learn.opt.state[kept]["count"] == 3
    assert learn.opt.hypers[0]["sqr_mom"] == 0.9
    assert "sqr_avg" not in learn.opt.state[learn.model[2].weight]


def test_frozen_groups_stay_frozen():
    learn = learner(splitter=by_layer)
    learn.create_opt()
    learn.opt.freeze_to(2)
    learn.model[0] = nn.Linear(3, 4)
    before = learn.model[0].weight.detach().clone()
    learn.fit(1)
    assert learn.opt.frozen_idx == 2
    assert torch.equal(learn.model[0].weight, before)


def test_an_unchanged_model_keeps_its_optimizer():
    for learn in (learner(), learner(splitter=lambda model: list(model[2].parameters()))):
        learn.fit(1)
        opt = learn.opt
        learn.model[0].requires_grad_(False)
        learn.fit(1)
        assert learn.opt is opt


def test_a_new_opt_func_or_splitter_counts():
    learn = learner()
    learn.fit(1)
    learn.opt_func = partial(torch.optim.SGD, lr=0.25)
    learn.fit(1)
    assert isinstance(learn.opt.opt, torch.optim.SGD)
    assert learn.opt.hypers[0]["lr"] == 0.25
    learn.splitter = by_layer
    learn.fit(1)
    assert len(learn.opt.param_groups) == 3


def test_an_optimizer_set_by_hand_is_kept_and_says_what_it_does_not_hold():
    learn = learner()
    learn.opt = OptimWrapper(opt=torch.optim.SGD(learn.model[2].parameters(), lr=0.1))
    with pytest.warns(UserWarning, match="does not hold 4 parameters .*0.weight"):
        learn.fit(1)
    learn.model[:2].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn.fit(1)


def test_a_resumed_script_with_a_new_head_between_its_fits_goes_on_bit_for_bit(tmp_path):
    class Stop(Exception):
        pass

    def script(resume, stop=False):
        learn = learner()
        kwargs = {"checkpoint": Checkpoint(tmp_path, every="1 batches", keep=99), "resume": resume}
        learn.fit(1, **kwargs)
        torch.manual_seed(5)
        new_head(learn)

        def end(learn):
            if stop and learn.train_iter == 5:
                raise Stop

        learn.on("after_batch", end, order=1000)
        learn.fit(2, **kwargs)
        return learn

    expected = script(None).model.state_dict()
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(Stop):
        script(None, stop=True)
    assert_close(script("auto").model.state_dict(), expected, rtol=0, atol=0)
