"""The validation loss of a loss that adds up others is that of the whole set, or it is said that it cannot be."""

import json
import sys
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn

from layered.data import DataLoader, DataLoaders
from layered.foundation import CannotTrain
from layered.loop import Loop
from layered.nn import MultiTaskLoss

WEIGHT = torch.tensor([0.5, 1.0, 7.0])
g = torch.Generator().manual_seed(0)
torch.manual_seed(0)
X, Y, Z = torch.randn(24, 2, generator=g), torch.randint(3, (24,), generator=g), torch.randn(24, 1, generator=g)
MODEL = nn.Linear(2, 4)


class LearntWeights(nn.Module):
    """Kendall et al. 2018: each task by a factor that is learnt."""

    def __init__(self):
        super().__init__()
        self.logs, self.calls = nn.Parameter(torch.tensor([0.3, -0.2])), 0

    def forward(self, pred, y, z):
        self.calls += 1
        one = F.cross_entropy(pred[:, :3], y, WEIGHT)
        return self.logs[0].neg().exp() * one + self.logs[1].neg().exp() * F.mse_loss(pred[:, 3:], z) + self.logs.sum()


def in_place(pred, y, z):
    loss = F.cross_entropy(pred[:, :3], y, weight=WEIGHT)
    loss += 0.1 * F.mse_loss(pred[:, 3:], z)
    loss *= 2
    return loss


def one_by_one(pred, y, z):
    losses = [F.cross_entropy(pred[i : i + 1, :3], y[i : i + 1], weight=WEIGHT) for i in range(len(pred))]
    return torch.stack(losses).mean()


def at_times_two(pred, y, z):
    loss = F.mse_loss(pred[:, 3:], z)
    return loss + F.l1_loss(pred[:, 3:], z) if len(y) > 5 else loss + (pred[:, 3:] - z).abs().mean()


LOSSES = {
    "weights and numbers": lambda p, y, z: F.cross_entropy(p[:, :3], y, weight=WEIGHT) + 0.1 * F.mse_loss(p[:, 3:], z),
    "two that count differently": lambda p, y, z: (
        (F.cross_entropy(p[:, :3], y, WEIGHT, None, 2) + F.nll_loss(p.log_softmax(1), y, ignore_index=1)) / 2
    ),
    "and a mean that is nobody's": lambda p, y, z: F.cross_entropy(p[:, :3], y, WEIGHT) + p.abs().mean(),
    "a factor": lambda p, y, z: 0.5 * F.cross_entropy(p[:, :3], y, weight=WEIGHT),
    "stacked": lambda p, y, z: torch.stack([F.cross_entropy(p[:, :3], y, WEIGHT), F.l1_loss(p[:, 3:], z)]).sum(),
    "in place": in_place,
    "learnt weights": LearntWeights(),
    "weights of samples": lambda p, y, z: F.mse_loss(p[:, 3:], z, weight=z.abs()),
    "one that is only looked at": lambda p, y, z: (
        F.mse_loss(p[:, 3:], z) + 0 * F.cross_entropy(p[:, :3], y, WEIGHT).item()
    ),
    "old names": lambda p, y, z: F.mse_loss(p[:, 3:], z, size_average=False) / len(y) + F.cross_entropy(p, y),
    "not always the same parts": at_times_two,
    "tasks": MultiTaskLoss([lambda p, y: 2 * F.cross_entropy(p, y, WEIGHT) + p.mean(), F.mse_loss], [3, 1]),
}


def validated(loss, sizes):
    loader = list(zip(X.split(sizes), Y.split(sizes), Z.split(sizes), strict=True))
    dls = DataLoaders(loader, loader)
    dls.n_inp = 1
    return Loop(dls, MODEL, loss).validate()


@pytest.mark.filterwarnings("ignore:size_average")
@pytest.mark.parametrize("name", LOSSES)
def test_each_part_is_weighted_by_what_its_mean_divides_by(name):
    with torch.no_grad():
        expected = LOSSES[name](MODEL(X), Y, Z).item()
    for sizes in ([24], [1] * 24, [7, 1, 9, 1, 1, 5]):
        assert validated(LOSSES[name], sizes) == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize(
    "loss",
    [
        one_by_one,
        lambda p, y, z: F.mse_loss(p[:, 3:], z, reduction="sum"),
        lambda p, y, z: (p[:, 3:] - z).square().sum(),
    ],
)
def test_losses_of_each_sample_and_sums_combine_as_they_do_in_the_first_batches(loss):
    with torch.no_grad():
        expected = loss(MODEL(X), Y, Z).item()
    for sizes in ([24], [7, 1, 9, 1, 1, 5]):
        assert validated(loss, sizes) == [pytest.approx(expected, rel=1e-5)]


