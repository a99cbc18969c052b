"""A LightningModule is trained by its own methods, and ends as Lightning's Trainer leaves it."""

import copy
import logging
import warnings

import lightning
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from layered.foundation import BadArgument, BadValue, CannotTrain, UnknownName
from layered.loop import Checkpoint
from layered.metrics import accuracy
from layered.training import Learner, load_learner

X = torch.randn(88, 4, generator=torch.Generator().manual_seed(0))
ROWS = TensorDataset(X, (X[:, 0] > 0).long())


def loaders():
    train, valid = torch.utils.data.random_split(ROWS, [64, 24], torch.Generator().manual_seed(1))
    return DataLoader(train, batch_size=8, shuffle=True), DataLoader(valid, batch_size=16)


def module(base=lightning.LightningModule, configure=None, **methods):
    """A classifier with dropout, of one of the packages."""

    class Classifier(base):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))
            self.accuracy = MulticlassAccuracy(2)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            x, y = batch
            out = self(x)
            loss = F.cross_entropy(out, y)
            self.accuracy(out, y)
            self.log("loss", loss, on_epoch=True)
            self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch, batch_idx):
            x, y = batch
            out = self(x)
            self.log_dict({"val_loss": F.cross_entropy(out, y), "val_acc": (out.argmax(1) == y).float().mean()})

        def configure_optimizers(self):
            opt = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
            return opt if configure is None else configure(self, opt)

    for name, method in methods.items():
        setattr(Classifier, name, method)
    torch.manual_seed(3)
    return Classifier()


def by_trainer(model, epochs, package=lightning):
    """What Lightning's Trainer makes of a model: the values that it has logged last."""
    pl = lightning.pytorch if package is lightning else pytorch_lightning
    logging.getLogger(pl.__name__).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        torch.manual_seed(7)
        trainer.fit(model, *loaders())
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def by_learner(model, epochs, **learner_args):
    learn = Learner(loaders(), model, **learner_args)
    torch.manual_seed(7)
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs)
    return learn


def assert_same_weights(model, other):
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def total_steps(model, opt):
    schedule = lr_scheduler.OneCycleLR(opt, 0.1, total_steps=model.trainer.estimated_stepping_batches)
    return [opt], [{"scheduler": schedule, "interval": "step"}]


