"""The lines of `misspelt.py` as they should be: mypy must accept all of them."""

from pathlib import Path

from torch import Tensor, nn

from layered.data import DataLoader, DataLoaders
from layered.loop import Callback, CancelBatchException, Checkpoint, Event, Recorder
from layered.metrics import accuracy
from layered.optim import Adam, Optimizer
from layered.training import Learner


class Right(Callback):
    def before_batch(self) -> None:
        self.learn.xb = self.xb
        print(self.batch)
        print(self.training)

    def after_pred(self) -> None:
        print(self.learn.pred)
        print(self.pred, self.learning)

    def after_loss(self) -> None:
        self.learn.loss_grad = 2 * self.loss_grad
        self.learn.minimize(self.loss)
        self.learn.minimize(self.loss, opt="gen")

    def after_step(self) -> None:
        print(self.learn.opt.hypers[-1])
        self.learn.opt.set_hyper("lr", 0.1)
        self.learn.opt.zero_grad()
        self.learn.model.parameters()

    def after_epoch(self) -> None:
        print(self.recorder.values[-1])
        print(self.learn.recorder.losses)
        self.learn.callbacks[Recorder].plot_loss()
        self.learn.emit("after_generator")
        self.learn.save("best", with_opt=True)
        raise CancelBatchException


def on_a_learner(learn: Learner) -> None:
    print(learn.loss)
    learn.fit(1, lr=0.1, cbs=[Right, Checkpoint("run"), [Right()]], resume="auto")
    learn.fit(n_epoch=1, cbs=Right)
    learn.fit_one_cycle(1, lr_max=0.1)
    print(learn.recorder.history)
    learn.validate(ds_idx=0)
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(1)
    learn.add_cb(Right()).fit(1)
    learn.on("after_epoch", print, once=True, every=2).remove()


def made(dls: DataLoaders, model: nn.Module, folder: Path, xs: list[Tensor]) -> None:
    learn = Learner(dls, model, loss_func=nn.MSELoss(), metrics=accuracy)

    @learn.on("after_batch", every="100 batches")
    def show(learn: Learner) -> None:
        print(learn.train_iter, learn.loss)

    show(learn)
    Recorder(add_time=False)
    Checkpoint(folder, every="1 epoch")
    print(Event.before_fit)
    opt: Optimizer = Adam(model.parameters(), lr=0.1)
    opt.step()
    DataLoader(xs, batch_size=4)
