"""Parameter groups: which parameters are in which group, their hyperparameters, what is frozen, what escapes weight decay."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, OutOfRange, has_sharded, shard_like, warn
from layered.optim.hypers import Hypers

norm_types: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,  # BatchNorm1d … 3d, SyncBatchNorm, InstanceNorm1d … 3d
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
FLAGS = ("do_wd", "force_train", "kind")

Params: TypeAlias = Tensor | Iterable[Tensor | tuple[str, Tensor] | Iterable[Tensor] | Mapping[str, Any]]
"""What an optimizer accepts as parameters: see `as_groups`."""

HyperValue: TypeAlias = float | slice | Iterable[float] | Tensor
"""A hyperparameter of all groups: see `discriminative`."""


def params(model: nn.Module) -> list[nn.Parameter]:
    """All parameters of `model`: a splitter into one group.

    Args:
        model: Any module.
    """
    return list(model.parameters())


def trainable_params(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of `model` that require a gradient: a splitter into one group.

    Args:
        model: Any module.

    Examples:
        >>> len(trainable_params(nn.Linear(2, 3)))
        2
    """
    return [p for p in model.parameters() if p.requires_grad]


def norm_bias_params(model: nn.Module, with_bias: bool = True) -> list[nn.Parameter]:
    """The parameters of the normalisation layers of `model`, and its biases.

    Args:
        model: Any module.
        with_bias: Include every bias as torch names them: `bias`, and those of recurrent and attention layers
            (`bias_ih_l0`, `in_proj_bias`, …).

    Examples:
        >>> [tuple(p.shape) for p in norm_bias_params(nn.Sequential(nn.Linear(2, 3), nn.GroupNorm(1, 3)))]
        [(3,), (3,), (3,)]
    """
    found = {
        p: None
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if isinstance(module, norm_types)
        or (with_bias and (name in ("bias", "in_proj_bias") or name.startswith("bias_")))
    }
    return list(found)


def discriminative(value: HyperValue, n: int, name: str = "a hyperparameter") -> list[float]:
    """The value of a hyperparameter for each of `n` groups.

    Args:
        value: A number is used for all groups; a list or array has one value for each (or a single one for all);
            slice(a, b) is geometric from a to b; slice(b) is b for the last group and b / 10 for the others.
        n: Number of groups.
        name: What error messages call the hyperparameter.

    Raises:
        BadValue: There are not `n` values, or a value is not a number.

    Examples:
        >>> discriminative(slice(1.0, 100.0), 3), discriminative(slice(0.5), 3)
        ([1.0, 10.0, 100.0], [0.05, 0.05, 0.5])
    """
    if isinstance(value, slice):
        first, last = value.start, value.stop
        if last is None or value.step is not None:
            raise BadValue(
                "a slice of rates needs an end and no step", got=value, expected="slice(1e-3) or slice(1e-5, 1e-3)"
            )
        if first is None:
            return [last / 10] * (n - 1) + [last]
        return [first * (last / first) ** (i / (n - 1)) for i in range(n - 1)] + [last]
    if isinstance(value, _ARRAYS):
        value = value.tolist()
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    values = [one.tolist() if isinstance(one, _ARRAYS) else one for one in values]
    if len(values) not in (1, n):
        raise BadValue(
            "the number of values does not match the number of parameter groups",
            got=f"{len(values)} values: {values}",
            expected=f"1 or {n}",
            fix="use a slice, e.g. slice(1e-5, 1e-3), to spread a range over all groups",
        )
    for one in values:
        if not isinstance(one, Real):
            raise BadValue(
                f"{name} is not a number", got=repr(one), expected="a number, a slice, or one number for each group"
            )
    return values * n if len(values) == 1 else values


_ARRAYS = (Tensor, np.ndarray, np.generic)


def as_groups(params: Params, **hypers: HyperValue) -> list[dict[str, Any]]:
    """Parameter groups in torch's form: a dict for each, with "params" and hyperparameters.

    Args:
        params: A tensor, an iterable of tensors (one group), an iterable of such iterables (a group each), or an iterable
            of mappings with "params" and hyperparameters, which take precedence over `hypers`.
        hypers: Values as for `discriminative`: lr=slice(1e-5, 1e-3).

    Raises:
        BadArgument: `params` is a model, or not iterable.
        BadValue: There are no parameters, or tensors and groups are mixed.
    """
    if isinstance(params, nn.Module):
        raise BadArgument("an optimizer takes parameters, not a model", got=type(params), fix="model.parameters()")
    if not isinstance(params, Iterable):
        raise BadArgument("an optimizer takes parameters", got=repr(params), fix="model.parameters()")
    items: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    if not items:
        raise BadValue(
            "the optimizer got no parameters",
            expected="tensors, or groups of tensors",
            fix="an iterator such as model.parameters() is exhausted after one pass: make a new one",
        )
    groups = _split(items)
    spread = {name: discriminative(value, len(groups), name) for name, value in hypers.items()}
    return [{name: values[i] for name, values in spread.items()} | group for i, group in enumerate(groups)]


def _split(items: list[Any]) -> list[dict[str, Any]]:
    if all(isinstance(item, Mapping) for item in items):
        return [dict(item) for item in items]
    loose = [isinstance(item, Tensor) or _is_named(item) for item in items]
    if all(loose):
        return [{"params": items}]
    if any(loose):
        raise BadValue("tensors and groups are mixed", expected="either tensors, or groups of tensors")
    return [{"params": list(group)} for group in items]


