"""Transfer learning: which parameters learn when, and at which rates."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue
from layered.optim import params
from layered.vision.all import Callback, L, Learner


class Rates(Callback):
    """The rates of all groups, and which groups learn, at every step."""

    def __init__(self):
        self.rates, self.momenta, self.frozen = [], [], []

    def before_step(self):
        self.rates.append([h["lr"] for h in self.learn.opt.hypers])
        self.momenta.append(self.learn.opt.hypers[0]["mom"])
        self.frozen.append(self.learn.opt.frozen_idx)


@pytest.fixture
def learn(dls):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    return Learner(dls, model, splitter=lambda m: L([params(part) for part in m], use_list=True))


def cosine(start, end, pos):
    return start + (1 + torch.cos(torch.tensor(torch.pi * (1 - pos), dtype=torch.float64)).item()) * (end - start) / 2


def one_cycle(pos, pct, low, high, end):
    return cosine(low, high, pos / pct) if pos < pct else cosine(high, end, (pos - pct) / (1 - pct))


def test_fine_tune_trains_the_head_then_all_groups_at_their_rates(learn):
    rates = Rates()
    learn.fine_tune(2, 1e-2, freeze_epochs=1, cbs=rates)
    steps = len(learn.dls.train)
    assert rates.frozen == [2] * steps + [0] * 2 * steps
    first = [one_cycle(i / steps, 0.99, 1e-2 / 25, 1e-2, 1e-2 / 1e5) for i in range(steps)]
    assert [r[-1] for r in rates.rates[:steps]] == pytest.approx(first)
    assert [r[0] for r in rates.rates[:steps]] == pytest.approx([rate / 10 for rate in first])
    for group, peak in enumerate((5e-5, 5e-4, 5e-3)):  # geometric from base/2/100 to base/2
        second = [one_cycle(i / (2 * steps), 0.3, peak / 5, peak, peak / 1e5) for i in range(2 * steps)]
        assert [r[group] for r in rates.rates[steps:]] == pytest.approx(second)
    assert rates.momenta[steps] == pytest.approx(0.95)
    assert min(rates.momenta[steps:]) >= 0.85


@pytest.mark.parametrize(("n", "learning"), [(-1, [False, False, True]), (1, [False, True, True]), (0, [True] * 3)])
def test_frozen_groups_stay_as_they_are_but_for_norm_layers(learn, n, learning):
    learn.freeze_to(n)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.fit(1, lr=0.1)
    changed = {k for k, v in learn.model.state_dict().items() if not torch.equal(v, before[k])}
    for group, learns in enumerate(learning):
        weights = {
            k for k in dict(learn.model.named_parameters()) if k.startswith(f"{group}.") and not k.startswith("1.0")
        }
        assert (weights <= changed) if learns else not (weights & changed)
    assert {"1.0.weight", "1.0.bias", "1.0.running_mean"} <= changed


def test_freeze_and_unfreeze_are_freeze_to_the_last_and_the_first(learn):
    learn.freeze()
    assert learn.opt.frozen_idx == 2
    learn.unfreeze()
    assert learn.opt.frozen_idx == 0
    assert all(p.requires_grad for p in learn.model.parameters())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"freeze_epoch": 2}, BadArgument),
        ({"epochs": -1}, BadValue),
        ({"epochs": 1.5}, BadValue),
        ({"freeze_epochs": "1"}, BadValue),
        ({"lr_mult": 0}, BadValue),
        ({"base_lr": -1e-3}, BadValue),
        ({"base_lr": slice(1e-3)}, BadValue),
        ({"pct_start": 30}, BadValue),
        ({"div": 0}, BadValue),
    ],
    ids=str,
)
def test_a_wrong_argument_stops_fine_tune_before_anything_changes(learn, wrong, error):
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(error):
        learn.fine_tune(**{"epochs": 1, **wrong})
    assert learn.opt is None
    assert learn.fit_ordinal == 0
    assert_close(dict(learn.model.state_dict()), before)


def test_the_nearest_name_is_told(learn):
    with pytest.raises(TypeError, match="did you mean 'checkpoint'"):
        learn.fine_tune(1, chekpoint="there")


def test_no_frozen_epochs_go_straight_to_all_groups(learn):
    rates = Rates()
    learn.fine_tune(1, freeze_epochs=0, cbs=rates)
    assert set(rates.frozen) == {0}
    assert len(rates.rates) == len(learn.dls.train)
