"""How much memory a network needs in its runtime: the most that a fresh process had at once."""

import importlib
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pfrl.deploy.runtimes.base import first_line
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.files import FileError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
AGAIN = "; export it again"
RUNS = 3
"""A runtime asks for more in the second run, when it knows what the first one needed."""


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
      FileError: if a file cannot be run.
    """
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
        child = os.fork()
        if child == 0:
            try:
                print(measured(path, threads, batch), flush=True)
                os._exit(0)
            except Exception as error:  # the parent tells it in its own sentence
                print(first_line(error), file=sys.stderr, flush=True)
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            if status < 0:
                print(f"{path} crashed its runtime (signal {-status})", file=sys.stderr)
            sys.exit(1)


def _runtime(path: str) -> str:
    return "ai_edge_litert.interpreter" if path.endswith(".tflite") else "onnxruntime"


def measured(path: str, threads: int, batch: int) -> int:
    """The peak of this process beyond what it has, in bytes."""
    before = _begin()
    session = open_session(path, threads)
    run = session.bound(session.random_images(batch, np.random.default_rng(0)))
    for _ in range(RUNS):
        run()
    return max(0, _peak() - before)


def _begin() -> int:
    """What the process has now, in bytes; from here on a new peak is noted."""
    try:
        _RESET.write_text("5")
        return _status("VmRSS")
    except OSError:  # not Linux, or not allowed: the peak so far
        return _peak()


def _peak() -> int:
    if _STATUS.is_file():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
