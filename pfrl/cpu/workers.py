"""Processes of one core each, that end when the process that started them does."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import threadpoolctl

from pfrl.cpu.process import take_core
from pfrl.registry import load_plugins, plugins


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_pool(
    workers: int, prepare: Callable[..., object] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """So many processes, each pinned to a core, with one thread, and the same plugins.

    Args:
      workers: processes; with more than there are cores some share one.
      prepare: called with the arguments in each of them when it starts; it can be pickled.
    """
    # A forked copy of a process in which XLA's threads run may wait for one of them for ever.
    context = multiprocessing.get_context("spawn")
    free: Queue[int] = context.Queue()
    own = cores()
    for number in range(workers):
        free.put(own[number % len(own)])
    start = (free, plugins(), prepare, arguments)
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=start)


def _begin(
    free: "Queue[int]",
    known: tuple[Path, ...],
    prepare: Callable[..., object] | None,
    arguments: tuple[Any, ...],
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    take_core(free.get())
    threadpoolctl.threadpool_limits(1)
    load_plugins(known)
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    """Whoever starts the work again would else write beside what a killed one left running."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
