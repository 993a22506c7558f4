"""A sweep on a Ray cluster of two nodes, whose workers and whose command are killed on the way."""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.records.history import read_history

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed; 'make test-ray' installs it and runs these tests",
    ),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are looked up in /proc"),
]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
SWEEP = """sweep --model resnet8 --data digits --agents random evolution --targets macs=0.5 macs=0.7
 --seeds 0 1 2 --episodes 30 --episode.fidelity reconstruct --episode.validation xla
 --recipe.images 64 --tuning-images 64""".split()
RUNS = 12
CLOCKS = ("evaluation_seconds", "agent_seconds", "job_seconds", "seconds", "curve", "hits")
"""What the clock decides about, and which of two searches came first to the cache."""


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster."""
    command = [sys.executable, "-m", "tests.support.ray_cluster"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdin and process.stdout
        lines = iter(process.stdout.readline, "")
        yield next(line.split()[1] for line in lines if line.startswith("address"))
        process.stdin.close()


def begun(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments", *SWEEP, *words]
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=said, stderr=said)


def workers(folder: Path) -> list[int]:
    """Processes of Ray that carry out a run of a command that was given in that folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"ray::_work") and os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(holds, process: subprocess.Popen, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, "the command ended too early"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def plain(line: Mapping) -> dict:
    return {name: value for name, value in line.items() if name not in CLOCKS}


def told(out: Path) -> dict:
    """All files of a sweep, but for what the clock decides about."""
    with (out / "search.csv").open() as stream:
        rows = [plain(row) for row in csv.DictReader(stream)]
    histories = {
        str(path.relative_to(out)): [plain(line) for line in read_history(path)]
        for path in sorted(out.rglob("history.jsonl"))
    }
    lines = sorted(map(repr, map(plain, read_history(out / "results.jsonl"))))
    # What SQLite has beside the cache while a process that is ended has it open; and the events of
    # TensorBoard, which are files by the second in which a search was begun.
    files = [path for path in out.rglob("*") if path.is_file() and "sqlite-" not in path.name]
    names = {str(path.relative_to(out)).partition("events.out")[0] for path in files}
    return {"rows": rows, "histories": histories, "lines": lines, "names": names}


def test_killed_workers_and_a_killed_command_change_no_file(cluster, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert begun(whole, "--workers", "2").wait(600) == 0, (whole / "said.txt").read_text()

    results, said = broken / "runs" / "sweep" / "results.jsonl", broken / "said.txt"
    command = begun(broken, "--ray", cluster)
    wait_for(lambda: len(read_history(results)) >= 2, command)
    wait_for(lambda: workers(broken), command)
    os.kill(workers(broken)[0], signal.SIGKILL)
    wait_for(lambda: "lost its worker" in said.read_text(), command)
    finished = len(read_history(results))
    wait_for(lambda: len(read_history(results)) > finished, command)
    command.kill()
    command.wait()
    before = read_history(results)
    assert 3 <= len(before) < RUNS

    assert begun(broken, "--ray", cluster).wait(600) == 0, said.read_text()[-3000:]
    after = read_history(results)
    assert len(after) == RUNS and after[: len(before)] == before, "no finished run is repeated"
    assert told(broken / "runs" / "sweep") == told(whole / "runs" / "sweep")
