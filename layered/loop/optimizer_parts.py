"""The optimizer of a loop, or several of them by name: one for each part of the model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from layered.foundation import BadArgument, BadValue, CannotTrain, describe, tensors_of, unknown_name
from layered.optim import (
    Adam,
    GroupedOptimizer,
    HyperValue,
    Optimizer,
    OptimWrapper,
    as_groups,
    discriminative,
    force_train,
    mark_no_decay,
    optimizer_named,
)

OptFunc: TypeAlias = Callable[..., torch.optim.Optimizer]
Rate: TypeAlias = HyperValue | Mapping[str, HyperValue]
"""A learning rate: a number, a slice over the parameter groups, or a dict of these by optimizer."""


def usual_optimizer(params: Any, lr: HyperValue) -> GroupedOptimizer:
    """Adam: what a learner has that was given no optimizer, unless its model brings one.

    Args:
        params: The parameters.
        lr: The learning rate.
    """
    return Adam(params, lr=lr)


class Optimizers:
    """Several optimizers by name, saved, frozen and scheduled as one: `learn.opt["critic"]`.

    Attributes:
        hypers: Those of all, one after the other.
        param_groups: Those of all, one after the other.
        param_lists: Those of all, one after the other.
        frozen_idx: Of each, by name.
    """

    def __init__(self, opts: Mapping[str, GroupedOptimizer]) -> None:
        self.opts = dict(opts)

    def __getitem__(self, name: str) -> GroupedOptimizer:
        if name not in self.opts:
            raise unknown_name("optimizer", name, self.opts)
        return self.opts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.opts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for opt in self.opts.values() for group in opt.param_groups]

    @property
    def param_lists(self) -> list[list[Tensor]]:
        return [plist for opt in self.opts.values() for plist in opt.param_lists]

    @property
    def hypers(self) -> list[Any]:
        return [hyper for opt in self.opts.values() for hyper in opt.hypers]

    @property
    def frozen_idx(self) -> dict[str, int]:
        return {name: opt.frozen_idx for name, opt in self.opts.items()}

    def set_hyper(self, name: str, value: Rate) -> None:
        """Set one hyper-parameter of all groups; `value` as in `spread`."""
        set_spread(self, name, value)

    def set_hypers(self, **values: Rate) -> None:
        """Set several: `opt.set_hypers(lr={"gen": 1e-4, "critic": 4e-4}, wd=0.01)`."""
        for name, value in values.items():
            self.set_hyper(name, value)

    def freeze_to(self, n: int | Mapping[str, int]) -> None:
        """Freeze each to its group `n`, or to what a dict says."""
        for name, opt in self.opts.items():
            opt.freeze_to(n[name] if isinstance(n, Mapping) else n)

    def step(self) -> None:
        """A step of each."""
        for opt in self.opts.values():
            opt.step()

    def zero_grad(self) -> None:
        """Clear the gradients of all."""
        for opt in self.opts.values():
            opt.zero_grad()

    def train(self) -> None:
        """Put the weights to train into the model, for optimizers that keep two kinds."""
        for opt in self.opts.values():
            opt.train()

    def eval(self) -> None:
        """Put the weights to predict with into the model."""
        for opt in self.opts.values():
            opt.eval()

    def clear_state(self) -> None:
        """Forget all statistics and step counts."""
        for opt in self.opts.values():
            opt.clear_state()

    def state_dict(self) -> dict[str, Any]:
        """The state of each, by name."""
        return {name: opt.state_dict() for name, opt in self.opts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned: all of it, or nothing.

        Raises:
            BadValue: For the state of other optimizers.
        """
        if set(state) != set(self.opts):
            raise BadValue("the state is that of other optimizers", got=", ".join(state), expected=", ".join(self.opts))
        old = {name: copy.deepcopy(opt.state_dict()) for name, opt in self.opts.items()}
        try:
            for name, opt in self.opts.items():
                opt.load_state_dict(state[name])
        except Exception:
            for name, opt in self.opts.items():
                opt.load_state_dict(old[name])
            raise

    def __repr__(self) -> str:
        return f"Optimizers({self.opts})"


