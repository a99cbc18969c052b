"""Models on torch's engines for several processes: `DistributedDataParallel`, and FSDP2, which shards parameters.

A sharded model trains, saves and loads as a whole one does. Its parameters are `DTensor`s (see `foundation.shards`); what goes
into a file is gathered one tensor at a time, and what comes from a file is sharded again.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from layered.data import DataLoaders
from layered.files import Kind, in_order, untied, write_archive
from layered.foundation import (
    CannotTrain,
    full_tensor,
    has_sharded,
    is_sharded,
    rank_and_world,
    shard_like,
    tensors_of,
    unknown_name,
)
from layered.loop.callback import Callback
from layered.loop.processes import (
    AverageGradients,
    SharedFit,
    average_gradients,
    by_first,
    gathered,
    join_processes,
    send_from_first,
)
from layered.loop.shared_loss import SharedLoss
from layered.loop.state import AbstractLoop
from layered.optim import as_groups

L = TypeVar("L", bound=AbstractLoop)
STRATEGIES = ("ddp", "fsdp")


def to_distributed(loop: L, strategy: str | None = None) -> L:
    """Join the other processes of a launcher such as `torchrun`, and choose how they share the model.

    Every learner joins them when it is made. In a single process there is nothing to share, and only a model on torch's `meta`
    device gets its weights.

    Args:
        strategy: None keeps that of the learner, at first: every process has the model, and gradients are averaged after each
            backward pass, whatever made them. "ddp": the same, by torch's `DistributedDataParallel` during the pass. "fsdp":
            each process has a part of every parameter (torch's FSDP2), with an optimizer that begins anew.

    Raises:
        UnknownName: The strategy is unknown.
        CannotTrain: The model is wrapped or sharded already, or has several optimizers, which need `strategy=None`.
    """
    if strategy is not None and strategy not in STRATEGIES:
        raise unknown_name(
            "strategy", strategy, STRATEGIES, fix="strategy=None, which averages gradients after the backward pass"
        )
    join_processes()
    if strategy is None:
        return loop
    if isinstance(loop.model, DistributedDataParallel):
        raise CannotTrain(
            "the model is in DistributedDataParallel already",
            got=f"strategy='{strategy}'",
            fix="leave strategy= out, or give the learner the model itself",
        )
    if isinstance(loop.opt_func, Mapping):
        raise CannotTrain(
            "a model with several optimizers can be shared only by averaging gradients after the backward pass",
            got=f"strategy='{strategy}'",
            fix="leave strategy= out",
        )
    if has_sharded(loop.model.parameters()):
        if strategy == "fsdp":
            return loop
        raise CannotTrain("the model is sharded already", got=f"strategy='{strategy}'", fix="make a new learner")
    if strategy == "fsdp":
        shard_model(loop.model, loop.splitter(loop.model), _device(loop.dls))
    loop.strategy = strategy
    return loop


@contextmanager
def distrib_ctx(loop: L, strategy: str | None = None) -> Iterator[L]:
    """Inside the `with`, fits share each batch with the other processes of a launcher such as `torchrun`.

    They do so without it too, and go on to do so after it.

    Args:
        strategy: As for `to_distributed`.
    """
    yield to_distributed(loop, strategy)


def _device(dls: DataLoaders) -> torch.device:
    return torch.device("cpu") if dls.device is None else torch.device(dls.device)


# -- DistributedDataParallel


class OverlapGradients(Callback):
    """Averages gradients over processes while the backward pass goes on: during a fit the model is in torch's
    `DistributedDataParallel`. `fit` adds it for `strategy="ddp"`; in a single process it changes nothing.

    Parameters that a pass does not use, or that are thawed in the middle of a fit, learn as they do in one process.
    """

    order = -9  # after the model is on its device
    observes = True
    transient = ("covered",)
    state_kinds = ()

    def __init__(self) -> None:
        self.covered: set[Tensor] = set()  # what torch averages: parameters that learned when it was wrapped

    def before_fit(self) -> None:
        learn = self.learn
        self.covered = {p for p in learn.model.parameters() if p.requires_grad and rank_and_world()[1] > 1}
        if self.covered and not isinstance(learn.model, DistributedDataParallel):
            learn.model = DistributedDataParallel(learn.model, find_unused_parameters=True)

    def on_end(self) -> None:
        learn = self.learn
        if isinstance(learn.model, DistributedDataParallel):
            learn.model = learn.model.module
        self.covered = set()

    def before_step(self) -> None:
        """Parameters that were thawed since, torch does not know."""
        learned = [p for plist in self.learn.opt.param_lists for p in plist if p.requires_grad]
        average_gradients([p for p in learned if p not in self.covered])


def callbacks_of_processes(loop: AbstractLoop) -> list[Callback]:
    """What `fit` adds if there are several processes.

    Args:
        loop: The loop.
    """
    if rank_and_world()[1] == 1:
        return []
    return [SharedFit(), SharedLoss(), OverlapGradients() if loop.strategy == "ddp" else AverageGradients()]


# -- FSDP2


@runtime_checkable
class Initialized(Protocol):
    """A layer that can draw its weights again, as torch's do."""

    def reset_parameters(self) -> None: ...


def shard_model(model: nn.Module, groups: Iterable[Any], device: torch.device) -> None:
    """Shard a model in place over all processes, unit by unit (see `units`); in a single process only `fill` it.

    All processes get the weights of the first, whose model may be the only one that is not on torch's `meta` device.

    Args:
        model: The model.
        groups: What a splitter makes of it.
        device: Where the parts go.
    """
    rank, world = rank_and_world()
    if gathered(_is_meta(model))[0]:
        fill(model)  # in all processes, which then fail together if it cannot be done
    if world == 1:
        return
    # imported here, because it takes long and few need it
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    mesh = init_device_mesh(device.type, (world,))
    whole = {name: p.detach() for name, p in model.named_parameters() if rank == 0}
    scalars = {p for p in model.parameters() if p.ndim == 0}  # cannot be divided: each process has them
    ignored: dict[str, Any] = {"ignored_params": scalars} if scalars else {}
    for unit in (*units(model, groups), model):
        # the root too frees what it has gathered, so that `parameters()` are the sharded ones between two passes
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, **ignored)
    if _is_meta(model):
        model.to_empty(device=device)
    for name, p in model.named_parameters():
        value = whole.pop(name).to(device) if rank == 0 else torch.empty(p.shape, dtype=p.dtype, device=device)
        placed: Any = p
        with torch.no_grad():
            p.copy_(distribute_tensor(value, mesh, placed.placements) if is_sharded(p) else value)
    send_from_first(x for x in (*model.parameters(), *model.buffers()) if not is_sharded(x))
    engine: Any = fully_shard
    # before a part of the model is called alone, which would take itself for the whole
    engine.state(model)._lazy_init()


