"""What a launcher says to a process: which of how many it is, and where they meet."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # and its like, such as `accelerate launch`


class Launched(NamedTuple):
    """The place of a process among those that a launcher has started.

    Attributes:
        rank: Its number.
        world: How many there are.
        local_rank: Its number on its machine.
        address: The machine where they meet.
        port: The port there.
    """

    rank: int
    world: int
    local_rank: int
    address: str
    port: int


def launched() -> Launched | None:
    """What `torchrun` or its like says by the environment, else `srun` of SLURM; None without a launcher.

    Under SLURM, processes meet at the first machine of the job, at a port that follows from the number of the job, unless
    MASTER_ADDR and MASTER_PORT say otherwise.
    """
    env = os.environ
    if all(name in env for name in _TORCHRUN):
        rank = int(env["RANK"])
        local_rank = int(env.get("LOCAL_RANK", rank))
        return Launched(rank, int(env["WORLD_SIZE"]), local_rank, env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    # The script of a batch job has a rank too, though it is alone until it calls `srun`.
    is_batch_script = "SLURM_GTIDS" in env and "SLURM_STEP_ID" not in env
    if "SLURM_PROCID" not in env or "SLURM_NTASKS" not in env or is_batch_script:
        return None
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST") or "127.0.0.1"
    return Launched(
        int(env["SLURM_PROCID"]),
        int(env.get("SLURM_STEP_NUM_TASKS") or env["SLURM_NTASKS"]),
        int(env.get("SLURM_LOCALID", 0)),
        env.get("MASTER_ADDR") or first_machine(nodes),
        int(env.get("MASTER_PORT") or 20000 + int(env.get("SLURM_JOB_ID", 0)) % 20000),
    )


def first_machine(nodes: str) -> str:
    """The first of a list of machines, as SLURM writes it.

    Args:
        nodes: Names separated by commas, with ranges of numbers in brackets.

    Examples:
        >>> first_machine("gpu[03-07,12],cpu1"), first_machine("a,b"), first_machine("rack[2,4]-n[01-02]")
        ('gpu03', 'a', 'rack2-n01')
    """
    first = re.match(r"(?:\[[^\]]*\]|[^,\[])*", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0] if first else nodes)
