"""`collab_learner`: a model of ratings, and the learner that predicts and recommends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from layered.collab.data import ratings_of
from layered.collab.models import ByName, EmbeddingDotBias, EmbeddingNN
from layered.collab.recommending import recommend, similar
from layered.foundation import BadValue, checked, learner_kinds, listify, refuse_unknown
from layered.loop import Callback
from layered.nn import MSELossFlat
from layered.optim import Adam, trainable_params
from layered.tabular import CONFIG, TabularLearner, checked_range, get_emb_sz


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
def collab_learner(
    dls: Any,
    n_factors: int = 50,
    use_nn: bool = False,
    emb_szs: Mapping[Any, int] | None = None,
    layers: Sequence[int] | None = None,
    config: Mapping[str, Any] | None = None,
    y_range: tuple[float, float] | None = None,
    loss_func: Callable[..., Any] | None = None,
    opt_func: Callable[..., Any] = Adam,
    lr: float | slice = 1e-3,
    splitter: Callable[[nn.Module], Any] = trainable_params,
    cbs: Any = None,
    metrics: Any = None,
    path: Any = None,
    model_dir: Any = "models",
    wd: float | None = None,
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
) -> CollabLearner:
    """A `Learner` for ratings: `EmbeddingDotBias`, or with `use_nn` an `EmbeddingNN`.

    opt_func … moms  see `Learner`

    The body is the documentation: copy its lines to stand one floor lower.

    Args:
        n_factors: Numbers that stand for a user, and for an item; with `use_nn` the width of the one layer.
        emb_szs: With `use_nn`: how many numbers stand for users and items, {column: numbers}; by default by
            `emb_sz_rule`.
        layers: With `use_nn`: the widths of the hidden layers; [n_factors] by default.
        config: With `use_nn`: options of the model, `tabular_config(...)`.
        y_range: (low, high) that ratings are squeezed into: (0, 5.5) for one to five stars.
        loss_func: By default the mean squared error.

    Raises:
        BadValue: For options of the network without `use_nn`, and for a `y_range` that is none.
        CannotTrain: For loaders of something else.
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
    loss_func = MSELossFlat() if loss_func is None else loss_func
    return CollabLearner(
        dls, model, loss_func, opt_func, lr, splitter, cbs, metrics, path, model_dir, wd, wd_bn_bias, train_bn, moms
    )
