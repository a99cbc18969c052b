import pytest
import torch
from torch.testing import assert_close

from layered.nn import PooledSelfAttention2d, SelfAttention, SimpleSelfAttention


def picture():
    return torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layer", [SelfAttention(16), PooledSelfAttention2d(16), SimpleSelfAttention(16)])
def test_attention_starts_as_the_identity(layer):
    assert_close(layer(picture()), picture())


def matrix(conv):
    return conv.weight.detach().flatten(1)


def test_self_attention_follows_its_formula():
    x, layer = picture(), SelfAttention(16).eval()
    layer.gamma.data.fill_(0.7)
    places = x.flatten(2)
    f, g, h = (matrix(part) @ places for part in (layer.query, layer.key, layer.value))
    beta = torch.softmax(f.transpose(1, 2) @ g, dim=1)
    assert_close(layer(x), 0.7 * (h @ beta).view_as(x) + x)


def test_pooled_attention_follows_its_formula():
    x, layer = picture(), PooledSelfAttention2d(16).eval()
    layer.gamma.data.fill_(0.7)
    pool = torch.nn.MaxPool2d(2)
    theta = layer.theta(x).flatten(2)
    phi, g = pool(layer.phi(x)).flatten(2), pool(layer.g(x)).flatten(2)
    beta = torch.softmax(theta.transpose(1, 2) @ phi, dim=-1)
    seen = matrix(layer.o) @ (g @ beta.transpose(1, 2))
    assert_close(layer(x), 0.7 * seen.view_as(x) + x)


@pytest.mark.parametrize("sym", [False, True])
def test_simple_attention_follows_its_formula(sym):
    x, layer = picture(), SimpleSelfAttention(16, sym=sym).eval()
    layer.gamma.data.fill_(0.1)
    weight = matrix(layer.conv)
    weight = (weight + weight.T) / 2 if sym else weight
    places = x.flatten(2)
    assert_close(layer(x), 0.1 * (places @ places.transpose(1, 2) @ (weight @ places)).view_as(x) + x)


def test_the_weights_of_attention_have_norm_one():
    layer = SelfAttention(16)
    for _ in range(30):
        layer(picture())
    norms = [torch.linalg.matrix_norm(matrix(part), 2) for part in (layer.query, layer.key, layer.value)]
    assert_close(torch.stack(norms), torch.ones(3), rtol=0.05, atol=0)
