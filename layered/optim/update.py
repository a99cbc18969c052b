"""An update: a statistic or a step of an optimizer. What it declares about itself, and what is accepted as one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from layered.foundation import BadArgument, nearest, unknown_name

PIECE_BYTES = 1 << 20
"""Bytes of parameters in a piece, per CPU thread: small enough for every update of a step to find it in the cache."""


@dataclass(slots=True)
class Slab:
    """Parameters of one group that share device, dtype, step count and flags; all lists are in the same order.

    Args:
        hyper: The group's hyper-parameters: `slab.hyper["lr"]`.
        count: Which step of these parameters this is: 1 at the first.
        do_wd: Whether weight decay applies to them.
        params: The parameters, to be changed in place.
        grads: Their gradients.
        states: Their entries of the optimizer's `state`; `slab["grad_avg"]` lists one statistic of all, and may be
            set.
    """

    hyper: Mapping[str, Any]
    count: int
    do_wd: bool
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[Tensor]:
        try:
            return [state[name] for state in self.states]
        except KeyError:
            known = set[str]().union(*self.states)
            raise unknown_name("statistic", name, known, fix="put the one that keeps it before this step") from None

    def __setitem__(self, name: str, values: Sequence[Any]) -> None:
        for state, value in zip(self.states, values, strict=True):
            state[name] = value

    def add(self, param: Tensor, grad: Tensor, state: dict[str, Any]) -> None:
        self.params.append(param)
        self.grads.append(grad)
        self.states.append(state)

    def pieces(self, size: int) -> Iterator[Slab]:
        """The same slab as a run of smaller ones, each with about `size` numbers in (views of) its parameters."""
        if sum(param.numel() for param in self.params) <= size:
            yield self
            return
        piece, room = self._empty(), size
        for param, grad, state in zip(self.params, self.grads, self.states, strict=True):
            for part in _parts(param, grad, state, size) if param.numel() > size else ((param, grad, state),):
                piece.add(*part)
                room -= part[0].numel()
                if room <= 0:
                    yield piece
                    piece, room = self._empty(), size
        if piece.params:
            yield piece

    def _empty(self) -> Slab:
        return replace(self, params=[], grads=[], states=[])


Part = tuple[Tensor, Tensor, dict[str, Any]]


def _parts(param: Tensor, grad: Tensor, state: dict[str, Any], size: int) -> Iterator[Part]:
    """A large parameter, and all that belongs to it, as views of some rows each."""
    count = -(-param.numel() // size)
    stats = {name: value.chunk(count) for name, value in state.items() if isinstance(value, Tensor)}
    for i, (rows, grad_rows) in enumerate(zip(param.chunk(count), grad.chunk(count), strict=True)):
        yield rows, grad_rows, {name: views[i] for name, views in stats.items()}


F = TypeVar("F", bound=Callable[..., Any])
Update: TypeAlias = Callable[[Slab], Any]

Keeps: TypeAlias = dict[str, Callable[[Tensor], Tensor]]
"""Names of what an update keeps for each parameter, and how each begins, given the parameter."""


def elementwise(update: F) -> F:
    """Promise that each number of an update depends only on the numbers in the same place; a decorator.

    An optimizer made of such updates alone is fed pieces that fit a CPU's cache. An update without this promise (one
    that takes norms of whole tensors, or puts something else than tensors into the state) always sees whole slabs.

    Examples:
        >>> @elementwise
        ... def sign_step(slab):
        ...     torch._foreach_add_(slab.params, torch._foreach_sign(slab.grads), alpha=-slab.hyper["lr"])
    """
    return _declare(elementwise=True)(update)


def keeps(**begin: Callable[[Tensor], Tensor]) -> Callable[[F], F]:
    """What an update keeps for each parameter, and how it begins, given the parameter; a decorator.

    Examples:
        >>> import torch
        >>> @keeps(largest=torch.zeros_like)
        ... def largest_grad(slab):
        ...     torch._foreach_maximum_(slab["largest"], torch._foreach_abs(slab.grads))
    """
    return _declare(keeps=begin)


def hyper_defaults(**values: float) -> Callable[[F], F]:
    """Hyper-parameters that an update reads, with the values they have if the optimizer is given none; a decorator.

    Examples:
        >>> @hyper_defaults(power=2)
        ... def power_step(slab):
        ...     powers = torch._foreach_pow(slab.grads, slab.hyper["power"])
        ...     torch._foreach_add_(slab.params, powers, alpha=-slab.hyper["lr"])
    """
    return _declare(defaults=values)


def _declare(**attributes: Any) -> Callable[[F], F]:
    def mark(update: F) -> F:
        vars(update).update(attributes)
        return update

    return mark


def declared(update: Any, name: str, otherwise: Any) -> Any:
    """What an update, or the function inside a partial, declares under `name`."""
    while not hasattr(update, name) and isinstance(update, partial):
        update = update.func
    return getattr(update, name, otherwise)


class PerTensor:
    """A step written for one tensor, `f(p, lr, **kwargs)`, run over a slab."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        parameters = list(inspect.signature(step).parameters.values())[1:]
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        by_name = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.names = {p.name for p in by_name}
        self.wanted = None if takes_all else self.names
        self.needed = {p.name for p in by_name if p.default is p.empty}

    def __call__(self, slab: Slab) -> None:
        hyper = dict(slab.hyper)
        for p, state in zip(slab.params, slab.states, strict=True):
            known = {**state, **hyper}
            for name in self.needed - known.keys():
                raise unknown_name(
                    f"statistic or hyper-parameter for the step '{_name(self.step)}'",
                    name,
                    known,
                    fix=f"give the optimizer a value, {name}=..., or put what computes it before this step",
                )
            if self.wanted is not None:
                known = {name: value for name, value in known.items() if name in self.wanted}
            new = self.step(p, **known)
            if isinstance(new, Mapping):
                state.update(new)
            elif new is not None and not isinstance(new, Tensor):
                raise BadArgument(
                    f"the step '{_name(self.step)}' returned no state", got=type(new), expected="a dict, or None"
                )


