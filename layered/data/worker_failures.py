"""What is said of a worker process that died or does not answer: which one, at which items, and what helps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.process import BaseProcess

from layered.data.samplers import TicketBatch
from layered.foundation import WorkerFailed

_HELP = {
    "SIGKILL": "the system most likely ran out of memory: use fewer workers (num_workers=), a smaller bs or smaller items",
    "SIGBUS": "shared memory (/dev/shm) is most likely full: enlarge it (for Docker: --shm-size), or use fewer workers",
}
_LOOK = "num_workers=0 makes the items in this process, where the failure can be seen"


def worker_failure(
    processes: Sequence[BaseProcess],
    working_on: Sequence[int],
    outstanding: Iterable[TicketBatch],
    due: int,
    timeout: float,
    is_overdue: bool,
    item_name: Callable[[object], str],
) -> WorkerFailed | None:
    """The error for the worker that ended, or else kept the loader waiting; None if all are at work and none is overdue.

    Args:
        processes: The workers, in order.
        working_on: For each worker, the number of the batch that it was making; -1 for none.
        outstanding: The batches that were sent to workers and did not come back.
        due: The place of the batch that is waited for among those of this pass, from 0.
        timeout: Seconds that the loader waits for a batch; 0 if it waits forever.
        is_overdue: That time has passed, and the workers were ended for it.
        item_name: The name of an item in messages.
    """
    plans = {plan.number: plan for plan in outstanding}
    dead = [worker for worker, process in enumerate(processes) if process.exitcode is not None and not is_overdue]
    if dead:
        worker = next((one for one in dead if working_on[one] in plans), dead[0])
        process, others = processes[worker], len(dead) - 1
        ended, fix = _how_it_ended(process.exitcode or 0)
        also = f"; {others} more ended too" if others else ""
    elif timeout:
        worker = due % len(processes)
        if working_on[worker] not in plans:
            worker = next((one for one, number in enumerate(working_on) if number in plans), worker)
        process = processes[worker]
        ended, also = f"did not answer within timeout={timeout:g} seconds, and was ended", ""
        fix = f"find what these items wait for, or allow more time with timeout=; {_LOOK}"
    else:
        return None
    plan = plans.get(working_on[worker])
    return WorkerFailed(
        f"worker {worker} of {len(processes)} (process {process.pid}) {ended}{also}",
        got="it was waiting for work"
        if plan is None
        else f"it was making batch {plan.number}: {_items(plan, item_name)}",
        fix=fix,
    )


def _how_it_ended(code: int) -> tuple[str, str]:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}", _HELP.get(
            name, f"native code that the items run has most likely failed; {_LOOK}"
        )
    return f"exited with code {code}", f"some code that the items run ends its process (sys.exit, os._exit); {_LOOK}"


def _items(plan: TicketBatch, item_name: Callable[[object], str]) -> str:
    items = plan.listed()
    names = ", ".join(map(item_name, items[:3]))
    return names if len(items) <= 3 else f"{names} and {len(items) - 3} more"
