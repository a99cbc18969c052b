import pytest

from layered.foundation import CannotTrain, default_loss_for, default_losses
from layered.nn import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("category", CrossEntropyLossFlat),
        ("multicategory", BCEWithLogitsLossFlat),
        ("regression", MSELossFlat),
        ("mask", CrossEntropyLossFlat),
    ],
)
def test_each_kind_of_target_has_its_loss(kind, loss):
    assert type(default_loss_for(kind)) is loss


def test_masks_have_their_classes_on_axis_one():
    assert default_loss_for("mask").axis == 1
    assert default_loss_for("mask", ignore_index=255).init_args["ignore_index"] == 255


@pytest.mark.parametrize("kind", [None, "poem"])
def test_a_kind_without_a_loss_says_how_to_give_one(kind):
    with pytest.raises(CannotTrain) as caught:
        default_loss_for(kind)
    assert "loss_func=" in caught.value.fix


def test_a_nearly_right_kind_is_named():
    with pytest.raises(CannotTrain) as caught:
        default_loss_for("catgory")
    assert "'category'" in caught.value.fix


def test_a_new_kind_can_be_added(monkeypatch):
    monkeypatch.setattr(default_losses, "_items", dict(default_losses._items))
    default_losses.add("order", MSELossFlat)
    assert type(default_loss_for("order")) is MSELossFlat
