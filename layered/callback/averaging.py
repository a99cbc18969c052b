"""Averages of the weights that training passes through: often better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from layered.callback.freezing import bn_types, epochs_or_batches
from layered.data import as_loader
from layered.foundation import (
    CannotTrain,
    OutOfRange,
    find_device,
    key_of,
    local_part,
    plain_tree,
    seeded,
    shard_like,
    to_device,
)
from layered.loop import (
    AbstractLoop,
    Callback,
    Count,
    Kinds,
    bad_state,
    interrupts_held,
    iter_once,
    modes_of,
    send_from_first,
    set_epoch,
    set_modes,
    split_batch,
    unwrapped,
)


class WeightAverage(Callback):
    """Base of the callbacks that keep an average of the weights, and of batch norm's running statistics.

    `with learn.<name>.averaged():` borrows the average after a fit. A fit that fails leaves the last weights. The average is
    part of checkpoints, and starts anew with each fit.

    Args:
        validate: Validation passes of the fit use the average, and so does whatever is saved after an epoch.
        keep: The fit ends with the average in the model, and `save` and `export` write it; False leaves the last weights.
    """

    order = 90  # after the callbacks that judge and save an epoch (60 to 65), before checkpoints
    transient = ("_active", "_swapped", "_stepped", "_until_validated")
    state_kinds: ClassVar[Kinds] = (("averages", dict[str, Tensor]), ("count", Count))

    def __init__(self, validate: bool, keep: bool) -> None:
        self.validate, self.keep = validate, keep
        self.averages: dict[str, Tensor] = {}
        self.count = 0  # how many weights the average is of
        self._active = self._swapped = self._stepped = self._until_validated = False

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            self._active, self._stepped, self.averages, self.count = not learn.peeking, False, {}, 0

    def check_state(self, state: Mapping[str, Any]) -> None:
        super().check_state(state)
        averages, own = state.get("averages", {}), {} if self._learn is None else _weights(self.learn.model)
        fitting = {name: x.shape for name, x in averages.items()} == {name: x.shape for name, x in own.items()}
        if bool(averages) != bool(state.get("count", 0)) or (averages and own and not fitting):
            raise bad_state(self, f"an average of {state.get('count', 0)} weights, of {len(averages)} tensors")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        own = {} if self._learn is None else _weights(self.learn.model)
        self.averages = {name: shard_like(x, own.get(name, x)) for name, x in self.averages.items()}

    def add(self, share: float) -> None:
        """average <- average + share * (weights - average); the first weights are the average.

        Args:
            share: Weight of the new weights, in [0, 1].
        """
        weights = _weights(self.learn.model)
        if self.count == 0:
            self.averages = {name: own.clone() for name, own in weights.items()}
        else:
            averages = [local_part(self.averages[name]) for name in weights]
            torch._foreach_lerp_(averages, [local_part(own) for own in weights.values()], share)
        self.count += 1

    def settle(self) -> None:
        """Called when the average has been put into the model, for what else it needs there.

        Several processes take the running statistics of the first one.
        """
        send_from_first(unwrapped(self.learn.model).buffers())

    def swap(self) -> None:
        """Exchange the model's weights and the average.

        Raises:
            CannotTrain: There is no average yet.
        """
        if not self.averages:
            raise CannotTrain("no weights have been averaged yet", fix="fit with this callback first")
        with interrupts_held():  # a model half swapped is neither
            for name, own in _weights(self.learn.model).items():
                kept = own.clone()
                own.copy_(self.averages[name])
                self.averages[name].copy_(kept)
            self._swapped = not self._swapped

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context manager: the model has the average inside, and its own weights afterwards."""
        before = self._swapped
        try:
            self.swap()
            self.settle()
            yield
        finally:
            if self._swapped != before:
                self.swap()

    def before_validate(self) -> None:
        if self._active and self.validate and self.count and not self._swapped:
            self.swap()
            self.settle()
            self._until_validated = self.learn.nested

    def after_validate(self) -> None:
        if self.learn.nested and self._until_validated:
            self._swap_back()

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.epoch + 1 == learn.n_epoch:
            self._finish()
        else:
            self._swap_back()

    def after_cancel_fit(self) -> None:
        self._finish()

    def on_error(self) -> None:
        self._swap_back()

    def on_end(self) -> None:
        self._active = False

    def _swap_back(self) -> None:
        if self._swapped:
            self.swap()

    def _finish(self) -> None:
        self._swap_back()
        if self._active and self.keep and self.count:
            self.swap()
            self.settle()
            self.averages = {name: own.clone() for name, own in _weights(self.learn.model).items()}
            self._swapped = False
        self._active = False


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """What is averaged, by name: parameters and floating-point buffers, detached."""
    model = unwrapped(model)
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}