def fill(model: nn.Module) -> None:
    """Give a model on torch's `meta` device memory, and the weights that its layers begin with.

    Args:
        model: The model.

    Raises:
        CannotTrain: A layer does not say how its weights begin.
    """
    layers = {name: m for name, m in model.named_modules() if _has_own_tensors(m)}
    silent = [name or "the model itself" for name, m in layers.items() if not isinstance(m, Initialized)]
    if silent:
        raise CannotTrain(
            "the model is on the meta device, and some layers do not say how their weights begin",
            got=f"no reset_parameters in {', '.join(silent[:5])}",
            fix='build it without torch.device("meta") in the first process, whose weights all others get',
        )
    model.to_empty(device="cpu")
    for layer in layers.values():
        layer.reset_parameters()


def _is_meta(model: nn.Module) -> bool:
    return any(x.is_meta for x in (*model.parameters(), *model.buffers()))


def _has_own_tensors(m: nn.Module) -> bool:
    return any(True for _ in (*m.parameters(recurse=False), *m.buffers(recurse=False)))


_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def units(model: nn.Module, groups: Iterable[Any]) -> list[nn.Module]:
    """The parts of a model whose parameters are gathered at once, inner ones before those that hold them.

    They are the elements of containers that consist of several layers, such as the blocks of a transformer, and the largest
    parts that lie in one of several parameter groups. What they leave belongs to the model itself, as do parameters that several
    layers share.

    Args:
        model: The model.
        groups: What a splitter makes of it.
    """
    lists = [group["params"] for group in as_groups(list(groups) or [[]])]
    group_of = {p: i for i, plist in enumerate(lists) for p in tensors_of(plist)}
    uses = Counter(p for m in model.modules() for p in m.parameters(recurse=False))
    found: dict[nn.Module, None] = {}

    def walk(module: nn.Module, in_group: bool, in_block: bool) -> None:
        for child in module.children():
            own = set(child.parameters())
            layers = list(child.children())
            holds_blocks = isinstance(child, _CONTAINERS) and (in_block or any(map(_has_layers, layers)))
            is_block = isinstance(module, _CONTAINERS) and bool(layers) and not holds_blocks
            is_group = not in_group and len(lists) > 1 and len({group_of.get(p) for p in own}) == 1
            is_called = not isinstance(child, (nn.ModuleList, nn.ModuleDict))
            walk(child, in_group or (is_group and is_called), in_block or is_block)
            if own and is_called and (is_block or is_group) and all(uses[p] == 1 for p in own):
                found[child] = None

    walk(model, False, False)
    return list(found)


