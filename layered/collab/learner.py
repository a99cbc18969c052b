"""`collab_learner`: a model of ratings, and the learner that predicts and recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from torch import nn

from layered.collab.data import ratings_of
from layered.collab.models import ByName, EmbeddingDotBias, EmbeddingNN
from layered.collab.recommending import recommend, similar
from layered.data import DataLoaders
from layered.foundation import BadValue, checked, delegates, learner_kinds, listify, refuse_unknown
from layered.loop import Callback
from layered.nn import MSELossFlat
from layered.tabular import CONFIG, TabularLearner, checked_range, get_emb_sz
from layered.training import Learner, LearnerArgs


class FillUnseen(Callback):
    """Lets what training never had be average: see `ByName.fill_unseen`. Runs before each validation, and after a fit."""

    order = 91  # after averages of the weights have been put into the model

    def before_validate(self) -> None:
        self.fill()

    def on_end(self) -> None:
        self.fill()

    def fill(self) -> None:
        if isinstance(self.learn.model, ByName):
            self.learn.model.fill_unseen()


@learner_kinds.register("collab.CollabLearner")
class CollabLearner(TabularLearner):
    """A `TabularLearner` for ratings: `predict` takes a row with a user and an item, `recommend` finds items for users.

    A user or item that training did not have gets the mean of the vectors and biases of the others. So an unseen user
    rates an item as the average user does.
    """

    recommend = recommend
    similar = similar

    def __init__(self, dls: Any, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        if isinstance(model, ByName) and model.classes is None:
            users, items = dls.classes.values()
            model.classes = (users, items)
        super().__init__(dls, model, *args, **kwargs)

    def default_callbacks(self) -> Sequence[Any]:
        return [*super().default_callbacks(), FillUnseen]


@checked
@delegates(Learner)
def collab_learner(
    dls: DataLoaders,
    n_factors: int = 50,
    use_nn: bool = False,
    emb_szs: Mapping[Any, int] | None = None,
    layers: Sequence[int] | None = None,
    config: Mapping[str, Any] | None = None,
    y_range: tuple[float, float] | None = None,
    **learner_args: Unpack[LearnerArgs],
) -> CollabLearner:
    """A `Learner` for ratings: `EmbeddingDotBias`, or with `use_nn` an `EmbeddingNN`.

    The body is the documentation: copy its lines to stand one floor lower.

    Args:
        dls: Loaders of ratings, such as `CollabDataLoaders`.
        n_factors: Length of the vector of a user, and of an item; with `use_nn` the width of the only hidden layer.
        use_nn: Whether the model is a neural network.
        emb_szs: With `use_nn`, the length of the vectors of users and items, {column: length}; by default by `emb_sz_rule`.
        layers: With `use_nn`, the widths of the hidden layers; by default [n_factors].
        config: With `use_nn`, options of the model: `tabular_config(...)`.
        y_range: (low, high) that ratings are squeezed into: (0, 5.5) for one to five stars.
        learner_args: See `Learner`; the loss is by default the mean squared error.

    Raises:
        BadValue: If options of the network are given without `use_nn`, or `y_range` is not a range.
        CannotTrain: If the loaders are not of ratings.
    """
    classes, y_range = ratings_of(dls).classes, checked_range(y_range)
    options = {**({} if y_range is None else {"y_range": y_range}), **(config or {})}
    refuse_unknown(options, CONFIG, "config")
    if not use_nn and (emb_szs is not None or layers is not None or config is not None):
        raise BadValue("emb_szs, layers and config are for a network", fix="collab_learner(..., use_nn=True)")
    model: ByName
    if use_nn:
        model = EmbeddingNN(get_emb_sz(dls, emb_szs), [n_factors] if layers is None else listify(layers), **options)
    else:
        model = EmbeddingDotBias.from_classes(n_factors, classes, y_range=y_range)
    if learner_args.get("loss_func") is None:
        learner_args["loss_func"] = MSELossFlat()
    return CollabLearner(dls, model, **learner_args)
