import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, TensorCategory, TensorMask, losses
from layered.nn import (
    BaseLoss,
    BCELossFlat,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    DiceLoss,
    FocalLoss,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    MSELossFlat,
    NoneReduce,
    per_sample_loss,
)


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


def test_cross_entropy_equals_torch_on_flat_batches(gen):
    x, y = torch.randn(6, 4, generator=gen), torch.tensor([0, 3, 2, 1, 1, 0])
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert_close(CrossEntropyLossFlat()(x, y), F.cross_entropy(x, y))
    assert_close(CrossEntropyLossFlat(weight)(x, y), F.cross_entropy(x, y, weight))
    assert_close(CrossEntropyLossFlat(weight.tolist())(x, y), F.cross_entropy(x, y, weight))
    assert_close(
        CrossEntropyLossFlat(ignore_index=1, label_smoothing=0.2)(x, y),
        F.cross_entropy(x, y, ignore_index=1, label_smoothing=0.2),
    )


def test_cross_entropy_takes_classes_on_the_last_axis_of_sequences(gen):
    x, y = torch.randn(2, 5, 4, generator=gen), torch.randint(0, 4, (2, 5), generator=gen)
    assert_close(CrossEntropyLossFlat()(x, y), F.cross_entropy(x.transpose(1, 2), y))


def test_cross_entropy_takes_classes_on_axis_one_of_masks(gen):
    x, y = torch.randn(2, 3, 4, 5, generator=gen), torch.randint(0, 3, (2, 4, 5), generator=gen)
    loss = CrossEntropyLossFlat(axis=1)
    assert_close(loss(x, TensorMask(y.byte())), F.cross_entropy(x, y))
    assert loss.activation(x).sum(1).allclose(torch.ones(2, 4, 5))
    assert torch.equal(loss.decodes(loss.activation(x)), x.argmax(1))
    unreduced = CrossEntropyLossFlat(axis=1, reduction="none")(x, y)
    assert_close(unreduced, F.cross_entropy(x, y, reduction="none").view(-1))