def _is_named(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


Entry: TypeAlias = tuple[Tensor, list[Tensor], dict[str, Any], Hypers]


class GroupedOptimizer(torch.optim.Optimizer):
    """A torch optimizer whose groups can be frozen and have different hyperparameters.

    Attributes:
        param_groups: Torch's own: for each group a dict with its `params` and hyperparameters; schedulers may write to it.
        param_lists: The parameters of each group.
        hypers: The hyperparameters of each group: `opt.hypers[-1]["lr"]`.
        frozen_idx: The groups before this one are frozen.
        train_bn: Parameters flagged `force_train` keep training in frozen groups.
    """

    frozen_idx: int = 0
    train_bn: bool = True

    @abstractmethod
    def flags(self, param: Tensor) -> dict[str, Any]:
        """The dict that holds the flags `do_wd` and `force_train` of a parameter; may be changed in place."""

    @property
    def param_lists(self) -> list[list[Tensor]]:
        return [group["params"] for group in self.param_groups]

    @property
    def hypers(self) -> list[Hypers]:
        return [Hypers(group) for group in self.param_groups]

    def adapt_to(self, model: nn.Module) -> None:
        """Take account of what the parameters are in their model. A `Learner` calls it with each new optimizer.

        Args:
            model: The model whose parameters the optimizer has.
        """

    def set_hyper(self, name: str, value: HyperValue) -> None:
        """Set one hyperparameter of all groups.

        Args:
            name: The hyperparameter; one that no step reads is kept too.
            value: As for `discriminative`.
        """
        self.set_hypers(**{name: value})

    def set_hypers(self, **values: HyperValue) -> None:
        """Set several hyperparameters, or none if a value is invalid: `opt.set_hypers(lr=slice(1e-5, 1e-3), mom=0.9)`.

        Args:
            values: As for `discriminative`.
        """
        spread = {name: discriminative(value, len(self.param_groups), name) for name, value in values.items()}
        for i, hyper in enumerate(self.hypers):
            hyper.update({name: values[i] for name, values in spread.items()})

    def all_params(self, n: slice | int = slice(None), with_grad: bool = False) -> list[Entry]:
        """(parameter, the list of its group, its state, its hyperparameters) for each parameter.

        Args:
            n: Which groups.
            with_grad: Only parameters that have a gradient.
        """
        groups = list(zip(self.param_lists, self.hypers, strict=True))
        chosen = groups[n] if isinstance(n, slice) else [groups[n]]
        return [
            (p, plist, self.state[p], hyper)
            for plist, hyper in chosen
            for p in plist
            if not with_grad or p.grad is not None
        ]

    def freeze_to(self, n: int) -> None:
        """Train the groups from `n` on and freeze those before it. Clears the statistics.

        Args:
            n: Index of a group; negative from the end. The number of groups freezes all of them, with a warning.

        Raises:
            OutOfRange: There are fewer groups than `n`.
        """
        n, count = operator.index(n), len(self.param_groups)
        if not -count <= n <= count:
            raise OutOfRange(f"cannot freeze to group {n}", got=f"{count} groups", expected=f"-{count} to {count}")
        self.frozen_idx = n % count if n < 0 else n
        if self.frozen_idx == count:
            warn(f"all {count} parameter groups are frozen: nothing will train")
        for i, plist in enumerate(self.param_lists):
            for p in plist:
                trains = i >= self.frozen_idx or (self.train_bn and self.flags(p).get("force_train", False))
                p.requires_grad_(trains)
                if not trains:
                    p.grad = None
        self.clear_state()

    def freeze(self) -> None:
        """Train the last group only."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train all groups."""
        self.freeze_to(0)

    def train(self) -> None:
        """Switch the model to the weights it trains with, for optimizers that keep two kinds of weights."""

    def eval(self) -> None:
        """Switch the model to the weights it predicts with, for optimizers that keep two kinds of weights."""

    def clear_state(self) -> None:
        """Forget all statistics and step counts; the flags stay."""
        kept = {p: {f: s[f] for f in FLAGS if f in s} for p, s in self.state.items()}
        self.state.clear()
        self.state.update({p: flags for p, flags in kept.items() if flags})


def mark_no_decay(opt: GroupedOptimizer, model: nn.Module, with_bias: bool = True) -> None:
    """Exempt the normalisation layers and biases of `model` (see `norm_bias_params`) from weight decay.

    Args:
        opt: Its flags are set.
        model: The model that `opt` trains.
        with_bias: Exempt the biases too.
    """
    _flag(opt, norm_bias_params(model, with_bias), do_wd=False)


def force_train(opt: GroupedOptimizer, model: nn.Module) -> None:
    """Keep the normalisation layers of `model` training in frozen groups.

    Args:
        opt: Its flags are set.
        model: The model that `opt` trains.
    """
    _flag(opt, norm_bias_params(model, with_bias=False), force_train=True)


def _flag(opt: GroupedOptimizer, chosen: Iterable[Tensor], **flags: bool) -> None:
    held = {p for plist in opt.param_lists for p in plist}
    for p in chosen:
        if p in held:
            opt.flags(p).update(flags)


def shard_state(opt: GroupedOptimizer, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """A saved state whose whole tensors are sharded as the parameters that they belong to.

    Args:
        opt: The optimizer that will load it.
        state_dict: With "state" and "param_groups".
    """
    params = [p for plist in opt.param_lists for p in plist]
    if not has_sharded(params):
        return state_dict
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    owners = dict(zip(numbers, params, strict=False))
    state = {
        number: {
            name: shard_like(x, p) if isinstance(x, Tensor) and p is not None and x.shape == p.shape else x
            for name, x in entry.items()
        }
        for number, entry in state_dict["state"].items()
        for p in [owners.get(number)]
    }
    return {**state_dict, "state": state}
