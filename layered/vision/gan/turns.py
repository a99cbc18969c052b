"""Whose turn it is: the callbacks that train a generator and a critic alternately."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from layered.data import Panel, TfmdDL, draw_panels
from layered.foundation import BadValue, CannotTrain, L, TensorImageBase, in_notebook
from layered.loop import AbstractLoop, Callback, Count, Optimizers, mean_of_processes, unwrapped
from layered.vision.models.gan import GANModule


def set_freeze_model(m: nn.Module, rg: bool) -> None:
    """Freeze a model, or train all of it.

    Args:
        m: The model.
        rg: Whether its parameters are trained.
    """
    m.requires_grad_(rg)


class GANTrainer(Callback):
    """Knows whose turn it is, and what is done around a batch of a GAN.

    Args:
        switch_eval: Keep the part whose turn it is not in evaluation mode.
        clip: Clip the critic's weights to [-clip, clip] before each batch.
        beta: Smoothing of the losses of both parts.
        gen_first: Each fit begins with the generator.
        show_img: Show an image of each epoch after a fit in a notebook.

    Attributes:
        gen_mode: Whether it is the generator's turn.
        imgs: An image that was made in each epoch.
    """

    order = -8  # after the modes of the whole model are set, before callbacks that freeze layers
    transient = ("imgs", "made")
    state_kinds = (("gen_mode", bool), ("sums", dict[str, Any]), ("counts", dict[str, Count]))

    def __init__(
        self,
        switch_eval: bool = False,
        clip: float | None = None,
        beta: float = 0.98,
        gen_first: bool = False,
        show_img: bool = True,
    ) -> None:
        self.switch_eval, self.clip, self.beta, self.gen_first, self.show_img = (
            switch_eval,
            clip,
            beta,
            gen_first,
            show_img,
        )
        self.gen_mode = gen_first
        self.sums: dict[str, Any] = {"generator": 0.0, "critic": 0.0}
        self.counts = {"generator": 0, "critic": 0}
        self.imgs: L[Any] = L()
        self.made: Tensor | None = None

    def switch(self, gen_mode: bool | None = None) -> None:
        """Whose turn it is from the next batch on.

        Args:
            gen_mode: True for the generator; by default the other part than now.
        """
        self.gen_mode = not self.gen_mode if gen_mode is None else gen_mode

    @property
    def turn(self) -> str:
        """The part whose turn it is."""
        return "generator" if self.gen_mode else "critic"

    def before_fit(self) -> None:
        if self.learn.fitting:
            self.switch(self.gen_first)
            self.sums, self.counts = dict.fromkeys(self.sums, 0.0), dict.fromkeys(self.counts, 0)
            self.imgs = L()

    def before_epoch(self) -> None:
        self.made = None

    def before_batch(self) -> None:
        if not self.learn.training:
            return
        model = gan_of(self.learn)
        if self.switch_eval:
            model.generator.train(self.gen_mode)
            model.critic.train(not self.gen_mode)
        if self.clip is not None:
            with torch.no_grad():
                for p in model.critic.parameters():
                    p.clamp_(-self.clip, self.clip)

    def after_batch(self) -> None:
        learn = self.learn
        if not learn.training or not learn.has_learned:
            return
        self.sums[self.turn] = self.beta * self.sums[self.turn] + (1 - self.beta) * learn.loss.float()
        self.counts[self.turn] += 1
        if self.gen_mode and isinstance(learn.pred, Tensor):
            self.made = learn.pred[:1].detach()

    def gen_loss(self) -> float | None:
        """The smooth loss of the generator in this fit."""
        return self._smooth("generator")

    def crit_loss(self) -> float | None:
        """The smooth loss of the critic in this fit."""
        return self._smooth("critic")

    def _smooth(self, part: str) -> float | None:
        count = self.counts[part]
        return float(self.sums[part]) / (1 - self.beta**count) if count else None

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting and self.show_img and self.made is not None and isinstance(learn.dls.train, TfmdDL):
            (image, *_) = learn.dls.train.decode_target((self.made[0],), learn.batch)
            if isinstance(image, TensorImageBase):
                self.imgs.append(image)

    def after_fit(self) -> None:
        if self.imgs and self.learn.fitting and in_notebook():
            draw_panels([[Panel([image])] for image in self.imgs], nrows=-(-len(self.imgs) // 10))


class FixedGANSwitcher(Callback):
    """Trains the critic for `n_crit` batches, then the generator for `n_gen`, and so on.

    Args:
        n_crit: Batches of the critic.
        n_gen: Batches of the generator.
    """

    order = 55  # after the losses are recorded
    state_kinds = (("done", Count),)

    def __init__(self, n_crit: int = 1, n_gen: int = 1) -> None:
        for name, n in {"n_crit": n_crit, "n_gen": n_gen}.items():
            if n < 1:
                raise BadValue(f"{name} is a number of batches", got=n, expected="a whole number from 1")
        self.n_crit, self.n_gen, self.done = n_crit, n_gen, 0

    def before_fit(self) -> None:
        if self.learn.fitting:
            self.done = 0

    def after_batch(self) -> None:
        if not self.learn.training:
            return
        trainer = self.learn.callbacks[GANTrainer]
        self.done += 1
        if self.done == (self.n_gen if trainer.gen_mode else self.n_crit):
            self.done = 0
            trainer.switch()


class AdaptiveGANSwitcher(Callback):
    """Trains a part until its loss, the mean of all processes, is below a threshold; without one, for a single batch.

    Args:
        gen_thresh: The threshold of the generator.
        critic_thresh: The threshold of the critic.
    """

    order = 55  # after the losses are recorded
    state_kinds = ()

    def __init__(self, gen_thresh: float | None = None, critic_thresh: float | None = None) -> None:
        self.gen_thresh, self.critic_thresh = gen_thresh, critic_thresh

    def after_batch(self) -> None:
        if not self.learn.training:
            return
        trainer = self.learn.callbacks[GANTrainer]
        thresh = self.gen_thresh if trainer.gen_mode else self.critic_thresh
        if thresh is None or mean_of_processes(float(self.learn.loss)) < thresh:
            trainer.switch()


class GANDiscriminativeLR(Callback):
    """Multiplies the learning rate of the critic.

    Args:
        mult_lr: By how much.
    """

    order = 61  # after the schedules have set the rates
    transient = ("rates",)
    state_kinds = ()

    def __init__(self, mult_lr: float = 5.0) -> None:
        self.mult_lr = mult_lr
        self.rates: list[float] = []

    def before_batch(self) -> None:
        if self.learn.training and not self.learn.callbacks[GANTrainer].gen_mode:
            self.rates = [hyper["lr"] for hyper in self._hypers()]
            for hyper in self._hypers():
                hyper["lr"] *= self.mult_lr

    def after_batch(self) -> None:
        if self.rates:
            for hyper, rate in zip(self._hypers(), self.rates, strict=True):
                hyper["lr"] = rate
            self.rates = []

    def _hypers(self) -> list[Any]:
        opt = self.learn.opt
        return opt["critic"].hypers if isinstance(opt, Optimizers) else opt.hypers


def gan_of(learn: AbstractLoop) -> GANModule:
    """The generator and the critic of a learner.

    Args:
        learn: The learner.

    Raises:
        CannotTrain: Its model is something else.
    """
    model = unwrapped(learn.model)
    if not isinstance(model, GANModule):
        raise CannotTrain(
            "a GAN has a generator and a critic", got=type(model).__name__, fix="the model GANModule(generator, critic)"
        )
    return model
