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
    """`value` as an int, after checking that it is a positive whole number.

    Args:
        name: What the number is, for the message.
        value: The number: a Python or NumPy integer, or anything with `__index__`.

    Raises:
        BadArgument: If it is not a whole number.
        BadValue: If it is below 1.

    Examples:
        >>> checked_size("n_out", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise BadArgument(f"{name} is not a whole number", got=repr(value), expected="a positive whole number")
    if value.__index__() < 1:
        raise BadValue(f"{name} is too small", got=value, expected="a positive whole number")
    return int(value.__index__())


def checked_range(y_range: object) -> tuple[float, float] | None:
    """`y_range` as two floats, after checking that the first is smaller; None stays None.

    Raises:
        BadValue: If it is not a pair of numbers in ascending order.

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
    """`value` as a float, after checking that it is a dropout probability.

    Args:
        name: What the number is, for the message.
        value: The number, in [0, 1].

    Raises:
        BadArgument: If it is not a number.
        BadValue: If it is outside [0, 1].

    Examples:
        >>> checked_share("embed_p", 0.5)
        0.5
    """
    try:
        share = float(value)  # type: ignore[arg-type]  # what is not a number is caught
    except (TypeError, ValueError) as error:
        raise BadArgument(f"{name} is not a number", got=repr(value), expected="a number from 0 to 1") from error
    if not 0 <= share <= 1:
        raise BadValue(f"{name} is not a valid probability", got=value, expected="a number from 0 to 1")
    return share


def check_codes(x: object, count: int) -> None:
    """Check that `x` is a batch of codes: whole numbers [batch, `count`].

    Raises:
        BadArgument: If it is not.
    """
    if isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count and not x.is_floating_point():
        return
    got = f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise BadArgument(
        "the model cannot take this batch",
        got=got,
        expected=f"codes: whole numbers [batch, {count}]",
        fix="let a loader make the batches: learn.get_preds(dl=learn.dls.test_dl(df))",
    )


def check_numbers(x: object, count: int) -> None:
    """Check that `x` is a batch of numbers [batch, `count`]; if `count` is 0, anything passes, as it is not used.

    Raises:
        BadArgument: If it is not.
    """
    if count == 0 or (isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == count):
        return
    raise BadArgument(
        "the model cannot take this batch",
        got=f"numbers {tuple(x.shape)}" if isinstance(x, Tensor) else f"numbers: {x!r}",
        expected=f"numbers [batch, {count}]",
        fix="let a loader make the batches: learn.get_preds(dl=learn.dls.test_dl(df))",
    )


Sizes = Sequence[tuple[int, int]]


def emb_sz_rule(n_cat: int) -> int:
    """The default length of an embedding: min(600, round(1.6 * n_cat ** 0.56)).

    Args:
        n_cat: The number of levels of the category, including '#na#'.

    Examples:
        >>> [emb_sz_rule(n) for n in (2, 3, 5, 10, 50, 100, 1000, 100000)]
        [2, 3, 4, 6, 14, 21, 77, 600]
    """
    return min(600, round(1.6 * math.pow(n_cat, 0.56)))


def get_emb_sz(to: Tabular | DataLoaders, sz_dict: Mapping[Any, int] | None = None) -> list[tuple[int, int]]:
    """The size of the embedding of each categorical column.

    Args:
        to: A `TabularPandas`, or its loaders.
        sz_dict: The length of the vectors for some columns, {column: length}; `emb_sz_rule` sets the others.

    Returns:
        (levels including '#na#', length of the vectors) for each categorical column, in order.

    Raises:
        BadArgument: If `sz_dict` is not a mapping, or a length in it is not a whole number.
        BadValue: For a name that is not a categorical column, a length below 1, or columns that are not encoded.
    """
    given = {} if sz_dict is None else sz_dict
    if not isinstance(given, Mapping):
        raise BadArgument("emb_szs is not a mapping", got=repr(given), fix="emb_szs={column: length}")
    table = to if isinstance(to, Tabular) else table_of(to)
    names = list(table.cat_names)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise BadValue(
            f"there is no categorical column {', '.join(map(repr, unknown))}",
            expected=", ".join(map(repr, names)),
            fix="emb_szs={column: length}",
        )
    if names and not hasattr(table, "classes"):
        raise not_encoded(names[0])
    levels = {name: len(table.classes[name]) for name in names}
    return [(n, checked_size(f"emb_szs[{name!r}]", given.get(name, emb_sz_rule(n)))) for name, n in levels.items()]


