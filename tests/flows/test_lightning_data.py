"""A LightningDataModule, or loaders of a LightningModule itself, in a learner: called as Lightning's Trainer calls them."""

import copy
import gc
import logging
import warnings

import lightning
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from layered.foundation import BadArgument, CannotTrain
from layered.metrics import accuracy
from layered.training import Learner, load_learner

X = torch.randn(88, 4, generator=torch.Generator().manual_seed(0))
ROWS = TensorDataset(X, (X[:, 0] > 0).long())
CALLS = ["prepare_data", "setup fit", "train_dataloader", "val_dataloader"]


class Loaders:
    """The methods that Lightning asks for data, noting which were called."""

    def prepare_data(self):
        self.called.append("prepare_data")

    def setup(self, stage):
        self.called.append(f"setup {stage}")
        self.parts = random_split(ROWS, [64, 24])  # by the generator of torch

    def train_dataloader(self):
        self.called.append("train_dataloader")
        return DataLoader(self.parts[0], batch_size=8, shuffle=True)

    def val_dataloader(self):
        self.called.append("val_dataloader")
        return DataLoader(self.parts[1], batch_size=16)

    def teardown(self, stage):
        self.called.append(f"teardown {stage}")


class Data(Loaders, lightning.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.called = []


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.called = []
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Whole(Loaders, Net):
    """A module with its own loaders."""


def made(kind, **methods):
    torch.manual_seed(3)
    return type(kind.__name__, (kind,), methods)()


def by_trainer(model, data=None, pl=lightning.pytorch):
    logging.getLogger(pl.__name__).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        torch.manual_seed(7)
        trainer.fit(model, datamodule=data)
    return float(trainer.callback_metrics["val_loss"])


def by_learner(dls, model, **learner_args):
    torch.manual_seed(7)
    learn = Learner(dls, model, **learner_args)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    return learn


def assert_same_weights(model, other):
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_a_data_module_ends_as_lightnings_trainer_leaves_it():
    model, data = made(Net), made(Data)
    theirs = copy.deepcopy(model)
    val_loss = by_trainer(theirs, made(Data))
    learn = by_learner(data, model)
    assert_same_weights(model, theirs)
    assert learn.recorder.history[-1]["valid_loss"] == pytest.approx(val_loss, abs=1e-6)
    assert data.called == CALLS
    assert data.trainer is None


def test_a_module_with_its_own_loaders_ends_as_lightnings_trainer_leaves_it():
    model = made(Whole)
    theirs = copy.deepcopy(model)
    by_trainer(theirs)
    learn = by_learner(None, model, metrics=accuracy)
    assert_same_weights(model, theirs)
    assert model.called == CALLS
    assert learn.get_preds()[0].shape == (24, 2)


def test_a_data_module_of_pytorch_lightning_is_the_same():
    class Theirs(Loaders, pytorch_lightning.LightningDataModule):
        called = ()

        def prepare_data(self):
            self.called = []

    model = made(Net)
    theirs = copy.deepcopy(model)
    by_trainer(theirs, made(Data))
    by_learner(made(Theirs), model)
    assert_same_weights(model, theirs)


def test_what_a_module_makes_in_setup_is_trained():
    def setup(self, stage):
        self.net = nn.Linear(4, 2)

    model = made(Net, setup=setup)
    theirs = copy.deepcopy(model)
    by_trainer(theirs, made(Data))
    by_learner(made(Data), model)
    assert_same_weights(model, theirs)


def test_it_is_set_up_once_for_all_passes_and_torn_down_when_it_is_no_longer_used():
    data = made(Data)
    learn = by_learner(data, made(Net))
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    learn.validate()
    other = copy.copy(learn)
    del learn
    gc.collect()
    assert data.called == CALLS
    del other
    gc.collect()
    assert data.called == [*CALLS, "teardown fit"]


def test_a_data_module_serves_any_model_and_the_export_is_without_it(tmp_path):
    data = lightning.LightningDataModule.from_datasets(ROWS, batch_size=8)
    learn = by_learner(data, nn.Linear(4, 2), loss_func=nn.CrossEntropyLoss(), lr=0.1)
    assert len(learn.dls.loaders) == 1
    loaded = load_learner(learn.export(tmp_path / "linear"))
    assert torch.equal(loaded.get_preds(dl=[X[:5]])[0], learn.get_preds(dl=[X[:5]])[0])


def test_the_trainer_says_how_many_processes_there_are_and_which_data_module_it_is():
    seen = []

    def setup(self, stage):
        seen.append(self.trainer.world_size)
        Loaders.setup(self, stage)

    def training_step(self, batch, batch_idx):
        seen.append(self.trainer.datamodule)
        return Net.training_step(self, batch, batch_idx)

    data = made(Data, setup=setup)
    by_learner(data, made(Net, training_step=training_step))
    assert seen[0] == 1
    assert set(seen[1:]) == {data}
    by_learner(None, made(Whole, setup=setup, training_step=training_step))
    assert seen[-1] is None


def test_a_loss_of_the_learner_trains_a_module_by_its_own_loaders():
    model = made(Whole, training_step=lightning.LightningModule.training_step)
    learn = by_learner(None, model, loss_func=nn.CrossEntropyLoss())
    assert learn.dls.source.called == CALLS


def test_one_validation_loader_in_a_list_is_it_and_none_is_none():
    learn = by_learner(made(Data, val_dataloader=lambda self: [DataLoader(self.parts[1], batch_size=16)]), made(Net))
    assert learn.recorder.history[-1]["valid_loss"] > 0
    assert len(by_learner(made(Data, val_dataloader=lambda self: []), made(Net)).dls.loaders) == 1


@pytest.mark.parametrize("kind", ["data", "model"])
def test_several_validation_loaders_are_refused_with_the_lines_that_take_the_first(kind):
    def val_dataloader(self):
        return {"near": DataLoader(self.parts[1], 16), "far": DataLoader(self.parts[0], 16)}

    data, model = made(Data, val_dataloader=val_dataloader), made(Whole, val_dataloader=val_dataloader)
    with pytest.raises(BadArgument, match=r"returned 2 loaders[\s\S]*learn\.validate\(dl=") as error:
        Learner(*((data, made(Net)) if kind == "data" else (None, model)))
    *preparing, last, _ = str(error.value).partition("let it return one; or ")[2].strip().split("; ")
    for line in preparing:
        eval(line)
    learn = eval(last, {"Learner": Learner, "data": data, "model": model})
    assert len(learn.dls.valid) == 2


def test_what_has_no_loaders_is_refused():
    with pytest.raises(BadArgument, match=r"Net has no train_dataloader[\s\S]*valid_loader"):
        Learner(None, made(Net))
    with pytest.raises(BadArgument, match="LightningDataModule has no train_dataloader"):
        Learner(lightning.LightningDataModule(), made(Net))
    with pytest.raises(CannotTrain, match="expected loaders"):
        Learner(None, nn.Linear(4, 2))
    with pytest.raises(BadArgument, match="returned no loader"):
        Learner(made(Data, train_dataloader=lambda self: None), made(Net))


def test_methods_of_a_data_module_that_are_not_called_are_said():
    with pytest.warns(UserWarning, match="Data defines on_after_batch_transfer, which a learner does not call"):
        Learner(made(Data, on_after_batch_transfer=lambda self, batch, idx: batch), made(Net))
