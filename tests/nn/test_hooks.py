import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.nn import (
    Hook,
    Hooks,
    dummy_eval,
    hook_output,
    hook_outputs,
    in_channels,
    model_sizes,
    num_features_model,
    undisturbed,
)


@pytest.fixture
def body():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 16, 3)))


def test_a_hook_stores_what_its_function_returns():
    layer = nn.Linear(2, 3)
    with Hook(layer, lambda module, input, output: (module, input[0].shape, output.requires_grad)) as hook:
        layer(torch.ones(4, 2))
    assert hook.stored == (layer, (4, 2), False)
    assert hook.removed
    hook.stored = None
    layer(torch.ones(4, 2))
    assert hook.stored is None


def test_an_attached_output_can_be_differentiated():
    layer = nn.Linear(2, 3)
    with hook_output(layer, detach=False) as hook:
        layer(torch.ones(4, 2))
    hook.stored.sum().backward()
    assert layer.bias.grad.tolist() == [4, 4, 4]


def test_gradients_of_outputs_are_stored_as_a_tuple():
    first, second = nn.Linear(2, 3), nn.Linear(3, 1)
    with hook_output(first, grad=True) as hook:
        second(first(torch.ones(4, 2, requires_grad=True))).sum().backward()
    assert_close(hook.stored[0], second.weight.expand(4, 3).detach())


def test_hooks_go_over_their_modules_in_order(body):
    with hook_outputs(body, cpu=True) as hooks:
        body(torch.zeros(2, 3, 9, 9))
    assert [tuple(x.shape) for x in hooks.stored] == [(2, 8, 4, 4), (2, 8, 4, 4), (2, 16, 2, 2)]
    assert len(hooks) == 3
    assert hooks[0] is next(iter(hooks))
    assert all(hook.removed for hook in hooks)
    assert not any(m._forward_hooks for m in body.modules())


def test_hooks_come_off_after_an_error(body):
    with pytest.raises(RuntimeError), Hooks(body, lambda *_: None):
        body(torch.zeros(2, 4, 9, 9))
    assert not any(m._forward_hooks for m in body.modules())


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen = self.seen + len(x)
        return x + torch.rand(1) * 0


def test_an_undisturbed_model_is_as_it_was(body):
    body.append(Counting())
    body.train()
    body[1].eval()
    modes, state = [m.training for m in body.modules()], {k: v.clone() for k, v in body.state_dict().items()}
    random = torch.get_rng_state()
    with undisturbed(body):
        out = body(torch.rand(2, 3, 9, 9))
    assert not out.requires_grad
    assert [m.training for m in body.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in body.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_sizes_and_features_of_a_body(body):
    assert model_sizes(body, (9, 9))[-1] == (1, 16, 2, 2)
    assert dummy_eval(body, (9, 9)).shape == (1, 16, 2, 2)
    assert num_features_model(body) == 16
    assert in_channels(body) == 3
    assert in_channels(nn.Conv2d(6, 6, 3, groups=3)) == 6


def test_features_are_found_on_larger_images_where_small_ones_do_not_fit():
    assert num_features_model(nn.Sequential(nn.Conv2d(1, 5, 50))) == 5


def test_a_model_that_runs_on_no_image_says_so():
    with pytest.raises(BadValue) as caught:
        num_features_model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(1, 1)))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(BadValue, match="no 2d convolution"):
        num_features_model(nn.Linear(2, 2))
