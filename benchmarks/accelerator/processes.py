"""A process for every job, which may fail, or be late, alone.

It stands in a module of its own, as what is started anew does not find its way back to a package
that was run as a program.
"""

import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks.accelerator.plan import AcceleratorSettings, Job, Left, Report


def serve(connection: Connection, settings: AcceleratorSettings, job: Job) -> None:
    """What a process does: measure, and tell of every row as soon as it is there."""
    from benchmarks.accelerator.contestants import measure

    for report in measure(settings, job):
        connection.send(report)
    connection.close()


def reports(settings: AcceleratorSettings, job: Job, seconds: float) -> Iterator[Report]:
    """What a process measures within so many seconds; what it leaves out is not told."""
    end = time.monotonic() + seconds
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(theirs, settings, job), daemon=True)
    process.start()
    theirs.close()
    try:
        while ours.poll(max(end - time.monotonic(), 0)):
            yield ours.recv()
        raise Left("the time was up")
    except EOFError:
        process.join()
        if process.exitcode:
            raise Left(f"its process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
