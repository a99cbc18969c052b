"""Gathered gradients are those of one large batch; clipped ones are no longer than asked."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import GradientAccumulation, GradientClip
from layered.foundation import BadArgument, OutOfRange
from layered.loop import Callback, CancelBackwardException, CancelTrainException, Loop
from layered.nn import CrossEntropyLossFlat
from layered.optim import SGD


def batches(rows):
    x = torch.randn(sum(rows), 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(rows)]


def fit(rows, cbs=None, n_epoch=2) -> Loop:
    torch.manual_seed(0)
    learn = Loop((batches(rows), batches(rows)), nn.Linear(3, 1), nn.MSELoss(), SGD, lr=0.1, cbs=cbs)
    learn.logger = lambda row: None
    learn.fit(n_epoch)
    return learn


@pytest.mark.parametrize(
    ("small", "n_acc", "large"),
    [
        ([4, 4, 4, 4], 8, [8, 8]),
        ([4, 4, 4], 8, [8, 4]),
        ([3, 4, 2, 4, 2], 6, [7, 6, 2]),
        ([4, 4], 100, [8]),
        ([4, 4], 1, [4, 4]),
    ],
)
def test_accumulation_equals_larger_batches(small, n_acc, large):
    ours, whole = fit(small, GradientAccumulation(n_acc)), fit(large)
    assert_close(ours.model.state_dict(), whole.model.state_dict())


def test_the_reported_loss_is_that_of_each_batch():
    ours, plain = fit([4, 4], GradientAccumulation(100), 1), fit([4, 4], n_epoch=1)
    assert ours.recorder.losses[0] == plain.recorder.losses[0]


@pytest.mark.parametrize("clip", [None, 0.05])
def test_four_times_eight_samples_are_one_batch_of_thirty_two(clip):
    cbs = [] if clip is None else [GradientClip(clip)]
    small, large = fit([8] * 9 + [3], [GradientAccumulation(32), *cbs]), fit([32, 32, 11], cbs)
    assert_close(small.model.state_dict(), large.model.state_dict(), rtol=0, atol=1e-6)


class NoLength:
    """Batches, nobody knows how many."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(batches(self.rows))


def trained(loader, cbs, n_epoch=2) -> Loop:
    torch.manual_seed(0)
    learn = Loop((loader, None), nn.Linear(3, 1), nn.MSELoss(), SGD, lr=0.1, cbs=cbs)
    learn.logger = lambda row: None
    learn.fit(n_epoch)
    return learn


def test_the_last_group_steps_also_where_nobody_knows_that_the_epoch_ends():
    ours, whole = trained(NoLength([4, 4, 4]), GradientAccumulation(8)), trained(batches([8, 4]), None)
    assert_close(ours.model.state_dict(), whole.model.state_dict())


def test_the_last_group_steps_also_where_the_training_pass_is_cut_short():
    def stop(cb):
        if cb.learn.iter == 2:
            raise CancelTrainException

    ours = trained(batches([4] * 6), [GradientAccumulation(8), Callback(after_batch=stop)])
    whole = trained([*batches([8, 4, 12])[:2]], None)
    assert_close(ours.model.state_dict(), whole.model.state_dict())


def test_a_batch_whose_backward_pass_is_cancelled_does_not_count():
    def skip_second(cb):
        if cb.learn.iter == 1:
            raise CancelBackwardException

    ours = trained(batches([4, 4, 4]), [GradientAccumulation(12), Callback(before_backward=skip_second)], 1)
    first, _, third = batches([4, 4, 4])
    whole = trained([tuple(torch.cat(parts) for parts in zip(first, third))], None, 1)
    assert_close(ours.model.state_dict(), whole.model.state_dict())


