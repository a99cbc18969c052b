"""Test-time augmentation looks at each item as training does, several times, and once plainly."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, CannotTrain, OutOfRange
from layered.vision.all import (
    DataLoaders,
    ImageDataLoaders,
    Learner,
    RandomResizedCrop,
    Resize,
    aug_transforms,
)


@pytest.fixture
def augmented(learn, pictures):
    learn.dls = ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, seed=0, item_tfms=Resize(32), batch_tfms=aug_transforms(), bs=4, num_workers=0,
        device="cpu",
    )  # fmt: skip
    return learn


def test_the_blend_is_of_the_augmented_mean_and_the_plain_pass(augmented):
    learn = augmented
    plain, targs = learn.get_preds()
    (mean, again), same = learn.tta(beta=None)
    assert_close(again, plain)
    assert_close(same, targs)
    assert not torch.allclose(mean, plain)
    assert_close(learn.tta()[0], 0.75 * mean + 0.25 * plain)
    assert_close(learn.tta(beta=1.0)[0], plain)


def test_the_passes_differ_and_the_order_of_items_stays(augmented):
    learn = augmented
    one, several = (learn.tta(n=n, beta=None)[0][0] for n in (1, 3))
    assert not torch.allclose(one, several)
    largest = learn.tta(n=3, use_max=True)[0]
    assert (largest >= learn.get_preds()[0]).all()
    assert (largest >= one).all()
    preds, targs = learn.tta(ds_idx=0, beta=1.0)
    assert_close((preds, targs), learn.get_preds(ds_idx=0))


def test_it_is_repeatable_and_leaves_no_trace(augmented):
    learn = augmented
    before = [dl.state_dict() for dl in learn.dls.loaders], learn.dls.valid_ds.split_idx
    first = learn.tta()
    assert_close(learn.tta(), first)
    assert ([dl.state_dict() for dl in learn.dls.loaders], learn.dls.valid_ds.split_idx) == before


def test_other_transforms_stand_in_for_the_random_ones_alone(augmented):
    learn = augmented
    sizes = []
    learn.on("before_batch")(lambda: sizes.append(tuple(learn.xb[0].shape[1:])))
    (mean, plain), _ = learn.tta(n=2, item_tfms=RandomResizedCrop(24), batch_tfms=[], beta=None)
    assert set(sizes[-4:]) == {(3, 24, 24)}
    assert mean.shape == plain.shape
    (mean, plain), _ = learn.tta(n=2, item_tfms=Resize(32, method="squish"), batch_tfms=[], beta=None)
    assert_close(mean, plain)


def test_items_without_labels_are_augmented_too(augmented):
    dl = augmented.dls.test_dl(list(augmented.dls.valid_ds.items))
    preds, targs = augmented.tta(dl=dl)
    assert targs is None
    assert_close(preds, augmented.tta()[0])


def test_what_it_cannot_do_is_named(augmented):
    with pytest.raises(CannotTrain, match="transforms"):
        augmented.tta(dl=[(torch.zeros(1, 3, 32, 32),)])
    with pytest.raises(OutOfRange, match="passes"):
        augmented.tta(n=0)
    with pytest.raises(BadArgument, match="use_max"):
        augmented.tta(usemax=True)
    x = [(torch.zeros(2, 2), torch.zeros(2))]
    with pytest.raises(CannotTrain):
        Learner(DataLoaders(x, x), nn.Linear(2, 1), loss_func=nn.MSELoss()).tta()
