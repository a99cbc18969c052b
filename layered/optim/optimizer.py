"""The optimizer: statistics, then steps, driven over slabs of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue, nearest
from layered.optim.groups import GroupedOptimizer, as_groups, discriminative
from layered.optim.hypers import check_hypers
from layered.optim.update import PIECE_BYTES, Keeps, Slab, Update, as_update, declared, named_by
from layered.optim.wrappers import from_torch

KNOWN_HYPERS = {"lr", "mom", "sqr_mom", "eps", "wd"}
"""Hyper-parameters that any step may read without declaring them."""


class Optimizer(GroupedOptimizer):
    """Parameters, what is remembered about each, and the updates that one step runs over them, in the order given.

    `opt.state[p]` holds all that is known about a parameter: its statistics, `count` (steps taken) and the flags
    `do_wd` and `force_train`. Slabs are drawn up from it anew at each step, so it may be changed at any time.

    A new one, the sign of the momentum, from a known statistic and a step of its own:

    Args:
        params: Tensors, groups of tensors, or torch's dicts (see `groups.as_groups`).
        cbs: The updates, first in the order. An update is - for slabs: a callable whose first parameter is named
            `slab` (see `stats` and `steppers`); - for one tensor: any other callable `f(p, lr, **kwargs)`. It gets
            the parameter, its state and its hyper-parameters by name; a dict that it returns updates the parameter's
            state (a tensor is ignored). The decorators in `update` declare what it keeps, and first values of
            hyper-parameters.
        stats: More updates, after `cbs`.
        steps: More updates, after `stats`.
        defaults: First values of hyper-parameters: lr=, mom=, ….

    Examples:
        >>> def step_down(p, lr, **kwargs):
        ...     p.data.add_(p.grad, alpha=-lr)
        >>> w = torch.ones(2, requires_grad=True); w.sum().backward()
        >>> Optimizer([w], cbs=[step_down], lr=0.5).step(); w.tolist()
        [0.5, 0.5]

        >>> from layered.optim.stats import average_grad
        >>> def sign_step(slab):
        ...     torch._foreach_add_(slab.params, torch._foreach_sign(slab["grad_avg"]), alpha=-slab.hyper["lr"])
        >>> Optimizer([w], cbs=[average_grad, sign_step], lr=0.25, mom=0.9).step(); w.tolist()
        [0.25, 0.25]
    """

    def __init__(
        self,
        params: Any,
        cbs: Iterable[Any] | Callable[..., Any] | None = None,
        *,
        stats: Iterable[Any] = (),
        steps: Iterable[Any] = (),
        train_bn: bool = True,
        **defaults: Any,
    ) -> None:
        self.cbs = [*([cbs] if callable(cbs) else cbs or ()), *stats, *steps]
        self.updates: list[Update] = [as_update(cb) for cb in self.cbs]
        self.keeps: Keeps = {name: begin for cb in self.cbs for name, begin in declared(cb, "keeps", {}).items()}
        hypers = {name: value for cb in self.cbs for name, value in declared(cb, "defaults", {}).items()}
        own_names = hypers.keys() | named_by(self.updates) | KNOWN_HYPERS
        _refuse_misspelt({k: v for k, v in defaults.items() if k not in own_names}, hypers.keys() - defaults.keys())
        hypers |= defaults
        groups = as_groups(params, **hypers)
        super().__init__(groups, {name: discriminative(value, len(groups))[-1] for name, value in hypers.items()})
        for hyper in self.hypers:
            check_hypers(hyper)
        self.train_bn = train_bn
        _refuse_complex(self.param_lists)

    def flags(self, param: Tensor) -> dict[str, Any]:
        flags: dict[str, Any] = self.state[param]
        return flags

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Called first, with gradients on; what it returns is returned.

        Raises:
            BadValue: For a sparse gradient; then no parameter has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        in_pieces = all(declared(update, "elementwise", False) for update in self.updates)
        cache = PIECE_BYTES * torch.get_num_threads()
        for slab in self.slabs():
            p = slab.params[0]
            for state in slab.states:
                state["count"] = slab.count
            for piece in slab.pieces(cache // p.itemsize) if in_pieces and p.is_cpu else (slab,):
                for update in self.updates:
                    update(piece)
        return loss

    def slabs(self) -> list[Slab]:
        """The parameters that have a gradient, sorted into slabs, as the next step will see them."""
        slabs: list[Slab] = []
        for i, (plist, hyper) in enumerate(zip(self.param_lists, self.hypers, strict=True)):
            found: dict[Any, Slab] = {}
            for j, p in enumerate(plist):
                if (grad := p.grad) is None:
                    continue
                if grad.layout is not torch.strided:
                    raise _sparse(self.param_groups[i], i, j)
                state = self.state[p]
                count = state.get("count", 0) + 1
                if count == 1:
                    state.update({name: begin(p.detach()) for name, begin in self.keeps.items() if name not in state})
                key = (p.device, p.dtype, count, state.get("do_wd", True))
                if key not in found:
                    found[key] = Slab(hyper, count, key[-1])
                found[key].add(p, grad, state)
            slabs += found.values()
        return slabs

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the hyper-parameters and the state of `state_dict`, which is copied.

        Args:
            state_dict: Of an optimizer made like this one, or of torch's SGD, Adam, AdamW or RAdam.

        Raises:
            BadValue: If it was made for other groups, parameters or statistics; then nothing is changed.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            got = list(state_dict)[:5] if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise BadValue("this is no optimizer's state", got=got, expected="a dict with state and param_groups")
        state_dict = from_torch(state_dict, self.keeps)
        saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
        sizes, saved_sizes = ([len(g["params"]) for g in groups] for groups in (self.param_groups, saved_groups))
        if sizes != saved_sizes:
            raise _misfit("optimizer", f"groups of {saved_sizes} parameters", f"groups of {sizes} parameters")
        numbers = [number for group in saved_groups for number in group["params"]]
        held = [p for plist in self.param_lists for p in plist]
        state = {p: self._adapt(saved_state.get(n, {}), p, n) for p, n in zip(held, numbers, strict=True)}
        for hyper, saved in zip(self.hypers, saved_groups, strict=True):
            for name, old in hyper.items():
                if isinstance(old, Real) and not isinstance(saved.get(name, old), (Real, Tensor)):
                    raise _misfit(f"hyper-parameter '{name}'", type(saved[name]).__name__, "a number")
        for hyper, saved in zip(self.hypers, saved_groups, strict=True):
            hyper.update({name: value for name, value in saved.items() if name not in hyper.hidden})
        self.state.clear()
        self.state.update({p: entry for p, entry in state.items() if entry})

    def _adapt(self, saved: Mapping[str, Any], p: Tensor, number: int) -> dict[str, Any]:
        """A copy of a parameter's saved state, on its device, checked against what this optimizer keeps."""
        entry = {k: v.to(p.device, copy=True) if isinstance(v, Tensor) else v for k, v in saved.items()}
        if not isinstance(entry.get("count", 0), (Real, Tensor)):
            raise _misfit(f"state of parameter {number}", f"'count' {type(entry['count']).__name__}", "a number")
        begun = entry.get("count") or not self.keeps.keys().isdisjoint(entry)
        for name, begin in self.keeps.items() if begun else ():
            first, value = begin(p.detach()), entry.get(name)
            if not isinstance(value, Tensor) or value.shape != first.shape:
                shape = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else "missing"
                raise _misfit(f"state of parameter {number}", f"'{name}' {shape}", f"of shape {list(first.shape)}")
            entry[name] = value.to(first.dtype)
        return entry

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("cbs", "updates", "keeps", "train_bn", "frozen_idx")}
        return super().__getstate__() | own


