"""Mixed batches follow the formulas of the papers, worked out from what the model sees."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.callback import CutMix, MixHandler, MixUp, reduce_loss
from layered.data import as_loaders
from layered.foundation import BadValue, CannotTrain, OutOfRange
from layered.loop import Callback, CancelBatchException, Loop
from layered.nn import CrossEntropyLossFlat, LabelSmoothingCrossEntropyFlat, MSELossFlat
from layered.optim import SGD

ROWS = 6


class Watch(nn.Module):
    """Keeps what it was given last."""

    def __init__(self, n_in=ROWS, n_out=4):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        self.x = x.detach().clone()
        return self.linear(x.flatten(1))


def learner(cb, batch, loss_func, model=None, valid=None) -> Loop:
    torch.manual_seed(0)
    learn = Loop(([batch], valid), model or Watch(), loss_func, SGD, lr=0.0, cbs=cb)
    learn.logger = lambda row: None
    return learn


def read_shares(x):
    """From a mixture of the rows of the identity: the share that each kept, and its partner."""
    own = x.diagonal()
    rest = x - torch.diag(own)
    return own, torch.where(rest.sum(1) > 0, rest.argmax(1), torch.arange(len(x)))


CLASSES = torch.tensor([0, 3, 1, 2, 1, 0])
LOSSES = {
    "ours": (CrossEntropyLossFlat(), {}),
    "smoothed": (LabelSmoothingCrossEntropyFlat(0.1), {"label_smoothing": 0.1}),
    "torch's": (nn.CrossEntropyLoss(label_smoothing=0.1), {"label_smoothing": 0.1}),
    "a function": (F.cross_entropy, {}),
    "summed": (CrossEntropyLossFlat(reduction="sum"), {}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_mixup_of_classes_mixes_the_losses_sample_by_sample(name):
    loss_func, args = LOSSES[name]
    reported = []
    late = Callback(after_loss=lambda cb: reported.append((cb.loss, cb.loss_grad.detach())))
    late.order = 99
    learn = learner([MixUp(0.4), late], (torch.eye(ROWS), CLASSES), loss_func)
    learn.fit(1)
    lam, partner = read_shares(learn.model.x)
    pred = learn.model.linear(learn.model.x)
    own, other = (F.cross_entropy(pred, y, reduction="none", **args) for y in (CLASSES, CLASSES[partner]))
    wanted = lam * own + (1 - lam) * other
    wanted = wanted.sum() if name == "summed" else wanted.mean()
    assert (lam >= 0.5).all()
    assert len({round(v, 5) for v in lam.tolist()}) > 1
    assert_close(reported[0][0], wanted.detach())
    assert_close(reported[0][1], wanted.detach())


def test_mixup_of_numbers_mixes_the_targets():
    y, seen = torch.arange(ROWS).float(), []
    learn = learner(MixUp(), (torch.eye(ROWS), y), MSELossFlat(), Watch(n_out=1))
    learn.on("after_pred")(lambda learn: seen.append(learn.yb[0]))
    learn.fit(1)
    lam, partner = read_shares(learn.model.x)
    assert_close(seen[0], lam * y + (1 - lam) * y[partner])


def test_several_classes_at_once_are_mixed_as_numbers():
    y, seen = torch.randint(0, 2, (ROWS, 4)), []
    learn = learner(MixUp(), (torch.eye(ROWS), y.float()), nn.BCEWithLogitsLoss())
    learn.on("after_pred")(lambda learn: seen.append(learn.yb[0]))
    learn.fit(1)
    lam, partner = read_shares(learn.model.x)
    assert_close(seen[0], lam[:, None] * y + (1 - lam[:, None]) * y[partner])


def pictures(size=(10, 14)):
    """[6, 2, *size]: each picture is filled with its number."""
    return torch.arange(ROWS).float()[:, None, None, None].expand(ROWS, 2, *size).clone()


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_one_box_and_counts_its_pixels(seed):
    x, model = pictures(), Watch(2 * 10 * 14)
    learn = learner(CutMix(), (x, CLASSES), nn.CrossEntropyLoss(weight=torch.rand(4)), model)
    torch.manual_seed(seed)
    learn.fit(1)
    changed = model.x != pictures()
    moved = next((i for i in range(ROWS) if changed[i].any()), None)
    rows, cols = (changed.any(0)[0].any(dim).nonzero().flatten() for dim in (1, 0))
    area = 0 if moved is None else len(rows) * len(cols)
    if moved is not None:
        assert changed[moved, 0].sum() == area, "not one box"
    lam = 1 - area / 140
    partner = torch.stack([p[rows[0], cols[0]] for p in model.x[:, 0]]).long() if area else torch.arange(ROWS)
    pred = model.linear(model.x.flatten(1))
    own, other = (learn.loss_func(pred, y) for y in (CLASSES, CLASSES[partner]))
    assert_close(learn.loss, (lam * own + (1 - lam) * other).detach(), rtol=1e-4, atol=1e-4)
    assert_close(x, pictures())  # the data set's own memory is left alone


def test_the_side_of_the_box_follows_from_the_share():
    cut = CutMix()
    cut.lam, cut.centre = 0.75, np.array([0.5, 0.0])
    mixed = cut.mix(torch.zeros(1, 1, 20, 40), torch.ones(1, 1, 20, 40))
    assert mixed[0, 0].sum(1).nonzero().flatten().tolist() == list(range(5, 15))  # half of 20, around the middle
    assert mixed[0, 0, 10].nonzero().flatten().tolist() == list(range(10))  # half of 40, cut off at the border
    assert cut.lam == 1 - 100 / 800


def test_validation_and_the_loss_function_are_left_alone():
    loss_func, seen = CrossEntropyLossFlat(), []
    batch = (torch.eye(ROWS), CLASSES)
    learn = learner(MixUp(), batch, loss_func, valid=[batch])
    learn.on("after_batch")(lambda learn: learn.training or seen.append((learn.model.x, learn.loss)))
    learn.fit(1)
    assert_close(seen[0][0], torch.eye(ROWS))
    assert_close(seen[0][1], F.cross_entropy(learn.model.linear(torch.eye(ROWS)), CLASSES).detach())
    assert learn.loss_func is loss_func
    assert loss_func.reduction == "mean"


@pytest.mark.parametrize("how", [CancelBatchException, ZeroDivisionError])
def test_the_loss_function_is_whole_again_whatever_happens_in_it(how):
    class Fails(CrossEntropyLossFlat):
        def __call__(self, pred, target):
            if self.reduction == "none":
                raise how
            return super().__call__(pred, target)

    learn = learner(MixUp(), (torch.eye(ROWS), CLASSES), Fails())
    if how is ZeroDivisionError:
        with pytest.raises(how):
            learn.fit(1)
    else:
        learn.fit(1)
    assert learn.loss_func.reduction == "mean"


def mixes(seed, epochs=2):
    seen = []
    torch.manual_seed(seed)
    learn = Loop(([(torch.eye(ROWS), CLASSES)] * 2, None), Watch(), nn.CrossEntropyLoss(), SGD, lr=0.0, cbs=MixUp)
    learn.logger = lambda row: None
    learn.on("after_pred")(lambda learn: seen.append(learn.model.x.tolist()))
    states = torch.get_rng_state()
    learn.fit(epochs)
    assert torch.equal(states, torch.get_rng_state())
    return seen


def test_mixes_depend_on_seed_epoch_and_batch_alone():
    first = mixes(0)
    assert first == mixes(0)
    assert first != mixes(1)
    assert len({str(x) for x in first}) == 4


class OneInput(list):
    """Batches whose first part alone is an input."""

    n_inp = 1


@pytest.mark.parametrize(
    ("cb", "batch", "loss_func", "error", "message"),
    [
        (
            MixUp(),
            (torch.eye(ROWS), CLASSES, CLASSES),
            lambda p, a, b: F.cross_entropy(p, a),
            CannotTrain,
            "got      2 targets",
        ),
        (MixUp(), (torch.arange(ROWS)[:, None], CLASSES), F.cross_entropy, CannotTrain, "int64"),
        (MixUp(), (torch.eye(ROWS), CLASSES), lambda p, y: F.cross_entropy(p, y), BadValue, "per sample"),
        (CutMix(), (torch.eye(ROWS), CLASSES), F.cross_entropy, CannotTrain, "batch, channel, height, width"),
    ],
)
def test_what_cannot_be_mixed_is_named(cb, batch, loss_func, error, message):
    learn = learner(cb, batch, loss_func)
    learn.dls = as_loaders((OneInput([batch]), None))
    with pytest.raises(error, match=message):
        learn.fit(1)


@pytest.mark.parametrize("wrong", [0, -0.4, float("nan")])
def test_alpha_is_above_zero(wrong):
    for kind in (MixHandler, MixUp, CutMix):
        with pytest.raises(OutOfRange):
            kind(wrong)


def test_losses_are_reduced_as_asked():
    loss = torch.tensor([1.0, 3.0])
    assert [reduce_loss(loss, how).tolist() for how in ("mean", "sum", "none")] == [2.0, 4.0, [1.0, 3.0]]
