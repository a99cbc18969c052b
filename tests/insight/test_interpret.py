"""Interpretation: which items a model gets wrong, from one pass that keeps little, over loaders of any make."""

import gc
import weakref
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchDataLoader, Dataset, TensorDataset

from layered.data import Category
from layered.foundation import BadArgument, BadValue, CannotTrain, EmptySource, OutOfRange, TensorImage, verb
from layered.loop import Callback
from layered.vision.all import (
    BCEWithLogitsLossFlat,
    CategoryBlock,
    ClassificationInterpretation,
    DataBlock,
    DataLoader,
    Flip,
    ImageBlock,
    Interpretation,
    Learner,
    RandomSplitter,
    RegressionBlock,
    RegressionInterpretation,
    get_image_files,
)

plt.switch_backend("Agg")

X = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(11) % 4
NUMBERS = TensorDataset(X, Y)


@pytest.fixture
def interp(learn):
    yield ClassificationInterpretation.from_learner(learn)
    plt.close("all")


@pytest.fixture
def forwards():
    """How often a learner's model ran, as a function."""

    def count(learn):
        calls = []
        learn.model.register_forward_hook(lambda *_: calls.append(1))
        return calls

    return count


def plain_learner(loader, model=None, loss_func=F.cross_entropy):
    torch.manual_seed(0)
    return Learner((loader, loader), model or nn.Linear(3, 4), loss_func)


def test_it_holds_one_row_for_each_item_in_order(interp, learn):
    preds, targs, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    assert_close((interp.preds, interp.targs, interp.decoded, interp.losses), (preds, targs, decoded, losses))
    of_training = Interpretation.from_learner(learn, ds_idx=0)
    assert len(of_training.losses) == len(learn.dls.train_ds)


def test_top_losses_are_the_largest_with_the_items_they_belong_to(interp, learn):
    targs, preds = interp.targs, interp.preds
    losses = F.nll_loss(preds.log(), targs, reduction="none")
    values, positions, items = interp.top_losses(3, items=True)
    order = np.argsort(-losses.numpy())[:3]
    assert positions.tolist() == order.tolist()
    assert_close(values, losses[order.copy()])
    assert items == [learn.dls.valid_ds.items[int(i)] for i in order]
    assert interp.top_losses(1, largest=False)[1] == losses.argmin()
    assert len(interp.top_losses()[0]) == len(losses)


def test_top_losses_are_drawn_with_prediction_truth_loss_and_probability(interp):
    interp.plot_top_losses(2)
    (_, positions) = interp.top_losses(2)
    titles = [ax.get_title() for ax in plt.gcf().axes if ax.get_title()]
    for title, i in zip(titles, positions.tolist(), strict=True):
        assert interp.vocab[int(interp.decoded[i])] in title
        assert interp.vocab[int(interp.targs[i])] in title
        assert f"{interp.losses[i]:.2f}" in title


def test_chosen_items_are_drawn_with_their_results(interp):
    interp.show_results([4, 0])
    titles = [ax.get_title().split("\n") for ax in plt.gcf().axes if ax.get_title()]
    assert titles == [[interp.vocab[int(interp.targs[i])], interp.vocab[int(interp.decoded[i])]] for i in (4, 0)]


def test_images_can_be_indexed_with_what_the_model_says_of_them(interp, learn):
    inputs, preds, targs, decoded, losses = interp[[4, 0]]
    wanted = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
    assert_close((inputs, preds, targs, decoded, losses), tuple(column[[4, 0]] for column in wanted))
    assert_close(interp[-1][1], interp.preds[-1:])
    assert len(interp) == len(interp[:][1]) == len(learn.dls.valid_ds)


def test_training_items_are_seen_in_order_and_without_augmentation(dls, learn):
    dls.add_tfms([Flip(p=1.0)], "after_batch")
    seen = Interpretation.from_learner(learn, ds_idx=0)
    as_valid = dls.test_dl(dls.train_ds.items, with_labels=True)
    assert_close(seen.preds, learn.get_preds(dl=as_valid)[0])
    assert seen.top_losses(2, items=True)[2] == [dls.train_ds.items[int(i)] for i in seen.top_losses(2)[1]]
    again, by_hand = seen[[3, 1]][0], as_valid.one_batch()[0]
    assert_close(again, by_hand[[3, 1]])
    assert_close(Interpretation.from_learner(learn, dl=dls.train).losses, seen.losses)


def test_one_pass_is_enough_for_every_plot(learn, forwards):
    calls = forwards(learn)
    interp = ClassificationInterpretation.from_learner(learn)
    assert len(calls) == len(learn.dls.valid)
    interp.plot_top_losses(4)
    interp.plot_top_losses([0, 2], largest=False)
    interp.plot_confusion_matrix()
    interp.most_confused()
    interp.show_results(slice(0, 3))
    assert len(calls) == len(learn.dls.valid)
    plt.close("all")


