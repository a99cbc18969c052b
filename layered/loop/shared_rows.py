"""The rows of a batch that several processes share, as one process would have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed

from layered.foundation import rank_and_world


class SharedRows:
    """Where each row of a whole batch lies, numbered as one process would number them.

    Args:
        counts: How many rows each process has.

    Examples:
        >>> rows = SharedRows([3])
        >>> rows.total, rows.permuted(torch.tensor([5, 6, 7]), np.array([1, 2, 0]))
        (3, tensor([6, 7, 5]))
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.rank, self.world = rank_and_world()
        pairs = sorted((place, rank) for rank, count in enumerate(counts) for place in range(count))
        self.total = len(pairs)
        self.place, self.owner = np.array(pairs, dtype=np.int64).reshape(-1, 2).T  # loaders deal them out one by one
        self.own = np.flatnonzero(self.owner == self.rank)

    def permuted(self, x: Tensor, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """The rows that this process has of the whole batch, once that is put into `order`. A collective call.

        Args:
            x: The rows of this process, [own rows, ...].
            order: The numbers of the rows, in the new order: the same in each process.
        """
        due = order[self.own]
        if self.world == 1:
            return x[_index(due, x)]
        wanted = [order[self.owner == rank] for rank in range(self.world)]
        sent = [self.place[rows[self.owner[rows] == self.rank]] for rows in wanted]
        received = [np.flatnonzero(self.owner[due] == rank) for rank in range(self.world)]
        rows = x[_index(np.concatenate(sent), x)]
        found = torch.empty(len(due), *x.shape[1:], dtype=x.dtype, device=x.device)
        distributed.all_to_all_single(
            _bytes(found), _bytes(rows), [len(rows) for rows in received], [len(rows) for rows in sent]
        )
        return found[_index(np.argsort(np.concatenate(received)), x)]


def _index(rows: np.ndarray[tuple[int], np.dtype[np.int64]], x: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(x.device, non_blocking=True)


def _bytes(x: Tensor) -> Tensor:
    """The memory of a tensor, [row, byte], which every backend can send whatever the type."""
    return x.reshape(len(x), -1).view(torch.uint8)