def _refuse_misspelt(strangers: Mapping[str, Any], unset: Set[str]) -> None:
    """Refuse a name that no update is known to read if it is near a declared one that was not given, or holds updates."""
    for name, value in strangers.items():
        holds_updates = any(callable(one) for one in (value if isinstance(value, (list, tuple)) else [value]))
        if near := nearest(name, [*unset, *(("cbs", "stats", "steps") if holds_updates else ())], 1):
            raise BadArgument(
                f"Optimizer got an unknown argument '{name}'",
                fix=f"did you mean '{near[0]}'? If not, declare it: @hyper_defaults({name}=...) above the step",
            )


def _misfit(what: str, got: str, expected: str) -> BadValue:
    return BadValue(
        f"the saved {what} does not fit",
        got=got,
        expected=expected,
        fix="make the model and the optimizer as they were when saved",
    )


def _refuse_complex(param_lists: list[list[Tensor]]) -> None:
    if any(p.is_complex() for plist in param_lists for p in plist):
        raise BadValue(
            "complex parameters cannot be updated",
            expected="real parameters",
            fix="use OptimWrapper(params, torch.optim.Adam)",
        )


def _sparse(group: Mapping[str, Any], i: int, j: int) -> BadValue:
    name = f"'{group['param_names'][j]}'" if "param_names" in group else f"{j} of group {i}"
    return BadValue(
        f"parameter {name} has a sparse gradient",
        got=f"{group['params'][j].grad.layout}, shape {list(group['params'][j].shape)}",
        expected="dense gradients",
        fix="make the embedding with sparse=False, or use OptimWrapper(params, torch.optim.SparseAdam)",
    )