def test_cross_entropy_takes_probabilities_as_targets(gen):
    x, y = torch.randn(2, 5, 4, generator=gen), torch.randn(2, 5, 4, generator=gen).softmax(-1)
    assert_close(CrossEntropyLossFlat()(x, y), F.cross_entropy(x.view(10, 4), y.view(10, 4)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_any_integer_will_do_as_a_class(gen, dtype):
    x = torch.randn(3, 4, generator=gen)
    y = torch.tensor([0, 3, 2])
    assert_close(CrossEntropyLossFlat()(x, y.to(dtype)), F.cross_entropy(x, y))


def test_losses_of_semantic_tensors_are_plain(gen):
    loss = CrossEntropyLossFlat()(torch.randn(2, 3, generator=gen), TensorCategory([0, 1]))
    assert type(loss) is torch.Tensor


def test_label_smoothing_follows_its_formula(gen):
    x, y, eps = torch.randn(5, 4, generator=gen).double(), torch.tensor([0, 3, 2, 1, 1]), 0.3
    logs = x.log_softmax(-1)
    wanted = (-(1 - eps) * logs[range(5), y] - eps / 4 * logs.sum(-1)).mean()
    assert_close(LabelSmoothingCrossEntropy(eps)(x, y), wanted)
    assert_close(LabelSmoothingCrossEntropyFlat(eps)(x[None], y[None]), wanted)


def test_focal_loss_follows_its_formula(gen):
    x, y, weight = torch.randn(5, 3, generator=gen), torch.tensor([0, 2, 2, 1, 1]), torch.tensor([1.0, 2.0, 3.0])
    p = x.softmax(-1)[range(5), y]
    wanted = (1 - p) ** 2 * -p.log()
    assert_close(FocalLoss()(x, y), wanted.mean())
    assert_close(FocalLossFlat(weight=weight, reduction="none")(x, y), wanted * weight[y])
    assert_close(FocalLossFlat(gamma=0.0)(x, y), F.cross_entropy(x, y))


def test_binary_cross_entropy_equals_torch(gen):
    x, y = torch.randn(4, 3, generator=gen), torch.randint(0, 2, (4, 3), generator=gen)
    assert_close(BCEWithLogitsLossFlat()(x, y), F.binary_cross_entropy_with_logits(x, y.float()))
    assert_close(BCELossFlat()(x.sigmoid(), y), F.binary_cross_entropy(x.sigmoid(), y.float()))


def test_class_weights_of_binary_cross_entropy_need_no_flatten_off(gen):
    x, y = torch.randn(2, 5, 3, generator=gen), torch.randint(0, 2, (2, 5, 3), generator=gen)
    weights = torch.tensor([1.0, 2.0, 4.0])
    assert_close(
        BCEWithLogitsLossFlat(pos_weight=weights)(x, y),
        F.binary_cross_entropy_with_logits(x, y.float(), pos_weight=weights),
    )
    assert_close(
        BCEWithLogitsLossFlat([1, 2, 4], axis=1)(x.transpose(1, 2), y.transpose(1, 2)),
        F.binary_cross_entropy_with_logits(x, y.float(), weight=weights),
    )


def test_multilabel_decodes_by_its_threshold():
    loss = BCEWithLogitsLossFlat(thresh=0.2)
    probabilities = loss.activation(torch.tensor([[0.0, -3.0]]))
    assert_close(probabilities, torch.tensor([[0.5, 0.0474259]]))
    assert loss.decodes(probabilities).tolist() == [[True, False]]


@pytest.mark.parametrize(("ours", "theirs"), [(MSELossFlat, F.mse_loss), (L1LossFlat, F.l1_loss)])
def test_numbers_with_and_without_a_last_axis_fit(gen, ours, theirs):
    x, y = torch.randn(4, 1, generator=gen), torch.tensor([1, 2, 3, 4])
    assert_close(ours()(x, y), theirs(x[:, 0], y.float()))
    assert ours().activation(x) is x
    assert ours().decodes(x) is x


def test_double_targets_do_not_make_the_loss_double(gen):
    assert MSELossFlat()(torch.randn(4, generator=gen), torch.ones(4, dtype=torch.float64)).dtype is torch.float32


@pytest.mark.parametrize(
    ("loss", "pred", "targ"),
    [(MSELossFlat(), (4, 2), (4,)), (CrossEntropyLossFlat(), (4, 3), (5,)), (BCEWithLogitsLossFlat(), (4, 3), (4,))],
    ids=repr,
)
def test_shapes_that_do_not_fit_are_named(loss, pred, targ):
    with pytest.raises(BadValue, match=type(loss).__name__) as caught:
        loss(torch.zeros(pred), torch.zeros(targ, dtype=torch.long))
    assert str(list(pred)) in caught.value.got
    assert "n_out" in caught.value.fix


KINDS = [losses.get(name) for name in losses.names()]
EVERY = [kind() for kind in KINDS if kind.__module__ == "layered.nn.losses"]
FLAT = [loss for loss in EVERY if isinstance(loss, BaseLoss)]


@pytest.mark.parametrize("loss", FLAT, ids=repr)
def test_gradients_are_right(gen, loss):
    if loss.is_2d:
        x, y = torch.randn(3, 4, generator=gen).double(), torch.tensor([0, 3, 1])
    else:
        x, y = torch.rand(3, 4, generator=gen).double(), torch.randint(0, 2, (3, 4), generator=gen)
    assert torch.autograd.gradcheck(lambda p: loss(p, y), x.requires_grad_())


@pytest.mark.parametrize("loss", FLAT, ids=repr)
def test_reduction_can_be_set_and_the_parts_sum_up(gen, loss):
    loss = copy.deepcopy(loss)
    x = torch.rand(3, 4, generator=gen)
    y = torch.tensor([0, 3, 1]) if loss.is_2d else torch.ones(3, 4)
    mean = loss(x, y)
    loss.reduction = "none"
    parts = loss(x, y)
    assert loss.reduction == "none"
    assert parts.ndim == 1
    assert_close(parts.mean(), mean)
    loss.reduction = "sum"
    assert_close(loss(x, y), parts.sum())


@pytest.mark.parametrize("loss", EVERY, ids=repr)
def test_a_loss_is_built_again_from_its_record_and_pickles(loss):
    assert type(loss).from_init_args(loss.init_args).init_args == loss.init_args
    assert pickle.loads(pickle.dumps(loss)).init_args == loss.init_args


def test_losses_of_one_class_say_that_targets_are_indices():
    assert {type(loss).__name__ for loss in EVERY if loss.y_int} == {
        "CrossEntropyLossFlat",
        "DiceLoss",
        "FocalLossFlat",
        "LabelSmoothingCrossEntropyFlat",
    }


def test_any_torch_loss_can_be_wrapped(gen):
    x, y = torch.randn(3, 2, generator=gen), torch.randn(3, 2, generator=gen)
    wanted = F.huber_loss(x, y, delta=0.5)
    assert_close(BaseLoss(nn.HuberLoss, delta=0.5, is_2d=False)(x, y), wanted)
    assert_close(BaseLoss(nn.HuberLoss(delta=0.5), is_2d=False)(x, y), wanted)


def test_weights_follow_the_predictions():
    loss = CrossEntropyLossFlat([1.0, 2.0])
    assert loss.to("meta").func.weight.device.type == "meta"
    assert loss(torch.zeros(3, 2, device="meta"), torch.zeros(3, dtype=torch.long, device="meta")).device.type == "meta"


def test_a_model_that_returns_several_outputs_is_named():
    with pytest.raises(BadValue, match=r"one tensor of predictions[\s\S]*a tuple[\s\S]*RNNCallback"):
        CrossEntropyLossFlat()((torch.zeros(2, 3), None), torch.zeros(2, dtype=torch.long))


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="weights"):
        CrossEntropyLossFlat(weights=[1.0])


def overlap_by_hand(p, t, smooth=1e-6):
    """One minus the Dice coefficient of one image and class, [pixel] each."""
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def test_dice_loss_follows_its_formula(gen):
    x, y = torch.randn(2, 3, 4, 5, generator=gen).double(), torch.randint(0, 3, (2, 4, 5), generator=gen)
    p = x.softmax(1)
    wanted = torch.stack(
        [torch.stack([overlap_by_hand(p[i, c], (y[i] == c).double()) for c in range(3)]) for i in range(2)]
    )
    assert_close(DiceLoss(reduction="none")(x, y), wanted)
    assert_close(DiceLoss()(x, y), wanted.sum())
    assert_close(DiceLoss(reduction="mean")(x, TensorMask(y)), wanted.mean())
    assert torch.autograd.gradcheck(lambda p: DiceLoss()(p, y), x.clone().requires_grad_())
    assert_close(DiceLoss(axis=-1)(x.movedim(1, -1), y), wanted.sum())
    squared = 1 - (2 * p[0, 1] * (y[0] == 1)).sum() / (p[0, 1] ** 2 + (y[0] == 1)).sum()
    assert_close(DiceLoss(smooth=0.0, square_in_union=True, reduction="none")(x, y)[0, 1], squared)


def test_dice_loss_leaves_ignored_pixels_out(gen):
    x, y = torch.randn(2, 3, 6, generator=gen), torch.randint(0, 3, (2, 6), generator=gen)
    y[:, 4:] = 255
    assert_close(DiceLoss(ignore_index=255)(x, y), DiceLoss()(x[..., :4], y[:, :4]))
    changed = torch.cat([x[..., :4], x[..., 4:] + 5], -1)
    assert_close(DiceLoss(ignore_index=255)(changed, y), DiceLoss(ignore_index=255)(x, y))


def test_dice_loss_names_shapes_that_do_not_fit():
    with pytest.raises(BadValue, match=r"targets \[2, 3, 4, 5\]"):
        DiceLoss()(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5))


