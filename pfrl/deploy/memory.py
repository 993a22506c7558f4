"""How much memory a network needs in its runtime: the most that a fresh process had at once."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from pfrl.deploy.runtimes.base import first_line
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.files import FileError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RUNS = 3
"""A runtime asks for more in the second run, when it knows what the first one needed."""


def peak_memory(path: Path | str, threads: int = 1, batch: int = 1) -> int:
    """Bytes of memory that loading a file and running it takes, at most at once.

    Measured in a process of its own, in which nothing but the runtime and Python is; their share
    does not count. Pages of the file itself do, as far as the runtime keeps them.

    Args:
      path: a ``.onnx`` or a ``.tflite`` file.
      threads: threads inside an operation.
      batch: images in a run.

    Raises:
      FileError: if the file cannot be run.
    """
    command = [sys.executable, "-m", __name__, str(path), str(threads), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not done.stdout.strip().isdigit():
        last = (done.stderr.strip() or "it ended without a word").splitlines()[-1]
        raise FileError(f"{path} cannot be run to measure its memory ({last}); export it again")
    return int(done.stdout)


def _measured(path: str, threads: int, batch: int) -> int:
    # A tiny network first would load the runtime's code; importing it does most of that.
    runtime = "ai_edge_litert.interpreter" if path.endswith(".tflite") else "onnxruntime"
    __import__(runtime)
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
    try:
        print(_measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    except Exception as error:  # the parent tells it in its own sentence
        sys.exit(first_line(error))
