"""Generative adversarial networks: a generator and a critic, trained in turns.

    from layered.vision.gan import *

A `GANLearner` is a learner with two optimizers and a `step`. Whoever wants other turns or losses writes such a step:

    def step(learn, batch):
        noise, real = batch
        fake = learn.model.generator(noise)
        learn.minimize(critic_loss(learn.model.critic, real, fake.detach()), "critic")
        return learn.minimize(generator_loss(learn.model.critic, fake), "generator")

    Learner(dls, GANModule(generator, critic), opt_func={"generator": Adam, "critic": Adam}, step=step)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn

from layered.data import DataLoaders, Panel, TfmdDL, draw_panels, length_of
from layered.foundation import (
    BadValue,
    CannotTrain,
    L,
    Path,
    TensorBase,
    TensorImageBase,
    delegates,
    functions,
    in_notebook,
    names_of,
    noop,
    refuse_unknown,
    verb,
)
from layered.loop import AbstractLoop, Callback, Count, Loop, Optimizers, Recorder, callbacks_of, unwrapped, valid_of
from layered.metrics import ValueMetric
from layered.nn import MSELossFlat
from layered.optim import Adam
from layered.training import Learner, LearnerArgs
from layered.vision.models.gan import (
    AddChannels as AddChannels,
    DenseResBlock as DenseResBlock,
    GANModule as GANModule,
    basic_critic as basic_critic,
    basic_generator as basic_generator,
    gan_critic as gan_critic,
)

__all__ = [
    "AdaptiveGANSwitcher", "AdaptiveLoss", "AddChannels", "DenseResBlock", "FixedGANSwitcher", "GANDiscriminativeLR",
    "GANLearner", "GANLoss", "GANModule", "GANTrainer", "InvisibleTensor", "accuracy_thresh_expand", "basic_critic",
    "basic_generator", "gan_critic", "gan_loss_from_func", "generate_noise", "set_freeze_model",
]  # fmt: skip

LossFunc = Callable[..., Tensor]
Switcher = Callback | Callable[[], Callback]


# -- data


class InvisibleTensor(TensorBase):
    """A tensor that `show_batch` leaves out, such as noise."""

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        """Draw nothing.

        Args:
            ctx: Axes, returned as they are.
            kwargs: Left unread.
        """
        return ctx


@functions.register("vision.generate_noise")
def generate_noise(fn: object, size: int = 100) -> InvisibleTensor:
    """Numbers from a normal distribution, for `get_x`: other ones in each epoch, and the same for the same seed.

    Args:
        fn: The item, left unread.
        size: How many numbers.
    """
    return InvisibleTensor(torch.randn(size))


@verb("show_batch").register
def show_real_images(
    x: InvisibleTensor, y: TensorImageBase, samples: Sequence[Any], max_n: int | None = None, **drawing: Any
) -> list[Any]:
    """The images of a batch, without the noise beside them.

    Args:
        x: The batch of noise.
        y: The batch of images.
        samples: The noise and the images, decoded.
        max_n: The most images.
        drawing: As for `draw_panels`.
    """
    return draw_panels([[Panel([image])] for _, image in samples[:max_n]], **drawing)


@verb("show_results").register
def show_made_images(
    x: InvisibleTensor,
    y: TensorImageBase,
    samples: Sequence[Any],
    outs: Sequence[Any],
    max_n: int | None = None,
    **drawing: Any,
) -> list[Any]:
    """What was made of noise: the images beside which it stands have nothing to do with it.

    Args:
        x: The batch of noise.
        y: The batch of images.
        samples: The noise and the images, decoded.
        outs: The images that were made, decoded.
        max_n: The most images.
        drawing: As for `draw_panels`.
    """
    return draw_panels([[Panel([image])] for (image,) in outs[:max_n]], **drawing)


# -- losses


def _as_target(output: Tensor, target: Tensor) -> Tensor:
    """One number an item, float, in the shape of an output with several an item."""
    return target.reshape(-1, *[1] * (output.ndim - 1)).expand_as(output).float()


class AdaptiveLoss(nn.Module):
    """A loss of a critic that scores several parts of each image: the target of the image is that of all its parts.

    Args:
        crit: The loss, such as BCEWithLogitsLossFlat().

    Examples:
        >>> AdaptiveLoss(nn.MSELoss())(torch.zeros(2, 9), torch.tensor([1, 0]))
        tensor(0.5000)
    """

    def __init__(self, crit: LossFunc) -> None:
        super().__init__()
        self.crit = crit

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.crit(output, _as_target(output, target))


def accuracy_thresh_expand(y_pred: Tensor, y_true: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """The share of the parts of images that a critic takes for what the image is.

    Args:
        y_pred: Scores: [batch, part].
        y_true: 1 for real images, 0 for made ones: [batch].
        thresh: From where on a part counts as real.
        sigmoid: Apply the sigmoid to the scores first.

    Examples:
        >>> accuracy_thresh_expand(torch.tensor([[3.0, -3.0], [-1.0, -2.0]]), torch.tensor([1, 0]))
        tensor(0.7500)
    """
    scores = y_pred.sigmoid() if sigmoid else y_pred
    return ((scores > thresh) == _as_target(scores, y_true).bool()).float().mean()


class GANLoss:
    """The losses of both parts of a GAN.

    Args:
        gen_loss_func: gen_loss_func(fake_pred, output, target): what the critic says of what the generator has made, that, and
            what it was to be.
        crit_loss_func: crit_loss_func(real_pred, fake_pred).
        gan_model: The generator and the critic.
    """

    activation = decodes = staticmethod(noop)

    def __init__(self, gen_loss_func: LossFunc, crit_loss_func: LossFunc, gan_model: GANModule) -> None:
        self.gen_loss_func, self.crit_loss_func, self.gan_model = gen_loss_func, crit_loss_func, gan_model

    def generator(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of the generator.

        Args:
            output: What it has made.
            target: What it was to be.
        """
        return self.gen_loss_func(self.gan_model.critic(output), output, target)

    def critic(self, real_pred: Tensor, input: Tensor) -> Tensor:
        """The loss of the critic.

        Args:
            real_pred: Its scores for real images.
            input: What the generator makes images from.
        """
        with torch.no_grad():
            fake = self.gan_model.generator(input)
        return self.crit_loss_func(real_pred, self.gan_model.critic(fake))

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.generator(output, target)

    def to(self, device: torch.device | str) -> Self:
        """Move what the losses hold.

        Args:
            device: Where to.
        """
        for loss in (self.gen_loss_func, self.crit_loss_func):
            if isinstance(loss, nn.Module):
                loss.to(device)
        return self