def optimizer_recipe(opt: torch.optim.Optimizer | Optimizers) -> dict[str, Any]:
    """What an optimizer does, as plain data: a saved state fits an optimizer of the same recipe."""
    if isinstance(opt, Optimizers):
        return {name: optimizer_recipe(one) for name, one in opt.opts.items()}
    inner = opt.opt if isinstance(opt, OptimWrapper) else opt
    steps = [*inner.cbs, *chain.from_iterable(inner.kinds.values())] if isinstance(inner, Optimizer) else []
    steps = [step.func if isinstance(step, partial) else step for step in steps]
    return {
        "kind": type(inner).__qualname__,
        "steps": [
            (step if inspect.isroutine(step) or isinstance(step, type) else type(step)).__qualname__ for step in steps
        ],
        "hypers": {name: repr(value) for name, value in inner.defaults.items() if name != "lr"},
        "sizes": [len(group["params"]) for group in inner.param_groups],
    }


def spread(opt: GroupedOptimizer | Optimizers, value: Rate, name: str = "a hyperparameter") -> list[float]:
    """One value for each parameter group of `opt`: as in `discriminative`, or a dict by optimizer where there are several.

    Raises:
        BadValue: Where a dict leaves an optimizer out, or names one that does not exist.
    """
    if not isinstance(value, Mapping):
        return discriminative(value, len(opt.hypers), name)
    opts = opt.opts if isinstance(opt, Optimizers) else {}
    if set(value) != set(opts):
        raise BadValue(
            "the values do not name the optimizers", got=", ".join(value), expected=", ".join(opts) or "a number"
        )
    return [one for key in opts for one in discriminative(value[key], len(opts[key].hypers), name)]


def set_spread(opt: GroupedOptimizer | Optimizers, name: str, value: Rate) -> None:
    """Set one hyper-parameter of all groups to what `spread` makes of `value`."""
    for hyper, one in zip(opt.hypers, spread(opt, value, name), strict=True):
        hyper[name] = one


def create_opt(
    model: nn.Module,
    opt_func: OptFunc | Mapping[str, OptFunc],
    lr: Rate,
    splitter: Callable[[nn.Module], Any],
    *,
    wd_bn_bias: bool,
    train_bn: bool,
) -> GroupedOptimizer | Optimizers:
    """A fresh optimizer over the splitter's groups; norm layers and biases as `wd_bn_bias` and `train_bn` say.

    Where `opt_func` is a dict, one for each part of the model that it names.
    """

    def make(part: nn.Module, opt_func: OptFunc, lr: Rate) -> GroupedOptimizer:
        groups = list(splitter(part)) or [[]]
        maker = opt_func.func if isinstance(opt_func, partial) else opt_func
        is_torchs = isinstance(maker, type) and not issubclass(maker, GroupedOptimizer)
        opt = OptimWrapper(groups, opt=opt_func, lr=lr) if is_torchs else _made_by(opt_func, groups, lr)
        check_opt(opt)
        opt.adapt_to(part)
        if not wd_bn_bias:
            mark_no_decay(opt, part)
        if train_bn:
            force_train(opt, part)
        return opt

    opt_func = checked_opt_func(opt_func)
    if not isinstance(opt_func, Mapping):
        return make(model, opt_func, lr)
    parts = {name: _part(model, name) for name in opt_func}
    covered = {p for part in parts.values() for p in part.parameters()}
    left = [name for name, p in model.named_parameters() if p.requires_grad and p not in covered]
    if left:
        raise CannotTrain(
            "some parameters of the model belong to no optimizer",
            got=", ".join(left[:5]),
            expected=f"parameters of {', '.join(parts)}",
            fix="name their part in opt_func too, or freeze them: part.requires_grad_(False)",
        )
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(parts, lr)
    return Optimizers({name: make(part, opt_func[name], rates[name]) for name, part in parts.items()})


def _made_by(opt_func: OptFunc, groups: list[Any], lr: Rate) -> GroupedOptimizer:
    """What a function makes of the groups; an optimizer of torch is wrapped, and gets the groups in torch's form."""
    try:
        opt = opt_func(groups, lr=lr)
    except TypeError as error:
        if "one of the params is list" not in str(error):
            raise
        opt = opt_func(as_groups(groups), lr=lr)
    if isinstance(opt, torch.optim.Optimizer):
        return opt if isinstance(opt, GroupedOptimizer) else OptimWrapper(opt=opt)
    raise BadArgument(
        "opt_func must return an optimizer",
        got=describe(opt),
        fix="opt_func=lambda params, lr: torch.optim.SGD(params, lr=lr)",
    )


