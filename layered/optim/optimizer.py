"""The optimizer: statistics, then steps, driven over slabs of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from layered.foundation.errors import BadArgument, BadValue
from layered.optim.groups import GroupedOptimizer, as_groups
from layered.optim.slab import PIECE_BYTES, Slab
from layered.optim.stats import Keeps, Stat

Update = Callable[[Slab], None]


class Optimizer(GroupedOptimizer):
    """Parameters, what is remembered about each, and the updates that one step runs over them, in the order given.

    params     tensors, groups of tensors, or torch's dicts (see `groups.as_groups`)
    cbs        updates of any kind, first in the order. An update is
               - a statistic: an object with `keeps` and `update(slab)` (see `stats`);
               - a step over slabs: a callable whose first parameter is named `slab` (see `steppers`);
               - a step for one tensor: any other callable `f(p, lr, **kwargs)`. It gets the parameter, its state and
                 its hyper-parameters by name; a dict that it returns updates the parameter's state (a tensor is ignored).
               Its attribute `defaults`, a dict, gives first values of hyper-parameters
    stats      statistics, after `cbs`
    steps      steps, after `stats`
    defaults   first values of hyper-parameters: lr=, mom=, …

    `opt.state[p]` holds all that is known about a parameter: its statistics, `count` (steps taken) and the flags
    `do_wd` and `force_train`. Slabs are drawn up from it anew at each step, so it may be changed at any time.

    >>> def step_down(p, lr, **kwargs):
    ...     p.data.add_(p.grad, alpha=-lr)
    >>> w = torch.ones(2, requires_grad=True); w.sum().backward()
    >>> Optimizer([w], cbs=[step_down], lr=0.5).step(); w.tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        params: Any,
        cbs: Iterable[Any] | Callable[..., Any] | None = None,
        *,
        stats: Iterable[Stat] = (),
        steps: Iterable[Callable[..., Any]] = (),
        train_bn: bool = True,
        **defaults: Any,
    ) -> None:
        first = [cbs] if callable(cbs) else list(cbs or ())
        given = [*first, *stats, *steps]
        defaults = {k: v for update in given for k, v in getattr(update, "defaults", {}).items()} | defaults
        super().__init__(as_groups(params, **defaults), defaults)
        self.train_bn = train_bn
        self.keeps: Keeps = {k: v for update in given for k, v in getattr(update, "keeps", {}).items()}
        self.updates: list[Update] = [_as_update(update) for update in given]
        _refuse_complex(self.param_lists)

    def flags(self, param: Tensor) -> dict[str, Any]:
        flags: dict[str, Any] = self.state[param]
        return flags

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        closure    called first, with gradients on; what it returns is returned
        raises     BadValue for a sparse gradient; then no parameter has changed
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        in_pieces = all(getattr(update, "elementwise", False) for update in self.updates)
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

        raises     BadValue if it was made for other groups, parameters or statistics; then nothing is changed
        """
        if not {"state", "param_groups"} <= set(state_dict):
            raise BadValue("this is no optimizer's state", got=list(state_dict)[:5], expected="state, param_groups")
        saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
        sizes, saved_sizes = ([len(g["params"]) for g in groups] for groups in (self.param_groups, saved_groups))
        if sizes != saved_sizes:
            raise _misfit("optimizer", f"groups of {saved_sizes} parameters", f"groups of {sizes} parameters")
        numbers = [number for group in saved_groups for number in group["params"]]
        held = [p for plist in self.param_lists for p in plist]
        state = {p: self._adapt(saved_state.get(n, {}), p, n) for p, n in zip(held, numbers, strict=True)}
        for hyper, saved in zip(self.hypers, saved_groups, strict=True):
            hyper.update({name: value for name, value in saved.items() if name not in hyper.hidden})
        self.state.clear()
        self.state.update({p: entry for p, entry in state.items() if entry})

    def _adapt(self, saved: Mapping[str, Any], p: Tensor, number: int) -> dict[str, Any]:
        """A copy of a parameter's saved state, on its device, checked against what this optimizer keeps."""
        entry = {k: v.to(p.device, copy=True) if isinstance(v, Tensor) else v for k, v in saved.items()}
        for name, begin in self.keeps.items() if entry.get("count") else ():
            first, value = begin(p.detach()), entry.get(name)
            if not isinstance(value, Tensor) or value.shape != first.shape:
                shape = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else "missing"
                raise _misfit(f"state of parameter {number}", f"'{name}' {shape}", f"of shape {list(first.shape)}")
            entry[name] = value.to(first.dtype)
        return entry

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("updates", "keeps", "train_bn", "frozen_idx")}
        return super().__getstate__() | own


class PerTensor:
    """A step written for one tensor, `f(p, lr, **kwargs)`, run over a slab."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        parameters = inspect.signature(step).parameters.values()
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.wanted = None if takes_all else {p.name for p in parameters}

    def __call__(self, slab: Slab) -> None:
        hyper = dict(slab.hyper)
        for p, state in zip(slab.params, slab.states, strict=True):
            known = {**state, **hyper}
            if self.wanted is not None:
                known = {name: value for name, value in known.items() if name in self.wanted}
            new = self.step(p, **known)
            if isinstance(new, Mapping):
                state.update(new)
            elif new is not None and not isinstance(new, Tensor):
                raise BadArgument(f"the step {self.step} returned no state", got=type(new), expected="a dict, or None")


def _as_update(given: Any) -> Update:
    if hasattr(given, "update") and hasattr(given, "keeps"):
        return given.update  # type: ignore[no-any-return]
    if not callable(given):
        raise BadArgument("an optimizer is made of statistics and steps", got=given, expected="a Stat or a callable")
    first = next(iter(inspect.signature(given).parameters), None)
    return given if first == "slab" else PerTensor(given)


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
