"""The models of ratings against their formulas."""

import pytest
import torch
from torch.testing import assert_close

from layered.collab.all import EmbeddingDotBias, EmbeddingNN
from layered.foundation import BadArgument, BadValue, CannotTrain, UnknownLabel

CLASSES = {"user": ["#na#", 7, 9], "title": ["#na#", "a", "b", "c"]}
CODES = torch.tensor([[1, 2], [2, 3], [0, 1]])


def by_hand(model, codes):
    sums = [
        model.u_weight.weight[u] @ model.i_weight.weight[i] + model.u_bias.weight[u, 0] + model.i_bias.weight[i, 0]
        for u, i in codes.tolist()
    ]
    return torch.stack(sums)


def test_a_rating_is_the_product_of_vectors_plus_biases():
    model = EmbeddingDotBias(4, 3, 4)
    assert_close(model(CODES), by_hand(model, CODES))
    assert model(CODES[:1]).shape == (1,)


def test_a_range_is_a_sigmoid_between_its_ends():
    model = EmbeddingDotBias(4, 3, 4, y_range=(1, 5))
    assert_close(model(CODES), 1 + 4 * torch.sigmoid(by_hand(model, CODES)))


def test_all_items_of_a_user_are_what_the_pairs_give():
    model = EmbeddingDotBias(4, 3, 4, y_range=(0, 5.5))
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    assert_close(model.all_items(torch.arange(3)), model(pairs).view(3, 4))


def test_rows_start_small_and_are_found_by_name():
    torch.manual_seed(0)
    model = EmbeddingDotBias.from_classes(50, {"user": range(1000), "title": range(2000)})
    assert model.i_weight.weight.std().item() == pytest.approx(0.01 * 0.88, rel=0.05)  # cut off at two deviations
    model = EmbeddingDotBias.from_classes(4, CLASSES, y_range=(0, 5.5))
    assert_close(model.weight(["b", "a"]), model.i_weight.weight.detach()[[2, 1]])
    assert_close(model.weight([9], is_item=False), model.u_weight.weight.detach()[[2]])
    assert_close(model.bias(["c"]), model.i_bias.weight.detach()[3])
    assert_close(model.bias([7], is_item=False), model.u_bias.weight.detach()[1])


def test_a_name_that_training_did_not_have_is_refused():
    model = EmbeddingDotBias.from_classes(4, CLASSES)
    with pytest.raises(UnknownLabel, match="item 'd'"):
        model.weight(["d"])
    with pytest.raises(CannotTrain, match="names"):
        EmbeddingDotBias(4, 3, 4).bias(["a"])


def test_the_row_of_the_unseen_is_the_mean_of_the_others():
    for model in (EmbeddingDotBias(4, 3, 4), EmbeddingNN([(3, 2), (4, 3)], [5])):
        model.fill_unseen()
        for table in model.embeddings():
            assert_close(table.weight[0], table.weight[1:].mean(0))


def test_the_network_sees_both_vectors_side_by_side():
    model = EmbeddingNN([(3, 2), (4, 3)], [5], y_range=(0, 5.5)).eval()
    users, items = model.embeddings()
    beside = torch.cat([users(CODES[:, 0]), items(CODES[:, 1])], 1)
    assert_close(model(CODES), model.layers(beside))
    assert model(CODES).shape == (3, 1)


@pytest.mark.parametrize("y_range", [(5, 1), (1, 1), (1, float("nan")), (1, 2, 3)])
def test_a_range_that_is_none_is_refused(y_range):
    with pytest.raises(BadValue, match="y_range"):
        EmbeddingDotBias(4, 3, 4, y_range)
    with pytest.raises(BadValue, match="y_range"):
        EmbeddingNN([(3, 2), (4, 3)], [5], y_range=y_range)


def test_a_misspelt_option_is_refused():
    with pytest.raises(BadArgument, match="y_range"):
        EmbeddingDotBias(4, 3, 4, y_rang=(0, 5))
