"""What a model does to one batch, as a table: output shapes, parameters, operations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from layered.foundation import Report, Table, lazy, leaves, plain_tree, short_count, tensors_of
from layered.nn.hooks import Hook, undisturbed

flop_counter: Any = lazy("torch.utils.flop_counter")


@dataclass(frozen=True)
class LayerRow:
    """One run of one layer.

    Args:
        name: Its path in the model: "0.4.conv1".
        kind: Its class.
        shapes: The shapes of its outputs, batch first.
        params: The number of values in its own parameters; 0 if an earlier row has counted them.
        trainable: Whether one of its own parameters is trained; None without parameters.
        flops: Its own floating-point operations for this batch: matrix products and convolutions, 2 per multiply-add.
        group: The index of its parameters' group; None if they are in none.
    """

    name: str
    kind: str
    shapes: list[tuple[int, ...]]
    params: int
    trainable: bool | None
    flops: int
    group: int | None


@dataclass(frozen=True, repr=False)
class Summary(Report):
    """What `module_summary` found; prints as a table.

    Args:
        model: The class of the model.
        input_shapes: The shapes of the inputs.
        rows: One for each run of a layer, in execution order.
        total_params: The number of values in all parameters, each counted once, however often it is used.
        trainable_params: The same for trained parameters.
        num_groups: The number of parameter groups.
    """

    model: str
    input_shapes: list[tuple[int, ...]]
    rows: list[LayerRow]
    total_params: int
    trainable_params: int
    num_groups: int

    @property
    def total_flops(self) -> int:
        """Counted floating-point operations of the forward pass of this batch."""
        return sum(row.flops for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def heading(self) -> str:
        return f"{self.model} (input shape: {', '.join(map(_size, self.input_shapes))})"

    def tables(self) -> Sequence[Table]:
        table: list[tuple[str, ...]] = []
        for row in self.rows:
            counted = ("", "") if row.trainable is None else (f"{row.params:,}", str(row.trainable))
            layer = f"{row.name} ({row.kind})" if row.name else row.kind
            cost = short_count(row.flops) if row.flops else ""
            group = "" if row.group is None else str(row.group)
            table.append((layer, ", ".join(map(_size, row.shapes)), *counted, cost, group))
        header = ("Layer (type)", "Output shape", "Param #", "Trainable", "FLOPs", "Group")
        width = 6 if self.num_groups else 5
        return [(header[:width], [line[:width] for line in table])]

    def notes(self) -> Sequence[str]:
        return [
            f"Total params:         {self.total_params:,}",
            f"Trainable params:     {self.trainable_params:,}",
            f"Non-trainable params: {self.total_params - self.trainable_params:,}",
            f"Forward FLOPs:        {short_count(self.total_flops)}",
        ]


def module_summary(model: nn.Module, *xb: object, groups: Sequence[Sequence[Tensor]] = (), **named: object) -> Summary:
    """Run a model on one batch and list every layer that ran.

    The model runs in evaluation mode without gradients; modes, buffers and random generators are restored.

    Args:
        model: The model.
        xb: The model's inputs.
        groups: The parameter groups of the optimizer, to show which one a layer belongs to.
        named: The model's inputs by keyword.

    Returns:
        A row for each run of a module without children or with parameters of its own, in execution order.

    Examples:
        >>> print(module_summary(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), Tensor([[1, 2, 3]])))
        Sequential (input shape: 1 x 3)
        =====================================================
        Layer (type)  Output shape  Param #  Trainable  FLOPs
        =====================================================
        0 (Linear)    1 x 4         16       True       24
        1 (ReLU)      1 x 4
        =====================================================
        Total params:         16
        Trainable params:     16
        Non-trainable params: 0
        Forward FLOPs:        24
    """
    rows: list[LayerRow] = []
    counted: set[int] = set()
    inputs, by_name = plain_tree(xb), plain_tree(named)
    group_of = {id(p): number for number, group in enumerate(groups) for p in group}
    counter = flop_counter.FlopCounterMode(display=False)

    def listing(name: str) -> Any:
        def add(module: nn.Module, _: object, output: object) -> None:
            own = list(module.parameters(recurse=False))
            new = [p for p in own if id(p) not in counted]
            counted.update(map(id, own))
            shapes = [tuple(t.shape) for t in tensors_of(output)]
            trainable = any(p.requires_grad for p in own) if own else None
            flops = counter.get_total_flops() - sum(row.flops for row in rows)
            group = next((group_of.get(id(p)) for p in own), None)
            rows.append(
                LayerRow(name, type(module).__name__, shapes, sum(p.numel() for p in new), trainable, flops, group)
            )

        return add

    with ExitStack() as hooks, undisturbed(model), counter:
        for name, module in model.named_modules():
            if _is_listed(module):
                hooks.enter_context(Hook(module, listing(name)))
        model(*inputs, **by_name)
    params = list(model.parameters())
    return Summary(
        type(model).__name__,
        [tuple(x.shape) for x in leaves((inputs, by_name)) if isinstance(x, Tensor)],
        rows,
        sum(p.numel() for p in params),
        sum(p.numel() for p in params if p.requires_grad),
        len(groups),
    )


def _is_listed(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "number"
