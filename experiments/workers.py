"""Work shared out among processes of one core each: how a CPU with several cores is kept busy.

XLA's convolutions on a small network hardly use a second core, so two processes do nearly
twice the work of one.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.queues import Queue
from typing import TypeVar

import threadpoolctl

from pfrl.cpu import take_core

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_out(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[Result]:
    """Results of ``function(job)``, each as soon as it is there.

    Jobs are begun in their order. Where one fails, its error is raised here and no other is
    begun.

    Args:
      function: with more than one worker, one that can be pickled, as its jobs and results.
      jobs: what there is to do.
      workers: processes, each on a core of its own; with 1 this process does it.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    free: Queue[int] = context.Queue()
    own = cores()
    for number in range(workers):
        free.put(own[number % len(own)])
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(free,))
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(free: "Queue[int]") -> None:
    take_core(free.get())
    threadpoolctl.threadpool_limits(1)
