"""The runner of studies: killed at any moment and started again, every job is done once."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.records.history import read_history
from experiments.records.run_folder import RunFolder
from experiments.studies.study import complete
from tests.support.killed_study import Multiply, Product, ToySettings

ROOT = Path(__file__).resolve().parents[2]
JOBS = 40


@pytest.mark.parametrize(("workers", "kills"), [(1, 6), (2, 3)])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(workers, kills, tmp_path):
    out, rng = tmp_path / "study", np.random.default_rng(workers)
    results = out / "results.jsonl"
    command = [
        sys.executable,
        "-m",
        "tests.support.killed_study",
        str(out),
        str(JOBS),
        str(workers),
    ]

    def start():
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def done():
        return results.read_bytes().count(b"\n") if results.exists() else 0

    for _ in range(kills):
        process, granted = start(), done() + int(rng.integers(1, 4))
        while done() < granted:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.wait()
    # What a kill in mid-line leaves.
    with results.open("a") as stream:
        stream.write('{"number": 39, "prod')
    before = read_history(results)
    assert start().wait() == 0
    lines = read_history(results)
    assert sorted(line["number"] for line in lines) == list(range(JOBS))
    assert all(line["product"] == 3 * line["number"] for line in lines)
    assert before and all(
        before[line["number"]] == line for line in lines if line["number"] in before
    )


def test_lines_come_in_the_order_of_the_jobs_and_others_stay(tmp_path):
    settings = ToySettings(tmp_path)
    jobs = [Product(n) for n in (4, 1, 3)]
    for some in (jobs[1:], jobs):
        folder = RunFolder("toy", settings, Path(__file__))
        lines = complete(folder, some, Multiply(2), workers=1)
        assert [line["number"] for line in lines] == [job.number for job in some]
    last = complete(RunFolder("toy", settings, Path(__file__)), jobs[:1], Multiply(5), workers=1)
    assert [(line["number"], line["product"]) for line in last] == [(4, 8), (1, 2), (3, 6)]
