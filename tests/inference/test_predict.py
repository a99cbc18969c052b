"""Predictions: whole loaders in the order of their items, and single items from anything that an image is made of."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.data import CategoryBlock, DataBlock, Datasets, ItemGetter, TfmdDL, TfmdLists, TransformBlock
from layered.foundation import (
    BadItem,
    BadValue,
    CannotTrain,
    EmptySource,
    ItemTransform,
    Pipeline,
    get_random_states,
)
from layered.vision.all import Category, CrossEntropyLossFlat, DataLoaders, Learner, PILImage


def by_hand(learn, files):
    """The probabilities that plain torch computes, with nothing of the pipelines: the pictures have their size already."""
    net = learn.model.eval()
    pictures = np.stack([np.asarray(PILImage.create(f)) for f in files])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return net(x).softmax(1)


def labels(learn, files):
    return torch.tensor([list(learn.dls.vocab).index(f.parent.name) for f in files])


def test_get_preds_gives_probabilities_and_targets_of_the_validation_items(learn):
    files = list(learn.dls.valid_ds.items)
    preds, targs = learn.get_preds()
    assert_close(preds, by_hand(learn, files))
    assert_close(targs, labels(learn, files))
    assert type(preds) is type(targs) is torch.Tensor


def test_get_preds_of_the_training_loader_has_all_items_in_their_order(learn):
    files = list(learn.dls.train_ds.items)
    assert len(files) % learn.dls.bs  # so that a dropped last batch would be missed
    preds, targs = learn.get_preds(ds_idx=0)
    assert_close(preds, by_hand(learn, files))
    assert_close(targs, labels(learn, files))


def test_what_is_asked_for_comes_in_a_fixed_order(learn):
    inputs, preds, targs, decoded, losses = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
    assert inputs.shape == (6, 3, 32, 32)
    assert_close(decoded, preds.argmax(1))
    assert_close(losses, F.nll_loss(preds.log(), targs, reduction="none"))


def test_the_order_of_a_shuffled_loader_is_undone_unless_it_is_wanted(learn):
    shuffled = learn.dls.valid.new(shuffle=True)
    in_order, _ = learn.get_preds()
    assert_close(learn.get_preds(dl=shuffled)[0], in_order)
    as_loaded, targs = learn.get_preds(dl=shuffled, reorder=False)
    assert not torch.equal(as_loaded, in_order)
    assert_close(as_loaded.sum(0), in_order.sum(0))
    assert sorted(targs.tolist()) == sorted(learn.get_preds()[1].tolist())


def test_unlabelled_items_have_no_targets(learn):
    files = list(learn.dls.valid_ds.items)
    preds, targs = learn.get_preds(dl=learn.dls.test_dl(files[:3]))
    assert targs is None
    assert_close(preds, by_hand(learn, files[:3]))
    with pytest.raises(BadValue, match="no targets"):
        learn.get_preds(dl=learn.dls.test_dl(files[:3]), with_loss=True)


def test_any_iterable_of_batches_is_a_loader(learn):
    x, y = torch.rand(5, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    preds, targs = learn.get_preds(dl=[(x, y)])
    assert_close(preds, learn.model.eval()(x).softmax(1).detach())
    assert_close(targs, y)
    torchs, _ = learn.get_preds(dl=TorchDataLoader(TensorDataset(x, y), batch_size=2))
    assert_close(torchs, preds)
    with pytest.raises(EmptySource):
        learn.get_preds(dl=[])


def test_act_stands_in_for_the_activation_of_the_loss(learn):
    raw, _ = learn.get_preds(act=lambda out: out)
    assert_close(raw.softmax(1), learn.get_preds()[0])


def test_validate_gives_the_loss_and_the_metrics(learn):
    preds, targs = learn.get_preds()
    loss, acc = learn.validate()
    assert loss == pytest.approx(F.nll_loss(preds.log(), targs).item(), rel=1e-5)
    assert acc == pytest.approx(accuracy_score(targs, preds.argmax(1)))


def test_get_preds_inside_a_fit_leaves_the_fit_alone(learn):
    seen = []
    alone = learn.get_preds()[0]

    @learn.on("before_epoch")
    def look(learner):
        seen.append(learner.get_preds(inner=True)[0])

    learn.fit(1)
    assert_close(seen[0], alone)
    assert len(learn.recorder.losses) == len(learn.dls.train)


def test_a_prediction_is_label_decision_and_probabilities(learn):
    file = learn.dls.valid_ds.items[0]
    label, decision, probabilities = learn.predict(file)
    assert isinstance(label, Category)
    assert label == learn.dls.vocab[int(decision)]
    assert decision.shape == ()
    assert decision == probabilities.argmax()
    assert_close(probabilities, by_hand(learn, [file])[0])
    assert type(probabilities) is torch.Tensor


def test_an_image_may_be_given_in_any_form(learn):
    file = learn.dls.valid_ds.items[1]
    wanted = learn.predict(file)[2]
    image = PILImage.create(file)
    array = np.asarray(image)
    forms = [str(file), file.read_bytes(), image, array, torch.from_numpy(array.copy()).permute(2, 0, 1)]
    for form in forms:
        assert_close(learn.predict(form)[2], wanted, msg=type(form).__name__)


def test_the_decoded_input_comes_first_if_asked_for(learn):
    file = learn.dls.valid_ds.items[0]
    shown, label, _, _ = learn.predict(file, with_input=True)
    assert_close(
        shown.as_subclass(torch.Tensor), torch.from_numpy(np.array(PILImage.create(file))).permute(2, 0, 1) / 255
    )
    assert label == learn.predict(file)[0]


def test_predict_equals_the_row_of_get_preds_after_training(learn):
    learn.fit(1, lr=0.1)
    preds, _ = learn.get_preds()
    for row, file in zip(preds, learn.dls.valid_ds.items, strict=True):
        assert_close(learn.predict(file)[2], row)


def test_a_prediction_in_the_middle_of_a_fit_leaves_its_modes(learn):
    modes = []

    @learn.on("after_pred")
    def look(learn):
        learn.predict(learn.dls.valid_ds.items[0])
        modes.append((learn.training, [m.training for m in learn.model.modules()]))

    learn.fit(1)
    assert all(set(found) == {training} for training, found in modes)
    assert {training for training, _ in modes} == {True, False}


def test_many_threads_predict_what_one_does(learn):
    files = list(learn.dls.train_ds.items) + list(learn.dls.valid_ds.items)
    wanted = {f: learn.predict(f)[2] for f in files}
    with ThreadPoolExecutor(8) as pool:
        for file, (label, _, found) in zip(files * 16, pool.map(learn.predict, files * 16), strict=True):
            assert torch.equal(found, wanted[file])
            assert label == learn.dls.vocab[int(wanted[file].argmax())]


def test_threads_that_find_the_model_in_training_mode_predict_what_one_does(learn):
    file = learn.dls.valid_ds.items[0]
    wanted = learn.predict(file)[2]
    slow = nn.Sequential(*[nn.Sequential(nn.Identity()) for _ in range(300)], learn.model)  # takes its time to switch
    learn.model = slow
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            slow.train()
            assert all(torch.equal(found[2], wanted) for found in pool.map(learn.predict, [file] * 16))


def test_a_model_that_keeps_state_predicts_for_one_thread_at_a_time(learn):
    class Busy(nn.Module):
        """Says whether two calls overlap."""

        def __init__(self, net):
            super().__init__()
            self.net, self.inside, self.overlapped = net, 0, False

        def reset(self):
            self.inside = 0

        def forward(self, x):
            self.inside += 1
            self.overlapped |= self.inside > 1
            found = self.net(x)
            self.inside -= 1
            return found

    learn.model = Busy(learn.model)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn.predict, [learn.dls.valid_ds.items[0]] * 64))
    assert not learn.model.overlapped


def test_predicting_is_silent_and_leaves_no_trace(learn, capfd):
    file = learn.dls.valid_ds.items[0]
    learn.model.eval()
    before = dict(vars(learn)), get_random_states(), [dl.state_dict() for dl in learn.dls.loaders]
    weights = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.predict(file)
    after = dict(vars(learn)), get_random_states(), [dl.state_dict() for dl in learn.dls.loaders]
    assert before[0] == after[0]
    assert str(before[1:]) == str(after[1:])
    assert_close(dict(learn.model.state_dict()), weights)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("loss_func", [F.cross_entropy, nn.CrossEntropyLoss()], ids=["function", "module"])
def test_a_plain_loss_of_torch_activates_and_decides_as_the_default_one(learn, loss_func):
    file = learn.dls.valid_ds.items[0]
    wanted = learn.predict(file)
    preds, _, losses = learn.get_preds(with_loss=True)
    learn.loss_func = loss_func
    label, decision, outputs = learn.predict(file)
    assert (label, decision) == (wanted[0], wanted[1])
    assert_close(outputs, wanted[2])
    same, _, decoded, again = learn.get_preds(with_decoded=True, with_loss=True)
    assert_close(same, preds)
    assert_close(decoded, preds.argmax(1))
    assert_close(again, losses)
    if isinstance(loss_func, nn.Module):
        assert loss_func.reduction == "mean"


def test_a_loss_that_cannot_be_taken_item_by_item_is_named(learn):
    learn.loss_func = lambda pred, targ: pred.sum()
    with pytest.raises(BadValue, match="per sample"):
        learn.get_preds(with_loss=True)


def test_a_picture_that_cannot_be_read_is_named(learn, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    with pytest.raises(BadItem, match=r"broken\.png"):
        learn.predict(broken)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        learn.predict(tmp_path / "missing.png")


@pytest.mark.parametrize("item", [3, ["a.png", "b.png"], None], ids=str)
def test_what_is_no_item_is_named(learn, item):
    with pytest.raises((BadItem, BadValue), match=r"predicting one item|making the input"):
        learn.predict(item)


def test_predict_says_what_it_needs_where_loaders_do_not_know_items():
    x = torch.randn(8, 2)
    dls = DataLoaders.from_dsets(TensorDataset(x, x.sum(1)), TensorDataset(x, x.sum(1)), bs=4)
    learn = Learner(dls, nn.Linear(2, 1), loss_func=nn.MSELoss())
    with pytest.raises(CannotTrain, match="DataBlock"):
        learn.predict(x[0])


def test_what_plain_loaders_cannot_do_is_named():
    x = torch.randn(4, 2)
    batches = [(x, x.sum(1, keepdim=True))]
    learn = Learner((batches, None), nn.Linear(2, 1), loss_func=nn.MSELoss())
    with pytest.raises(CannotTrain, match="DataBlock"):
        learn.predict(x[0])
    with pytest.raises(CannotTrain, match="DataBlock"):
        learn.show_results(ds_idx=0)
    for ds_idx in (1, 5):
        with pytest.raises(BadValue, match=f"no loader {ds_idx}"):
            learn.get_preds(ds_idx=ds_idx)


def test_a_float64_item_is_predicted_or_named(tmp_path):
    x = torch.linspace(0, 1, 20, dtype=torch.float64).reshape(10, 2)
    block = DataBlock((TransformBlock, CategoryBlock), getters=[ItemGetter(0), ItemGetter(1)])
    dls = block.dataloaders(list(zip(x.float(), "ab" * 5, strict=True)), bs=4, num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), path=tmp_path)
    expected = learn.predict(x[0].float())[2]
    assert_close(learn.predict(x[0].numpy())[2], expected)
    with pytest.raises(CannotTrain, match=r"(?s)inputs are float64.*predicting one item.*x\.float\(\)"):
        learn.predict(x[0])


def test_show_results_draws_targets_and_predictions(learn):
    import matplotlib

    matplotlib.use("Agg")
    learn.loss_func = CrossEntropyLossFlat()
    learn.show_results(max_n=4)
    titles = [ax.get_title() for ax in matplotlib.pyplot.gcf().axes if ax.get_title()]
    assert len(titles) == 4
    for title in titles:
        assert len(title.split("\n")) == 2
        assert set(title.split("\n")) <= set(learn.dls.vocab)
    matplotlib.pyplot.close("all")


def halved(batch):
    return tuple(part / 2 for part in batch)


# stage → what a loader does there; each changes the number that the model is given
OWN_STAGES = {
    "create_item": lambda dl, i: (dl.dataset[i][0] + 1,),
    "do_item": lambda dl, i: (dl.dataset[i][0] + 2,),
    "create_batch": lambda dl, samples: (torch.stack([sample[0] for sample in samples]) * 3,),
    "retain": lambda dl, batch, samples: halved(batch),
    "do_batch": lambda dl, samples: halved(dl.create_batch(samples)),
    "create_batches": lambda dl, samples: ((dl.dataset[i][0][None] + 4,) for i in samples),
    "after_item": lambda dl, sample: (sample[0] + 5,),
    "before_batch": lambda dl, samples: [(sample[0] + 6,) for sample in samples],
    "after_batch": lambda dl, batch: halved(batch),
}
SLOTS = ("after_item", "before_batch", "after_batch")


@pytest.mark.parametrize("stage", OWN_STAGES)
@pytest.mark.parametrize("splits", [[[0, 1], [2, 3]], [[0, 1, 2, 3]]], ids=["validation", "training only"])
def test_a_prediction_goes_through_each_stage_of_the_loader(stage, splits):
    dsets = Datasets([1.0, 2.0, 3.0, 4.0], [[torch.tensor], [torch.tensor]], splits=splits)
    kind = type("Own", (TfmdDL,), {stage: OWN_STAGES[stage]})
    dls = dsets.dataloaders(bs=2, dl_type=kind, num_workers=0, device="cpu")
    for dl in dls if stage in SLOTS else ():
        setattr(dl, stage, Pipeline([ItemTransform(partial(OWN_STAGES[stage], dl))]))
    learn = Learner(dls, nn.Identity(), loss_func=nn.MSELoss())
    wanted = {"create_item": 9.0, "do_item": 10.0, "create_batch": 24.0, "create_batches": 12.0}
    wanted |= {"after_item": 13.0, "before_batch": 14.0}
    assert learn.predict(8.0)[2].item() == wanted.get(stage, 4.0)
    assert learn.get_preds(dl=dls.test_dl([8.0]))[0].item() == wanted.get(stage, 4.0)


def test_a_single_column_is_predicted_from_as_a_whole_batch_of_it():
    dls = TfmdLists([1.0, 2.0, 3.0, 4.0], torch.tensor, splits=[[0, 1], [2, 3]]).dataloaders(bs=2, device="cpu")
    learn = Learner(dls, nn.Identity(), loss_func=nn.MSELoss())
    shown, *_, output = learn.predict(8.0, with_input=True)
    assert shown.item() == output.item() == 8.0


def test_the_inputs_of_a_batch_with_names_are_passed_by_name():
    class Double(nn.Module):
        def forward(self, x):
            return 2 * x

    dsets = Datasets([1.0, 2.0, 3.0, 4.0], [[torch.tensor], [torch.tensor]], splits=[[0, 1], [2, 3]])
    named = type("Named", (TfmdDL,), {"create_batch": lambda dl, s: {"x": torch.stack([sample[0] for sample in s])}})
    dls = dsets.dataloaders(bs=2, dl_type=named, num_workers=0, device="cpu")
    learn = Learner(dls, Double(), loss_func=lambda pred, *targets: pred.sum())
    assert learn.predict(8.0)[2].item() == 16.0
