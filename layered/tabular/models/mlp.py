"""`TabularModel`: embeddings for categories, batch norm for numbers, then a multi-layer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor, nn

from layered.data import DataLoaders
from layered.foundation import BadArgument, BadValue, modules, names_of, refuse_unknown
from layered.nn import Embedding, LinBnDrop, Module, SigmoidRange
from layered.tabular.columns import listed, not_encoded
from layered.tabular.table import Tabular, table_of


def checked_size(name: str, value: object) -> int:
    """`value`, if it is a whole number from 1 on.

    Raises:
        BadArgument: A BadValue for one below 1.

    Examples:
        >>> checked_size("n_out", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise BadArgument(f"{name} is not a whole number", got=repr(value), expected="a whole number from 1 on")
    if value.__index__() < 1:
        raise BadValue(f"{name} is too small", got=value, expected="a whole number from 1 on")
    return int(value.__index__())


def checked_range(y_range: object) -> tuple[float, float] | None:
    """`y_range` as two floats, if it is a range; or None.

    Raises:
        BadValue: An argument of the right type whose value makes no sense here.

    Examples:
        >>> checked_range([0, 5.5])
        (0.0, 5.5)
    """
    if y_range is None:
        return None
    try:
        low, high = map(float, y_range)  # type: ignore[call-overload]  # what is not a range is caught
        is_range = low < high and not isinstance(y_range, (str, bytes))
    except (TypeError, ValueError):
        is_range = False
    if not is_range:
        raise BadValue("y_range is not a range", got=repr(y_range), expected="(low, high)", fix="y_range=(0, 5.5)")
    return (low, high)


def checked_share(name: str, value: object) -> float:
    """`value` as a float, if it is a number from 0 to 1.

    Raises:
        BadArgument: A BadValue for one outside.

    Examples:
        >>> checked_share("embed_p", 0.5)
        0.5
    """
    try:
        share = float(value)  # type: ignore[arg-type]  # what is not a number is caught
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{name} is not a number", got=repr(value), expected="a share, from 0 to 1") from error
    if not 0 <= share <= 1:
        raise BadValue(f"{name} is a share of what is dropped", got=value, expected="a number from 0 to 1")
    return share


def check_codes(x: object, count: int) -> None:
    """Raise BadArgument unless `x` is a batch of codes: whole numbers [batch, `count`]."""
    if isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count and not x.is_floating_point():
        return
    got = f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise BadArgument(
        "the model does not take this batch",
        got=got,
        expected=f"codes, whole numbers [batch, {count}]",
        fix="batches of loaders: learn.get_preds(dl=learn.dls.test_dl(df))",
    )


def check_numbers(x: object, count: int) -> None:
    """Raise BadArgument unless `x` is a batch of numbers [batch, `count`]; None is one of 0 numbers."""
    if count == 0 or (isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count):
        return
    raise BadArgument(
        "the model does not take this batch",
        got=f"numbers {tuple(x.shape)}" if isinstance(x, Tensor) else f"numbers: {x!r}",
        expected=f"numbers [batch, {count}]",
        fix="batches of loaders: learn.get_preds(dl=learn.dls.test_dl(df))",
    )


Sizes = Sequence[tuple[int, int]]


def emb_sz_rule(n_cat: int) -> int:
    """How many numbers stand for a category that has `n_cat` levels, '#na#' among them: min(600, round(1.6 * n ** 0.56)).

    Examples:
        >>> [emb_sz_rule(n) for n in (2, 3, 5, 10, 50, 100, 1000, 100000)]
        [2, 3, 4, 6, 14, 21, 77, 600]
    """
    return min(600, round(1.6 * math.pow(n_cat, 0.56)))


def get_emb_sz(to: Tabular | DataLoaders, sz_dict: Mapping[Any, int] | None = None) -> list[tuple[int, int]]:
    """(levels, numbers) of the embedding of each categorical column.

    Args:
        to: A `TabularPandas`, or loaders of one.
        sz_dict: The numbers for some columns, by name; the others by `emb_sz_rule`.

    Raises:
        BadValue: For a name that is not a categorical column, and where categories are not encoded.
    """
    given = {} if sz_dict is None else sz_dict
    if not isinstance(given, Mapping):
        raise BadArgument("emb_szs must give the sizes by column", got=repr(given), fix="emb_szs={column: numbers}")
    table = to if isinstance(to, Tabular) else table_of(to)
    names = list(table.cat_names)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise BadValue(
            f"there is no categorical column {', '.join(map(repr, unknown))}",
            expected=", ".join(map(repr, names)),
            fix="emb_szs={column: numbers}",
        )
    if names and not hasattr(table, "classes"):
        raise not_encoded(names[0])
    levels = {name: len(table.classes[name]) for name in names}
    return [(n, checked_size(f"emb_szs[{name!r}]", given.get(name, emb_sz_rule(n)))) for name, n in levels.items()]


class Inputs(Module):
    """Codes and numbers as one vector a row: embeddings, one after the other, then the numbers.

    Args:
        emb_szs: (levels, numbers) of each categorical column.
        n_cont: How many continuous columns.
        embed_p: Share of the embedding's numbers dropped.
        bn_cont: Batch norm for the continuous columns.
    """

    def __init__(self, emb_szs: Sizes, n_cont: int, embed_p: float = 0.0, bn_cont: bool = True) -> None:
        self.embeds = nn.ModuleList([Embedding(ni, nf) for ni, nf in emb_szs])
        self.emb_drop = nn.Dropout(checked_share("embed_p", embed_p))
        self.bn_cont = nn.BatchNorm1d(n_cont) if bn_cont and n_cont else None
        self.n_cont, self.size = n_cont, sum(nf for _, nf in emb_szs) + n_cont
        if not self.size:
            raise BadValue("the model has no inputs", got="no embeddings, n_cont=0", fix="name cat_names or cont_names")

    def inputs(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        """[batch, size] of codes [batch, category] and numbers [batch, number]."""
        check_codes(x_cat, len(self.embeds))
        check_numbers(x_cont, self.n_cont)
        parts = [embed(code) for embed, code in zip(self.embeds, x_cat.unbind(1), strict=True)]
        if parts:
            parts = [self.emb_drop(torch.cat(parts, 1))]
        if self.n_cont and x_cont is not None:
            parts.append(x_cont if self.bn_cont is None else self.bn_cont(x_cont))
        return torch.cat(parts, 1)


@modules.register("tabular.TabularModel")
class TabularModel(Inputs):
    """Embeddings and numbers through an MLP: for each layer linear, activation, batch norm and dropout; then the outputs.

    Args:
        emb_szs: (levels, numbers) of each categorical column: `get_emb_sz(dls)`.
        n_cont: How many continuous columns.
        out_sz: Outputs.
        layers: The width of each hidden layer; a number for a single one.
        ps: Share dropped after each layer: a number for all, or one for each; 0 by default.
        embed_p: Share of the embeddings dropped.
        y_range: (low, high) that outputs are squeezed into.
        use_bn: Batch norm in the layers; they have no bias then.
        bn_final: Batch norm before the outputs too.
        bn_cont: Batch norm for the continuous columns.
        act_cls: The activation, as a class or a module.
        lin_first: Each layer begins with its linear part; else with batch norm and dropout.

    Examples:
        >>> TabularModel([(3, 3)], 2, 1, [8])(torch.zeros(4, 1).long(), torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        emb_szs: Sizes,
        n_cont: int,
        out_sz: int,
        layers: Sequence[int],
        ps: float | Sequence[float] | None = None,
        embed_p: float = 0.0,
        y_range: tuple[float, float] | None = None,
        use_bn: bool = True,
        bn_final: bool = False,
        bn_cont: bool = True,
        act_cls: Callable[[], nn.Module] | nn.Module = nn.ReLU,
        lin_first: bool = True,
    ) -> None:
        super().__init__(emb_szs, n_cont, embed_p, bn_cont)
        widths = [checked_size("the width of a layer", width) for width in listed(layers)]
        y_range = checked_range(y_range)
        shares = [checked_share("ps", p) for p in listed(0.0 if ps is None else ps)]
        drops = shares * len(widths) if ps is None or np.ndim(ps) == 0 else shares
        if not callable(act_cls):
            raise BadArgument(
                "act_cls is not an activation", got=repr(act_cls), fix="act_cls=nn.ReLU, a class or a module"
            )
        if len(drops) != len(widths):
            raise BadValue("ps needs one share for each layer", got=f"ps={drops} with layers={widths}")
        sizes = [self.size, *widths, checked_size("the number of outputs", out_sz)]
        parts: list[nn.Module] = []
        for i, (p, (n_in, n)) in enumerate(zip([*drops, 0.0], itertools.pairwise(sizes), strict=True)):
            is_last = i == len(widths)
            act = None if is_last else act_cls if isinstance(act_cls, nn.Module) else act_cls()
            parts.append(LinBnDrop(n_in, n, use_bn and (bn_final or not is_last), p, act, lin_first))
        if y_range is not None:
            parts.append(SigmoidRange(*y_range))
        self.layers = nn.Sequential(*parts)

    def forward(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        return self.layers(self.inputs(x_cat, x_cont))  # type: ignore[no-any-return]


CONFIG = names_of(TabularModel.__init__) - {"emb_szs", "n_cont", "out_sz", "layers"}


def tabular_config(**kwargs: Any) -> dict[str, Any]:
    """Options of `TabularModel` for `tabular_learner(config=…)`: `ps`, `embed_p`, `y_range`, `use_bn`, `bn_final`, `bn_cont`,
    `act_cls`, `lin_first`.

    Examples:
        >>> tabular_config(ps=[0.1, 0.2], embed_p=0.04)
        {'ps': [0.1, 0.2], 'embed_p': 0.04}
    """
    refuse_unknown(kwargs, CONFIG, "tabular_config")
    return kwargs