def test_a_part_without_targets_in_a_batch_leaves_the_others_alone():
    y = torch.where(torch.arange(24) < 12, -100, Y)
    both = lambda p, y, z: F.cross_entropy(p[:, :3], y) + F.mse_loss(p[:, 3:], z)
    dls = DataLoaders(*[list(zip(X.split(12), y.split(12), Z.split(12), strict=True))] * 2)
    dls.n_inp = 1
    with torch.no_grad():
        assert Loop(dls, MODEL, both).validate() == [pytest.approx(both(MODEL(X), y, Z).item(), rel=1e-5)]


def masked(pred, y, z):
    counts = z[:, 0] > 0
    return (F.cross_entropy(pred[:, :3], y, reduction="none") * counts).sum() / counts.sum()


UNKNOWN = {
    "a mean of its own": masked,
    "a root": lambda p, y, z: F.mse_loss(p[:, 3:], z).sqrt(),
    "pairs of samples": lambda p, y, z: (p[:, None] - p[None]).square().mean() + p.mean(),
    "a batch of its own size": lambda p, y, z: p.reshape(24, -1).square().mean() if len(p) == 24 else 1 / 0,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_loss_that_is_not_a_mean_over_samples_is_named_once(name):
    loader = [(X, Y, Z)] * 3
    dls = DataLoaders(loader, loader)
    dls.n_inp = 1
    learn = Loop(dls, MODEL, UNKNOWN[name])
    with pytest.warns(UserWarning, match="valid_loss depends on the batch size"):
        learn.validate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn.validate()


def test_trying_how_batches_combine_leaves_no_trace():
    loss = LearntWeights()
    state = torch.get_rng_state()
    validated(loss, [12, 12])
    assert loss.calls == 2
    assert torch.equal(state, torch.get_rng_state())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validated(lambda p, y, z: F.dropout(p[:, 3:] - z, 0.5).square().mean() * 0 + F.mse_loss(p[:, 3:], z), [12, 12])


@pytest.mark.parametrize(
    ("loss", "pred", "target", "fix"),
    [
        (lambda p, t: F.cross_entropy(p, t), 3, Y[:, None], "target.squeeze(1)"),
        (lambda p, t: F.nll_loss(p.log_softmax(1), t), 3, Y[:, None], "target.squeeze(1)"),
        (lambda p, t: F.multi_margin_loss(p, t), 3, Y[:, None], "target.squeeze(1)"),
        (lambda p, t: F.binary_cross_entropy_with_logits(p, t), 1, Y[:, None] % 2, "target.float()"),
        (lambda p, t: F.binary_cross_entropy(p.sigmoid(), t), 1, Y[:, None] % 2, "target.float()"),
    ],
)
def test_targets_that_a_function_of_torchs_losses_cannot_take_are_named_with_the_way_out(loss, pred, target, fix):
    loader = [(X, target)]
    with pytest.raises(CannotTrain, match="cannot compare predictions and targets") as caught:
        Loop((loader, loader), nn.Linear(2, pred), loss).fit(1)
    assert fix in caught.value.fix


def test_other_errors_of_a_loss_are_its_own():
    def broken(pred, target):
        raise RuntimeError("no such target")

    with pytest.raises(RuntimeError, match=r"^no such target"):
        Loop(([(X, Z)], None), nn.Linear(2, 1), broken).fit(1)


PROCESSES = {
    "weights": nn.CrossEntropyLoss(WEIGHT),
    "ignored": nn.CrossEntropyLoss(ignore_index=1),
    "partial": partial(F.cross_entropy, weight=WEIGHT, ignore_index=2),
    "parts": lambda p, t: F.cross_entropy(p, t, WEIGHT) + 0.1 * F.cross_entropy(p, t, ignore_index=0) + p.abs().mean(),
}


def one_of_two(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    (folder / f"{rank}.json").write_text(json.dumps(losses_of_all()))
    distributed.barrier()
    distributed.destroy_process_group()


def losses_of_all(bs=4):
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    data = torch.utils.data.TensorDataset(X[:21], Y[:21])
    return {
        name: Loop((DataLoader(data, bs=bs), DataLoader(data, bs=bs)), model, loss).validate()[0]
        for name, loss in PROCESSES.items()
    }


@pytest.mark.skipif(sys.platform == "win32" or not distributed.is_available(), reason="needs gloo")
def test_two_processes_report_the_loss_of_the_whole_set(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    expected = losses_of_all(bs=21)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected, rel=1e-5)
