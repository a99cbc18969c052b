"""The optimizer: runs statistics, then steps, over slabs of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from itertools import chain
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from layered.foundation import BadArgument, BadValue, nearest, unknown_name
from layered.optim.fused import Kernel, kernel_for
from layered.optim.groups import GroupedOptimizer, HyperValue, Params, as_groups, discriminative, shard_state
from layered.optim.hypers import check_hypers
from layered.optim.update import PIECE_BYTES, Recipe, Slab, Update, as_update, declarations, declared, named_by, recipe
from layered.optim.wrappers import from_torch

KNOWN_HYPERS = {"lr", "mom", "sqr_mom", "eps", "wd"}
"""Hyperparameters that any step may read without declaring them."""


class Optimizer(GroupedOptimizer):
    """Parameters, what is remembered about each of them, and the updates that a step runs over them, in order.

    An update is a function, of one of two kinds:

    - of a slab: its first parameter is named `slab` (see `stats` and `steppers`);
    - of one tensor: any other function `f(p, lr, **kwargs)`. It gets the parameter, and by name the parameter's state and
      hyperparameters. A dict that it returns updates the state; a tensor is ignored.

    The decorators in `update` declare what an update keeps, and defaults of its hyperparameters.

    `opt.state[p]` holds everything known about a parameter: its statistics, `count` (steps taken), the flags `do_wd` and
    `force_train`, and its `kind`, if it has one. Slabs are built from it at each step, so it may be changed at any time.

    Args:
        params: Tensors, groups of tensors, or torch's dicts (see `groups.as_groups`).
        cbs: Updates, run first.
        stats: Updates, run after `cbs`.
        steps: Updates, run after `stats`.
        kinds: Other updates, by kind, for the parameters that `opt.state[p]["kind"]` says are of that kind.
        train_bn: Parameters flagged `force_train` keep training in frozen groups.
        fused: Run a step by one kernel of torch where it has one for these updates: see `fused`. False runs the updates.
        defaults: Hyperparameters: lr=, mom=, …

    Raises:
        BadArgument: An update cannot be called as one, or a hyperparameter looks misspelt.
        BadValue: There are no parameters, or complex ones.
        OutOfRange: A hyperparameter is outside its range.

    Examples:
        >>> def step_down(p, lr, **kwargs):
        ...     p.data.add_(p.grad, alpha=-lr)
        >>> w = torch.ones(2, requires_grad=True); w.sum().backward()
        >>> Optimizer([w], cbs=[step_down], lr=0.5).step(); w.tolist()
        [0.5, 0.5]

        A new optimizer, the sign of the momentum, made from a known statistic and a new step:

        >>> from layered.optim.stats import average_grad
        >>> def sign_step(slab):
        ...     torch._foreach_add_(slab.params, torch._foreach_sign(slab["grad_avg"]), alpha=-slab.hyper["lr"])
        >>> Optimizer([w], cbs=[average_grad, sign_step], lr=0.25, mom=0.9).step(); w.tolist()
        [0.25, 0.25]
    """

    def __init__(
        self,
        params: Params,
        cbs: Iterable[Any] | Callable[..., Any] | None = None,
        *,
        stats: Iterable[Any] = (),
        steps: Iterable[Any] = (),
        kinds: Mapping[str, Iterable[Any]] | None = None,
        train_bn: bool = True,
        fused: bool = True,
        **defaults: HyperValue,
    ) -> None:
        self.cbs = [*([cbs] if callable(cbs) else cbs or ()), *stats, *steps]
        self.kinds = {kind: list(cbs_of_kind) for kind, cbs_of_kind in (kinds or {}).items()}
        self.updates, self.keeps = recipe(self.cbs)
        self._recipes = {kind: recipe(cbs_of_kind) for kind, cbs_of_kind in self.kinds.items()}
        every = [*self.cbs, *chain.from_iterable(self.kinds.values())]
        hypers = declarations(every, "defaults")
        known_names = hypers.keys() | named_by(map(as_update, every)) | KNOWN_HYPERS
        _refuse_misspelt({k: v for k, v in defaults.items() if k not in known_names}, hypers.keys() - defaults.keys())
        hypers |= defaults
        groups = as_groups(params, **hypers)
        super().__init__(groups, {name: discriminative(value, len(groups))[-1] for name, value in hypers.items()})
        for hyper in self.hypers:
            check_hypers(hyper)
        self.train_bn, self.fused = train_bn, fused
        _refuse_complex(self.param_lists)

    def flags(self, param: Tensor) -> dict[str, Any]:
        flags: dict[str, Any] = self.state[param]
        return flags

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Called first, with gradients enabled; its value is returned.

        Raises:
            BadValue: A gradient is sparse. No parameter has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        cache = PIECE_BYTES * torch.get_num_threads()
        slabs = self.slabs()
        plans = {kind: self._plan(kind) for kind in {slab.kind for slab in slabs}}
        for slab in slabs:
            for state in slab.states:
                state["count"] = slab.count
            updates, kernel, in_pieces = plans[slab.kind]
            part = slab.local() if in_pieces else slab
            if kernel is not None and kernel.fits(part):
                kernel.step(part)
                continue
            p = part.params[0]
            for piece in part.pieces(cache // p.itemsize) if in_pieces and p.is_cpu else (part,):
                for update in updates:
                    update(piece)
        return loss

    def _plan(self, kind: str | None) -> tuple[list[Update], Kernel | None, bool]:
        """The updates of a kind, the kernel that does the same, and whether they may be run on pieces of a slab.

        Pieces fit a CPU's cache, so that a step reads each number from memory once rather than once an update.
        """
        updates = self._recipe(kind).updates
        kernel = kernel_for(updates) if self.fused else None
        return updates, kernel, all(declared(update, "elementwise", False) for update in updates)

    def _recipe(self, kind: str | None) -> Recipe:
        """What is done to the parameters of a kind; None for those that have none."""
        if kind is None:
            return Recipe(self.updates, self.keeps)
        if kind not in self.kinds:
            raise unknown_name(
                "kind of parameter", kind, self.kinds, fix="delete opt.state[p]['kind'], or set a known one"
            )
        return self._recipes[kind]

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
                count, kind = state.get("count", 0) + 1, state.get("kind")
                if count == 1:
                    keeps = self._recipe(kind).keeps
                    state.update({name: begin(p.detach()) for name, begin in keeps.items() if name not in state})
                key = (count, state.get("do_wd", True), kind, p.dtype, p.is_cpu or p.device)
                if (slab := found.get(key)) is None:
                    slab = found[key] = Slab(hyper, count, key[1], kind)
                slab.params.append(p)
                slab.grads.append(grad)
                slab.states.append(state)
            slabs += found.values()
        return slabs

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore hyperparameters and state from a copy of `state_dict`.

        Args:
            state_dict: Saved by an optimizer made like this one, or by torch's SGD, Adam, AdamW or RAdam.

        Raises:
            BadValue: It was saved with other groups, parameters or statistics. Nothing has changed then.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            got = list(state_dict)[:5] if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise BadValue("not the state of an optimizer", got=got, expected="a dict with state and param_groups")
        kept = set(self.keeps).union(*(keeps for _, keeps in self._recipes.values()))
        state_dict = shard_state(self, from_torch(state_dict, kept))
        saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
        sizes, saved_sizes = ([len(g["params"]) for g in groups] for groups in (self.param_groups, saved_groups))
        if sizes != saved_sizes:
            raise _misfit("optimizer", f"groups of {saved_sizes} parameters", f"groups of {sizes} parameters")
        numbers = [number for group in saved_groups for number in group["params"]]
        held = [p for plist in self.param_lists for p in plist]
        state = {p: self._adapt(saved_state.get(n, {}), p, n) for p, n in zip(held, numbers, strict=True)}
        for hyper, saved in zip(self.hypers, saved_groups, strict=True):  # all checks come before the first change
            for name, old in hyper.items():
                if isinstance(old, Real) and not isinstance(saved.get(name, old), (Real, Tensor)):
                    raise _misfit(f"hyperparameter '{name}'", type(saved[name]).__name__, "a number")
        for hyper, saved in zip(self.hypers, saved_groups, strict=True):
            hyper.update({name: value for name, value in saved.items() if name not in hyper.hidden})
        self.state.clear()
        self.state.update({p: entry for p, entry in state.items() if entry})

    def _adapt(self, saved: Mapping[str, Any], p: Tensor, number: int) -> dict[str, Any]:
        """A copy of a parameter's saved state on the parameter's device, checked against what this optimizer keeps."""
        entry: dict[str, Any] = {k: v.to(p.device, copy=True) if isinstance(v, Tensor) else v for k, v in saved.items()}
        if not isinstance(entry.get("count", 0), (Real, Tensor)):
            raise _misfit(f"state of parameter {number}", f"'count' {type(entry['count']).__name__}", "a number")
        keeps = self._recipe(entry.get("kind")).keeps
        # a parameter that never had a gradient has no statistics yet
        begun = entry.get("count") or not keeps.keys().isdisjoint(entry)
        for name, begin in keeps.items() if begun else ():
            first, value = begin(p.detach()), entry.get(name)
            if not isinstance(value, Tensor) or value.shape != first.shape:
                shape = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else "missing"
                raise _misfit(f"state of parameter {number}", f"'{name}' {shape}", f"of shape {list(first.shape)}")
            entry[name] = value.to(first.dtype)
        return entry

    def __getstate__(self) -> dict[str, Any]:
        names = ("cbs", "updates", "keeps", "kinds", "_recipes", "train_bn", "fused", "frozen_idx")
        return super().__getstate__() | {name: getattr(self, name) for name in names}


def _refuse_misspelt(unread: Mapping[str, object], unset: Set[str]) -> None:
    """Refuse a name that no update is known to read if it is close to a declared one that is unset, or holds updates."""
    for name, value in unread.items():
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
        fix="build the model and the optimizer as they were when the state was saved",
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
