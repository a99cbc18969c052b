import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadValue
from layered.nn import adapt_first_layer, cut_model
from layered.nn.surgery import has_pool_type, num_features


@pytest.fixture
def net():
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.MaxPool2d(2))
    return nn.Sequential(stem, nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def test_without_a_cut_the_body_ends_before_the_last_pooling(net):
    body = cut_model(net)
    assert list(body) == list(net)[:2]
    assert num_features(body) == 16


def test_a_cut_is_a_number_of_children_or_a_function(net):
    assert list(cut_model(net, 1)) == list(net)[:1]
    assert list(cut_model(net, -2)) == list(net)[:3]
    assert cut_model(net, lambda m: m[0]) is net[0]


@pytest.mark.parametrize("cut", [0, -5])
def test_a_cut_that_leaves_nothing_is_refused(net, cut):
    with pytest.raises(BadValue, match="leaves no body"):
        cut_model(net, cut)


def test_a_model_without_pooling_asks_for_a_cut():
    with pytest.raises(BadValue) as caught:
        cut_model(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    assert "cut=" in caught.value.fix


def test_pooling_is_found_inside_children(net):
    assert has_pool_type(net)
    assert has_pool_type(net[0])
    assert not has_pool_type(net[1])


def test_pretrained_weights_for_one_channel_are_the_sum_over_colours(net):
    image, conv = torch.rand(1, 1, 8, 8), net[0][0]
    wanted = conv(image.expand(1, 3, 8, 8))
    assert adapt_first_layer(net, 1, pretrained=True) is net
    assert_close(net[0][0](image), wanted)
    assert net[0][0].stride == conv.stride


def test_pretrained_weights_for_two_channels_are_scaled(net):
    old = net[0][0].weight.clone()
    adapt_first_layer(net, 2, pretrained=True)
    assert_close(net[0][0].weight, old[:, :2] * 1.5)


def test_pretrained_weights_for_more_channels_ignore_the_new_ones(net):
    image, conv = torch.rand(1, 5, 8, 8), net[0][0]
    wanted = conv(image[:, :3])
    adapt_first_layer(net, 5, pretrained=True)
    assert_close(net[0][0](image), wanted)


def test_untrained_first_layers_start_afresh(net):
    adapt_first_layer(net, 5, pretrained=False)
    assert net[0][0].weight[:, 3:].abs().min() > 0
    assert net(torch.zeros(1, 5, 8, 8)).shape == (1, 2)


def test_three_channels_change_nothing(net):
    conv = net[0][0]
    adapt_first_layer(net, 3, pretrained=True)
    assert net[0][0] is conv


def test_a_single_convolution_is_returned_anew():
    assert adapt_first_layer(nn.Conv2d(3, 4, 3), 1, pretrained=True).in_channels == 1


@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(4, 6, 3)], ids=repr)
def test_a_first_layer_that_cannot_be_changed_is_refused(model):
    with pytest.raises(BadValue, match="channels"):
        adapt_first_layer(model, 2, pretrained=True)
