"""`GANLearner`: a generator and a critic, two optimizers and a step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self, Unpack

from torch import Tensor, nn

from layered.data import DataLoaders, length_of
from layered.foundation import CannotTrain, L, Path, delegates, names_of, refuse_unknown
from layered.loop import Callback, Loop, Recorder, callbacks_of, valid_of
from layered.metrics import ValueMetric
from layered.nn import MSELossFlat
from layered.optim import Adam
from layered.training import Learner, LearnerArgs
from layered.vision.gan.losses import GANLoss, LossFunc, gan_loss_from_func
from layered.vision.gan.turns import FixedGANSwitcher, GANTrainer, gan_of
from layered.vision.models.gan import GANModule

Switcher = Callback | Callable[[], Callback]


def gan_step(learn: Loop, batch: Any) -> Tensor:
    """A batch of a GAN, for `Learner(step=)`: it trains the part whose turn it is, with the optimizer of that name.

    Args:
        learn: A learner with a `GANModule`, a `GANLoss` and a `GANTrainer`.
        batch: What the generator makes images from, and real images.
    """
    source, real = batch
    model, losses = gan_of(learn), learn.loss_func
    assert isinstance(losses, GANLoss)
    if learn.callbacks[GANTrainer].gen_mode or not learn.training:
        learn.pred = model.generator(source)
        return learn.minimize(losses.generator(learn.pred, real), "generator")
    learn.pred = model.critic(real)
    return learn.minimize(losses.critic(learn.pred, source), "critic")


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
        return Learner(self.dls, gan_of(self).generator, MSELossFlat(), path=self.path).export(fname)


def _has_items(dl: Any) -> bool:
    return dl is not None and length_of(dl) != 0


def _mean_of_fakes(fake_pred: Tensor, output: Tensor, target: Tensor) -> Tensor:
    return fake_pred.mean()


def _real_less_fake(real_pred: Tensor, fake_pred: Tensor) -> Tensor:
    return real_pred.mean() - fake_pred.mean()
