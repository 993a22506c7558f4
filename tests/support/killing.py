"""Work on a file of lines that is killed at random moments and started again, by forking."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def finish(work: Callable[[], object]) -> None:
    """Do it in a process of its own, whose end is waited for.

    A process that has loaded everything starts others at no cost; it must not compute itself.
    """
    _, status = os.waitpid(_forked(work), 0)
    if status != 0:
        raise SystemExit(f"the work ended with status {status}")


def kill(work: Callable[[], object], file: Path, more: int, jitter: float) -> None:
    """Begin it, or go on, and kill it ``jitter`` seconds after so many more lines."""
    child, granted = _forked(work), _lines(file) + more
    while _lines(file) < granted:
        # It stays a process until it is waited for, so that it can be killed after its end.
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if _lines(file) < granted:
                raise SystemExit("the work ended before it could be killed")
            break
        time.sleep(0.001)
    time.sleep(jitter)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def kill_often(
    work: Callable[[], object], file: Path, kills: int, more: range, last: int, seed: int
) -> None:
    """Kill it so many times, each after some ``more`` lines, of ``last`` in all; finish it."""
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        lines = min(int(rng.choice(more)), last - _lines(file))
        kill(work, file, lines, rng.uniform(0, 0.03))
    # What a kill in mid-line leaves is half a line.
    with file.open("a") as stream:
        stream.write('{"number": 39, "prod')
    (file.parent / "before.jsonl").write_bytes(file.read_bytes())
    finish(work)


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
