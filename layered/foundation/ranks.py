"""Which of several processes this one is."""

from __future__ import annotations

from torch import distributed


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and how many there are; (0, 1) without `torch.distributed`.

    >>> rank_and_world()
    (0, 1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
