"""Models of ratings: vectors of users and items, combined by a dot product or an MLP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from layered.collab.features import FeatureEmbedding, Features, FeatureSizes
from layered.data import CategoryMap
from layered.foundation import BadValue, CannotTrain, UnknownLabel, modules, nearest
from layered.nn import Module, sigmoid_range
from layered.tabular import Levels, Name, Sizes, TabularModel, check_codes, checked_range, checked_size


class ByName(Module):
    """Base of models that have a vector for each user and each item, and find it by name.

    Attributes:
        classes: The names of the users and of the items, in the order of the rows: '#na#' first. None if unknown.
    """

    classes: tuple[Sequence[Any], Sequence[Any]] | None = None

    def embeddings(self) -> list[FeatureEmbedding]:
        """All embeddings: the vectors of users, those of items, then any others of users and of items in turn."""
        raise NotImplementedError

    def describe(self, features: Sequence[Features | None]) -> None:
        """Take the features of users and of items, of the sizes that the model was built for; None for those without."""
        for i, table in enumerate(self.embeddings()):
            found = features[i % 2]
            if found is not None:
                table.describe(found)

    def all_items(self, users: Tensor) -> Tensor:
        """The scores of all items for these users: codes int64 [user] to float32 [user, item]."""
        count = self.embeddings()[1].num_embeddings
        return self.each(users, torch.arange(count, device=users.device).expand(len(users), -1))

    def each(self, users: Tensor, items: Tensor) -> Tensor:
        """The score of each item of a row for the user of that row: codes int64 [row] and [row, item] to float32 [row, item]."""
        raise NotImplementedError

    def of_rows(self, x: Tensor) -> Tensor:
        """The scores of rows of codes, int64 [row, 1 + items]: a user, then the items to score; a user alone stands for all
        items: float32 [row, item]."""
        check_codes(x, x.shape[1] if isinstance(x, Tensor) and x.ndim == 2 else 2)
        return self.all_items(x[:, 0]) if x.shape[1] == 1 else self.each(x[:, 0], x[:, 1:])

    def weight(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """The vectors of these items or users: float32 [name, factor], on the CPU.

        Args:
            arr: One name, or several.
            is_item: Whether they are items; False for users.

        Raises:
            UnknownLabel: For a name that is unseen in training.
            CannotTrain: If the model has no names.
        """
        return self.rows_of(self.embeddings()[is_item], arr, is_item)

    def rows_of(self, table: FeatureEmbedding, arr: Iterable[Any], is_item: bool) -> Tensor:
        """The rows of an embedding for these names, on the CPU and detached from the graph."""
        rows: Tensor = table(self.codes(arr, is_item).to(table.weight.device))
        return rows.detach().cpu()

    def codes(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """The rows of these names: int64 [name]. Names that read the same ("1", 1.0 and 1) are the same.

        Args:
            arr: One name, or several.
            is_item: Whether they are items; False for users.

        Raises:
            UnknownLabel: For a name that is unseen in training.
            CannotTrain: If the model has no names.
        """
        if self.classes is None:
            raise CannotTrain(
                "this model does not know the names of its users and items",
                fix="EmbeddingDotBias.from_classes(n_factors, dls.classes), or collab_learner(dls)",
            )
        classes = self.classes[is_item]
        levels = Levels(CategoryMap(list(classes), sort=False), unknown=-1)
        names = [arr] if isinstance(arr, (str, bytes)) or not isinstance(arr, Iterable) else list(arr)
        found = [levels.code(name) for name in names]
        if -1 in found:
            name = names[found.index(-1)]
            near = nearest(str(name), map(str, classes), 1)
            raise UnknownLabel(
                f"there is no {'item' if is_item else 'user'} {name!r} in the training data",
                fix=f"did you mean {near[0]!r}?" if near else "dls.classes has all names",
            )
        return torch.tensor(found, dtype=torch.int64)

    def fill_unseen(self) -> None:
        """Make row 0 of each embedding, which stands for unseen users or items, the mean of the rows of training, and the own
        part of those that have features but no ratings that of the others.

        No training rating uses them, so without this predictions would depend on their random initial values.
        """
        for table in self.embeddings():
            table.fill_unseen()


@modules.register("collab.EmbeddingDotBias")
class EmbeddingDotBias(ByName):
    """The dot product of the vectors of user and item, plus a bias for each.

    Takes codes int64 [batch, 2] of user and item, and returns ratings [batch]; or codes [batch, 1 + n] of a user and n items,
    and returns scores [batch, n], where a user alone stands for all items. The embeddings are `u_weight`, `i_weight`,
    `u_bias` and `i_bias`.

    Args:
        n_factors: The length of the vectors of users and items.
        n_users: The number of users, including '#na#'.
        n_items: The number of items, including '#na#'.
        y_range: (low, high) that a scaled sigmoid maps ratings into. It should be a little wider than the ratings, as the
            ends are never reached. None leaves them unbounded.
        user_features: The sizes of the features of users, (levels of each category, how many numbers): each adds a learnt
            vector and a bias. None for no features.
        item_features: Those of items.

    Raises:
        BadArgument: If a size is not a whole number.
        BadValue: If a size is below 1, or `y_range` is not a range.

    Source: Koren, Bell, Volinsky 2009, Matrix Factorization Techniques for Recommender Systems

    Examples:
        >>> EmbeddingDotBias(5, 10, 20, (0, 5.5))(torch.tensor([[1, 2], [3, 4]])).shape
        torch.Size([2])
    """

    def __init__(
        self,
        n_factors: int,
        n_users: int,
        n_items: int,
        y_range: tuple[float, float] | None = None,
        user_features: FeatureSizes | None = None,
        item_features: FeatureSizes | None = None,
    ) -> None:
        self.y_range, n_factors = checked_range(y_range), checked_size("n_factors", n_factors)
        n_users, n_items = checked_size("n_users", n_users), checked_size("n_items", n_items)
        of_users, of_items = (n_users, user_features), (n_items, item_features)
        self.u_weight, self.i_weight = (FeatureEmbedding(n, n_factors, sizes) for n, sizes in (of_users, of_items))
        self.u_bias, self.i_bias = (FeatureEmbedding(n, 1, sizes) for n, sizes in (of_users, of_items))

    @classmethod
    def from_classes(
        cls,
        n_factors: int,
        classes: Mapping[Any, Sequence[Any]],
        user: Name | None = None,
        item: Name | None = None,
        y_range: tuple[float, float] | None = None,
        user_features: FeatureSizes | None = None,
        item_features: FeatureSizes | None = None,
    ) -> Self:
        """A model for the users and items of `dls.classes`.

        Args:
            n_factors: The length of the vectors of users and items.
            classes: The names of users and of items, by column: `dls.classes`.
            user: The column of users; the first by default.
            item: The column of items; the second by default.
            y_range: (low, high) that ratings are mapped into.
            user_features: The sizes of the features of users.
            item_features: The sizes of the features of items.

        Raises:
            BadValue: If `classes` lacks users or items, or `y_range` is not a range.
        """
        names = list(classes) if isinstance(classes, Mapping) else []
        unknown = [name for name in (user, item) if name is not None and name not in names]
        if len(names) < 2 or unknown:
            raise BadValue(
                "the classes do not include both users and items",
                got=", ".join(map(repr, [*unknown, *names])) or repr(classes),
                expected="a mapping from two columns to their names",
                fix="EmbeddingDotBias.from_classes(n_factors, dls.classes)",
            )
        users, items = (classes[names[i] if name is None else name] for i, name in enumerate((user, item)))
        res = cls(n_factors, len(users), len(items), y_range, user_features, item_features)
        res.classes = (users, items)
        return res

    def forward(self, x: Tensor) -> Tensor:
        scores = self.of_rows(x)
        return scores.squeeze(1) if x.shape[1] == 2 else scores

    def each(self, users: Tensor, items: Tensor) -> Tensor:
        dot = (self.u_weight(users)[:, None] * self.i_weight(items)).sum(2)
        return self.in_range(dot + self.u_bias(users) + self.i_bias(items).squeeze(2))

    def all_items(self, users: Tensor) -> Tensor:
        dot = self.u_weight(users) @ self.i_weight.table().T
        return self.in_range(dot + self.u_bias(users) + self.i_bias.table().T)

    def in_range(self, x: Tensor) -> Tensor:
        """`x` mapped into `y_range`, if there is one."""
        return x if self.y_range is None else sigmoid_range(x, *self.y_range)

    def embeddings(self) -> list[FeatureEmbedding]:
        return [self.u_weight, self.i_weight, self.u_bias, self.i_bias]

    def bias(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """The biases of these items or users: float32 [name], how much higher they rate than taste explains.

        Args:
            arr: One name, or several.
            is_item: Whether they are items; False for users.

        Raises:
            UnknownLabel: For a name that is unseen in training.
            CannotTrain: If the model has no names.
        """
        return self.rows_of(self.i_bias if is_item else self.u_bias, arr, is_item).squeeze(1)


@modules.register("collab.EmbeddingNN")
class EmbeddingNN(TabularModel, ByName):
    """An MLP with one output on the concatenated vectors of user and item.

    Takes codes int64 [batch, 2] and returns [batch, 1]; or, as `EmbeddingDotBias`, a user and several items, or all.

    Args:
        emb_szs: (names including '#na#', length of the vectors) for users and for items: `get_emb_sz(dls)`.
        layers: The width of each hidden layer.
        user_features: The sizes of the features of users, as for `EmbeddingDotBias`; each adds a learnt vector.
        item_features: Those of items.
        kwargs: Options of `TabularModel`: `ps`, `embed_p`, `y_range`, `use_bn`, `bn_final`, ….
    """

    def __init__(
        self,
        emb_szs: Sizes,
        layers: Sequence[int],
        user_features: FeatureSizes | None = None,
        item_features: FeatureSizes | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(emb_szs=emb_szs, n_cont=0, out_sz=1, layers=layers, **kwargs)
        sides = zip(emb_szs, (user_features, item_features), strict=True)
        self.embeds = nn.ModuleList([FeatureEmbedding(n, length, sizes) for (n, length), sizes in sides])

    def embeddings(self) -> list[FeatureEmbedding]:
        return list(self.embeds)  # type: ignore[arg-type]  # as made above

    def forward(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        return self.of_rows(x_cat)

    def each(self, users: Tensor, items: Tensor) -> Tensor:
        pairs = torch.stack([users[:, None].expand_as(items), items], 2).flatten(0, 1)
        return super().forward(pairs).reshape(items.shape)
