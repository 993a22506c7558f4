"""Runs in processes of this machine, each on a core of its own; or one by one in this process."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from ctypes import c_long
from typing import Any

from experiments.launch.running import Launcher, Result, Task
from experiments.watch.runs import Status, listen
from pfrl.cpu import core_pool, cores


class HereOneByOne(Launcher):
    """This process does the runs, each of which may build on those before it."""

    lost = ()
    independent = False

    def room(self) -> int:
        return 1

    def submit(
        self, function: Callable[[Task], Result], task: Task, number: int
    ) -> "Future[Result]":
        done: Future[Result] = Future()
        try:
            done.set_result(function(task))
        except Exception as error:
            done.set_exception(error)
        return done

    def status(self) -> Mapping[int, Status]:
        return {}

    def close(self) -> None:
        pass


class Processes(Launcher):
    """Processes of one core each. One that is killed takes none of the others with it.

    Args:
      workers: processes; 0 is one a core.
    """

    lost = (BrokenProcessPool,)
    independent = True

    def __init__(self, workers: int = 0):
        self._workers = workers or len(cores())
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def room(self) -> int:
        return self._workers

    def submit(
        self, function: Callable[[Task], Result], task: Task, number: int
    ) -> "Future[Result]":
        for ended in [n for n, worker in self._busy.items() if worker.future.done()]:
            self._idle.append(self._busy.pop(ended))
        while self._idle:
            worker = self._idle.pop()
            try:
                return self._begin(worker, function, task, number)
            except BrokenProcessPool:
                worker.close()
        return self._begin(_Worker(), function, task, number)

    def _begin(self, worker: "_Worker", function: Any, task: Any, number: int) -> "Future[Any]":
        worker.shared[:3] = 0, 0, 0
        worker.future = worker.pool.submit(function, task)
        self._busy[number] = worker
        return worker.future

    def status(self) -> Mapping[int, Status]:
        return {number: worker.status() for number, worker in self._busy.items()}

    def close(self) -> None:
        for worker in (*self._busy.values(), *self._idle):
            worker.close()


class _Worker:
    """A process, and memory in which it says how far its run is; no lock that it could die with."""

    def __init__(self) -> None:
        self.shared: Any = multiprocessing.get_context("spawn").RawArray(c_long, 5)
        self.pool = core_pool(1, _introduce, self.shared)
        self.future: Future[Any] = Future()

    def status(self) -> Status:
        done, total, part, process, core = self.shared
        return Status(f"core {core}" if process else "", done, total, part)

    def close(self) -> None:
        process = self.shared[3]
        if process and not self.future.done():
            # Its run goes on from its own records another time.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        self.pool.shutdown(cancel_futures=True)


def _introduce(shared: Any) -> None:
    """In a worker: who it is, and from now on how far its run is."""
    # An interrupt is for the process that asked: it ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shared[3:] = os.getpid(), cores()[0]

    def tell(done: int, total: int, part: int) -> None:
        shared[:3] = done, total, part

    listen(tell)
