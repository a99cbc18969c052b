"""A slab: parameters that are updated alike, side by side, so that one line of formula is one call for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from layered.foundation.errors import unknown_name

PIECE_BYTES = 1 << 20
"""Bytes of parameters in a piece, per CPU thread: small enough for every update of a step to find it in the cache."""


@dataclass(slots=True)
class Slab:
    """Parameters of one group that share device, dtype, step count and flags; all lists are in the same order.

    hyper      the group's hyper-parameters: `slab.hyper["lr"]`
    count      which step of these parameters this is: 1 at the first
    do_wd      whether weight decay applies to them
    params     the parameters, to be changed in place
    grads      their gradients
    states     their entries of the optimizer's `state`; `slab["grad_avg"]` lists one statistic of all, and may be set
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
