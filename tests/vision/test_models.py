"""Heads of image models, layer by layer."""

import pytest
import torch
from torch import nn

from layered.foundation import BadValue
from layered.vision.all import create_head, create_vision_model, resnet18

POOL = ["AdaptiveConcatPool2d", "Flatten"]


def layers(head):
    """Kinds of layers, with the sizes of linear and norm layers and the share of dropout."""

    def told(layer):
        kind = type(layer).__name__
        match layer:
            case nn.Linear():
                return (kind, layer.in_features, layer.out_features, layer.bias is not None)
            case nn.BatchNorm1d():
                return (kind, layer.num_features)
            case nn.Dropout():
                return (kind, layer.p)
        return kind

    return [told(layer) for layer in head]


def test_the_usual_head():
    assert layers(create_head(8, 3)) == [
        *POOL, ("BatchNorm1d", 16), ("Dropout", 0.25), ("Linear", 16, 512, False), "ReLU",
        ("BatchNorm1d", 512), ("Dropout", 0.5), ("Linear", 512, 3, False),
    ]  # fmt: skip


def test_widths_and_dropouts_of_ones_own():
    assert layers(create_head(8, 3, lin_ftrs=[10, 6], ps=0.4, concat_pool=False)) == [
        "AdaptiveAvgPool2d", "Flatten", ("BatchNorm1d", 8), ("Dropout", 0.2), ("Linear", 8, 10, False), "ReLU",
        ("BatchNorm1d", 10), ("Dropout", 0.2), ("Linear", 10, 6, False), "ReLU",
        ("BatchNorm1d", 6), ("Dropout", 0.4), ("Linear", 6, 3, False),
    ]  # fmt: skip
    assert [o for o in layers(create_head(8, 3, ps=[0.1, 0.2])) if o[0] == "Dropout"] == [
        ("Dropout", 0.1),
        ("Dropout", 0.2),
    ]
    with pytest.raises(BadValue, match="each linear layer"):
        create_head(8, 3, ps=[0.1, 0.2, 0.3])


def test_no_hidden_layer():
    assert layers(create_head(8, 3, lin_ftrs=[])) == [
        *POOL,
        ("BatchNorm1d", 16),
        ("Dropout", 0.5),
        ("Linear", 16, 3, False),
    ]


def test_without_pooling_first_norm_or_both():
    assert layers(create_head(8, 3, lin_ftrs=[4], pool=False))[0] == ("BatchNorm1d", 8)
    head = layers(create_head(8, 3, lin_ftrs=[4], pool=False, first_bn=False))
    assert head[:2] == [("Dropout", 0.25), ("Linear", 8, 4, True)]


def test_linear_layers_before_their_norms():
    assert layers(create_head(8, 3, lin_first=True)) == [
        *POOL, ("Dropout", 0.25), ("Linear", 16, 512, False), "ReLU", ("BatchNorm1d", 512), ("Dropout", 0.5),
        ("Linear", 512, 3, True),
    ]  # fmt: skip


def test_a_final_norm_and_a_range():
    head = create_head(8, 1, bn_final=True, y_range=(-1, 3))
    assert layers(head)[-2:] == [("BatchNorm1d", 1), "SigmoidRange"]
    assert head[-2].momentum == 0.01
    out = head.eval()(100 * torch.randn(4, 8, 2, 2))
    assert out.shape == (4, 1)
    assert ((out >= -1) & (out <= 3)).all()


def test_concatenated_pools_are_maximum_then_mean():
    x = torch.randn(2, 8, 3, 3)
    pooled = create_head(8, 3)[:2](x)
    assert torch.equal(pooled, torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


def test_the_head_starts_as_it_is_known_to():
    torch.manual_seed(0)
    head = create_vision_model(resnet18, 3, pretrained=False)[1]
    for norm in (head[2], head[6]):
        assert (norm.weight == 1).all()
        assert norm.bias.detach().numpy() == pytest.approx(1e-3)
    assert head[4].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)  # He's normal, by the inputs
    own = nn.Linear(2, 2)
    model = create_vision_model(resnet18, 3, pretrained=False, custom_head=own, init=None)
    assert model[1] is own
