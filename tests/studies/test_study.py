"""The runner of studies: killed at any moment and started again, every job is done once."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.history import read_history
from experiments.records.run_folder import RunFolder
from experiments.studies.study import ONE_BY_ONE, complete
from tests.support.jobs import Multiply, Product
from tests.support.killed_study import ToySettings

ROOT = Path(__file__).resolve().parents[2]
JOBS = 40


@pytest.mark.parametrize(("workers", "kills"), [(1, 6), (2, 2)])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(workers, kills, tmp_path):
    """The program is no module, so that the worker processes need not import one again."""
    code = "import sys; from tests.support.killed_study import main; "
    code += f"main(sys.argv[1], {JOBS}, {workers}, {kills})"
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    before = read_history(tmp_path / "before.jsonl")
    lines = read_history(tmp_path / "results.jsonl")
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
        lines = complete(folder, some, Multiply(2), ONE_BY_ONE)
        assert [line["number"] for line in lines] == [job.number for job in some]
    last = complete(RunFolder("toy", settings, Path(__file__)), jobs[:1], Multiply(5), ONE_BY_ONE)
    assert [(line["number"], line["product"]) for line in last] == [(4, 8), (1, 2), (3, 6)]
