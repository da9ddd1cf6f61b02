"""Running walkers one after the other, or side by side by dask.distributed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .walker import Plan, read_progress, run_walker

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

_POLL = 0.5  # s
_TIMEOUT = "20s"


def run_serial(plans: Sequence[Plan], folder: Path, report: Callable[[int, int], None]) -> None:
    """Run walkers in this process; ``report`` is given the number of a walker and of its frames so far."""
    for plan in plans:
        run_walker(plan, str(folder), lambda frames, number=plan.number: report(number, frames))


def run_parallel(
    plans: Sequence[Plan], folder: Path, cluster: str | Client | None, report: Callable[[int, int], None]
) -> None:
    """Run walkers on a cluster whose workers see the same file system; see run_serial().

    Raises
    ------
    ImportError
        If dask.distributed is missing.
    OSError
        If no scheduler answers at the address.
    """
    try:
        import distributed
    except ImportError as e:
        raise ImportError(
            f"Parallel sampling needs dask.distributed ({e}); run 'pip install openmmkstep[train]', or pass cluster='serial'."
        ) from e
    if isinstance(cluster, distributed.Client):
        _submit(plans, folder, cluster, report)
    elif isinstance(cluster, str):
        with distributed.Client(cluster, timeout=_TIMEOUT) as client:
            _submit(plans, folder, client, report)
    elif cluster is None:
        with local_cluster(min(len(plans), count_cores())) as own, distributed.Client(own) as client:
            _submit(plans, folder, client, report)
    else:
        raise TypeError(
            f"The cluster is None, 'serial', the address of a scheduler, or a dask.distributed Client, found {cluster!r}."
        )


def local_cluster(workers: int) -> SpecCluster:
    """A scheduler in this process, and workers with one thread each in processes of their own.

    LocalCluster would import the user's script again in each worker, which fails for scripts without a main guard.
    """
    from distributed import Scheduler, SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False}
    worker = {"cls": SubprocessWorker, "options": {"worker_class": "distributed.Worker", "worker_kwargs": options}}
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
        workers={i: worker for i in range(workers)},
        name="openmmkstep",
        silence_logs=30,
    )


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _submit(plans: Sequence[Plan], folder: Path, client: Client, report: Callable[[int, int], None]) -> None:
    from distributed import wait

    # Not pure: a plan that was run before goes on from its files. No retries: what failed would fail again.
    futures = [client.submit(run_walker, plan, str(folder), pure=False, retries=0) for plan in plans]
    try:
        pending = futures
        while pending:
            try:
                done, pending = wait(pending, timeout=_POLL, return_when="FIRST_COMPLETED")
            except TimeoutError:
                done = ()
            for plan in plans:
                report(plan.number, read_progress(folder, plan.number))
            for future in done:
                future.result()
            pending = list(pending)
    finally:
        client.cancel([f for f in futures if not f.done()])
