"""The optimizer of a model that may have changed since the optimizer was made."""

from __future__ import annotations

from collections.abc import Mapping

from layered.foundation import warn
from layered.loop.optimizer_parts import Optimizers, check_opt, lr_of, wanted_params
from layered.loop.state import AbstractLoop
from layered.optim import GroupedOptimizer


def use_current_opt(loop: AbstractLoop) -> None:
    """Make the optimizer of a loop where there is none, and make it again where it does not fit the loop any more.

    After a new `opt_func` it is made from scratch. Where the model has got new parameters, from a replaced layer or because
    they were thawed, it is made with them; parameters that stay keep their statistics, and frozen groups stay frozen. An
    optimizer that was set by hand is left alone, with a warning about the parameters that it does not hold.
    """
    opt = loop.opt
    if opt is None:
        loop.create_opt()
        return
    check_opt(opt)
    made, opt_func, splitter = loop.made_opt
    if made is opt and opt_func is not loop.opt_func:
        if not isinstance(loop.lr, Mapping):
            loop.lr = lr_of(loop.opt_func, loop.lr)
        loop.create_opt()
        return
    held = {p for plist in opt.param_lists for p in plist}
    missing = {p for p in wanted_params(loop.model, loop.opt_func, loop.splitter) if p not in held}
    if made is opt and (missing or splitter is not loop.splitter):
        loop.create_opt()
        _carry_over(opt, loop.opt)
    elif missing:
        names = [name for name, p in loop.model.named_parameters() if p in missing and p.requires_grad]
        if names:
            warn(
                f"the optimizer does not hold {len(names)} parameters of the model, which will not learn: "
                f"{', '.join(names[:5])}; it was set by hand: learn.create_opt() makes one that holds them"
            )


def _carry_over(old: GroupedOptimizer | Optimizers, new: GroupedOptimizer | Optimizers) -> None:
    """Give a new optimizer the settings, the frozen groups and the statistics of one of the same kind."""
    if isinstance(old, Optimizers) or isinstance(new, Optimizers):
        if isinstance(old, Optimizers) and isinstance(new, Optimizers):
            for name in old.opts.keys() & new.opts.keys():
                _carry_over(old[name], new[name])
        return
    if len(old.param_groups) == len(new.param_groups):
        for own, group in zip(new.param_groups, old.param_groups, strict=True):
            own.update({name: value for name, value in group.items() if name not in ("params", "param_names")})
        if old.frozen_idx:
            new.freeze_to(old.frozen_idx)
    held = {p for plist in new.param_lists for p in plist}
    new.state.update({p: state for p, state in old.state.items() if p in held})
