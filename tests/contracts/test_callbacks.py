"""Every callback that the library ships keeps the contract: alone, with each other one, across a crash, in another process."""

import importlib
import pickle
import pkgutil
import subprocess
import sys
import tempfile
from functools import partial

import optuna
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

import layered.callback
import layered.inference
import layered.insight
import layered.loop
import layered.training
import layered.vision.gan
from layered.data import DataLoaders
from layered.loop import Callback
from layered.nn import CrossEntropyLossFlat
from layered.testing import check_callback, check_callbacks_together, check_resuming
from layered.training import Learner


def picture_learner(**args) -> Learner:
    """Three batches of pictures, and a model with all that callbacks look at: batch norm, dropout, groups."""
    torch.manual_seed(0)
    x = torch.randn(18, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    train, valid = (TensorDataset(part, torch.arange(len(part)) % 3) for part in (x[:14], x[14:]))
    dls = DataLoaders.from_dsets(train, valid, bs=4, device="cpu", seed=0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(body, nn.Dropout(0.2), nn.Linear(64, 3))
    return Learner(
        dls,
        model,
        CrossEntropyLossFlat(),
        lr=0.05,
        splitter=lambda m: [[*m[0].parameters()], [*m[2].parameters()]],
        **args,
    )


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def shipped():
    """Every public callback class of the library, by name."""
    packages = (
        layered.callback,
        layered.loop,
        layered.inference,
        layered.insight,
        layered.training,
        layered.vision.gan,
    )
    for package in packages:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    names = tuple(f"{package.__name__}." for package in packages)
    return {
        kind.__name__: kind
        for kind in subclasses(Callback)
        if kind.__module__.startswith(names) and not kind.__name__.startswith("_")
    }


SHIPPED = shipped()
OWN_TESTS = {
    "AdaptiveGANSwitcher": "needs a generator and a critic",
    "Checkpoint": "needs a folder of its own; every test of resuming uses it",
    "FileLogger": "the base of CSVLogger and JSONLogger",
    "FixedGANSwitcher": "needs a generator and a critic",
    "GANDiscriminativeLR": "needs a generator and a critic",
    "GANTrainer": "needs a generator and a critic",
    "HeldOutCallback": "made by fit_auto for one fit; its tests resume it",
    "MixHandler": "the base of MixUp and CutMix",
    "ModelResetter": "needs a recurrent model",
    "RNNCallback": "needs a recurrent model",
    "RNNRegularizer": "needs a recurrent model",
    "Recorder": "every learner has one already",
    "ResumedFit": "made by fit(resume=) for one fit; every test of resuming uses it",
    "Review": "made by Interpretation for one pass",
    "TrainEvalCallback": "every learner has one already",
    "TruncatedBPTT": "needs a recurrent model",
    "WeightAverage": "the base of EMACallback and SWACallback",
}


class Log:
    """A logger of somebody else's."""

    def log(self, metrics, step):
        pass


class Run(Log):
    """A tracker of somebody else's, which runs already."""

    name = "own"
    tracker = "a run"

    def start(self):
        raise AssertionError

    def store_init_configuration(self, values):
        pass

    finish = start


def never(*args):
    return False


def print_nothing(module, args, output):
    pass


def falling(position):
    return 0.05 * (1 - position)


def torch_scheduler(opt):
    return torch.optim.lr_scheduler.StepLR(opt, 2)


RECORDS = tempfile.TemporaryDirectory()
EXAMPLES = {  # where the arguments have no defaults, or others say more
    "BatchBar": partial(SHIPPED["BatchBar"], "Training", 4),
    "ExperimentLogger": partial(SHIPPED["ExperimentLogger"], Run()),
    "FunctionCallback": partial(SHIPPED["FunctionCallback"], "after_batch", never, every=2),
    "GradientAccumulation": partial(SHIPPED["GradientAccumulation"], 6),
    "GradientClip": partial(SHIPPED["GradientClip"], 0.1),
    "GradualUnfreezing": partial(SHIPPED["GradualUnfreezing"], "2 batches"),
    "HookCallback": partial(SHIPPED["HookCallback"], hook=never),
    "LRFinder": partial(SHIPPED["LRFinder"], num_it=6),
    "LoggerCallback": partial(SHIPPED["LoggerCallback"], Log()),
    "MixedPrecision": partial(SHIPPED["MixedPrecision"], init_scale=256.0, growth_interval=2),
    "OptunaPruner": partial(SHIPPED["OptunaPruner"], optuna.trial.FixedTrial({})),
    "ParamScheduler": partial(SHIPPED["ParamScheduler"], {"lr": falling}),
    "RunRecord": partial(SHIPPED["RunRecord"], RECORDS.name),
    "SWACallback": partial(SHIPPED["SWACallback"], start=0.0),
    "ShortEpochCallback": partial(SHIPPED["ShortEpochCallback"], 0.7),
    "SkipToEpoch": partial(SHIPPED["SkipToEpoch"], 0),
    "StopWhen": partial(SHIPPED["StopWhen"], never),
    "TimeLimit": partial(SHIPPED["TimeLimit"], "1 h"),
    "TorchScheduler": partial(SHIPPED["TorchScheduler"], torch_scheduler),
    "ValidateEvery": partial(SHIPPED["ValidateEvery"], "3 batches"),
}
MAKERS = {name: EXAMPLES.get(name, kind) for name, kind in sorted(SHIPPED.items()) if name not in OWN_TESTS}


def test_every_callback_can_be_made_without_arguments_or_has_an_example():
    assert EXAMPLES.keys() | OWN_TESTS.keys() <= SHIPPED.keys()
    for name, make in MAKERS.items():
        assert type(make()) is SHIPPED[name]


@pytest.mark.parametrize("name", MAKERS)
def test_every_callback_keeps_the_contract(name):
    check_callback(MAKERS[name], picture_learner)


IN_COMPANY = [name for name in MAKERS if name != "LRFinder"]  # which leaves out validation; `lr_find` is its company


@pytest.mark.parametrize("name", IN_COMPANY)
def test_every_two_callbacks_go_together(name):
    for other in IN_COMPANY[IN_COMPANY.index(name) + 1 :]:
        check_callbacks_together([MAKERS[name], MAKERS[other]], picture_learner)


@pytest.mark.parametrize("name", IN_COMPANY)
def test_a_rate_is_found_in_the_company_of_any_callback(name, tmp_path):
    weights = []
    for finds in (True, False):
        learn = picture_learner(path=tmp_path, cbs=MAKERS[name]())
        with learn.no_bar(), learn.no_logging():
            if finds:
                learn.lr_find(num_it=6, show_plot=False, suggest_funcs=None)
            learn.fit(1)
        weights.append(learn.model.state_dict())
    assert_close(*weights, rtol=0, atol=0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_fit_with_any_callback_resumes_bit_for_bit(name):
    check_resuming(MAKERS[name], picture_learner)


def test_callbacks_travel_to_a_process_that_was_started_anew():
    cbs = [make() for name, make in MAKERS.items() if "test" not in pickle.dumps(make()).decode("latin-1")]
    assert len(cbs) > 20
    script = "import pickle, sys; print(*(type(cb).__name__ for cb in pickle.load(sys.stdin.buffer)))"
    told = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(cbs), capture_output=True, check=True
    ).stdout
    assert told.decode().split() == [type(cb).__name__ for cb in cbs]


def test_the_contract_catches_what_a_callback_leaves_behind():
    class Sticky(Callback):
        def before_fit(self):
            self.learn.last_heard = self

    class Hooked(Callback):
        def before_fit(self):
            self.model[1].register_forward_hook(print_nothing)

    class Frozen(Callback):
        def before_fit(self):
            self.model[2].bias.requires_grad_(False)

    for kind in (Sticky, Hooked, Frozen):
        with pytest.raises(
            (AssertionError, AttributeError, pickle.PicklingError), match=r"left itself|leaves a trace|pickle"
        ):
            check_callback(kind, picture_learner)


def test_the_contract_catches_a_callback_that_forgets():
    class Forgetful(Callback):
        transient = ("count",)

        def before_fit(self):
            self.count = 0

        def before_batch(self):
            self.count += 1
            self.learn.opt.set_hyper("lr", 0.01 * self.count)

    with pytest.raises(AssertionError, match="does not resume"):
        check_resuming(Forgetful, picture_learner)
