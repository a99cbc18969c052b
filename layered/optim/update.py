"""Updates, and the slabs they work on.

An update is a statistic or a step of an optimizer. This module has what updates see (`Slab`), what they declare about
themselves (`keeps`, `hyper_defaults`, `elementwise`) and which functions are accepted as one (`as_update`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from torch import Tensor

from layered.foundation import BadArgument, function_name, has_sharded, local_part, nearest, unknown_name

PIECE_BYTES = 1 << 20
"""Bytes of parameters in a piece, per CPU thread: small enough to stay in the cache through all updates of a step."""


@dataclass(slots=True)
class Slab:
    """Parameters of one group that share device, dtype, step count, flags and kind; all lists are in the same order.

    Args:
        hyper: The hyperparameters of the group: `slab.hyper["lr"]`.
        count: Number of this step for these parameters, from 1.
        do_wd: Whether weight decay applies to them.
        kind: Of parameters, None for those that have none (see `Optimizer`).
        params: The parameters, to be changed in place.
        grads: Their gradients.
        states: Their entries in the optimizer's `state`. `slab["grad_avg"]` lists one statistic of all parameters, and can
            be assigned to.
    """

    hyper: Mapping[str, Any]
    count: int
    do_wd: bool
    kind: str | None = None
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[Tensor]:
        try:
            return [state[name] for state in self.states]
        except KeyError:
            known = set[str]().union(*self.states)
            raise unknown_name("statistic", name, known, fix="put the update that keeps it before this step") from None

    def __setitem__(self, name: str, values: Sequence[object]) -> None:
        for state, value in zip(self.states, values, strict=True):
            state[name] = value

    def add(self, param: Tensor, grad: Tensor, state: dict[str, Any]) -> None:
        """Append a parameter.

        Args:
            param: The parameter.
            grad: Its gradient.
            state: Its entry in the optimizer's `state`.
        """
        self.params.append(param)
        self.grads.append(grad)
        self.states.append(state)

    def local(self) -> Slab:
        """The parts of sharded parameters in this process, sharing their memory; the slab itself where nothing is sharded."""
        if not has_sharded(self.params):
            return self
        states = [
            {name: local_part(value) if isinstance(value, Tensor) else value for name, value in state.items()}
            for state in self.states
        ]
        return replace(
            self, params=[*map(local_part, self.params)], grads=[*map(local_part, self.grads)], states=states
        )

    def pieces(self, size: int) -> Iterator[Slab]:
        """Split the slab into smaller ones.

        Args:
            size: Approximate number of elements in the parameters of a piece. Pieces of larger parameters are views.
        """
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
    """A large parameter, with its gradient and statistics, as views of a few rows each."""
    count = -(-param.numel() // size)
    stats = {name: value.chunk(count) for name, value in state.items() if isinstance(value, Tensor)}
    for i, (rows, grad_rows) in enumerate(zip(param.chunk(count), grad.chunk(count), strict=True)):
        yield rows, grad_rows, {name: views[i] for name, views in stats.items()}


F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Update: TypeAlias = Callable[[Slab], Any]

Keeps: TypeAlias = dict[str, Callable[[Tensor], Tensor]]
"""What an update keeps for each parameter: by name, the function that makes the initial value from the parameter."""


def elementwise(update: F) -> F:
    """Decorator: promise that each element of an update depends only on the elements at the same position.

    An optimizer made only of such updates is run on pieces that fit a CPU's cache, and on the part in this process of sharded
    parameters. An update without this promise (one that takes norms of whole tensors, or keeps anything but tensors) always
    sees whole slabs; sharded parameters are `DTensor`s there, whose norms are those of all processes.

    Args:
        update: A function of a slab.

    Examples:
        >>> @elementwise
        ... def sign_step(slab):
        ...     torch._foreach_add_(slab.params, torch._foreach_sign(slab.grads), alpha=-slab.hyper["lr"])
    """
    return _declare(elementwise=True)(update)


def keeps(**initial: Callable[[Tensor], Tensor]) -> Callable[[F], F]:
    """Decorator: declare what an update keeps for each parameter.

    Args:
        initial: For each name, a function that makes the initial value from the parameter.

    Examples:
        >>> import torch
        >>> @keeps(largest=torch.zeros_like)
        ... def largest_grad(slab):
        ...     torch._foreach_maximum_(slab["largest"], torch._foreach_abs(slab.grads))
    """
    return _declare(keeps=initial)


def hyper_defaults(**values: float) -> Callable[[F], F]:
    """Decorator: declare hyperparameters that an update reads.

    Args:
        values: For each name, the value used if the optimizer is given none.

    Examples:
        >>> @hyper_defaults(power=2)
        ... def power_step(slab):
        ...     powers = torch._foreach_pow(slab.grads, slab.hyper["power"])
        ...     torch._foreach_add_(slab.params, powers, alpha=-slab.hyper["lr"])
    """
    return _declare(defaults=values)


def _declare(**attributes: object) -> Callable[[F], F]:
    def mark(update: F) -> F:
        vars(update).update(attributes)
        return update

    return mark


def declared(update: object, name: str, default: T) -> T:
    """What an update, or the function inside a partial, declares.

    Args:
        update: A function of a slab, or an object with `keeps` and `update`.
        name: Of the declaration.
        default: Returned if there is none.
    """
    while not hasattr(update, name) and isinstance(update, partial):
        update = update.func
    found: T = getattr(update, name, default)
    return found


def declarations(updates: Iterable[object], name: str) -> dict[str, Any]:
    """What several updates declare by name, merged; the last one wins.

    Args:
        updates: Functions of a slab, or objects with `keeps` and `update`.
        name: Of the declaration: "keeps" or "defaults".
    """
    return {key: value for update in updates for key, value in declared(update, name, dict[str, Any]()).items()}


class PerTensor:
    """Runs a step written for one tensor over a slab.

    Args:
        step: Called as `step(p, lr, **kwargs)`.
    """

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
                    f"statistic or hyperparameter for the step '{function_name(self.step)}'",
                    name,
                    known,
                    fix=f"pass the optimizer a value, {name}=..., or put the update that computes it before this step",
                )
            if self.wanted is not None:
                known = {name: value for name, value in known.items() if name in self.wanted}
            new = self.step(p, **known)
            if isinstance(new, Mapping):
                state.update(new)
            elif new is not None and not isinstance(new, Tensor):
                raise BadArgument(
                    f"the step '{function_name(self.step)}' returned an invalid state",
                    got=type(new),
                    expected="a dict, or None",
                )


def as_update(given: object) -> Update:
    """`given` as a function of a slab.

    Args:
        given: A function of a slab or of one tensor, or an object with `keeps` and such a function `update`.

    Raises:
        BadArgument: It cannot be called as an update, or its argument names suggest that it would be misunderstood.
    """
    if hasattr(given, "update") and hasattr(given, "keeps"):
        given = given.update
    if not callable(given) or isinstance(given, type):
        raise BadArgument("an optimizer is made of statistics and steps", got=given, expected="functions of a slab")
    try:
        names = list(inspect.signature(given).parameters.values())
    except ValueError as error:
        raise BadArgument(
            f"the arguments of '{function_name(given)}' cannot be inspected",
            fix="wrap it in lambda p, **kwargs: ..., or a def",
        ) from error
    first = names[0].name if names else ""
    # a first parameter called nearly "slab" is a typo; without this check it would be taken for a step of one tensor
    if first != "slab" and (not names or nearest(first, ["slab"]) or names[0].kind is inspect.Parameter.KEYWORD_ONLY):
        raise BadArgument(
            f"the step '{function_name(given)}' does not take the parameters",
            got=f"{function_name(given)}({', '.join(p.name for p in names)})",
            expected="step(slab), or step(p, lr, **kwargs) for one tensor",
        )
    for extra in names[1:] if first == "slab" else ():
        if extra.default is extra.empty and extra.kind in (extra.POSITIONAL_OR_KEYWORD, extra.KEYWORD_ONLY):
            raise BadArgument(
                f"the step '{function_name(given)}' requires more than the slab",
                got=f"an argument '{extra.name}' without a default",
                fix=f"slab.hyper['{extra.name}'] is the hyperparameter, slab['{extra.name}'] the statistic",
            )
    return given if first == "slab" else PerTensor(given)


class Recipe(NamedTuple):
    """What is done to parameters.

    Args:
        updates: In the order in which they run.
        keeps: What they keep for each parameter.
    """

    updates: list[Update]
    keeps: Keeps


def recipe(given: Iterable[object]) -> Recipe:
    """Statistics and steps as functions of a slab, with all that they keep.

    Args:
        given: See `as_update`.

    Raises:
        BadArgument: One of them cannot be called as an update.
    """
    given = list(given)
    return Recipe([as_update(one) for one in given], declarations(given, "keeps"))


def named_by(updates: Iterable[Update]) -> set[str]:
    """The names of the arguments that the per-tensor steps among `updates` take.

    Args:
        updates: Functions of a slab.
    """
    return {name for update in updates if isinstance(update, PerTensor) for name in update.names}
