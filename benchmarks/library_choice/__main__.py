"""``python -m benchmarks.library_choice``; see ``benchmarks.library_choice.experiment``."""

import os
import sys
from pathlib import Path

from experiments.cli import main

if __name__ == "__main__":
    file = os.path.relpath(Path(__file__).with_name("experiment.py"))
    # What is run is 'pfrl ablate', and so it is written down.
    sys.argv[1:1] = ["ablate", f"{file}:torch-pruning"]
    sys.exit(main(sys.argv[1:]))
