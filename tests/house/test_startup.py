"""Help and wrong options come at once: no library that is slow to load is imported for them."""

import json
import subprocess
import sys
from pathlib import Path

from experiments.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SLOW = (
    "jax", "flax", "torch", "tensorboard", "sklearn", "onnx", "onnxruntime", "openvino",
    "ai_edge_litert",
)  # fmt: skip
PROGRAM = f"""
import json, sys
from experiments.cli import main
for words in json.loads(sys.argv[1]):
    try:
        code = main(words.split())
    except SystemExit as ended:
        code = ended.code
    found = [name for name in {SLOW} if name in sys.modules]
    print("ended", json.dumps([words, code, found]))
"""
HELP = ["--help", *(f"{command} --help" for command in sorted(COMMANDS))]
WRONG = [
    "compres",
    "compress --speed 11",
    "compress --episodes 0",
    "compress --agent ppo --parallel x",
]


def test_help_and_wrong_options_import_nothing_slow():
    """One process for all: what one of them imports is there after it."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([*HELP, *WRONG])]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in told.stdout.splitlines() if line.startswith("ended ")]
    expected = [[words, 0, []] for words in HELP] + [[words, 2, []] for words in WRONG]
    assert [json.loads(line.removeprefix("ended ")) for line in lines] == expected, told.stderr
