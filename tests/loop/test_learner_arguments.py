"""What a learner is given is checked when it is given, and the fix that the error shows works."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.data import DataLoader
from layered.foundation import BadArgument, CannotTrain, LayeredError, UnknownName
from layered.loop import Loop
from layered.optim import SGD, Adam, Lion, OptimWrapper, params

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


def learner(**kwargs) -> Loop:
    torch.manual_seed(0)
    data = list(zip(X.split(4), X.sum(1, keepdim=True).split(4), strict=True))
    given = {"model": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)), "loss_func": nn.MSELoss(), "lr": 0.1, **kwargs}
    learn = Loop((data, None), **given)
    learn.logger = lambda row: None
    return learn


def trained(**kwargs):
    learn = learner(**kwargs)
    learn.fit(1)
    return learn.model.state_dict()


@pytest.mark.parametrize(
    ("name", "same"), [("adam", Adam), ("SGD", SGD), ("AdamW", Adam), ("lion", Lion), ("nadam", torch.optim.NAdam)]
)
def test_optimizers_have_names(name, same):
    assert_close(trained(opt_func=name), trained(opt_func=same), rtol=0, atol=0)
    assert_close(trained(opt_func={"0": name, "1": "sgd"}), trained(opt_func={"0": same, "1": SGD}), rtol=0, atol=0)


@pytest.mark.parametrize("splitter", [params, lambda model: [params(layer) for layer in model]])
@pytest.mark.parametrize(
    "opt_func", [lambda p, lr: torch.optim.SGD(p, lr=lr), lambda p, **kwargs: torch.optim.SGD(p, **kwargs)]
)
def test_a_function_may_return_an_optimizer_of_torch(opt_func, splitter):
    expected = trained(opt_func=torch.optim.SGD, splitter=splitter)
    assert_close(trained(opt_func=opt_func, splitter=splitter), expected, rtol=0, atol=0)


BUILT = torch.optim.AdamW(nn.Linear(1, 1).parameters())


@pytest.mark.parametrize(
    ("opt_func", "words"),
    [
        (BUILT, r"(?s)built already.*opt_func=AdamW"),
        (torch.optim.LBFGS, "LBFGS evaluates the loss several times"),
        (partial(torch.optim.LBFGS, max_iter=3), "LBFGS evaluates the loss several times"),
        ("lbfgs", "LBFGS evaluates the loss several times"),
        ({"0": "lbfgs", "1": SGD}, "LBFGS evaluates the loss several times"),
        (nn.Linear, "must make an optimizer"),
        (nn.Linear(1, 1), "must make an optimizer"),
        (3, "must make an optimizer"),
        (None, "must make an optimizer"),
        ({"0": BUILT, "1": SGD}, "built already"),
    ],
)
def test_what_makes_no_optimizer_is_refused_at_once(opt_func, words):
    with pytest.raises(BadArgument, match=words):
        learner(opt_func=opt_func)


def test_unknown_names_and_results_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'adam'"):
        learner(opt_func="adamm")
    with pytest.raises(BadArgument, match="must return an optimizer"):
        learner(opt_func=lambda groups, lr: None).create_opt()
    learn = learner()
    learn.opt_func = BUILT
    with pytest.raises(BadArgument, match="built already"):
        learn.fit(1)


@pytest.mark.parametrize(
    "opt_func",
    [
        lambda p, lr: torch.optim.LBFGS(p, lr=lr),
        lambda p, lr: OptimWrapper(p, opt=torch.optim.LBFGS, lr=lr),
        partial(OptimWrapper, opt=torch.optim.LBFGS),
    ],
)
def test_an_optimizer_that_evaluates_the_loss_is_refused_when_it_is_made(opt_func):
    learn = learner(opt_func=opt_func)
    with pytest.raises(BadArgument, match=r'LBFGS evaluates the loss several times(?s:.*)opt_func="adam"'):
        learn.fit(1)
    learn.opt_func = "adam"
    learn.fit(1)


def test_an_optimizer_that_was_set_by_hand_and_cannot_be_used_is_refused():
    learn = learner()
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    learn.opt = OptimWrapper(opt=torch.optim.LBFGS(learn.model.parameters()))
    with pytest.raises(BadArgument, match="LBFGS evaluates the loss several times"):
        learn.fit(1)
    learn.opt = torch.optim.SGD(learn.model.parameters(), lr=0.1)
    with pytest.raises(BadArgument, match=r"(?s)an object of SGD.*learn.opt = OptimWrapper\(opt="):
        learn.fit(1)
    assert_close(learn.model.state_dict(), before, rtol=0, atol=0)


def test_an_optimizer_that_is_built_goes_in_as_the_fix_says():
    learn = learner()
    learn.opt = OptimWrapper(opt=torch.optim.SGD(learn.model.parameters(), lr=0.1))
    learn.fit(1)
    assert_close(learn.model.state_dict(), trained(opt_func=torch.optim.SGD), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss_func", "fix"),
    [
        (nn.L1Loss, "loss_func=L1Loss()"),
        ("mse", "loss_func=MSELossFlat()"),
        ("cross_entropy", "loss_func=CrossEntropyLossFlat()"),
        ("L1Loss", "loss_func=L1LossFlat()"),
        (3.0, "loss_func="),
    ],
)
def test_what_is_not_a_loss_is_refused(loss_func, fix):
    with pytest.raises(BadArgument, match="must be a loss") as error:
        learner(loss_func=loss_func)
    assert fix in str(error.value)


@pytest.mark.parametrize("model", [nn.Linear, lambda x: x, None, "resnet"])
def test_what_is_not_a_module_is_refused(model):
    with pytest.raises(BadArgument, match="must be a module"):
        learner(model=model)


@pytest.mark.parametrize("cbs", ["early", nn.Linear(1, 1), nn.Linear, 3, [SGD], {"a": 1}])
def test_what_is_not_a_callback_is_refused(cbs):
    with pytest.raises(LayeredError, match="not a callback"):
        learner(cbs=cbs)


def test_a_batch_of_one_sample_says_what_batch_norm_needs():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    data = [(X[:11], X[:11, :1]), (X[11:], X[11:, :1])]
    with pytest.raises(CannotTrain, match=r"(?s)batch of a single sample.*1×3.*drop_last=True"):
        Loop((data, None), model, nn.MSELoss()).fit(1)


@pytest.mark.parametrize(
    "model", [nn.Linear(3, 1), nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 1, 3), nn.Flatten())]
)
def test_float64_inputs_are_named(model):
    learn = Loop(([(X.double(), X[:, :1])], None), model, nn.MSELoss())
    with pytest.raises(
        CannotTrain, match=r"(?s)inputs are float64 and the model is float32.*x\.float\(\).*model\.double\(\)"
    ):
        learn.fit(1)
    learn.model.double()
    learn.fit(1)


def test_lists_in_place_of_arrays_are_named():
    rows = [(row.tolist(), 0.0) for row in X]
    learn = Loop((DataLoader(rows, bs=4), None), nn.Linear(3, 1), nn.MSELoss())
    with pytest.raises(CannotTrain, match=r"(?s)lists in place of tensors.*np\.array\(x, dtype='float32'\)"):
        learn.fit(1)


def test_other_errors_of_a_model_stay_as_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        Loop(([(X[:, :2], X[:, :1])], None), nn.Linear(3, 1), nn.MSELoss()).fit(1)


def test_a_detector_without_a_step_is_an_error_with_the_way():
    class Detector(nn.Linear):
        def forward(self, images, targets=None):
            torch._assert(targets is not None, "targets should not be none when in training mode")

    learn = Loop(([((torch.zeros(3, 4, 4),), ({"boxes": torch.zeros(1, 4)},))], None), Detector(1, 1))
    with pytest.raises(CannotTrain, match=r"Detector computes its losses from targets[\s\S]*step=detect"):
        learn.fit(1)
