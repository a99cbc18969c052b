"""Models of ratings: vectors for users and items, multiplied, or put through a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from layered.data import CategoryMap
from layered.foundation import BadValue, CannotTrain, UnknownLabel, modules, nearest
from layered.nn import Embedding, Module, sigmoid_range
from layered.tabular import Levels, Name, Sizes, TabularModel, check_codes, checked_range, checked_size


class ByName(Module):
    """Base of models with a row of numbers for each user and each item, which are found by name.

    Attributes:
        classes: The users and the items, in the order of the rows: '#na#' first.
    """

    classes: tuple[Sequence[Any], Sequence[Any]] | None = None

    def embeddings(self) -> list[nn.Embedding]:
        """All that has rows: first of users, then of items, then any others."""
        raise NotImplementedError

    def weight(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """The numbers that stand for these items (or users), float [name, number].

        Raises:
            UnknownLabel: For one that training did not have.
        """
        return self.rows_of(self.embeddings()[is_item], arr, is_item)

    def rows_of(self, table: nn.Embedding, arr: Iterable[Any], is_item: bool) -> Tensor:
        """The rows of one table for these names, on the CPU and without history."""
        return table.weight.detach()[self.codes(arr, is_item).to(table.weight.device)].cpu()

    def codes(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """The number of the row of each name, in whatever form it comes ("1" for 1): int64 [name].

        Raises:
            UnknownLabel: A label that the vocabulary, fitted on the training items, does not hold.
        """
        if self.classes is None:
            raise CannotTrain(
                "this model does not know the names of its rows",
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
                f"there is no {'item' if is_item else 'user'} {name!r} among those of training",
                fix=f"did you mean {near[0]!r}?" if near else "dls.classes has all names",
            )
        return torch.tensor(found, dtype=torch.int64)

    @torch.no_grad()
    def fill_unseen(self) -> None:
        """Give row 0 of each table, which stands for what training never had, the mean of the other rows."""
        for table in self.embeddings():
            if len(table.weight) > 1:
                table.weight[0] = table.weight[1:].mean(0)


@modules.register("collab.EmbeddingDotBias")
class EmbeddingDotBias(ByName):
    """The product of a user's and an item's vector, plus a bias for each.

    Codes int64 [batch, 2] → ratings [batch]. Rows are in `u_weight`, `i_weight`, `u_bias` and `i_bias`.

    Args:
        n_factors: Numbers that stand for a user, and for an item.
        n_users: How many there are, '#na#' among them.
        n_items: How many there are, '#na#' among them.
        y_range: (low, high) that ratings are squeezed into; a little wider than they are, as the ends are never
            reached.

    Source: Koren, Bell, Volinsky 2009, Matrix Factorization Techniques for Recommender Systems

    Examples:
        >>> EmbeddingDotBias(5, 10, 20, (0, 5.5))(torch.tensor([[1, 2], [3, 4]])).shape
        torch.Size([2])
    """

    def __init__(self, n_factors: int, n_users: int, n_items: int, y_range: tuple[float, float] | None = None) -> None:
        self.y_range, n_factors = checked_range(y_range), checked_size("n_factors", n_factors)
        n_users, n_items = checked_size("n_users", n_users), checked_size("n_items", n_items)
        self.u_weight, self.i_weight = Embedding(n_users, n_factors), Embedding(n_items, n_factors)
        self.u_bias, self.i_bias = Embedding(n_users, 1), Embedding(n_items, 1)

    @classmethod
    def from_classes(
        cls,
        n_factors: int,
        classes: Mapping[Any, Sequence[Any]],
        user: Name | None = None,
        item: Name | None = None,
        y_range: tuple[float, float] | None = None,
    ) -> Self:
        """A model for `dls.classes`.

        Args:
            user: The columns; by default the first and the second.
            item: The columns; by default the first and the second.
        """
        names = list(classes) if isinstance(classes, Mapping) else []
        unknown = [name for name in (user, item) if name is not None and name not in names]
        if len(names) < 2 or unknown:
            raise BadValue(
                "users and items are not both among the classes",
                got=", ".join(map(repr, [*unknown, *names])) or repr(classes),
                expected="a mapping with the names of users, and of items",
                fix="EmbeddingDotBias.from_classes(n_factors, dls.classes)",
            )
        users, items = (classes[names[i] if name is None else name] for i, name in enumerate((user, item)))
        res = cls(n_factors, len(users), len(items), y_range)
        res.classes = (users, items)
        return res

    def forward(self, x: Tensor) -> Tensor:
        check_codes(x, 2)
        users, items = x.unbind(1)
        dot = (self.u_weight(users) * self.i_weight(items)).sum(1)
        return self.in_range(dot + self.u_bias(users).squeeze(1) + self.i_bias(items).squeeze(1))

    def all_items(self, users: Tensor) -> Tensor:
        """The rating of each item by these users: [user, item] of codes [user]."""
        dot = self.u_weight(users) @ self.i_weight.weight.T
        return self.in_range(dot + self.u_bias(users) + self.i_bias.weight.T)

    def in_range(self, x: Tensor) -> Tensor:
        """`x` squeezed into `y_range`."""
        return x if self.y_range is None else sigmoid_range(x, *self.y_range)

    def embeddings(self) -> list[nn.Embedding]:
        return [self.u_weight, self.i_weight, self.u_bias, self.i_bias]

    def bias(self, arr: Iterable[Any], is_item: bool = True) -> Tensor:
        """How much better these items (or users) rate than others, apart from taste: float [name].

        Raises:
            UnknownLabel: For one that training did not have.
        """
        return self.rows_of(self.i_bias if is_item else self.u_bias, arr, is_item).squeeze(1)


@modules.register("collab.EmbeddingNN")
class EmbeddingNN(TabularModel, ByName):
    """The vectors of user and item, side by side, through an MLP with one output.

    Args:
        emb_szs: (rows, numbers) for users and for items: `get_emb_sz(dls)`.
        layers: The width of each hidden layer.
        kwargs: Options of `TabularModel`: `ps`, `embed_p`, `y_range`, `use_bn`, `bn_final`, ….
    """

    def __init__(self, emb_szs: Sizes, layers: Sequence[int], **kwargs: Any) -> None:
        super().__init__(emb_szs=emb_szs, n_cont=0, out_sz=1, layers=layers, **kwargs)

    def embeddings(self) -> list[nn.Embedding]:
        return [*self.embeds]
