"""State lasts from batch to batch, is punished by the formula, and backpropagation stops where it is told to."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import GradientClip, ModelResetter, RNNCallback, RNNRegularizer, TruncatedBPTT, rnn_cbs
from layered.foundation import CannotTrain, OutOfRange
from layered.loop import Callback, Checkpoint, Loop
from layered.optim import SGD

mse = nn.functional.mse_loss


class Net(nn.Module):
    """A GRU that keeps its state; [batch, time, 2] to [batch, time, 1]."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)
        self.reset()

    def reset(self):
        self.hidden = None

    def forward(self, x):
        out, self.hidden = self.rnn(x, self.hidden)
        return self.head(out)


def batches(count=2, length=7):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, length, 2, generator=g)
    return [(xb, xb.sum(-1, keepdim=True).cumsum(1)) for xb in x]


def learner(train, cbs, model=None, **kwargs) -> Loop:
    learn = Loop((train, None), model or Net(), mse, opt_func=SGD, lr=0.1, cbs=cbs, **kwargs)
    learn.logger = lambda row: None
    return learn


def test_pieces_train_as_a_loop_by_hand_that_detaches_between_them():
    ours = learner(batches(), [TruncatedBPTT(3), GradientClip(0.5)])
    ours.fit(2)
    model, reported = Net(), []
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for x, y in batches():
            hidden, total = None, 0.0
            for start in (0, 3, 6):
                out, hidden = model.rnn(x[:, start : start + 3], hidden)
                loss = mse(model.head(out), y[:, start : start + 3])
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                opt.step()
                opt.zero_grad()
                hidden = hidden.detach()
                total += loss.item() * out.shape[1]
            reported.append(total / 7)
    assert_close(ours.model.state_dict(), model.state_dict())
    assert float(ours.loss) == pytest.approx(reported[-1])
    assert ours.train_iter == 4


def test_one_piece_that_holds_the_sequence_is_no_truncation():
    whole, cut = learner(batches(), ModelBegins), learner(batches(), TruncatedBPTT(7))
    whole.fit(1)
    cut.fit(1)
    assert_close(cut.model.state_dict(), whole.model.state_dict())


class ModelBegins(Callback):
    def before_batch(self):
        self.model.reset()


@pytest.mark.parametrize(
    ("make", "data", "error"),
    [
        (lambda: TruncatedBPTT(0), batches(), OutOfRange),
        (lambda: TruncatedBPTT(3), [(x, y[:, 0, 0]) for x, y in batches()], CannotTrain),
        (lambda: TruncatedBPTT(3, state="cell"), batches(), CannotTrain),
    ],
)
def test_what_cannot_be_cut_in_time_is_refused(make, data, error):
    with pytest.raises(error):
        learner(data, make()).fit(1)


class Spoken(nn.Module):
    """Gives an output, raw outputs and outputs after dropout, one of each for each of two layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.resets = nn.Linear(2, 1), 0

    def reset(self):
        self.resets += 1

    def forward(self, x):
        raw = self.layer(x)
        return raw.sigmoid(), [x, raw], [x, raw * 2]


def test_the_regulariser_adds_the_formula_to_what_is_differentiated_alone():
    (x, y), seen = batches(1)[0], []
    learn = learner([(x, y)], rnn_cbs(alpha=2.0, beta=3.0), Spoken())
    with torch.no_grad():
        raw = learn.model.layer(x)
    plain = mse(raw.sigmoid(), y)
    expected = plain + 2 * (raw * 2).pow(2).mean() + 3 * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
    learn.on("before_backward", lambda learn: seen.append((learn.loss_grad.item(), learn.loss.item())))
    learn.fit(1)
    assert seen == [(pytest.approx(expected.item()), pytest.approx(plain.item()))]


def test_the_model_is_reset_before_each_pass_and_after_the_fit():
    learn = Loop((batches(1), batches(1)), Spoken(), mse, cbs=[ModelResetter, RNNCallback])
    learn.logger = lambda row: None
    learn.fit(2)
    assert learn.model.resets == 1 + 2 * 2 + 1  # the loop itself resets once, when the fit begins


def test_the_regulariser_without_what_it_needs_says_so():
    with pytest.raises(CannotTrain, match="rnn_cbs"):
        learner(batches(1), RNNRegularizer(alpha=1.0)).fit(1)


class Carries(nn.Module):
    """A GRU whose state lasts from batch to batch, kept by a part of the model that has no `reset` of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = Remembers(), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.body(x))


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.hidden, self.rows = nn.LSTM(2, 3, batch_first=True), None, 1

    def forward(self, x):
        if len(x) != self.rows:
            self.hidden, self.rows = None, len(x)
        out, hidden = self.rnn(x, self.hidden)
        self.hidden = tuple(h.detach() for h in hidden)
        return out


class Resets(Carries):
    def reset(self):
        self.body.hidden = None


class Stop(Callback):
    order = 2000
    transient = ("at",)

    def __init__(self, at=None):
        self.at = at

    def after_batch(self):
        if self.train_iter == self.at:
            raise KeyboardInterrupt

    def __repr__(self):
        return "Stop"


@pytest.mark.parametrize(
    ("make", "model"),
    [(ModelResetter, Resets), (lambda: TruncatedBPTT(3), Carries)],
    ids=["resetter", "truncated"],
)
@pytest.mark.parametrize("at", [2, 6])
def test_a_resumed_fit_goes_on_with_the_state_that_lasts_from_batch_to_batch(tmp_path, make, model, at):
    def fit(folder, stop=None):
        learn = learner(batches(4), [make(), Stop(stop)], model())
        learn.fit(2, checkpoint=Checkpoint(tmp_path / folder, "2 batches"), resume="auto")
        return learn

    whole = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("cut", at)
    again = fit("cut")
    assert again.restored.where == f"epoch {at // 4}, batch 2"
    assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert again.recorder.losses == whole.recorder.losses


def test_a_layer_that_is_named_like_the_state_is_none():
    class Named(Net):
        def __init__(self):
            super().__init__()
            self.side = nn.ModuleDict({"hidden": nn.Linear(1, 1)})
            self.rnn.hidden = nn.Linear(1, 1)

    learn = learner(batches(), TruncatedBPTT(3), Named())
    assert list(learn.truncated_bptt.state_dict()["carried"]) == [".hidden"]


def test_validation_in_the_middle_of_a_pass_leaves_the_state_of_the_pass():
    def fit(valid, **kwargs):
        learn = Loop((batches(4), valid), Resets(), mse, opt_func=SGD, lr=0.1, cbs=ModelResetter)
        learn.logger = lambda row: None
        learn.fit(2, **kwargs)
        return learn

    plain = fit(None)
    disturbed = fit(batches(2, length=5), valid_every="2 batches")
    assert_close(disturbed.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)
    assert disturbed.recorder.iters == [2, 4, 6, 8]
    assert disturbed.recorder.values[-1][1] == pytest.approx(disturbed.validate()[0])
