"""A table of what a model does to one batch: shapes, parameters, and which of them are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layered.foundation.tensors import plain_tree
from layered.foundation.tree import leaves, tensors_of
from layered.nn.hooks import Hook, undisturbed


@dataclass(frozen=True)
class Row:
    """One run of one layer."""

    name: str  # its path in the model: "0.4.conv1"
    kind: str  # its class
    shapes: list[tuple[int, ...]]  # of its outputs, batch first
    params: int  # of its own; 0 where an earlier row has counted them
    trainable: bool | None  # None without parameters


@dataclass(frozen=True)
class Summary:
    """What `module_summary` found; prints as a table.

    total_params, trainable_params   each parameter counted once, however often it is used
    """

    model: str
    input_shapes: list[tuple[int, ...]]
    rows: list[Row]
    total_params: int
    trainable_params: int

    def __str__(self) -> str:
        table = [("Layer (type)", "Output shape", "Param #", "Trainable")]
        for row in self.rows:
            counted = ("", "") if row.trainable is None else (f"{row.params:,}", str(row.trainable))
            layer = f"{row.name} ({row.kind})" if row.name else row.kind
            table.append((layer, ", ".join(map(_size, row.shapes)), *counted))
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        lines = [line.rstrip() for line in lines]
        rule = "=" * (sum(widths) + 6)
        return "\n".join(
            [
                f"{self.model} (input shape: {', '.join(map(_size, self.input_shapes))})",
                rule,
                lines[0],
                rule,
                *lines[1:],
                rule,
                f"Total params:         {self.total_params:,}",
                f"Trainable params:     {self.trainable_params:,}",
                f"Non-trainable params: {self.total_params - self.trainable_params:,}",
            ]
        )

    __repr__ = __str__


def module_summary(model: nn.Module, *xb: Any) -> Summary:
    """Run `model` on the inputs of one batch, and list every layer that ran.

    xb         the inputs, passed by position
    returns    a row for each run of a module that has no children or has parameters of its own, in order of running

    The model runs in evaluation mode without gradients; modes, buffers and random generators are restored.

    >>> print(module_summary(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), Tensor([[1, 2, 3]])))
    Sequential (input shape: 1 x 3)
    ==============================================
    Layer (type)  Output shape  Param #  Trainable
    ==============================================
    0 (Linear)    1 x 4         16       True
    1 (ReLU)      1 x 4
    ==============================================
    Total params:         16
    Trainable params:     16
    Non-trainable params: 0
    """
    rows: list[Row] = []
    counted: set[int] = set()
    inputs = plain_tree(xb)

    def listing(name: str) -> Any:
        def add(module: nn.Module, _: Any, output: Any) -> None:
            own = list(module.parameters(recurse=False))
            new = [p for p in own if id(p) not in counted]
            counted.update(map(id, own))
            shapes = [tuple(t.shape) for t in tensors_of(output)]
            trainable = any(p.requires_grad for p in own) if own else None
            rows.append(Row(name, type(module).__name__, shapes, sum(p.numel() for p in new), trainable))

        return add

    hooks = [Hook(module, listing(name)) for name, module in model.named_modules() if _is_listed(module)]
    try:
        with undisturbed(model):
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    params = list(model.parameters())
    return Summary(
        type(model).__name__,
        [tuple(x.shape) for x in leaves(inputs) if isinstance(x, Tensor)],
        rows,
        sum(p.numel() for p in params),
        sum(p.numel() for p in params if p.requires_grad),
    )


def _is_listed(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "number"
