"""GANs: the turns, the losses and the clipping as taught, beside a loop by hand; files and pictures."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, CannotTrain
from layered.vision.all import (
    SGD,
    Adam,
    BCEWithLogitsLossFlat,
    Callback,
    DataBlock,
    DataLoaders,
    ImageBlock,
    IndexSplitter,
    Learner,
    MSELossFlat,
    Normalize,
    Path,
    PILImageBW,
    TransformBlock,
    get_image_files,
    load_learner,
    np,  # noqa: F811
    plt,
    tensor,
)
from layered.vision.gan import (
    AdaptiveGANSwitcher,
    AdaptiveLoss,
    FixedGANSwitcher,
    GANDiscriminativeLR,
    GANLearner,
    GANModule,
    GANTrainer,
    accuracy_thresh_expand,
    basic_critic,
    basic_generator,
    gan_critic,
    gan_loss_from_func,
    generate_noise,
    set_freeze_model,
)


def batches(count=8, rows=6):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(rows, 4, generator=g), torch.randn(rows, 2, generator=g)) for _ in range(count)]


def parts():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    return generator, nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(8, 1))


def silent(learn):
    learn.logger = lambda row: None
    return learn


def made(make=GANLearner.wgan, valid=None, **kwargs):
    return silent(make((batches(), valid), *parts(), lr=0.05, default_cbs=True, show_img=False, **kwargs))


def by_hand(switch_eval, clip, n_crit, n_gen, gen_loss, crit_loss, gen_first=False, mult=1.0, epochs=2):
    """SGD with momentum 0 of the part whose turn it is."""
    generator, critic = parts()
    torch.manual_seed(5)
    is_gen, done = gen_first, 0
    for _ in range(epochs):
        for noise, real in batches():
            generator.train(is_gen or not switch_eval)
            critic.train(not is_gen or not switch_eval)
            with torch.no_grad():
                for p in critic.parameters() if clip else ():
                    p.clamp_(-clip, clip)
            trained, rate = (generator, 0.05) if is_gen else (critic, 0.05 * mult)
            if is_gen:
                fake = generator(noise)
                loss = gen_loss(critic(fake), fake, real)
            else:
                real_pred = critic(real)
                with torch.no_grad():
                    fake = generator(noise)
                loss = crit_loss(real_pred, critic(fake))
            grads = torch.autograd.grad(loss, list(trained.parameters()))
            with torch.no_grad():
                for p, grad in zip(trained.parameters(), grads):
                    p -= rate * grad
            done += 1
            if done == (n_gen if is_gen else n_crit):
                is_gen, done = not is_gen, 0
    return {**{f"generator.{k}": v for k, v in generator.state_dict().items()},
            **{f"critic.{k}": v for k, v in critic.state_dict().items()}}  # fmt: skip


def wgan_losses():
    return lambda fake, output, target: fake.mean(), lambda real, fake: real.mean() - fake.mean()


def test_a_wasserstein_gan_is_that_of_its_paper():
    learn = made(opt_func=SGD)
    torch.manual_seed(5)
    learn.fit(2)
    assert_close(learn.model.state_dict(), by_hand(False, 0.01, 5, 1, *wgan_losses()))


def test_the_usual_gan_trains_in_turns_with_the_other_part_in_evaluation_mode():
    losses = gan_loss_from_func(MSELossFlat(), AdaptiveLoss(BCEWithLogitsLossFlat()), (1.0, 2.0))
    learn = made(GANLearner, gen_loss_func=losses[0], crit_loss_func=losses[1], opt_func=SGD, gen_first=True,
                 switcher=FixedGANSwitcher(n_crit=2, n_gen=3), cbs=GANDiscriminativeLR(mult_lr=5.0))  # fmt: skip
    torch.manual_seed(5)
    learn.fit(2)
    bce = nn.functional.binary_cross_entropy_with_logits

    def gen_loss(fake_pred, output, target):
        return bce(fake_pred, torch.ones_like(fake_pred)) + 2 * (output - target).pow(2).mean()

    def crit_loss(real, fake):
        return (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))) / 2

    assert_close(learn.model.state_dict(), by_hand(True, None, 2, 3, gen_loss, crit_loss, gen_first=True, mult=5.0))
    assert [hyper["lr"] for hyper in learn.opt["critic"].hypers] == [0.05]


class Turns(Callback):
    order = 52

    def __init__(self):
        self.seen = ""

    def after_batch(self):
        if self.learn.training:
            self.seen += "G" if self.learn.gan_trainer.gen_mode else "C"


def test_turns_by_numbers_and_by_thresholds():
    for switcher, expected in {
        FixedGANSwitcher(): "CGCGCGCG", FixedGANSwitcher(3, 2): "CCCGGCCC", AdaptiveGANSwitcher(): "CGCGCGCG",
        partial(AdaptiveGANSwitcher, critic_thresh=-1e9): "CCCCCCCC", partial(AdaptiveGANSwitcher, gen_thresh=-1e9): "CGGGGGGG",
    }.items():  # fmt: skip
        turns = Turns()
        made(switcher=switcher, cbs=turns).fit(1)
        assert turns.seen == expected


def test_the_table_has_the_smooth_losses_of_both():
    learn = made(opt_func=SGD)
    losses = {True: [], False: []}
    learn.on("after_batch", lambda: losses[learn.gan_trainer.gen_mode].append(float(learn.loss)), order=51)
    learn.fit(1)
    assert learn.recorder.metric_names == ["epoch", "train_loss", "gen_loss", "crit_loss", "time"]
    for column, seen in zip(learn.recorder.values[0][1:3], (losses[True], losses[False])):
        weights = 0.98 ** np.arange(len(seen))[::-1]
        assert column == pytest.approx(np.average(seen, weights=weights), abs=1e-6)
    with_valid = made(valid=batches(2), opt_func=SGD)
    with_valid.fit(1)
    assert with_valid.recorder.metric_names == ["epoch", "train_loss", "valid_loss", "gen_loss", "crit_loss", "time"]
    with torch.no_grad():
        model = with_valid.model.eval()
        expected = torch.stack([model.critic(model.generator(noise)).mean() for noise, _ in batches(2)]).mean()
    assert with_valid.recorder.values[0][1] == pytest.approx(float(expected), abs=1e-6)
    preds, targs = with_valid.get_preds()
    assert_close(targs, torch.cat([real for _, real in batches(2)]))
    assert_close(preds, model.generator(torch.cat([noise for noise, _ in batches(2)])).detach())


class StopAt(Callback):
    order = 999

    def __init__(self, batch):
        self.batch = batch

    def after_batch(self):
        if self.learn.train_iter == self.batch:
            raise KeyboardInterrupt

    def state_dict(self):
        return {}


def test_a_resumed_fit_equals_the_undisturbed_one_bit_for_bit(tmp_path):
    settings = {"opt_func": partial(Adam, mom=0.0), "cbs": GANDiscriminativeLR()}
    torch.manual_seed(5)
    straight = made(**settings)
    straight.fit_one_cycle(3, 0.01)
    for stop in (3, 13):
        torch.manual_seed(5)
        with pytest.raises(KeyboardInterrupt):
            made(**settings).fit_one_cycle(3, 0.01, checkpoint=tmp_path / f"{stop}", cbs=StopAt(stop))
        resumed = made(**settings)
        resumed.fit_one_cycle(3, 0.01, checkpoint=tmp_path / f"{stop}", resume="auto", cbs=StopAt(None))
        assert_close(resumed.model.state_dict(), straight.model.state_dict(), rtol=0, atol=0)
        assert resumed.recorder.values == straight.recorder.values


def test_both_parts_are_saved_and_loaded(tmp_path):
    learn = made(path=tmp_path)
    learn.fit(1)
    learn.save("gan")
    again = made(path=tmp_path).load("gan")
    assert_close(again.model.state_dict(), learn.model.state_dict(), rtol=0, atol=0)
    assert set(again.opt) == {"generator", "critic"}


@pytest.fixture
def digits(tmp_path):
    for i, digit in enumerate(load_digits().images[:40]):
        Image.fromarray((digit * 255 / 16).astype(np.uint8)).save(tmp_path / f"{i}.png")
    block = DataBlock(
        (TransformBlock, ImageBlock(PILImageBW)), get_x=partial(generate_noise, size=8), get_items=get_image_files,
        splitter=IndexSplitter([]), batch_tfms=Normalize.from_stats(tensor([0.5]), tensor([0.5])),
    )  # fmt: skip
    return block.dataloaders(Path(tmp_path), bs=4, num_workers=0, seed=3, device="cpu")


def on_digits(digits, **kwargs):
    torch.manual_seed(0)
    act = partial(nn.LeakyReLU, negative_slope=0.2)
    critic = basic_critic(8, 1, n_features=4, n_extra_layers=1, act_cls=act)
    generator = basic_generator(8, 1, in_sz=8, n_features=4, n_extra_layers=1)
    return silent(GANLearner.wgan(digits, generator, critic, opt_func=partial(Adam, mom=0.0), **kwargs))


def test_real_images_in_the_lines_of_the_course(digits, tmp_path):
    learn = on_digits(digits)
    learn.fit(2, 2e-4, wd=0.0)
    noise = digits.one_batch()[0]
    assert noise.shape == (4, 8)
    assert learn.gan_trainer.imgs.map(lambda image: tuple(image.shape)) == [(1, 8, 8)] * 2
    assert all(0 <= float(image.min()) <= float(image.max()) <= 1 for image in learn.gan_trainer.imgs)

    x = torch.randn(8, generator=torch.Generator().manual_seed(2))
    image, _, pixels = learn.predict(x)
    with torch.no_grad():
        assert_close(pixels, learn.model.generator.eval()(x[None])[0])
    assert_close(image.as_subclass(torch.Tensor), pixels / 2 + 0.5)
    exported = load_learner(learn.export(tmp_path / "digits"))
    assert_close(exported.predict(x)[2], pixels)
    assert not any("critic" in name for name, _ in exported.model.named_modules())


def test_the_pictures_are_of_images_alone(digits):
    learn = on_digits(digits, show_img=True)
    learn.fit(1)
    for show in (lambda: digits.show_batch(max_n=4), lambda: learn.show_results(ds_idx=0, max_n=4)):
        show()
        axes = [ax for ax in plt.gcf().axes if ax.images]
        assert (len(axes), [ax.get_title() for ax in axes]) == (4, [""] * 4)
        plt.close("all")


def test_learners_that_were_trained_alone_become_a_gan():
    (generator, critic), data = parts(), (batches(), batches(1))
    gen_learn = Learner(data, generator, loss_func=MSELossFlat())
    crit_learn = Learner(([(real, torch.ones(len(real))) for _, real in batches()], None), critic,
                         loss_func=AdaptiveLoss(BCEWithLogitsLossFlat()), metrics=accuracy_thresh_expand)  # fmt: skip
    silent(crit_learn).fit(1)
    learn = silent(GANLearner.from_learners(gen_learn, crit_learn, weights_gen=(1.0, 50.0), show_img=False,
                   switcher=partial(AdaptiveGANSwitcher, critic_thresh=0.65), cbs=GANDiscriminativeLR(mult_lr=5.0)))  # fmt: skip
    learn.fit(2, 1e-3, wd=0.0)
    assert (learn.model.generator, learn.model.critic) == (generator, critic)
    with pytest.raises(CannotTrain, match="need a loss"):
        GANLearner.from_learners(Learner(data, generator), crit_learn)


def test_scores_of_parts_have_the_target_of_the_whole():
    scores, target = torch.randn(3, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 1])
    expected = nn.functional.binary_cross_entropy_with_logits(scores, target[:, None].expand(3, 9).float())
    assert_close(AdaptiveLoss(BCEWithLogitsLossFlat())(scores, target), expected)
    hits = (scores.sigmoid() > 0.4) == target[:, None].bool()
    assert_close(accuracy_thresh_expand(scores, target, thresh=0.4), hits.float().mean())
    assert_close(accuracy_thresh_expand(scores[:, 0], target), ((scores[:, 0] > 0) == target.bool()).float().mean())


def test_the_models_have_the_sizes_of_their_images():
    for size in (8, 32, 64):
        images = basic_generator(size, 3, in_sz=10, n_features=4)(torch.randn(2, 10))
        assert (images.shape, bool((images.abs() <= 1).all())) == ((2, 3, size, size), True)
        assert basic_critic(size, 3, n_features=4)(images).shape == (2, 1)
    assert gan_critic(1, nf=4)(torch.zeros(2, 1, 64, 64)).shape == (2, 1)
    assert {p.requires_grad for p in _frozen().parameters()} == {False}
    model = GANModule(*parts())
    assert model.switch().gen_mode is False
    assert model(torch.zeros(3, 2)).shape == (3, 1)


def _frozen():
    model = gan_critic(1, nf=2)
    set_freeze_model(model, False)
    return model


def without_gan(cb):
    silent(Learner((batches(), None), parts()[0], MSELossFlat(), cbs=cb)).fit(1)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: basic_generator(28, 1), BadValue, "power of 2"),
        (lambda: basic_critic(4, 1), BadValue, "power of 2"),
        (lambda: FixedGANSwitcher(n_crit=0), BadValue, "n_crit is a number of batches"),
        (lambda: made(step=lambda learn, batch: None), BadArgument, "unknown argument 'step'"),
        (lambda: without_gan(FixedGANSwitcher()), CannotTrain, "no GANTrainer"),
        (lambda: without_gan(GANTrainer(clip=1.0)), CannotTrain, "GANModule"),
    ],
)  # fmt: skip
def test_what_makes_no_gan_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_two_optimizers_and_a_step_train_the_same_models():
    """The way without `GANLearner`: both parts learn from every batch."""
    bce = nn.functional.binary_cross_entropy_with_logits

    def step(learn, batch):
        noise, real = batch
        generator, critic = learn.model.generator, learn.model.critic
        fake, scores = generator(noise), critic(real)
        made_up = critic(fake.detach())
        learn.minimize(bce(scores, torch.ones_like(scores)) + bce(made_up, torch.zeros_like(made_up)), "critic")
        judged = critic(fake)
        return learn.minimize(bce(judged, torch.ones_like(judged)), "generator")

    dls = DataLoaders(batches(), batches(1))
    learn = silent(Learner(dls, GANModule(*parts()), opt_func={"generator": Adam, "critic": SGD}, step=step))
    before = {name: value.clone() for name, value in learn.model.named_parameters()}
    learn.fit(1)
    assert not any(torch.equal(value, before[name]) for name, value in learn.model.named_parameters())
