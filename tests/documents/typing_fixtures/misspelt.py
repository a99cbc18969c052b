"""Misspelt attributes and arguments, one on each line marked `# no:`; mypy must refuse all of these lines, and no other."""

from pathlib import Path

from torch import Tensor, nn

from layered.data import CategoryBlock, DataBlock, DataLoader, DataLoaders
from layered.loop import (
    Callback,
    Checkpoint,
    Event,
    Recorder,
)
from layered.metrics import accuracy
from layered.optim import Adam, Optimizer
from layered.training import Learner


class Typos(Callback):
    def before_batch(self) -> None:
        self.learn.xbs = self.xb  # no: xb
        print(self.bach)  # no: batch
        print(self.trianing)  # no: training

    def after_pred(self) -> None:
        print(self.learn.preds)  # no: pred
        print(self.pred, self.lerning)  # no: learning

    def after_loss(self) -> None:
        self.learn.loss_gard = 2 * self.loss_grad  # no: loss_grad
        self.learn.minimise(self.loss)  # no: minimize
        self.learn.minimize(self.loss, optimizer="gen")  # no: opt

    def after_step(self) -> None:
        print(self.learn.opt.hyper[-1])  # no: hypers
        self.learn.opt.set_hypper("lr", 0.1)  # no: set_hyper
        self.learn.optim.zero_grad()  # no: opt
        self.learn.model.parametrs()  # no: parameters

    def after_epoch(self) -> None:
        print(self.recorder.value[-1])  # no: values
        print(self.learn.recorder.loses)  # no: losses
        self.learn.callbacks[Recorder].plot_los()  # no: plot_loss
        self.learn.emitt("after_generator")  # no: emit
        self.learn.save("best", with_optimizer=True)  # no: with_opt


def on_a_learner(learn: Learner) -> None:
    print(learn.los)  # no: loss
    learn.fit(1, learning_rate=0.1)  # no: lr
    learn.fit(n_epochs=1)  # no: n_epoch
    learn.fit_one_cycle(1, lr_mx=0.1)  # no: lr_max
    learn.fit_one_cicle(1)  # no: fit_one_cycle
    print(learn.recorder.histry)  # no: history
    learn.validate(dss_idx=0)  # no: ds_idx
    with learn.no_baar():  # no: no_bar
        learn.freezeto(1)  # no: freeze_to
    learn.add_callback(Typos())  # no: add_cb
    learn.on("after_epoch", print, onse=True, evry=2).remve()  # no: remove


def made(dls: DataLoaders, model: nn.Module, folder: Path, xs: list[Tensor]) -> None:
    Learner(dls, model, los_func=nn.MSELoss(), metrics=accuracy)  # no: loss_func
    Recorder(add_tme=False)  # no: add_time
    Checkpoint(folder, evry="1 epoch")  # no: every
    print(Event.befor_fit)  # no: before_fit
    opt: Optimizer = Adam(model.parameters(), lrr=0.1)  # no: lr
    opt.setp()  # no: step
    DataLoader(xs, bacth_size=4)  # no: bs
    print(dls.trian)  # no: train
    print(dls.train.shufle)  # no: shuffle
    dls.valid.one_bacth()  # no: one_batch
    DataBlock(blocks=(CategoryBlock, "category"))  # no: a block
    DataBlock(splitter=0.2)  # no: a function
