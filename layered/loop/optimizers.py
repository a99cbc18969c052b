"""The optimizer of a loop, or several of them by name: one for each part of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from layered.foundation import BadValue, CannotTrain, unknown_name
from layered.loop.events import CancelBatchException
from layered.optim import GroupedOptimizer, OptimWrapper, discriminative, force_train, mark_no_decay


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

    def set_hyper(self, name: str, value: Any) -> None:
        """Set one hyper-parameter of all groups; `value` as in `spread`."""
        for hyper, one in zip(self.hypers, spread(self, value), strict=True):
            hyper[name] = one

    def set_hypers(self, **values: Any) -> None:
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
        """Put the weights that are trained into the model, where an optimizer tells two kinds apart."""
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
        """Put back what `state_dict` gave: all of it, or nothing.

        Raises:
            BadValue: For the state of other optimizers.
        """
        if set(state) != set(self.opts):
            raise BadValue("the state is of other optimizers", got=", ".join(state), expected=", ".join(self.opts))
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


def recipe_of(opt: Any) -> Any:
    """What an optimizer does, as plain data: by which it is seen whether a saved state is of one like it."""
    if isinstance(opt, Optimizers):
        return {name: recipe_of(one) for name, one in opt.opts.items()}
    inner = getattr(opt, "opt", opt)  # what a wrapper holds
    steps = [getattr(step, "func", step) for step in getattr(inner, "cbs", ())]
    return {
        "kind": type(inner).__qualname__,
        "steps": [getattr(step, "__qualname__", type(step).__qualname__) for step in steps],
        "hypers": {name: repr(value) for name, value in inner.defaults.items() if name != "lr"},
        "sizes": [len(group["params"]) for group in inner.param_groups],
    }


def spread(opt: Any, value: Any) -> list[Any]:
    """One value for each parameter group of `opt`: as in `discriminative`, or a dict by optimizer where there are several.

    Raises:
        BadValue: Where a dict leaves one out.
    """
    if not isinstance(value, Mapping):
        return discriminative(value, len(opt.hypers))
    names = set(opt) if isinstance(opt, Optimizers) else set()
    if set(value) != names:
        raise BadValue(
            "the values are of other optimizers", got=", ".join(value), expected=", ".join(names) or "a number"
        )
    return [one for name in opt for one in discriminative(value[name], len(opt[name].hypers))]


def create_opt(loop: Any) -> Any:
    """A fresh optimizer over the splitter's groups; norm layers and biases as `wd_bn_bias` and `train_bn` say.

    Where `opt_func` is a dict, one for each part of the model that it names.
    """
    if not isinstance(loop.opt_func, Mapping):
        return _optimizer(loop, loop.model, loop.opt_func, loop.lr)
    parts = {name: _part(loop.model, name) for name in loop.opt_func}
    covered = {p for part in parts.values() for p in part.parameters()}
    left = [name for name, p in loop.model.named_parameters() if p.requires_grad and p not in covered]
    if left:
        raise CannotTrain(
            "some parameters of the model belong to no optimizer",
            got=", ".join(left[:5]),
            expected=f"parameters of {', '.join(parts)}",
            fix="name their part in opt_func too, or freeze them: part.requires_grad_(False)",
        )
    return Optimizers(
        {name: _optimizer(loop, part, loop.opt_func[name], loop.lr[name]) for name, part in parts.items()}
    )


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise unknown_name("part of the model", name, (n for n, _ in model.named_children())) from None


def _optimizer(loop: Any, model: nn.Module, opt_func: Callable[..., Any], lr: Any) -> GroupedOptimizer:
    groups = list(loop.splitter(model)) or [[]]
    maker = getattr(opt_func, "func", opt_func)
    is_torchs = isinstance(maker, type) and not issubclass(maker, GroupedOptimizer)
    make = partial(OptimWrapper, opt=opt_func) if is_torchs else opt_func
    opt: GroupedOptimizer = make(groups, lr=lr)
    if not loop.wd_bn_bias:
        mark_no_decay(opt, model)
    if loop.train_bn:
        force_train(opt, model)
    return opt


def lr_of(opt_func: Any, lr: Any) -> Any:
    """The rate that a partial of an optimizer holds, else `lr`; of a dict of them, one each by name."""
    if isinstance(opt_func, Mapping):
        return {name: lr_of(one, lr) for name, one in opt_func.items()}
    return getattr(opt_func, "keywords", {}).get("lr", lr)


def minimize_with(loop: Any, name: str, loss: Any) -> Any:
    """`loop.minimize(loss)` with one of several optimizers: only its parameters get gradients and are stepped.

    Meanwhile `loop.opt` is that optimizer, and a `CancelBatchException` ends its turn, not the batch.
    """
    if not isinstance(loop.opt, Optimizers):
        raise BadValue(
            "there is one optimizer, which has no name",
            got=f"minimize(loss, '{name}')",
            fix=f"minimize(loss), or opt_func={{'{name}': Adam, …}}",
        )
    all_of_them, loop.opt = loop.opt, loop.opt[name]
    loop.learning = [p for plist in loop.opt.param_lists for p in plist if p.requires_grad]
    try:
        loop.minimize(loss)
    except CancelBatchException:
        pass
    finally:
        loop.opt, loop.learning = all_of_them, None
    return loop.loss