@pytest.mark.parametrize("loss", [CrossEntropyLossFlat(), FocalLossFlat(), LabelSmoothingCrossEntropyFlat()])
def test_a_target_that_is_no_class_of_the_model_is_told(loss):
    with pytest.raises(BadValue, match="targets from 0 to 3, and 3 outputs") as caught:
        loss(torch.zeros(2, 3), torch.tensor([0, 3]))
    assert "n_out" in caught.value.fix


def test_dice_loss_decodes_to_the_likeliest_class(gen):
    x = torch.randn(2, 3, 4, 5, generator=gen)
    loss = DiceLoss()
    assert_close(loss.activation(x).sum(1), torch.ones(2, 4, 5))
    assert torch.equal(loss.decodes(loss.activation(x)), x.argmax(1))


@pytest.mark.parametrize("loss", [nn.MSELoss(), MSELossFlat(), F.mse_loss], ids=["torch", "ours", "function"])
def test_none_reduce_gives_the_loss_of_each_row_and_restores(loss):
    before = getattr(loss, "reduction", None)
    with pytest.raises(RuntimeError), NoneReduce(loss) as by_row:  # noqa: PT012
        assert by_row(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])).tolist() == [1, 4, 9]
        raise RuntimeError
    assert getattr(loss, "reduction", None) == before


def test_none_reduce_refuses_a_loss_without_a_reduction():
    with pytest.raises(BadValue, match="per sample"):
        NoneReduce(lambda pred, target: (pred - target).abs().mean())


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (nn.CrossEntropyLoss(), F.cross_entropy),
        (CrossEntropyLossFlat(reduction="sum"), F.cross_entropy),
        (F.cross_entropy, F.cross_entropy),
        (partial(F.cross_entropy, reduction="sum"), F.cross_entropy),
        (nn.MSELoss(), F.mse_loss),
        (BCEWithLogitsLossFlat(), F.binary_cross_entropy_with_logits),
    ],
    ids=str,
)
def test_the_loss_of_each_sample_is_torchs_unreduced_mean_over_the_other_axes(gen, loss, reference):
    x = torch.randn(4, 3, generator=gen)
    y = torch.tensor([0, 2, 1, 0]) if reference is F.cross_entropy else torch.rand(4, 3, generator=gen)
    before = getattr(loss, "reduction", None)
    assert_close(per_sample_loss(loss, x, (y,)), reference(x, y, reduction="none").reshape(4, -1).mean(1))
    assert getattr(loss, "reduction", None) == before


