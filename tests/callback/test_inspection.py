"""Statistics of activations and gradients are those that one computes by hand."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.callback import ActivationStats, GradientStats, HookCallback
from layered.foundation import BadValue, CannotTrain
from layered.loop import Callback, Checkpoint, Loop, pack_callback

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def batches(count=4):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)) for _ in range(count)]


def learner(*cbs, model=None) -> Loop:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 2))) if model is None else model
    learn = Loop((batches(), batches(2)), model, nn.MSELoss(), lr=0.0, cbs=cbs)
    learn.logger = lambda row: None
    return learn


def hooks_on(model):
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def test_activation_statistics_equal_those_by_hand():
    stats = ActivationStats(with_hist=True)
    learn = learner(stats)
    learn.fit(1)
    outputs = [learn.model[0](x).detach() for x, _ in batches()]
    assert_close(torch.tensor(stats.layer_stats(0)[0]), torch.stack([o.mean() for o in outputs]))
    assert_close(torch.tensor(stats.layer_stats(0)[1]), torch.stack([o.std() for o in outputs]))
    assert_close(torch.tensor(stats.layer_stats(0)[2]), torch.stack([(o <= 0.05).float().mean() for o in outputs]))
    assert_close(stats.hist(0)[-1], torch.stack([((o >= 0) & (o < 0.25)).sum().float().log1p() for o in outputs]))
    assert stats.hist(0).shape == (40, 4)
    assert len(stats.stats) == 4
    assert len(stats.stats[0]) == 2
    assert stats.stats[1][0]["hist"].sum() == (outputs[1] >= 0).sum()


def test_layers_without_parameters_count_if_asked_for():
    stats = ActivationStats(include_paramless=True)
    learner(stats).fit(1)
    assert len(stats.stats[0]) == 3
    assert min(stats.layer_stats(1)[0]) >= 0


def test_only_every_so_many_th_batch_is_hooked():
    stats = ActivationStats(every=3)
    learn = learner(stats)
    seen = []
    learn.on("after_pred", lambda: seen.append(hooks_on(learn.model)))
    learn.fit(1)
    assert len(stats.stats) == 2
    assert seen == [2, 0, 0, 2, 0, 0]


class Fails(Callback):
    def after_pred(self):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("every", [None, 1])
def test_no_hook_stays_behind_even_after_an_error(every):
    learn = learner(ActivationStats(every=every))
    learn.fit(1)
    assert hooks_on(learn.model) == 0
    with pytest.raises(RuntimeError, match="on purpose"):
        learn.fit(1, cbs=Fails)
    assert hooks_on(learn.model) == 0


def test_a_second_fit_starts_anew():
    stats = ActivationStats()
    learn = learner(stats)
    learn.fit(1)
    learn.fit(2)
    assert len(stats.stats) == 8


def test_a_hook_of_ones_own_sees_module_input_and_output():
    class Shapes(HookCallback):
        def hook(self, module, input, output):
            return type(module).__name__, tuple(input[0].shape), tuple(output.shape)

    shapes = Shapes(cpu=False)
    learner(shapes).fit(1)
    assert shapes.hooks.stored == [("Linear", (8, 3), (8, 5)), ("Linear", (8, 5), (8, 2))]


def test_gradients_are_handed_over_after_the_backward_pass():
    seen = HookCallback(is_forward=False, hook=lambda module, grad_in, grad_out: grad_out[0].shape)
    learner(seen).fit(1)
    assert seen.hooks.stored == [(8, 5), (8, 2)]


def test_outputs_that_are_tuples_count_by_their_first_tensor():
    class LastOf(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.lstm(x)[0])

    stats = ActivationStats()
    learn = learner(stats, model=LastOf())
    learn.fit(1)
    assert_close(stats.layer_stats(0)[0][0], learn.model.lstm(batches()[0][0])[0].mean().item())


def test_statistics_that_are_not_there_are_named():
    stats = ActivationStats()
    with pytest.raises(CannotTrain, match="fit first"):
        stats.layer_stats(0)
    learner(stats).fit(1)
    with pytest.raises(BadValue, match="one of 2 layers"):
        stats.layer_stats(2)
    with pytest.raises(CannotTrain, match="with_hist=True"):
        stats.hist(0)
    with pytest.raises(BadValue, match="whole number"):
        ActivationStats(every=0)


def test_gradient_norms_equal_those_by_hand():
    stats = GradientStats(every=2)
    learn = learner(stats)
    learn.fit(1)
    assert len(stats.norms) == 2
    x, y = batches()[2]
    nn.functional.mse_loss(learn.model(x), y).backward()
    for name, p in learn.model.named_parameters():
        assert stats.norms[1][name] == pytest.approx(p.grad.norm().item(), rel=1e-5)
        assert stats.ratios[1][name] == pytest.approx((p.grad.norm() / p.norm()).item(), rel=1e-5)


def test_plots_show_a_line_for_each_statistic():
    activations, gradients = ActivationStats(with_hist=True), GradientStats()
    learner(activations, gradients).fit(1)
    activations.plot_layer_stats(-1)
    assert [len(ax.lines[0].get_xdata()) for ax in plt.gcf().axes] == [4, 4, 4]
    activations.color_dim(0)
    assert plt.gca().images[0].get_array().shape == (40, 4)
    gradients.plot(top=3)
    assert len(plt.gca().lines) == 3
    gradients.plot("ratios")
    assert len(plt.gca().lines) == 4
    plt.close("all")
    with pytest.raises(BadValue, match="ratios"):
        gradients.plot("sizes")


def test_parameters_without_a_gradient_have_no_norm():
    stats = GradientStats()
    learn = learner(Unlearned(), stats)
    learn.model[0].requires_grad_(False)
    learn.fit(1)
    assert [list(norms) for norms in stats.norms[:2]] == [["2.0.weight", "2.0.bias"], ["2.0.weight"]]
    assert [list(ratios) for ratios in stats.ratios] == [list(norms) for norms in stats.norms]


class Unlearned(Callback):
    """In the second batch the last bias has no gradient."""

    order = -30

    def before_step(self):
        if self.iter == 1:
            self.model[2][0].bias.grad = None


@pytest.mark.parametrize("kind", [lambda: ActivationStats(with_hist=True), GradientStats])
def test_statistics_of_many_batches_are_one_tensor_in_a_checkpoint(monkeypatch, kind):
    monkeypatch.setattr("layered.callback.inspection.SETTLE_EVERY", 3)
    stats = kind()
    learner(stats).fit(50)
    packed, tensors = pack_callback(stats, "stats")
    assert len(tensors) == 1
    assert next(iter(tensors.values())).shape[0] == 200
    assert len(str(packed)) < 500


class Stop(Callback):
    order = 2000

    def __init__(self, run):
        self.run = run

    def after_batch(self):
        if self.train_iter == 6:
            raise KeyboardInterrupt


def test_statistics_of_a_resumed_fit_are_those_of_all_its_batches(tmp_path):
    def fit(folder, stop=False):
        activations, gradients = ActivationStats(with_hist=True), GradientStats()
        learn = learner(activations, gradients)
        learn.fit(2, cbs=Stop(run=stop), checkpoint=Checkpoint(tmp_path / folder, "3 batches"), resume="auto")
        return activations.layer_stats(1), activations.hist(0).tolist(), gradients.norms, gradients.ratios

    whole = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("cut", stop=True)
    assert fit("cut") == whole
    assert len(whole[2]) == 8


def test_a_look_at_results_leaves_the_statistics_of_the_fit():
    x = torch.randn(4, 2)
    batches = [(x, x.sum(1, keepdim=True))] * 3
    stats, norms = ActivationStats(), GradientStats()
    learn = Loop((batches, batches), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), nn.MSELoss(), cbs=[stats, norms])
    learn.logger = lambda row: None
    learn.fit(2)
    before = stats.layer_stats(0), norms.norms
    learn.validate()
    assert (stats.layer_stats(0), norms.norms) == before
    assert len(stats.stats) == 6
    stats.plot_layer_stats(0)
    plt.close("all")