class _GeneratorLoss(nn.Module):
    """`weights[0]` times the critic's loss of taking `output` for real, plus `weights[1]` times a loss of its own."""

    def __init__(self, loss_gen: LossFunc, loss_crit: LossFunc, weights: tuple[float, float]) -> None:
        super().__init__()
        self.loss_gen, self.loss_crit, self.weights = loss_gen, loss_crit, weights

    def forward(self, fake_pred: Tensor, output: Tensor, target: Tensor) -> Tensor:
        ones = fake_pred.new_ones(len(fake_pred))
        return self.weights[0] * self.loss_crit(fake_pred, ones) + self.weights[1] * self.loss_gen(output, target)


class _CriticLoss(nn.Module):
    """The mean of the losses for real and for made images."""

    def __init__(self, loss_crit: LossFunc) -> None:
        super().__init__()
        self.loss_crit = loss_crit

    def forward(self, real_pred: Tensor, fake_pred: Tensor) -> Tensor:
        ones, zeros = real_pred.new_ones(len(real_pred)), fake_pred.new_zeros(len(fake_pred))
        return (self.loss_crit(real_pred, ones) + self.loss_crit(fake_pred, zeros)) / 2


def gan_loss_from_func(
    loss_gen: LossFunc, loss_crit: LossFunc, weights_gen: tuple[float, float] | None = None
) -> tuple[LossFunc, LossFunc]:
    """The losses of a generator and of a critic, from a loss of images and a loss of real (1) against made (0).

    Args:
        loss_gen: loss_gen(output, target), of images.
        loss_crit: loss_crit(scores, target), with a target of [batch].
        weights_gen: Weights of the critic's loss and of `loss_gen` in the generator's; (1, 1) by default.
    """
    return _GeneratorLoss(loss_gen, loss_crit, weights_gen or (1.0, 1.0)), _CriticLoss(loss_crit)