@pytest.mark.parametrize("default", ["mean", "sum"])
def test_none_reduce_knows_how_the_loss_reduces(default):
    def loss(pred, target, reduction=default):
        return F.mse_loss(pred, target, reduction=reduction)

    assert NoneReduce(loss).reduction == NoneReduce(nn.MSELoss(reduction=default)).reduction == default


def test_a_loss_that_can_only_reduce_is_called_for_each_sample_if_asked(gen):
    def loss(pred, target):
        return F.cross_entropy(pred["logits"], target) + 1

    x, y = torch.randn(4, 3, generator=gen), torch.tensor([0, 2, 1, 0])
    assert_close(
        per_sample_loss(loss, {"logits": x}, [y], one_by_one=True), F.cross_entropy(x, y, reduction="none") + 1
    )
    for refused in (loss, None, torch.add):
        with pytest.raises(BadValue, match="per sample"):
            per_sample_loss(refused, {"logits": x}, [y])


@pytest.mark.parametrize("ignored", [-1, 2])
def test_ignored_positions_do_not_count_in_the_loss_of_a_sample(gen, ignored):
    x, y = torch.randn(4, 3, 5, generator=gen), torch.randint(3, (4, 5), generator=gen)
    y[0, :3], y[1] = ignored, ignored
    for loss in (
        nn.CrossEntropyLoss(ignore_index=ignored),
        CrossEntropyLossFlat(axis=1, ignore_index=ignored),
        partial(F.cross_entropy, ignore_index=ignored),
    ):
        expected = F.cross_entropy(x, y, ignore_index=ignored, reduction="none").sum(1) / (y != ignored).sum(1).clamp(
            min=1
        )
        assert_close(per_sample_loss(loss, x, [y]), expected)


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        (CrossEntropyLossFlat, {"label_smoothing": 0.3}),
        (CrossEntropyLossFlat, {"weight": [1.0, 2.0, 5.0]}),
        (CrossEntropyLossFlat, {"weight": torch.tensor([1.0, 2.0, 5.0]), "ignore_index": 1, "reduction": "sum"}),
        (LabelSmoothingCrossEntropyFlat, {"eps": 0.4}),
        (LabelSmoothingCrossEntropy, {"eps": 0.4}),
        (FocalLossFlat, {"gamma": 0.5, "weight": [1.0, 2.0, 5.0]}),
        (DiceLoss, {"smooth": 3.0, "reduction": "mean", "square_in_union": True}),
    ],
)
def test_what_is_set_on_a_loss_takes_effect(gen, made, settings):
    x, y = torch.randn(6, 3, generator=gen), torch.tensor([0, 1, 2, 2, 1, 0])
    if made is DiceLoss:
        x, y = x[..., None], y[..., None]
    loss, expected = made(), made(**settings)(x, y)
    assert not torch.allclose(loss(x, y), expected)
    for name, value in settings.items():
        setattr(loss, name, value)
    assert_close(loss(x, y), expected)
    assert_close(copy.deepcopy(loss)(x, y), expected)
    assert_close(pickle.loads(pickle.dumps(loss))(x, y), expected)
    if made is not LabelSmoothingCrossEntropy:
        assert_close(made.from_init_args(loss.init_args)(x, y), expected)


def test_weights_of_labels_may_be_set_later(gen):
    x, y = torch.randn(6, 3, generator=gen), torch.randint(2, (6, 3), generator=gen)
    loss = BCEWithLogitsLossFlat()
    loss.pos_weight, loss.thresh = [1.0, 2.0, 5.0], 0.9
    assert_close(loss(x, y), F.binary_cross_entropy_with_logits(x, y.float(), pos_weight=torch.tensor([1.0, 2.0, 5.0])))
    assert not loss.decodes(torch.tensor([0.8])).any()
    loss.pos_weight = None
    assert_close(loss(x[:, 0], y[:, 0]), F.binary_cross_entropy_with_logits(x[:, 0], y[:, 0].float()))


@pytest.mark.parametrize(("made", "name"), [(CrossEntropyLossFlat, "label_smooting"), (MSELossFlat, "gamma")])
def test_a_setting_that_a_loss_does_not_have_is_refused(made, name):
    with pytest.raises(BadArgument, match=f"{made.__name__} has no setting '{name}'"):
        setattr(made(), name, 0.1)


def test_a_loss_of_the_user_may_have_attributes_of_its_own():
    class Own(CrossEntropyLossFlat):
        def __init__(self):
            super().__init__()
            self.parts = []

        def __call__(self, pred, target):
            self.weight = 2.0
            return self.weight * super().__call__(pred, target)

    assert_close(Own()(torch.zeros(1, 2), torch.tensor([0])), 2 * torch.tensor(2.0).log())