def as_update(given: Any) -> Update:
    """`given` as a function of a slab.

    Raises:
        BadArgument: For what can be no update, or names its arguments so that it would be misunderstood.
    """
    if hasattr(given, "update") and hasattr(given, "keeps"):
        given = given.update
    if not callable(given) or isinstance(given, type):
        raise BadArgument("an optimizer is made of statistics and steps", got=given, expected="functions of a slab")
    try:
        names = list(inspect.signature(given).parameters.values())
    except ValueError as error:
        raise BadArgument(
            f"'{_name(given)}' does not say what it takes", fix="lambda p, **kwargs: ..., or a def, around it"
        ) from error
    first = names[0].name if names else ""
    if first != "slab" and (not names or nearest(first, ["slab"]) or names[0].kind is inspect.Parameter.KEYWORD_ONLY):
        raise BadArgument(
            f"the step '{_name(given)}' has no place for the parameters",
            got=f"{_name(given)}({', '.join(p.name for p in names)})",
            expected="step(slab), or step(p, lr, **kwargs) for one tensor",
        )
    for extra in names[1:] if first == "slab" else ():
        if extra.default is extra.empty and extra.kind in (extra.POSITIONAL_OR_KEYWORD, extra.KEYWORD_ONLY):
            raise BadArgument(
                f"the step '{_name(given)}' takes more than the slab",
                got=f"an argument '{extra.name}' without a default",
                fix=f"slab.hyper['{extra.name}'] is the hyper-parameter, slab['{extra.name}'] the statistic",
            )
    return given if first == "slab" else PerTensor(given)


def named_by(updates: Iterable[Update]) -> set[str]:
    """What the steps for one tensor among `updates` take by name."""
    return {name for update in updates if isinstance(update, PerTensor) for name in update.names}


def _name(step: Any) -> str:
    while isinstance(step, partial):
        step = step.func
    return getattr(step, "__name__", None) or type(step).__name__