def _has_layers(m: nn.Module) -> bool:
    return next(m.children(), None) is not None


def inner_units(model: nn.Module, groups: Iterable[Any]) -> list[nn.Module]:
    """The units of a model that hold no other: its repeated blocks, and parameter groups without any.

    Args:
        model: The model.
        groups: What a splitter makes of it.
    """
    found = units(model, groups)
    return [unit for unit in found if not any(m in found for m in unit.modules() if m is not unit)]


@contextmanager
def as_made(model: nn.Module) -> Iterator[None]:
    """Inside the `with`, the parts of a sharded model have the classes they were made of, for descriptions of it.

    Args:
        model: Any model.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    changed = [(m, type(m)) for m in model.modules() if fsdp is not None and isinstance(m, fsdp.FSDPModule)]
    marks = [(m, name, vars(m).pop(name)) for m in model.modules() for name in _MARKS if changed and name in vars(m)]
    for m, kind in changed:
        m.__class__ = kind.__bases__[1]  # FSDP2 puts its own class before it
    try:
        yield
    finally:
        for m, kind in changed:
            m.__class__ = kind
        for m, name, value in marks:
            vars(m)[name] = value


_MARKS = ("_is_fsdp_managed_module", "_fsdp_use_orig_params")  # what FSDP2 notes on a module


# -- files


def write_together(
    path: str | os.PathLike[str], manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], *, kind: Kind
) -> None:
    """Write a file as `write_archive` does: the first process writes it, with one gathered tensor at a time in memory.

    A collective call: all processes must make it.

    Args:
        path: The file.
        manifest: Plain data.
        tensors: By name, sharded or not.
        kind: What the file is for.

    Raises:
        CannotSave: If it cannot be written.
    """
    names = _names_by_first([name for name, x in in_order(tensors)[0].items() if is_sharded(x)])
    whole = (full_tensor(tensors[name]) for name in names)
    by_first(
        lambda: write_archive(path, manifest, tensors, kind=kind, full=lambda x: next(whole) if is_sharded(x) else x),
        meanwhile=lambda: deque(whole, maxlen=0),  # all take part in gathering, even if the first one has failed
    )


def whole_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sharded tensors gathered onto the CPU, in the first process alone; others as they are. A collective call.

    Args:
        tensors: By name; tied ones stay tied.
    """
    stored, tied = untied({name: x for name, x in tensors.items() if is_sharded(x)})
    res = dict(tensors)
    for name in _names_by_first(list(stored)):
        whole = full_tensor(tensors[name])
        if rank_and_world()[0] == 0:
            res[name] = whole.cpu()
    return res | {alias: res[name] for alias, name in tied.items()}


def _names_by_first(names: list[str]) -> list[str]:
    """The names in the order of the first process: only it has a part of every tensor, by which ties are found."""
    return gathered(names)[0] if names else names


def load_whole(model: nn.Module, weights: Mapping[str, Any], strict: bool = True) -> None:
    """Load weights, the same in each process, into a model that may be sharded.

    Args:
        model: The model, or a part of one.
        weights: By name.
        strict: Every weight of the model must be among them, and no other.
    """
    own = model.state_dict()
    parts = {
        name: shard_like(x, own[name]) if isinstance(x, Tensor) and isinstance(own.get(name), Tensor) else x
        for name, x in weights.items()
    }
    model.load_state_dict(parts, strict=strict)