# -- turns


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
        model = _gan(self.learn)
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
    """Trains a part until its loss is below a threshold; without one, for a single batch.

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
        if thresh is None or self.learn.loss < thresh:
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


# -- the learner


def gan_step(learn: Loop, batch: Any) -> Tensor:
    """A batch of a GAN, for `Learner(step=)`: it trains the part whose turn it is, with the optimizer of that name.

    Args:
        learn: A learner with a `GANModule`, a `GANLoss` and a `GANTrainer`.
        batch: What the generator makes images from, and real images.
    """
    source, real = batch
    model, losses = _gan(learn), learn.loss_func
    assert isinstance(losses, GANLoss)
    if learn.callbacks[GANTrainer].gen_mode or not learn.training:
        learn.pred = model.generator(source)
        return learn.minimize(losses.generator(learn.pred, real), "generator")
    learn.pred = model.critic(real)
    return learn.minimize(losses.critic(learn.pred, source), "critic")


def _gan(learn: AbstractLoop) -> GANModule:
    model = unwrapped(learn.model)
    if not isinstance(model, GANModule):
        raise CannotTrain(
            "a GAN has a generator and a critic", got=type(model).__name__, fix="the model GANModule(generator, critic)"
        )
    return model


class GANLearner(Learner):
    """A learner of a generator and a critic in turns: one of them learns from each batch.

    The loaders give what the generator makes images from, and real images:

        block = DataBlock(
            (TransformBlock, ImageBlock), get_x=generate_noise, get_items=get_image_files, splitter=IndexSplitter([]),
            item_tfms=Resize(32), batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3),
        )
        learn = GANLearner.wgan(block.dataloaders(path), basic_generator(32, 3), basic_critic(32, 3), opt_func=RMSProp)

    Validation and prediction are those of the generator, and so is the export.

    Args:
        dls: The data.
        generator: Makes images.
        critic: Scores images.
        gen_loss_func: gen_loss_func(fake_pred, output, target).
        crit_loss_func: crit_loss_func(real_pred, fake_pred).
        switcher: Whose turn it is; `FixedGANSwitcher` by default.
        gen_first: Each fit begins with the generator.
        switch_eval: Keep the part whose turn it is not in evaluation mode.
        show_img: Show an image of each epoch after a fit in a notebook.
        clip: Clip the critic's weights to [-clip, clip].
        kwargs: For `Learner`. `opt_func` is one for both parts, or a dict: {"generator": Adam, "critic": RMSProp}; `metrics`
            are of the generator's images, and stand before the smooth losses of both parts.

    Source: Goodfellow et al. 2014, arXiv:1406.2661
    """

    @delegates(Learner)
    def __init__(
        self,
        dls: DataLoaders,
        generator: nn.Module,
        critic: nn.Module,
        gen_loss_func: LossFunc,
        crit_loss_func: LossFunc,
        switcher: Switcher | None = None,
        gen_first: bool = False,
        switch_eval: bool = True,
        show_img: bool = True,
        clip: float | None = None,
        **kwargs: Unpack[LearnerArgs],
    ) -> None:
        model = GANModule(generator, critic)
        trainer = GANTrainer(switch_eval, clip, gen_first=gen_first, show_img=show_img)
        switcher = FixedGANSwitcher() if switcher is None else switcher
        switcher = switcher if isinstance(switcher, Callback) else switcher()
        own = {"loss_func", "step"}
        refuse_unknown(own & kwargs.keys(), names_of(Learner) - own, "GANLearner")
        optimizer = kwargs.get("opt_func", Adam)
        kwargs["opt_func"] = (
            optimizer if isinstance(optimizer, Mapping) else {"generator": optimizer, "critic": optimizer}
        )
        kwargs["cbs"] = [trainer, switcher, *callbacks_of(kwargs.get("cbs"))]
        losses = [ValueMetric(trainer.gen_loss, "gen_loss"), ValueMetric(trainer.crit_loss, "crit_loss")]
        kwargs["metrics"] = [*L(kwargs.get("metrics")), *losses]
        kwargs["loss_func"], kwargs["step"] = GANLoss(gen_loss_func, crit_loss_func, model), gan_step
        super().__init__(dls, model, **kwargs)
        recorder = self.callbacks.get(Recorder)
        if recorder is not None and not _has_items(valid_of(self.dls)):
            recorder.train_metrics, recorder.valid_metrics = True, False

    @classmethod
    def from_learners(
        cls,
        gen_learn: Learner,
        crit_learn: Learner,
        switcher: Switcher | None = None,
        weights_gen: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A GAN of the models of two learners, which were trained alone, on the loaders of the first.

        Args:
            gen_learn: The learner of the generator, with a loss of images.
            crit_learn: The learner of the critic, with a loss of real (1) against made (0).
            switcher: Whose turn it is.
            weights_gen: Weights of the critic's loss and of the loss of images in the generator's; (1, 1) by default.
            kwargs: For `GANLearner`.
        """
        gen_loss, crit_loss = gen_learn.loss_func, crit_learn.loss_func
        if gen_loss is None or crit_loss is None:
            raise CannotTrain("both learners need a loss", fix="Learner(dls, model, loss_func=…)")
        losses = gan_loss_from_func(gen_loss, crit_loss, weights_gen)
        return cls(gen_learn.dls, gen_learn.model, crit_learn.model, *losses, switcher=switcher, **kwargs)

    @classmethod
    def wgan(
        cls,
        dls: DataLoaders,
        generator: nn.Module,
        critic: nn.Module,
        switcher: Switcher | None = None,
        clip: float | None = 0.01,
        switch_eval: bool = False,
        n_crit: int = 5,
        **kwargs: Any,
    ) -> Self:
        """A Wasserstein GAN: the critic's mean score of real images less that of made ones is what both train on.

        Args:
            dls: The data.
            generator: Makes images.
            critic: Scores images.
            switcher: Whose turn it is; by default `n_crit` batches of the critic, then one of the generator.
            clip: Clip the critic's weights to [-clip, clip].
            switch_eval: Keep the part whose turn it is not in evaluation mode.
            n_crit: Batches of the critic for each of the generator.
            kwargs: For `GANLearner`.

        Source: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1
        """
        switcher = FixedGANSwitcher(n_crit=n_crit, n_gen=1) if switcher is None else switcher
        return cls(
            dls, generator, critic, _mean_of_fakes, _real_less_fake, switcher=switcher, clip=clip,
            switch_eval=switch_eval, **kwargs,
        )  # fmt: skip

    def export(self, fname: str | os.PathLike[str] = "export.layered") -> Path:
        """Write the generator to a file: `load_learner(file).predict(noise)` makes an image.

        Args:
            fname: As for `Learner.export`.
        """
        return Learner(self.dls, _gan(self).generator, MSELossFlat(), path=self.path).export(fname)


def _has_items(dl: Any) -> bool:
    return dl is not None and length_of(dl) != 0


def _mean_of_fakes(fake_pred: Tensor, output: Tensor, target: Tensor) -> Tensor:
    return fake_pred.mean()


def _real_less_fake(real_pred: Tensor, fake_pred: Tensor) -> Tensor:
    return real_pred.mean() - fake_pred.mean()