def test_predictions_that_were_not_kept_are_made_once_for_the_items_that_are_shown(learn, forwards):
    interp = ClassificationInterpretation.from_learner(learn, keep_preds=False)
    assert interp.preds is None
    calls = forwards(learn)
    interp.plot_top_losses(3)
    titles = [ax.get_title() for ax in plt.gcf().axes]
    interp.plot_top_losses(2)
    assert len(calls) == 1
    ClassificationInterpretation.from_learner(learn).plot_top_losses(3)
    assert titles == [ax.get_title() for ax in plt.gcf().axes]
    plt.close("all")


def test_inputs_are_not_kept(learn):
    batches = []
    learn.add_cb(Callback(after_pred=lambda cb: batches.append(weakref.ref(cb.learn.xb[0]))))
    interp = Interpretation.from_learner(learn, ds_idx=0)
    learn.batch = learn.xb = learn.yb = learn.pred = None
    gc.collect()
    assert len(batches) == 5
    assert [ref() for ref in batches] == [None] * 5
    assert interp.top_losses(3)[0].shape == (3,)


class Numbers(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


def batches_of(size):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, len(X), size)]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(NUMBERS, bs=4, shuffle=True, drop_last=True),
        TorchDataLoader(NUMBERS, batch_size=4),
        TorchDataLoader(Numbers(), batch_size=4, shuffle=True),
        batches_of(4),
        [{"input": x, "target": y} for x, y in batches_of(4)],
    ],
    ids=["ours", "torch", "torch shuffled", "list", "dicts"],
)
def test_loaders_of_any_make_are_read_in_the_order_of_their_items(loader):
    learn = plain_learner(loader)
    interp = ClassificationInterpretation.from_learner(learn, ds_idx=0)
    losses = F.cross_entropy(learn.model(X), Y, reduction="none").detach()
    assert_close(interp.losses, losses)
    assert_close(interp.decoded, learn.model(X).argmax(1))
    _, positions, items = interp.top_losses(2, items=True)
    values = [next(iter(item.values())) if isinstance(item, dict) else item[0] for item in items]
    assert_close(torch.stack(values), X[positions])
    assert_close(interp[[10, 0]][1], learn.model(X).detach()[[10, 0]].softmax(1))
    with pytest.raises(CannotTrain, match="DataBlock"):
        interp.plot_top_losses(2)


def test_a_loader_whose_items_cannot_be_found_again_still_tells_losses():
    learn = plain_learner(batches_of(4))
    interp = ClassificationInterpretation.from_learner(learn, dl=iter(batches_of(4)))
    assert_close(interp.losses, Interpretation.from_learner(learn).losses)
    assert interp.confusion_matrix().sum() == 11
    with pytest.raises(CannotTrain, match="no access to single items"):
        interp.top_losses(2, items=True)
    with pytest.raises(CannotTrain, match="no access to single items"):
        interp[0]


class WithLogits(nn.Linear):
    def forward(self, x, labels=None):
        logits = super().forward(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss) if labels is not None else {"logits": logits, "hidden": x}


@pytest.mark.parametrize("form", ["own loss", "a function", "a loss with reduction"])
def test_outputs_with_logits_are_understood(form):
    if form == "own loss":
        learn = plain_learner([{"x": x, "labels": y} for x, y in batches_of(4)], WithLogits(3, 4), None)
    elif form == "a function":
        learn = plain_learner(batches_of(4), WithLogits(3, 4), lambda out, y: F.cross_entropy(out["logits"], y))
    else:

        def loss(out, y, reduction="mean"):
            return F.cross_entropy(out["logits"], y, reduction=reduction)

        learn = plain_learner(batches_of(4), WithLogits(3, 4), loss)
    interp = ClassificationInterpretation.from_learner(learn)
    logits = F.linear(X, learn.model.weight, learn.model.bias).detach()
    assert_close(interp.losses, F.cross_entropy(logits, Y, reduction="none"))
    assert_close((interp.preds, interp.decoded), (logits, logits.argmax(1)))
    assert interp.confusion_matrix().sum() == 11


def test_several_targets_come_as_tuples_and_are_all_named(pictures):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

        def forward(self, x):
            return self.body(x).split([3, 1], 1)

    class BothLoss:
        def __call__(self, preds, label, number):
            return F.cross_entropy(preds[0], label) + F.mse_loss(preds[1][:, 0], number)

        def decodes(self, preds):
            return preds[0].argmax(1), preds[1][:, 0]

    block = DataBlock(
        (ImageBlock, CategoryBlock, RegressionBlock), n_inp=1, get_items=get_image_files,
        get_y=[lambda f: f.parent.name, lambda f: float(f.stem[-1])], splitter=RandomSplitter(0.25, seed=0),
    )  # fmt: skip
    learn = Learner(block.dataloaders(pictures, bs=4, num_workers=0, device="cpu"), Both(), BothLoss())
    interp = ClassificationInterpretation.from_learner(learn)
    assert [len(column) for column in (*interp.targs, *interp.decoded)] == [6] * 4
    interp.show_results([0, 1])
    title = plt.gcf().axes[0].get_title()
    assert title.startswith(f"{learn.dls.vocab[int(interp.targs[0][0])]}, {interp.targs[1][0]:.4g}\n")
    interp.plot_top_losses(1)
    plt.close("all")
    with pytest.raises(BadValue, match="one target, and there are several"):
        interp.confusion_matrix()


