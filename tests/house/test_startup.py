"""Help and wrong options come at once: no library that is slow to load is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("jax", "flax", "torch", "tensorboard", "sklearn", "onnx", "onnxruntime", "openvino")
PROGRAM = f"""
import sys
from experiments.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print("ended with", code, [name for name in {SLOW} if name in sys.modules])
"""


def ended(*arguments: str) -> str:
    """Exit code of a command, and the slow libraries that it imported."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return (found.stdout.splitlines() or [found.stderr])[-1]


def test_help_imports_nothing_slow():
    assert ended("--help") == "ended with 0 []"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_a_command_imports_nothing_slow(command):
    assert ended(command, "--help") == "ended with 0 []"


@pytest.mark.parametrize(
    "arguments",
    [
        "compres",
        "compress --speed 11",
        "compress --episodes 0",
        "compress --agent ppo --parallel x",
    ],
)
def test_a_wrong_option_imports_nothing_slow(arguments):
    assert ended(*arguments.split()) == "ended with 2 []"