class EMACallback(WeightAverage):
    """Keeps an exponential moving average of the weights: average <- decay * average + (1 - decay) * weights.

    `with learn.ema.averaged():` borrows the average after a fit.

    Args:
        decay: Weight of the old average at each optimizer step.
        warmup: Start with a smaller decay, min(decay, (1 + n) / (10 + n)) at step n, so that the first weights fade sooner.
        validate: Validation passes of the fit use the average.
        keep: The fit ends with the average in the model.

    Raises:
        OutOfRange: `decay` is outside [0, 1].
    """

    state_kinds = ()

    def __init__(self, decay: float = 0.999, warmup: bool = True, validate: bool = True, keep: bool = True) -> None:
        if not 0 <= decay <= 1:
            raise OutOfRange("decay must be a fraction", got=decay, expected="a number in [0, 1]")
        super().__init__(validate, keep)
        self.decay, self.warmup = decay, warmup

    def before_step(self) -> None:
        self._stepped = True

    def after_cancel_step(self) -> None:  # such as a loss scaler's, when gradients overflow
        self._stepped = False

    def after_batch(self) -> None:
        if self._active and self._stepped and self.learn.training:
            decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.warmup else self.decay
            self.add(1 - decay)
            self._stepped = False

    after_train = after_batch  # gradient accumulation may step after the last batch


class SWACallback(WeightAverage):
    """Stochastic weight averaging: the plain mean of the weights at the ends of the last epochs.

    The running statistics of batch norm are recomputed for the average, over the training data.
    `with learn.swa.averaged():` borrows the average after a fit.

    Args:
        start: Averaging begins with the epoch at this fraction of the fit, in [0, 1).
        every: How often weights are added: "1 epoch" or "50 batches".
        lr: A constant learning rate while averaging, instead of any schedule's; None keeps the schedule's.
        validate: Validation passes use the average; each then costs a pass over the training data.
        keep: The fit ends with the average in the model.

    Raises:
        OutOfRange: `start` is outside [0, 1).
        BadValue: `every` is not a number of epochs or batches.
        CannotTrain: When a fit begins: the model has batch norm, and the training data is a generator.

    Source: Izmailov et al. 2018, arXiv:1803.05407
    """

    state_kinds = ()

    def __init__(
        self,
        start: float = 0.75,
        every: str = "1 epoch",
        lr: float | None = None,
        validate: bool = False,
        keep: bool = True,
    ) -> None:
        if not 0 <= start < 1:
            raise OutOfRange("start must be a fraction of the fit", got=start, expected="a number in [0, 1)")
        super().__init__(validate, keep)
        self.start, self.every, self.lr = start, every, lr
        self.number, self.unit = epochs_or_batches(every)

    def before_fit(self) -> None:
        super().before_fit()
        if self._active and iter_once(self.learn.dls.train) and _learning_norms(self.learn.model):
            raise CannotTrain(
                "batch norm's statistics need another pass over the training data, and a generator gives only one",
                fix="train on a list or a DataLoader",
            )

    def before_batch(self) -> None:
        learn = self.learn
        if learn.training and self.lr is not None and self._began() >= 0:
            learn.opt.set_hyper("lr", self.lr)

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training and self.unit == "batches" and self._began() >= 0 and learn.train_iter % self.number == 0:
            self.add(1 / (self.count + 1))

    def after_train(self) -> None:
        began = self._began()
        if self.unit == "epochs" and began >= 0 and began % self.number == 0:
            self.add(1 / (self.count + 1))

    def _began(self) -> int:
        """How many epochs ago averaging began; negative before that."""
        learn = self.learn
        return int(learn.epoch) - int(self.start * learn.n_epoch) if self._active else -1

    def settle(self) -> None:
        update_batch_norm(self.learn)
        super().settle()


def update_batch_norm(loop: AbstractLoop) -> None:
    """Recompute the running statistics of trainable batch norm layers, as their mean over the training batches.

    All other layers are in evaluation mode meanwhile. The loader's draws are keyed, so its position does not change.

    Args:
        loop: The loop, with model and training data.
    """
    model, train = loop.model, loop.dls.train
    layers = _learning_norms(model)
    if not layers:
        return
    modes, momenta = modes_of(model), [layer.momentum for layer in layers]
    device = find_device([*model.parameters()])
    loader = as_loader(train)
    n_inp = loader.n_inp or getattr(loop.dls, "n_inp", None)
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch then keeps a plain mean over the batches
            layer.train()
        with torch.no_grad(), loader.peeking(), seeded(key_of("batch norm", loop.epochs_started)):
            set_epoch(train, loop.epochs_started, "peek")
            for batch in islice(train, loop.epoch_length):
                batch = plain_tree(to_device(batch, device))
                xb, _ = split_batch(batch, n_inp, model)
                model(**xb) if isinstance(xb, dict) else model(*xb)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        set_modes(modes)


def _learning_norms(model: nn.Module) -> list[Any]:
    """The batch norm layers that keep statistics and are not frozen."""
    layers = [m for m in model.modules() if isinstance(m, bn_types) and m.track_running_stats]
    return [layer for layer in layers if all(p.requires_grad for p in layer.parameters())]
