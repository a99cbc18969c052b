"""The loss of several targets is the sum of their losses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import BadValue
from layered.tabular.all import CrossEntropyLossFlat, MSELossFlat, MultiTaskLoss


@pytest.fixture
def loss():
    return MultiTaskLoss([CrossEntropyLossFlat(), MSELossFlat()], [3, 2], weights=[1.0, 0.5])


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    return (
        torch.randn(6, 5, generator=draw),
        torch.randint(0, 3, (6, 1), generator=draw),
        torch.randn(6, 2, generator=draw),
    )


def test_each_target_is_compared_with_its_part_of_the_outputs(loss, batch):
    pred, classes, numbers = batch
    wanted = F.cross_entropy(pred[:, :3], classes[:, 0]) + 0.5 * F.mse_loss(pred[:, 3:], numbers)
    assert_close(loss(*batch), wanted)


def test_activations_and_decisions_come_in_parts(loss, batch):
    pred = batch[0]
    probabilities, numbers = loss.activation(pred)
    assert_close(probabilities, pred[:, :3].softmax(1))
    assert_close(numbers, pred[:, 3:])
    assert torch.equal(loss.decodes(loss.activation(pred))[0], pred[:, :3].argmax(1))
    assert torch.equal(loss.decodes(pred)[0], pred[:, :3].argmax(1))


def test_it_is_data(loss, batch):
    tensors = {}
    again = decode_tree(encode_tree(loss, tensors, "loss", Scope.DATA), tensors, Scope.DATA)
    assert_close(again(*batch), loss(*batch))


def test_parts_have_to_agree_in_number():
    with pytest.raises(BadValue, match="needs one loss, one size and one weight"):
        MultiTaskLoss([nn.MSELoss()], [1, 2])