def checked_opt_func(opt_func: object) -> OptFunc | Mapping[str, OptFunc]:
    """What makes an optimizer, also by its name, or a dict of these.

    Raises:
        BadArgument: If it is something else: a built optimizer, or one that must evaluate the loss itself.
        UnknownName: If there is no optimizer of that name.
    """
    if isinstance(opt_func, Mapping):
        return {name: checked_opt_func(one) for name, one in opt_func.items()}  # type: ignore[misc]
    if isinstance(opt_func, str):
        return checked_opt_func(optimizer_named(opt_func))
    if isinstance(opt_func, torch.optim.Optimizer):
        name = type(opt_func).__name__
        raise BadArgument(
            "opt_func makes the optimizer, and this one is built already",
            got=f"an object of {name}",
            expected="its class, or a function of (parameters, lr=…)",
            fix=f"opt_func={name}, with settings partial({name}, …); or learn.opt = OptimWrapper(opt=…) afterwards",
        )
    maker = opt_func.func if isinstance(opt_func, partial) else opt_func
    if not callable(maker) or isinstance(maker, nn.Module) or _is_other_class(maker):
        raise BadArgument(
            "opt_func must make an optimizer",
            got=describe(opt_func),
            expected="a name, an optimizer's class, or a function of (parameters, lr=…)",
            fix="opt_func=Adam",
        )
    if isinstance(maker, type):
        _check_step(maker)
    return opt_func  # type: ignore[return-value]  # whatever else it is, it can be called


def check_opt(opt: object) -> None:
    """Refuse an optimizer that a fit cannot use.

    Args:
        opt: What a function has made, or what was set by hand.

    Raises:
        BadArgument: It must evaluate the loss itself, or is one of torch's and not wrapped.
    """
    if isinstance(opt, torch.optim.Optimizer) and not isinstance(opt, GroupedOptimizer):
        raise BadArgument(
            "an optimizer of torch has no parameter groups that can be frozen",
            got=f"an object of {type(opt).__name__}",
            fix="learn.opt = OptimWrapper(opt=…)",
        )
    _check_step(type(opt.opt if isinstance(opt, OptimWrapper) else opt))


def _is_other_class(maker: object) -> bool:
    return isinstance(maker, type) and not issubclass(maker, torch.optim.Optimizer)


def _check_step(kind: type) -> None:
    """Refuse an optimizer whose step needs a closure, which evaluates the loss."""
    parameter = inspect.signature(kind.step).parameters.get("closure")  # type: ignore[attr-defined]
    if parameter is not None and parameter.default is parameter.empty:
        raise BadArgument(
            f"{kind.__name__} evaluates the loss several times in a step, which a fit does once for each batch",
            fix='another optimizer, such as opt_func="adam"; or a loop by hand: opt.step(closure)',
        )


def wanted_params(
    model: nn.Module, opt_func: OptFunc | Mapping[str, OptFunc], splitter: Callable[[nn.Module], Any]
) -> list[Tensor]:
    """The parameters that `create_opt` gives to the optimizer, or optimizers."""
    parts = [_part(model, name) for name in opt_func] if isinstance(opt_func, Mapping) else [model]
    groups = [group for part in parts for group in splitter(part)]
    return list(tensors_of([group if isinstance(group, (Tensor, Mapping, tuple)) else list(group) for group in groups]))


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise unknown_name("part of the model", name, (n for n, _ in model.named_children())) from None


def lr_of(opt_func: OptFunc | Mapping[str, OptFunc], lr: float | slice) -> float | slice | Mapping[str, float | slice]:
    """The rate that a partial of an optimizer holds, else `lr`; of a dict of them, one each by name."""
    if isinstance(opt_func, Mapping):
        return {name: _held_lr(one, lr) for name, one in opt_func.items()}
    return _held_lr(opt_func, lr)


def _held_lr(opt_func: OptFunc, lr: float | slice) -> float | slice:
    return opt_func.keywords.get("lr", lr) if isinstance(opt_func, partial) else lr
