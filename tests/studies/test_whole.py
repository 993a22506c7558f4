"""Studies as a user types them: of a network of one's own, and a real one that is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import cli
from experiments.records.history import read_history
from tests.models.test_network import HEAD, NNX

ROOT = Path(__file__).resolve().parents[2]
EPISODES = """--episodes 2 --episode.search-images 60 --episode.statistics-images 32
 --episode.batch 32 --episode.validation xla --recipe.images 64 --round-to 1 --workers 1"""
COMMANDS = {
    "pareto": f"--agent random --limits 0.6 --no-latency --candidates 1 --rescore-steps 1"
    f" {EPISODES}",
    "sweep": f"--agents random --seeds 0 --tuning-images 64 {EPISODES}",
    "tune": "--round-to 1 --trials 2 --steps 4 --batch 16 --tune lr",
    "methods": "--sections bits --seeds 1 --images 64 --workers 1",
}
QUICK = ("pareto", "tune")


@pytest.mark.parametrize(
    "command", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                for name in COMMANDS]
)  # fmt: skip
def test_a_network_of_ones_own(command, tmp_path):
    path, out = tmp_path / "net.py", tmp_path / "study"
    path.write_text(HEAD + NNX)
    words = [command, "--model", f"{path}:trained", "--data", "digits", "--out", str(out)]
    assert cli.main([*words, *COMMANDS[command].split()]) == 0
    assert list(out.glob("*.md")) and read_history(out / "results.jsonl")


SWEEP = """sweep --model resnet8 --data digits --agents random ddpg --targets macs=0.5 --seeds 0 1
 --episodes 6 --tuning-images 64 --recipe.images 64 --episode.batch 32 --episode.search-images 60
 --episode.statistics-images 32 --episode.validation xla --workers 2""".split()
WALL_CLOCK = {"evaluation_seconds", "agent_seconds", "curve", "hits", "job_seconds"}


def without_clock(out: Path):
    lines = read_history(out / "results.jsonl")
    return [{k: v for k, v in line.items() if k not in WALL_CLOCK} for line in lines]


@pytest.mark.slow
def test_a_sweep_whose_processes_are_killed_ends_as_if_they_had_not_been(tmp_path):
    """In the middle of the first searches, and after some are finished."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert cli.main([*SWEEP, "--out", str(whole)]) == 0
    command = [sys.executable, "-m", "experiments", *SWEEP, "--out", str(out)]
    for pattern, lines in (("**/history.jsonl", 3), ("results.jsonl", 2)):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            while sum(len(read_history(path)) for path in out.glob(pattern)) < lines:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
    assert 2 <= len(read_history(out / "results.jsonl")) < 4
    assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 0

    def ordered(lines):
        return sorted(lines, key=lambda line: (line["agent"], line["seed"]))

    assert ordered(without_clock(out)) == ordered(without_clock(whole))
    for path in whole.rglob("history.jsonl"):
        pairs = zip(read_history(path), read_history(out / path.relative_to(whole)), strict=True)
        for line, again in pairs:
            assert {**line, "seconds": 0} == {**again, "seconds": 0}
