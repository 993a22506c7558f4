"""Work shared out among processes: every result, errors as they are, a core for each."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.studies.study import share_out
from tests.support.jobs import Refused, square


def test_one_worker_is_this_process_in_order():
    found = list(share_out(square, [3, 1, 2], 1))
    assert [value for value, _, _ in found] == [9, 1, 4]
    assert {process for _, process, _ in found} == {os.getpid()}


def test_several_workers_have_a_core_each():
    found = list(share_out(square, range(6), 2))
    assert sorted(value for value, _, _ in found) == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process, _ in found}
    pinned = hasattr(os, "sched_setaffinity")
    assert {count for _, _, count in found} == {1 if pinned else os.cpu_count()}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_job_comes_out(workers):
    with pytest.raises(Refused, match="-1 is below 0"):
        list(share_out(square, [-1, 2], workers))


PARENT = """
import sys
from experiments.studies.study import share_out
from tests.support.jobs import linger
if __name__ == "__main__":
    list(share_out(linger, sys.argv[1:], 2))
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    """Else they would write beside those of the same command, started again."""
    script, files = tmp_path / "parent.py", [tmp_path / "a", tmp_path / "b"]
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(script), *map(str, files)]
    parent = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    finally:
        parent.kill()
        parent.wait()
    workers = [int(file.read_text()) for file in files]
    wait_for(lambda: not any(lives(worker) for worker in workers))


def lives(process: int) -> bool:
    """One that has ended may stay as a zombie until somebody asks for it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
