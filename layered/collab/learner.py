"""`collab_learner`: a model of ratings, and the learner that predicts and recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from torch import nn

from layered.collab.data import TabularImplicit, ratings_of, warn_of_unknown
from layered.collab.losses import SoftmaxRankingLoss
from layered.collab.models import ByName, EmbeddingDotBias, EmbeddingNN
from layered.collab.penalty import VectorPenalty
from layered.collab.recommending import recommend, similar
from layered.collab.scores import ranking_scores
from layered.data import DataLoaders
from layered.foundation import BadValue, checked, delegates, learner_kinds, listify, refuse_unknown
from layered.loop import Callback
from layered.nn import MSELossFlat
from layered.tabular import CONFIG, TabularLearner, checked_range, get_emb_sz
from layered.training import Learner, LearnerArgs


class FillUnseen(Callback):
    """Makes unseen users and items average, by `ByName.fill_unseen`, before each validation and after a fit."""

    order = 91  # after callbacks that put averaged weights into the model, as the fill is computed from the weights
    state_kinds = ()

    def before_validate(self) -> None:
        self.fill()

    def on_end(self) -> None:
        self.fill()

    def fill(self) -> None:
        """Fill the rows of unseen users and items, if the model has such rows."""
        if isinstance(self.learn.model, ByName):
            self.learn.model.fill_unseen()


@learner_kinds.register("collab.CollabLearner")
class CollabLearner(TabularLearner):
    """A `TabularLearner` for ratings: `predict` takes a row with a user and an item, `recommend` finds items for users.

    A user or item that is unseen in training gets the mean of the vectors and biases of the others, so an unseen user
    rates items as the average user does.

    Args:
        dls: Loaders of ratings, such as `CollabDataLoaders`.
        model: Takes codes int64 [batch, 2] of user and item, and returns a rating for each row. An `EmbeddingDotBias` or
            `EmbeddingNN` learns the names of its rows from `dls`, unless it has them already.
        args: Further arguments of `Learner`, by position.
        kwargs: Further arguments of `Learner`, by name.
    """

    recommend = recommend
    similar = similar
    ranking_scores = ranking_scores

    def __init__(self, dls: Any, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        if isinstance(model, ByName) and model.classes is None:
            users, items = dls.classes.values()
            model.classes = (users, items)
        super().__init__(dls, model, *args, **kwargs)

    def predict(
        self,
        row: object,
        rm_type_tfms: int | None = None,
        with_input: bool = False,
        *,
        strict: bool = False,
        abstain: float | None = None,
    ) -> tuple[Any, ...]:
        """Predict the rating, or the score of the choice, of a user and an item; a warning says which of them is unknown.

        Args:
            row: A Series, a mapping, or a frame with one row.
            rm_type_tfms: Ignored; accepted because learners of other data take it.
            with_input: Whether the row's tensors come first in the result.
            strict: Whether to refuse users and items that are unseen in training.
            abstain: Refused, as for all that predict a number.

        Returns:
            (row, decision, number), as `TabularLearner.predict`.

        Raises:
            BadValue: If columns are missing, there are several rows, or, if `strict`, the user or the item is unknown.
        """
        inputs, *res = super().predict(row, rm_type_tfms, True, strict=strict, abstain=abstain)
        warn_of_unknown(self.dls.train.dataset, inputs[0])
        return (inputs, *res) if with_input else tuple(res)

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
    l2: float | None = None,
    **learner_args: Unpack[LearnerArgs],
) -> CollabLearner:
    """A `Learner` for ratings or choices: `EmbeddingDotBias`, or with `use_nn` an `EmbeddingNN`.

    The body is the documentation: copy its lines to work one floor lower.

    Args:
        dls: Loaders of ratings, such as `CollabDataLoaders`.
        n_factors: The length of the vectors of users and items; with `use_nn`, the default width of the hidden layer.
        use_nn: Whether the model is an MLP on the vectors instead of their dot product.
        emb_szs: With `use_nn`, the length of the vectors, {column: length}; `emb_sz_rule` by default.
        layers: With `use_nn`, the widths of the hidden layers; [n_factors] by default.
        config: With `use_nn`, options of the model: `tabular_config(...)`.
        y_range: (low, high) that a scaled sigmoid maps ratings into. It should be a little wider than the ratings, as the
            ends are never reached: (0, 5.5) for one to five stars. None leaves ratings unbounded. Choices have no range.
        l2: For choices, the factor of a `VectorPenalty`; 0.06 by default, and 0 with `use_nn`. It is what to tune first.
        learner_args: Arguments of `Learner`. The loss is the mean squared error by default; for choices,
            `SoftmaxRankingLoss()` (others are `BPRLoss()` and `WARPLoss()`). The learning rate is 0.05 by default for a dot
            product of choices, as a batch of users holds many choices.

    Raises:
        BadArgument: For an unknown argument or option.
        BadValue: If options of the MLP are given without `use_nn`, `y_range` is not a range, or an option is for ratings and the
            data are choices, or the other way round.
        CannotTrain: If `dls` are not loaders of ratings.
    """
    to, y_range = ratings_of(dls), checked_range(y_range)
    is_implicit = isinstance(to, TabularImplicit)
    if is_implicit and (y_range is not None or (config or {}).get("y_range") is not None):
        raise BadValue(
            "choices have no range: their scores only order the items",
            got=f"y_range={y_range}",
            fix="leave y_range out; for ratings, CollabDataLoaders.from_df(df, rating_name=...)",
        )
    if l2 is not None and not is_implicit:
        raise BadValue("l2 is for choices", got=f"l2={l2}", fix="wd=0.1, in a fit or here, for ratings")
    options = {**({} if y_range is None else {"y_range": y_range}), **(config or {})}
    refuse_unknown(options, CONFIG, "config")
    if not use_nn and (emb_szs is not None or layers is not None or config is not None):
        raise BadValue("emb_szs, layers and config need use_nn=True", fix="collab_learner(..., use_nn=True)")
    features = [to.features.get(name) for name in to.cat_names]
    feature_sizes = [None if found is None else found.sizes for found in features]
    model: ByName
    if use_nn:
        sizes, widths = get_emb_sz(dls, emb_szs), [n_factors] if layers is None else layers
        model = EmbeddingNN(sizes, widths, *feature_sizes, **options)
    else:
        model = EmbeddingDotBias.from_classes(n_factors, to.classes, None, None, y_range, *feature_sizes)
    model.describe(features)
    if learner_args.get("loss_func") is None:
        learner_args["loss_func"] = SoftmaxRankingLoss() if is_implicit else MSELossFlat()
    if is_implicit and not use_nn:
        learner_args = {"lr": 0.05, **learner_args}
        l2 = 0.06 if l2 is None else l2
    if l2:
        learner_args["cbs"] = [*listify(learner_args.get("cbs")), VectorPenalty(l2)]
    return CollabLearner(dls, model, **learner_args)
