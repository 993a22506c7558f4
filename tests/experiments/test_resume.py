"""A search that is killed and started again ends with the history of one that never was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.history import read_history
from experiments.records.lines import append_line, mend_lines
from pfrl.files import FileError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "searches",
    [
        pytest.param(["ddpg:4"], marks=pytest.mark.ci),
        pytest.param(["random:20", "ddpg:20"], marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments(tmp_path, searches):
    """Wall-clock fields aside; the toy's evaluations take no time by its own account."""
    command = [sys.executable, "-m", "tests.support.killed", str(tmp_path), *searches]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    for name in searches:
        folder = tmp_path / name.replace(":", "-")
        whole, killed = (read_history(folder / f"{n}.jsonl") for n in ("whole", "killed"))
        assert len(whole) == 40
        assert killed == whole


def test_a_line_that_a_kill_cut_off_is_forgotten(tmp_path):
    path = tmp_path / "a" / "lines.jsonl"
    append_line(path, {"episode": 0})
    append_line(path, {"episode": 1})
    with path.open("a") as stream:
        stream.write('{"episode": 2, "rew')
    assert mend_lines(path) == [{"episode": 0}, {"episode": 1}]
    append_line(path, {"episode": 2})
    assert [json.loads(line)["episode"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_a_damaged_line_is_one_sentence(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"episode": 0\n{"episode": 1}\n')
    with pytest.raises(FileError, match=r"is damaged .* run the search again"):
        mend_lines(path)
