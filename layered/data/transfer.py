"""Moving batches to a device: to CUDA from page-locked memory, one batch ahead of use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from layered.data.batch_maker import MadeBatch
from layered.foundation import map_tree, retype, tensors_of, to_device

T = TypeVar("T")
U = TypeVar("U")


def on_device(made: Iterable[MadeBatch], device: torch.device | None, pin: bool = True) -> Iterator[MadeBatch]:
    """The batches on `device`; None leaves them where they are.

    Args:
        made: The batches.
        device: The device.
        pin: Copy to CUDA by way of page-locked memory, so that this process does not wait for the copy.
    """
    if device is None:
        return iter(made)
    if device.type != "cuda":
        return ((to_device(batch, device), plan, bad) for batch, plan, bad in made)
    copies = CudaCopies(device, pin)
    return one_ahead(made, copies.start, copies.wait)


def one_ahead(given: Iterable[T], start: Callable[[T], U], wait: Callable[[U], T]) -> Iterator[T]:
    """Pass elements on, starting each while the one before it is in use and waiting for it only when it is due."""
    pending: list[U] = []
    for each in given:
        pending.append(start(each))
        if len(pending) == 2:
            yield wait(pending.pop(0))
    if pending:
        yield wait(pending.pop())


class CudaCopies:
    """Copies to a CUDA device on a separate stream, concurrent with computation.

    Args:
        device: The device.
        pin: Copy by way of page-locked memory.
    """

    def __init__(self, device: torch.device, pin: bool) -> None:
        self.device, self.pin = device, pin
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, made: MadeBatch) -> tuple[MadeBatch, torch.cuda.Event]:
        """Start to copy a batch."""
        batch, plan, bad = made
        batch = pinned(batch) if self.pin else batch
        with torch.cuda.stream(self.stream):
            batch = to_device(batch, self.device, non_blocking=True)
        return (batch, plan, bad), self.stream.record_event()

    def wait(self, started: tuple[MadeBatch, torch.cuda.Event]) -> MadeBatch:
        """The batch, ready for the current stream: work queued from now on runs after the copy."""
        made, copied = started
        present = torch.cuda.current_stream(self.device)
        present.wait_event(copied)
        for tensor in tensors_of(made[0]):
            # Allocated on the copy stream: its memory must not be reused before the current stream is done with it.
            tensor.record_stream(present)
        return made


def pinned(batch: object) -> Any:
    """The same batch in page-locked memory."""

    def pin(o: object) -> Any:
        if not isinstance(o, Tensor) or o.device.type != "cpu" or o.is_pinned():
            return o
        return retype(o.as_subclass(Tensor).pin_memory(), o)

    return map_tree(pin, batch)
