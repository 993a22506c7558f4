"""Work shared out among processes of one core each: how a CPU with several cores is kept busy.

XLA's convolutions on a small network hardly use a second core, so two processes do nearly
twice the work of one.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from typing import TypeVar

from pfrl.cpu import core_pool

Job = TypeVar("Job")
Result = TypeVar("Result")


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
    pool = core_pool(workers)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
