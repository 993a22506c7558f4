"""How much memory a network needs in its runtime: the most that a fresh process had at once.

A damaged file may be a network that never ends or wants all of the memory: the process is stopped
when it takes more than the largest networks do.
"""

import importlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pfrl.deploy.runtimes.base import check_there, first_line
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.files import FileError

_PROCESSES, _MEMORY = Path("/proc"), Path("/proc/meminfo")
AGAIN = "; export it again"
RUNS = 3
"""A runtime asks for more in the second run, when it knows what the first one needed."""

LOOK_SECONDS = 0.01
"""Between two looks at the memory of a process."""
PATIENCE = 10
"""How many times its seconds a process may take in all, as it may have to wait for a core."""
GIB = 2**30


class Limits(NamedTuple):
    """What loading a file and running it ``RUNS`` times may take.

    Attributes:
      seconds: of a core, so that a busy machine changes nothing.
      memory: bytes.
    """

    seconds: float
    memory: int


def limits_of(path: Path | str, threads: int, batch: int) -> Limits:
    """Several times what the largest networks for phones need.

    A runtime keeps weights as in the file, as floats and in the order of its kernels, and needs
    less than a second for 10 MiB of them. For an image 2 GiB are more than a phone gives to a
    program, and 10 s are 20 GMACs on a slow core. Threads that wait for work take their core's
    seconds, too. No network gets memory that the machine does not have.
    """
    size = Path(path).stat().st_size
    return Limits(
        (60 + size / (10 * 2**20) + 10 * RUNS * batch) * threads,
        min(16 * size + 2 * GIB * batch, int(_available() * 0.75)),
    )


def peak_memory(path: Path | str, threads: int = 1, batch: int = 1) -> int:
    """The memory of one file; see ``peak_memories``."""
    return peak_memories([path], threads, batch)[0]


def peak_memories(paths: Sequence[Path | str], threads: int = 1, batch: int = 1) -> list[int]:
    """Bytes of memory that loading each file and running it takes, at most at once.

    Measured in a process of its own for each, in which nothing but the runtimes and Python is;
    their share does not count. What the runtime keeps of the file itself does.

    Args:
      paths: ``.onnx`` and ``.tflite`` files.
      threads: threads inside an operation.
      batch: images in a run.

    Raises:
      FileError: if a file is missing or cannot be run, within the limits of a network.
    """
    for path in paths:
        check_there(path)
    command = [sys.executable, "-m", __name__, str(threads), str(batch), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise unreadable((done.stderr.strip() or "it ended without a word").splitlines()[-1])
    return [int(line) for line in done.stdout.split()]


def unreadable(reason: str | Exception) -> FileError:
    """What a user is told of a file that its runtime does not run."""
    said = reason if isinstance(reason, str) else first_line(reason)
    return FileError(f"a file cannot be run: {said.removesuffix(AGAIN)}{AGAIN}")


def _main(threads: int, batch: int, paths: Sequence[str]) -> None:
    for runtime in sorted({_runtime(path) for path in paths}):
        # With its code, most of a runtime is loaded; what it makes for a network comes later.
        importlib.import_module(runtime)
    for path in paths:
        # A copy of this process for each file, so that none inherits what another one freed.
        limits = limits_of(path, threads, batch)
        child = os.fork()
        if child == 0:
            try:
                signal.setitimer(signal.ITIMER_PROF, limits.seconds)
                print(measured(path, threads, batch), flush=True)
                os._exit(0)
            except Exception as error:  # the parent tells it in its own sentence
                print(first_line(error), file=sys.stderr, flush=True)
            os._exit(1)
        reason = watched(child, limits)
        if reason:
            print(f"{path} {reason}", file=sys.stderr)
        if reason is not None:
            sys.exit(1)


def watched(child: int, limits: Limits) -> str | None:
    """Wait for a process; end it if it takes too much memory, or only waits.

    Returns:
      What is to be said of its file; nothing if the process has said it, None if all went well.
    """
    most, end = limits.memory + _status("VmRSS"), time.monotonic() + PATIENCE * limits.seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        large, late = _status("VmRSS", str(child)) > most, time.monotonic() > end
        if large or late:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return _beyond("memory" if large else "seconds", limits)
        time.sleep(LOOK_SECONDS)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGPROF:
        return _beyond("seconds", limits)
    if code < 0:
        return f"crashed its runtime (signal {-code})"
    return "" if code else None


def _beyond(what: str, limits: Limits) -> str:
    if what == "memory":
        return f"was stopped when it took more than {limits.memory / GIB:.1f} GiB of memory"
    return f"was stopped after {limits.seconds:.0f} s, in which {RUNS} runs did not end"


def _runtime(path: str) -> str:
    return "ai_edge_litert.interpreter" if path.endswith(".tflite") else "onnxruntime"


def measured(path: str, threads: int, batch: int) -> int:
    """The peak of this process beyond what it has, in bytes.

    Raises:
      FileError: if the file cannot be run, or took more than its limit, if only for a moment.
    """
    limits = limits_of(path, threads, batch)
    before = _begin()
    session = open_session(path, threads)
    run = session.bound(session.random_images(batch, np.random.default_rng(0)))
    for _ in range(RUNS):
        run()
    most = max(0, _peak() - before)
    if most > limits.memory:
        raise FileError(f"{path} {_beyond('memory', limits)}")
    return most


def _begin() -> int:
    """What the process has now, in bytes; from here on a new peak is noted."""
    try:
        (_PROCESSES / "self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:  # not Linux, or not allowed: the peak so far
        return _peak()


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str, process: str = "self") -> int:
    """Bytes that a process has; 0 if it ended, or the system does not tell."""
    return _bytes(_PROCESSES / process / "status", key)


def _available() -> float:
    """Bytes of memory that nobody uses; without end if the system does not tell."""
    return _bytes(_MEMORY, "MemAvailable") or 2**62


def _bytes(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
