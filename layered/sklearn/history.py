"""The epochs of a `NeuralNet`, read by row and column."""

from __future__ import annotations

from typing import Any

from layered.foundation import BadValue, unknown_name


class History(list[dict[str, Any]]):
    """A dict for each epoch; `history[:, "train_loss"]` is a column, `history[-1, "valid_loss"]` a value.

    Examples:
        >>> history = History([{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}])
        >>> history[:, "train_loss"], history[-1, ("epoch", "train_loss")], history[0]
        ([0.5, 0.25], (2, 0.25), {'epoch': 1, 'train_loss': 0.5})
    """

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return super().__getitem__(key)
        if len(key) != 2:
            raise BadValue(
                "a history has rows of epochs, and none of batches", got=repr(key), fix="history[-1, 'train_loss']"
            )
        rows, names = key
        found: Any = super().__getitem__(rows)
        return [_picked(row, names) for row in found] if isinstance(rows, slice) else _picked(found, names)


def _picked(row: dict[str, Any], names: str | tuple[str, ...]) -> Any:
    for name in [names] if isinstance(names, str) else names:
        if name not in row:
            raise unknown_name("column of the history", name, row)
    return row[names] if isinstance(names, str) else tuple(row[name] for name in names)
