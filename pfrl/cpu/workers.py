"""Processes of one core each, that end when the process that started them does."""

import itertools
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import threadpoolctl

from pfrl.cpu.process import take_core
from pfrl.files import locked
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
      workers: processes. Those of all pools of this machine are spread evenly over its cores.
      prepare: called with the arguments in each of them when it starts; it can be pickled.
    """
    # A forked copy of a process in which XLA's threads run may wait for one of them for ever.
    context = multiprocessing.get_context("spawn")
    start = (plugins(), prepare, arguments)
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=start)


def _begin(
    known: tuple[Path, ...], prepare: Callable[..., object] | None, arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    become_worker(known)
    if prepare is not None:
        prepare(*arguments)


def become_worker(known: tuple[Path, ...]) -> int:
    """Let this process work on one core, with one thread and these plugins; returns the core.

    It is the least used core of those that this process may use, whoever uses the others.
    """
    core = _free_core(cores())
    take_core(core)
    threadpoolctl.threadpool_limits(1)
    load_plugins(known)
    return core


_held: list[Any] = []
"""Locks of this process; the system takes them back when it ends, however it ends."""


def _free_core(own: list[int]) -> int:
    """The core whose lock is free: the first worker on a core holds its lock 0, the next one 1."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"pfrl-cores-{user}"
    try:
        for level, core in itertools.product(range(64), own):
            held = locked(folder / f"{core}.{level}")
            if held is not None:
                _held.append(held)
                return core
    except OSError:
        pass  # there is no place for locks, or there are none
    return own[os.getpid() % len(own)]


def _end_with_parent() -> None:
    """Whoever starts the work again would else write beside what a killed one left running."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
