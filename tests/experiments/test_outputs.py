"""``pfrl ... | head``: the program ends without a word when nobody reads on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.watch.outputs import LEFT, reader_may_leave

ROOT = Path(__file__).resolve().parents[2]


def unread() -> int:
    """The end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("arguments", [["--help"], ["measure", "--help"], ["ablate", "--list"]])
def test_a_reader_that_left_ends_the_program_without_a_word(arguments):
    found = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments],
        stdout=unread(), stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    # argparse does not mind that nobody reads its help.
    assert found.returncode == (LEFT if arguments[1:] else 0)
    assert found.stderr in ("", "loading JAX ...\n")


def test_nobody_reads_what_is_wrong_either():
    command = [sys.executable, "-m", "experiments", "measure", "none.onnx"]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=unread(), text=True, cwd=ROOT)
    assert (found.returncode, found.stdout) == (LEFT, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_an_output_that_is_full_is_one_sentence():
    command = [sys.executable, "-m", "experiments", "measure", "--help"]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert found.stderr.startswith("pfrl: [Errno 28]")


def test_a_pipe_to_something_else_raises_as_ever():
    with pytest.raises(BrokenPipeError), reader_may_leave():
        os.write(unread(), b"to a worker")