CONFIGURED = {
    "a list": lambda model, opt: [opt],
    "a dict": lambda model, opt: {"optimizer": opt},
    "a scheduler in a dict": lambda model, opt: {"optimizer": opt, "lr_scheduler": lr_scheduler.ExponentialLR(opt, 0.7)},
    "two lists": lambda model, opt: ([opt], [lr_scheduler.StepLR(opt, 1, 0.5)]),
    "a plateau": lambda model, opt: {
        "optimizer": opt,
        "lr_scheduler": {"scheduler": lr_scheduler.ReduceLROnPlateau(opt, patience=0, factor=0.1), "monitor": "val_loss"},
    },
    "its monitor beside it": lambda model, opt: {
        "optimizer": opt, "monitor": "val_acc", "lr_scheduler": lr_scheduler.ReduceLROnPlateau(opt, "max", 0.1, 0),
    },
    "every second step": lambda model, opt: {
        "optimizer": opt,
        "lr_scheduler": {"scheduler": lr_scheduler.StepLR(opt, 1, 0.8), "interval": "step", "frequency": 2, "name": "halves"},
    },
    "the length of the fit": total_steps,
    "two schedules": lambda model, opt: (
        [opt],
        [lr_scheduler.LinearLR(opt, 0.1, total_iters=2), {"scheduler": lr_scheduler.StepLR(opt, 5, 0.9), "interval": "step"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["a list", "a dict", "a scheduler in a dict"])
def test_every_form_of_an_optimizer_is_read(name):
    assert type(by_learner(module(configure=CONFIGURED[name]), 1).opt.opt) is torch.optim.SGD


@pytest.mark.parametrize("name", list(CONFIGURED)[3:])
def test_it_ends_as_lightnings_trainer_leaves_it(name):
    model = module(configure=CONFIGURED[name])
    theirs = copy.deepcopy(model)
    logged = by_trainer(theirs, 3)
    learn = by_learner(model, 3)
    assert_same_weights(model, theirs)
    row = learn.recorder.history[-1]
    for name in ("val_loss", "val_acc", "train_acc"):
        assert row[name] == pytest.approx(logged[name], abs=1e-6)
    assert row["loss"] == pytest.approx(logged["loss_epoch"], abs=1e-6)
    assert row["valid_loss"] == pytest.approx(logged["val_loss"], abs=1e-6)


def test_a_module_of_pytorch_lightning_is_the_same():
    model = module(pytorch_lightning.LightningModule)
    theirs = copy.deepcopy(model)
    by_trainer(theirs, 2, pytorch_lightning)
    by_learner(model, 2)
    assert_same_weights(model, theirs)


def test_each_fit_configures_its_optimizer_anew():
    model = module(configure=total_steps)
    theirs = copy.deepcopy(model)
    for epochs in (2, 1):
        by_trainer(theirs, epochs)
    learn = by_learner(model, 2)
    torch.manual_seed(7)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    assert_same_weights(model, theirs)


def test_it_predicts_by_forward_and_has_metrics():
    learn = by_learner(module(), 2, metrics=accuracy)
    preds, targets = learn.get_preds()
    _, valid = loaders()
    rows = [ROWS[i] for i in valid.dataset.indices]
    with torch.no_grad():
        assert torch.equal(
            preds, torch.cat([learn.model(torch.stack([x for x, _ in rows[i : i + 16]])) for i in (0, 16)])
        )
    assert torch.equal(targets, torch.stack([y for _, y in rows]))
    row = learn.recorder.history[-1]
    assert row["accuracy"] == pytest.approx(row["val_acc"])
    assert row["accuracy"] == pytest.approx((preds.argmax(1) == targets).float().mean().item())
    alone = learn.get_preds(dl=[X[:5]])
    assert alone[0].shape == (5, 2)
    assert alone[1] is None


def test_its_predict_step_predicts_where_it_has_one():
    learn = by_learner(module(predict_step=lambda self, batch, batch_idx: self(batch[0]).softmax(1)), 1)
    torch.testing.assert_close(learn.get_preds()[0].sum(1), torch.ones(24))


class Stopped(Exception):
    pass


@pytest.mark.parametrize("configure", ["a plateau", "the length of the fit"])
@pytest.mark.parametrize("at", [4, 8, 11])
def test_a_stopped_fit_goes_on_as_if_it_had_not_been(tmp_path, configure, at):
    def made(stop):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if stop and self.global_step == at:
                raise Stopped

        torch.manual_seed(7 if stop else 8)
        return Learner(loaders(), module(configure=CONFIGURED[configure], on_train_batch_end=on_train_batch_end))

    whole = by_learner(module(configure=CONFIGURED[configure], on_train_batch_end=lambda self, *args: None), 3)
    first = made(stop=True)
    torch.manual_seed(7)
    with first.no_bar(), first.no_logging(), pytest.raises(Stopped):
        first.fit(3, checkpoint=Checkpoint(tmp_path, every="3 batches"))
    second = made(stop=False)
    with second.no_bar(), second.no_logging():
        second.fit(3, checkpoint=Checkpoint(tmp_path, every="3 batches"), resume="auto")
    assert_same_weights(second.model, whole.model)
    assert second.recorder.values == whole.recorder.values
    assert second.recorder.metric_names == whole.recorder.metric_names


HOOKS = (
    "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad", "on_before_backward",
    "on_after_backward", "on_before_optimizer_step", "on_train_batch_end", "on_validation_start", "on_validation_epoch_start",
    "on_validation_batch_start", "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end", "on_train_epoch_end",
    "on_train_end", "on_fit_end",
)  # fmt: skip


def test_hooks_are_called_when_lightning_calls_them():
    def noting(name):
        def hook(self, *args):
            self.called.append((name, self.current_epoch, self.global_step, len(args)))

        return hook

    model = module(called=[], **{name: noting(name) for name in HOOKS})
    by_learner(model, 2)
    ours = list(model.called)
    model.called.clear()
    by_trainer(model, 2)
    assert [one[0] for one in ours if one[0] != "on_train_epoch_end"] == [
        one[0] for one in model.called if one[0] != "on_train_epoch_end"
    ]
    ends = ("on_train_end", "on_fit_end")  # where Lightning counts one epoch more
    assert {one for one in ours if one[0] not in ends} == {one for one in model.called if one[0] not in ends}


def test_hooks_that_are_not_called_are_said():
    model = module(optimizer_step=lambda self, *args, **kwargs: None, transfer_batch_to_device=lambda self, *args: None)
    with pytest.warns(
        UserWarning, match="defines optimizer_step, transfer_batch_to_device, which a learner does not call"
    ):
        by_learner(model, 1)


def test_a_hook_may_end_the_pass():
    model = module(on_train_batch_start=lambda self, batch, batch_idx: -1 if batch_idx == 2 else None)
    assert by_learner(model, 1).train_iter == 2


def test_what_is_logged_under_a_name_made_on_the_way_gets_its_column():
    def on_train_epoch_end(self):
        self.log(f"epoch_{self.current_epoch % 2}", float(self.current_epoch))

    learn = by_learner(module(on_train_epoch_end=on_train_epoch_end), 2)
    assert [row["epoch_0"] for row in learn.recorder.history] == [0.0, None]
    assert [row["epoch_1"] for row in learn.recorder.history] == [None, 1.0]


def test_its_values_are_combined_as_they_were_asked_to():
    def validation_step(self, batch, batch_idx):
        for reduction in ("mean", "sum", "min", "max", torch.median):
            self.log(str(reduction)[:5], batch_idx + 1, reduce_fx=reduction)
        self.log("even", float(batch_idx), batch_size=1)

    row = by_learner(module(validation_step=validation_step), 1).recorder.history[-1]
    assert row["mean"] == pytest.approx((16 * 1 + 8 * 2) / 24)
    assert (row["sum"], row["min"], row["max"], row["<buil"], row["even"]) == (3, 1, 2, 1, 0.5)
    assert row["valid_loss"] is None


def test_a_metric_may_be_logged_under_two_names():
    def training_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        self.accuracy(out, y)
        for name in ("once", "again"):
            self.log(name, self.accuracy, on_step=False, on_epoch=True)
        return F.cross_entropy(out, y)

    row = by_learner(module(training_step=training_step), 1).recorder.history[-1]
    assert row["once"] == row["again"] > 0


def test_a_schedule_of_the_learner_wins_and_says_so():
    learn = by_learner(module(configure=CONFIGURED["two lists"]), 1)
    with learn.no_bar(), learn.no_logging(), pytest.warns(UserWarning, match="configure_optimizers is left out"):
        learn.fit_one_cycle(1)


def test_an_optimizer_of_the_learner_takes_the_place_of_its_own():
    learn = by_learner(module(), 1, opt_func="adam", lr=0.01)
    assert type(learn.opt).__name__ == "Optimizer"
    learn = by_learner(module(), 1, loss_func=nn.CrossEntropyLoss())
    assert learn.recorder.metric_names == ["epoch", "train_loss", "valid_loss", "time"]


def test_copies_and_exports(tmp_path):
    learn = by_learner(module(), 1)
    other = copy.copy(learn)
    before = copy.deepcopy(learn.model.state_dict())
    with other.no_bar(), other.no_logging():
        other.fit(1)
    assert all(torch.equal(weight, learn.model.state_dict()[name]) for name, weight in before.items())
    with pytest.warns(UserWarning, match="how to build the model"):
        file = learn.export(tmp_path / "lit")
    loaded = load_learner(file, model=module())
    assert torch.equal(loaded.get_preds(dl=[X[:5]])[0], learn.get_preds(dl=[X[:5]])[0])


def test_what_cannot_be_trained_is_refused():
    by_hand = module()
    by_hand.automatic_optimization = False
    with pytest.raises(BadArgument, match=r"optimizes by hand[\s\S]*step=step"):
        Learner(loaders(), by_hand)
    with pytest.raises(BadArgument, match="rate of a LightningModule"):
        Learner(loaders(), module(), lr=0.1)
    with pytest.raises(BadArgument, match="no training_step"):
        Learner(loaders(), module(training_step=lightning.LightningModule.training_step))
    none = module(configure_optimizers=lambda self: None)
    with pytest.raises(BadArgument, match="returned no optimizers"):
        by_learner(none, 1)
    by_learner(none, 1, opt_func="adam")
    learn = by_learner(module(configure=CONFIGURED["two lists"]), 1)
    with pytest.raises(BadValue, match="follow the schedule"):
        learn.fit(1, lr=0.1)
    with pytest.raises(CannotTrain, match="does not say how it predicts"):
        by_learner(module(forward=lightning.LightningModule.forward, training_step=lambda self, b: self.net(b[0]).mean()), 1,
                   metrics=accuracy)  # fmt: skip


@pytest.mark.parametrize(
    ("configure", "error", "match"),
    [
        (lambda model, opt: [opt, opt], BadArgument, "returned 2 optimizers"),
        (lambda model, opt: "adam", BadArgument, "not an optimizer"),
        (lambda model, opt: {"optimiser": opt}, UnknownName, "did you mean 'optimizer'"),
        (
            lambda model, opt: {"optimizer": opt, "lr_scheduler": {"schedular": 1}},
            UnknownName,
            "did you mean 'scheduler'",
        ),
        (
            lambda model, opt: {"optimizer": opt, "lr_scheduler": lr_scheduler.ReduceLROnPlateau(opt)},
            BadArgument,
            "which value its ReduceLROnPlateau watches",
        ),
        (
            lambda model, opt: {
                "optimizer": opt,
                "lr_scheduler": {"scheduler": lr_scheduler.ReduceLROnPlateau(opt), "monitor": "val_f1"},
            },
            CannotTrain,
            r"watches 'val_f1'[\s\S]*val_acc",
        ),
    ],
)
def test_what_configure_optimizers_may_not_return(configure, error, match):
    with pytest.raises(error, match=match):
        by_learner(module(configure=configure), 1)


def test_what_a_trainer_would_say_is_named():
    def training_step(self, batch, batch_idx):
        return self.trainer.strategy

    with pytest.raises(AttributeError, match=r"self\.trainer\.strategy[\s\S]*current_epoch"):
        by_learner(module(training_step=training_step), 1)
