"""Half precision for the model alone, scaled gradients that are unscaled in time, and autocast that never stays on."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import AMPMode, GradientAccumulation, GradientClip, MixedPrecision, to_bf16, to_fp16, to_fp32
from layered.foundation import BadArgument, BadValue, CannotTrain
from layered.loop import Callback, Loop, events
from layered.optim import SGD
from layered.testing import RegModel, synth_dls

MODES = pytest.mark.parametrize("mode", list(AMPMode))


class Watch(nn.Module):
    """A linear layer that notes what it computes in."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(3, 1), []

    def forward(self, x):
        out = self.linear(x)
        self.seen.append(out.dtype)
        return out


def batches(count=3):
    x = torch.randn(4 * count, 3, generator=torch.Generator().manual_seed(1))
    return [(part, part.sum(1, keepdim=True)) for part in x.split(4)]


def late(**events) -> Callback:
    """A callback that hears events after all others."""
    cb = Callback(**events)
    cb.order = 99
    return cb


def learner(cbs, model=None, **kwargs) -> Loop:
    torch.manual_seed(0)
    learn = Loop((batches(), batches()), model or Watch(), nn.MSELoss(), SGD, lr=0.1, cbs=cbs, **kwargs)
    learn.logger = lambda row: None
    return learn


@MODES
def test_the_model_computes_in_half_precision_and_everything_else_in_single(mode):
    dtypes = set()
    loss_seen = late(after_loss=lambda cb: dtypes.update({cb.learn.pred.dtype, cb.learn.loss.dtype}))
    step_seen = late(after_step=lambda cb: dtypes.update(t.dtype for p in cb.model.parameters() for t in (p, p.grad)))
    learn = learner([MixedPrecision(mode), loss_seen, step_seen])
    learn.fit(1)
    assert set(learn.model.seen) == {torch.float16 if mode is AMPMode.FP16 else torch.bfloat16}
    assert len(learn.model.seen) == 6
    assert dtypes == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


def test_the_parameters_follow_autocast_by_hand():
    learn, torch_model = learner(MixedPrecision("bf16")), learner(None).model
    learn.fit(2)
    sgd = torch.optim.SGD(torch_model.parameters(), 0.1)
    for x, y in batches() * 2:
        with torch.autocast("cpu", torch.bfloat16):
            pred = torch_model(x)
        nn.functional.mse_loss(pred.float(), y).backward()
        sgd.step()
        sgd.zero_grad()
    assert_close(learn.model.state_dict(), torch_model.state_dict())


@pytest.mark.parametrize("event", ["before_batch", "after_pred", "after_loss"])
@pytest.mark.parametrize("what", ["Batch", "Train", "Epoch", "Fit", None])
def test_autocast_is_off_after_a_batch_that_is_cut_short(event, what):
    exception = getattr(events, f"Cancel{what}Exception") if what else ZeroDivisionError
    states = []

    class Stop(Callback):
        order = 99
        run_valid = False

        def after_epoch(self):
            states.append(torch.is_autocast_enabled("cpu"))

        after_batch = after_train = after_fit = on_end = after_epoch

    def stop(self):
        raise exception

    setattr(Stop, event, stop)
    learn = learner([MixedPrecision("bf16"), Stop])
    if what:
        learn.fit(1)
    else:
        with pytest.raises(ZeroDivisionError):
            learn.fit(1)
    assert states
    assert not any(states)
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_is_off_after_a_model_that_fails():
    class Fails(Watch):
        def forward(self, x):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        learner(MixedPrecision("bf16"), Fails()).fit(1)
    assert not torch.is_autocast_enabled("cpu")


def test_only_fp16_scales():
    for precision, scales in ((MixedPrecision(init_scale=256.0), [256.0] * 3), (MixedPrecision("bf16"), [1.0] * 3)):
        ratios = []
        ratio = late(before_backward=lambda cb: ratios.append((cb.loss_grad / cb.loss).item()))
        learner([precision, ratio]).fit(1)
        assert ratios == pytest.approx(scales)


def line(cbs) -> Loop:
    """A model without a single operation that autocast knows: precision changes nothing but the scale."""
    learn = Loop(synth_dls(n_train=5), RegModel(), nn.MSELoss(), SGD, lr=0.1, cbs=cbs)
    learn.logger = lambda row: None
    learn.fit(2)
    return learn


