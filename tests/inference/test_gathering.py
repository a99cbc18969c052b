"""What a pass predicts is gathered whatever its structure, in memory or in files."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.data import DataLoader
from layered.foundation import BadValue, CannotSave, CannotTrain, EmptySource
from layered.inference import FetchPredsCallback, GatherPredsCallback
from layered.inference.gathering import ArrayFile, concat
from layered.loop import Callback, CancelBatchException
from layered.training import Learner

X, Y = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10.0)


def learner(model=None, loader=None, loss_func=None):
    torch.manual_seed(0)
    loader = loader or DataLoader(TensorDataset(X, Y), bs=4)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1), nn.Flatten(0)) if model is None else model
    learn = Learner((loader, loader), net, loss_func or nn.MSELoss())
    learn.logger = lambda row: None
    return learn


class Parts(nn.Module):
    """Several outputs, nested, with one that no batch has."""

    def forward(self, x):
        return {"sum": x.sum(1), "pair": (x, [x[:, :1]]), "none": None}


class Ragged(nn.Module):
    """Outputs as wide as the batch's first item says."""

    def forward(self, x):
        return x[:, : 1 + int(x[0, 0] > 0)]


def test_nested_outputs_keep_their_structure():
    preds, targs = learner(Parts(), loss_func=lambda pred, targ: pred["sum"].mean()).get_preds()
    assert_close(preds["sum"], X.sum(1))
    assert_close(preds["pair"], (X, (X[:, :1],)))
    assert preds["none"] is None
    assert_close(targs, Y)


def test_rows_that_differ_in_shape_become_a_list_of_items():
    preds, _ = learner(Ragged(), loss_func=lambda pred, targ: pred.mean()).get_preds()
    assert len(preds) == 10
    for i, row in enumerate(preds):
        assert_close(row, X[i, : len(row)])


@pytest.mark.parametrize("sizes", [(2, 2), (2, 1), (1, 3)])
def test_what_a_detector_finds_comes_as_one_dict_for_each_image(sizes):
    images = [torch.rand(3, 4 + i, 4) for i in range(sum(sizes))]
    targets = [{"boxes": torch.full((i, 4), float(i))} for i in range(sum(sizes))]
    rows = iter(zip(images, targets, strict=True))
    batches = [tuple(zip(*[next(rows) for _ in range(size)], strict=True)) for size in sizes]

    def step(loop, batch):
        loop.pred = [{"boxes": image[0, :2], "scores": image.new_zeros(len(image[0]))} for image in batch[0]]

    learn = Learner((batches, batches), nn.Linear(1, 1), step=step)
    preds, found = learn.get_preds()
    assert len(preds) == len(found) == len(images)
    for image, target, pred, targ in zip(images, targets, preds, found, strict=True):
        assert_close(pred["boxes"], image[0, :2])
        assert_close(targ["boxes"], target["boxes"])


def test_dict_batches_and_outputs_with_their_own_loss_are_predicted():
    class Own(nn.Module):
        def forward(self, values, labels):
            logits = values.sum(1)
            return {"loss": (logits - labels).square().mean(), "logits": logits}

    batches = [{"values": X[:6], "labels": Y[:6]}, {"values": X[6:], "labels": Y[6:]}]
    learn = Learner((batches, batches), Own())
    preds, targs = learn.get_preds()
    assert_close((preds, targs), (X.sum(1), Y))


def test_several_targets_come_as_a_tuple():
    batches = [(X, Y, 2 * Y)]
    learn = learner(loader=batches, loss_func=lambda pred, a, b: pred.mean())
    learn.dls.n_inp = 1
    assert_close(learn.get_preds()[1], (Y, 2 * Y))


@pytest.mark.parametrize("kind", ["ours", "torch's"])
def test_a_shuffled_training_loader_is_predicted_in_the_order_of_its_items(kind):
    make = {
        "ours": lambda: DataLoader(TensorDataset(X, Y), bs=4, shuffle=True, drop_last=True),
        "torch's": lambda: TorchDataLoader(TensorDataset(X, Y), 4, shuffle=True, drop_last=True),
    }[kind]
    learn = learner(loader=make())
    preds, targs = learn.get_preds(ds_idx=0)
    assert_close(targs, Y)
    assert_close(preds, learn.model.eval()(X).detach())
    assert_close(learn.get_preds(dl=make())[1], Y)
    assert_close(torch.cat([t for _, t in learn.stream_preds(dl=make())]), Y)


class ByLength(DataLoader):
    """Comes in an order of its own."""

    def get_idxs(self):
        return X[: self.n].norm(dim=1).argsort().tolist()


def test_an_order_of_the_loaders_own_is_undone_too(tmp_path):
    dl = ByLength(TensorDataset(X, Y), bs=4)
    learn = learner()
    preds, targs = learn.get_preds()
    assert_close(learn.get_preds(dl=dl)[:2], (preds, targs))
    assert_close(learn.get_preds(dl=dl, save_preds=tmp_path)[:2], (preds, targs))
    assert_close(learn.get_preds(dl=dl, reorder=False)[1], Y[dl.get_idxs()])