def test_an_epoch_without_any_gradient_changes_nothing():
    def skip(cb):
        raise CancelBackwardException

    ours = trained(batches([4, 4]), [GradientAccumulation(8), Callback(before_backward=skip)], 1)
    assert ours.opt.state_dict()["state"].get(0, {}).get("count") is None


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_gradients_travel_between_processes_once_for_each_step(one_process):
    synced = []
    accumulate, clean = GradientAccumulation(8), nn.Linear(3, 1)
    learn = Loop(
        (batches([4] * 5), None), nn.parallel.DistributedDataParallel(clean), nn.MSELoss(), SGD, cbs=accumulate
    )
    learn.logger = lambda row: None
    learn.on("before_backward")(lambda learn: synced.append(learn.model.require_backward_grad_sync))
    learn.fit(1)
    assert synced == [False, True, False, True, True]
    assert learn.model.require_backward_grad_sync


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "8", True])
def test_what_is_no_number_of_samples_is_refused(wrong):
    with pytest.raises((OutOfRange, BadArgument)):
        GradientAccumulation(wrong)


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
def test_a_norm_that_is_not_above_zero_is_refused(wrong):
    with pytest.raises(OutOfRange):
        GradientClip(wrong)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_clipping_does_not_spread_what_is_not_finite(bad):
    seen = []
    learn = Loop((batches([4]), None), nn.Linear(3, 1), nn.MSELoss(), SGD, cbs=GradientClip(1e-3))
    learn.logger = lambda row: None

    @learn.on("after_backward")
    def spoil(learn):
        learn.model.weight.grad[0, 0] = bad

    learn.on("after_step")(lambda learn: seen.append(learn.model.weight.grad.isfinite().tolist()))
    learn.fit(1)
    assert seen == [[[False, True, True]]]


@pytest.mark.parametrize("norm_type", [2.0, float("inf")])
def test_clipped_gradients_have_the_norm_asked_for(norm_type):
    norms = []
    torch.manual_seed(0)
    learn = Loop((batches([4, 4]), None), nn.Linear(3, 1), nn.MSELoss(), SGD, cbs=GradientClip(1e-3, norm_type))
    learn.logger = lambda row: None

    @learn.on("after_step")
    def norm(learn):
        norms.append(torch.cat([p.grad.flatten() for p in learn.model.parameters()]).norm(norm_type).item())

    learn.fit(1)
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_each_of_several_optimizers_steps_with_its_own_mean():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(3, 1), nn.Linear(3, 1)

    def step(learn, batch):
        x, y = batch
        learn.minimize(nn.functional.mse_loss(learn.model.a(x), y), "a")
        return learn.minimize(nn.functional.l1_loss(learn.model.b(x), y), "b")

    models = []
    for data, cbs in ((batches([4, 4, 4]), GradientAccumulation(8)), (batches([8, 4]), None)):
        learn = Loop((data, None), Two(), opt_func={"a": SGD, "b": SGD}, lr=0.1, step=step, cbs=cbs)
        learn.logger = lambda row: None
        learn.fit(2)
        models.append(learn.model.state_dict())
    assert_close(*models)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.5])),
        CrossEntropyLossFlat([1.0, 5.0, 0.5], ignore_index=2),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda pred, target: nn.functional.cross_entropy(pred, target, ignore_index=0),
        nn.CrossEntropyLoss(ignore_index=0),
    ],
    ids=["weights", "flat", "ignored", "sum", "function", "a batch of ignored targets"],
)
def test_losses_that_average_over_something_else_than_samples_accumulate_to_the_large_batch(loss):
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0] * 5 + [1, 2, 0, 1, 1, 2, 2, 1, 0, 2, 0, 1, 2, 2, 2, 1, 0, 0, 1])

    def trained(sizes, cbs):
        torch.manual_seed(0)
        model = nn.Linear(3, 3)
        Loop((list(zip(x.split(sizes), y.split(sizes), strict=True)), None), model, loss, SGD, cbs=cbs).fit(1, lr=0.1)
        return model.weight

    assert_close(trained([4, 4, 3, 5, 7, 1], GradientAccumulation(12)), trained([16, 8], []))