class Inputs(Module):
    """Base of models of tables: concatenates the embeddings of the codes and the numbers, one vector per row.

    Args:
        emb_szs: (levels, length of the vectors) of each categorical column.
        n_cont: The number of continuous columns.
        embed_p: The dropout probability of the embeddings.
        bn_cont: Whether the continuous columns go through batch norm.

    Raises:
        BadValue: If there are neither embeddings nor continuous columns.
    """

    def __init__(self, emb_szs: Sizes, n_cont: int, embed_p: float = 0.0, bn_cont: bool = True) -> None:
        self.embeds = nn.ModuleList([Embedding(ni, nf) for ni, nf in emb_szs])
        self.emb_drop = nn.Dropout(checked_share("embed_p", embed_p))
        self.bn_cont = nn.BatchNorm1d(n_cont) if bn_cont and n_cont else None
        self.n_cont, self.size = n_cont, sum(nf for _, nf in emb_szs) + n_cont
        if not self.size:
            raise BadValue("the model has no inputs", got="no embeddings, n_cont=0", fix="name cat_names or cont_names")

    def mute_constant(self, numbers: Tensor) -> None:
        """Start batch norm of columns with a single value in training at the weight 0, which gradients of such data keep.

        Their variance is 0, so another value at prediction would otherwise count a few hundred times too much.

        Args:
            numbers: The numbers of the training rows: float [row, number].
        """
        if self.bn_cont is not None and len(numbers):
            hidden = 0.01 * self.bn_cont.eps**0.5  # differences that batch norm would shrink to less than 0.01
            is_constant = numbers.amax(0) - numbers.amin(0) <= hidden
            self.bn_cont.weight.data[is_constant.to(self.bn_cont.weight.device)] = 0.0

    def inputs(self, x_cat: Tensor, x_cont: Tensor | None = None) -> Tensor:
        """The vector of each row: float [batch, size].

        Args:
            x_cat: Codes, int64 [batch, category].
            x_cont: Numbers, float [batch, number]; not used if there are no continuous columns.

        Raises:
            BadArgument: If the shapes do not match the model.
            BadValue: If batch norm is trained on a single row.
        """
        if self.training and len(x_cat) == 1 and any(isinstance(part, nn.BatchNorm1d) for part in self.modules()):
            raise BadValue(
                "batch norm cannot be trained on a batch of one row",
                expected="at least two rows, as it takes their mean and variance",
                fix="drop_last=True leaves out a last batch of one row; a larger bs, where it is 1",
            )
        check_codes(x_cat, len(self.embeds))
        check_numbers(x_cont, self.n_cont)
        parts = []
        if len(self.embeds):  # of no codes, torch.export.load could not read `unbind`
            vectors = [embed(code) for embed, code in zip(self.embeds, x_cat.unbind(1), strict=True)]
            parts.append(self.emb_drop(torch.cat(vectors, 1)))
        if self.n_cont and x_cont is not None:
            parts.append(self.numbers_of(x_cont))
        return torch.cat(parts, 1)

    def numbers_of(self, x_cont: Tensor) -> Tensor:
        """The numbers in the form that the layers take: float [batch, …].

        Args:
            x_cont: float [batch, number].
        """
        return x_cont if self.bn_cont is None else self.bn_cont(x_cont)


@modules.register("tabular.TabularModel")
class TabularModel(Inputs):
    """An MLP on embeddings and numbers. Each hidden layer is linear, activation, batch norm, dropout; the last is linear.

    Args:
        emb_szs: (levels, length of the vectors) of each categorical column: `get_emb_sz(dls)`.
        n_cont: The number of continuous columns.
        out_sz: The number of outputs.
        layers: The width of each hidden layer; a single number for one layer.
        ps: The dropout probability after each hidden layer: one for all, or a list with one for each; 0 by default.
        embed_p: The dropout probability of the embeddings.
        y_range: (low, high) that a scaled sigmoid maps the outputs into; None leaves them unbounded.
        use_bn: Whether the hidden layers have batch norm, which replaces their bias.
        bn_final: Whether the output layer has batch norm too.
        bn_cont: Whether the continuous columns go through batch norm first.
        act_cls: The activation: a class, called once for each layer, or a module, shared by all.
        lin_first: Whether a layer begins with its linear part (True) or with batch norm and dropout.

    Raises:
        BadArgument: If an argument has the wrong type.
        BadValue: If a size is below 1, a probability is outside [0, 1], `ps` has the wrong length, or there are no
            inputs.

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
            raise BadValue(
                "ps needs one probability for each layer", got=f"ps={drops} with layers={widths}", fix="ps=0.1 for all"
            )
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
    """Options of the model, for `tabular_learner(config=…)`.

    Args:
        kwargs: `ps`, `embed_p`, `y_range`, `use_bn`, `bn_final`, `bn_cont`, `act_cls`, `lin_first`, as `TabularModel`
            takes them.

    Returns:
        The options as a dict.

    Raises:
        BadArgument: For an unknown option.

    Examples:
        >>> tabular_config(ps=[0.1, 0.2], embed_p=0.04)
        {'ps': [0.1, 0.2], 'embed_p': 0.04}
    """
    refuse_unknown(kwargs, CONFIG, "tabular_config")
    return kwargs