def test_the_parts_that_are_not_wanted_are_none():
    learn = learner()
    assert learn.get_preds(with_preds=False)[0] is None
    assert learn.get_preds(with_targs=False)[1] is None
    assert learn.get_preds(act=lambda out: out[None], concat_dim=1)[0].shape == (1, 10)


def test_predictions_written_to_a_file_are_those_in_memory(tmp_path):
    learn = learner()
    preds, targs = learn.get_preds()
    written, written_targs = learn.get_preds(save_preds=tmp_path / "out", save_targs=tmp_path / "t.npy")
    assert_close((written, written_targs), (preds, targs))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "preds.npy"), preds.numpy())
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["out", "preds.npy", "t.npy"]
    parts = learner(Parts(), loss_func=lambda pred, targ: pred["sum"].mean())
    with pytest.raises(BadValue, match="tensors"):
        parts.get_preds(save_preds=tmp_path / "nested")
    parts.get_preds(save_preds=tmp_path / "nested", act=lambda out: {k: out[k] for k in ("sum", "pair")})
    assert sorted(p.name for p in (tmp_path / "nested").iterdir()) == [
        "preds.pair.0.npy",
        "preds.pair.1.0.npy",
        "preds.sum.npy",
    ]


def test_a_pass_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    learn = learner()
    learn.get_preds(save_preds=tmp_path)
    before = (tmp_path / "preds.npy").read_bytes()
    with pytest.raises(ZeroDivisionError):
        learn.get_preds(save_preds=tmp_path, cbs=Callback(after_batch=lambda cb: 1 / (cb.iter - 1)))
    with pytest.raises(BadValue, match="the same shape and dtype"):
        learner(Ragged(), loss_func=lambda pred, targ: pred.mean()).get_preds(save_preds=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["preds.npy"]
    assert (tmp_path / "preds.npy").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(CannotSave):
        learn.get_preds(save_preds=tmp_path / "file" / "below")


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.float16])
def test_an_array_file_is_what_numpy_reads(tmp_path, dtype):
    file, rows = ArrayFile(tmp_path / "a.npy"), torch.randn(7, 2, 3).to(dtype)
    for part in rows.split(3):
        file.append(part)
    read = file.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows.numpy())
    assert torch.equal(read, rows)


def test_batches_of_numbers_and_of_no_tensors_are_joined_too():
    assert_close(concat([torch.tensor(1.0), torch.tensor(2.0)]), torch.tensor([1.0, 2.0]))
    assert concat(["a", "b"]) == ["a", "b"]


def test_streaming_gives_the_batches_of_get_preds():
    learn = learner(loss_func=nn.MSELoss())
    whole = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
    batches = list(learn.stream_preds(with_input=True, with_decoded=True, with_loss=True))
    assert [len(b[0]) for b in batches] == [4, 4, 2]
    for column, wanted in zip(zip(*batches, strict=True), whole, strict=True):
        assert_close(torch.cat(column), wanted)


def test_a_stream_holds_one_batch_and_no_mode_of_torch():
    import weakref

    seen = []

    def batches():
        for _ in range(4):
            batch = torch.randn(5, 3), torch.zeros(5)
            seen.append(weakref.ref(batch[0]))
            yield batch

    stream = learner().stream_preds(dl=batches())
    next(stream)
    assert torch.is_grad_enabled()
    next(stream)
    next(stream)
    assert seen[0]() is None
    assert len(list(stream)) == 1


def test_a_stream_that_is_left_early_leaves_the_learner_as_it_was():
    learn = learner()
    before = len(learn.cbs), learn.logger
    stream = learn.stream_preds()
    next(stream)
    stream.close()
    assert (len(learn.cbs), learn.logger) == before
    assert learn.dl is None
    learn.fit(1)
    stream = learn.stream_preds()
    next(stream)
    learn.validate()
    with pytest.raises(CannotTrain, match="streamed"):
        next(stream)
    with pytest.raises(EmptySource):
        list(learn.stream_preds(dl=[]))


def test_a_batch_that_is_cancelled_is_not_gathered_twice():
    def cancel(cb):
        if cb.iter == 1:
            raise CancelBatchException

    learn = learner()
    assert_close(learn.get_preds(cbs=Callback(before_batch=cancel))[1], Y[[0, 1, 2, 3, 8, 9]])
    assert len(list(learn.stream_preds(cbs=Callback(before_batch=cancel)))) == 2


def test_the_callback_gathers_each_validation_pass_of_a_fit():
    gather = GatherPredsCallback(with_loss=True)
    learn = learner()
    learn.fit(2, cbs=gather)
    preds, targs, losses = gather.all_tensors()
    assert_close(targs, Y)
    assert_close(preds, learn.model(X).detach())
    assert_close(losses, (preds - Y) ** 2)


def test_fetching_predicts_after_each_epoch_and_leaves_the_table_alone():
    plain = learner()
    plain.fit(2)
    fetching = learner()
    fetch = FetchPredsCallback(ds_idx=0)
    fetching.fit(2, cbs=fetch)
    assert fetching.recorder.values == plain.recorder.values
    assert_close(fetch.preds[1], Y)
    assert_close(fetch.preds[0], fetching.get_preds()[0])
