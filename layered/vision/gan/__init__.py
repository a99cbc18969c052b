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

from layered.vision.gan.data import (
    InvisibleTensor as InvisibleTensor,
    generate_noise as generate_noise,
)
from layered.vision.gan.learner import GANLearner as GANLearner
from layered.vision.gan.losses import (
    AdaptiveLoss as AdaptiveLoss,
    GANLoss as GANLoss,
    accuracy_thresh_expand as accuracy_thresh_expand,
    gan_loss_from_func as gan_loss_from_func,
)
from layered.vision.gan.turns import (
    AdaptiveGANSwitcher as AdaptiveGANSwitcher,
    FixedGANSwitcher as FixedGANSwitcher,
    GANDiscriminativeLR as GANDiscriminativeLR,
    GANTrainer as GANTrainer,
    set_freeze_model as set_freeze_model,
)
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