def test_a_loss_that_only_reduces_is_asked_item_by_item():
    learn = plain_learner(batches_of(4), loss_func=lambda pred, y: F.cross_entropy(pred, y) + 1)
    wanted = F.cross_entropy(learn.model(X), Y, reduction="none").detach() + 1
    assert_close(Interpretation.from_learner(learn).losses, wanted)


def test_decisions_of_several_labels_come_of_probabilities():
    loss = F.binary_cross_entropy_with_logits
    learn = plain_learner([(X, F.one_hot(Y).float())], loss_func=BCEWithLogitsLossFlat())
    interp = Interpretation.from_learner(learn)
    assert_close(interp.decoded, learn.model(X).sigmoid() > 0.5)
    assert_close(interp.losses, loss(learn.model(X), F.one_hot(Y).float(), reduction="none").mean(1).detach())


def test_residuals_are_predictions_minus_targets():
    learn = plain_learner([(X, X.sum(1))], nn.Linear(3, 1), nn.MSELoss())
    learn.loss_func = lambda pred, y, reduction="mean": F.mse_loss(pred[:, 0], y, reduction=reduction)
    interp = RegressionInterpretation.from_learner(learn)
    assert_close(interp.residuals, (learn.model(X)[:, 0] - X.sum(1)).detach()[:, None])
    interp.plot_residuals()
    fig = plt.gcf()
    assert_close(fig.axes[0].collections[0].get_offsets()[:, 0].data, X.sum(1).numpy(), check_dtype=False)
    assert f"mean {interp.residuals.mean():.3g}" in fig.axes[1].get_title()
    plt.close("all")
    with pytest.raises(BadValue, match="residuals"):
        RegressionInterpretation.from_learner(plain_learner(batches_of(4))).residuals  # a property


def test_what_cannot_be_asked_is_named(interp, learn):
    for k in (0, -1):
        with pytest.raises(OutOfRange, match="whole number from 1"):
            interp.top_losses(k)
    for idxs in (99, [], [0, -7]):
        with pytest.raises(OutOfRange, match="positions from 0 to 5"):
            interp.show_results(idxs)
    with pytest.raises(OutOfRange):
        interp.plot_top_losses([0, 6])
    with pytest.raises(BadArgument, match="did you mean 'ds_idx'"):
        Interpretation.from_learner(learn, dsidx=1)
    with pytest.raises(BadArgument, match="did you mean 'nrows'"):
        interp.plot_top_losses(2, nrow=1)
    with pytest.raises(EmptySource, match="no batch"):
        Interpretation.from_learner(learn, dl=[])
    with pytest.raises(BadValue, match="with_labels"):
        Interpretation.from_learner(learn, dl=learn.dls.test_dl(learn.dls.valid_ds.items))
    with pytest.raises(BadValue, match="no loader 7"):
        Interpretation.from_learner(learn, ds_idx=7)
    assert interp.top_losses(99)[0].shape == (6,)


def test_items_that_were_left_out_are_not_taken_for_others(learn, pictures, tmp_path):
    broken = tmp_path / "red" / "x.png"
    broken.parent.mkdir()
    broken.write_bytes(b"nothing")
    files = list(learn.dls.valid_ds.items)
    dl = learn.dls.test_dl([broken, *files[:3]], with_labels=True, on_bad="skip")
    with pytest.warns(UserWarning, match="left out"):
        interp = Interpretation.from_learner(learn, dl=dl)
    with pytest.raises(CannotTrain, match="3 predictions for 4 items"):
        interp.plot_top_losses(1)
    with pytest.raises(CannotTrain, match="3 predictions for 4 items"):
        interp.top_losses(1, items=True)


def test_items_without_a_body_of_their_own_are_shown_with_their_losses(capsys):
    image, titles = TensorImage(torch.rand(3, 4, 4)), (Category("a"), Category("b"))
    show = verb("plot_top_losses")
    samples, outs = [(image, image, titles[0])], [(titles[1],)]
    axes = show((image, image), titles[0], samples, outs, [None], [1.5])
    assert [ax.get_title() for ax in axes] == ["a\nb\nloss 1.50", ""]
    show((1, 2), titles[0], [("x", "y", titles[0])], outs, [None], [0.25])
    assert capsys.readouterr().out.split() == ["x", "y", "a", "→", "b", "loss", "0.25"]
