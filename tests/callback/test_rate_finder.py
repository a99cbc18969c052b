"""`lr_find` suggests what the rules say and leaves nothing changed."""

import os
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader, TensorDataset

from layered.callback import LRFinder, fit_one_cycle, lr_find, minimum, slide, steep, valley
from layered.data import DataLoader
from layered.foundation import CannotTrain, OutOfRange
from layered.loop import Callback, Checkpoint, Loop


def data(rows=30) -> TensorDataset:
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True))


LOADERS = {
    "ours": lambda: DataLoader(data(), bs=4, shuffle=True),
    "torch's": lambda: TorchDataLoader(data(), 4, shuffle=True),
    "torch's with a generator": lambda: TorchDataLoader(
        data(), 4, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "three batches": lambda: [data()[i : i + 10] for i in range(0, 30, 10)],
}


class Count(Callback):
    def __init__(self):
        self.count, self.seen = 0, []

    def after_batch(self):
        self.count += 1
        self.seen.append(self.train_iter)


def learner(loader="ours", cbs=Count) -> Loop:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
    learn = Loop((LOADERS[loader](), None), model, nn.MSELoss(), cbs=cbs)
    learn.logger = lambda row: None
    return learn


def told(value):
    """What can be compared of a value: numbers, strings, and trees of these."""
    if torch.is_tensor(value):
        return value.tolist()
    if isinstance(value, dict):
        return {key: told(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(v) for v in value]
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def look(learn):
    return {
        "model": told(learn.model.state_dict()),
        "opt": learn.opt and told(learn.opt.state_dict()),
        "fields": told({name: value for name, value in vars(learn).items() if name not in ("dls", "cbs", "fit_began")}),
        "callbacks": [
            told({n: v for n, v in vars(cb).items() if n not in ("_as_made", *cb.transient)}) for cb in learn.cbs
        ],
        "modes": [m.training for m in learn.model.modules()],
        "random": (random.getstate(), torch.get_rng_state().tolist()),
    }


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("before", [0, 1])
def test_training_after_it_is_as_if_it_had_not_been(loader, before):
    plain, finding = learner(loader), None
    fit_one_cycle(plain, 1) if before else None
    fit_one_cycle(plain, 2, 0.01)
    plain = look(plain)
    finding = learner(loader)
    fit_one_cycle(finding, 1) if before else None
    unchanged = look(finding)
    lr_find(finding, show_plot=False)
    assert look(finding) == unchanged
    fit_one_cycle(finding, 2, 0.01)
    assert look(finding) == plain


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_it_leaves_nothing_changed_either(error):
    class Explode(Callback):
        def after_step(self):
            if self.iter == 3:
                raise error

    learn = learner(cbs=[Count, Explode])
    unchanged = look(learn)
    with pytest.raises(error):
        lr_find(learn, show_plot=False)
    assert look(learn) == unchanged


def test_it_writes_nothing_to_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = learner(cbs=Checkpoint(tmp_path / "kept", "1 batch"))
    lr_find(learn, show_plot=False)
    assert os.listdir(tmp_path) == []
    assert len(learn.cbs) == 4


def test_all_rules_give_rates_inside_the_range_in_the_order_asked():
    found = lr_find(learner("three batches"), suggest_funcs=(valley, slide, minimum, steep), show_plot=False)
    assert found._fields == ("valley", "slide", "minimum", "steep")
    assert all(1e-8 <= lr <= 10 for lr in found)
    lr_min, lr_steep = lr_find(learner(), suggest_funcs=(minimum, steep), show_plot=False)
    assert lr_min > 0 < lr_steep
    assert lr_find(learner(), suggest_funcs=None, show_plot=False) is None


def test_the_rates_grow_geometrically_and_the_fit_ends_after_num_it_batches():
    finder = LRFinder(1e-3, 1e-1, 10, stop_div=False)
    learner().fit(5, cbs=finder)
    assert finder.lrs == pytest.approx([1e-3 * 100 ** (i / 10) for i in range(10)])


def test_a_divergence_ends_it_early():
    finder = LRFinder(1e-1, 1e4, 100)
    learner().fit(20, cbs=finder)
    assert 10 < len(finder.losses) < 100


def longest_valley(losses):
    """The rule by exhaustion: for each end, the longest falling run that ends there; the first longest wins."""
    lengths = [1] * len(losses)
    for i in range(len(losses)):
        lengths[i] = 1 + max((lengths[j] for j in range(i) if losses[j] > losses[i]), default=0)
    end = lengths.index(max(lengths))
    start = end - max(lengths)
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def test_valley_is_the_rule_by_exhaustion():
    rng = np.random.default_rng(0)
    for _ in range(50):
        losses = (rng.normal(size=60).round(1) + np.linspace(0, -2, 60)).tolist()
        lrs = np.geomspace(1e-7, 10, 60).tolist()
        i = longest_valley(losses)
        assert valley(lrs, losses, 60) == (lrs[i], (lrs[i], losses[i]))


def test_minimum_and_steep_by_hand():
    lrs, losses = [1e-4, 1e-3, 1e-2, 1e-1], [5.0, 4.0, 1.0, 9.0]
    assert minimum(lrs, losses, 4) == (1e-3, (1e-2, 1.0))
    assert steep(lrs, losses, 4) == (1e-3, (1e-3, 4.0))


def test_losses_that_are_never_finite_are_told_instead_of_a_rate():
    learn = learner()
    learn.loss_func = lambda pred, targ: (pred - targ).mean() * float("nan")
    with pytest.raises(CannotTrain, match="not finite"):
        lr_find(learn, show_plot=False)


def test_few_batches_give_a_rate_or_the_reason():
    assert lr_find(learner(), num_it=6, show_plot=False).valley > 0
    with pytest.raises(OutOfRange):
        lr_find(learner(), num_it=3)


def test_a_generator_is_refused():
    learn = learner()
    learn.dls.train = iter([])
    with pytest.raises(CannotTrain, match="generator"):
        lr_find(learn)


def test_the_plot_marks_each_suggestion():
    import matplotlib

    matplotlib.use("agg")
    lr_find(learner(), suggest_funcs=(valley, steep))
    axes = matplotlib.pyplot.gca()
    assert axes.get_xscale() == "log"
    assert [line.get_label() for line in axes.get_lines()][1:] == ["valley", "steep"]
    matplotlib.pyplot.close("all")


def test_what_callbacks_hold_is_put_back_too():
    class Average(Callback):
        """A running mean in place, and a module that follows the model."""

        def __init__(self):
            self.mean, self.twin = torch.zeros(1), nn.BatchNorm1d(1)

        def after_batch(self):
            self.mean.add_(self.loss)
            self.twin(self.pred.detach())

    average = Average()
    learn = learner(cbs=average)
    learn.fit(1)
    mean, twin = average.mean.clone(), told(average.twin.state_dict())
    lr_find(learn, show_plot=False)
    assert torch.equal(average.mean, mean)
    assert told(average.twin.state_dict()) == twin


def test_two_processes_in_one_read_only_folder_both_find_a_rate(tmp_path):
    import subprocess
    import sys

    code = """
import torch; from torch import nn
from layered.loop import Loop; from layered.callback.rate_finder import lr_find
torch.manual_seed(0); x = torch.randn(8, 2); batches = [(x, x.sum(1, keepdim=True))] * 3
print(lr_find(Loop((batches, None), nn.Linear(2, 1), nn.MSELoss()), show_plot=False).valley > 0)
"""
    tmp_path.chmod(0o500)
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0].split() for process in both] == [[b"True"], [b"True"]]
    assert os.listdir(tmp_path) == []
