"""Runs shared out among processes: every result, a core for each, and what is done on a death."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.launch.opened import opened
from experiments.launch.processes import HereOneByOne, Processes
from experiments.launch.running import LaunchError, carry_out
from experiments.settings.launching import LaunchBlock
from experiments.watch.runs import RunsTable
from tests.support.jobs import Refused, deadly, dies_once, square


def shared_out(function, tasks, launcher, stream=None):
    """What the tasks yield, in the order in which it is there."""
    table = RunsTable([str(task) for task in tasks], "runs", launcher.room, stream=stream)
    return [done.result for done in carry_out(function, tasks, launcher, table)]


def test_one_worker_is_this_process_in_order():
    launcher = opened(LaunchBlock(workers=1), runs=3)
    found = shared_out(square, [3, 1, 2], launcher)
    assert [value for value, _, _ in found] == [9, 1, 4]
    assert {process for _, process, _ in found} == {os.getpid()}


def test_several_workers_have_a_core_each():
    found = shared_out(square, range(6), opened(LaunchBlock(workers=2), runs=6))
    assert sorted(value for value, _, _ in found) == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process, _ in found}
    pinned = hasattr(os, "sched_setaffinity")
    assert {count for _, _, count in found} == {1 if pinned else os.cpu_count()}


def test_no_more_workers_than_runs():
    assert isinstance(opened(LaunchBlock(workers=8), runs=1), HereOneByOne)
    assert opened(LaunchBlock(workers=8), runs=3).room() == 3


def test_the_error_of_a_run_comes_out_when_the_others_are_done():
    found, stream = [], io.StringIO()
    table = RunsTable(["a", "b", "c"], "runs", stream=stream)
    with pytest.raises(Refused, match="-1 is below 0"):
        for done in carry_out(square, [-1, 2, 3], Processes(1), table):
            found.append(done.result[0])
    assert found == [4, 9]
    assert "a failed: -1 is below 0" in stream.getvalue()


def test_one_by_one_nothing_comes_after_an_error():
    found = carry_out(square, [1, -1, 2], HereOneByOne(), RunsTable(["a", "b", "c"], "runs"))
    assert next(found).result[0] == 1
    with pytest.raises(Refused, match="-1 is below 0"):
        next(found)


def test_the_run_of_a_killed_worker_is_taken_up_by_another(tmp_path):
    stream = io.StringIO()
    tasks = [(str(tmp_path), number, number == 1) for number in range(4)]
    found = shared_out(dies_once, tasks, Processes(2), stream)
    assert sorted(found) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1, "one run was begun a second time"
    assert stream.getvalue().count("another one takes it up") == 1


def test_a_run_that_kills_every_worker_is_given_up():
    with pytest.raises(LaunchError, match="3 workers died over the run '1'"):
        shared_out(deadly, [0, 1], Processes(1))


PARENT = """
import sys
from experiments.launch.processes import Processes
from experiments.launch.running import carry_out
from experiments.watch.runs import RunsTable
from tests.support.jobs import linger
if __name__ == "__main__":
    files = sys.argv[1:]
    list(carry_out(linger, files, Processes(2), RunsTable(files, "runs")))
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


def wait_for(holds, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