@pytest.mark.parametrize(
    "cbs", [(), (GradientClip(0.01),), (GradientAccumulation(32),), (GradientAccumulation(24), GradientClip(0.01))]
)
def test_scaling_is_exact_with_clipping_and_accumulation(cbs):
    scaled = line([*cbs, MixedPrecision("fp16", init_scale=2.0**8, growth_interval=3)])
    assert_close(scaled.model.state_dict(), line(cbs).model.state_dict(), rtol=0, atol=1e-6)
    assert scaled.mixed_precision.scaler.get_scale() > 2.0**8


def test_gradients_are_clipped_after_they_are_unscaled():
    norms = []

    def norm(cb):
        norms.append(torch.cat([p.grad.flatten() for p in cb.model.parameters()]).norm().item())

    learner([GradientClip(1e-3), MixedPrecision(init_scale=256.0), late(after_step=norm)]).fit(1)
    assert norms == pytest.approx([1e-3] * 3, rel=1e-3)


def test_an_overflow_leaves_out_the_step_and_lowers_the_scale():
    scales, weights = [], []
    learn = learner(MixedPrecision("fp16", init_scale=1024.0))

    @learn.on("after_backward")
    def overflow(learn):
        if learn.iter == 1:
            learn.model.linear.weight.grad[0, 0] = float("inf")

    @learn.on("after_batch")
    def note(learn):
        if learn.training:
            scales.append(learn.mixed_precision.scaler.get_scale())
            weights.append(learn.model.linear.weight.tolist())

    learn.fit(1)
    assert scales == [1024.0, 512.0, 512.0]
    assert weights[0] == weights[1] != weights[2]
    assert learn.mixed_precision.skipped == 1


def test_verbs_replace_each_other():
    learn = learner(None)
    assert to_fp16(to_bf16(to_fp16(learn)), init_scale=8.0) is learn
    assert [cb.amp_mode for cb in learn.cbs if isinstance(cb, MixedPrecision)] == [AMPMode.FP16]
    to_fp32(learn).fit(1)
    assert set(learn.model.seen) == {torch.float32}


@pytest.mark.parametrize(
    ("mode", "args", "error"),
    [("fp8", {}, BadValue), ("fp16", {"initscale": 1.0}, BadArgument), ("bf16", {"init_scale": 1.0}, BadArgument)],
)
def test_what_makes_no_sense_is_refused(mode, args, error):
    with pytest.raises(error):
        MixedPrecision(mode, **args)


def test_two_precisions_at_once_are_refused():
    learn = to_bf16(learner(None))
    with pytest.raises(CannotTrain, match="two MixedPrecision"):
        learn.fit(1, cbs=MixedPrecision())
    learn.fit(1)


def test_refused_arguments_leave_the_learner_as_it_was():
    learn = to_bf16(learner(None))
    with pytest.raises(TypeError, match="did you mean 'init_scale'"):
        to_fp16(learn, int_scale=1.0)
    assert learn.mixed_precision.amp_mode is AMPMode.BF16


def test_several_outputs_come_out_in_single_precision():
    class Two(Watch):
        def forward(self, x):
            return {"a": super().forward(x), "n": torch.tensor(3)}

    seen = []
    look = late(after_pred=lambda cb: seen.append((cb.pred["a"].dtype, cb.pred["n"].dtype)))
    learn = learner([MixedPrecision("bf16"), look], Two())
    learn.loss_func = lambda pred, y: (pred["a"] - y).pow(2).mean()
    learn.fit(1)
    assert set(seen) == {(torch.float32, torch.int64)}


def test_a_step_of_ones_own_computes_all_its_passes_in_half_precision():
    def step(learn, batch):
        x, y = batch
        for _ in range(2):
            loss = nn.functional.mse_loss(learn.model(x).float(), y)
            learn.minimize(loss)
        return loss

    learn = learner(MixedPrecision("bf16"), step=step)
    learn.fit(1)
    assert set(learn.model.seen) == {torch.bfloat16}
    assert len(learn.model.seen) == 12
    assert not torch.is_autocast_enabled("cpu")
